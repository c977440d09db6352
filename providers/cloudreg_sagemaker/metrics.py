"""What each variant answered, from CloudWatch.

SageMaker counts by the minute, so a window begins at a full minute: a shorter one shows what the
minute around it held.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cloudreg.types import CustomMetric, VariantMetrics
from cloudreg_sagemaker.errors import translated

NAMESPACE = "AWS/SageMaker"
MINUTE_S = 60

NOTHING: Mapping[str, Mapping[str, str]] = {}
"""No variant is known."""

_CALLS = ("requests", "Invocations", "Sum")
_QUEUED_CALLS = ("requests", "InvocationsProcessed", "Sum")
"""Behind a queue no ``Invocations`` are published.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-monitor.html
"""

_ASKED = (
    ("errors", "Invocation5XXErrors", "Sum"),
    ("p50", "ModelLatency", "p50"),
    ("p95", "ModelLatency", "p95"),
)


class EndpointMetrics:
    """CloudWatch's numbers of one account's endpoints."""

    def __init__(self, client: Any, *, target: str) -> None:
        """Use boto3's CloudWatch *client*."""
        self._client = client
        self._target = target

    def of(
        self,
        endpoint: str,
        variants: Sequence[str],
        *,
        component: bool = False,
        queued: bool = False,
        window_s: float,
        since: datetime.datetime,
        now: datetime.datetime,
        custom: Sequence[CustomMetric] = (),
        known: Mapping[str, Mapping[str, str]] = NOTHING,
    ) -> dict[str, VariantMetrics]:
        """Return the numbers of each variant, with one question for all of them.

        Args:
            endpoint: Whose.
            variants: Their names.
            component: Whether an inference component of that name answers.
            queued: Whether the endpoint is asynchronous.
            window_s: How far back.
            since: Earlier numbers are another endpoint's of the same name.
            now: The end of the window.
            custom: What else is looked up for each variant.
            known: Variant to what a query may speak of.
        """
        begin = max(now - datetime.timedelta(seconds=window_s), since)
        begin = begin.replace(second=0, microsecond=0)
        end = now.replace(second=0, microsecond=0) + datetime.timedelta(seconds=MINUTE_S)
        period_s = math.ceil((end - begin).total_seconds() / MINUTE_S) * MINUTE_S
        request = {
            "MetricDataQueries": [
                _query(
                    _component(endpoint) if component else variant_dimensions(endpoint, variant),
                    index,
                    which,
                    period_s=period_s,
                )
                for index, variant in enumerate(variants)
                for which in (_QUEUED_CALLS if queued else _CALLS, *_ASKED)
            ]
            + [
                _custom(metric.filled(**known.get(variant, {})), f"custom{n}_{index}", period_s)
                for index, variant in enumerate(variants)
                for n, metric in enumerate(custom)
            ],
            "StartTime": begin,
            "EndTime": end,
        }
        values: dict[str, list[float]] = {}
        with translated(f"metrics of endpoint {endpoint}", target=self._target):
            while True:
                page = self._client.get_metric_data(**request)
                for result in page["MetricDataResults"]:
                    values.setdefault(result["Id"], []).extend(result["Values"])
                if not page.get("NextToken"):
                    break
                request["NextToken"] = page["NextToken"]
        return {
            variant: replace(
                _read(values, index),
                custom={
                    metric.name: value
                    for n, metric in enumerate(custom)
                    if (value := metric.worst(values.get(f"custom{n}_{index}", ()))) is not None
                },
            )
            for index, variant in enumerate(variants)
        }


def _custom(query: Mapping[str, Any], name: str, period_s: int) -> dict[str, Any]:
    """Return the question for a metric of the user's."""
    dimensions = query.get("dimensions", {})
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": query["namespace"],
                "MetricName": query["metric"],
                "Dimensions": [{"Name": k, "Value": v} for k, v in sorted(dimensions.items())],
            },
            "Period": period_s,
            "Stat": query.get("statistic", "Average"),
        },
    }


def _component(name: str) -> list[dict[str, str]]:
    return [{"Name": "InferenceComponentName", "Value": name}]


def variant_dimensions(endpoint: str, variant: str) -> list[dict[str, str]]:
    """Return the dimensions of a variant's metrics."""
    return [
        {"Name": "EndpointName", "Value": endpoint},
        {"Name": "VariantName", "Value": variant},
    ]


def _query(
    own: list[dict[str, str]], index: int, which: tuple[str, str, str], *, period_s: int
) -> dict[str, Any]:
    name, metric, statistic = which
    return {
        "Id": f"{name}_{index}",
        "MetricStat": {
            "Metric": {
                "Namespace": NAMESPACE,
                "MetricName": metric,
                "Dimensions": own,
            },
            "Period": period_s,
            "Stat": statistic,
        },
    }


def _read(values: Mapping[str, Sequence[float]], index: int) -> VariantMetrics:
    requests = int(sum(values.get(f"requests_{index}", ())))
    return VariantMetrics(
        requests=requests,
        errors=int(sum(values.get(f"errors_{index}", ()))),
        p50_ms=_milliseconds(values.get(f"p50_{index}", ())) if requests else None,
        p95_ms=_milliseconds(values.get(f"p95_{index}", ())) if requests else None,
    )


def _milliseconds(values: Sequence[float]) -> float | None:
    """Return the worst of *values*, which are microseconds: percentiles cannot be merged."""
    return max(values) / 1000 if values else None
