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
from cloudreg.types import (
    EndpointSpec,
    OperationState,
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
claims(
    "RefusesWithoutAReason",
    "test_accelerators_that_are_not_offered",
    Mute(**{name: getattr(BARE, name) for name in BARE.__dataclass_fields__}),
)
claims("OffersItsOwnSubstitute", "test_values_make_sense", replace(SOUND, nearest={"T4": "L4"}))
claims("WakesWithoutScaling", "test_values_make_sense", replace(SOUND, autoscaling=False))
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


@noticed_by("test_autoscaling", kit="capabilities")
class NeverScales(MemoryEndpoints):
    def variant_shown(self, variant: Variant) -> VariantStatus:
        return replace(super().variant_shown(variant), ready_replicas=1)
