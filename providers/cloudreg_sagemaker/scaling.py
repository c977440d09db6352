"""How many instances follow the load: Application Auto Scaling, from a `Scaling`.

An autoscaled variant is a scalable target with one target-tracking policy on the requests in
flight for each instance, in the high resolution that reacts in seconds rather than minutes.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-policy.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cloudreg.errors import NotFound
from cloudreg.types import EndpointSpec, Variant
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.wire import Bound, cooldown_seconds

POLICY = "cloudreg-concurrency"
METRIC = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
SCALE_OUT_COOLDOWN_S = 60
"""An instance takes minutes to start: to ask for more of them every few seconds helps nobody."""

_WHAT = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
MAX_ASKED = 50
"""Resources that one question can name."""


def resource(endpoint: str, variant: str) -> str:
    """Return what Application Auto Scaling calls a variant."""
    return f"endpoint/{endpoint}/variant/{variant}"


class VariantScaling:
    """The scalable targets of one account and region."""

    def __init__(self, client: Any, *, target: str) -> None:
        """Use boto3's Application Auto Scaling *client*."""
        self._client = client
        self._target = target

    def bounds(self, endpoint: str, variants: Iterable[str]) -> dict[str, Bound]:
        """Return what is known of the variants of one endpoint, by name."""
        names = {resource(endpoint, variant): variant for variant in variants}
        if not names:
            return {}
        found = self._targets(ResourceIds=sorted(names)[:MAX_ASKED])
        bounds = {}
        for one in found:
            policies = self._pages(
                "describe_scaling_policies",
                "ScalingPolicies",
                ResourceId=one["ResourceId"],
            )
            bounds[names[one["ResourceId"]]] = _bound(one, policies)
        return bounds

    def all(self) -> dict[str, dict[str, Bound]]:
        """Return what is known of every variant, by endpoint; two questions for all of them."""
        found = self._targets()
        policies = self._pages("describe_scaling_policies", "ScalingPolicies") if found else []
        bounds: dict[str, dict[str, Bound]] = {}
        for one in found:
            _, endpoint, _, variant = one["ResourceId"].split("/")
            bounds.setdefault(endpoint, {})[variant] = _bound(one, policies)
        return bounds

    def follow(self, spec: EndpointSpec) -> None:
        """Make the scalable targets of an endpoint those of *spec*; equal ones are not touched."""
        bounds = self.bounds(spec.name, [variant.name for variant in spec.variants])
        for variant in spec.variants:
            bound = bounds.get(variant.name)
            if not variant.scaling.autoscaled:
                if bound is not None:
                    self.let_go(spec.name, [variant.name])
                continue
            wanted = _wanted(variant)
            if bound is None or (bound.least, bound.most) != (wanted.least, wanted.most):
                with self._translated(spec.name):
                    self._client.register_scalable_target(
                        **_WHAT,
                        ResourceId=resource(spec.name, variant.name),
                        MinCapacity=wanted.least,
                        MaxCapacity=wanted.most,
                    )
            if bound is None or (bound.concurrency, bound.scale_in_cooldown_s) != (
                wanted.concurrency,
                wanted.scale_in_cooldown_s,
            ):
                with self._translated(spec.name):
                    self._client.put_scaling_policy(**_policy(spec.name, variant))

    def let_go(self, endpoint: str, variants: Iterable[str]) -> None:
        """Deregister variants, with their policies; absent is fine."""
        for variant in variants:
            try:
                with self._translated(endpoint):
                    self._client.deregister_scalable_target(
                        **_WHAT, ResourceId=resource(endpoint, variant)
                    )
            except NotFound:
                continue

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


def _bound(target: Mapping[str, Any], policies: Iterable[Mapping[str, Any]]) -> Bound:
    ours: Mapping[str, Any] = next(
        (
            policy["TargetTrackingScalingPolicyConfiguration"]
            for policy in policies
            if policy["ResourceId"] == target["ResourceId"] and policy["PolicyName"] == POLICY
        ),
        {},
    )
    return Bound(
        least=target["MinCapacity"],
        most=target["MaxCapacity"],
        concurrency=ours.get("TargetValue"),
        scale_in_cooldown_s=ours.get("ScaleInCooldown"),
    )


def _wanted(variant: Variant) -> Bound:
    return Bound(
        least=variant.scaling.min_replicas,
        most=variant.scaling.max_replicas,
        concurrency=variant.scaling.concurrency,
        scale_in_cooldown_s=cooldown_seconds(variant.scaling),
    )


def _policy(endpoint: str, variant: Variant) -> dict[str, Any]:
    return {
        **_WHAT,
        "PolicyName": POLICY,
        "ResourceId": resource(endpoint, variant.name),
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": variant.scaling.concurrency,
            "PredefinedMetricSpecification": {"PredefinedMetricType": METRIC},
            "ScaleInCooldown": cooldown_seconds(variant.scaling),
            "ScaleOutCooldown": SCALE_OUT_COOLDOWN_S,
        },
    }
