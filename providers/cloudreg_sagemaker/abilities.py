"""What SageMaker's real-time endpoints can do, as data with reasons."""

from __future__ import annotations

from cloudreg.capabilities import Capabilities
from cloudreg_sagemaker.machines import CLASSES, NEAREST

MAX_VARIANTS = 10
"""https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html"""

MAX_REPLICAS = 100
MAX_REQUEST_BYTES = 6_291_456
"""Of InvokeEndpoint's Body, in botocore's service model."""


def capabilities() -> Capabilities:
    """Return what a SageMaker target can do."""
    return Capabilities(
        accelerators=CLASSES,
        scale_to_zero=False,
        autoscaling=True,
        traffic_split=MAX_VARIANTS,
        max_replicas=MAX_REPLICAS,
        max_request_bytes=MAX_REQUEST_BYTES,
        variant_metrics=True,
        reasons={
            "scale_to_zero": "a real-time variant keeps at least one instance",
            "max_replicas": "more instances than an account's quota ever starts with",
            "max_request_bytes": "InvokeEndpoint takes 6 MiB",
            "accelerators": "SageMaker has no instance type with it",
        },
        nearest=NEAREST,
    )
