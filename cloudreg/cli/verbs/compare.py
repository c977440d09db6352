"""``cloudreg compare``: two versions side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.cli.words import count, shown, table, when
from cloudreg.names import short

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.registry import Comparison

Row = tuple[str, str, object, object]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("left", metavar="A", help="a version")
    parser.add_argument("right", metavar="B", help="another, of the same model or not")
    parser.add_argument("--all", action="store_true", help="rows that are equal, too")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Compare metrics, parameters, lineage, signature, runtime, labels and files."""
    found = desk.workspace.compare(options.left, options.right)
    rows: list[Row] = list(found.rows if options.all else found.differing())
    return Answer(
        facts={
            "left": found.left.ref,
            "right": found.right.ref,
            "rows": [
                {"section": section, "key": key, "left": a, "right": b, "equal": a == b}
                for section, key, a, b in rows
            ],
            "differing": len(found.differing()),
            "total": len(found.rows),
        },
        text=_text(found, rows),
    )


def _text(found: Comparison, rows: list[Row]) -> Iterator[str]:
    if not rows:
        yield f"{found.left.ref} and {found.right.ref} are the same version"
        return
    cells = [(section, key, _cell(key, a), _cell(key, b)) for section, key, a, b in rows]
    yield from table(("", "", found.left.ref, found.right.ref), _grouped(cells))
    equal = len(found.rows) - len(found.differing())
    if equal and len(rows) < len(found.rows):
        yield ""
        yield f"{count(equal, 'row')} equal; --all shows every row"


def _grouped(rows: list[tuple[str, str, str, str]]) -> Iterator[tuple[str, str, str, str]]:
    """Name each section once."""
    before = ""
    for section, key, a, b in rows:
        yield section if section != before else " ", key, a, b
        before = section


def _cell(key: str, value: object) -> str:
    if isinstance(value, str) and value.startswith("sha256:"):
        return short(value)
    if key == "created_at":
        return when(str(value))
    return shown(value)
