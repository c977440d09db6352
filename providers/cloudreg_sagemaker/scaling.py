"""How many instances follow the load: Application Auto Scaling, from a `Scaling`.

An autoscaled variant is a scalable target with one target-tracking policy, and a step policy
with its alarm where steps are asked for. Requests in flight are tracked in the high resolution
that reacts in seconds rather than minutes.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-policy.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from cloudreg.errors import NotFound
from cloudreg.types import EndpointSpec, ScalingMetric, ScalingStep
from cloudreg_sagemaker.alarms import WATCHED, StepAlarms, dimensions
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.wire import Bound, Units, bound_for

POLICY = "cloudreg-target"
STEPS = "cloudreg-steps"

PREDEFINED = {
    ScalingMetric.CONCURRENCY: "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    ScalingMetric.REQUESTS_PER_MINUTE: "SageMakerVariantInvocationsPerInstance",
}
"""Metrics that Application Auto Scaling knows by a name of its own; others are spelled out."""

_WHAT = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
MAX_ASKED = 50
"""Resources that one question can name."""

Thresholds = Mapping[tuple[str, str], tuple[str, float]]


def resource(endpoint: str, variant: str) -> str:
    """Return what Application Auto Scaling calls a variant."""
    return f"endpoint/{endpoint}/variant/{variant}"


class VariantScaling:
    """The scalable targets of one account and region."""

    def __init__(self, client: Any, alarms: StepAlarms, *, units: Units, target: str) -> None:
        """Use boto3's clients.

        Args:
            client: Of Application Auto Scaling.
            alarms: Call step policies.
            units: What percentages are counted up to.
            target: For messages.
        """
        self._client = client
        self._alarms = alarms
        self._units = units
        self._target = target

    def bounds(self, endpoint: str, variants: Iterable[str]) -> dict[str, Bound]:
        """Return what is known of the variants of one endpoint, by name."""
        names = {resource(endpoint, variant): variant for variant in variants}
        if not names:
            return {}
        found = self._targets(ResourceIds=sorted(names)[:MAX_ASKED])
        policies = [
            policy
            for one in found
            for policy in self._pages(
                "describe_scaling_policies", "ScalingPolicies", ResourceId=one["ResourceId"]
            )
        ]
        thresholds = self._alarms.thresholds(endpoint) if _has_steps(policies) else {}
        return {names[one["ResourceId"]]: _bound(one, policies, thresholds) for one in found}

    def all(self) -> dict[str, dict[str, Bound]]:
        """Return what is known of every variant, by endpoint; two questions for all of them.

        A third is asked where there are step policies.
        """
        found = self._targets()
        policies = self._pages("describe_scaling_policies", "ScalingPolicies") if found else []
        thresholds = self._alarms.thresholds() if _has_steps(policies) else {}
        bounds: dict[str, dict[str, Bound]] = {}
        for one in found:
            endpoint, variant = _names(one["ResourceId"])
            bounds.setdefault(endpoint, {})[variant] = _bound(one, policies, thresholds)
        return bounds

    def follow(self, spec: EndpointSpec) -> None:
        """Make the scalable targets of an endpoint those of *spec*; equal ones are not touched."""
        bounds = self.bounds(spec.name, [variant.name for variant in spec.variants])
        for variant in spec.variants:
            bound = bounds.get(variant.name)
            if variant.scaling.autoscaled:
                self._become(spec.name, variant.name, bound, bound_for(variant, self._units))
            elif bound is not None:
                self.let_go(spec.name, [variant.name])

    def _become(self, endpoint: str, variant: str, bound: Bound | None, wanted: Bound) -> None:
        """Send what differs."""
        what = {**_WHAT, "ResourceId": resource(endpoint, variant)}
        with self._translated(endpoint):
            if bound is None or (bound.least, bound.most) != (wanted.least, wanted.most):
                self._client.register_scalable_target(
                    **what, MinCapacity=wanted.least, MaxCapacity=wanted.most
                )
            if bound is None or _tracked(bound) != _tracked(wanted):
                self._client.put_scaling_policy(
                    **what, **_tracking(wanted, dimensions(endpoint, variant))
                )
        before = bound if bound is not None else Bound(least=0, most=0)
        if wanted.steps and _stepped(before) != _stepped(wanted):
            with self._translated(endpoint):
                made = self._client.put_scaling_policy(**what, **_stepping(wanted))
            assert wanted.metric is not None
            self._alarms.put(
                endpoint,
                variant,
                wanted.metric,
                threshold=wanted.steps[0].at,
                policy=made["PolicyARN"],
            )
        elif not wanted.steps and before.has_steps:
            # The alarm first: it must not call a policy that is gone.
            self._alarms.remove(endpoint, [variant])
            with suppress(NotFound), self._translated(endpoint):
                self._client.delete_scaling_policy(**what, PolicyName=STEPS)

    def let_go(self, endpoint: str, variants: Iterable[str]) -> None:
        """Deregister variants, with their policies and alarms; absent is fine."""
        for variant in variants:
            # The alarm first: what is found registered after a crash is let go of again.
            self._alarms.remove(endpoint, [variant])
            with suppress(NotFound), self._translated(endpoint):
                self._client.deregister_scalable_target(
                    **_WHAT, ResourceId=resource(endpoint, variant)
                )

    def _targets(self, **request: Any) -> list[dict[str, Any]]:
        found = self._pages("describe_scalable_targets", "ScalableTargets", **request)
        return [one for one in found if one["ScalableDimension"] == _WHAT["ScalableDimension"]]

    def _pages(self, verb: str, field: str, **request: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        request = {**_WHAT, **request}
        with self._translated("endpoints"):
            while True:
                page = getattr(self._client, verb)(**request)
                found += page[field]
                if not page.get("NextToken"):
                    return found
                request["NextToken"] = page["NextToken"]

    def _translated(self, endpoint: str) -> Any:
        return translated(f"scaling of {endpoint}", target=self._target)


def _names(resource_id: str) -> tuple[str, str]:
    _, endpoint, _, variant = resource_id.split("/")
    return endpoint, variant


def _has_steps(policies: Iterable[Mapping[str, Any]]) -> bool:
    return any(policy["PolicyName"] == STEPS for policy in policies)


def _bound(
    target: Mapping[str, Any], policies: Sequence[Mapping[str, Any]], thresholds: Thresholds
) -> Bound:
    ours = {p["PolicyName"]: p for p in policies if p["ResourceId"] == target["ResourceId"]}
    tracking = ours.get(POLICY, {}).get("TargetTrackingScalingPolicyConfiguration", {})
    names = _names(target["ResourceId"])
    return Bound(
        least=target["MinCapacity"],
        most=target["MaxCapacity"],
        metric=_metric(tracking, dimensions(*names)),
        target=tracking.get("TargetValue"),
        steps=_steps(ours.get(STEPS), thresholds.get(names)),
        has_steps=STEPS in ours,
        scale_out_cooldown_s=tracking.get("ScaleOutCooldown"),
        scale_in_cooldown_s=tracking.get("ScaleInCooldown"),
    )


def _metric(tracking: Mapping[str, Any], own: Sequence[Mapping[str, str]]) -> ScalingMetric | None:
    """Return what a policy follows; None for what is not one of ours."""
    named = tracking.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    for metric, predefined in PREDEFINED.items():
        if named == predefined:
            return metric
    given = tracking.get("CustomizedMetricSpecification", {})
    for metric in WATCHED.keys() - PREDEFINED.keys():
        wanted = _customized(metric, own)
        if all(_plain(given.get(key)) == _plain(wanted[key]) for key in _TELLING):
            return metric
    return None


_TELLING = ("Namespace", "MetricName", "Dimensions", "Statistic")


def _plain(value: Any) -> Any:
    """Return dimensions as a set: their order means nothing."""
    if isinstance(value, list):
        return {(one["Name"], one["Value"]) for one in value}
    return value


def _steps(
    policy: Mapping[str, Any] | None, alarm: tuple[str, float] | None
) -> tuple[ScalingStep, ...]:
    """Return the steps that are taken: none without an alarm that calls the policy."""
    if policy is None or alarm is None or alarm[0] != policy["PolicyARN"]:
        return ()
    adjustments = policy["StepScalingPolicyConfiguration"].get("StepAdjustments", ())
    steps = [
        ScalingStep(
            at=alarm[1] + one.get("MetricIntervalLowerBound", 0.0), add=one["ScalingAdjustment"]
        )
        for one in adjustments
    ]
    return tuple(sorted(steps, key=lambda step: step.at))


def _tracked(bound: Bound) -> tuple[Any, ...]:
    return bound.metric, bound.target, bound.scale_out_cooldown_s, bound.scale_in_cooldown_s


def _stepped(bound: Bound) -> tuple[Any, ...]:
    return bound.metric, bound.steps, bound.scale_out_cooldown_s


def _customized(metric: ScalingMetric, own: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    watched = WATCHED[metric]
    return {
        "Namespace": watched.namespace,
        "MetricName": watched.name,
        "Dimensions": [dict(one) for one in own],
        "Statistic": watched.statistic,
        "Unit": "Percent",
    }


def _tracking(wanted: Bound, own: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    assert wanted.metric is not None
    named = PREDEFINED.get(wanted.metric)
    specification: dict[str, Any] = (
        {"PredefinedMetricSpecification": {"PredefinedMetricType": named}}
        if named is not None
        else {"CustomizedMetricSpecification": _customized(wanted.metric, own)}
    )
    return {
        "PolicyName": POLICY,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": wanted.target,
            **specification,
            "ScaleInCooldown": wanted.scale_in_cooldown_s,
            "ScaleOutCooldown": wanted.scale_out_cooldown_s,
        },
    }


def _stepping(wanted: Bound) -> dict[str, Any]:
    first = wanted.steps[0].at
    adjustments: list[dict[str, Any]] = [
        {
            "MetricIntervalLowerBound": step.at - first,
            "MetricIntervalUpperBound": after.at - first,
            "ScalingAdjustment": step.add,
        }
        for step, after in pairwise(wanted.steps)
    ]
    last = wanted.steps[-1]
    adjustments.append({"MetricIntervalLowerBound": last.at - first, "ScalingAdjustment": last.add})
    return {
        "PolicyName": STEPS,
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": adjustments,
            "Cooldown": wanted.scale_out_cooldown_s,
            "MetricAggregationType": "Average",
        },
    }
