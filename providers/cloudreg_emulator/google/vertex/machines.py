"""Which machine types there are, and the accelerators that each takes.

Sources: https://cloud.google.com/vertex-ai/docs/predictions/configure-compute,
https://github.com/google/caliban (COMPATIBILITY_TABLE), and for the words
https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3372 and
https://github.com/hashicorp/terraform-provider-google/issues/18931
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cloudreg_emulator.google.vertex import protos
from cloudreg_emulator.google.vertex.refusals import invalid
from cloudreg_emulator.google.vertex.rules import required

__all__ = ["allowed", "check_machine", "exists"]

_TYPES = re.compile(
    r"(?:n1-(?:standard-(?:2|4|8|16|32|64|96)|high(?:mem|cpu)-(?:2|4|8|16|32|64|96))"
    r"|n2-(?:standard|highmem|highcpu)-(?:2|4|8|16|32|48|64|80|96|128)"
    r"|n2d-(?:standard|highmem|highcpu)-(?:2|4|8|16|32|48|64|80|96|128|224)"
    r"|e2-(?:standard|highmem|highcpu)-(?:2|4|8|16|32)"
    r"|c2-standard-(?:4|8|16|30|60)|c2d-(?:standard|highmem|highcpu)-(?:2|4|8|16|32|56|112)"
    r"|c3-(?:standard|highmem|highcpu)-(?:4|8|22|44|88|176))"
)
"""Machines without accelerators of their own."""

_BUILT_IN: Mapping[str, tuple[str, int]] = {
    **{f"g2-standard-{cpus}": ("NVIDIA_L4", 1) for cpus in (4, 8, 12, 16, 32)},
    "g2-standard-24": ("NVIDIA_L4", 2),
    "g2-standard-48": ("NVIDIA_L4", 4),
    "g2-standard-96": ("NVIDIA_L4", 8),
    **{f"a2-highgpu-{count}g": ("NVIDIA_TESLA_A100", count) for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{count}g": ("NVIDIA_A100_80GB", count) for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": ("NVIDIA_H100_80GB", count) for count in (1, 2, 4, 8)},
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
    "a4x-highgpu-4g": ("NVIDIA_GB200", 4),
    "g4-standard-48": ("NVIDIA_RTX_PRO_6000", 1),
    "g4-standard-96": ("NVIDIA_RTX_PRO_6000", 2),
    "g4-standard-192": ("NVIDIA_RTX_PRO_6000", 4),
    "g4-standard-384": ("NVIDIA_RTX_PRO_6000", 8),
}

_ATTACHED: Mapping[str, Mapping[int, int]] = {
    "NVIDIA_TESLA_T4": {1: 16, 2: 32, 4: 96},
    "NVIDIA_TESLA_P4": {1: 16, 2: 32, 4: 96},
    "NVIDIA_TESLA_P100": {1: 16, 2: 32, 4: 32},
    "NVIDIA_TESLA_V100": {1: 8, 2: 16, 4: 32, 8: 96},
}
"""Accelerator to (count: the most virtual CPUs of an n1 machine that takes so many)."""


def exists(machine_type: str) -> bool:
    """Return whether there is such a machine type."""
    return machine_type in _BUILT_IN or _TYPES.fullmatch(machine_type) is not None


def allowed(machine_type: str, accelerator: str) -> list[int]:
    """Return the numbers of *accelerator* that a machine type takes, rising."""
    built_in = _BUILT_IN.get(machine_type)
    if built_in is not None:
        return [built_in[1]] if built_in[0] == accelerator else []
    if not machine_type.startswith("n1-"):
        return []
    cpus = int(machine_type.rpartition("-")[2])
    return [n for n, most in _ATTACHED.get(accelerator, {}).items() if cpus <= most]


def check_machine(spec: Any, field: str) -> None:
    """Refuse a ``MachineSpec`` that no replica can have.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if not spec.machine_type:
        # https://github.com/googleapis/python-aiplatform/issues/773
        raise required(f"{field}.machine_type")
    if not exists(spec.machine_type):
        raise invalid(
            f"{field}.machine_type",
            f'Machine type "{spec.machine_type}" is not supported.',
        )
    accelerator = (
        protos.message("MachineSpec")
        .DESCRIPTOR.fields_by_name["accelerator_type"]
        .enum_type.values_by_number[spec.accelerator_type]
        .name
    )
    count = spec.accelerator_count
    if spec.accelerator_type == 0:
        if count:
            raise invalid(f"{field}.accelerator_type", "Required field is not set.")
        built_in = _BUILT_IN.get(spec.machine_type)
        if built_in is not None:
            raise invalid(
                f"{field}.accelerator_type",
                f'Machine type "{spec.machine_type}" needs accelerator "{built_in[0]}".',
            )
        return
    numbers = allowed(spec.machine_type, accelerator)
    if not numbers:
        raise invalid(
            f"{field}.accelerator_type",
            f'Accelerator "{accelerator}" is not supported for machine type "{spec.machine_type}".',
        )
    if count not in numbers:
        raise invalid(
            f"{field}.accelerator_count",
            f'accelerator count "{count}" is not allowed. The allowed numbers of accelerator '
            f'"{accelerator}" to use with machine type "{spec.machine_type}" are: {numbers}.',
        )
