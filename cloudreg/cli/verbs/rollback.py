"""``cloudreg rollback``: a stage goes back to a version that it held before."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from cloudreg.cli.changes import check_glass, check_out, done, preview_arguments, previewed
from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", metavar="MODEL", help="whose stage")
    parser.add_argument("stage", metavar="STAGE", help="which one")
    parser.add_argument(
        "--to", metavar="REF", help="a version that it held; the one before without"
    )
    preview_arguments(parser)
    parser.add_argument(
        "--break-glass",
        metavar="REASON",
        help="although a target shows something else than the ledger; recorded",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Go back at once and without gates, or show what that would change."""
    check_out(options)
    check_glass(options, desk)
    workspace = desk.workspace
    model, stage, to = options.model, options.stage, options.to
    if options.dry_run:
        preview = workspace.rollback(
            model,
            stage=stage,
            to=to,
            dry_run=True,
            break_glass=options.break_glass,
            reason=options.reason,
        )
        words = ["cloudreg", "rollback", model, stage, "--to", str(preview.plan.request["ref"])]
        for option in ("break_glass", "reason"):
            if getattr(options, option):
                words += [f"--{option.replace('_', '-')}", getattr(options, option)]
        return previewed(preview, out=options.out, again=shlex.join(words))
    desk.announcing = True
    promotion = workspace.rollback(
        model, stage=stage, to=to, break_glass=options.break_glass, reason=options.reason
    )
    return done(promotion, following=f"cloudreg history {model}", shown=desk.announced)
