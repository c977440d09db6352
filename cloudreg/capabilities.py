"""What a provider can do, as data with reasons.

A field is here because a planner reads it and a conformance test checks both directions: what is
declared works, and what is not declared is refused before any request, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from cloudreg.errors import Unsupported
from cloudreg.transfer import Egress, told
from cloudreg.types import (
    EndpointKind,
    EndpointSpec,
    MetricSource,
    Mirroring,
    NativeRollouts,
    Resources,
    RolloutStrategy,
    Scaling,
    ScalingMetric,
)
from cloudreg.watching import Watching


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities(Watching):
    """What a provider can do.

    Attributes:
        accelerators: GPU classes that it offers.
        scale_to_zero: Whether ``min_replicas = 0`` works; only together with ``autoscaling``.
        autoscaling: Whether the number of replicas follows the load.
        scaling_metrics: What the number of replicas can follow; only together with
            ``autoscaling``.
        cooldowns: Whether the pauses between changes of the number may be chosen.
        step_scaling: Whether steps may be given beside a target.
        gpu_fallback: Most GPU classes that stand in where one has no capacity.
        traffic_split: Most variants behind one endpoint; 1 means no canary.
        split_at_zero: Whether traffic can be split where ``min_replicas`` is 0.
        pools: Whether endpoints can share machines.
        rest_in_place: Whether ``min_replicas`` of a live endpoint can become 0, or leave it.
        max_replicas: Most replicas of a variant.
        max_request_bytes: Largest request body; None where there is no limit.
        variant_requests: Whether a request can be sent to one variant, whatever the weights are.
        variant_metrics: Whether requests, errors and latency are known for each variant.
        custom_metrics: Where else a rollout can find numbers to be judged by, and what has to be
            said there.
        native_rollouts: What the target can do by itself of a rollout.
        shadow: Who copies requests for a version whose answers nobody gets.
        machine_types: Whether a machine may be asked for by the target's own name.
        streaming: Whether an answer can be had piece by piece.
        batch: Whether it scores a data set by a job of its own.
        kinds: Kinds of endpoints that it has.
        serverless_memory_mib: What a serverless model server can be given.
        serverless_concurrency: Most requests in flight on a serverless endpoint.
        queue_scaling: Whether the replicas of an asynchronous endpoint follow its queue, and none
            may be there while it is empty.
        queue_metrics: What they can follow; only together with ``queue_scaling``.
        queue_expires_s: Least and most seconds that a queued request may wait; None for any.
        managed_transfer: Schemes of the stores, such as ``s3``, from which a service of the cloud
            copies versions to it, past this machine.
        egress: What a byte costs that leaves it for another cloud; None where nobody knows.
        reasons: Field to one sentence, for each field that is less than people expect.
        nearest: GPU class that is not offered, to what comes nearest and how it differs.
    """

    accelerators: frozenset[str] = frozenset()
    scale_to_zero: bool = False
    autoscaling: bool = False
    scaling_metrics: frozenset[ScalingMetric] = frozenset()
    cooldowns: bool = True
    step_scaling: bool = False
    gpu_fallback: int = 0
    traffic_split: int = 1
    split_at_zero: bool = True
    rest_in_place: bool = True
    pools: bool = False
    max_replicas: int = 1
    max_request_bytes: int | None = None
    variant_requests: bool = True
    variant_metrics: bool = False
    custom_metrics: Mapping[str, MetricSource] = field(default_factory=dict)
    native_rollouts: NativeRollouts | Literal[False] = False
    shadow: Mirroring = Mirroring.NONE
    machine_types: bool = True
    streaming: bool = False
    batch: bool = False
    kinds: frozenset[EndpointKind] = frozenset({EndpointKind.REAL_TIME})
    serverless_memory_mib: tuple[int, ...] = ()
    serverless_concurrency: int = 0
    queue_scaling: bool = False
    queue_metrics: frozenset[ScalingMetric] = frozenset()
    queue_expires_s: tuple[int, int] | None = None
    managed_transfer: frozenset[str] = frozenset()
    egress: Egress | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    nearest: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse reasons for what is no capability."""
        known = {f.name for f in fields(self)}
        unknown = sorted(set(self.reasons) - known)
        assert not unknown, f"reasons for unknown capabilities: {unknown}"

    def require(self, spec: EndpointSpec, *, target: str) -> None:
        """Refuse *spec* if any part of it is beyond this provider.

        Raises:
            Unsupported: With the reason, and the nearest thing that works.
        """
        if len(spec.variants) > self.traffic_split:
            raise self._refusal(
                f"endpoint {spec.name}: {len(spec.variants)} variants, "
                f"{self.traffic_split} at most",
                "traffic_split",
                target,
            )
        none_stays = any(variant.scaling.min_replicas == 0 for variant in spec.variants)
        if len(spec.variants) > 1 and none_stays and not self.split_at_zero:
            raise self._refusal(
                f"endpoint {spec.name}: {len(spec.variants)} variants and min_replicas = 0",
                "split_at_zero",
                target,
                hint='min_replicas = 1, or strategy = "all_at_once" for the rollout',
            )
        if spec.pool is not None and not self.pools:
            raise self._refusal(
                f"endpoint {spec.name}: no pools on this provider",
                "pools",
                target,
                hint="leave pool, memory_mib and cpus out",
            )
        if spec.pool is not None and len(spec.variants) > 1:
            raise self._refusal(
                f"endpoint {spec.name}: {len(spec.variants)} variants in pool {spec.pool}, 1 at "
                "most",
                "pools",
                target,
                hint='leave pool out, or strategy = "all_at_once" for the rollout',
            )
        if spec.shadow is not None:
            self._require_shadow(spec, target)
        self._require_kind(spec, target)
        for variant in spec.served:
            self._require_rest(variant.scaling, spec, target)
            self._require_metric(variant.scaling, spec, target)
            self._require_scaling(variant.scaling, spec.name, target)
            self._require_machines(variant.resources, spec.name, target)

    def require_transfer(
        self, what: str, size: int, limit: int | None, *, source: str, target: str
    ) -> bool:
        """Return whether a service copies *size* bytes, because they are more than the user wants.

        Args:
            what: For messages.
            size: Bytes that the target lacks.
            limit: The user's, for what goes through this machine; None for none.
            source: Where they are (`cloudreg.provider.Provider.location`).
            target: Where they would go.

        Raises:
            Unsupported: They are more, and no service copies them; with the reason.
        """
        if limit is None or size <= limit:
            return False
        if source.partition("://")[0] in self.managed_transfer:
            return True
        raise self._refusal(
            f"{what}: {told(size)} are more than transfer_above = {told(limit)}, and no service "
            f"copies them there from {source or 'this machine'}",
            "managed_transfer",
            target,
            hint=f'[targets.{target}] transfer_above = "{told(2 * size).replace(" ", "")}", or '
            "leave it out: the copy goes on where it stopped if it breaks",
        )

    def require_change(
        self, before: EndpointSpec | None, after: EndpointSpec, *, target: str
    ) -> None:
        """Refuse the way from *before* to *after* if this provider cannot go it.

        Args:
            before: What is there; None for nothing.
            after: What should be.
            target: For messages.

        Raises:
            Unsupported: With the reason, and the nearest thing that works.
        """
        if before is not None and before.pool != after.pool:
            raise self._refusal(
                f"endpoint {after.name}: pool {before.pool} of a live endpoint cannot become "
                f"{after.pool}",
                "pools",
                target,
                hint=f"another endpoint beside it; then take {after.name} down",
            )
        if before is None or after.pool is not None or self.rest_in_place:
            return
        if before.rests != after.rests:
            raise self._refusal(
                f"endpoint {after.name}: min_replicas of a live endpoint cannot "
                f"{'become 0' if after.rests else 'leave 0'}",
                "rest_in_place",
                target,
                hint=f"another endpoint beside it; then take {after.name} down",
            )

    def _require_kind(self, spec: EndpointSpec, target: str) -> None:
        if spec.kind not in self.kinds:
            raise self._refusal(
                f"endpoint {spec.name}: no {spec.kind} endpoints on this provider",
                "kinds",
                target,
                hint=f"kind = {' or '.join(repr(str(kind)) for kind in sorted(self.kinds))}",
            )
        self._require_expiry(spec, target)
        wanted = spec.serverless
        if wanted is None:
            return
        sizes = self.serverless_memory_mib
        if wanted.memory_mib not in sizes:
            nearest = min(sizes, key=lambda size: (abs(size - wanted.memory_mib), -size))
            raise self._refusal(
                f"endpoint {spec.name}: memory_mib {wanted.memory_mib} is none of "
                f"{', '.join(map(str, sizes))}",
                "serverless_memory_mib",
                target,
                hint=f"memory_mib = {nearest}",
            )
        if wanted.max_concurrency > self.serverless_concurrency:
            raise self._refusal(
                f"endpoint {spec.name}: max_concurrency {wanted.max_concurrency}, "
                f"{self.serverless_concurrency} at most",
                "serverless_concurrency",
                target,
                hint=f"max_concurrency = {self.serverless_concurrency}",
            )

    def _require_expiry(self, spec: EndpointSpec, target: str) -> None:
        if spec.asynchronous is None or self.queue_expires_s is None:
            return
        low, high = self.queue_expires_s
        asked_s = spec.asynchronous.expires_s
        if not low <= asked_s <= high:
            raise self._refusal(
                f"endpoint {spec.name}: expires_s {asked_s} is not {low} to {high}",
                "queue_expires_s",
                target,
                hint=f"expires_s = {min(max(asked_s, low), high)}",
            )

    def _require_machines(self, resources: Resources, name: str, target: str) -> None:
        fallback = resources.fallback
        if len(fallback) > self.gpu_fallback:
            most = self.gpu_fallback
            raise self._refusal(
                f"endpoint {name}: {len(fallback)} GPU classes to fall back to, {most} at most",
                "gpu_fallback",
                target,
                hint=f"gpu_fallback = {list(fallback[:most])}"
                if most
                else "leave gpu_fallback out",
            )
        for gpu in (resources.accelerator, *fallback):
            if gpu is not None and gpu not in self.accelerators:
                raise self._refusal(
                    f"endpoint {name}: no {gpu} on this provider",
                    "accelerators",
                    target,
                    hint=self.nearest.get(gpu),
                )
        machine = resources.machine_type
        if machine is not None and not self.machine_types:
            raise self._refusal(
                f"endpoint {name}: no machine {machine!r} on this provider",
                "machine_types",
                target,
                hint="leave machine_type out",
            )

    def _require_rest(self, scaling: Scaling, spec: EndpointSpec, target: str) -> None:
        if spec.kind is EndpointKind.ASYNCHRONOUS:
            if scaling.autoscaled and not self.queue_scaling:
                raise self._refusal(
                    f"endpoint {spec.name}: no autoscaling behind a queue on this provider",
                    "queue_scaling",
                    target,
                    hint="min_replicas and max_replicas equal, and at least 1",
                )
        elif scaling.min_replicas == 0 and not self.scale_to_zero:
            raise self._refusal(
                f"endpoint {spec.name}: no scale to zero on this provider",
                "scale_to_zero",
                target,
                hint="min_replicas = 1",
            )

    def _require_metric(self, scaling: Scaling, spec: EndpointSpec, target: str) -> None:
        field, known = "scaling_metrics", self.scaling_metrics
        if spec.kind is EndpointKind.ASYNCHRONOUS:
            field, known = "queue_metrics", self.queue_metrics
        if self.autoscaling and scaling.autoscaled and scaling.metric not in known:
            behind = " behind a queue" if field == "queue_metrics" else ""
            raise self._refusal(
                f"endpoint {spec.name}: replicas cannot follow {scaling.metric}{behind} on this "
                "provider",
                field,
                target,
                hint=f"{' or '.join(sorted(known))} instead of {scaling.metric}" if known else None,
            )

    def _require_scaling(self, scaling: Scaling, name: str, target: str) -> None:
        if scaling.autoscaled and not self.autoscaling:
            raise self._refusal(
                f"endpoint {name}: no autoscaling on this provider",
                "autoscaling",
                target,
                hint="max_replicas equal to min_replicas",
            )
        usual = Scaling()
        if scaling.min_replicas and scaling.autoscaled and not self.cooldowns:
            for key in ("scale_in_cooldown_s", "scale_out_cooldown_s"):
                if getattr(scaling, key) != getattr(usual, key):
                    raise self._refusal(
                        f"endpoint {name}: no {key} on this provider",
                        "cooldowns",
                        target,
                        hint=f"leave {key} out",
                    )
        if scaling.steps and not self.step_scaling:
            raise self._refusal(
                f"endpoint {name}: no scaling_steps on this provider",
                "step_scaling",
                target,
                hint="leave scaling_steps out: the target alone decides",
            )
        if scaling.max_replicas > self.max_replicas:
            raise self._refusal(
                f"endpoint {name}: {scaling.max_replicas} replicas, {self.max_replicas} at most",
                "max_replicas",
                target,
                hint=f"max_replicas = {self.max_replicas}",
            )

    def _refusal(
        self, message: str, capability: str, target: str, hint: str | None = None
    ) -> Unsupported:
        reason = self.reasons.get(capability)
        return Unsupported(f"{message} ({reason})" if reason else message, target=target, hint=hint)

    def rows(self) -> list[tuple[str, Any, str]]:
        """Return (capability, value, reason) for tables."""
        shown = [f.name for f in fields(self) if f.name not in ("reasons", "nearest")]
        return [(name, _row(getattr(self, name)), self.reasons.get(name, "")) for name in shown]


def _row(value: Any) -> Any:
    """Return a value as tables show it: what there is, without how it is used."""
    if isinstance(value, Mapping):
        return frozenset(value)
    return frozenset(RolloutStrategy) if isinstance(value, NativeRollouts) else value
