"""``cloudreg adopt``: what a target shows becomes the truth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.cli.verbs.repair import told
from cloudreg.errors import NotFound

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", metavar="MODEL", help="whose stages and endpoints")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for the ledger")
    parser.add_argument("--target", metavar="T", help="whose console was right; the home without")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Adopt, and say what was found."""
    if not options.reason.strip():
        raise UsageError("--reason is empty: who reads the ledger will want to know")
    workspace = desk.workspace
    target = options.target or workspace.settings.home
    if target not in workspace.settings.targets:
        raise NotFound(
            f"no target {target!r}", hint=f"there are {', '.join(workspace.settings.targets)}"
        )
    done = workspace.adopt(options.model, target=target, reason=options.reason)
    nothing = f"nothing to adopt: {target} shows what the ledger says"
    return told(done, options.model, verb=f"adopted from {target}", nothing=nothing)
