"""What Vertex AI reports of endpoints, as nouns; pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cloudreg.names import sha256
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    Scaling,
    Variant,
    VariantStatus,
)
from cloudreg_vertex import requests as outgoing


def holders(seen: Any) -> dict[str, Any]:
    """Return the deployed model of each variant that the endpoint's labels name."""
    return outgoing.assigned(outgoing.frames_in(seen.labels), seen.deployed_models)


def effective(spec: EndpointSpec, seen: Any) -> EndpointSpec:
    """Return *spec* with the weights and bounds that are in force, whoever changed them.

    Args:
        spec: What was asked for.
        seen: An ``Endpoint`` message.
    """
    there = holders(seen)
    if set(there) != {v.name for v in spec.variants}:
        return spec  # while it is made, some of its models are missing
    split = dict(seen.traffic_split)
    weights = {name: int(split.get(one.id, 0)) for name, one in there.items()}
    if sum(weights.values()) != 100:
        weights = {v.name: v.weight for v in spec.variants}
    return replace(
        spec,
        variants=tuple(
            replace(
                v,
                weight=weights[v.name],
                scaling=_scaling(v.scaling, there[v.name].dedicated_resources),
            )
            for v in spec.variants
        ),
    )


def _scaling(asked: Scaling, resources: Any) -> Scaling:
    least = int(resources.min_replica_count)
    most = max(int(resources.max_replica_count), least, 1)
    metric, goal = asked.metric, asked.target
    for one in resources.autoscaling_metric_specs if most > least else ():
        known = _FOLLOWED.get(one.metric_name)
        if known is not None and (known, one.target) != (metric, round(goal)):
            metric, goal = known, float(one.target)
    return replace(asked, min_replicas=least, max_replicas=most, metric=metric, target=goal)


_FOLLOWED = {name: metric for metric, name in outgoing.METRICS.items()}


def endpoint_from(
    seen: Any,
    spec: EndpointSpec | None,
    *,
    name: str,
    url: str,
    busy: bool,
    digests: Mapping[str, str] | None = None,
) -> Endpoint:
    """Return what callers are told of an endpoint.

    Args:
        seen: An ``Endpoint`` message.
        spec: What was asked for with the labels in force; None where those are not ours.
        name: The endpoint's.
        url: Where requests go.
        busy: Whether an operation is under way.
        digests: What each variant's model server was given, where that was looked up.
    """
    message = ""
    if spec is None:
        spec, message = _strange(seen, name), "its labels are not those that cloudreg wrote"
    current = effective(spec, seen) if not message else spec
    there = holders(seen)
    variants = tuple(
        _variant(v, there[v.name], seen, digests) for v in current.variants if v.name in there
    )
    status, why = _status(current, seen, there, variants, busy=busy)
    if message and status is EndpointStatus.READY:
        status = EndpointStatus.DEGRADED
    return Endpoint(
        spec=current,
        status=status,
        variants=variants,
        url=url,
        message=message or why,
        since=_iso(seen.update_time),
        native_id=seen.name,
    )


def _variant(
    asked: Variant, deployed: Any, seen: Any, digests: Mapping[str, str] | None
) -> VariantStatus:
    ready = int(deployed.status.available_replica_count)
    return VariantStatus(
        name=asked.name,
        digest=asked.digest if digests is None else digests.get(asked.name, ""),
        ready_replicas=ready,
        desired_replicas=max(ready, int(deployed.dedicated_resources.min_replica_count)),
        weight=int(dict(seen.traffic_split).get(deployed.id, 0)),
    )


def _status(
    spec: EndpointSpec,
    seen: Any,
    there: Mapping[str, Any],
    variants: tuple[VariantStatus, ...],
    *,
    busy: bool,
) -> tuple[EndpointStatus, str]:
    if busy:
        serves = bool(seen.traffic_split)
        return (EndpointStatus.UPDATING if serves else EndpointStatus.CREATING), ""
    missing = [v.name for v in spec.variants if v.name not in there]
    if not seen.deployed_models:
        return EndpointStatus.FAILED, "nothing is deployed to it"
    if missing:
        return EndpointStatus.DEGRADED, f"{', '.join(missing)}: not deployed"
    stray = _stray(seen, {one.id for one in there.values()})
    if stray:
        return EndpointStatus.DEGRADED, stray
    empty = [
        f"{v.name}: no replica of {v.desired_replicas} is ready"
        for v in variants
        if v.ready_replicas < min(1, v.desired_replicas)
    ]
    if empty:
        return EndpointStatus.DEGRADED, "; ".join(empty)
    return EndpointStatus.READY, ""


def _stray(seen: Any, known: set[str]) -> str:
    """Return what is said of deployed models that belong to no variant; nothing without them."""
    foreign = {i: p for i, p in dict(seen.traffic_split).items() if i not in known and p}
    if foreign:
        shares = ", ".join(f"{percent} % to deployed model {i}" for i, percent in foreign.items())
        return f"somebody sends {shares}"
    idle = [one.display_name or one.id for one in seen.deployed_models if one.id not in known]
    # Machines that nobody asked for: a process that woke up too late may have taken them.
    return f"deployed and needed by nothing: {', '.join(idle)}" if idle else ""


def _strange(seen: Any, name: str) -> EndpointSpec:
    """Return a spec for what somebody else made of an endpoint: equal to none that is asked."""
    return EndpointSpec(
        name=name,
        stage="unknown",
        variants=(
            Variant(name="unknown", model="unknown", number=1, digest=sha256(seen.etag.encode())),
        ),
    )


def _iso(moment: datetime.datetime) -> str:
    text = moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
