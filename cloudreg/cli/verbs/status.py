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
    return next(filter(None, map(_next_for, rows)), "")


def _next_for(row: StageStatus) -> str:
    silent = any(shown.trouble for shown in row.shown)
    if silent or any(endpoint.status == "unknown" for endpoint in row.endpoints):
        return "cloudreg doctor"
    if row.behind or any(set(shown.numbers) != _wanted(row) for shown in row.shown):
        return f"cloudreg {'repair' if row.behind else 'drift'} {row.model}"
    if row.number is not None and any(_misses(e) for e in row.endpoints):
        return "cloudreg plan"
    unwell = [e.name for e in row.endpoints if e.status in ("failed", "degraded")]
    return f"cloudreg logs {unwell[0]}" if unwell else ""


def _misses(endpoint: EndpointState) -> bool:
    """Whether an endpoint is not there and should be, or is there and should not."""
    return (endpoint.status == "absent") == endpoint.wanted


def _wanted(row: StageStatus) -> set[int]:
    return {row.number} if row.number is not None else set()


def _text(rows: list[StageStatus], busy: list[UnderWay]) -> Iterator[str]:
    cells = []
    for row in rows:
        ref = f"{row.model}:{row.number}" if row.number is not None else None
        digest = short(row.digest) if row.digest is not None else None
        shows = " ".join(s.target for s in row.shown if row.number in s.numbers)
        stage = (row.model, row.stage, ref, digest, when(row.since), shows)
        endpoints = [_endpoint(endpoint) for endpoint in row.endpoints] or [(None,) * 5]
        for index, endpoint in enumerate(endpoints):
            # The stage is said once, however many endpoints follow it.
            cells.append((*(stage if index == 0 else (" ",) * len(stage)), *endpoint))
    of_stage = ("MODEL", "STAGE", "VERSION", "DIGEST", "SINCE", "SHOWN ON")
    of_endpoint = ("ENDPOINT", "STATUS", "SERVES", "READY", "URL")
    yield from table((*of_stage, *of_endpoint), cells)
    notes = [*_troubles(rows), *(f"{work}" for work in busy)]
    if notes:
        yield ""
        yield from notes


def _endpoint(endpoint: EndpointState) -> tuple[str | None, ...]:
    serving = endpoint.serving
    return (
        f"{endpoint.name} on {endpoint.target}",
        "resting" if endpoint.status == "absent" and not endpoint.wanted else endpoint.status,
        ", ".join(f"{v.variant} :{v.number} {v.weight} %" for v in serving),
        " ".join(f"{v.ready}/{v.desired}" for v in serving),
        endpoint.url,
    )


def _troubles(rows: list[StageStatus]) -> Iterator[str]:
    for row in rows:
        for target, why in row.behind.items():
            yield f"{target} is behind in {row.stage}: {why}"
        ref = f"{row.model}:{row.number}"
        for shown in row.shown:
            if shown.trouble:
                yield f"{shown.target} was not asked about {row.stage}: {shown.trouble}"
            elif set(shown.numbers) != _wanted(row):
                found = ", ".join(f"{row.model}:{n}" for n in shown.numbers) or "nothing"
                truth = ref if row.number is not None else "nothing"
                yield f"{shown.target} shows {found} in {row.stage}, the ledger says {truth}"
        for endpoint in row.endpoints:
            if endpoint.timed_by:
                is_up = "up" if endpoint.wanted else "down"
                until = f" until {endpoint.until}" if endpoint.until else ""
                yield f"{endpoint.name}: {is_up}{until} ({endpoint.timed_by})"
            if endpoint.message:
                yield f"{endpoint.name}: {endpoint.message}"
            for variant in endpoint.serving:
                # Other numbers are a rollout's business; this number has one digest.
                if variant.number == row.number and variant.digest not in ("", row.digest):
                    yield (
                        f"{endpoint.name}: {variant.variant} runs {short(variant.digest)}, "
                        f"which is not {ref}"
                    )
