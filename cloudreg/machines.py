"""Machines as a provider offers them, and what they cost: facts with a date and a source.

Which machine carries what a replica needs is a provider's knowledge, and so is what it costs. What
a GPU is, wherever it runs, is `cloudreg.catalog`'s.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What something costs while it runs, on demand.

    Attributes:
        usd_per_hour: In US dollars, without taxes and discounts.
        region: Where it holds.
        as_of: The day of which that is known, ISO 8601; empty where a configuration says it.
        source: Where it stands.
    """

    usd_per_hour: float
    region: str
    as_of: str
    source: str

    def __post_init__(self) -> None:
        """Refuse what is no price, and a price without a day."""
        assert self.usd_per_hour >= 0, self
        assert math.isfinite(self.usd_per_hour), self
        assert not self.as_of or date.fromisoformat(self.as_of), self
        assert self.source, self

    def plus(self, other: Price, *, times: int) -> Price:
        """Return the price of this and *times* the *other*, with the older day of the two."""
        oldest = min(self, other, key=lambda price: price.as_of)
        return Price(
            usd_per_hour=self.usd_per_hour + times * other.usd_per_hour,
            region=self.region,
            as_of=oldest.as_of,
            source=oldest.source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one replica comes on.

    Attributes:
        name: As the provider calls it.
        accelerator: GPU class; None for CPU, or where it is not known.
        accelerator_count: GPUs that the machine has, which may be more than were asked for.
        price: What it costs; None where that is not known.
        unpriced: Why there is no price.
    """

    name: str
    accelerator: str | None = None
    accelerator_count: int = 0
    price: Price | None = None
    unpriced: str = ""

    def __post_init__(self) -> None:
        """Refuse a machine of which nobody knows why its price is not known."""
        assert (self.price is None) == bool(self.unpriced), self


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices by region and name, as a provider's own file has them.

    Attributes:
        prices: Region to name to price.
    """

    prices: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> PriceList:
        """Read ``[[list]]`` tables: ``region``, ``as_of``, ``source`` and ``usd_per_hour``.

        Of two lists with one name for a region, the newer one counts.
        """
        prices: dict[str, dict[str, Price]] = {}
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        for table in sorted(document["list"], key=lambda each: str(each["as_of"])):
            prices.setdefault(table["region"], {}).update(_priced(table))
        return cls(prices)

    def find(self, name: str, region: str) -> Price | None:
        """Return the price of *name* in *region*, if it is known."""
        return self.prices.get(region, {}).get(name)

    def reason(self, name: str, region: str) -> str:
        """Return why there is none, with what is known of another region."""
        why = f"no list price of {name} in {region} is known"
        elsewhere = [found for region in sorted(self.prices) if (found := self.find(name, region))]
        if elsewhere:
            near = elsewhere[0]
            why += f" (${near.usd_per_hour:g} an hour in {near.region} on {near.as_of})"
        return why

    def names(self) -> frozenset[str]:
        """Return everything that has a price somewhere."""
        return frozenset(name for names in self.prices.values() for name in names)

    def __iter__(self) -> Iterator[Price]:
        """Yield all prices."""
        for names in self.prices.values():
            yield from names.values()


def _priced(table: Mapping[str, Any]) -> dict[str, Price]:
    return {
        name: Price(
            usd_per_hour=usd,
            region=table["region"],
            as_of=str(table["as_of"]),
            source=table["source"],
        )
        for name, usd in table["usd_per_hour"].items()
    }
