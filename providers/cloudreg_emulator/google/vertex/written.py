"""Time series that users write: Monitoring's ``timeSeries.create``, and what a look shows of them.

Gauges of numbers are kept; other kinds of metrics are refused by name.

Sources: https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/create and
https://cloud.google.com/monitoring/custom-metrics/creating-metrics; words are unquoted.
"""

from __future__ import annotations

import datetime
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudreg_emulator.google.vertex.refusals import Refused

__all__ = ["WRITABLE", "Written", "no_metric"]

WRITABLE = ("custom.googleapis.com/", "external.googleapis.com/", "workload.googleapis.com/")
"""Prefixes of the metric types that users may write."""

MOST = 200
"""Series of a request."""

OLDEST_S, AHEAD_S = 25 * 3600.0, 300.0
"""How far an end time may lie in the past, and in the future."""

RESOURCES = frozenset(
    {
        "aws_ec2_instance", "gae_instance", "gce_instance", "generic_node", "generic_task",
        "global", "k8s_cluster", "k8s_container", "k8s_node", "k8s_pod",
        "aiplatform.googleapis.com/Endpoint",
    }
)  # fmt: skip
"""Monitored resources that may be written to, as far as somebody watches model servers."""

ALIGNERS: Mapping[str, Callable[[list[float]], float]] = {
    "ALIGN_NONE": lambda values: values[-1],
    "ALIGN_MEAN": lambda values: sum(values) / len(values),
    "ALIGN_MIN": min,
    "ALIGN_MAX": max,
    "ALIGN_SUM": sum,
}
"""Those that suit gauges: the others need values that add up, or distributions.

Source: https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies#Aligner
"""

Marks = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Series:
    metric: str
    labels: Mapping[str, str]
    resource: str
    resource_labels: Mapping[str, str]
    value_type: str
    points: list[tuple[float, float]] = field(default_factory=list)


class Written:
    """The series of one project. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with none.

        Args:
            clock: Seconds since 1970.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._series: dict[tuple[str, Marks, str, Marks], _Series] = {}

    def create(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Add a point to each of some series."""
        given = asked.get("timeSeries")
        if not isinstance(given, list) or not given:
            raise Refused("INVALID_ARGUMENT", "Field timeSeries is required.")
        if len(given) > MOST:
            raise Refused("INVALID_ARGUMENT", f"Field timeSeries had more than {MOST} elements.")
        read = [self._read(number, one) for number, one in enumerate(given)]
        with self._lock:
            for number, (series, at, value) in enumerate(read):
                key = (series.metric, _marks(series.labels), series.resource,
                       _marks(series.resource_labels))  # fmt: skip
                kept = self._series.setdefault(key, series)
                if kept.value_type != series.value_type:
                    raise _wrong(number, f"the value type of the metric is {kept.value_type}.")
                if kept.points and at <= kept.points[-1][0]:
                    raise _wrong(
                        number, "the new point must be more recent than the most recent one."
                    )
                kept.points.append((at, value))
        return {}

    def look(
        self,
        metric: str,
        begin: float,
        end: float,
        aligner: str,
        matches: Callable[[Mapping[str, str]], bool],
    ) -> Iterator[tuple[dict[str, Any], str, Any]]:
        """Yield series, kind of value and value of all that matches and has points."""
        with self._lock:
            found = [one for one in self._series.values() if one.metric == metric]
        if not found:
            raise no_metric(metric)
        if aligner not in ALIGNERS:
            raise Refused("INVALID_ARGUMENT", f"{aligner} cannot be applied to gauges of numbers.")
        for one in found:
            shown = {
                "metric.type": metric,
                "resource.type": one.resource,
                **{f"metric.labels.{k}": v for k, v in one.labels.items()},
                **{f"resource.labels.{k}": v for k, v in one.resource_labels.items()},
            }
            values = [value for at, value in one.points if begin < at <= end]
            if values and matches(shown):
                marks = {
                    "metric": {"type": metric, "labels": dict(one.labels)},
                    "resource": {"type": one.resource, "labels": dict(one.resource_labels)},
                }
                yield marks, "doubleValue", ALIGNERS[aligner](values)

    def _read(self, number: int, one: Any) -> tuple[_Series, float, float]:
        metric, resource = _part(number, one, "metric"), _part(number, one, "resource")
        name = str(metric.get("type", ""))
        if not name.startswith(WRITABLE):
            raise _wrong(number, f"metric type {name!r} is not one that users write.")
        if resource.get("type") not in RESOURCES:
            raise _wrong(number, f"resource type {resource.get('type')!r} cannot be written to.")
        if one.get("metricKind", "GAUGE") != "GAUGE":
            raise _wrong(number, f"the emulator keeps gauges, and no {one['metricKind']} metrics.")
        points = one.get("points")
        if not isinstance(points, list) or len(points) != 1 or not isinstance(points[0], dict):
            raise _wrong(number, "points must hold exactly one point.")
        end = (points[0].get("interval") or {}).get("endTime")
        at = _seconds(number, end)
        now = self._clock()
        if not now - OLDEST_S <= at <= now + AHEAD_S:
            raise _wrong(number, f"endTime {end} is too far in the past or in the future.")
        kind, value = _value(number, points[0].get("value"))
        series = _Series(
            metric=name,
            labels=dict(metric.get("labels") or {}),
            resource=str(resource["type"]),
            resource_labels=dict(resource.get("labels") or {}),
            value_type=kind,
        )
        return series, at, value


def no_metric(metric: str) -> Refused:
    """Return the refusal of a metric that nobody ever wrote."""
    return Refused("NOT_FOUND", f"Cannot find metric(s) that match type = {metric!r}.")


def _part(number: int, one: Any, name: str) -> Mapping[str, Any]:
    part = one.get(name) if isinstance(one, dict) else None
    if not isinstance(part, dict):
        raise _wrong(number, f"{name} is required.")
    return part


def _value(number: int, value: Any) -> tuple[str, float]:
    if isinstance(value, dict) and len(value) == 1:
        try:
            if "doubleValue" in value and math.isfinite(float(value["doubleValue"])):
                return "DOUBLE", float(value["doubleValue"])
            if "int64Value" in value:
                return "INT64", float(int(value["int64Value"]))
        except (TypeError, ValueError):
            pass
    raise _wrong(number, "value must have one of doubleValue and int64Value.")


def _seconds(number: int, text: Any) -> float:
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except ValueError as error:
        raise _wrong(number, f"endTime {text!r} is no time in RFC 3339.") from error


def _marks(labels: Mapping[str, str]) -> Marks:
    return tuple(sorted(labels.items()))


def _wrong(number: int, words: str) -> Refused:
    return Refused("INVALID_ARGUMENT", f"Field timeSeries[{number}]: {words}")
