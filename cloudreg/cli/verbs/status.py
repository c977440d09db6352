"""``cloudreg status``: what runs where, from the ledger and the targets side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.cli.verbs.rollout import UnderWay, under_way
from cloudreg.cli.words import native_lines, plain, table, when
from cloudreg.names import short

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.status import EndpointState, StageStatus


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="all models without")
    parser.add_argument(
        "--native",
        metavar="ENDPOINT",
        help="what the target of one endpoint answers of it, untranslated",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Show each stage of each model, and the endpoints that follow it."""
    if options.native is not None:
        if options.model is not None:
            raise UsageError("--native shows one endpoint, not a model", hint="leave MODEL out")
        live = desk.workspace.endpoint(options.native)
        answered = plain(live.native())
        return Answer(
            facts={"endpoint": live.name, "target": live.target, "native": answered},
            text=native_lines(answered),
        )
    rows = desk.workspace.status(options.model)
    models = list(dict.fromkeys(row.model for row in rows))
    busy = [found for model in models if (found := under_way(desk.workspace, model)) is not None]
    return Answer(
        facts={"stages": rows, "rollouts": busy},
        text=_text(rows, busy) if rows else ["no model is registered"],
        next=_next(rows, busy),
    )


def _next(rows: list[StageStatus], busy: list[UnderWay]) -> str:
    if not rows:
        return "cloudreg register NAME FOLDER"
    for work in busy:
        if work.paused or work.gone:
            resume = f"cloudreg rollout resume {work.model}, or " if work.paused else ""
            return f"{resume}cloudreg rollout abort {work.model}"
    for row in rows:
        if any(set(shown.numbers) != _wanted(row) for shown in row.shown):
            return f"cloudreg drift {row.model}"
        if row.number is not None and any(e.status == "absent" for e in row.endpoints):
            return "cloudreg plan"
        for endpoint in row.endpoints:
            if endpoint.status in ("failed", "degraded"):
                return f"cloudreg logs {endpoint.name}"
    return ""


def _wanted(row: StageStatus) -> set[int]:
    return {row.number} if row.number is not None else set()


def _text(rows: list[StageStatus], busy: list[UnderWay]) -> Iterator[str]:
    cells = []
    for row in rows:
        ref = f"{row.model}:{row.number}" if row.number is not None else None
        stage = (row.model, row.stage, ref, when(row.since))
        endpoints = [_endpoint(endpoint) for endpoint in row.endpoints] or [(None,) * 5]
        for index, endpoint in enumerate(endpoints):
            # The stage is said once, however many endpoints follow it.
            cells.append((*(stage if index == 0 else (" ",) * 4), *endpoint))
    head = ("MODEL", "STAGE", "VERSION", "SINCE", "ENDPOINT", "STATUS", "SERVES", "READY", "URL")
    yield from table(head, cells)
    notes = [*_troubles(rows), *(f"{work}" for work in busy)]
    if notes:
        yield ""
        yield from notes


def _endpoint(endpoint: EndpointState) -> tuple[str | None, ...]:
    serving = endpoint.serving
    return (
        f"{endpoint.name} on {endpoint.target}",
        endpoint.status,
        ", ".join(f"{v.variant} :{v.number} {v.weight} %" for v in serving),
        " ".join(f"{v.ready}/{v.desired}" for v in serving),
        endpoint.url,
    )


def _troubles(rows: list[StageStatus]) -> Iterator[str]:
    for row in rows:
        ref = f"{row.model}:{row.number}"
        for shown in row.shown:
            if set(shown.numbers) != _wanted(row):
                found = ", ".join(f"{row.model}:{n}" for n in shown.numbers) or "nothing"
                truth = ref if row.number is not None else "nothing"
                yield f"{shown.target} shows {found} in {row.stage}, the ledger says {truth}"
        for endpoint in row.endpoints:
            if endpoint.message:
                yield f"{endpoint.name}: {endpoint.message}"
            for variant in endpoint.serving:
                # Other numbers are a rollout's business; this number has one digest.
                if variant.number == row.number and variant.digest not in ("", row.digest):
                    yield (
                        f"{endpoint.name}: {variant.variant} runs {short(variant.digest)}, "
                        f"which is not {ref}"
                    )
