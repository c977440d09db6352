"""How many instances follow the load: Application Auto Scaling, from a `Scaling`.

An autoscaled variant is a scalable target with one target-tracking policy, and a step policy
with its alarm where steps are asked for. Requests in flight are tracked in the high resolution
that reacts in seconds rather than minutes.

Behind a queue its length is tracked, for each instance. From no instance another step policy
brings the first one back, called by an alarm on requests that wait for nobody.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-policy.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cloudreg.errors import NotFound
from cloudreg.types import EndpointKind, EndpointSpec, ScalingMetric, ScalingStep
from cloudreg_sagemaker.alarms import (
    BACKLOG,
    STRANDED,
    WAKE_PREFIX,
    WATCHED,
    StepAlarms,
    Watched,
)
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.wire import Bound, Units, bound_for

POLICY = "cloudreg-target"
STEPS = "cloudreg-steps"
WAKE = "cloudreg-wake"

PREDEFINED = {
    ScalingMetric.CONCURRENCY: "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    ScalingMetric.REQUESTS_PER_MINUTE: "SageMakerVariantInvocationsPerInstance",
}
"""Metrics that Application Auto Scaling knows by a name of its own; others are spelled out."""

_WHAT = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
WAKE_COOLDOWN_S = 300
"""As long as an instance takes to come: the alarm calls all the while, and one is enough."""

MAX_ASKED = 50
"""Resources that one question can name."""

Thresholds = Mapping[tuple[str, str], tuple[str, float]]
"""Policy and threshold of alarms, by endpoint and variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The alarms that call step policies.

    Attributes:
        steps: Those that add instances.
        wakes: Those that bring the first one back.
    """

    steps: Thresholds
    wakes: Thresholds


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
        calls = self._called(policies, endpoint)
        return {names[one["ResourceId"]]: _bound(one, policies, calls) for one in found}

    def all(self) -> dict[str, dict[str, Bound]]:
        """Return what is known of every variant, by endpoint; two questions for all of them.

        One more is asked for each kind of step policies that there are.
        """
        found = self._targets()
        policies = self._pages("describe_scaling_policies", "ScalingPolicies") if found else []
        calls = self._called(policies)
        bounds: dict[str, dict[str, Bound]] = {}
        for one in found:
            endpoint, variant = _names(one["ResourceId"])
            bounds.setdefault(endpoint, {})[variant] = _bound(one, policies, calls)
        return bounds

    def _called(self, policies: Iterable[Mapping[str, Any]], endpoint: str = "") -> Calls:
        """Return which step policies are called by an alarm, and from which value on."""
        names = {policy["PolicyName"] for policy in policies}
        return Calls(
            steps=self._alarms.thresholds(endpoint) if STEPS in names else {},
            wakes=(self._alarms.thresholds(endpoint, prefix=WAKE_PREFIX) if WAKE in names else {}),
        )

    def follow(self, spec: EndpointSpec) -> None:
        """Make the scalable targets of an endpoint those of *spec*; equal ones are not touched."""
        bounds = self.bounds(spec.name, [variant.name for variant in spec.variants])
        queued = spec.kind is EndpointKind.ASYNCHRONOUS
        for variant in spec.variants:
            bound = bounds.get(variant.name)
            if variant.scaling.autoscaled:
                wanted = bound_for(variant, self._units, queued=queued)
                self._become(spec.name, variant.name, bound, wanted)
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
                self._client.put_scaling_policy(**what, **_tracking(wanted, endpoint, variant))
        before = bound if bound is not None else Bound(least=0, most=0)
        self._step(endpoint, variant, before, wanted)
        self._wake(endpoint, variant, before, wanted)

    def _step(self, endpoint: str, variant: str, before: Bound, wanted: Bound) -> None:
        what = {**_WHAT, "ResourceId": resource(endpoint, variant)}
        if wanted.steps and _stepped(before) != _stepped(wanted):
            with self._translated(endpoint):
                made = self._client.put_scaling_policy(**what, **_stepping(wanted))
            self._alarms.put(
                endpoint,
                variant,
                _watched(wanted),
                threshold=wanted.steps[0].at,
                policy=made["PolicyARN"],
            )
        elif not wanted.steps and before.has_steps:
            # The alarm first: it must not call a policy that is gone.
            self._alarms.remove(endpoint, [variant])
            with suppress(NotFound), self._translated(endpoint):
                self._client.delete_scaling_policy(**what, PolicyName=STEPS)

    def _wake(self, endpoint: str, variant: str, before: Bound, wanted: Bound) -> None:
        what = {**_WHAT, "ResourceId": resource(endpoint, variant)}
        if wanted.wakes and not before.wakes:
            with self._translated(endpoint):
                made = self._client.put_scaling_policy(**what, **_WAKING)
            self._alarms.put(
                endpoint,
                variant,
                STRANDED,
                threshold=1.0,
                policy=made["PolicyARN"],
                prefix=WAKE_PREFIX,
            )
        elif not wanted.wakes and before.has_wake:
            self._alarms.remove(endpoint, [variant], prefix=WAKE_PREFIX)
            with suppress(NotFound), self._translated(endpoint):
                self._client.delete_scaling_policy(**what, PolicyName=WAKE)

    def let_go(self, endpoint: str, variants: Iterable[str]) -> None:
        """Deregister variants, with their policies and alarms; absent is fine."""
        for variant in variants:
            # The alarm first: what is found registered after a crash is let go of again.
            self._alarms.remove(endpoint, [variant])
            self._alarms.remove(endpoint, [variant], prefix=WAKE_PREFIX)
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


def _bound(target: Mapping[str, Any], policies: Sequence[Mapping[str, Any]], calls: Calls) -> Bound:
    ours = {p["PolicyName"]: p for p in policies if p["ResourceId"] == target["ResourceId"]}
    tracking = ours.get(POLICY, {}).get("TargetTrackingScalingPolicyConfiguration", {})
    names = _names(target["ResourceId"])
    metric, queued = _followed(tracking, *names)
    waking = ours.get(WAKE)
    return Bound(
        least=target["MinCapacity"],
        most=target["MaxCapacity"],
        metric=metric,
        target=tracking.get("TargetValue"),
        steps=_steps(ours.get(STEPS), calls.steps.get(names)),
        has_steps=STEPS in ours,
        queued=queued,
        wakes=waking is not None and calls.wakes.get(names, ("", 0.0))[0] == waking["PolicyARN"],
        has_wake=waking is not None,
        scale_out_cooldown_s=tracking.get("ScaleOutCooldown"),
        scale_in_cooldown_s=tracking.get("ScaleInCooldown"),
    )


def _followed(
    tracking: Mapping[str, Any], endpoint: str, variant: str
) -> tuple[ScalingMetric | None, bool]:
    """Return what a policy follows, and whether in a queue; None for what is not one of ours."""
    named = tracking.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    for metric, predefined in PREDEFINED.items():
        if named == predefined:
            return metric, False
    given = tracking.get("CustomizedMetricSpecification", {})
    known = [
        (ScalingMetric.CONCURRENCY, True, BACKLOG),
        *((m, False, watched) for m, watched in WATCHED.items() if m not in PREDEFINED),
    ]
    for metric, queued, watched in known:
        wanted = _customized(watched, endpoint, variant)
        if all(_plain(given.get(key)) == _plain(wanted[key]) for key in _TELLING):
            return metric, queued
    return None, False


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
    return (
        bound.metric,
        bound.queued,
        bound.target,
        bound.scale_out_cooldown_s,
        bound.scale_in_cooldown_s,
    )


def _stepped(bound: Bound) -> tuple[Any, ...]:
    return bound.metric, bound.queued, bound.steps, bound.scale_out_cooldown_s


def _watched(wanted: Bound) -> Watched:
    """Return the metric of CloudWatch that is followed."""
    assert wanted.metric is not None
    return BACKLOG if wanted.queued else WATCHED[wanted.metric]


def _customized(watched: Watched, endpoint: str, variant: str) -> dict[str, Any]:
    return {
        "Namespace": watched.namespace,
        "MetricName": watched.name,
        "Dimensions": watched.dimensions(endpoint, variant),
        "Statistic": watched.statistic,
        **({"Unit": watched.unit} if watched.unit else {}),
    }


def _tracking(wanted: Bound, endpoint: str, variant: str) -> dict[str, Any]:
    watched = _watched(wanted)
    named = PREDEFINED.get(wanted.metric) if wanted.metric and not wanted.queued else None
    specification: dict[str, Any] = (
        {"PredefinedMetricSpecification": {"PredefinedMetricType": named}}
        if named is not None
        else {"CustomizedMetricSpecification": _customized(watched, endpoint, variant)}
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


_WAKING: Mapping[str, Any] = {
    "PolicyName": WAKE,
    "PolicyType": "StepScaling",
    "StepScalingPolicyConfiguration": {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        "MetricAggregationType": "Maximum",
        "Cooldown": WAKE_COOLDOWN_S,
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
