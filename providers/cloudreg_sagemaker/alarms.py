"""The CloudWatch alarms that call a step policy: unlike those of target tracking, they are ours.

One kind adds instances in steps, another wakes a variant behind a queue from none.

Source: https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cloudreg.errors import NotFound
from cloudreg.types import ScalingMetric
from cloudreg_sagemaker import packages
from cloudreg_sagemaker.errors import translated

PREFIX = "cloudreg-steps/"
"""Of the names; endpoint and variant follow."""

WAKE_PREFIX = "cloudreg-wake/"
"""Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A metric of CloudWatch.

    Attributes:
        namespace: Where it is.
        name: Its name.
        statistic: Of the values of a period.
        period_s: Seconds; below a minute is high resolution.
        unit: Of the values, where a policy has to say it.
        whole: Whether it is of the endpoint as a whole, and not of a variant.
    """

    namespace: str
    name: str
    statistic: str
    period_s: int
    unit: str | None = None
    whole: bool = False

    def dimensions(self, endpoint: str, variant: str) -> list[dict[str, str]]:
        """Return what tells a variant's values from others."""
        own = [{"Name": "EndpointName", "Value": endpoint}]
        return own if self.whole else [*own, {"Name": "VariantName", "Value": variant}]


INSTANCES = "/aws/sagemaker/Endpoints"

WATCHED: Mapping[ScalingMetric, Watched] = {
    ScalingMetric.CONCURRENCY: Watched(
        namespace="AWS/SageMaker",
        name="ConcurrentRequestsPerModel",
        statistic="Average",
        period_s=10,
    ),
    ScalingMetric.REQUESTS_PER_MINUTE: Watched(
        namespace="AWS/SageMaker", name="InvocationsPerInstance", statistic="Sum", period_s=60
    ),
    ScalingMetric.GPU_UTILIZATION: Watched(
        namespace=INSTANCES,
        name="GPUUtilization",
        statistic="Average",
        period_s=60,
        unit="Percent",
    ),
    ScalingMetric.CPU_UTILIZATION: Watched(
        namespace=INSTANCES,
        name="CPUUtilization",
        statistic="Average",
        period_s=60,
        unit="Percent",
    ),
}
"""Source: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html"""

BACKLOG = Watched(
    namespace="AWS/SageMaker",
    name="ApproximateBacklogSizePerInstance",
    statistic="Average",
    period_s=60,
    whole=True,
)
"""Requests that wait or are worked on, of each instance.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-monitor.html
"""

STRANDED = Watched(
    namespace="AWS/SageMaker",
    name="HasBacklogWithoutCapacity",
    statistic="Maximum",
    period_s=60,
    whole=True,
)
"""1 while requests wait and no instance is there.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
"""


class StepAlarms:
    """The alarms of one account and region."""

    def __init__(self, client: Any, *, target: str) -> None:
        """Use boto3's CloudWatch *client*."""
        self._client = client
        self._target = target

    def thresholds(
        self, endpoint: str = "", *, prefix: str = PREFIX
    ) -> dict[tuple[str, str], tuple[str, float]]:
        """Return policy and threshold of every alarm that acts, by endpoint and variant.

        Args:
            endpoint: Of this one only.
            prefix: Of the alarms' names: which kind.
        """
        names = f"{prefix}{endpoint}/" if endpoint else prefix
        request: dict[str, Any] = {"AlarmNamePrefix": names, "AlarmTypes": ["MetricAlarm"]}
        found: dict[tuple[str, str], tuple[str, float]] = {}
        with translated("scaling alarms", target=self._target):
            while True:
                page = self._client.describe_alarms(**request)
                for alarm in page.get("MetricAlarms", ()):
                    owner, _, variant = alarm["AlarmName"].removeprefix(prefix).partition("/")
                    actions: list[str] = alarm.get("AlarmActions") or []
                    if alarm.get("ActionsEnabled", True) and len(actions) == 1:
                        found[owner, variant] = (actions[0], float(alarm["Threshold"]))
                if not page.get("NextToken"):
                    return found
                request["NextToken"] = page["NextToken"]

    def put(
        self,
        endpoint: str,
        variant: str,
        watched: Watched,
        *,
        threshold: float,
        policy: str,
        prefix: str = PREFIX,
    ) -> None:
        """Make the alarm that calls *policy*, or make it anew.

        Args:
            endpoint: Whose.
            variant: Of the endpoint.
            watched: What it looks at.
            threshold: From which value on it calls.
            policy: ARN of what it calls.
            prefix: Of its name: which kind.
        """
        does = "wakes" if prefix == WAKE_PREFIX else "scales in steps"
        with translated(f"scaling of {endpoint}", target=self._target):
            self._client.put_metric_alarm(
                AlarmName=name_of(endpoint, variant, prefix=prefix),
                AlarmDescription=f"cloudreg {does} {endpoint} with it",
                Namespace=watched.namespace,
                MetricName=watched.name,
                Dimensions=watched.dimensions(endpoint, variant),
                Statistic=watched.statistic,
                Period=watched.period_s,
                EvaluationPeriods=1,
                Threshold=threshold,
                ComparisonOperator="GreaterThanOrEqualToThreshold",
                # No instance that says nothing is busy.
                TreatMissingData="notBreaching",
                AlarmActions=[policy],
                Tags=[{"Key": packages.TAG, "Value": endpoint}],
            )

    def remove(self, endpoint: str, variants: Iterable[str], *, prefix: str = PREFIX) -> None:
        """Remove alarms of a kind; absent is fine."""
        # One by one: CloudWatch deletes none of several where one is not there.
        for variant in variants:
            with suppress(NotFound), translated(f"scaling of {endpoint}", target=self._target):
                self._client.delete_alarms(AlarmNames=[name_of(endpoint, variant, prefix=prefix)])


def name_of(endpoint: str, variant: str, *, prefix: str = PREFIX) -> str:
    """Return the name of a variant's alarm."""
    return f"{prefix}{endpoint}/{variant}"
