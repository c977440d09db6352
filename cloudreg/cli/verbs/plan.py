"""``cloudreg plan``: what making endpoints as they are configured would change."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.changes import previewed
from cloudreg.cli.desk import Answer
from cloudreg.errors import NotFound

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.workspace import Workspace


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    scope(parser)
    parser.add_argument("--out", metavar="FILE", help="save it for cloudreg apply FILE")


def scope(parser: argparse.ArgumentParser) -> None:
    """Add what says which endpoints are meant."""
    parser.add_argument("--model", metavar="MODEL", help="endpoints of one model only")
    parser.add_argument(
        "--prune", action="store_true", help="remove endpoints that are not configured any more"
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Show the plan; exit code 2 where it is not empty."""
    check_known(desk.workspace, options.model)
    preview = desk.workspace.plan(model=options.model, prune=options.prune)
    words = ["cloudreg apply"]
    if options.model:
        words.append(f"--model {options.model}")
    if options.prune:
        words.append("--prune")
    return previewed(preview, out=options.out, again=" ".join(words))


def check_known(workspace: Workspace, model: str | None) -> None:
    """Refuse a model of which nobody has heard: its empty plan would look like good news."""
    if model is None:
        return
    known = {endpoint.model for endpoint in workspace.settings.endpoints.values()}
    known |= {summary.model for summary in workspace.models()}
    if model not in known:
        there = ", ".join(sorted(known)) or "none"
        raise NotFound(f"no model {model!r}", hint=f"there are {there}")
