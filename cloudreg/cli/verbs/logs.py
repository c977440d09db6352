"""``cloudreg logs``: what the model servers of an endpoint wrote."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import positive
from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("endpoint", metavar="ENDPOINT", help="as it is configured")
    parser.add_argument("--variant", metavar="V", help="of one variant only")
    parser.add_argument(
        "--lines", type=positive, default=100, metavar="N", help="the last N (default 100)"
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Print the last lines, oldest first."""
    live = desk.workspace.endpoint(options.endpoint)
    lines = live.logs(variant=options.variant, lines=options.lines)
    if not lines:
        desk.news(f"{live.name} wrote nothing yet")
    return Answer(facts={"endpoint": live.name, "target": live.target, "lines": lines}, text=lines)
