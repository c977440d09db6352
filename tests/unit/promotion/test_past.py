"""What was where on a day: from the ledger alone, each with its own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest, NotFound
from cloudreg.ledger import Entry
from cloudreg.past import Past, past, span

Live = Callable[..., Any]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """A ledger of two versions and two promotions, to be read as of other days."""
    from cloudreg import Workspace
    from cloudreg.manifest import Lineage

    root = tmp_path_factory.mktemp("past")
    (root / "cloudreg.toml").write_text("[stages.dev]\n[stages.prod]\ngates = []\n")
    with Workspace.load(root, actor="ada") as ws:
        for number in (1, 2):
            (root / f"v{number}").mkdir()
            (root / f"v{number}" / "weights.txt").write_text(str(number))
            ws.register("churn", root / f"v{number}", lineage=Lineage())
            ws.promote(f"churn:{number}", to="prod")
        return list(ws.history("churn", newest_first=False))


def dated(entries: list[Entry], *days: str) -> Iterator[Entry]:
    """Yield the entries as if each operation had been on a day of its own, at noon.

    The chain of hashes is of no matter to what a fold says of them.
    """
    from dataclasses import replace

    from cloudreg.ledger.entry import GENESIS

    ends = [i for i, e in enumerate(entries) if e.kind in ("register", "done")]
    head = GENESIS
    for index, entry in enumerate(entries):
        day = days[next(n for n, end in enumerate(ends) if index <= end)]
        made = replace(entry, at=f"{day}T12:00:00.000000Z", prev=head)
        head = made.hash
        yield made


def held(found: Past) -> list[tuple[str, int]]:
    return [(one.stage, one.number) for one in found.held]


DAYS = ("2026-03-01", "2026-03-02", "2026-03-05", "2026-03-08")
"""churn:1 comes, and goes to prod; churn:2 comes, and goes to prod."""


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        ("2026-02-28", []),
        ("2026-03-01", [("dev", 1)]),
        ("2026-03-01T11:59", []),
        ("2026-03-01T12:00", [("dev", 1)]),
        ("2026-03-01T13:00+01:00", [("dev", 1)]),
        ("2026-03-01T12:59+01:00", []),
        ("2026-03-04", [("dev", 1), ("prod", 1)]),
        ("2026-03-05", [("dev", 1), ("prod", 1), ("dev", 2)]),
        ("2026-03-05T12:00:00Z", [("prod", 1), ("dev", 2)]),
        ("2026-03-08", [("prod", 1), ("dev", 2), ("prod", 2)]),
        ("2026-03-09", [("dev", 2), ("prod", 2)]),
        ("2099-01-01", [("dev", 2), ("prod", 2)]),
    ],
)
def test_stages(entries: list[Entry], at: str, wanted: list[tuple[str, int]]) -> None:
    """A day has all that was true in it, a moment what was true then; the end is not in it."""
    assert held(past("churn", dated(entries, *DAYS), span(at))) == wanted


def test_times(entries: list[Entry]) -> None:
    """Each says since when and until when it was so, and who made it so."""
    first = past("churn", dated(entries, *DAYS), span("2026-03-08")).held[0]
    assert (first.since, first.until) == tuple(f"{d}T12:00:00.000000Z" for d in (DAYS[1], DAYS[3]))
    assert (first.actor, first.digest.startswith("sha256:")) == ("ada", True)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-13-01", "2026-02-30", "2026-03-01T25:00", "20260301", "9999-12-31"],
)
def test_dates_that_are_none(text: str) -> None:
    """What is no date is refused, with one that is."""
    with pytest.raises(InvalidRequest, match=r"no date|neither") as caught:
        span(text)
    assert "2026-11-24" in str(caught.value.hint)


def test_endpoints(house: Any, live: Live) -> None:
    """What an endpoint served is told too, with the share of each variant."""
    ws = live(versions=1)
    now = ws.fold("churn").applied["churn-prod"].at
    [ran] = ws.past("churn", now).ran
    assert (ran.endpoint, ran.target, ran.until) == ("churn-prod", "local", None)
    assert ran.variants == (("primary", 1, 100),)
    assert ws.past("churn", "2020-01-01").ran == ()
    with pytest.raises(NotFound):
        ws.past("nobody", "2020-01-01")
