"""What a bake showed: the numbers are good, the numbers are bad, or there are too few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cloudreg.types import CustomMetric, Rollout, VariantMetrics


class Verdict(StrEnum):
    """What a bake showed."""

    PASS = "pass"  # noqa: S105  # a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A verdict with its reason.

    Attributes:
        verdict: What it is.
        reason: What was measured and what was wanted.
    """

    verdict: Verdict
    reason: str


UNWATCHED = Observation(verdict=Verdict.PASS, reason="no limits are set")


def judge(rollout: Rollout, seen: VariantMetrics | None) -> Observation:
    """Compare what a variant answered with the rollout's limits.

    One bad number is enough to fail; else one that is missing is enough to know nothing.
    """
    if not rollout.gated:
        return UNWATCHED
    found = list(_observations(rollout, seen or VariantMetrics(requests=0, errors=0)))
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        for observation in found:
            if observation.verdict is verdict:
                return observation
    return Observation(verdict=Verdict.PASS, reason=", ".join(one.reason for one in found))


def _observations(rollout: Rollout, seen: VariantMetrics) -> Iterator[Observation]:
    needed = max(1, rollout.min_requests) if rollout.limited else rollout.min_requests
    if seen.requests < needed:
        yield _unknown(f"{seen.requests} requests, {needed} are needed to judge")
    else:
        yield _answers(rollout, seen)
    for metric in rollout.metrics:
        yield _custom(metric, seen.custom.get(metric.name))


def _answers(rollout: Rollout, seen: VariantMetrics) -> Observation:
    """Judge errors and latency of enough requests."""
    rate, p95 = seen.error_rate, seen.p95_ms
    if rollout.max_error_rate is not None and (rate is None or rate > rollout.max_error_rate):
        return _bad(
            f"measured {seen.errors} errors in {seen.requests} requests, "
            f"wanted at most {rollout.max_error_rate:.2%}"
        )
    if rollout.max_p95_ms is not None:
        if p95 is None:
            return _unknown(f"{seen.requests} requests, and no latency of them yet")
        if not p95 <= rollout.max_p95_ms:
            return _bad(f"measured p95 {p95:.1f} ms, wanted at most {rollout.max_p95_ms:g} ms")
    return _good(f"{seen.requests} requests, {seen.errors} errors, p95 {p95 or 0:.1f} ms")


def _custom(metric: CustomMetric, value: float | None) -> Observation:
    if value is None:
        return _unknown(f"no data of {metric.name} ({metric.source})")
    if metric.breaks(value):
        return _bad(f"measured {metric.name} {value:g}, wanted {metric.wanted}")
    return _good(f"{metric.name} {value:g}")


def _bad(reason: str) -> Observation:
    return Observation(verdict=Verdict.FAIL, reason=reason)


def _good(reason: str) -> Observation:
    return Observation(verdict=Verdict.PASS, reason=reason)


def _unknown(reason: str) -> Observation:
    return Observation(verdict=Verdict.INCONCLUSIVE, reason=reason)
