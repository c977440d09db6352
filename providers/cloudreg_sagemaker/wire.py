"""What SageMaker reports of endpoints, as nouns; pure."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cloudreg.names import sha256
from cloudreg.types import (
    Endpoint,
    EndpointKind,
    EndpointSpec,
    EndpointStatus,
    Scaling,
    ScalingMetric,
    ScalingStep,
    Variant,
    VariantStatus,
)

BUSY = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
FAILED = "Failed"

_STATUS = {
    "Creating": EndpointStatus.CREATING,
    "Updating": EndpointStatus.UPDATING,
    "SystemUpdating": EndpointStatus.UPDATING,
    "RollingBack": EndpointStatus.UPDATING,
    "InService": EndpointStatus.READY,
    "Deleting": EndpointStatus.DELETING,
    "Failed": EndpointStatus.FAILED,
    "OutOfService": EndpointStatus.DEGRADED,
    "UpdateRollbackFailed": EndpointStatus.DEGRADED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What Application Auto Scaling knows of a variant.

    Attributes:
        least: Its MinCapacity.
        most: Its MaxCapacity.
        metric: What the policy follows; None where there is no policy of ours, or one that
            follows something else.
        target: Target value of the policy: percentages of all devices of a machine are added up.
        steps: Of the step policy, likewise; none where no alarm calls it.
        has_steps: Whether there is a step policy.
        queued: Whether the policies follow the queue of an asynchronous endpoint.
        wakes: Whether an alarm and a policy bring it back from zero.
        has_wake: Whether there is a policy for that.
        scale_out_cooldown_s: Of the policy.
        scale_in_cooldown_s: Of the policy.
    """

    least: int
    most: int
    metric: ScalingMetric | None = None
    target: float | None = None
    steps: tuple[ScalingStep, ...] = ()
    has_steps: bool = False
    queued: bool = False
    wakes: bool = False
    has_wake: bool = False
    scale_out_cooldown_s: int | None = None
    scale_in_cooldown_s: int | None = None


SCALE_OUT_COOLDOWN_S = 60
"""An instance takes minutes to start: to ask for more of them every few seconds helps nobody."""

Units = Callable[[Variant, ScalingMetric], int]
"""What a percentage of a variant is counted up to, in hundreds."""


def everything(seen: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return all variants that run: those that answer, and the shadow."""
    return [*seen.get("ProductionVariants", ()), *seen.get("ShadowProductionVariants", ())]


def shares_of(seen: Mapping[str, Any]) -> dict[str, int]:
    """Return the percent of the traffic of each variant; they sum to 100."""
    weights = {
        v["VariantName"]: float(v.get("DesiredWeight", v.get("CurrentWeight", 0.0)))
        for v in seen.get("ProductionVariants", ())
    }
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    exact = {name: 100 * weight / total for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    # What rounding down left goes to those that lost most by it.
    by_loss = sorted(exact, key=lambda name: shares[name] - exact[name])
    for name in by_loss[: 100 - sum(shares.values())]:
        shares[name] += 1
    return shares


def effective(
    spec: EndpointSpec, seen: Mapping[str, Any], bounds: Mapping[str, Bound], units: Units
) -> EndpointSpec:
    """Return *spec* with the weights and bounds that are in force, whoever changed them.

    Args:
        spec: What was asked for with the configuration that is in force.
        seen: DescribeEndpoint.
        bounds: What Application Auto Scaling knows, by variant.
        units: What percentages are counted up to.
    """
    running = {v["VariantName"]: v for v in seen.get("ProductionVariants", ())}
    if set(running) != {v.name for v in spec.variants}:
        return spec  # while it is made, SageMaker may show no variants
    shares = shares_of(seen)
    if sum(shares.values()) != 100:
        shares = {v.name: v.weight for v in spec.variants}
    queued = spec.kind is EndpointKind.ASYNCHRONOUS
    # What follows requests in flight follows nothing where they are queued, and the reverse.
    bounds = {
        name: bound if bound.queued == queued else replace(bound, metric=None)
        for name, bound in bounds.items()
    }
    return replace(
        spec,
        variants=tuple(
            replace(
                v,
                weight=shares[v.name],
                scaling=scaling_from(
                    v, running[v.name].get("DesiredInstanceCount"), bounds.get(v.name), units
                ),
            )
            for v in spec.variants
        ),
    )


def scaling_from(variant: Variant, count: int | None, bound: Bound | None, units: Units) -> Scaling:
    """Return the scaling that is in force.

    Args:
        variant: As it was asked for.
        count: Replicas that there should be now.
        bound: What Application Auto Scaling knows.
        units: What percentages are counted up to.
    """
    asked = variant.scaling
    if bound is None or bound.metric is None or bound.target is None:
        # Bounds without a policy move nothing.
        if not asked.autoscaled and count in (None, asked.min_replicas):
            return asked
        count = max(1, count or 1)
        return replace(asked, min_replicas=count, max_replicas=count)
    each = units(variant, bound.metric)
    shown = Scaling(
        min_replicas=bound.least,
        max_replicas=max(bound.most, 1),
        metric=bound.metric,
        target=_each(bound.target, each),
        steps=tuple(replace(step, at=_each(step.at, each)) for step in bound.steps),
        scale_out_cooldown_s=bound.scale_out_cooldown_s,
        scale_in_cooldown_s=float(bound.scale_in_cooldown_s or 0),
    )
    if (shown.scale_out_cooldown_s, shown.scale_in_cooldown_s) == cooldowns(asked):
        # In the fractions that were asked for, of which AWS keeps whole seconds.
        shown = replace(
            shown,
            scale_out_cooldown_s=asked.scale_out_cooldown_s,
            scale_in_cooldown_s=asked.scale_in_cooldown_s,
        )
    return shown


def _each(value: float, units: int) -> float:
    return round(value / units, 6)


def bound_for(variant: Variant, units: Units, *, queued: bool = False) -> Bound:
    """Return what Application Auto Scaling should know of a variant.

    Args:
        variant: As it is asked for.
        units: What percentages are counted up to.
        queued: Whether its endpoint is asynchronous.
    """
    scaling = variant.scaling
    each = units(variant, scaling.metric)
    out_s, in_s = cooldowns(scaling)
    return Bound(
        least=scaling.min_replicas,
        most=scaling.max_replicas,
        metric=scaling.metric,
        target=scaling.target * each,
        steps=tuple(replace(step, at=step.at * each) for step in scaling.steps),
        queued=queued,
        wakes=queued and scaling.min_replicas == 0,
        scale_out_cooldown_s=out_s,
        scale_in_cooldown_s=in_s,
    )


def cooldowns(scaling: Scaling) -> tuple[int, int]:
    """Return the cooldowns, out and in, in the whole seconds that AWS knows."""
    out_s = scaling.scale_out_cooldown_s
    return (
        SCALE_OUT_COOLDOWN_S if out_s is None else round(out_s),
        round(scaling.scale_in_cooldown_s),
    )


def endpoint_from(
    seen: Mapping[str, Any],
    spec: EndpointSpec | None,
    *,
    name: str,
    region: str,
    bounds: Mapping[str, Bound],
    units: Units,
    digests: Mapping[str, str] | None = None,
) -> Endpoint:
    """Return what callers are told of an endpoint.

    Args:
        seen: DescribeEndpoint.
        spec: What was asked for with the configuration in force; None where that is not ours.
        name: The endpoint's.
        region: For the address.
        bounds: What Application Auto Scaling knows, by variant.
        units: What percentages are counted up to.
        digests: What each variant's model is, where that was looked up.
    """
    status = _STATUS.get(seen["EndpointStatus"], EndpointStatus.DEGRADED)
    message = str(seen.get("FailureReason", ""))
    if spec is None:
        config = seen.get("EndpointConfigName", "")
        message = f"its configuration {config} was not made by cloudreg"
        if status is EndpointStatus.READY:
            status = EndpointStatus.DEGRADED
        spec, digests = _strange(seen, name), {}
    # While it changes, its scalable targets may be gone for a moment.
    current = spec if seen["EndpointStatus"] in BUSY else effective(spec, seen, bounds, units)
    if digests is None:
        digests = {v.name: v.digest for v in current.served}
    variants = _variants(seen, current, digests)
    trouble = _trouble(current, variants, bounds)
    if status is EndpointStatus.READY and trouble:
        status, message = EndpointStatus.DEGRADED, "; ".join(trouble)
    path = "async-invocations" if current.kind is EndpointKind.ASYNCHRONOUS else "invocations"
    return Endpoint(
        spec=current,
        status=status,
        variants=variants,
        url=f"https://runtime.sagemaker.{region}.amazonaws.com/endpoints/{name}/{path}",
        message=message,
        since=iso(seen["LastModifiedTime"]),
        native_id=seen["EndpointArn"],
    )


def _trouble(
    spec: EndpointSpec, variants: tuple[VariantStatus, ...], bounds: Mapping[str, Bound]
) -> list[str]:
    """Return why an endpoint in service does not answer as it should; nothing where it does."""
    if spec.kind is EndpointKind.SERVERLESS:
        return []  # it has no instances that anybody counts
    queued = spec.kind is EndpointKind.ASYNCHRONOUS
    may_rest = {v.name for v in spec.variants if queued and v.scaling.min_replicas == 0}
    missing = [
        f"{v.name}: {v.ready_replicas} of {v.desired_replicas} instances are in service"
        for v in variants
        if v.ready_replicas < 1 and (v.desired_replicas or v.name not in may_rest)
    ]
    asleep = [
        f"{name}: nothing brings it back from zero"
        for name in sorted(may_rest)
        if name in bounds and not bounds[name].wakes
    ]
    return [*missing, *asleep]


def _variants(
    seen: Mapping[str, Any], spec: EndpointSpec, digests: Mapping[str, str]
) -> tuple[VariantStatus, ...]:
    shares = shares_of(seen)
    place = {v.name: index for index, v in enumerate(spec.served)}
    summaries = sorted(everything(seen), key=lambda v: place.get(v["VariantName"], len(place)))
    return tuple(
        VariantStatus(
            name=v["VariantName"],
            digest=digests.get(v["VariantName"], ""),
            ready_replicas=v.get("CurrentInstanceCount", 0),
            desired_replicas=v.get("DesiredInstanceCount", 0),
            # A shadow has no share: it gets copies.
            weight=shares.get(v["VariantName"], 0),
        )
        for v in summaries
    )


def _strange(seen: Mapping[str, Any], name: str) -> EndpointSpec:
    """Return a spec for what somebody else made of an endpoint: equal to none that is asked."""
    config = str(seen.get("EndpointConfigName", ""))
    return EndpointSpec(
        name=name,
        stage="unknown",
        variants=(
            Variant(name="unknown", model="unknown", number=1, digest=sha256(config.encode())),
        ),
    )


def iso(moment: datetime.datetime) -> str:
    """Return a moment in UTC, to the millisecond."""
    text = moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
