"""Callers of a stage can go on as before, or the candidate does not enter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cloudreg.gates.signature import SignatureGate
from cloudreg.manifest import Signature, TensorSpec

Check = Callable[..., Any]
Side = Sequence[tuple[str, str, Sequence[int]]]

OLD: tuple[Side, Side] = (
    [("x", "float32", [-1, 30]), ("n", "int64", [-1, -1])],
    [("probability", "float32", [-1]), ("label", "int64", [-1])],
)


def signature(sides: tuple[Side, Side]) -> Signature:
    inputs, outputs = (
        tuple(TensorSpec(name=n, dtype=d, shape=tuple(s)) for n, d, s in side) for side in sides
    )
    return Signature(inputs=inputs, outputs=outputs)


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        (OLD[0], OLD[1], None),
        (OLD[0][::-1], OLD[1][::-1], None),
        ([("x", "float32", [-1, -1]), OLD[0][1]], OLD[1], None),
        (OLD[0], [*OLD[1], ("why", "float32", [-1, 3])], None),
        (OLD[0][:1], OLD[1], "input n is gone"),
        ([*OLD[0], ("m", "int8", [-1])], OLD[1], "input m is new, and requests lack it"),
        ([("x", "float64", [-1, 30]), OLD[0][1]], OLD[1], "input x was float32, is float64"),
        ([("x", "float32", [-1, 31]), OLD[0][1]], OLD[1], "input x took [-1, 30], takes [-1, 31]"),
        ([OLD[0][0], ("n", "int64", [-1, 5])], OLD[1], "input n took [-1, -1], takes [-1, 5]"),
        ([("x", "float32", [-1, 30, 1]), OLD[0][1]], OLD[1], "input x took [-1, 30], takes"),
        (OLD[0], OLD[1][:1], "output label is gone"),
        (OLD[0], [OLD[1][0], ("label", "int32", [-1])], "output label was int64, is int32"),
        (OLD[0], [OLD[1][0], ("label", "int64", [-1, 1])], "output label was [-1], is [-1, 1]"),
    ],
)
def test_changes(
    check: Check, version: Check, inputs: Side, outputs: Side, reason: str | None
) -> None:
    """What callers would notice breaks, and is named; what they would not, passes."""
    holder = version(6, signature=signature(OLD))

    result = check(SignatureGate(), version(signature=signature((inputs, outputs))), holder=holder)

    assert result.passed is (reason is None)
    if reason is not None:
        assert result.reason.startswith("callers of churn:6 would break: ")
        assert reason in result.reason
        assert len(result.evidence["breaks"]) == 1


def test_second_output(check: Check, version: Check) -> None:
    """A second output turns bare predictions into objects, which breaks callers."""
    old = (OLD[0], OLD[1][:1])

    result = check(
        SignatureGate(),
        version(signature=signature(OLD)),
        holder=version(6, signature=signature(old)),
    )

    assert not result.passed
    assert "predictions were bare values of probability" in result.reason


def test_all_breaks_are_named(check: Check, version: Check) -> None:
    """Whoever reads the refusal sees all of it at once."""
    new = ([("y", "float32", [-1])], [("label", "int64", [-1])])

    result = check(
        SignatureGate(),
        version(signature=signature(new)),
        holder=version(6, signature=signature(OLD)),
    )

    assert len(result.evidence["breaks"]) == 4
    assert "x: float32 [-1, 30]" in result.wanted
    assert "y: float32 [-1]" in result.measured


def test_nothing_to_agree_with(check: Check, version: Check) -> None:
    """A stage without a holder, or whose holder has no signature, asks nothing."""
    assert check(SignatureGate(), version()).passed
    assert check(SignatureGate(), version(signature=signature(OLD)), holder=version(6)).passed


def test_lost_signature(check: Check, version: Check) -> None:
    """A candidate without a signature cannot follow one that has one."""
    result = check(SignatureGate(), version(), holder=version(6, signature=signature(OLD)))

    assert not result.passed
    assert result.reason == "churn:7 has no signature, churn:6 has one"
