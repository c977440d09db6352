"""What one replica needs, how many there are, and what makes their number move."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from cloudreg.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one replica needs.

    Attributes:
        accelerator: GPU class such as ``T4`` or ``L4``; None for CPU.
        accelerator_count: GPUs a replica; 0 without an accelerator.
        machine_type: The target's own name, where the user insists; else chosen by the catalog.
        fallback: GPU classes to take in this order where the first has no capacity.
        memory_mib: Main memory of a shared machine that a replica takes.
        cpus: Processors of a shared machine that a replica takes.
    """

    accelerator: str | None = None
    accelerator_count: int = 0
    machine_type: str | None = None
    fallback: tuple[str, ...] = ()
    memory_mib: int | None = None
    cpus: float | None = None

    _GPU: ClassVar[re.Pattern[str]] = re.compile(r"([A-Z][A-Z0-9_-]{1,19})(?::([1-9][0-9]?))?")

    def __post_init__(self) -> None:
        """Refuse a count without an accelerator and the reverse, and a fallback from nothing."""
        if (self.accelerator is None) != (self.accelerator_count == 0):
            raise InvalidRequest("accelerator and accelerator_count go together")
        if self.accelerator_count < 0:
            raise InvalidRequest(f"accelerator_count {self.accelerator_count} is negative")
        if self.fallback:
            self._check_fallback()
        if self.memory_mib is not None and self.memory_mib < 1:
            raise InvalidRequest(f"memory_mib {self.memory_mib} is not 1 or more")
        if self.cpus is not None and not (self.cpus > 0 and math.isfinite(self.cpus)):
            raise InvalidRequest(f"cpus {self.cpus} is not a number above 0")

    def _check_fallback(self) -> None:
        if self.accelerator is None:
            raise InvalidRequest(
                "gpu_fallback: there is no GPU to fall back from",
                hint=f'gpu = "{self.fallback[0]}"',
            )
        if self.machine_type is not None:
            raise InvalidRequest(
                f"gpu_fallback: machine_type {self.machine_type!r} names the one machine there is",
                hint="leave machine_type out",
            )
        for gpu in self.fallback:
            match = self._GPU.fullmatch(gpu)
            if match is None or match[2] is not None:
                raise InvalidRequest(
                    f"gpu_fallback {gpu!r}: a class alone, such as L4; the count is that of gpu"
                )
        every = [self.accelerator, *self.fallback]
        twice = next((gpu for gpu in every if every.count(gpu) > 1), None)
        if twice is not None:
            raise InvalidRequest(f"gpu_fallback: {twice} is listed twice, gpu included")

    @classmethod
    def parse(
        cls, gpu: str | None, *, machine_type: str | None = None, fallback: tuple[str, ...] = ()
    ) -> Resources:
        """Read ``T4``, ``T4:2`` or None.

        Raises:
            InvalidRequest: Anything else.
        """
        if gpu is None:
            return cls(machine_type=machine_type, fallback=fallback)
        match = cls._GPU.fullmatch(gpu)
        if not match:
            raise InvalidRequest(f"gpu {gpu!r}: a class and a count, such as L4 or T4:2")
        return cls(
            accelerator=match[1],
            accelerator_count=int(match[2] or 1),
            machine_type=machine_type,
            fallback=fallback,
        )

    def __str__(self) -> str:
        """Render as ``T4:2``, or ``cpu``."""
        text = f"{self.accelerator}:{self.accelerator_count}" if self.accelerator else "cpu"
        text = " or ".join([text, *self.fallback])
        return f"{text} ({self.machine_type})" if self.machine_type else text


class ScalingMetric(StrEnum):
    """What the number of replicas follows; each is the mean of the replicas."""

    CONCURRENCY = "concurrency"
    """Requests in flight; behind a queue, those that wait too."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    """Requests that came in the last minute."""

    GPU_UTILIZATION = "gpu_utilization"
    """Percent that a GPU is busy."""

    CPU_UTILIZATION = "cpu_utilization"
    """Percent that a CPU is busy."""

    @property
    def is_percent(self) -> bool:
        """Whether it ends at 100."""
        return self in (ScalingMetric.GPU_UTILIZATION, ScalingMetric.CPU_UTILIZATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingStep:
    """What is done at once where the metric is far above its target.

    Attributes:
        at: Value of the metric from which it is done, up to the next step's.
        add: Replicas that come.
    """

    at: float
    add: int


MAX_STEPS = 20
"""More thresholds than anybody reads; Application Auto Scaling takes as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many replicas, and what makes their number move.

    Attributes:
        min_replicas: Lower bound; 0 asks for scale-to-zero.
        max_replicas: Upper bound, at least ``min_replicas`` and 1.
        metric: What the number of replicas follows where ``max_replicas`` exceeds
            ``min_replicas``.
        target: Desired value of the metric per replica; a percentage for utilization.
        steps: Beside the target: how many replicas come at once where the metric is so far above
            it; rising. Without any the target alone decides.
        scale_out_cooldown_s: Seconds after replicas came before more may; None leaves it to the
            provider.
        scale_in_cooldown_s: Seconds of idleness before a replica goes.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    metric: ScalingMetric = ScalingMetric.CONCURRENCY
    target: float = 4.0
    steps: tuple[ScalingStep, ...] = ()
    scale_out_cooldown_s: float | None = None
    scale_in_cooldown_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse bounds that no number satisfies."""
        if self.min_replicas < 0 or self.max_replicas < max(1, self.min_replicas):
            raise InvalidRequest(
                f"replicas {self.min_replicas} to {self.max_replicas}: "
                "the minimum is 0 or more, the maximum at least 1 and the minimum"
            )
        if not (self.target > 0 and math.isfinite(self.target)):
            raise InvalidRequest(f"{self.metric} {self.target} is not a number above 0")
        if self.metric.is_percent and not 1 <= self.target <= 100:
            raise InvalidRequest(f"{self.metric} {self.target:g} is not 1 to 100 percent")
        for name in ("scale_out_cooldown_s", "scale_in_cooldown_s"):
            cooldown_s = getattr(self, name)
            if cooldown_s is not None and not (cooldown_s >= 0 and math.isfinite(cooldown_s)):
                raise InvalidRequest(f"{name} {cooldown_s} is not a number from 0")
        self._check_steps()

    def _check_steps(self) -> None:
        if len(self.steps) > MAX_STEPS:
            raise InvalidRequest(f"scaling_steps: {len(self.steps)} steps, {MAX_STEPS} at most")
        below = self.target
        for step in self.steps:
            if not (step.at > below and math.isfinite(step.at)):
                raise InvalidRequest(
                    f"scaling_steps: a step from {step.at:g} does not rise above {below:g}: "
                    "steps begin above the target"
                )
            if step.add < 1:
                raise InvalidRequest(f"scaling_steps: {step.add} replicas are none to add")
            below = step.at
        if self.metric.is_percent and below > 100:
            raise InvalidRequest(f"scaling_steps: {below:g} is more than 100 percent")

    @property
    def autoscaled(self) -> bool:
        """Whether the number of replicas may move by itself."""
        return self.max_replicas > self.min_replicas


def check_measurable(resources: Resources, scaling: Scaling) -> None:
    """Return if replicas with those resources have what scaling follows.

    Raises:
        InvalidRequest: GPUs are to be measured where there is none.
    """
    if scaling.metric is ScalingMetric.GPU_UTILIZATION and resources.accelerator is None:
        raise InvalidRequest(
            "gpu_utilization: a replica on the CPU has no GPU to measure",
            hint='gpu = "L4", or cpu_utilization instead',
        )
