"""What this machine can do, as data with reasons."""

from __future__ import annotations

from cloudreg.capabilities import Capabilities

GPUS = (
    "A10", "A10G", "A100", "A100-40GB", "A100-80GB", "B200", "GB200", "H100", "H200",
    "K80", "L4", "L40S", "P4", "P100", "RTX-PRO-6000", "T4", "T4G", "V100",
)  # fmt: skip
"""Classes that clouds rent out, and that can be emulated here."""

MAX_REPLICAS = 16
MAX_VARIANTS = 10


def capabilities(*, emulate_accelerators: bool) -> Capabilities:
    """Return what a local target can do."""
    reasons = {
        "max_replicas": "replicas share one machine",
    }
    if not emulate_accelerators:
        reasons["accelerators"] = "it serves on the CPU"
        reasons["machine_types"] = "this machine is the only one"
    advice = "emulate_accelerators = true in the target's section accepts it and serves on the CPU"
    return Capabilities(
        accelerators=frozenset(GPUS) if emulate_accelerators else frozenset(),
        scale_to_zero=True,
        autoscaling=True,
        traffic_split=MAX_VARIANTS,
        max_replicas=MAX_REPLICAS,
        max_request_bytes=None,
        variant_metrics=True,
        machine_types=emulate_accelerators,
        reasons=reasons,
        nearest={} if emulate_accelerators else dict.fromkeys(GPUS, advice),
    )
