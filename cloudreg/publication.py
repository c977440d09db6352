"""``public/<model>/<stage>.json``: what a stage holds, for programs that know nothing of us.

Terraform's data sources, dashboards and other people's scripts read one object. It is a
projection of the ledger like a registry: written after the entry that makes it true, never
before, and again by the next change or repair where that was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from cloudreg.errors import CloudregError
from cloudreg.ledger import Fold
from cloudreg.operations import SILENT, Progress
from cloudreg.settings import Settings
from cloudreg.targets import Targets

Document = dict[str, Any]
Reader = Callable[[], Fold]

CONTRACT = 1
MAX_ROUNDS = 20


def key_of(model: str, stage: str) -> str:
    """Return where a store has what a stage holds."""
    return f"public/{model}/{stage}.json"


class Publication:
    """What the stages hold, on every target that mirrors them."""

    def __init__(
        self, settings: Settings, targets: Targets, *, progress: Progress = SILENT
    ) -> None:
        """Use what is configured."""
        self._settings = settings
        self._targets = targets
        self._progress = progress

    def show(self, model: str, stages: Iterable[str], *, known: Fold, read: Reader) -> None:
        """Write what some stages hold; a target that does not answer is told of, and comes later.

        One that is known to be behind keeps what it shows: it has not answered a moment ago.

        Whoever writes last also reads last, and so leaves the newest.

        Args:
            model: Whose.
            stages: Those that may have moved.
            known: The state as it was read or made last.
            read: Returns the newest.
        """
        shown: dict[tuple[str, str], Document | None] = {}
        places = [(s, t) for s in stages for t in self._settings.stage_targets(s)]
        fold = known
        for _ in range(MAX_ROUNDS):
            documents = {place: self._document(model, *place, fold) for place in places}
            fresh = {p: d for p, d in documents.items() if d is not None and d != shown.get(p)}
            if not fresh:
                return
            for (stage, target), document in fresh.items():
                self._write(key_of(model, stage), target, document)
            shown |= fresh
            fold = read()

    def _write(self, key: str, target: str, document: Document) -> None:
        data = json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
        try:
            self._targets[target].store.put(data, key)
        except CloudregError as error:
            self._progress.say(
                f"{key} on {target} is behind: {error.message} "
                f"(cloudreg repair {document['model']} writes it)"
            )

    def _document(self, model: str, stage: str, target: str, fold: Fold) -> Document | None:
        """Return what is written; None where nothing is."""
        holder = fold.stages.get(stage)
        if holder is None or target in fold.behind.get(stage, {}):
            return None
        endpoints = {
            name: {"target": self._settings.endpoint_target(name)}
            for name, endpoint in sorted(self._settings.endpoints.items())
            if (endpoint.model, endpoint.stage) == (model, stage)
        }
        return {
            "contract": CONTRACT,
            "model": model,
            "stage": stage,
            "number": holder.number,
            "digest": holder.digest,
            "since": holder.since,
            "entry": holder.seq,
            "endpoints": endpoints,
        }
