"""Stages are taken one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest
from cloudreg.gates.stage_order import StageOrderGate


@pytest.mark.parametrize(
    ("stage", "held", "passed"),
    [
        ("dev", set(), True),
        ("staging", {"dev"}, True),
        ("staging", set(), False),
        ("prod", {"dev"}, False),
        ("prod", {"dev", "staging"}, True),
        ("prod", {"staging"}, True),
        ("prod", {"prod"}, False),
    ],
)
def test_order(
    check: Callable[..., Any],
    version: Callable[..., Any],
    stage: str,
    held: set[str],
    passed: bool,
) -> None:
    """A version enters a stage from the one before it, now or earlier."""
    result = check(StageOrderGate(), version(), stage=stage, held=frozenset(held))

    assert result.passed is passed


def test_skipping_names_the_next_step(
    check: Callable[..., Any], version: Callable[..., Any]
) -> None:
    """Who skips a stage is told which, and what to type."""
    result = check(StageOrderGate(), version(), stage="prod")

    assert "churn:7 was never in staging, which comes before prod" in result.reason
    assert "cloudreg promote churn:7 --to staging" in result.reason
    assert result.measured == "churn:7 has been in dev"
    assert result.wanted == "it has been in staging"


def test_unknown_stage(check: Callable[..., Any], version: Callable[..., Any]) -> None:
    """A stage that is not configured has no place in the order."""
    with pytest.raises(InvalidRequest, match="no stage 'live'"):
        check(StageOrderGate(), version(), stage="live")
