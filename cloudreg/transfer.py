"""Bytes that leave a target: how many are too many for this machine, and what they cost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudreg.errors import InvalidRequest

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kMGTP]?i?B)")
_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "kiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """What it costs that bytes leave a target for another cloud.

    Attributes:
        usd_per_gb: List price of 10^9 bytes, in the dearest tier.
        as_of: The day of which the price is known, ISO 8601; empty where nothing is charged.
        source: Where the price stands.
        note: From where, or to where, it holds.
    """

    usd_per_gb: float
    as_of: str = ""
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a price that nobody can look up."""
        assert self.usd_per_gb >= 0
        assert not self.usd_per_gb or (self.as_of and self.source)

    def __str__(self) -> str:
        """Return the price for tables."""
        if not self.usd_per_gb:
            return "nothing is charged"
        return f"${self.usd_per_gb:g} a GB ({self.as_of}, {self.note}: {self.source})"

    def of(self, size: int) -> str:
        """Return what *size* bytes cost, for people."""
        if not self.usd_per_gb:
            return "no egress is charged"
        usd = self.usd_per_gb * size / 1e9
        price = "under $0.01" if usd < 0.01 else f"about ${usd:,.2f}"
        where = f", {self.note}" if self.note else ""
        return (
            f"egress {price} at ${self.usd_per_gb:g}/GB{where} (list price as of {self.as_of}, "
            f"{self.source})"
        )


def parse_size(text: str | int) -> int:
    """Return bytes, of a number or of text such as ``50GB`` or ``1.5 GiB``.

    Raises:
        InvalidRequest: It is no size, or nothing would be below it.
    """
    if isinstance(text, bool):
        raise InvalidRequest(f"{text!r} is no size", hint='"50GB"')
    if isinstance(text, int):
        size = text
    else:
        found = _SIZE.fullmatch(text.strip())
        unit = _UNITS.get(found[2]) if found else None
        if found is None or unit is None:
            raise InvalidRequest(f"{text!r} is no size", hint='"50GB", "1.5 GiB" or bytes')
        size = int(float(found[1]) * unit)
    if size <= 0:
        raise InvalidRequest(f"{text!r}: nothing is smaller than that", hint='"50GB"')
    return size


def told(size: int) -> str:
    """Return bytes for people, in the units of prices."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"
