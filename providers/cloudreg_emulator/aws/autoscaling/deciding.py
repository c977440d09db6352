"""What a policy makes of a metric: arithmetic without clock, cloud or state.

Source: https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
and step-scaling-policy-overview.html.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COOLDOWN_S = 300
"""Of SageMaker's variants, where a policy says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """The last scaling in one direction.

    Attributes:
        at: When it happened.
        before: The capacity before it.
        after: The capacity after it.
    """

    at: float
    before: int
    after: int


def out_to(current: int, metric: float, target: float) -> int:
    """Return the capacity that brings an average *metric* down to *target*; at least one more."""
    return max(current + 1, math.ceil(max(current, 1) * metric / target - 1e-9))


def in_to(current: int, metric: float, target: float) -> int:
    """Return the capacity with which an average *metric* stays below *target*.

    What is taken away is rounded down, to nothing where it is less than one: a last instance that
    still has something to do stays.

    Source: target-tracking-scaling-policy-overview.html ("act conservatively by rounding up or
    down", so as not to remove too much)
    """
    return max(0, min(current, math.ceil(current * metric / target - 1e-9)))


def cooled_out(wanted: int, last: Last | None, *, now: float, cooldown_s: float) -> int:
    """Return what is left of a scale-out while an earlier one takes effect.

    What the earlier one added counts as part of what is wanted now.
    """
    if last is None or now - last.at >= cooldown_s:
        return wanted
    return max(last.after, last.before + (wanted - last.after))


def step_to(config: Mapping[str, Any], current: int, breach: float) -> int:
    """Return the capacity that a step policy asks for.

    Args:
        config: ``StepScalingPolicyConfiguration``.
        current: The capacity now.
        breach: The metric less the alarm's threshold.
    """
    chosen = next((s for s in config["StepAdjustments"] if _holds(s, breach)), None)
    if chosen is None:
        return current
    adjustment = int(chosen["ScalingAdjustment"])
    if config["AdjustmentType"] == "ExactCapacity":
        return max(0, adjustment)
    if config["AdjustmentType"] == "ChangeInCapacity":
        return max(0, current + adjustment)
    least = int(config.get("MinAdjustmentMagnitude", 1))
    return max(0, current + _percent(current, adjustment, least))


def _holds(step: Mapping[str, Any], breach: float) -> bool:
    low = float(step.get("MetricIntervalLowerBound", -math.inf))
    high = float(step.get("MetricIntervalUpperBound", math.inf))
    # Above the threshold the lower bound belongs to the interval, below it the upper one.
    return low <= breach < high if breach >= 0 else low < breach <= high


def _percent(current: int, adjustment: int, least: int) -> int:
    change = current * adjustment / 100
    # Values above 1 are rounded down, those between 0 and 1 become 1; below 0 likewise.
    size = max(math.floor(abs(change) + 1e-9), 1, least)
    return size if adjustment > 0 else -size if adjustment < 0 else 0
