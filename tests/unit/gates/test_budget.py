"""What may be spent on the endpoints that would serve a version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.catalog import Bill, Cost
from cloudreg.errors import ConfigError
from cloudreg.gates import build
from cloudreg.gates.budget import BudgetGate

Check = Callable[..., Any]

UNKNOWN = Cost(low_usd_per_hour=None, high_usd_per_hour=None, unknown="no list price of x")


def bill(name: str, after: Cost, before: Cost | None = None) -> Bill:
    return Bill(endpoint=name, target="aws", stage="prod", before=before or Cost(), after=after)


def costing(low: float, high: float) -> Cost:
    return Cost(low_usd_per_hour=low, high_usd_per_hour=high)


def test_most_replicas_count(check: Check, version: Check) -> None:
    """The budget is judged by as many replicas as there may be, of all endpoints together."""
    bills = (bill("a", costing(1, 2)), bill("b", costing(0, 3)))

    enough = check(BudgetGate(usd_per_month=3650), version(), bills=bills)
    short = check(BudgetGate(usd_per_month=3649.99), version(), bills=bills)

    assert enough.passed
    assert enough.measured == "$3,650.00 a month"
    assert not short.passed
    assert "may cost $3,650.00 a month, and $3,649.99 are allowed" in short.reason
    assert short.evidence["endpoints"] == {"a": 1460, "b": 2190}


def test_what_goes_costs_nothing(check: Check, version: Check) -> None:
    """What an endpoint costs now does not count, only what it will cost."""
    bills = (bill("a", costing(1, 1), before=costing(50, 50)),)

    assert check(BudgetGate(usd_per_month=730), version(), bills=bills).passed


def test_unknown_price_is_too_much(check: Check, version: Check) -> None:
    """An endpoint of unknown price fails the gate with the reason, unless that is allowed."""
    bills = (bill("a", costing(1, 1)), bill("b", UNKNOWN))

    refused = check(BudgetGate(usd_per_month=9999), version(), bills=bills)
    allowed = check(BudgetGate(usd_per_month=9999, allow_unknown=True), version(), bills=bills)
    short = check(BudgetGate(usd_per_month=1, allow_unknown=True), version(), bills=bills)

    assert not refused.passed
    assert refused.reason == "b: price unknown: no list price of x"
    assert refused.evidence["unknown"] == {"b": "no list price of x"}
    assert allowed.passed
    assert "and b what nobody knows" in allowed.reason
    assert not short.passed


def test_no_endpoint_costs_nothing(check: Check, version: Check) -> None:
    """A stage without endpoints is within every budget."""
    assert check(BudgetGate(usd_per_month=0), version()).passed


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "budget"},
        {"kind": "budget", "usd_per_month": -1},
        {"kind": "budget", "usd_per_month": float("inf")},
        {"kind": "budget", "usd_per_month": float("nan")},
        {"kind": "budget", "usd_per_month": "100"},
        {"kind": "budget", "usd_per_month": 1, "allow_unkown": True},
    ],
)
def test_no_budget(table: dict[str, Any]) -> None:
    """A budget that is none is refused when the configuration is read."""
    with pytest.raises(ConfigError):
        build(table)
