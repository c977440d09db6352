"""What a bake showed: good, bad, or too little to know."""

from __future__ import annotations

from typing import Any

import pytest

from cloudreg.types import CustomMetric, Rollout, VariantMetrics
from cloudreg.verdicts import Verdict, judge

DRIFT = CustomMetric(name="drift", source="server", max=0.5)
LIMITED: dict[str, Any] = {"max_error_rate": 0.1, "max_p95_ms": 50.0, "min_requests": 10}
GOOD: dict[str, Any] = {"requests": 10, "errors": 1, "p95_ms": 50.0}


@pytest.mark.parametrize(
    ("rollout", "seen", "verdict", "words"),
    [
        ({}, None, Verdict.PASS, "no limits"),
        (LIMITED, None, Verdict.INCONCLUSIVE, "0 requests, 10 are needed"),
        (LIMITED, {**GOOD, "requests": 9}, Verdict.INCONCLUSIVE, "9 requests"),
        (LIMITED, GOOD, Verdict.PASS, "10 requests, 1 errors"),
        (LIMITED, {**GOOD, "errors": 2}, Verdict.FAIL, "2 errors in 10 requests"),
        (LIMITED, {**GOOD, "p95_ms": 50.1}, Verdict.FAIL, "p95 50.1 ms"),
        (LIMITED, {**GOOD, "p95_ms": None}, Verdict.INCONCLUSIVE, "no latency"),
        (
            {**LIMITED, "min_requests": 0},
            {"requests": 0, "errors": 0},
            Verdict.INCONCLUSIVE,
            "0 requests, 1 are needed",
        ),
        ({"metrics": (DRIFT,)}, {**GOOD, "requests": 30}, Verdict.INCONCLUSIVE, "no data of drift"),
        (
            {"metrics": (DRIFT,)},
            {**GOOD, "custom": {"drift": 0.1}},
            Verdict.INCONCLUSIVE,
            "10 requests, 20 are needed",
        ),
        (
            {"metrics": (DRIFT,), "min_requests": 0},
            {"requests": 0, "errors": 0, "custom": {"drift": 0.5}},
            Verdict.PASS,
            "drift 0.5",
        ),
        (
            {"metrics": (DRIFT,)},
            {"requests": 0, "errors": 0, "custom": {"drift": 0.6}},
            Verdict.FAIL,
            "measured drift 0.6, wanted at most 0.5",
        ),
        (
            {"metrics": (DRIFT,)},
            {"requests": 30, "errors": 0, "custom": {"drift": float("nan")}},
            Verdict.FAIL,
            "drift nan",
        ),
    ],
)
def test_verdict(
    rollout: dict[str, Any], seen: dict[str, Any] | None, verdict: Verdict, words: str
) -> None:
    """One bad number fails; else one that is missing is inconclusive; nothing is no success."""
    found = judge(Rollout(**rollout), VariantMetrics(**seen) if seen is not None else None)
    assert found.verdict is verdict
    assert words in found.reason
