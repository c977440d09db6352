"""``cloudreg batch``: score a data set by a version."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError, seconds
from cloudreg.cli.desk import Answer

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("version", metavar="REF", help="churn:7, churn@prod or churn@sha256:…")
    parser.add_argument(
        "--input", required=True, metavar="FILE", help="JSON lines: an instance a line"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="gets predictions.jsonl; without, the answers stay in the target's store",
    )
    parser.add_argument("--target", metavar="T", help="where it runs; the home without")
    parser.add_argument("--gpu", metavar="GPU", help="of each replica, such as L4 or T4:2")
    parser.add_argument("--machine-type", metavar="M", help="the target's own name of a machine")
    parser.add_argument(
        "--replicas", type=int, default=1, metavar="N", help="that work side by side (default 1)"
    )
    parser.add_argument("--timeout", type=seconds, metavar="S", help="patience (default a day)")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Score, and say how many records got no prediction: with any, the exit code is 1."""
    if options.replicas < 1:
        raise UsageError(f"--replicas {options.replicas} is not 1 or more")
    from cloudreg.scoring import SCORED_S

    scored = desk.workspace.batch(
        options.version,
        options.input,
        output=options.output,
        target=options.target,
        gpu=options.gpu,
        machine_type=options.machine_type,
        replicas=options.replicas,
        timeout_s=options.timeout or SCORED_S,
    )
    where = str(scored.path) if scored.path is not None else f"{scored.target}: {scored.output}"
    text = [f"{scored.records} records scored by {scored.ref} on {scored.target}: {where}"]
    if scored.failed:
        text.append(f"{scored.failed} got no prediction; {scored.first_error}")
    return Answer(
        facts={
            "job": scored.name,
            "target": scored.target,
            "version": scored.ref,
            "records": scored.records,
            "failed": scored.failed,
            "first_error": scored.first_error,
            "path": str(scored.path) if scored.path is not None else None,
            "output": scored.output,
        },
        text=text,
        exit_code=1 if scored.failed else 0,
    )
