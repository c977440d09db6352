"""Which machine type carries which GPUs on Google, and in what numbers.

``tests/vertex/test_machines.py`` checks every accelerator against the SDK's own enum.

Sources, read 2026-11: https://cloud.google.com/vertex-ai/docs/predictions/configure-compute and
https://cloud.google.com/compute/docs/gpus for families and counts. n1 machines are joined with T4,
P4, P100 or V100 in the numbers of `ATTACHED`; all others carry exactly the GPUs of their name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.types import Resources

DEFAULT_CPU = "n1-standard-4"

ACCELERATORS: Mapping[str, str] = {
    "T4": "NVIDIA_TESLA_T4",
    "P4": "NVIDIA_TESLA_P4",
    "P100": "NVIDIA_TESLA_P100",
    "V100": "NVIDIA_TESLA_V100",
    "L4": "NVIDIA_L4",
    "A100": "NVIDIA_TESLA_A100",
    "A100-40GB": "NVIDIA_TESLA_A100",
    "A100-80GB": "NVIDIA_A100_80GB",
    "H100": "NVIDIA_H100_80GB",
    "H100-MEGA": "NVIDIA_H100_MEGA_80GB",
    "H200": "NVIDIA_H200_141GB",
    "B200": "NVIDIA_B200",
    "GB200": "NVIDIA_GB200",
    "RTX-PRO-6000": "NVIDIA_RTX_PRO_6000",
}
"""GPU class to the name that Vertex AI has for it."""

CLASSES = frozenset(ACCELERATORS)

NEAREST = {
    "A10G": 'gpu = "L4" is the nearest (g2 machines: 24 GB as well, about half the memory '
    "bandwidth: 300 GB/s against 600)",
    "A10": 'gpu = "L4" is the nearest (g2 machines: 24 GB as well, about half the memory '
    "bandwidth)",
    "L40S": 'gpu = "RTX-PRO-6000" is the nearest (g4 machines: 96 GB instead of 48), or '
    'gpu = "A100" (40 GB)',
    "T4G": 'gpu = "T4" is the nearest (the same memory, beside an x86 CPU)',
    "K80": 'gpu = "T4" is the nearest that is still offered (16 GB)',
}
"""GPU class that Google does not offer, to what comes nearest and how it differs."""

BUILT_IN: Mapping[str, tuple[tuple[int, str], ...]] = {
    "NVIDIA_L4": (
        (1, "g2-standard-8"),
        (2, "g2-standard-24"),
        (4, "g2-standard-48"),
        (8, "g2-standard-96"),
    ),
    "NVIDIA_TESLA_A100": (
        (1, "a2-highgpu-1g"),
        (2, "a2-highgpu-2g"),
        (4, "a2-highgpu-4g"),
        (8, "a2-highgpu-8g"),
        (16, "a2-megagpu-16g"),
    ),
    "NVIDIA_A100_80GB": (
        (1, "a2-ultragpu-1g"),
        (2, "a2-ultragpu-2g"),
        (4, "a2-ultragpu-4g"),
        (8, "a2-ultragpu-8g"),
    ),
    "NVIDIA_H100_80GB": (
        (1, "a3-highgpu-1g"),
        (2, "a3-highgpu-2g"),
        (4, "a3-highgpu-4g"),
        (8, "a3-highgpu-8g"),
    ),
    "NVIDIA_H100_MEGA_80GB": ((8, "a3-megagpu-8g"),),
    "NVIDIA_H200_141GB": ((8, "a3-ultragpu-8g"),),
    "NVIDIA_B200": ((8, "a4-highgpu-8g"),),
    "NVIDIA_GB200": ((4, "a4x-highgpu-4g"),),
    "NVIDIA_RTX_PRO_6000": (
        (1, "g4-standard-48"),
        (2, "g4-standard-96"),
        (4, "g4-standard-192"),
        (8, "g4-standard-384"),
    ),
}
"""Accelerator to (count, the machine type that is chosen for it)."""

_CARRIED: Mapping[str, tuple[str, int]] = {
    **{f"g2-standard-{cpus}": ("NVIDIA_L4", 1) for cpus in (4, 8, 12, 16, 32)},
    **{
        name: (accelerator, count)
        for accelerator, machines in BUILT_IN.items()
        for count, name in machines
    },
}
"""Machine type to the GPUs that are built into it."""

ATTACHED: Mapping[str, Mapping[int, int]] = {
    "NVIDIA_TESLA_T4": {1: 16, 2: 32, 4: 96},
    "NVIDIA_TESLA_P4": {1: 16, 2: 32, 4: 96},
    "NVIDIA_TESLA_P100": {1: 16, 2: 32, 4: 32},
    "NVIDIA_TESLA_V100": {1: 8, 2: 16, 4: 32, 8: 96},
}
"""Accelerator to (count: the most virtual CPUs of an n1 machine that it can be joined with)."""

_FOR_ATTACHED = {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32", 8: "n1-standard-64"}
_N1 = re.compile(r"n1-(?:standard|highmem|highcpu)-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one replica runs on.

    Attributes:
        name: The machine type.
        accelerator: As Vertex AI calls it; None for CPU.
        count: GPUs.
    """

    name: str
    accelerator: str | None = None
    count: int = 0


def machine_for(
    resources: Resources, overrides: Mapping[str, str], *, target: str, check: bool = True
) -> Machine:
    """Return the machine of a replica.

    Args:
        resources: What a replica needs; its own ``machine_type`` beats everything.
        overrides: Class and count to machine type; the setting ``machines``.
        target: For messages.
        check: Refuse combinations that the table does not know; Google changes what it offers.

    Raises:
        Unsupported: No machine has that GPU, or not in that number.
        InvalidRequest: The machine that was named cannot carry it.
    """
    gpu, count = resources.accelerator, resources.accelerator_count
    if gpu is None:
        machine = Machine(name=resources.machine_type or overrides.get("cpu", DEFAULT_CPU))
    else:
        accelerator = ACCELERATORS.get(gpu)
        if accelerator is None:
            raise Unsupported(f"no {gpu} on this provider", target=target, hint=NEAREST.get(gpu))
        named = resources.machine_type or overrides.get(f"{gpu}:{count}")
        named = named or (overrides.get(gpu) if count == 1 else None)
        name = named or _smallest(gpu, accelerator, count, target=target)
        machine = Machine(name=name, accelerator=accelerator, count=count)
    problem = _problem(machine) if check else None
    if problem is not None:
        raise InvalidRequest(
            f"{problem[0]} (machine_check = false in the target's section leaves it to Google)",
            target=target,
            hint=problem[1],
        )
    return machine


def _smallest(gpu: str, accelerator: str, count: int, *, target: str) -> str:
    """Return the machine type that carries just as many."""
    offered = dict(BUILT_IN.get(accelerator, ()))
    if accelerator in ATTACHED:
        offered = {n: _FOR_ATTACHED[n] for n in ATTACHED[accelerator]}
    if count not in offered:
        counts = ", ".join(str(n) for n in offered)
        larger = [n for n in offered if n > count]
        raise Unsupported(
            f"no machine with {count} {gpu} on this provider; there are machines with {counts}",
            target=target,
            hint=f'gpu = "{gpu}:{larger[0] if larger else max(offered)}"',
        )
    return offered[count]


def _problem(machine: Machine) -> tuple[str, str] | None:
    """Return why Vertex AI refuses a machine, and what it takes; None where it does not."""
    carried = _CARRIED.get(machine.name)
    n1 = _N1.fullmatch(machine.name)
    if machine.accelerator is not None and n1 is not None:
        return _not_attached(machine, machine.accelerator, cpus=int(n1[1]))
    if carried is None:
        if machine.accelerator is None:
            return None
        asked = f"{machine.count} {machine.accelerator}"
        return f"machine type {machine.name} is not known to take {asked}", "leave machine_type out"
    if carried == (machine.accelerator, machine.count):
        return None
    accelerator, count = carried
    asked = f"{machine.count} {machine.accelerator}" if machine.accelerator else "none"
    return (
        f"machine type {machine.name} carries {count} {accelerator}, and {asked} was asked for",
        f'gpu = "{class_of(accelerator)}:{count}"',
    )


def _not_attached(machine: Machine, accelerator: str, *, cpus: int) -> tuple[str, str] | None:
    """Return why an n1 machine cannot be joined with that many GPUs; None where it can."""
    limits = ATTACHED.get(accelerator)
    if limits is None:
        return (
            f"machine type {machine.name} takes no {accelerator}",
            f'machine_type = "{BUILT_IN[accelerator][0][1]}"',
        )
    if cpus <= limits.get(machine.count, 0):
        return None
    fitting = [str(count) for count, most in limits.items() if cpus <= most]
    return (
        f"machine type {machine.name} does not take {machine.count} {accelerator}",
        f"it takes {' or '.join(fitting)}" if fitting else "a smaller machine_type",
    )


def class_of(accelerator: str) -> str:
    """Return the GPU class of one of Vertex AI's names."""
    return next(name for name, theirs in ACCELERATORS.items() if theirs == accelerator)
