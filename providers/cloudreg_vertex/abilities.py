"""What Vertex AI's online endpoints can do, as data with reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudreg.capabilities import Capabilities
from cloudreg.transfer import Egress
from cloudreg.types import MetricSource
from cloudreg_vertex.machines import CLASSES, NEAREST
from cloudreg_vertex.requests import METRICS

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings

MAX_DEPLOYED = 10
"""Models behind one endpoint: https://cloud.google.com/vertex-ai/docs/quotas"""

MAX_REPLICAS = 100
SHARED_BYTES = 1_500_000
DEDICATED_BYTES = 10_000_000
"""Largest request: https://cloud.google.com/vertex-ai/docs/predictions/choose-endpoint-type"""


SOURCES = {
    "cloud_monitoring": MetricSource(
        required=frozenset({"metric"}),
        optional=frozenset({"filter", "aligner"}),
        choices={
            "aligner": (
                "ALIGN_MEAN",
                "ALIGN_MIN",
                "ALIGN_MAX",
                "ALIGN_SUM",
                "ALIGN_DELTA",
                "ALIGN_RATE",
                "ALIGN_PERCENTILE_50",
                "ALIGN_PERCENTILE_95",
                "ALIGN_PERCENTILE_99",
            )
        },
    )
}
"""https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies#Aligner"""


def capabilities(settings: VertexSettings | None = None) -> Capabilities:
    """Return what a Vertex AI target can do.

    Args:
        settings: The target's; without, what the defaults can.
    """
    preview = settings is not None and settings.preview
    dedicated = settings is None or settings.dedicated
    reads_s3 = settings is not None and settings.transfer_role is not None
    return Capabilities(
        accelerators=CLASSES,
        scale_to_zero=preview,
        autoscaling=True,
        scaling_metrics=frozenset(METRICS),
        cooldowns=False,
        streaming=True,
        traffic_split=MAX_DEPLOYED,
        max_replicas=MAX_REPLICAS,
        max_request_bytes=DEDICATED_BYTES if dedicated else SHARED_BYTES,
        variant_requests=False,
        variant_metrics=True,
        custom_metrics=SOURCES,
        batch=True,
        egress=EGRESS,
        managed_transfer=frozenset({"gs", "s3"} if reads_s3 else {"gs"}),
        reasons={
            **({} if reads_s3 else {"managed_transfer": NO_ROLE}),
            "max_replicas": "more machines than a project's quota ever starts with",
            "accelerators": "Google has no machine with it",
            "variant_requests": UNADDRESSED,
            "scaling_metrics": "Vertex AI does not count requests in flight",
            "custom_metrics": "time series of the project; a model server has no address of its "
            "own to be asked at",
            "shadow": "Vertex AI copies no requests, and a deployed model without traffic cannot "
            "be asked",
            "native_rollouts": "Vertex AI moves traffic at once, and watches nothing",
            "pools": "a deployed model has machines of its own here",
            "cooldowns": "Vertex AI chooses them itself",
            "kinds": "Vertex AI has online endpoints alone",
            "step_scaling": "Vertex AI's autoscaling has a target and no steps",
            "gpu_fallback": "a deployed model has one machine type",
            **({} if preview else {"scale_to_zero": _PREVIEW}),
            "max_request_bytes": "a dedicated endpoint takes 10 MB"
            if dedicated
            else "a shared endpoint takes 1.5 MB; dedicated = true takes 10 MB",
        },
        nearest=NEAREST,
    )


EGRESS = Egress(
    usd_per_gb=0.12,
    as_of="2026-11-25",
    source="https://cloud.google.com/storage/pricing-examples",
    note="to the Americas and EMEA, before free tiers",
)
"""The day is that of the look: the page bears none."""

NO_ROLE = (
    "Storage Transfer Service reads S3 by a role of AWS's: "
    'transfer_role = "arn:aws:iam::ACCOUNT:role/NAME" in the target\'s section'
)
"""https://cloud.google.com/storage-transfer/docs/source-amazon-s3"""

UNADDRESSED = "Vertex AI routes by weights alone, and asks no single variant"

_PREVIEW = "only v1beta1 of the API scales to zero: preview = true in the target's section"
