"""Tables, sizes, times, and text that must not command a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.cli.words import clean, facts, gates, metrics, shown, size, table, when
from cloudreg.types import GateResult


@given(st.text())
def test_nothing_to_obey(text: str) -> None:
    """What is printed holds no character that a terminal would obey."""
    assert all(c.isprintable() or c == "\t" for c in clean(text))


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_json_survives_cleaning(value: object) -> None:
    """JSON that was made safe for a terminal has the same value as before."""
    text = json.dumps(value, ensure_ascii=False)

    assert json.loads(clean(text)) == value


def test_aligned_table() -> None:
    """Columns are as wide as their widest cell, and what is missing shows as a dash."""
    lines = list(table(("A", "LONG"), [("first", 1), ("b", None)]))

    assert lines == ["A      LONG", "first  1", "b      -"]


def test_facts_without_values() -> None:
    """A fact without a value takes no line."""
    assert list(facts([("digest", "x"), ("seed", None), ("b", 0)])) == [
        "  digest  x",
        "  b       0",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    """Bytes are shown in the unit that people would choose."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-11-25T07:35:36.765325Z", "2026-11-25T07:35:36Z"),
        ("2026-11-25T08:35:36+01:00", "2026-11-25T07:35:36Z"),
        ("soon", "soon"),
        (None, ""),
    ],
)
def test_times(moment: str | None, text: str) -> None:
    """Times are shown in UTC to the second, whatever zone they were written in."""
    assert when(moment) == text


def test_metrics_in_a_cell() -> None:
    """A cell shows a few metrics, and that there are more."""
    assert metrics({"a": 1.0, "b": 0.25, "c": 2.0, "d": 3.0}) == "a=1 b=0.25 c=2 …"


def test_gate_lines() -> None:
    """A gate is shown with what was measured and what was wanted."""
    result = GateResult(
        gate="metric", passed=False, reason="too low", measured="0.8", wanted="at least 0.9"
    )

    assert list(gates([result])) == [
        "  FAIL  metric: too low",
        "        measured 0.8, wanted at least 0.9",
    ]


def test_shown_values() -> None:
    """Values stand in cells as people write them."""
    assert [shown(v) for v in (None, 0.1, "text", {"a": [1]}, False)] == [
        "-", "0.1", "text", '{"a": [1]}', "false",
    ]  # fmt: skip
