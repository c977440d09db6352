"""``cloudreg waive``: somebody other than the author answers for files that a stage refuses."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import positive
from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@staging or churn@sha256:…")
    parser.add_argument(
        "--format",
        action="append",
        required=True,
        dest="formats",
        metavar="FORMAT",
        help="what is waived, as the gate calls it, such as pickle; may be given several times",
    )
    parser.add_argument("--stage", required=True, metavar="STAGE", help="where it may go")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for the ledger")
    parser.add_argument(
        "--days",
        type=positive,
        default=30,
        metavar="N",
        help="how long it counts from today on: 365 at most (default 30)",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Record the waiver, and say until when it counts."""
    workspace = desk.workspace
    version = workspace.version(options.ref)
    summary = workspace.waive(
        version.ref,
        formats=options.formats,
        stage=options.stage,
        reason=options.reason,
        days=options.days,
    )
    wanted = tuple(sorted(set(options.formats)))
    waiver = next(w for w in summary.waivers if (w.stage, w.formats) == (options.stage, wanted))
    return Answer(
        facts={"ref": version.ref, "waiver": waiver},
        text=[f"{version.ref} may have {waiver}: {waiver.reason}"],
        next=f"cloudreg promote {version.ref} --to {options.stage}",
    )
