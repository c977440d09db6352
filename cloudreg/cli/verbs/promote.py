"""``cloudreg promote``: a version enters a stage, and the stage's endpoints follow."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import positive
from cloudreg.cli.changes import (
    after_promotion,
    check_glass,
    check_out,
    done,
    preview_arguments,
    previewed,
)
from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@staging or churn@sha256:…")
    parser.add_argument("--to", required=True, metavar="STAGE", help="the stage")
    preview_arguments(parser)
    parser.add_argument(
        "--break-glass",
        metavar="REASON",
        help="go past order, gates and approvals; recorded for everybody to see",
    )
    parser.add_argument(
        "--expect", type=positive, metavar="N", help="only if the stage holds version N now"
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Promote, or show what that would change."""
    check_out(options)
    check_glass(options, desk)
    workspace = desk.workspace
    # Looked up once: what a stage in the reference means must not change on the way.
    version = workspace.version(options.ref)
    if options.dry_run:
        preview = workspace.promote(
            version,
            to=options.to,
            dry_run=True,
            break_glass=options.break_glass,
            reason=options.reason,
            expect=options.expect,
        )
        return previewed(preview, out=options.out, again=_again(version.ref, options))
    desk.announcing = True
    promotion = workspace.promote(
        version,
        to=options.to,
        break_glass=options.break_glass,
        reason=options.reason,
        expect=options.expect,
    )
    following = after_promotion(promotion, workspace.settings.order, options.to)
    return done(promotion, following=following, shown=desk.announced)


def _again(ref: str, options: argparse.Namespace) -> str:
    words = ["cloudreg", "promote", ref, "--to", options.to]
    for option in ("break_glass", "reason", "expect"):
        value = getattr(options, option)
        if value:
            words += [f"--{option.replace('_', '-')}", str(value)]
    return shlex.join(words)
