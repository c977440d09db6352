"""What SageMaker's endpoints can do, as data with reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudreg.capabilities import Capabilities
from cloudreg.transfer import Egress
from cloudreg.types import EndpointKind, MetricSource, Mirroring, NativeRollouts, ScalingMetric
from cloudreg_sagemaker.machines import CLASSES, NEAREST

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import SageMakerSettings

MAX_VARIANTS = 10
"""https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html"""

MAX_FALLBACK = 4
"""Beside the first choice: InstancePools has five entries, in botocore's service model."""

MAX_REPLICAS = 100
MAX_REQUEST_BYTES = 6_291_456
"""Of InvokeEndpoint's Body, in botocore's service model."""


SERVERLESS_MIB = tuple(range(1024, 6145, 1024))
SERVERLESS_CONCURRENCY = 200
"""ProductionVariantServerlessConfig in botocore's service model, MemorySizeInMB: "in 1 GB
increments"; MaxConcurrency: 200 at most."""


QUEUE_EXPIRES_S = (60, 21_600)
"""RequestTTLSeconds in botocore's service model."""


NO_SERVICE = (
    "AWS DataSync reads other clouds' stores by an access key alone, and cloudreg hands out no keys"
)
"""https://docs.aws.amazon.com/datasync/latest/userguide/API_CreateLocationObjectStorage.html"""


SOURCES = {
    "cloudwatch": MetricSource(
        required=frozenset({"namespace", "metric"}),
        optional=frozenset({"dimensions", "statistic"}),
        tables=frozenset({"dimensions"}),
        choices={
            "statistic": (
                "Average",
                "Minimum",
                "Maximum",
                "Sum",
                "SampleCount",
                "p50",
                "p90",
                "p95",
                "p99",
            )
        },
    )
}
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricStat.html"""

NATIVE = NativeRollouts(
    canary_percent=(1, 50),
    linear_percent=(10, 50),
    bake_s=(0, 3600),
    sources=frozenset(SOURCES),
)
"""TrafficRoutingConfig: CanarySize and LinearStepSize in its documentation, WaitIntervalInSeconds
in botocore's service model."""


EGRESS = {
    "us-east-1": Egress(
        usd_per_gb=0.09,
        as_of="2026-03-15",
        source="https://billspike.io/blog/aws-data-transfer-costs-explained",
        note="the first 10 TB of a month from us-east-1",
    ),
}
"""Regions of which a price is known. Amazon's own page draws its table with a script:
https://aws.amazon.com/ec2/pricing/on-demand/#Data_Transfer"""


def capabilities(settings: SageMakerSettings | None = None) -> Capabilities:
    """Return what a SageMaker target can do.

    Args:
        settings: The target's section; without, what a plain one could do.
    """
    kinds = set(EndpointKind)
    why = _against_serverless(settings) if settings is not None else ""
    if why:
        kinds.remove(EndpointKind.SERVERLESS)
    return Capabilities(
        accelerators=CLASSES,
        scale_to_zero=True,
        autoscaling=True,
        scaling_metrics=frozenset(ScalingMetric),
        step_scaling=True,
        gpu_fallback=MAX_FALLBACK,
        traffic_split=MAX_VARIANTS,
        split_at_zero=False,
        rest_in_place=False,
        pools=True,
        max_replicas=MAX_REPLICAS,
        max_request_bytes=MAX_REQUEST_BYTES,
        variant_metrics=True,
        custom_metrics=SOURCES,
        native_rollouts=NATIVE,
        shadow=Mirroring.NATIVE,
        streaming=True,
        batch=True,
        kinds=frozenset(kinds),
        serverless_memory_mib=() if why else SERVERLESS_MIB,
        serverless_concurrency=0 if why else SERVERLESS_CONCURRENCY,
        queue_scaling=True,
        queue_metrics=frozenset({ScalingMetric.CONCURRENCY}),
        queue_expires_s=QUEUE_EXPIRES_S,
        egress=egress(settings),
        reasons={
            "managed_transfer": NO_SERVICE,
            **({"kinds": why} if why else {}),
            "serverless_memory_mib": why or "SageMaker sells it by the GiB, up to six",
            "serverless_concurrency": why or "more is not served by one serverless endpoint",
            "queue_metrics": "the backlog of each instance: SageMaker counts no calls behind a "
            "queue, and a busy device does not tell who waits",
            "queue_expires_s": "InvokeEndpointAsync keeps a request for that long",
            "custom_metrics": "CloudWatch; a container is asked for predictions and nothing else",
            "shadow": "one production variant and one shadow variant",
            "native_rollouts": "deployment guardrails: a blue/green update with alarms",
            "scale_to_zero": "as an inference component, with one variant; a request that finds "
            "none is refused and wakes it",
            "split_at_zero": "traffic cannot be split between inference components, which callers "
            "ask by name, and a queue wakes no variant while another has an instance",
            "pools": "as inference components: one variant, and no move between pools",
            "rest_in_place": "SageMaker cannot change a live endpoint from instances with a model "
            "to inference components, or back",
            "max_replicas": "more instances than an account's quota ever starts with",
            "max_request_bytes": "InvokeEndpoint takes 6 MiB",
            "accelerators": "SageMaker has no instance type with it",
        },
        nearest=NEAREST,
    )


def egress(settings: SageMakerSettings | None) -> Egress | None:
    """Return what it costs that bytes leave the bucket for the internet; None where unknown."""
    return EGRESS.get(settings.region or "") if settings is not None else None


def _against_serverless(settings: SageMakerSettings) -> str:
    """Return why a target with that section has no serverless endpoints; nothing where it has.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html ("Feature
    exclusions").
    """
    for key in ("vpc", "network_isolation", "data_capture"):
        if getattr(settings, key):
            return f"the target's section has {key}, which serverless endpoints have not"
    return ""
