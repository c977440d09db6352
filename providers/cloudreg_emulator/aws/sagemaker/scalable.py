"""What Application Auto Scaling holds of an endpoint."""

from __future__ import annotations

import sys
from typing import Any

from cloudreg_emulator.aws.sagemaker.place import Place

__all__ = ["forget", "scaled_variants"]

_DIMENSIONS = (
    "sagemaker:variant:DesiredInstanceCount",
    "sagemaker:variant:DesiredProvisionedConcurrency",
)


def _backend(place: Place) -> Any:
    """Return the backend; None where no request has reached the service, and nothing is held."""
    # Not imported for this alone: it brings ECS and EC2, which take two seconds.
    module = sys.modules.get("moto.applicationautoscaling.models")
    return module.applicationautoscaling_backends[place.account][place.region] if module else None


def scaled_variants(place: Place, endpoint: str) -> set[str]:
    """Return the variants of an endpoint that are registered scalable targets."""
    backend = _backend(place)
    targets = backend.targets if backend else {}
    return {
        resource.split("/")[3]
        for dimension in _DIMENSIONS
        for resource in targets.get(dimension, ())
        if resource.startswith(f"endpoint/{endpoint}/variant/")
    }


def forget(place: Place, *, resource: str) -> None:
    """Deregister what a deleted endpoint or component leaves behind, as SageMaker does.

    Args:
        place: Of it.
        resource: Its id, or the beginning of it up to a slash: ``endpoint/NAME/``.

    Source: DeleteEndpoint needs application-autoscaling:DeregisterScalableTarget where a target
    exists, https://github.com/awslabs/stable-diffusion-aws-extension/issues/161
    """
    backend = _backend(place)
    if backend is None:
        return
    for dimension, targets in list(backend.targets.items()):
        for found in list(targets):
            if dimension.startswith("sagemaker:") and f"{found}/".startswith(f"{resource}/"):
                backend.deregister_scalable_target("sagemaker", found, dimension)
