"""``cloudreg compare``: two versions side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError, seconds
from cloudreg.cli.desk import Answer
from cloudreg.cli.words import count, metrics, shown, table, when
from cloudreg.names import short

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.registry import Comparison
    from cloudreg.types import VariantMetrics

ONLINE_S = 300.0
Row = tuple[str, str, object, object]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("left", metavar="A", help="a version")
    parser.add_argument("right", nargs="?", metavar="B", help="another, of the same model or not")
    parser.add_argument(
        "--online",
        action="store_true",
        help="A is MODEL or MODEL@STAGE: what each variant of its endpoints answered lately, "
        "beside the metrics of its version",
    )
    parser.add_argument(
        "--window", type=seconds, metavar="S", help="--online: seconds that count (default 300)"
    )
    parser.add_argument("--all", action="store_true", help="rows that are equal, too")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Compare metrics, parameters, lineage, signature, runtime, labels and files."""
    if options.online:
        return _online(options, desk)
    if options.window is not None:
        raise UsageError("--window belongs to --online")
    if options.right is None:
        raise UsageError(
            "with what is it compared?", hint=f"cloudreg compare {options.left} OTHER, or --online"
        )
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


def _online(options: argparse.Namespace, desk: Desk) -> Answer:
    if options.right is not None or options.all:
        raise UsageError("--online takes MODEL or MODEL@STAGE, and nothing to compare with")
    model, _, stage = options.left.partition("@")
    window_s = options.window or ONLINE_S
    found = desk.workspace.online(model, stage=stage or None, window_s=window_s)
    rows = [
        (
            each.endpoint,
            each.variant,
            f"{each.model}:{each.number}",
            f"{each.weight} %",
            metrics(each.offline),
            *_answers(each.online),
        )
        for each in found
    ]
    head = (
        "ENDPOINT",
        "VARIANT",
        "VERSION",
        "WEIGHT",
        "OFFLINE",
        "REQUESTS",
        "ERRORS",
        "P50",
        "P95",
    )
    return Answer(
        facts={"window_s": window_s, "variants": found},
        text=table(head, rows),
    )


def _answers(seen: VariantMetrics | None) -> tuple[str | None, ...]:
    if seen is None:
        return (None,) * 4
    shares = f" ({seen.error_rate:.2%})" if seen.error_rate else ""
    times = [f"{ms:.1f} ms" if ms is not None else None for ms in (seen.p50_ms, seen.p95_ms)]
    return (str(seen.requests), f"{seen.errors}{shares}", *times)


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
