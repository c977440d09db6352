"""Which instance type carries which GPUs, and the driver that an image's CUDA needs.

``tests/sagemaker/test_machines.py`` checks every type against botocore's own list.

Source: https://aws.amazon.com/sagemaker/ai/pricing/ (instance details) and EC2's
DescribeInstanceTypes for counts and memory, read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cloudreg.errors import Unsupported
from cloudreg.types import Resources, ScalingMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An instance type.

    Attributes:
        name: As SageMaker calls it.
        accelerator: GPU class; None for CPU.
        count: GPUs.
        gpu_memory_mib: Usable memory of each GPU; vendors print more.
        cpus: Virtual CPUs.
        memory_gib: Main memory.
    """

    name: str
    accelerator: str | None = None
    count: int = 0
    gpu_memory_mib: int = 0
    cpus: int
    memory_gib: int


def _gpu(name: str, gpu: str, count: int, /, *, mib: int, cpus: int, gib: int) -> Machine:
    return Machine(
        name=f"ml.{name}",
        accelerator=gpu,
        count=count,
        gpu_memory_mib=mib,
        cpus=cpus,
        memory_gib=gib,
    )


DEFAULT_CPU = Machine(name="ml.m5.xlarge", cpus=4, memory_gib=16)

GPUS = (
    _gpu("g4dn.xlarge", "T4", 1, mib=16384, cpus=4, gib=16),
    _gpu("g4dn.12xlarge", "T4", 4, mib=16384, cpus=48, gib=192),
    _gpu("g5.xlarge", "A10G", 1, mib=22888, cpus=4, gib=16),
    _gpu("g5.12xlarge", "A10G", 4, mib=22888, cpus=48, gib=192),
    _gpu("g5.48xlarge", "A10G", 8, mib=22888, cpus=192, gib=768),
    _gpu("g6.xlarge", "L4", 1, mib=22888, cpus=4, gib=16),
    _gpu("g6.12xlarge", "L4", 4, mib=22888, cpus=48, gib=192),
    _gpu("g6.48xlarge", "L4", 8, mib=22888, cpus=192, gib=768),
    _gpu("g6e.xlarge", "L40S", 1, mib=45776, cpus=4, gib=32),
    _gpu("g6e.12xlarge", "L40S", 4, mib=45776, cpus=48, gib=384),
    _gpu("g6e.48xlarge", "L40S", 8, mib=45776, cpus=192, gib=1536),
    _gpu("g7e.2xlarge", "RTX-PRO-6000", 1, mib=98304, cpus=8, gib=64),
    _gpu("g7e.12xlarge", "RTX-PRO-6000", 2, mib=98304, cpus=48, gib=512),
    _gpu("g7e.24xlarge", "RTX-PRO-6000", 4, mib=98304, cpus=96, gib=1024),
    _gpu("g7e.48xlarge", "RTX-PRO-6000", 8, mib=98304, cpus=192, gib=2048),
    _gpu("p3.2xlarge", "V100", 1, mib=16384, cpus=8, gib=61),
    _gpu("p3.8xlarge", "V100", 4, mib=16384, cpus=32, gib=244),
    _gpu("p3.16xlarge", "V100", 8, mib=16384, cpus=64, gib=488),
    _gpu("p4d.24xlarge", "A100", 8, mib=40960, cpus=96, gib=1152),
    _gpu("p4d.24xlarge", "A100-40GB", 8, mib=40960, cpus=96, gib=1152),
    _gpu("p4de.24xlarge", "A100-80GB", 8, mib=81920, cpus=96, gib=1152),
    _gpu("p5.4xlarge", "H100", 1, mib=81920, cpus=16, gib=256),
    _gpu("p5.48xlarge", "H100", 8, mib=81920, cpus=192, gib=2048),
    _gpu("p5en.48xlarge", "H200", 8, mib=144384, cpus=192, gib=2048),
    _gpu("p6-b200.48xlarge", "B200", 8, mib=183359, cpus=192, gib=2048),
)
"""The smallest type of each class and count; `SageMakerSettings.machines` names others."""

CLASSES = frozenset(machine.accelerator for machine in GPUS if machine.accelerator)

NEAREST = {
    "A10": 'accelerator = "A10G" is the nearest (22 GB usable, the same generation)',
    "GB200": 'accelerator = "B200" is the nearest (the same GPU beside another CPU)',
    "K80": 'accelerator = "T4" is the nearest that is still offered (16 GB)',
    "P4": 'accelerator = "T4" is the nearest (16 GB, twice the P4)',
    "P100": 'accelerator = "V100" is the nearest (16 GB)',
    "T4G": 'accelerator = "T4" is the nearest (the same memory, beside an x86 CPU)',
}
"""GPU class that is not offered, to what comes nearest."""

AMIS = (
    (130, "al2023-ami-sagemaker-inference-gpu-4-1"),
    (124, "al2-ami-sagemaker-inference-gpu-3-1"),
)
"""CUDA version, times ten, from which an image needs that driver; older ones run on the default.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html
(InferenceAmiVersion: gpu-3-1 has driver 550 and CUDA 12.4, gpu-4-1 has driver 580 and CUDA 13.0).
"""

# ``pytorch-inference:2.6.0-gpu-py312-cu124-ubuntu22.04``, ``server-cuda12.4``, ``-cuda-13.0``
_CUDA = re.compile(r"(?<![a-z0-9])cu(?:da)?-?(\d{2})\.?(\d)(?!\d)")


def machine_for(resources: Resources, overrides: Mapping[str, str], *, target: str) -> str:
    """Return the instance type of a replica.

    A machine has as many GPUs as were asked for, or the next larger number that exists: A100s
    come eight to a machine.

    Args:
        resources: What a replica needs; its own ``machine_type`` beats everything.
        overrides: Class and count to instance type; the setting ``machines``.
        target: For messages.

    Raises:
        Unsupported: No machine has that many.
    """
    if resources.machine_type:
        return resources.machine_type
    gpu, count = resources.accelerator, resources.accelerator_count
    if gpu is None:
        return overrides.get("cpu", DEFAULT_CPU.name)
    named = overrides.get(f"{gpu}:{count}") or (overrides.get(gpu) if count == 1 else None)
    if named:
        return named
    of_class = [machine for machine in GPUS if machine.accelerator == gpu]
    fitting = [machine for machine in of_class if machine.count >= count]
    if not fitting:
        most = max((machine.count for machine in of_class), default=0)
        raise Unsupported(
            f"no machine with {count} {gpu} on this provider ({most} at most)",
            target=target,
            hint=f'gpu = "{gpu}:{most}"' if most else NEAREST.get(gpu),
        )
    return min(fitting, key=lambda machine: machine.count).name


def machines_for(
    resources: Resources, overrides: Mapping[str, str], *, target: str
) -> tuple[str, ...]:
    """Return the instance types of a replica: the first choice, and what stands in for it.

    Raises:
        Unsupported: No machine has that many, or two classes come on one machine.
    """
    first = replace(resources, fallback=())
    names = [machine_for(first, overrides, target=target)]
    for gpu in resources.fallback:
        name = machine_for(replace(first, accelerator=gpu), overrides, target=target)
        if name in names:
            raise Unsupported(
                f"gpu_fallback: {gpu} comes on {name}, which is tried already",
                target=target,
                hint=f"leave {gpu} out of gpu_fallback",
            )
        names.append(name)
    return tuple(names)


def cpus_of(name: str) -> int:
    """Return how many virtual CPUs an instance type has; its size tells, but for two."""
    if name in _ODD:
        return _ODD[name]
    size = name.rpartition(".")[2]
    if size in _SMALL:
        return _SMALL[size]
    many = re.fullmatch(r"(\d+)xlarge", size)
    return 4 * int(many[1]) if many else _SMALL["xlarge"]


_ODD = {"ml.t2.medium": 2, "ml.c4.8xlarge": 36}
_SMALL = {"medium": 1, "large": 2, "xlarge": 4}


def gpus_of(name: str, *, otherwise: int) -> int:
    """Return how many GPUs an instance type has; *otherwise* where it is not listed."""
    return next((machine.count for machine in GPUS if machine.name == name), otherwise)


def has_gpus(name: str) -> bool:
    """Return whether an instance type is listed with GPUs."""
    return gpus_of(name, otherwise=0) > 0


def units_of(
    resources: Resources, metric: ScalingMetric, overrides: Mapping[str, str], *, target: str
) -> int:
    """Return what a percentage is counted up to, in hundreds: SageMaker adds devices up.

    Four GPUs that are all busy are 400 percent.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html

    Raises:
        Unsupported: Machines that stand in for each other have different numbers of them.
    """
    if not metric.is_percent:
        return 1
    names = machines_for(resources, overrides, target=target)
    if metric is ScalingMetric.CPU_UTILIZATION:
        found = {name: cpus_of(name) for name in names}
    else:
        found = {name: gpus_of(name, otherwise=resources.accelerator_count) for name in names}
    if len(set(found.values())) > 1:
        shown = ", ".join(f"{count} on {name}" for name, count in found.items())
        raise Unsupported(
            f"{metric} means something else on each machine of gpu_fallback: {shown}",
            target=target,
            hint="concurrency or requests_per_minute instead",
        )
    return next(iter(found.values()))


def ami_for(image: str, *, accelerator: str | None) -> str | None:
    """Return the driver that a GPU image needs; None where SageMaker's default does."""
    if accelerator is None:
        return None
    found = _CUDA.search(image.rpartition("/")[2])
    if found is None:
        return None
    cuda = int(found[1] + found[2])
    return next((name for least, name in AMIS if cuda >= least), None)
