"""What was done while the home did not answer, on its way into the ledger.

The journal of this machine becomes one entry, for everybody to see, with all its lines. Where the
stage moved meanwhile, nothing is written before somebody says what counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudreg.deploy import Deployer
from cloudreg.errors import Conflict
from cloudreg.journal import CLOSED, Journal, Line
from cloudreg.ledger import Draft, Entry, Fold, Ledger
from cloudreg.ledger.lease import held
from cloudreg.ledger.log import timestamp
from cloudreg.operations import SILENT, Progress
from cloudreg.settings import Settings


class Aftermath:
    """The journals of this machine, and the ledgers that get them."""

    def __init__(
        self,
        settings: Settings,
        deployer: Deployer,
        root: Path,
        *,
        actor: str,
        progress: Progress = SILENT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use what is configured; no journal is read yet."""
        self._settings = settings
        self._deployer = deployer
        self._state = root / settings.state
        self._actor = actor
        self._progress = progress
        self._clock = clock

    def reconcile(self, ledger: Ledger, home: str) -> Entry | None:
        """Write what was done without the home into its ledger; None where there is nothing.

        Raises:
            Conflict: The stage moved meanwhile, or somebody is at work; nothing is written.
            IntegrityError: The journal was edited.
        """
        journal = Journal(self._state, home, ledger.model)
        if not journal.exists:
            return None
        pending = journal.pending()
        if not pending:
            return None
        story = _Story(pending)
        key = pending[-1].hash

        def draft(fold: Fold) -> Draft:
            if fold.open is not None:
                raise held(ledger.model, fold.open)
            return Draft(
                kind="adopt",
                root=f"journal:{key}",
                data=self._adopted(ledger.model, fold, story, pending),
                actor=pending[-1].actor,
            )

        entry = ledger.append(draft, op="journal", id=key)
        assert entry is not None
        # A process that dies here writes the same entry again, which is then found by its key.
        self._close(journal, entry)
        self._progress.say(
            f"!! {ledger.model} was changed without the home (break glass: {story.reason}); "
            f"that is in the ledger now, entry {entry.seq}: cloudreg history {ledger.model}"
        )
        return entry

    def overrule(self, ledger: Ledger, home: str) -> None:
        """Record what was done without the home, and that it does not count."""
        journal = Journal(self._state, home, ledger.model)
        pending = journal.pending() if journal.exists else []
        if not pending:
            return
        key = pending[-1].hash
        entry = ledger.append(
            lambda _: Draft(
                kind="note",
                root=f"journal:{key}",
                data={
                    "break_glass": _Story(pending).reason,
                    "overruled": True,
                    "journal": [_told(line) for line in pending],
                },
                actor=pending[-1].actor,
            ),
            op="journal",
            id=key,
        )
        assert entry is not None
        self._close(journal, entry)

    def _close(self, journal: Journal, entry: Entry) -> None:
        said: Mapping[str, Any] = {"seq": entry.seq, "entry": entry.hash}
        journal.append(CLOSED, said, actor=self._actor, at=timestamp(self._clock()))

    def _adopted(
        self, model: str, fold: Fold, story: _Story, pending: Sequence[Line]
    ) -> dict[str, Any]:
        """Return what the ledger says of a journal.

        Raises:
            Conflict: A stage moved meanwhile.
        """
        stages: dict[str, int] = {}
        behind: dict[str, dict[str, Any]] = {}
        for stage, (before, to) in story.moves.items():
            changed = story.changed[stage]
            if not changed:
                continue
            holder = fold.stages.get(stage)
            now = holder.number if holder is not None else None
            if now not in (before, to):
                raise Conflict(
                    f"{model}@{stage} went from {before} to {now} in the ledger, and to {to} on "
                    f"{', '.join(changed)} without the home (break glass: {story.reason}): only "
                    "one of them counts",
                    hint=f"cloudreg repair {model} (the ledger counts), or cloudreg adopt {model} "
                    f"--target {changed[0]} --reason TEXT (the target counts)",
                )
            stages[stage] = to
            others = concerned_without(self._settings, self._deployer, model, stage)
            behind[stage] = {
                target: {
                    "number": fold.shown(stage, target),
                    "reason": "it took no part in what was done without the home",
                }
                for target in (self._settings.home, *others)
                if target not in changed and fold.shown(stage, target) != to
            }
        return {
            "target": ", ".join(story.targets) or "no target",
            "reason": "done without the home",
            "break_glass": story.reason,
            "stages": stages,
            "behind": behind,
            "endpoints": story.endpoints,
            "journal": [_told(line) for line in pending],
        }


def concerned_without(settings: Settings, deployer: Deployer, model: str, stage: str) -> list[str]:
    """Return the targets but for the home that show a stage of a model, or serve it."""
    names = deployer.names(model=model, stage=stage)
    served = [settings.endpoint_target(name) for name in names]
    every = dict.fromkeys([*settings.stage_targets(stage), *served])
    return [target for target in every if target != settings.home]


class _Story:
    """What the pending lines of a journal come to: for each stage, what was done last counts."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.moves: dict[str, tuple[int, int]] = {}
        self.changed: dict[str, list[str]] = {}
        self.endpoints: dict[str, Any] = {}
        reasons: list[str] = []
        stage = ""
        for line in lines:
            match line.kind:
                case "begin":
                    stage = str(line.data["stage"])
                    before = self.moves.get(stage, (int(line.data["from"]), 0))[0]
                    self.moves[stage] = (before, int(line.data["to"]))
                    self.changed[stage] = []
                    reasons.append(str(line.data["reason"]))
                case "changed":
                    self.changed[stage].append(str(line.data["target"]))
                    self.endpoints |= line.data["endpoints"]
        self.reason = "; ".join(dict.fromkeys(reasons))

    @property
    def targets(self) -> list[str]:
        """Return the targets that were changed."""
        return list(dict.fromkeys(t for targets in self.changed.values() for t in targets))


def _told(line: Line) -> dict[str, Any]:
    """Return a line as the ledger keeps it."""
    return {
        "kind": line.kind,
        "at": line.at,
        "actor": line.actor,
        "hash": line.hash,
        "data": dict(line.data),
    }
