"""Tables, sizes, times and plans: legible without colour, and safe for every terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from cloudreg.plan import Plan
    from cloudreg.types import GateResult


def clean(text: str) -> str:
    """Return *text* with everything escaped that a terminal would obey instead of show.

    Reasons, labels and log lines are other people's text; an escape sequence in one of them must
    not repaint what stands above it. JSON stays JSON, with the same value.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return json.dumps(c)[1:-1]


def tell(line: str, stream: TextIO) -> None:
    """Write one line of news to *stream*; what nobody can read is no reason to stop working."""
    try:
        print(clean(line), file=stream, flush=True)
    except OSError:  # the reader of a pipe has left, the terminal is gone, the log's disk is full
        forget(stream)


def forget(stream: TextIO) -> None:
    """Send what is still to be printed nowhere: its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, indent: str = ""
) -> Iterator[str]:
    """Yield *rows* under *head*, each column as wide as its widest cell."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield indent + "  ".join(padded).rstrip()


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else clean(str(value))


def facts(rows: Iterable[tuple[str, object]], *, indent: str = "  ") -> Iterator[str]:
    """Yield one aligned line for each fact; those without a value are left out."""
    known = [(name, clean(str(value))) for name, value in rows if value not in (None, "", ())]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        yield f"{indent}{name.ljust(width)}  {value}"


def size(count: float) -> str:
    """Return bytes as people read them, such as ``1.5 MiB``."""
    if count < 1024:
        return f"{count:g} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1024 or unit == "TiB":
            break
    return f"{count:.1f} {unit}"


def when(moment: str | None) -> str:
    """Return an ISO 8601 time in UTC, to the second."""
    if not moment:
        return ""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    if parsed.tzinfo is None:
        return moment
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def number(value: float) -> str:
    """Return a metric as people compare it by eye."""
    return f"{value:.6g}"


def metrics(values: Mapping[str, float], *, limit: int = 3) -> str:
    """Return the first few metrics in one cell."""
    shown = [f"{name}={number(value)}" for name, value in list(values.items())[:limit]]
    return " ".join(shown) + (" …" if len(values) > limit else "")


def gates(results: Iterable[GateResult], *, indent: str = "  ") -> Iterator[str]:
    """Yield what each gate found; of those that failed, what was measured and wanted."""
    for result in results:
        yield f"{indent}{'pass' if result.passed else 'FAIL'}  {result.gate}: {result.reason}"
        if not result.passed and result.measured and result.wanted:
            yield f"{indent}      measured {result.measured}, wanted {result.wanted}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield a plan's diff, then what its gates found."""
    from dataclasses import replace

    yield from replace(plan, gates=()).lines()
    if plan.gates:
        yield ""
        yield "Gates:"
        yield from gates(plan.gates)


def plain(value: Any) -> Any:
    """Return a vendor's object as JSON: mappings, times and messages that know their fields."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    to_dict = getattr(type(value), "to_dict", None)  # of Google's messages
    if to_dict is not None:
        return plain(to_dict(value))
    dump = getattr(value, "model_dump", None)  # of pydantic's models
    return plain(dump(mode="json", warnings=False)) if dump is not None else str(value)


def native_lines(value: Any) -> list[str]:
    """Return a vendor's object as people read it."""
    return json.dumps(plain(value), ensure_ascii=False, indent=2).split("\n")


def shown(value: Any) -> str:
    """Return a plain JSON value as it stands in a cell."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
