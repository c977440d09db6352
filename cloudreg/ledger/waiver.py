"""A waiver: for some time, somebody answers for files that a stage would refuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DAYS = 30
MAX_DAYS = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """What somebody answers for.

    Attributes:
        stage: The stage that the version may enter.
        formats: Formats of files that do not stand in its way there.
        until: The last day that it counts, ISO 8601 in UTC, by the ledger's clock.
        by: Who answers for it; never the version's author.
        reason: Why.
    """

    stage: str
    formats: tuple[str, ...]
    until: str
    by: str
    reason: str

    def counts(self, today: str) -> bool:
        """Whether it still counts on a day, written as *until* is."""
        return today <= self.until

    def __str__(self) -> str:
        """Render as ``pickle in prod until 2026-12-25 by bob``."""
        return f"{', '.join(self.formats)} in {self.stage} until {self.until} by {self.by}"


def with_waiver(waivers: Iterable[Waiver], new: Waiver) -> tuple[Waiver, ...]:
    """Return *waivers* and *new*, which takes the place of the one for the same stage and formats.

    So a waiver is prolonged or cut short by another; the older ones stay in the history.
    """
    others = (w for w in waivers if (w.stage, w.formats) != (new.stage, new.formats))
    return (*others, new)
