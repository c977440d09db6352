"""``cloudreg approve``: somebody other than the author agrees."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@staging or churn@sha256:…")
    parser.add_argument("--stage", required=True, metavar="STAGE", help="where it may go")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the ledger")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Record the approval, and say how many are still missing."""
    workspace = desk.workspace
    version = workspace.version(options.ref)
    summary = workspace.approve(version.ref, stage=options.stage, reason=options.reason)
    people = summary.approvals.get(options.stage, ())
    needed = workspace.settings.stages[options.stage].approvals
    missing = max(0, needed - len(people))
    step = f"cloudreg promote {version.ref} --to {options.stage}"
    if missing:
        more = "person" if missing == 1 else "people"
        step = f"cloudreg approve {version.ref} --stage {options.stage}, by {missing} more {more}"
    return Answer(
        facts={
            "ref": version.ref,
            "stage": options.stage,
            "approvals": people,
            "needed": needed,
        },
        text=[
            f"{version.ref} is approved for {options.stage} by {' and '.join(people)} "
            f"({f'{needed} needed' if needed else 'none is needed there'})"
        ],
        next=step,
    )
