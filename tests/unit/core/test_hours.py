"""When an endpoint is there: hours of the week, and time after a deployment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cloudreg.errors import InvalidRequest
from cloudreg.hours import ALWAYS, Schedule, parse_span, presence

OFFICE = Schedule.parse(days="mon-fri", begins="07:00", ends="19:00", timezone="Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("now", "up", "until"),
    [
        # A Wednesday in November: Berlin is an hour ahead of UTC.
        ("2026-11-25T05:59:59+00:00", False, "2026-11-25T07:00+01:00"),
        ("2026-11-25T06:00:00+00:00", True, "2026-11-25T19:00+01:00"),
        ("2026-11-25T17:59:59+00:00", True, "2026-11-25T19:00+01:00"),
        ("2026-11-25T18:00:00+00:00", False, "2026-11-26T07:00+01:00"),
        ("2026-11-27T18:00:00+00:00", False, "2026-11-30T07:00+01:00"),
        ("2026-11-28T12:00:00+00:00", False, "2026-11-30T07:00+01:00"),
        # In July it is two.
        ("2026-07-01T05:00:00+00:00", True, "2026-07-01T19:00+02:00"),
        ("2026-07-01T04:59:00+00:00", False, "2026-07-01T07:00+02:00"),
    ],
)
def test_office_hours(now: str, up: bool, until: str) -> None:
    """The clock on the wall of the schedule's zone counts, from the first minute to the last."""
    found = OFFICE.presence(at(now))

    assert found.up is up
    assert found.until is not None
    assert found.until.isoformat(timespec="minutes") == until


def test_night_shift() -> None:
    """Hours that end before they begin end on the next day, and belong to the day they begin on."""
    night = Schedule.parse(days="fri", begins="22:00", ends="06:00", timezone="UTC")

    assert night.presence(at("2026-11-27T23:00:00+00:00")).up
    assert night.presence(at("2026-11-28T05:59:00+00:00")).up
    assert not night.presence(at("2026-11-28T06:00:00+00:00")).up
    assert not night.presence(at("2026-11-27T05:00:00+00:00")).up
    assert night.hours_per_week == 8


def test_windows_that_touch_are_one() -> None:
    """Whole days in a row have one end, and a whole week has none."""
    days = Schedule.parse(days="mon-fri", begins="00:00", ends="24:00", timezone="UTC")
    week = Schedule.parse(days="mon-sun", begins="12:00", ends="12:01", timezone="UTC")
    ever = Schedule.parse(days="mon-sun", begins="00:00", ends="24:00", timezone="UTC")

    assert days.presence(at("2026-11-25T12:00:00+00:00")).until == at("2026-11-28T00:00:00+00:00")
    assert days.presence(at("2026-11-28T12:00:00+00:00")).until == at("2026-11-30T00:00:00+00:00")
    assert ever.presence(at("2026-11-25T12:00:00+00:00")).up
    assert ever.presence(at("2026-11-25T12:00:00+00:00")).until is None
    assert not week.presence(at("2026-11-25T12:01:00+00:00")).up
    assert (days.hours_per_week, ever.hours_per_week) == (120, 168)


def test_the_clock_changes() -> None:
    """A night in which an hour is missing, or comes twice, has one window as every other."""
    early = Schedule.parse(days="sun", begins="01:30", ends="03:30", timezone="Europe/Berlin")
    spring, autumn = at("2026-03-29T00:30:00+00:00"), at("2026-10-24T23:30:00+00:00")

    for begins, hours in ((spring, 1), (autumn, 3)):
        assert not early.presence(begins - timedelta(seconds=1)).up
        assert early.presence(begins).up
        assert early.presence(begins + timedelta(hours=hours, seconds=-1)).up
        assert not early.presence(begins + timedelta(hours=hours)).up


def test_every_minute_of_a_year_is_told_ahead() -> None:
    """What is said to come is what is said when it has come."""
    now = at("2026-01-01T00:00:00+00:00")
    while now < at("2027-01-01T00:00:00+00:00"):
        found = OFFICE.presence(now)
        assert found.until is not None
        assert now < found.until
        assert OFFICE.presence(found.until - timedelta(seconds=1)).up is found.up
        assert OFFICE.presence(found.until).up is not found.up
        now = found.until.astimezone(UTC)


@pytest.mark.parametrize(
    ("days", "hours"),
    [("mon", 12), ("mon-fri", 60), ("fri-mon", 48), ("mon,wed,sat", 36), ("Sat , sun", 24)],
)
def test_days(days: str, hours: float) -> None:
    """Days are single ones, spans, and spans over the week's end."""
    made = Schedule.parse(days=days, begins="07:00", ends="19:00", timezone="UTC")

    assert made.hours_per_week == hours


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"days": "mo-fr"}, "is none of mon"),
        ({"days": ""}, "is none of mon"),
        ({"days": "mon-"}, "is none of mon"),
        ({"begins": "7:00"}, "is not 00:00 to 24:00"),
        ({"ends": "24:01"}, "is not 00:00 to 24:00"),
        ({"ends": "19:60"}, "is not 00:00 to 24:00"),
        ({"begins": "24:00"}, "00:00 of the next day"),
        ({"begins": "19:00"}, "no time at all"),
        ({"timezone": "Mars/Base"}, "no time zone"),
        ({"timezone": "../etc/passwd"}, "no time zone"),
    ],
)
def test_no_schedule(wrong: dict[str, str], said: str) -> None:
    """Days, times and zones that are none are refused."""
    right = {"days": "mon-fri", "begins": "07:00", "ends": "19:00", "timezone": "UTC"}
    with pytest.raises(InvalidRequest, match=said):
        Schedule.parse(**{**right, **wrong})


NOW = at("2026-11-25T12:00:00+00:00")


def test_ttl() -> None:
    """An endpoint is there for its time after the deployment, and not a second longer."""
    since = NOW - timedelta(hours=8)

    ended = presence(NOW, schedule=None, ttl_s=8 * 3600, since=since)
    running = presence(NOW - timedelta(seconds=1), schedule=None, ttl_s=8 * 3600, since=since)
    assert (ended.up, ended.until) == (False, None)
    assert (running.up, running.until) == (True, NOW)
    assert "its ttl ended at 2026-11-25T12:00+00:00" in ended.why


def test_never_deployed() -> None:
    """What was never deployed has all its time before it."""
    found = presence(NOW, schedule=None, ttl_s=60, since=None)

    assert (found.up, found.until) == (True, NOW + timedelta(minutes=1))


def test_neither() -> None:
    """Without schedule and ttl an endpoint is always there."""
    assert presence(NOW, schedule=None, ttl_s=None, since=None) is ALWAYS


def test_both_have_to_agree() -> None:
    """The earlier end counts; a ttl that is over is not brought back by the schedule."""
    office_ends = at("2026-11-25T19:00:00+01:00")

    def both(hours_ago: float, now: datetime = NOW, ttl_h: int = 8) -> tuple[bool, object]:
        since = now - timedelta(hours=hours_ago)
        found = presence(now, schedule=OFFICE, ttl_s=ttl_h * 3600, since=since)
        return found.up, found.until

    assert both(1) == (True, office_ends)
    assert both(5) == (True, NOW + timedelta(hours=3))
    assert both(9) == (False, None)
    evening = at("2026-11-25T20:00:00+01:00")
    assert both(1, evening, ttl_h=24) == (False, at("2026-11-26T07:00:00+01:00"))
    assert both(25, evening, ttl_h=24) == (False, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("8h", 28_800), ("2d", 172_800), ("1m", 60)]
)
def test_spans(text: str, seconds: int) -> None:
    """A ttl is minutes, hours or days."""
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["8", "8H", "0h", "1.5h", "-1h", "1h30m", "", "9999999h"])
def test_no_span(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(InvalidRequest, match="is no time such as"):
        parse_span(text)
