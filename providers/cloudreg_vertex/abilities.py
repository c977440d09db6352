"""What Vertex AI's online endpoints can do, as data with reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudreg.capabilities import Capabilities
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


def capabilities(settings: VertexSettings | None = None) -> Capabilities:
    """Return what a Vertex AI target can do.

    Args:
        settings: The target's; without, what the defaults can.
    """
    preview = settings is not None and settings.preview
    dedicated = settings is None or settings.dedicated
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
        batch=True,
        reasons={
            "max_replicas": "more machines than a project's quota ever starts with",
            "accelerators": "Google has no machine with it",
            "variant_requests": UNADDRESSED,
            "scaling_metrics": "Vertex AI does not count requests in flight",
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


UNADDRESSED = "Vertex AI routes by weights alone, and asks no single variant"

_PREVIEW = "only v1beta1 of the API scales to zero: preview = true in the target's section"
