"""What endpoints cost while they run, at list prices: an hour, and a month of 730 hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudreg.machines import Machine
from cloudreg.types import EndpointKind, EndpointSpec

MONTH_H = 730
"""Hours of a month: 365 days of 24 hours, by 12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one endpoint costs, between as few replicas as it may have and as many.

    Attributes:
        machines: What a replica comes on; the first choice, then what stands in for it.
        low_usd_per_hour: With the fewest replicas, on the cheapest of the machines; None where it
            is not known.
        high_usd_per_hour: With the most replicas, on the dearest of them; None where it is not
            known.
        hours: Of a month, that it is there: 730 without a schedule.
        as_of: The oldest day of which a price is known; empty without prices.
        sources: Where the prices stand.
        note: What else people should know.
        unknown: Why there is no price; empty where there is one.
    """

    machines: tuple[str, ...] = ()
    low_usd_per_hour: float | None = 0.0
    high_usd_per_hour: float | None = 0.0
    hours: float = MONTH_H
    as_of: str = ""
    sources: tuple[str, ...] = ()
    note: str = ""
    unknown: str = ""

    @property
    def low_usd_per_month(self) -> float | None:
        """The same for a month."""
        return None if self.low_usd_per_hour is None else self.low_usd_per_hour * self.hours

    @property
    def high_usd_per_month(self) -> float | None:
        """The same for a month."""
        return None if self.high_usd_per_hour is None else self.high_usd_per_hour * self.hours

    @property
    def hour(self) -> str:
        """Return the price of an hour for people; ``unknown`` where it is."""
        return _range((self.low_usd_per_hour, self.high_usd_per_hour), places=2)

    @property
    def month(self) -> str:
        """Return the price of a month for people; ``unknown`` where it is."""
        return _range((self.low_usd_per_month, self.high_usd_per_month), places=0)

    @property
    def whole_month(self) -> bool:
        """Whether it is there around the clock."""
        return self.hours == MONTH_H

    @property
    def free(self) -> bool:
        """Whether nothing is paid for."""
        return self.high_usd_per_hour == 0 and not self.unknown

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "machines": list(self.machines),
            "usd_per_hour": {"min": self.low_usd_per_hour, "max": self.high_usd_per_hour},
            "usd_per_month": {"min": self.low_usd_per_month, "max": self.high_usd_per_month},
            "hours_per_month": self.hours,
            "as_of": self.as_of or None,
            "sources": list(self.sources),
            "note": self.note,
            "unknown": self.unknown or None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cost:
        """Read what `to_json` returned."""
        return cls(
            machines=tuple(data["machines"]),
            low_usd_per_hour=data["usd_per_hour"]["min"],
            high_usd_per_hour=data["usd_per_hour"]["max"],
            hours=data["hours_per_month"],
            as_of=data["as_of"] or "",
            sources=tuple(data["sources"]),
            note=data["note"],
            unknown=data["unknown"] or "",
        )

    def __str__(self) -> str:
        """Render for people."""
        if self.unknown:
            return f"price unknown: {self.unknown}"
        text = f"{self.hour} an hour, {self.month} a month"
        return text if self.whole_month else f"{text} of {self.hours:.0f} hours"


def cost_of(
    spec: EndpointSpec,
    machines: Mapping[str, Sequence[Machine]],
    *,
    hours: float = MONTH_H,
) -> Cost:
    """Return what an endpoint costs.

    Args:
        spec: The endpoint.
        machines: Variant to what each of its replicas may come on; the first choice first.
        hours: Of a month, that it is there.
    """
    if spec.kind is EndpointKind.SERVERLESS:
        return Cost(
            low_usd_per_hour=None,
            high_usd_per_hour=None,
            hours=hours,
            unknown="a serverless endpoint is paid for by the requests that it answers",
        )
    shadow = (spec.shadow,) if spec.shadow is not None else ()
    variants = (*spec.variants, *shadow)
    every = [machine for variant in variants for machine in machines[variant.name]]
    names = tuple(dict.fromkeys(machine.name for machine in every))
    unpriced = next((machine.unpriced for machine in every if machine.price is None), "")
    if unpriced:
        return Cost(
            machines=names,
            low_usd_per_hour=None,
            high_usd_per_hour=None,
            hours=hours,
            unknown=unpriced,
        )
    low = high = 0.0
    for variant in variants:
        usd = [m.price.usd_per_hour for m in machines[variant.name] if m.price is not None]
        # Several replicas share a machine of a pool, and the endpoints of a pool do.
        low += 0.0 if spec.pool is not None else variant.scaling.min_replicas * min(usd)
        high += variant.scaling.max_replicas * max(usd)
    prices = [machine.price for machine in every if machine.price is not None]
    paid = [price for price in prices if price.usd_per_hour]
    return Cost(
        machines=names,
        low_usd_per_hour=low,
        high_usd_per_hour=high,
        hours=hours,
        as_of=min((price.as_of for price in paid), default=""),
        sources=tuple(sorted({price.source for price in paid})),
        note="; ".join(_notes(spec, machines)),
    )


def _notes(spec: EndpointSpec, machines: Mapping[str, Sequence[Machine]]) -> Iterator[str]:
    """Yield what people should know of the machines, beside what they cost."""
    if spec.pool is not None:
        yield f"shares the machines of pool {spec.pool}: at most one for each replica"
        return
    more = {
        f"{machine.name} has {machine.accelerator_count} GPUs for the "
        f"{variant.resources.accelerator_count} that {variant.name} needs"
        for variant in spec.variants
        for machine in machines[variant.name]
        if 0 < variant.resources.accelerator_count < machine.accelerator_count
    }
    yield from sorted(more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What an endpoint costs before a change, and after it.

    Attributes:
        endpoint: Its name.
        target: Where it runs.
        stage: The stage that it follows.
        before: What it costs now; nothing where it is not there.
        after: What it will cost; nothing where it goes.
    """

    endpoint: str
    target: str
    stage: str
    before: Cost
    after: Cost

    @property
    def free(self) -> bool:
        """Whether nothing is paid for, neither before nor after."""
        return self.before.free and self.after.free

    def __str__(self) -> str:
        """Render for people: both prices where the change is one of the price too."""
        where = f"{self.endpoint} on {self.target}"
        if self.after.machines:
            where += f" ({' or '.join(self.after.machines)})"
        text = "nothing" if self.after.free else str(self.after)
        if not self.before.free and str(self.before) != text:
            text = f"{self.before} -> {text}"
        note = self.after.note or self.before.note
        return f"{where}: {text} ({note})" if note else f"{where}: {text}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bill:
        """Read what `to_json` returned."""
        return cls(
            endpoint=data["endpoint"],
            target=data["target"],
            stage=data["stage"],
            before=Cost.from_json(data["before"]),
            after=Cost.from_json(data["after"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "endpoint": self.endpoint,
            "target": self.target,
            "stage": self.stage,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What several endpoints cost together: of what is known, with what is not.

    Attributes:
        low_usd_per_hour: With the fewest replicas.
        high_usd_per_hour: With the most replicas.
        low_usd_per_month: With the fewest, in the hours that each is there.
        high_usd_per_month: With the most.
        unknown: Endpoint to why it has no price; what it costs comes on top.
    """

    low_usd_per_hour: float
    high_usd_per_hour: float
    low_usd_per_month: float
    high_usd_per_month: float
    unknown: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "usd_per_hour": {"min": self.low_usd_per_hour, "max": self.high_usd_per_hour},
            "usd_per_month": {"min": self.low_usd_per_month, "max": self.high_usd_per_month},
            "unknown": dict(self.unknown),
        }

    def __str__(self) -> str:
        """Render for people."""
        hour = _range((self.low_usd_per_hour, self.high_usd_per_hour), places=2)
        month = _range((self.low_usd_per_month, self.high_usd_per_month), places=0)
        text = f"{hour} an hour, {month} a month"
        if self.unknown:
            text += f", and {', '.join(self.unknown)} of unknown price"
        return text


def total(costs: Mapping[str, Cost]) -> Total:
    """Return what endpoints cost together, by their names."""
    known = [cost for cost in costs.values() if not cost.unknown]
    return Total(
        low_usd_per_hour=sum(cost.low_usd_per_hour or 0.0 for cost in known),
        high_usd_per_hour=sum(cost.high_usd_per_hour or 0.0 for cost in known),
        low_usd_per_month=sum(cost.low_usd_per_month or 0.0 for cost in known),
        high_usd_per_month=sum(cost.high_usd_per_month or 0.0 for cost in known),
        unknown={name: cost.unknown for name, cost in costs.items() if cost.unknown},
    )


Range = tuple[float | None, float | None]


def _range(values: Range, *, places: int) -> str:
    if None in values:
        return "unknown"
    low, high = (f"${value:,.{places}f}" for value in values)
    return low if low == high else f"{low} to {high}"


def bills_json(bills: Sequence[Bill]) -> dict[str, Any]:
    """Return bills, and what they come to, as plain JSON data."""
    return {
        "endpoints": [bill.to_json() for bill in bills],
        "total": {
            "before": total({bill.endpoint: bill.before for bill in bills}).to_json(),
            "after": total({bill.endpoint: bill.after for bill in bills}).to_json(),
        },
    }


def bills_lines(bills: Sequence[Bill]) -> Iterator[str]:
    """Yield what a plan says of the price; nothing of no endpoints."""
    if not bills:
        return
    if all(bill.free for bill in bills):
        yield "Price: nothing is paid for."
        return
    days = [cost.as_of for bill in bills for cost in (bill.before, bill.after) if cost.as_of]
    known = f", as of {min(days)} or later" if days else ""
    yield f"Price while it runs, on demand{known}; a month has {MONTH_H} hours:"
    yield from (f"  {bill}" for bill in bills)
    if len(bills) > 1:
        yield f"  together: {total({bill.endpoint: bill.after for bill in bills})}"
