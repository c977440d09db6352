"""When an endpoint is there: by the clock on the wall, or for some time after it was deployed.

Nothing here waits, and nothing runs in the background: `cloudreg plan` and `cloudreg apply` ask
whether an endpoint should be there now, and a timer of the user's calls them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cloudreg.errors import InvalidRequest

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIME = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")
_SPAN = re.compile(r"([0-9]{1,6})([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}

AHEAD_DAYS = 8
"""A week has all windows that there are; one day more has the end of the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether an endpoint should be there.

    Attributes:
        up: Whether it should.
        until: When that changes by itself; None for never.
        why: What says so; empty where nothing but the configuration does.
    """

    up: bool
    until: datetime | None = None
    why: str = ""

    def __str__(self) -> str:
        """Render as people say it."""
        text = f"up ({self.why})" if self.up else f"down: {self.why}"
        if self.until is None:
            return text
        return f"{text}, until {self.until.isoformat(timespec='minutes')}"


ALWAYS = Presence(up=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Hours of the week in which an endpoint is there.

    A window that ends before it begins ends on the next day; its day is that on which it begins.

    Attributes:
        days: Numbers of the days, 0 for Monday.
        begins: Minutes after midnight.
        ends: Minutes after midnight; 1440 for the end of the day.
        timezone: Whose clock on the wall counts, by its IANA name.
    """

    days: frozenset[int]
    begins: int
    ends: int
    timezone: str = "UTC"

    @classmethod
    def parse(cls, *, days: str, begins: str, ends: str, timezone: str) -> Schedule:
        """Read ``mon-fri``, ``07:00``, ``19:00`` and ``Europe/Berlin``.

        Raises:
            InvalidRequest: One of them cannot be.
        """
        begin, end = _minutes("from", begins), _minutes("to", ends)
        if begin == 1440:
            raise InvalidRequest("schedule: from 24:00 is 00:00 of the next day")
        if begin == end:
            raise InvalidRequest(
                f"schedule: from {begins} to {ends} is no time at all",
                hint='from = "00:00", to = "24:00" for whole days',
            )
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidRequest(
                f"schedule: no time zone {timezone!r} is known here",
                hint='timezone = "Europe/Berlin", or pip install tzdata where there are none',
            ) from error
        return cls(days=_days(days), begins=begin, ends=end, timezone=timezone)

    @property
    def hours_per_week(self) -> float:
        """How many hours of a week it is there, without two changes of the clock a year."""
        covered = set()
        span = (self.ends - self.begins) % 1440 or 1440
        for day in self.days:
            start = day * 1440 + self.begins
            covered |= {minute % (7 * 1440) for minute in range(start, start + span)}
        return len(covered) / 60

    def presence(self, now: datetime) -> Presence:
        """Return whether the endpoint is there at *now*, and until when."""
        zone = ZoneInfo(self.timezone)
        end: datetime | None = None
        for begins, ends in self._windows(now.astimezone(zone).date(), zone):
            if end is None and ends <= now:
                continue
            if end is None and begins > now:
                return Presence(up=False, until=begins.astimezone(zone), why="its schedule")
            if end is not None and begins > end:
                break
            # Windows that touch are one.
            end = ends if end is None else max(end, ends)
        if end is None or end > now + timedelta(days=7):
            return Presence(up=True, why="its schedule")
        return Presence(up=True, until=end.astimezone(zone), why="its schedule")

    def _windows(self, today: date, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
        """Yield begin and end in UTC, from yesterday's window on."""
        for ahead in range(-1, AHEAD_DAYS + 1):
            day = today + timedelta(days=ahead)
            if day.weekday() not in self.days:
                continue
            last = day if self.ends > self.begins else day + timedelta(days=1)
            yield _at(day, self.begins, zone), _at(last, self.ends, zone)


def _at(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Return the moment in UTC at which a clock on the wall shows that."""
    if minutes == 1440:
        day, minutes = day + timedelta(days=1), 0
    wall = datetime.combine(day, time(minutes // 60, minutes % 60), zone)
    return wall.astimezone(UTC)


def _minutes(key: str, text: str) -> int:
    match = _TIME.fullmatch(text)
    found = int(match[1]) * 60 + int(match[2]) if match is not None else 1441
    if found > 1440:
        raise InvalidRequest(f"schedule: {key} {text!r} is not 00:00 to 24:00", hint='"07:00"')
    return found


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if first not in DAYS or last not in DAYS:
            raise InvalidRequest(
                f"schedule: days {text!r}: {part.strip()!r} is none of {', '.join(DAYS)}",
                hint='days = "mon-fri", or "mon,wed,sat"',
            )
        begin, end = DAYS.index(first), DAYS.index(last)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)


def parse_span(text: str) -> int:
    """Return the seconds of ``30m``, ``8h`` or ``2d``.

    Raises:
        InvalidRequest: It is none.
    """
    match = _SPAN.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise InvalidRequest(f"ttl {text!r} is no time such as 30m, 8h or 2d", hint='ttl = "8h"')
    return int(match[1]) * _SECONDS[match[2]]


def presence(
    now: datetime, *, schedule: Schedule | None, ttl_s: int | None, since: datetime | None
) -> Presence:
    """Return whether an endpoint should be there at *now*.

    Both have to agree, where both are configured.

    Args:
        now: With its zone.
        schedule: Hours of the week.
        ttl_s: Seconds that it is there after it was deployed or touched.
        since: When that was last; None if never: then it has all its time before it.
    """
    ends = None if ttl_s is None else (since or now) + timedelta(seconds=ttl_s)
    if ends is not None and ends <= now:
        return Presence(up=False, why=f"its ttl ended at {ends.isoformat(timespec='minutes')}")
    scheduled = schedule.presence(now) if schedule is not None else ALWAYS
    if ends is None or not scheduled.up:
        return scheduled
    if scheduled.until is not None and scheduled.until < ends:
        return scheduled
    return Presence(up=True, until=ends, why="its ttl")
