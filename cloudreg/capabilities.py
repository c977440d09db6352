"""What a provider can do, as data with reasons.

A field is here because a planner reads it and a conformance test checks both directions: what is
declared works, and what is not declared is refused before any request, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cloudreg.errors import Unsupported
from cloudreg.types import EndpointSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do.

    Attributes:
        accelerators: GPU classes that it offers.
        scale_to_zero: Whether ``min_replicas = 0`` works; only together with ``autoscaling``.
        autoscaling: Whether the number of replicas follows the load.
        traffic_split: Most variants behind one endpoint; 1 means no canary.
        max_replicas: Most replicas of a variant.
        max_request_bytes: Largest request body; None where there is no limit.
        variant_metrics: Whether requests, errors and latency are known for each variant.
        machine_types: Whether a machine may be asked for by the target's own name.
        reasons: Field to one sentence, for each field that is less than people expect.
        nearest: GPU class that is not offered, to what comes nearest and how it differs.
    """

    accelerators: frozenset[str] = frozenset()
    scale_to_zero: bool = False
    autoscaling: bool = False
    traffic_split: int = 1
    max_replicas: int = 1
    max_request_bytes: int | None = None
    variant_metrics: bool = False
    machine_types: bool = True
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
        for variant in spec.variants:
            gpu = variant.resources.accelerator
            if gpu is not None and gpu not in self.accelerators:
                nearest = self.nearest.get(gpu)
                raise self._refusal(
                    f"endpoint {spec.name}: no {gpu} on this provider",
                    "accelerators",
                    target,
                    hint=nearest,
                )
            machine = variant.resources.machine_type
            if machine is not None and not self.machine_types:
                raise self._refusal(
                    f"endpoint {spec.name}: no machine {machine!r} on this provider",
                    "machine_types",
                    target,
                    hint="leave machine_type out",
                )
            scaling = variant.scaling
            if scaling.min_replicas == 0 and not self.scale_to_zero:
                raise self._refusal(
                    f"endpoint {spec.name}: no scale to zero on this provider",
                    "scale_to_zero",
                    target,
                    hint="min_replicas = 1",
                )
            if scaling.autoscaled and not self.autoscaling:
                raise self._refusal(
                    f"endpoint {spec.name}: no autoscaling on this provider",
                    "autoscaling",
                    target,
                    hint="max_replicas equal to min_replicas",
                )
            if scaling.max_replicas > self.max_replicas:
                raise self._refusal(
                    f"endpoint {spec.name}: {scaling.max_replicas} replicas, "
                    f"{self.max_replicas} at most",
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
        return [(name, getattr(self, name), self.reasons.get(name, "")) for name in shown]
