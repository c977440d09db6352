"""What policies make of metrics: the arithmetic of Application Auto Scaling's documentation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg_emulator.aws.autoscaling import deciding
from cloudreg_emulator.aws.autoscaling.deciding import Last, cooled_out, in_to, out_to, step_to


@pytest.mark.parametrize(
    ("current", "metric", "wanted"),
    [(1, 200, 2), (2, 150, 3), (4, 101, 5), (1, 1000, 10), (0, 100, 1), (3, 100, 4)],
)
def test_out(current, metric, wanted):
    """Out to what brings the mean to the target, and by one at least."""
    assert out_to(current, metric, 100) == wanted


@pytest.mark.parametrize(
    ("current", "metric", "wanted"),
    [(4, 50, 2), (4, 51, 3), (4, 89, 4), (2, 0, 0), (1, 0, 0), (1, 25, 1), (10, 10, 1)],
)
def test_in(current, metric, wanted):
    """In to what stays below the target: what is less than one instance to take away stays."""
    assert in_to(current, metric, 100) == wanted


@given(st.integers(1, 100), st.floats(0, 1e4), st.floats(0.1, 1e4))
def test_in_never_overshoots(current, metric, target):
    """After a scale-in the load fits, unless it did not fit before."""
    wanted = in_to(current, metric, target)

    assert 0 <= wanted <= current
    # Less than a billionth of an instance is rounding, not load.
    assert wanted == current or current * metric <= (wanted + 1e-6) * target


def test_cooldown():
    """What was added a moment ago counts as part of what is wanted now."""
    last = Last(at=0.0, before=2, after=4)

    assert cooled_out(5, last, now=10.0, cooldown_s=60.0) == 4
    assert cooled_out(9, last, now=10.0, cooldown_s=60.0) == 7
    assert cooled_out(9, last, now=60.0, cooldown_s=60.0) == 9
    assert cooled_out(9, None, now=0.0, cooldown_s=60.0) == 9


# The table of step-scaling-policy-overview.html: an alarm at 50, a capacity of 10.
STEPS = [
    {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 0},
    {"MetricIntervalLowerBound": 10, "MetricIntervalUpperBound": 20, "ScalingAdjustment": 10},
    {"MetricIntervalLowerBound": 20, "ScalingAdjustment": 30},
]
DOWN = [
    {"MetricIntervalLowerBound": -10, "MetricIntervalUpperBound": 0, "ScalingAdjustment": 0},
    {"MetricIntervalLowerBound": -20, "MetricIntervalUpperBound": -10, "ScalingAdjustment": -10},
    {"MetricIntervalUpperBound": -20, "ScalingAdjustment": -30},
]


@pytest.mark.parametrize(
    ("steps", "breach", "wanted"),
    [(STEPS, 5, 10), (STEPS, 10, 11), (STEPS, 19.9, 11), (STEPS, 20, 13), (STEPS, 1000, 13),
     (DOWN, -5, 10), (DOWN, -10, 9), (DOWN, -15, 9), (DOWN, -20, 7), (DOWN, -50, 7)],
)  # fmt: skip
def test_percent_steps(steps, breach, wanted):
    """The documentation's own table: 10 % and 30 % of ten instances."""
    config = {"AdjustmentType": "PercentChangeInCapacity", "StepAdjustments": steps}

    assert step_to(config, 10, breach) == wanted


@pytest.mark.parametrize(
    ("kind", "adjustment", "current", "wanted"),
    [("ChangeInCapacity", 2, 3, 5), ("ChangeInCapacity", -5, 3, 0), ("ExactCapacity", 7, 3, 7),
     ("PercentChangeInCapacity", 10, 1, 2), ("PercentChangeInCapacity", -10, 3, 2),
     ("PercentChangeInCapacity", 29, 10, 12)],
)  # fmt: skip
def test_adjustments(kind, adjustment, current, wanted):
    """The three kinds of adjustment; a share below one instance is one instance."""
    steps = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": adjustment}]

    assert step_to({"AdjustmentType": kind, "StepAdjustments": steps}, current, 0) == wanted


def test_least_adjustment():
    """A share is at least the magnitude that the policy names."""
    steps = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 10}]
    config = {
        "AdjustmentType": "PercentChangeInCapacity",
        "StepAdjustments": steps,
        "MinAdjustmentMagnitude": 4,
    }

    assert step_to(config, 10, 0) == 14


def test_no_step_holds():
    """A breach that no step covers changes nothing."""
    steps = [{"MetricIntervalLowerBound": 10, "ScalingAdjustment": 1}]

    assert step_to({"AdjustmentType": "ChangeInCapacity", "StepAdjustments": steps}, 3, 5) == 3
    assert math.isclose(deciding.COOLDOWN_S, 300)
