"""The nouns: versions, endpoints and what is observed of them.

Frozen, keyword-only, units in the names. A noun never holds a client; what a target reports is a
new noun, never a changed one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar

from cloudreg.errors import InvalidRequest
from cloudreg.manifest import (
    FileEntry,
    Lineage,
    Manifest,
    ModelCard,
    Runtime,
    Signature,
    TensorSpec,
)
from cloudreg.names import (
    ModelRef,
    check_digest,
    check_endpoint,
    check_model,
    check_stage,
    check_variant,
)

__all__ = [
    "Endpoint",
    "EndpointSpec",
    "EndpointStatus",
    "FileEntry",
    "GateResult",
    "Lineage",
    "Manifest",
    "ModelCard",
    "ModelRef",
    "ModelVersion",
    "OperationState",
    "OperationStatus",
    "PublishedVersion",
    "Resources",
    "Rollout",
    "RolloutStrategy",
    "Runtime",
    "Scaling",
    "Signature",
    "TensorSpec",
    "Variant",
    "VariantMetrics",
    "VariantStatus",
]


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_environment(env: Mapping[str, str]) -> None:
    """Return if every process can be given *env*.

    Raises:
        InvalidRequest: A name that no shell could spell, or a value with NUL.
    """
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise InvalidRequest(
                f"env: {name!r} cannot be a variable: letters, digits and _ in its name, "
                "no NUL in its value"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A registered version.

    Attributes:
        model: The model's name.
        number: Given by the home; the same on every target.
        digest: sha256 of the manifest's canonical JSON: the identity.
        manifest: Everything that is true of it for ever.
        author: Who registered it.
        created_at: When, ISO 8601 in UTC.
    """

    model: str
    number: int
    digest: str
    manifest: Manifest
    author: str
    created_at: str

    @property
    def ref(self) -> str:
        """Return ``churn:7``."""
        return f"{self.model}:{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """What a target's own registry shows of a version.

    Attributes:
        model: The model's name.
        number: The home's number, as the target shows it.
        digest: The manifest's digest, as the target shows it.
        stages: Stages that point to it there.
        native_id: The vendor's name for it, for people who need the console.
    """

    model: str
    number: int
    digest: str
    stages: tuple[str, ...] = ()
    native_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one replica needs.

    Attributes:
        accelerator: GPU class such as ``T4`` or ``L4``; None for CPU.
        accelerator_count: GPUs a replica; 0 without an accelerator.
        machine_type: The target's own name, where the user insists; else chosen by the catalog.
    """

    accelerator: str | None = None
    accelerator_count: int = 0
    machine_type: str | None = None

    _GPU: ClassVar[re.Pattern[str]] = re.compile(r"([A-Z][A-Z0-9_-]{1,19})(?::([1-9][0-9]?))?")

    def __post_init__(self) -> None:
        """Refuse a count without an accelerator and the reverse."""
        if (self.accelerator is None) != (self.accelerator_count == 0):
            raise InvalidRequest("accelerator and accelerator_count go together")
        if self.accelerator_count < 0:
            raise InvalidRequest(f"accelerator_count {self.accelerator_count} is negative")

    @classmethod
    def parse(cls, gpu: str | None, *, machine_type: str | None = None) -> Resources:
        """Read ``T4``, ``T4:2`` or None.

        Raises:
            InvalidRequest: Anything else.
        """
        if gpu is None:
            return cls(machine_type=machine_type)
        match = cls._GPU.fullmatch(gpu)
        if not match:
            raise InvalidRequest(f"gpu {gpu!r}: a class and a count, such as L4 or T4:2")
        return cls(
            accelerator=match[1],
            accelerator_count=int(match[2] or 1),
            machine_type=machine_type,
        )

    def __str__(self) -> str:
        """Render as ``T4:2``, or ``cpu``."""
        text = f"{self.accelerator}:{self.accelerator_count}" if self.accelerator else "cpu"
        return f"{text} ({self.machine_type})" if self.machine_type else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many replicas, and what makes their number move.

    Attributes:
        min_replicas: Lower bound; 0 asks for scale-to-zero.
        max_replicas: Upper bound, at least ``min_replicas`` and 1.
        concurrency: Desired requests in flight per replica; the number of replicas follows it
            where ``max_replicas`` exceeds ``min_replicas``.
        scale_in_cooldown_s: Seconds of idleness before a replica goes.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    concurrency: float = 4.0
    scale_in_cooldown_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse bounds that no number satisfies."""
        if self.min_replicas < 0 or self.max_replicas < max(1, self.min_replicas):
            raise InvalidRequest(
                f"replicas {self.min_replicas} to {self.max_replicas}: "
                "the minimum is 0 or more, the maximum at least 1 and the minimum"
            )
        if not (self.concurrency > 0 and math.isfinite(self.concurrency)):
            raise InvalidRequest(f"concurrency {self.concurrency} is not a number above 0")
        if not (self.scale_in_cooldown_s >= 0 and math.isfinite(self.scale_in_cooldown_s)):
            raise InvalidRequest(
                f"scale_in_cooldown_s {self.scale_in_cooldown_s} is not a number from 0"
            )

    @property
    def autoscaled(self) -> bool:
        """Whether the number of replicas may move by itself."""
        return self.max_replicas > self.min_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One version behind an endpoint.

    Attributes:
        name: ``primary``, or ``canary`` while a rollout runs.
        model: The model's name.
        number: The version's number.
        digest: The version's identity; what verification compares.
        weight: Percent of the traffic, 0 to 100.
        resources: What each replica needs.
        scaling: How many replicas.
    """

    name: str
    model: str
    number: int
    digest: str
    weight: int = 100
    resources: Resources = field(default_factory=Resources)
    scaling: Scaling = field(default_factory=Scaling)

    def __post_init__(self) -> None:
        """Refuse what no target could show back."""
        check_variant(self.name)
        check_model(self.model)
        check_digest(self.digest)
        if not 0 <= self.weight <= 100:
            raise InvalidRequest(f"variant {self.name}: weight {self.weight} is not 0 to 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """What an endpoint should be.

    Attributes:
        name: The endpoint's name on its target.
        stage: The stage it follows.
        variants: At least one; the weights sum to 100.
        env: Environment of the model server. Never secrets: targets show it to every reader.
    """

    name: str
    stage: str
    variants: tuple[Variant, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a spec whose traffic goes nowhere or twice."""
        check_endpoint(self.name)
        check_stage(self.stage)
        names = [v.name for v in self.variants]
        if not names or len(set(names)) != len(names):
            raise InvalidRequest(f"endpoint {self.name}: variants {names} need different names")
        total = sum(v.weight for v in self.variants)
        if total != 100:
            raise InvalidRequest(f"endpoint {self.name}: weights sum to {total}, not 100")
        models = sorted({v.model for v in self.variants})
        if len(models) > 1:
            raise InvalidRequest(
                f"endpoint {self.name}: variants of {', '.join(models)}, not of one"
            )
        check_environment(self.env)

    @property
    def model(self) -> str:
        """The model of the first variant; all variants serve versions of one model."""
        return self.variants[0].model

    def variant(self, name: str) -> Variant | None:
        """Return the variant called *name*, if there is one."""
        return next((v for v in self.variants if v.name == name), None)

    def weighted(self, weights: Mapping[str, int]) -> EndpointSpec:
        """Return the same endpoint with other weights."""
        return replace(
            self, variants=tuple(replace(v, weight=weights[v.name]) for v in self.variants)
        )


class EndpointStatus(StrEnum):
    """How an endpoint is."""

    CREATING = "creating"
    UPDATING = "updating"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantStatus:
    """What one variant really runs.

    Attributes:
        name: The variant's name.
        digest: The digest that the running servers report, not the one that was asked for.
        ready_replicas: Replicas that answer their health check.
        desired_replicas: Replicas that scaling wants now.
        weight: Percent of the traffic that it gets now.
    """

    name: str
    digest: str
    ready_replicas: int
    desired_replicas: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a target reports of an endpoint.

    Attributes:
        spec: The configuration that is in force, read back; equal to what was asked when done.
        status: How it is.
        variants: What really runs.
        url: Where requests go, if the caller can reach it directly.
        message: Why it is not ready, in the target's words.
        since: When it last changed, ISO 8601 in UTC.
        native_id: The vendor's name for it.
    """

    spec: EndpointSpec
    status: EndpointStatus
    variants: tuple[VariantStatus, ...] = ()
    url: str | None = None
    message: str = ""
    since: str | None = None
    native_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantMetrics:
    """What a variant answered in a window of time.

    Attributes:
        requests: Answers of any kind.
        errors: Answers with a 5xx status, and requests that got none.
        p50_ms: Median latency; None without requests.
        p95_ms: 95th percentile of the latency; None without requests.
    """

    requests: int
    errors: int
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def error_rate(self) -> float | None:
        """Errors by requests; None without requests: no data is never success."""
        return self.errors / self.requests if self.requests else None


class OperationState(StrEnum):
    """Where a long operation stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStatus:
    """One look at an operation.

    Attributes:
        state: Where it stands.
        message: The target's words.
        progress: 0 to 1, where the target says.
        logs: The last lines of the model server, when it failed.
    """

    state: OperationState
    message: str = ""
    progress: float | None = None
    logs: tuple[str, ...] = ()


class RolloutStrategy(StrEnum):
    """How traffic moves to a new version."""

    ALL_AT_ONCE = "all_at_once"
    CANARY = "canary"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How an endpoint gets a new version.

    Attributes:
        strategy: All at once, or step by step.
        steps: Percent of the traffic after each step; rising, the last is 100.
        bake_s: Seconds that each step is watched before the next.
        max_error_rate: 0 to 1; more aborts the rollout.
        max_p95_ms: More aborts the rollout.
        min_requests: Fewer in a bake is inconclusive and pauses, where a limit above is set.
    """

    strategy: RolloutStrategy = RolloutStrategy.ALL_AT_ONCE
    steps: tuple[int, ...] = (100,)
    bake_s: float = 0.0
    max_error_rate: float | None = None
    max_p95_ms: float | None = None
    min_requests: int = 20

    def __post_init__(self) -> None:
        """Refuse steps that do not lead to all the traffic."""
        if (
            not self.steps
            or self.steps[-1] != 100
            or list(self.steps) != sorted(set(self.steps))
            or self.steps[0] < 1
        ):
            raise InvalidRequest(f"rollout steps {list(self.steps)}: rising, 1 to 100, ending 100")
        if self.strategy is RolloutStrategy.ALL_AT_ONCE and self.steps != (100,):
            raise InvalidRequest("an all_at_once rollout has no steps", hint='strategy = "canary"')
        if not (self.bake_s >= 0 and math.isfinite(self.bake_s)):
            raise InvalidRequest(f"bake_s {self.bake_s} is not a number from 0")
        if self.min_requests < 0:
            raise InvalidRequest(f"min_requests {self.min_requests} is negative")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate <= 1:
            raise InvalidRequest(f"max_error_rate {self.max_error_rate} is not 0 to 1")
        if self.max_p95_ms is not None and not (
            self.max_p95_ms > 0 and math.isfinite(self.max_p95_ms)
        ):
            raise InvalidRequest(f"max_p95_ms {self.max_p95_ms} is not a number above 0")

    @property
    def gated(self) -> bool:
        """Whether metrics decide about the next step."""
        return self.max_error_rate is not None or self.max_p95_ms is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate found.

    Attributes:
        gate: Its name.
        passed: Whether it held.
        reason: One sentence for people.
        measured: What was found.
        wanted: What had to be found.
        evidence: Plain JSON that goes into the ledger.
    """

    gate: str
    passed: bool
    reason: str
    measured: str = ""
    wanted: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "reason": self.reason,
            "measured": self.measured,
            "wanted": self.wanted,
            "evidence": dict(self.evidence),
        }
