"""Whether an answer is the expected one, and if not, where and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cloudreg.errors import InvalidRequest

MAX_SHOWN = 120
"""Characters of a value in a message."""


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a number may be off: ``atol + rtol * |expected|``.

    A Struct and not a dataclass, since it is read from a nested table, where a misspelt key of a
    dataclass would be ignored.

    The defaults fit float32: other batch sizes, threads and machines change the order of sums,
    which moves a result by some 1e-6 of its size.

    Attributes:
        atol: In the field's own unit.
        rtol: Of the expected value.
    """

    atol: float = 1e-5
    rtol: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse tolerances that accept nothing, or everything."""
        for name, value in (("atol", self.atol), ("rtol", self.rtol)):
            if not (math.isfinite(value) and value >= 0):
                raise InvalidRequest(f"{name} {value} is not a finite number of 0 or more")


DEFAULT = Tolerance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where an answer is not the expected one.

    Attributes:
        field: The place, such as ``probability`` or ``scores[2]``.
        got: What came.
        expected: What should have come.
        reason: In words.
        excess: How many times the tolerance it is off; infinite where it is not about numbers.
    """

    field: str
    got: Any
    expected: Any
    reason: str
    excess: float = math.inf


def compare(
    got: Any, expected: Any, *, bare_name: str, tolerances: Mapping[str, Tolerance]
) -> list[Difference]:
    """Return where *got* differs from *expected*; fields that *expected* lacks do not count.

    Args:
        got: A prediction.
        expected: What a sample says.
        bare_name: What a prediction is called that is no object.
        tolerances: By the name of the outermost field.
    """
    if not isinstance(expected, dict):
        expected, got = {bare_name: expected}, {bare_name: got}
    elif not isinstance(got, dict) and list(expected) == [bare_name]:
        # A version with one output answers bare; samples may name it all the same.
        got = {bare_name: got}
    return list(_differences(got, expected, "", None, tolerances))


def fields_of(expected: Any, top: str = "") -> Iterator[str]:
    """Yield the outermost field of each value that would be compared."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            yield from fields_of(value, top or name)
    elif isinstance(expected, list):
        for value in expected:
            yield from fields_of(value, top)
    else:
        yield top


def shortened(value: Any) -> Any:
    """Return *value*, or the beginning of its text where it is long or no JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # The ledger's reader knows 64 bits.
        return value if -(2**63) <= value < 2**63 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _differences(
    got: Any,
    expected: Any,
    place: str,
    tolerance: Tolerance | None,
    tolerances: Mapping[str, Tolerance],
) -> Iterator[Difference]:
    match expected:
        case dict():
            if not isinstance(got, dict):
                yield _other_kind(got, expected, place)
                return
            for name, value in expected.items():
                inner = f"{place}.{name}" if place else name
                if name not in got:
                    yield Difference(
                        field=inner, got=None, expected=value, reason=f"{inner} is missing"
                    )
                    continue
                own = tolerance if place else tolerances.get(name)
                yield from _differences(got[name], value, inner, own, tolerances)
        case list():
            if not isinstance(got, list):
                yield _other_kind(got, expected, place)
            elif len(got) != len(expected):
                yield Difference(
                    field=place,
                    got=got,
                    expected=expected,
                    reason=f"{len(got)} values, expected {len(expected)}",
                )
            else:
                for index, (a, b) in enumerate(zip(got, expected, strict=True)):
                    yield from _differences(a, b, f"{place}[{index}]", tolerance, tolerances)
        case _ if _is_number(expected) and _is_number(got):
            yield from _numbers(got, expected, place, tolerance)
        case _:
            # True == 1 in Python, and not in an answer.
            if type(got) is not type(expected) or got != expected:
                yield _other_kind(got, expected, place)


def _numbers(
    got: float, expected: float, place: str, tolerance: Tolerance | None
) -> Iterator[Difference]:
    if tolerance is None and isinstance(got, int) and isinstance(expected, int):
        # Labels and counts: near is not enough.
        if got != expected:
            yield _other_kind(got, expected, place)
        return
    rule = tolerance or DEFAULT
    try:
        off, allowed = abs(got - expected), rule.atol + rule.rtol * abs(expected)
    except OverflowError:
        off, allowed = math.inf, 0.0
    # Written so that NaN, which is neither above nor below, does not pass.
    if not off <= allowed:
        yield Difference(
            field=place,
            got=got,
            expected=expected,
            reason=f"off by {off:.6g}, {allowed:.6g} is allowed",
            excess=off / allowed if allowed and math.isfinite(off) else math.inf,
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _other_kind(got: Any, expected: Any, place: str) -> Difference:
    return Difference(
        field=place,
        got=got,
        expected=expected,
        reason=f"{shortened(got)!r} instead of {shortened(expected)!r}",
    )
