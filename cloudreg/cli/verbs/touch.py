"""``cloudreg touch``: the time of endpoints with a ttl begins anew."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("endpoints", nargs="+", metavar="ENDPOINT", help="with a ttl")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Record it, and say until when they are up."""
    touched = desk.workspace.touch(*options.endpoints)
    return Answer(
        facts={
            "touched": {
                name: {
                    "up": now.up,
                    "until": now.until.isoformat(timespec="minutes") if now.until else None,
                }
                for name, now in touched.items()
            }
        },
        text=[f"endpoint {name} is {now}" for name, now in touched.items()],
        next="cloudreg apply brings back what is down",
    )
