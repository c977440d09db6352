"""What was where, and from when until when: the ledger read as spans of time.

Times are those of the writers' clocks. Entries stand in the order in which they became true; a
clock that went back makes a span of no length, and never two holders at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from cloudreg.errors import InvalidRequest
from cloudreg.ledger import Entry, Fold
from cloudreg.ledger.fold import Applied, Holder
from cloudreg.plan import spec_from_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time: from its first moment up to, and without, its last.

    Attributes:
        start: With its zone.
        end: With its zone; equal to *start* for a single moment.
    """

    start: datetime
    end: datetime

    def meets(self, since: str, until: str | None) -> bool:
        """Whether what was so from *since* up to *until* was so at any moment of the span."""
        began = datetime.fromisoformat(since)
        if self.start == self.end:
            return began <= self.start and (until is None or self.start < _moment(until))
        return began < self.end and (until is None or self.start < _moment(until))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A version that a stage held.

    Attributes:
        stage: The stage.
        number: The version's number.
        digest: Its identity.
        since: When the stage moved to it, ISO 8601 in UTC.
        until: When it moved on; None while it holds it.
        entry: What moved it.
        actor: Who did.
    """

    stage: str
    number: int
    digest: str
    since: str
    until: str | None
    entry: int
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What cloudreg had made of an endpoint.

    Attributes:
        endpoint: Its name.
        target: Where.
        variants: Name, number and percent of the traffic of each.
        since: When it was made so, ISO 8601 in UTC.
        until: When it became something else; None while it is so.
        entry: What says so.
        actor: Who did it.
    """

    endpoint: str
    target: str
    variants: tuple[tuple[str, int, int], ...]
    since: str
    until: str | None
    entry: int
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was where in a span of time.

    Attributes:
        model: Whose.
        start: Of the span, ISO 8601 in UTC.
        end: Of the span; equal to *start* for a moment.
        held: What the stages held, in the order in which they came to it.
        ran: What the endpoints were, likewise.
    """

    model: str
    start: str
    end: str
    held: tuple[Held, ...]
    ran: tuple[Ran, ...]


Kind = TypeVar("Kind", Held, Ran)


def span(text: str) -> Span:
    """Read a day such as ``2026-11-24``, or a moment such as ``2026-11-24T10:30+01:00``.

    Without a zone it is UTC, like the ledger.

    Raises:
        InvalidRequest: It is neither.
    """
    hint = "2026-11-24 for a day, 2026-11-24T10:30:00+01:00 for a moment"
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = date.fromisoformat(text)
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            return Span(start=start, end=start + timedelta(days=1))
        if re.match(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}", text):
            moment = _moment(text)
            return Span(start=moment, end=moment)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{text!r} is no date: {error}", hint=hint) from error
    raise InvalidRequest(f"{text!r} is neither a day nor a moment", hint=hint)


def past(model: str, entries: Iterable[Entry], when: Span) -> Past:
    """Return what was where at any moment of *when*.

    Args:
        model: Whose ledger.
        entries: All of it, oldest first.
        when: The span.
    """
    fold = Fold(model)
    stages: dict[str, Held] = {}
    endpoints: dict[str, Ran] = {}
    held: list[Held] = []
    ran: list[Ran] = []
    for entry in entries:
        before = dict(fold.stages), dict(fold.applied)
        fold.apply(entry)
        for stage in _changed(before[0], fold.stages):
            _end(stages.pop(stage, None), entry.at, held)
            if stage in fold.stages:
                stages[stage] = _held(stage, fold.stages[stage], entry.actor)
        for name in _changed(before[1], fold.applied):
            _end(endpoints.pop(name, None), entry.at, ran)
            if name in fold.applied:
                endpoints[name] = _ran(name, fold.applied[name], entry.actor)
    held += stages.values()
    ran += endpoints.values()
    return Past(
        model=model,
        start=_text(when.start),
        end=_text(when.end),
        held=tuple(sorted((h for h in held if when.meets(h.since, h.until)), key=_by_entry)),
        ran=tuple(sorted((r for r in ran if when.meets(r.since, r.until)), key=_by_entry)),
    )


def _end(one: Kind | None, until: str, into: list[Kind]) -> None:
    if one is not None:
        into.append(replace(one, until=until))


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _held(stage: str, holder: Holder, actor: str) -> Held:
    return Held(
        stage=stage,
        number=holder.number,
        digest=holder.digest,
        since=holder.since,
        until=None,
        entry=holder.seq,
        actor=actor,
    )


def _ran(name: str, applied: Applied, actor: str) -> Ran:
    spec = spec_from_json(applied.spec)
    return Ran(
        endpoint=name,
        target=applied.target,
        variants=tuple((v.name, v.number, v.weight) for v in spec.variants),
        since=applied.at,
        until=None,
        entry=applied.seq,
        actor=actor,
    )


def _by_entry(one: Held | Ran) -> tuple[int, str]:
    return one.entry, one.stage if isinstance(one, Held) else one.endpoint


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
