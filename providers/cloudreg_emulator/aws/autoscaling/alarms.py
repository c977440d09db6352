"""What the state of a CloudWatch alarm is, by the metrics: moto's alarms never change theirs.

Time is scaled: a period of 60 seconds looks back over 60 emulated ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.cloudwatch.models import Dimension, MetricAggregatedDatum

from cloudreg_emulator.aws.cloudwatch.percentiles import percentile

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}

REASON = "Evaluated by the emulator: "
"""How the reasons begin of states that came from metrics."""

HELD_S = 2.0
"""Real seconds that a state set by hand holds at least, however short the emulated period is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An alarm, evaluated.

    Attributes:
        state: ``OK``, ``ALARM`` or ``INSUFFICIENT_DATA``.
        value: The latest data point; None where there is none.
    """

    state: str
    value: float | None


def read(alarm: Any, data: Iterable[Any], *, now: datetime, scale: float) -> Reading | None:
    """Return what the metrics say of an alarm; None where they say nothing new.

    Without data an alarm of the user's keeps its state, so that one that was set by hand stays
    as it is; one of a target tracking policy has insufficient data.

    Args:
        alarm: moto's.
        data: All data of CloudWatch.
        now: Naive, in UTC.
        scale: Real seconds of an emulated second.
    """
    compare = COMPARISONS.get(alarm.comparison_operator)
    if compare is None or not alarm.metric_name or alarm.metric_data_queries:
        return None  # anomaly bands, metric math and composite alarms stay as they were set
    period = timedelta(seconds=alarm.period * scale)
    count = alarm.evaluation_periods
    found = [d for d in data if _is_of(d, alarm) and now - period * count <= d.timestamp < now]
    points: list[float | None] = []
    for number in range(count):
        end = now - period * number
        within = [d for d in found if end - period <= d.timestamp < end]
        points.append(_statistic(alarm, within) if within else None)
    known = [point for point in points if point is not None]
    if not known and alarm.treat_missing_data not in ("breaching", "notBreaching"):
        return (
            None
            if not alarm.name.startswith("TargetTracking-")
            else Reading(state="INSUFFICIENT_DATA", value=None)
        )
    missing = alarm.treat_missing_data == "breaching"
    breaching = sum(
        compare(point, alarm.threshold) if point is not None else missing for point in points
    )
    needed = alarm.datapoints_to_alarm or count
    return Reading(
        state="ALARM" if breaching >= needed else "OK", value=known[0] if known else None
    )


def update(alarm: Any, reading: Reading | None) -> None:
    """Change an alarm's state, if the metrics say so."""
    if reading is None or reading.state == alarm.state_value:
        return
    shown = "no data" if reading.value is None else f"{reading.value:g}"
    alarm.update_state(f"{REASON}{shown}", "{}", reading.state)


def is_held(alarm: Any, *, now: datetime, scale: float) -> bool:
    """Return whether somebody set the state by hand, lately.

    SetAlarmState is temporary on AWS, too: the next evaluation ends it.
    """
    if alarm.state_reason.startswith(REASON) or not alarm.history:
        return False
    held = timedelta(seconds=max(HELD_S, alarm.period * scale))
    return bool(now - alarm.state_updated_timestamp < held)


def utc_now() -> datetime:
    """Return the time as moto stamps data: naive, in UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def _is_of(datum: Any, alarm: Any) -> bool:
    if datum.name != alarm.metric_name or datum.namespace != alarm.namespace:
        return False
    own: list[Dimension] = datum.dimensions
    return len(own) == len(alarm.dimensions) and all(d in own for d in alarm.dimensions)


def _statistic(alarm: Any, data: list[Any]) -> float | None:
    if alarm.extended_statistic:
        return percentile(data, alarm.extended_statistic)
    sums = [
        (d.sum, d.sample_count, d.min, d.max)
        if isinstance(d, MetricAggregatedDatum)
        else (d.value, 1.0, d.value, d.value)
        for d in data
    ]
    total, samples = sum(s[0] for s in sums), sum(s[1] for s in sums)
    return {
        "Sum": total,
        "Average": total / samples if samples else 0.0,
        "SampleCount": samples,
        "Minimum": min(s[2] for s in sums),
        "Maximum": max(s[3] for s in sums),
    }.get(alarm.statistic)
