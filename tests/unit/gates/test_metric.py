"""A metric within bounds, and not worse than the holder's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.gates.metric import MetricGate

Check = Callable[..., Any]


@pytest.mark.parametrize(
    ("bounds", "value", "passed"),
    [
        ({"min": 0.9}, 0.9, True),
        ({"min": 0.9}, 0.8999999999999999, False),
        ({"max": 10}, 10.0, True),
        ({"max": 10}, 10.1, False),
        ({"min": -1, "max": 1}, 0.0, True),
        ({"min": 0.0}, -0.0, True),
    ],
)
def test_bounds(
    check: Check, version: Check, bounds: dict[str, float], value: float, passed: bool
) -> None:
    """The bounds themselves are within."""
    result = check(MetricGate(name="auc", **bounds), version(metrics={"auc": value}))

    assert result.passed is passed
    assert str(value) in result.measured


@pytest.mark.parametrize(
    ("options", "value", "before", "passed"),
    [
        ({"max_regression": 0.01}, 0.90, 0.91, True),
        ({"max_regression": 0.01}, 0.8999, 0.91, False),
        ({"max_regression": 0}, 0.91, 0.91, True),
        ({"max_regression": 0}, 0.9099999999, 0.91, False),
        ({"max_regression": 0}, 0.99, 0.91, True),
        ({"max_regression": 0, "higher_is_better": False}, 0.99, 0.91, False),
        ({"max_regression": 0, "higher_is_better": False}, 0.90, 0.91, True),
        ({"max_regression_percent": 10}, 90.0, 100.0, True),
        ({"max_regression_percent": 10}, 89.9, 100.0, False),
        ({"max_regression_percent": 10}, -110.0, -100.0, True),
        ({"max_regression_percent": 10}, -111.0, -100.0, False),
        ({"max_regression_percent": 10, "higher_is_better": False}, 111.0, 100.0, False),
        ({"max_regression_percent": 10}, -0.1, 0.0, False),
        ({"max_regression_percent": 10}, 0.1, 0.0, True),
        ({"max_regression_percent": 0}, 0.0, 0.0, True),
        ({"max_regression": 1, "max_regression_percent": 1}, 98.9, 99.8, True),
        ({"max_regression": 1, "max_regression_percent": 0.5}, 98.9, 99.8, False),
    ],
)
def test_regression(
    check: Check,
    version: Check,
    options: dict[str, Any],
    value: float,
    before: float,
    passed: bool,
) -> None:
    """The candidate may be as much worse than the holder as is allowed, and no more."""
    result = check(
        MetricGate(name="m", **options),
        version(metrics={"m": value}),
        holder=version(6, metrics={"m": before}),
    )

    assert result.passed is passed


def test_refusal_says_everything(check: Check, version: Check) -> None:
    """A refusal names both values, the bound, and against whom."""
    result = check(
        MetricGate(name="val_auc", min=0.9, max_regression=0.01),
        version(metrics={"val_auc": 0.85}),
        holder=version(6, metrics={"val_auc": 0.91}),
    )

    assert result.reason == (
        "val_auc is 0.85, below 0.9; "
        "val_auc is 0.85, 0.06 below the 0.91 of churn:6; 0.01 is allowed"
    )
    assert result.measured == "val_auc 0.85 (churn:6: 0.91)"
    assert result.wanted == "val_auc at least 0.9, at most 0.01 below churn:6"
    assert result.evidence == {
        "metric": "val_auc",
        "value": 0.85,
        "holder": "churn:6",
        "holder_value": 0.91,
    }


def test_missing_metric(check: Check, version: Check) -> None:
    """A metric that is not there fails, and those that are there are named."""
    result = check(MetricGate(name="auc", min=0), version(metrics={"val_auc": 1.0, "f1": 1.0}))

    assert not result.passed
    assert result.reason == "churn:7 has no metric 'auc'; it has f1, val_auc"
    assert result.measured == "no auc"


def test_holder_without_the_metric(check: Check, version: Check) -> None:
    """No data is never success: a holder without the metric cannot be compared with."""
    gate = MetricGate(name="auc", max_regression=0.1)

    result = check(gate, version(metrics={"auc": 1.0}), holder=version(6))

    assert not result.passed
    assert "churn:6, which staging holds, has no auc to compare with" in result.reason


def test_bounds_ask_nothing_of_the_holder(check: Check, version: Check) -> None:
    """Without a comparison the holder's metrics do not matter."""
    gate = MetricGate(name="auc", min=0.5)

    assert check(gate, version(metrics={"auc": 1.0}), holder=version(6)).passed


def test_empty_stage(check: Check, version: Check) -> None:
    """Where the stage holds nothing, there is nothing to be worse than."""
    result = check(MetricGate(name="auc", max_regression=0), version(metrics={"auc": 0.1}))

    assert result.passed
    assert "staging holds nothing to compare with" in result.reason


finite = st.floats(-1e6, 1e6)


@given(value=finite, before=finite, allowed=st.floats(0, 1e6), higher=st.booleans())
def test_better_never_fails(value: float, before: float, allowed: float, higher: bool) -> None:
    """A value that is not worse never regresses; one worse by more than allowed and noise does."""
    gate = MetricGate(name="m", max_regression=allowed, higher_is_better=higher)
    worse = before - value if higher else value - before

    problems = gate._worse(value, before, "churn:6")

    if worse <= allowed:
        assert not problems
    elif worse > allowed * (1 + 1e-6) + 1e-6:
        assert problems
