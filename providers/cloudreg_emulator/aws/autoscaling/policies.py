"""Scaling policies, with the CloudWatch alarms that target tracking brings."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from moto.applicationautoscaling.models import FakeApplicationAutoscalingPolicy
from moto.cloudwatch.models import cloudwatch_backends

from cloudreg_emulator.aws.autoscaling import rules
from cloudreg_emulator.aws.autoscaling.deciding import COOLDOWN_S, Last
from cloudreg_emulator.aws.runtime.metrics import NAMESPACE

LOW_SHARE = 0.9
"""A variant scales in only once the metric is this far below the target."""

HIGH_PERIODS = 3
LOW_PERIODS = 15
"""Periods that a metric must be above and below: out in 3 minutes, in after 15.

Source: https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""


class Policy(FakeApplicationAutoscalingPolicy):
    """A policy for SageMaker.

    Attributes:
        last_out: Its last scale-out.
        last_in: Its last scale-in.
    """

    def __init__(self, *, replaces: Policy | None = None, **fields: Any) -> None:
        """Take the fields of moto's policy, and make the alarms.

        Args:
            replaces: The policy of this name before: its ARN, age and cooldowns go on.
            **fields: moto's.
        """
        self._replaces = replaces
        self.last_out: Last | None = replaces.last_out if replaces else None
        self.last_in: Last | None = replaces.last_in if replaces else None
        super().__init__(**fields)

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of its type."""
        config: Mapping[str, Any] = self._policy_body
        return config

    @property
    def tracks(self) -> bool:
        """Whether it is a target tracking policy."""
        return bool(self.policy_type == "TargetTrackingScaling")

    def cooldown_s(self, *, out: bool) -> float:
        """Return emulated seconds between two scalings in one direction."""
        name = ("ScaleOutCooldown" if out else "ScaleInCooldown") if self.tracks else "Cooldown"
        return float(self.config.get(name, COOLDOWN_S))

    def create_alarms(self) -> None:
        """Make the alarms of target tracking; those of steps are the user's."""
        # moto calls this when its own fields are set, and the alarms need the ARN.
        if self._replaces is not None:
            self.policy_arn = self._replaces.policy_arn
            self.creation_time = self._replaces.creation_time
            self._replaces = None
        if not self.tracks:
            return
        target = float(self.config["TargetValue"])
        make = (
            ("AlarmHigh", "GreaterThanThreshold", HIGH_PERIODS, target),
            ("AlarmLow", "LessThanThreshold", LOW_PERIODS, LOW_SHARE * target),
        )
        for name, comparison, periods, threshold in make:
            if name == "AlarmLow" and self.config.get("DisableScaleIn"):
                continue
            alarm = cloudwatch_backends[self.account_id][self.region_name].put_metric_alarm(
                name=f"TargetTracking-{self.resource_id}-{name}-{uuid.uuid4()}",
                comparison_operator=comparison,
                evaluation_periods=periods,
                threshold=threshold,
                description=(
                    f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {self.policy_arn}."
                ),
                alarm_actions=[self.policy_arn],
                **self._metric(),
            )
            self.alarms.append(alarm)

    def alarm(self, which: str) -> Any:
        """Return moto's alarm ``AlarmHigh`` or ``AlarmLow``, if it was not deleted."""
        known = cloudwatch_backends[self.account_id][self.region_name].alarms
        return next((a for a in self.alarms if f"-{which}-" in a.name and a.name in known), None)

    def same_metric(self, config: Mapping[str, Any]) -> bool:
        """Return whether a target tracking configuration reads what this one reads."""
        names = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
        return self.tracks and all(self.config.get(name) == config.get(name) for name in names)

    def _metric(self) -> dict[str, Any]:
        custom = self.config.get("CustomizedMetricSpecification")
        if custom:
            return {
                "namespace": custom["Namespace"],
                "metric_name": custom["MetricName"],
                "statistic": custom["Statistic"],
                "dimensions": custom.get("Dimensions") or [],
                "unit": custom.get("Unit"),
                "period": 60,
            }
        metric = rules.METRICS[self.config["PredefinedMetricSpecification"]["PredefinedMetricType"]]
        return {
            "namespace": NAMESPACE,
            "metric_name": metric.name,
            "statistic": metric.statistic,
            "dimensions": dimensions(self.resource_id, self.scalable_dimension),
            "period": metric.period_s,
        }


def dimensions(resource: str, dimension: str) -> list[dict[str, str]]:
    """Return the CloudWatch dimensions of a scalable resource."""
    names = ("EndpointName", "VariantName")
    if dimension == rules.COPIES:
        names = ("InferenceComponentName", "")
    found = rules.parts(resource, dimension)
    return [{"Name": n, "Value": v} for n, v in zip(names, found, strict=False)]
