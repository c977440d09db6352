"""``cloudreg drift``: where targets show something else than the ledger."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.cli.verbs.rollout import under_way
from cloudreg.cli.words import count

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk

FOUND = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="all models without")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Compare; exit code 5 where anything differs."""
    workspace = desk.workspace
    models = [options.model] if options.model else [m.model for m in workspace.models()]
    found = workspace.drifts(*models) if models else {}
    busy = [str(work) for m in models if (work := under_way(workspace, m)) is not None]
    drifted = [model for model, differences in found.items() if differences]
    lines = [str(d) for differences in found.values() for d in differences]
    checked = f"{count(len(models), 'model')} compared with all targets"
    return Answer(
        facts={
            "differences": [
                {"model": model, "difference": d} for model in drifted for d in found[model]
            ],
            "models": models,
            "rollouts": busy,
        },
        text=[
            *(lines or [f"no drift: {checked}"]),
            *(f"note: {work}; targets move while it runs" for work in busy if lines),
        ],
        next=f"cloudreg repair {drifted[0]}, or cloudreg adopt {drifted[0]} --reason WHY"
        if drifted
        else "",
        exit_code=FOUND if drifted else 0,
    )
