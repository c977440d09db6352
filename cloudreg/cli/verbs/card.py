"""``cloudreg card``: what people must know before they rely on a version."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.errors import InvalidRequest

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ref", metavar="REF", help="churn:7, churn@prod or churn@sha256:…")
    parser.add_argument("--out", metavar="FILE", help="write it there")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Render the card as Markdown."""
    ref = desk.workspace.version(options.ref).ref
    markdown = desk.workspace.card(ref)
    lines = markdown.splitlines()
    if options.out is not None:
        try:
            Path(options.out).write_text(markdown, encoding="utf-8")
        except OSError as error:
            raise InvalidRequest(f"{options.out} cannot be written: {error.strerror}") from error
        lines = [f"wrote {options.out}"]
    return Answer(facts={"ref": ref, "markdown": markdown, "path": options.out}, text=lines)
