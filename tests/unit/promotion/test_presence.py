"""Endpoints that nobody needs at night: plans and applies by a clock that a test moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import InvalidRequest, NotFound
from cloudreg.testing.clock import Clock

OFFICE = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
schedule = {days = "mon-fri", from = "07:00", to = "19:00", timezone = "Europe/Berlin"}
"""
TTL = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
ttl = "8h"
"""
DAY = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
NIGHT = datetime(2026, 11, 25, 22, tzinfo=UTC).timestamp()
H = 3600.0

Timed = Callable[[str], Workspace]


@pytest.fixture
def clock() -> Clock:
    """Begins now; tests move it."""
    return Clock(time.time())


@pytest.fixture
def timed(house: Any, clock: Clock) -> Timed:
    """Return a workspace with the clock, and two versions, the first of which is in staging."""

    def make(text: str) -> Workspace:
        house.configure(text)
        ws: Workspace = house.open(clock=clock)
        for _ in range(2):
            house.register(ws)
        ws.promote("churn:1", to="staging")
        return ws

    return make


def running(ws: Workspace) -> list[str]:
    return [e.spec.name for e in ws.targets["local"].endpoints.endpoints()]


def state(ws: Workspace) -> Any:
    (row,) = [row for row in ws.status("churn") if row.stage == "prod"]
    return row.endpoints[0]


def test_a_schedule_takes_down_and_brings_back(house: Any, timed: Timed, clock: Clock) -> None:
    """Outside its hours an apply removes the endpoint, inside it makes it; the model stays."""
    ws = timed(OFFICE)
    clock.set(DAY)
    ws.promote("churn:1", to="prod")
    assert running(ws) == ["churn-prod"]
    assert (state(ws).wanted, state(ws).until) == (True, "2026-11-25T19:00+01:00")

    clock.set(NIGHT)
    plan = ws.plan().plan
    assert [c.action for c in plan.changes] == ["delete"]
    assert plan.changes[0].note == "its schedule"
    assert (
        "endpoint churn-prod is down: its schedule, until 2026-11-26T07:00+01:00" in plan.warnings
    )
    assert ws.apply().changed
    assert running(ws) == []
    assert ws.fold("churn").stages["prod"].number == 1
    assert ws.plan().plan.empty
    assert ws.drift("churn") == []
    assert (state(ws).status, state(ws).wanted) == ("absent", False)
    assert state(ws).until == "2026-11-26T07:00+01:00"

    clock.set(DAY + 24 * H)
    assert [c.action for c in ws.plan().plan.changes] == ["create"]
    ws.apply()
    assert house.served(ws) == 1
    house.check_truth(ws)


def test_promotion_at_night(house: Any, timed: Timed, clock: Clock) -> None:
    """A promotion outside the hours moves the stage, and the endpoint serves it in the morning."""
    ws = timed(OFFICE)
    clock.set(NIGHT)
    plan = ws.promote("churn:1", to="prod", dry_run=True).plan
    assert [c.kind for c in plan.changes] == ["stage"]
    assert any("churn-prod is down: its schedule" in warning for warning in plan.warnings)
    ws.promote("churn:1", to="prod")
    assert running(ws) == []

    clock.set(DAY + 24 * H)
    ws.apply()
    assert house.served(ws) == 1


def test_a_ttl_ends(house: Any, timed: Timed, clock: Clock) -> None:
    """After its time an endpoint goes, and stays away until somebody deploys it again."""
    ws = timed(TTL)
    ws.promote("churn:1", to="prod")
    clock.advance(7.9 * H)
    assert ws.plan().plan.empty
    assert not ws.apply().changed

    clock.advance(0.2 * H)
    (change,) = ws.plan().plan.changes
    assert (change.action, change.note.startswith("its ttl ended at")) == ("delete", True)
    ws.apply()
    assert running(ws) == []
    assert not ws.apply().changed, "an apply from a timer must not bring it back"
    assert (state(ws).wanted, state(ws).until) == (False, None)

    ws.promote("churn:2", to="staging")
    ws.promote("churn:2", to="prod")
    assert house.served(ws) == 2
    clock.advance(7.9 * H)
    assert ws.plan().plan.empty
    house.check_truth(ws)


def test_touch(house: Any, timed: Timed, clock: Clock) -> None:
    """A touch gives an endpoint its whole time again, also one that is down; it is recorded."""
    ws = timed(TTL)
    ws.promote("churn:1", to="prod")
    clock.advance(7 * H)
    until = ws.touch("churn-prod")["churn-prod"].until
    assert until is not None
    assert abs(until.timestamp() - (clock() + 8 * H)) < 60
    clock.advance(7 * H)
    assert ws.plan().plan.empty
    clock.advance(2 * H)
    ws.apply()
    assert running(ws) == []

    assert ws.touch("churn-prod")["churn-prod"].up
    ws.apply()
    assert house.served(ws) == 1
    assert house.kinds(ws).count("note") == 2
    house.check_truth(ws)


def test_down_by_hand_is_no_end_of_a_ttl(house: Any, timed: Timed, clock: Clock) -> None:
    """What somebody took down comes back with the next apply, and has all its time again."""
    ws = timed(TTL)
    ws.promote("churn:1", to="prod")
    clock.advance(9 * H)
    ws.down("churn-prod")

    ws.apply()
    assert running(ws) == ["churn-prod"]
    clock.advance(7 * H)
    assert ws.plan().plan.empty


def test_touch_needs_a_ttl(timed: Timed) -> None:
    """An endpoint without a ttl, or that nobody configured, cannot be touched."""
    ws = timed(OFFICE)

    with pytest.raises(InvalidRequest, match="has no ttl") as refused:
        ws.touch("churn-prod")
    assert refused.value.hint == 'ttl = "8h" in [endpoints.churn-prod]'
    with pytest.raises(NotFound, match="no endpoint 'other'"):
        ws.touch("other")


def test_price_of_hours(timed: Timed, clock: Clock) -> None:
    """A month of an endpoint with a schedule has the hours of the schedule."""
    ws = timed(OFFICE)
    clock.set(DAY)

    (bill,) = ws.costs()
    assert bill.after.hours == pytest.approx(730 * 60 / 168)
