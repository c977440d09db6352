"""The nouns: versions, endpoints and what is observed of them.

Frozen, keyword-only, units in the names. A noun never holds a client; what a target reports is a
new noun, never a changed one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from cloudreg.errors import InvalidRequest
from cloudreg.kinds import Asynchronous, EndpointKind, Serverless
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
from cloudreg.replicas import (
    Resources,
    Scaling,
    ScalingMetric,
    ScalingStep,
    check_measurable,
)
from cloudreg.traffic import (
    CustomMetric,
    Driver,
    MetricSource,
    Mirroring,
    NativeRollouts,
    Rollout,
    RolloutStrategy,
)

__all__ = [
    "SHADOW",
    "Asynchronous",
    "CustomMetric",
    "Driver",
    "Endpoint",
    "EndpointKind",
    "EndpointSpec",
    "EndpointStatus",
    "FileEntry",
    "GateResult",
    "Identified",
    "Lineage",
    "Manifest",
    "MetricSource",
    "Mirroring",
    "ModelCard",
    "ModelRef",
    "ModelVersion",
    "NativeRollouts",
    "OperationState",
    "OperationStatus",
    "PublishedVersion",
    "Resources",
    "Rollout",
    "RolloutStrategy",
    "Runtime",
    "Scaling",
    "ScalingMetric",
    "ScalingStep",
    "Serverless",
    "Signature",
    "TensorSpec",
    "Variant",
    "VariantMetrics",
    "VariantStatus",
    "check_measurable",
    "named",
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


class Identified(Protocol):
    """What tells which version is meant, without its manifest."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def number(self) -> int:
        """The home's number."""
        ...

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        ...


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
        check_measurable(self.resources, self.scaling)


SHADOW = "shadow"
"""The name of the variant that gets copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """What an endpoint should be.

    Attributes:
        name: The endpoint's name on its target.
        stage: The stage it follows.
        variants: At least one; the weights sum to 100.
        env: Environment of the model server. Never secrets: targets show it to every reader.
        kind: How requests are answered.
        serverless: What a serverless endpoint may take; for that kind alone.
        asynchronous: What becomes of queued requests; for that kind alone.
        pool: Endpoints that name the same pool share machines; None for machines of its own.
        shadow: A version that gets copies of requests, and whose answers nobody gets; its weight
            is the percent of the requests that are copied.
    """

    name: str
    stage: str
    variants: tuple[Variant, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    kind: EndpointKind = EndpointKind.REAL_TIME
    serverless: Serverless | None = None
    asynchronous: Asynchronous | None = None
    pool: str | None = None
    shadow: Variant | None = None

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
        models = sorted({v.model for v in self.served})
        if len(models) > 1:
            raise InvalidRequest(
                f"endpoint {self.name}: variants of {', '.join(models)}, not of one"
            )
        check_environment(self.env)
        self._check_kind()
        self._check_pool()
        self._check_shadow()

    def _check_shadow(self) -> None:
        """Refuse a shadow that is none, or where requests cannot be copied."""
        shadow = self.shadow
        if shadow is None:
            return
        if shadow.name != SHADOW or self._named(SHADOW) is not None:
            raise InvalidRequest(f"endpoint {self.name}: {SHADOW!r} is the shadow's name alone")
        if shadow.weight < 1:
            raise InvalidRequest(f"endpoint {self.name}: a shadow of 0 % sees nothing")
        if shadow.scaling.min_replicas < 1:
            raise InvalidRequest(f"endpoint {self.name}: a shadow is always there, and never rests")
        if self.kind is not EndpointKind.REAL_TIME or self.pool is not None or self.rests:
            raise InvalidRequest(
                f"endpoint {self.name}: a shadow is for real-time endpoints with machines of their "
                "own that never rest",
                hint="leave shadow out, or min_replicas = 1",
            )

    def _check_pool(self) -> None:
        """Refuse a share of a machine that nobody shares, and a pool without shares."""
        for variant in self.variants:
            if self.pool is None:
                taken = [k for k in ("memory_mib", "cpus") if getattr(variant.resources, k)]
                if taken:
                    raise InvalidRequest(
                        f"endpoint {self.name}: {taken[0]} is a share of a pool's machine, and it "
                        "has machines of its own",
                        hint='pool = "shared"',
                    )
            elif variant.resources.memory_mib is None:
                raise InvalidRequest(
                    f"endpoint {self.name}: pool {self.pool} has to know what a replica takes of "
                    "a machine",
                    hint="memory_mib = 2048",
                )
        if self.pool is None:
            return
        check_endpoint(self.pool)
        if self.kind is not EndpointKind.REAL_TIME:
            raise InvalidRequest(
                f"endpoint {self.name}: a pool is for real-time endpoints, and it is {self.kind}",
                hint='kind = "real_time", or leave pool out',
            )

    def _check_kind(self) -> None:
        """Refuse a kind without its part, and what a serverless endpoint has no place for."""
        for kind, part in (
            (EndpointKind.SERVERLESS, self.serverless),
            (EndpointKind.ASYNCHRONOUS, self.asynchronous),
        ):
            if (self.kind is kind) != (part is not None):
                raise InvalidRequest(
                    f"endpoint {self.name}: {kind} settings and kind {self.kind} do not go "
                    "together",
                    hint=f'kind = "{kind}"',
                )
        if self.kind is not EndpointKind.SERVERLESS:
            return
        for variant in self.variants:
            if variant.resources != Resources():
                raise InvalidRequest(
                    f"endpoint {self.name}: a serverless endpoint has no machines to choose",
                    hint='leave gpu and machine_type out, or kind = "real_time"',
                )
            if variant.scaling != Scaling():
                raise InvalidRequest(
                    f"endpoint {self.name}: a serverless endpoint has no replicas to count",
                    hint="max_concurrency in its table [serverless] bounds it instead",
                )

    @property
    def model(self) -> str:
        """The model of the first variant; all variants serve versions of one model."""
        return self.variants[0].model

    @property
    def rests(self) -> bool:
        """Whether it answers at once, and may have no replica while nobody asks."""
        return self.kind is EndpointKind.REAL_TIME and any(
            v.scaling.min_replicas == 0 for v in self.variants
        )

    @property
    def served(self) -> tuple[Variant, ...]:
        """Everything that runs: the variants, and the shadow."""
        return self.variants if self.shadow is None else (*self.variants, self.shadow)

    def variant(self, name: str) -> Variant | None:
        """Return the variant called *name*, or the shadow under its name, if there is one."""
        return self.shadow if name == SHADOW else self._named(name)

    def _named(self, name: str) -> Variant | None:
        return next((v for v in self.variants if v.name == name), None)

    def weighted(self, weights: Mapping[str, int]) -> EndpointSpec:
        """Return the same endpoint with other weights."""
        return replace(
            self, variants=tuple(replace(v, weight=weights[v.name]) for v in self.variants)
        )


def named(spec: EndpointSpec, variant: str) -> dict[str, str]:
    """Return what a custom metric's query may speak of: endpoint, variant and its version."""
    known = {"endpoint": spec.name, "variant": variant}
    found = spec.variant(variant)
    if found is not None:
        known |= {"model": found.model, "number": str(found.number)}
    return known


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
        custom: Custom metrics that were asked for, by name; what has no data is not in it.
    """

    requests: int
    errors: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    custom: Mapping[str, float] = field(default_factory=dict)

    @property
    def error_rate(self) -> float | None:
        """Errors by requests; None without requests: no data is never success."""
        return self.errors / self.requests if self.requests else None


class Commit(StrEnum):
    """When the change of a stage with several targets counts, where some of them fail."""

    ALL = "all"
    ANY = "any"
    HOME_FIRST = "home-first"


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
