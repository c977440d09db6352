"""What GPUs are: data of their makers, and how one compares with another."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

DATA = Path(__file__).with_name("gpus.toml")

SAME_SPEED = 0.1
"""Two memories whose bandwidths differ by less than this share are equally fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One class of GPUs.

    Attributes:
        name: The class, as configurations say it.
        memory_gib: Of one GPU, as its maker prints it.
        capability: Compute capability: major and minor.
        bandwidth_gb_s: Of its memory.
        source: Where the maker says so.
        aliases: Other names of the same class.
    """

    name: str
    memory_gib: float
    capability: tuple[int, int]
    bandwidth_gb_s: float
    source: str
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say what it has, such as ``24 GB, 300 GB/s, compute capability 8.9``."""
        major, minor = self.capability
        return (
            f"{self.memory_gib:g} GB, {self.bandwidth_gb_s:g} GB/s, "
            f"compute capability {major}.{minor}"
        )

    def distance(self, other: Gpu) -> float:
        """Return how far it is to another: doublings of memory and bandwidth, and generations.

        Less memory counts twice: what fills this one does not fit the other.
        """
        doublings = math.log2(other.memory_gib / self.memory_gib)
        return (
            (doublings if doublings > 0 else -2 * doublings)
            + abs(math.log2(self.bandwidth_gb_s / other.bandwidth_gb_s))
            + abs(self.capability[0] - other.capability[0]) / 4
        )


class Grade(StrEnum):
    """How a GPU compares with the one that was asked for."""

    EXACT = "exact"
    """It is what was asked for."""

    EQUIVALENT = "equivalent"
    """Another class with the same memory, as fast, with the same compute capability."""

    UPGRADE = "upgrade"
    """In nothing less, and more in something."""

    DOWNGRADE = "downgrade"
    """Less memory, a slower one, or a lower compute capability."""


@cache
def gpus() -> Mapping[str, Gpu]:
    """Return all classes by name, aliases too."""
    found: dict[str, Gpu] = {}
    for row in tomllib.loads(DATA.read_text(encoding="utf-8"))["gpu"]:
        gpu = Gpu(
            name=row["class"],
            memory_gib=row["memory_gib"],
            capability=parse_capability(row["compute_capability"]),
            bandwidth_gb_s=row["bandwidth_gb_s"],
            source=row["source"],
            aliases=tuple(row.get("aliases", ())),
        )
        found |= dict.fromkeys((gpu.name, *gpu.aliases), gpu)
    return found


def parse_capability(text: str) -> tuple[int, int]:
    """Return major and minor of ``8.9``.

    Raises:
        ValueError: It is none.
    """
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(text) <= 5):
        raise ValueError(f"{text!r} is no compute capability, such as 8.0")
    return int(major), int(minor)


def compared(wanted: Gpu, found: Gpu) -> tuple[Grade, str]:
    """Return how *found* compares with *wanted*, and in what it differs."""
    if found.name == wanted.name:
        return Grade.EXACT, ""
    slack = wanted.bandwidth_gb_s * SAME_SPEED
    speed = found.bandwidth_gb_s - wanted.bandwidth_gb_s
    differences = (
        (
            found.memory_gib - wanted.memory_gib,
            f"{found.memory_gib:g} GB instead of {wanted.memory_gib:g}",
        ),
        (
            speed if abs(speed) > slack else 0.0,
            f"{found.bandwidth_gb_s / wanted.bandwidth_gb_s:.2g} times the memory bandwidth "
            f"({found.bandwidth_gb_s:g} GB/s instead of {wanted.bandwidth_gb_s:g})",
        ),
        (
            (found.capability > wanted.capability) - (found.capability < wanted.capability),
            f"compute capability {_dotted(found)} instead of {_dotted(wanted)}",
        ),
    )
    worse = [text for more, text in differences if more < 0]
    better = [text for more, text in differences if more > 0]
    same = [] if differences[0][0] else [f"the same memory ({found.memory_gib:g} GB)"]
    reason = "; ".join([*same, *worse, *better])
    if worse:
        return Grade.DOWNGRADE, reason
    return (Grade.UPGRADE if better else Grade.EQUIVALENT), reason


def _dotted(gpu: Gpu) -> str:
    return ".".join(map(str, gpu.capability))
