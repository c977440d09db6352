"""How many copies of an inference component there are, down to none and back.

Target tracking moves the number between one and the maximum, and takes the last copy away when
nobody asks. From none there is nothing to track: a step policy brings the first copy back, called
by an alarm on the requests that were refused for want of one.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cloudreg.errors import NotFound
from cloudreg.types import EndpointSpec, ScalingMetric, Variant
from cloudreg_sagemaker import packages
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.wire import SCALE_OUT_COOLDOWN_S, Bound, bound_for

POLICY = "cloudreg-target"
WAKE = "cloudreg-wake"
PREFIX = "cloudreg-wake/"
"""Of the alarms' names; the endpoint's follows."""

PREDEFINED = {
    ScalingMetric.CONCURRENCY: "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    ScalingMetric.REQUESTS_PER_MINUTE: "SageMakerInferenceComponentInvocationsPerCopy",
}

_WHAT = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
}

_ALARM = {
    "Namespace": "AWS/SageMaker",
    "MetricName": "NoCapacityInvocationFailures",
    "Statistic": "Maximum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "DatapointsToAlarm": 1,
    "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "missing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What is known of a component's scaling.

    Attributes:
        bound: Of its scalable target; None where there is none.
        wakes: Whether an alarm and a policy bring it back from zero.
    """

    bound: Bound | None = None
    wakes: bool = False


def alone(_: Variant, __: ScalingMetric) -> int:
    """Return what metrics of a copy are counted in: there are no percentages among them."""
    return 1


class CopyScaling:
    """The scalable targets of components."""

    def __init__(self, client: Any, cloudwatch: Any, *, target: str) -> None:
        """Use boto3's clients of Application Auto Scaling and CloudWatch."""
        self._client = client
        self._cloudwatch = cloudwatch
        self._target = target

    def copies(self, name: str) -> Copies:
        """Return what is known of a component."""
        with self._translated(name):
            found = self._client.describe_scalable_targets(**_WHAT, ResourceIds=[_id(name)])
            if not found["ScalableTargets"]:
                return Copies()
            (one,) = found["ScalableTargets"]
            answer = self._client.describe_scaling_policies(**_WHAT, ResourceId=_id(name))
            policies = {p["PolicyName"]: p for p in answer["ScalingPolicies"]}
            alarms = self._cloudwatch.describe_alarms(
                AlarmNames=[PREFIX + name], AlarmTypes=["MetricAlarm"]
            )["MetricAlarms"]
        tracking = policies.get(POLICY, {}).get("TargetTrackingScalingPolicyConfiguration", {})
        named = tracking.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
        arn = policies.get(WAKE, {}).get("PolicyARN")
        return Copies(
            bound=Bound(
                least=one["MinCapacity"],
                most=one["MaxCapacity"],
                metric=next((m for m, known in PREDEFINED.items() if known == named), None),
                target=tracking.get("TargetValue"),
                scale_out_cooldown_s=tracking.get("ScaleOutCooldown"),
                scale_in_cooldown_s=tracking.get("ScaleInCooldown"),
            ),
            wakes=any(
                alarm.get("ActionsEnabled", True) and alarm.get("AlarmActions") == [arn]
                for alarm in alarms
            ),
        )

    def follow(self, spec: EndpointSpec) -> None:
        """Make the scaling of a component that of *spec*; what is equal is not touched."""
        now = self.copies(spec.name)
        wanted = bound_for(spec.variants[0], alone)
        if not spec.variants[0].scaling.autoscaled:
            if now.bound is not None:
                self.let_go(spec.name)
            return
        sleeps = wanted.least == 0
        if now.bound == wanted and now.wakes >= sleeps:
            return
        assert wanted.metric is not None
        what = {**_WHAT, "ResourceId": _id(spec.name)}
        with self._translated(spec.name):
            self._client.register_scalable_target(
                **what, MinCapacity=wanted.least, MaxCapacity=wanted.most
            )
            self._client.put_scaling_policy(
                **what,
                PolicyName=POLICY,
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration={
                    "TargetValue": wanted.target,
                    "PredefinedMetricSpecification": {
                        "PredefinedMetricType": PREDEFINED[wanted.metric]
                    },
                    "ScaleInCooldown": wanted.scale_in_cooldown_s,
                    "ScaleOutCooldown": wanted.scale_out_cooldown_s,
                },
            )
            if sleeps and not now.wakes:
                self._wake(spec.name, what)

    def _wake(self, name: str, what: dict[str, str]) -> None:
        made = self._client.put_scaling_policy(
            **what,
            PolicyName=WAKE,
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
                "MetricAggregationType": "Maximum",
                "Cooldown": SCALE_OUT_COOLDOWN_S,
            },
        )
        self._cloudwatch.put_metric_alarm(
            AlarmName=PREFIX + name,
            AlarmDescription=f"cloudreg wakes {name} with it",
            Dimensions=[{"Name": "InferenceComponentName", "Value": name}],
            AlarmActions=[made["PolicyARN"]],
            Tags=[{"Key": packages.TAG, "Value": name}],
            **_ALARM,
        )

    def let_go(self, name: str) -> None:
        """Deregister a component, with its policies and its alarm; absent is fine."""
        # The alarm first: what is found registered after a crash is let go of again.
        with suppress(NotFound), self._translated(name):
            self._cloudwatch.delete_alarms(AlarmNames=[PREFIX + name])
        with suppress(NotFound), self._translated(name):
            self._client.deregister_scalable_target(**_WHAT, ResourceId=_id(name))

    def _translated(self, name: str) -> Any:
        return translated(f"scaling of {name}", target=self._target)


def _id(name: str) -> str:
    return f"inference-component/{name}"
