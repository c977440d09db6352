"""``cloudreg list``: all models with their stages, or the versions of one."""

from __future__ import annotations

import argparse
from itertools import islice
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import whole
from cloudreg.cli.desk import Answer
from cloudreg.cli.words import metrics, size, table, when
from cloudreg.names import short

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="whose versions; all models else")
    parser.add_argument(
        "--limit", type=whole, default=50, metavar="N", help="most rows; 0 shows all (default 50)"
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """List models by name, or versions newest first."""
    if options.model is None:
        return _models(desk, options.limit)
    return _versions(desk, options.model, options.limit)


def _models(desk: Desk, limit: int) -> Answer:
    order = desk.workspace.settings.order
    every = desk.workspace.models()
    models = every[: limit or None]
    if len(models) < len(every):
        desk.news(f"{len(every) - len(models)} more; --limit 0 shows all")
    rows = (
        (m.model, m.versions, *(_ref(m.model, m.stages.get(stage)) for stage in order))
        for m in models
    )
    return Answer(
        facts={"models": models, "total": len(every)},
        text=table(("MODEL", "VERSIONS", *(s.upper() for s in order)), rows)
        if models
        else ["no model is registered"],
        next="" if models else "cloudreg register NAME FOLDER",
    )


def _versions(desk: Desk, model: str, limit: int) -> Answer:
    fold = desk.workspace.fold(model)
    versions = list(islice(fold.newest_first(), limit or None))
    if len(versions) < fold.last_number:
        desk.news(f"{fold.last_number - len(versions)} older ones; --limit 0 shows all")
    stages = {stage: holder.number for stage, holder in fold.stages.items()}
    rows = (
        (
            f"{model}:{v.number}",
            " ".join(s for s in desk.workspace.settings.order if stages.get(s) == v.number),
            short(v.digest),
            when(v.created_at),
            v.author,
            size(v.size),
            metrics(v.metrics),
        )
        for v in versions
    )
    head = ("VERSION", "STAGES", "DIGEST", "REGISTERED", "AUTHOR", "SIZE", "METRICS")
    return Answer(
        facts={
            "model": model,
            "stages": stages,
            "versions": versions,
            "total": fold.last_number,
        },
        text=table(head, rows),
        next=f"cloudreg show {model}:{versions[0].number}",
    )


def _ref(model: str, number: int | None) -> str | None:
    return f"{model}:{number}" if number is not None else None
