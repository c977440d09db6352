"""What of a live endpoint no request of SageMaker changes without losing predictions; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudreg.errors import AlreadyExists, Unsupported
from cloudreg.types import EndpointSpec
from cloudreg_sagemaker.components import host_of, is_component, is_host

Seen = Mapping[str, Any]


def check_place(spec: EndpointSpec, there: str, seen: Seen, *, target: str) -> None:
    """Refuse a move between pools, and between instances with a model and components.

    Args:
        spec: What is asked for.
        there: The endpoint of SageMaker that carries it now.
        seen: DescribeEndpoint of that.
        target: For messages.

    Raises:
        Unsupported: It would have to be removed first.
    """
    if there != host_of(spec):
        raise _refusal(
            spec,
            f"it cannot be moved from {there} to {host_of(spec)} while it lives",
            target=target,
        )
    if is_component(spec) != is_host(seen):
        raise _refusal(
            spec,
            "SageMaker cannot change a live endpoint to scale to zero, or back: it would have to "
            "be removed first",
            target=target,
        )


def check_frame(spec: EndpointSpec, seen: Seen, *, wanted: str, target: str) -> None:
    """Refuse other machines for an endpoint of its own with a component.

    Args:
        spec: What is asked for.
        seen: DescribeEndpoint of what carries it.
        wanted: The configuration that it would need.
        target: For messages.

    Raises:
        Unsupported: The configuration is another one.
    """
    if wanted != seen["EndpointConfigName"]:
        raise _refusal(
            spec,
            "the machines, keys and timeouts of an endpoint that scales to zero cannot be changed "
            "while it lives",
            target=target,
        )


def check_pool(spec: EndpointSpec, seen: Seen, *, is_ours: bool, wanted: str, target: str) -> None:
    """Refuse a pool whose machines are not those that are asked for.

    Args:
        spec: What is asked for.
        seen: DescribeEndpoint of the pool.
        is_ours: Whether cloudreg made it.
        wanted: The configuration that it would need.
        target: For messages.

    Raises:
        AlreadyExists: Somebody else has an endpoint of the pool's name.
        Unsupported: The configuration is another one.
    """
    if not is_ours:
        raise AlreadyExists(
            f"endpoint {spec.name}: {spec.pool} exists, and cloudreg did not make it",
            target=target,
            hint="another name for the pool",
        )
    if seen["EndpointStatus"] != "Deleting" and seen["EndpointConfigName"] != wanted:
        raise Unsupported(
            f"endpoint {spec.name}: the machines of {spec.pool} are others than it asks for: all "
            "of a pool have the same gpu, machine_type and kind of image",
            target=target,
            hint=f"gpu and machine_type as of the others in {spec.pool}, or another pool",
        )


def _refusal(spec: EndpointSpec, why: str, *, target: str) -> Unsupported:
    return Unsupported(
        f"endpoint {spec.name}: {why}",
        target=target,
        hint=f"another endpoint beside it; then take {spec.name} down",
    )
