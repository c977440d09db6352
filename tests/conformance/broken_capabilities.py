"""Providers that claim what is not so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from memory import (
    BARE,
    SOUND,
    MemoryEndpoints,
    Served,
)
from mutants import claims, noticed_by

from cloudreg.capabilities import Capabilities
from cloudreg.transfer import Egress
from cloudreg.types import (
    EndpointSpec,
    Mirroring,
    NativeRollouts,
    OperationState,
    ScalingMetric,
    Variant,
    VariantStatus,
)


class Lenient(Capabilities):
    def require(self, spec: EndpointSpec, *, target: str) -> None:
        pass


def lenient(able: Capabilities) -> Capabilities:
    return Lenient(**{name: getattr(able, name) for name in able.__dataclass_fields__})


class Mute(Capabilities):
    def _refusal(self, message: str, *rest: Any, **more: Any) -> Exception:  # type: ignore[override]
        more.pop("hint", None)
        return super()._refusal(message, "none", "elsewhere")


for field in BARE.reasons:
    claims(
        f"NoReasonFor{field}",
        "test_lesser_values_have_reasons",
        replace(BARE, reasons={k: v for k, v in BARE.reasons.items() if k != field}),
    )
for test in ("traffic_split", "max_replicas", "accelerators_that_are_not_offered"):
    claims("RefusesNothing", f"test_{test}", lenient(SOUND))
for test in ("scale_to_zero", "autoscaling", "machine_types"):
    claims("RefusesNothing", f"test_{test}", lenient(BARE))
for test in ("step_scaling", "gpu_fallback", "pools"):
    claims("RefusesNothing", f"test_{test}", lenient(BARE))
claims("AnswersByNameAllTheSame", "test_variant_requests", replace(SOUND, variant_requests=False))
claims("ChoosesNoPause", "test_cooldowns", lenient(replace(SOUND, cooldowns=False)))
claims("FollowsAnything", "test_scaling_metrics", lenient(SOUND))
claims("FallsBackToAnything", "test_gpu_fallback", lenient(SOUND))
claims(
    "RefusesWithoutAReason",
    "test_accelerators_that_are_not_offered",
    Mute(**{name: getattr(BARE, name) for name in BARE.__dataclass_fields__}),
)
claims(
    "HandsOverToNobody", "test_managed_transfer", replace(SOUND, managed_transfer=frozenset({"s3"}))
)
claims(
    "SaysAPriceOfNowhere",
    "test_egress",
    replace(SOUND, egress=Egress(usd_per_gb=0.1, as_of="2026-01-01", source="somebody")),
)
claims(
    "KnowsThePricesToCome",
    "test_egress",
    replace(SOUND, egress=Egress(usd_per_gb=0.1, as_of="2999-01-01", source="https://x")),
)
claims("OffersItsOwnSubstitute", "test_values_make_sense", replace(SOUND, nearest={"T4": "L4"}))
claims("WakesWithoutScaling", "test_values_make_sense", replace(SOUND, autoscaling=False))
claims("FollowsNothing", "test_values_make_sense", replace(SOUND, scaling_metrics=frozenset()))
claims(
    "StepsWithoutScaling",
    "test_values_make_sense",
    replace(BARE, step_scaling=True),
)
claims("FallsBackFromNothing", "test_values_make_sense", replace(BARE, gpu_fallback=1))
claims(
    "MeasuresNoGpu",
    "test_scaling_metrics",
    replace(SOUND, accelerators=frozenset()),
)
claims("ClaimsUncounted", "test_variant_metrics", replace(SOUND, variant_metrics=False))
claims("ClaimsALowerLimit", "test_max_request_bytes", replace(SOUND, max_request_bytes=1000))
claims("ClaimsNoLimit", "test_max_request_bytes", SOUND, endpoints=type(
    "RefusesLargeRequests", (MemoryEndpoints,),
    {"invoke": lambda self, name, body, **how: (
        MemoryEndpoints.invoke(self, name, body if len(body) < 10**6 else b"?", **how))},
))  # fmt: skip


class Strict(Capabilities):
    """What is declared is refused after all."""

    def require(self, spec: EndpointSpec, *, target: str) -> None:
        plain = replace(BARE, max_replicas=1, traffic_split=0 if self.traffic_split == 2 else 1)
        Capabilities.require(plain, spec, target=target)


strict = Strict(**{name: getattr(SOUND, name) for name in SOUND.__dataclass_fields__})
for test in ("accelerators_that_are_offered", "traffic_split", "max_replicas"):
    claims("RefusesWhatItOffers", f"test_{test}", strict)
for test in ("scale_to_zero", "autoscaling", "machine_types"):
    claims("RefusesWhatItOffers", f"test_{test}", strict)
claims("RefusesEverything", "test_plain_endpoint", replace(strict, traffic_split=2))


@noticed_by("test_accelerator_serves", kit="capabilities")
class HasNoGpuAfterAll(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        super().finish(served)
        if any(v.resources.accelerator for v in served.wanted.variants):
            served.state = OperationState.FAILED


@noticed_by("test_split_of_all_variants", kit="capabilities")
class ServesTheFirstOnly(MemoryEndpoints):
    def chosen(self, served: Served, spec: EndpointSpec, name: str | None) -> Variant:
        return super().chosen(served, spec, name or spec.variants[0].name)


def with_scaling(served: Served, **changes: Any) -> None:
    """Change what is shown of an endpoint to something that was not asked for."""
    first, *rest = served.wanted.variants
    changed = replace(first, scaling=replace(first.scaling, **changes))
    served.wanted = replace(served.wanted, variants=(changed, *rest))


@noticed_by(
    "test_scaling_metrics",
    kit="capabilities",
)
class ForgetsTheMetric(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        with_scaling(served, metric=ScalingMetric.CONCURRENCY)
        super().finish(served)


@noticed_by("test_scaling_targets_change", kit="capabilities")
class ForgetsTheCooldown(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        with_scaling(served, scale_out_cooldown_s=None)
        super().finish(served)


@noticed_by("test_step_scaling", kit="capabilities")
class ForgetsTheSteps(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        with_scaling(served, steps=())
        super().finish(served)


@noticed_by("test_gpu_fallback", kit="capabilities")
class ForgetsTheFallback(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        first, *rest = served.wanted.variants
        changed = replace(first, resources=replace(first.resources, fallback=()))
        served.wanted = replace(served.wanted, variants=(changed, *rest))
        super().finish(served)


@noticed_by("test_autoscaling", kit="capabilities")
class NeverScales(MemoryEndpoints):
    def variant_shown(self, variant: Variant) -> VariantStatus:
        return replace(super().variant_shown(variant), ready_replicas=1)


claims("SplitsAnything", "test_split_at_zero", lenient(replace(SOUND, split_at_zero=False)))
claims("WakesInPlace", "test_rest_in_place", replace(SOUND, rest_in_place=False, reasons={}))


@noticed_by("test_rest_in_place", kit="capabilities")
class NeverLearnsToRest(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        with_scaling(served, min_replicas=1)
        super().finish(served)


@noticed_by("test_split_at_zero", kit="capabilities")
class RestsWithOneOnly(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        if len(served.wanted.variants) > 1:
            with_scaling(served, min_replicas=1)
        super().finish(served)


@noticed_by("test_pools", kit="capabilities")
class ForgetsThePool(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        bare = tuple(
            replace(v, resources=replace(v.resources, memory_mib=None))
            for v in served.wanted.variants
        )
        served.wanted = replace(served.wanted, pool=None, variants=bare)
        super().finish(served)


class LooksAnywhere(Capabilities):
    def require_metrics(self, metrics: Any, *, name: str, target: str) -> None:
        pass


claims(
    "LooksUpAnything",
    "test_custom_metrics",
    LooksAnywhere(**{name: getattr(SOUND, name) for name in SOUND.__dataclass_fields__}),
)
claims(
    "ClaimsToMoveTraffic",
    "test_native_rollouts",
    replace(
        SOUND,
        native_rollouts=NativeRollouts(
            canary_percent=(1, 50), linear_percent=(10, 50), bake_s=(0, 60)
        ),
    ),
)
claims("CastsNoShadow", "test_shadow", replace(SOUND, shadow=Mirroring.CLIENT))
claims("CopiesNothing", "test_shadow", replace(SOUND, shadow=Mirroring.NATIVE))
claims("RefusesNothing", "test_shadow", lenient(SOUND))
