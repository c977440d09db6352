"""``cloudreg repair``: targets show again what the ledger says."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.changes import entry_facts
from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.reconcile import Repair


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", metavar="MODEL", help="whose stages, versions and endpoints")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Repair, and say what was found."""
    done = desk.workspace.repair(options.model)
    return told(done, options.model, verb="repaired", nothing="nothing to repair")


def told(done: Repair, model: str, *, verb: str, nothing: str) -> Answer:
    """Return the answer of a repair or an adoption."""
    return Answer(
        facts={
            "model": model,
            "differences": done.differences,
            "left": done.left,
            "entry": entry_facts(done.entry) if done.entry is not None else None,
        },
        text=[
            *([f"{verb}: {difference}" for difference in done.differences] or [nothing]),
            *(f"left as it is: {difference}" for difference in done.left),
        ],
        next=f"cloudreg status {model}" if done.entry is not None else "",
    )
