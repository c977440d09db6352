"""What this machine can do, as data with reasons."""

from __future__ import annotations

from cloudreg.capabilities import Capabilities
from cloudreg.transfer import Egress
from cloudreg.types import MetricSource, Mirroring, ScalingMetric

GPUS = (
    "A10", "A10G", "A100", "A100-40GB", "A100-80GB", "B200", "GB200", "H100", "H200",
    "K80", "L4", "L40S", "P4", "P100", "RTX-PRO-6000", "T4", "T4G", "V100",
)  # fmt: skip
"""Classes that clouds rent out, and that can be emulated here."""

MAX_REPLICAS = 16
MAX_VARIANTS = 10
MAX_FALLBACK = 4
"""As many as a cloud takes, so that its configuration can be tried here."""


SOURCES = {
    "server": MetricSource(
        required=frozenset({"metric"}),
        optional=frozenset({"labels", "statistic"}),
        tables=frozenset({"labels"}),
        choices={"statistic": ("mean", "min", "max", "sum", "p50", "p95", "p99")},
    )
}
"""What the model servers themselves tell, in Prometheus' text, since they were started."""


def capabilities(*, emulate_accelerators: bool) -> Capabilities:
    """Return what a local target can do."""
    reasons = {
        "kinds": "min_replicas = 0 rests here, and every request is answered at once",
        "max_replicas": "replicas share one machine",
        "managed_transfer": "nobody but this machine writes into its folder",
        "scaling_metrics": "requests are counted here, and replicas share one machine's processors",
        "pools": "all endpoints share this one machine anyway",
        "custom_metrics": "the model servers themselves are asked at /metrics",
        "shadow": "cloudreg's own client copies what it sends; a request of somebody else's is not "
        "copied",
        "native_rollouts": "nobody but cloudreg watches an endpoint here",
        "step_scaling": "a replica starts in seconds, so that the target alone is quick enough",
    }
    if not emulate_accelerators:
        reasons["accelerators"] = "it serves on what this machine has"
        reasons["gpu_fallback"] = "it serves on what this machine has, which never runs out"
        reasons["machine_types"] = "this machine is the only one"
    advice = (
        "emulate_accelerators = true in the target's section accepts it and serves on what this "
        "machine has"
    )
    return Capabilities(
        egress=Egress(usd_per_gb=0.0),
        accelerators=frozenset(GPUS) if emulate_accelerators else frozenset(),
        scale_to_zero=True,
        autoscaling=True,
        scaling_metrics=frozenset({ScalingMetric.CONCURRENCY, ScalingMetric.REQUESTS_PER_MINUTE}),
        step_scaling=False,
        gpu_fallback=MAX_FALLBACK if emulate_accelerators else 0,
        traffic_split=MAX_VARIANTS,
        max_replicas=MAX_REPLICAS,
        max_request_bytes=None,
        variant_metrics=True,
        custom_metrics=SOURCES,
        shadow=Mirroring.CLIENT,
        streaming=True,
        batch=True,
        machine_types=emulate_accelerators,
        reasons=reasons,
        nearest={} if emulate_accelerators else dict.fromkeys(GPUS, advice),
    )
