"""What a deployed model may ask for: machines, replicas, and what moves their number.

Source: the documentation of DedicatedResources and AutoscalingMetricSpec in the SDK's protos, of
v1 and of v1beta1.
"""

from __future__ import annotations

from typing import Any

from cloudreg_emulator.google.vertex import protos
from cloudreg_emulator.google.vertex.machines import check_machine
from cloudreg_emulator.google.vertex.refusals import invalid
from cloudreg_emulator.google.vertex.rules import required

__all__ = [
    "CPU",
    "DUTY_CYCLE",
    "REQUESTS",
    "check_resources",
    "check_scaling",
    "completed",
    "idle_s",
]

_ONLINE = "aiplatform.googleapis.com/prediction/online"
CPU = f"{_ONLINE}/cpu/utilization"
DUTY_CYCLE = f"{_ONLINE}/accelerator/duty_cycle"
REQUESTS = f"{_ONLINE}/request_count"

USUAL_TARGET = 60
PERIOD_S = (300, 28_800)
"""Of scale to zero; the documentation of ScaleToZeroSpec."""


def check_resources(resources: Any, field: str, *, version: str) -> None:
    """Refuse ``DedicatedResources`` that cannot be.

    Args:
        resources: As a message of v1; what v1 has no field for is seen by `as_version`.
        field: Where they stand in the request.
        version: Of the API that was asked: only v1beta1 scales to zero.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if not resources.HasField("machine_spec"):
        raise required(f"{field}.machine_spec")
    check_machine(resources.machine_spec, f"{field}.machine_spec")
    check_scaling(resources, field, version=version)


def check_scaling(resources: Any, field: str, *, version: str) -> None:
    """Refuse bounds that no number of replicas satisfies, and metrics that move none.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    _check_replicas(resources, field, version=version)
    _check_metrics(resources, field)


def _check_replicas(resources: Any, field: str, *, version: str) -> None:
    least, most = resources.min_replica_count, resources.max_replica_count
    if version == protos.V1BETA1:
        _check_zero(protos.as_version(resources, version), field)
    if least < 0 or (least == 0 and not _scales_to_zero(resources, version)):
        raise invalid(f"{field}.min_replica_count", "The value must be at least 1.")
    if most and most < max(1, least):
        raise invalid(
            f"{field}.max_replica_count",
            "The value must be greater than or equal to min_replica_count.",
        )
    if not 0 <= resources.required_replica_count <= max(1, least):
        raise invalid(
            f"{field}.required_replica_count",
            "The value must be less than or equal to min_replica_count.",
        )


def _scales_to_zero(resources: Any, version: str) -> bool:
    if version != protos.V1BETA1:
        return False
    return bool(protos.as_version(resources, version).HasField("scale_to_zero_spec"))


def _check_zero(resources: Any, field: str) -> None:
    if not resources.HasField("scale_to_zero_spec"):
        return
    spec = resources.scale_to_zero_spec
    for name in ("min_scaleup_period", "idle_scaledown_period"):
        if spec.HasField(name):
            seconds = getattr(spec, name).ToTimedelta().total_seconds()
            if not PERIOD_S[0] <= seconds <= PERIOD_S[1]:
                raise invalid(
                    f"{field}.scale_to_zero_spec.{name}", "The value is 300 to 28800 seconds."
                )
    most = resources.max_replica_count or 1
    if resources.initial_replica_count and not 1 <= resources.initial_replica_count <= most:
        raise invalid(f"{field}.initial_replica_count", "The value is 1 to max_replica_count.")


def _check_metrics(resources: Any, field: str) -> None:
    names = [one.metric_name for one in resources.autoscaling_metric_specs]
    where = f"{field}.autoscaling_metric_specs"
    for one in resources.autoscaling_metric_specs:
        if one.metric_name not in (CPU, DUTY_CYCLE, REQUESTS):
            raise invalid(f"{where}.metric_name", f"Unsupported metric {one.metric_name!r}.")
        percent = one.metric_name != REQUESTS
        if one.target < 1 or (percent and one.target > 100):
            raise invalid(f"{where}.target", f"Target {one.target} is out of range.")
    if len(set(names)) != len(names):
        raise invalid(where, "A metric must not be listed twice.")
    if DUTY_CYCLE in names and not resources.machine_spec.accelerator_type:
        raise invalid(where, "Duty cycle needs an accelerator.")


def completed(resources: Any) -> None:
    """Fill in what the service fills in: the maximum, and the metrics of who names none."""
    if not resources.max_replica_count:
        resources.max_replica_count = max(1, resources.min_replica_count)
    autoscaled = resources.max_replica_count > resources.min_replica_count
    if autoscaled and not resources.autoscaling_metric_specs:
        resources.autoscaling_metric_specs.add(metric_name=CPU, target=USUAL_TARGET)
        if resources.machine_spec.accelerator_type:
            resources.autoscaling_metric_specs.add(metric_name=DUTY_CYCLE, target=USUAL_TARGET)


def idle_s(resources: Any) -> float | None:
    """Return after how many idle seconds the last replica goes; None where one always stays."""
    beta = protos.as_version(resources, protos.V1BETA1)
    if resources.min_replica_count or not beta.HasField("scale_to_zero_spec"):
        return None
    spec = beta.scale_to_zero_spec
    if not spec.HasField("idle_scaledown_period"):
        return 3600.0
    return float(spec.idle_scaledown_period.ToTimedelta().total_seconds())
