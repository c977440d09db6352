"""``cloudreg cost``: what every configured endpoint costs while it runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.cli.words import clean, table

if TYPE_CHECKING:
    from cloudreg.catalog import Bill, Total
    from cloudreg.cli.desk import Desk


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Show the price of each endpoint, and what they come to by target and by stage."""
    from cloudreg.catalog import total

    bills = desk.workspace.costs()
    targets = _totals(bills, by="target")
    stages = _totals(bills, by="stage")
    whole = total({bill.endpoint: bill.after for bill in bills})
    return Answer(
        facts={
            "endpoints": [
                {"endpoint": b.endpoint, "target": b.target, "stage": b.stage, **b.after.to_json()}
                for b in bills
            ],
            "targets": {name: each.to_json() for name, each in targets.items()},
            "stages": {name: each.to_json() for name, each in stages.items()},
            "total": whole.to_json(),
        },
        text=_text(bills, targets, stages, whole) if bills else ["no endpoint is configured"],
    )


def _totals(bills: list[Bill], *, by: str) -> dict[str, Total]:
    from cloudreg.catalog import total

    groups: dict[str, dict[str, Bill]] = {}
    for bill in bills:
        groups.setdefault(getattr(bill, by), {})[bill.endpoint] = bill
    return {
        name: total({each: bill.after for each, bill in group.items()})
        for name, group in sorted(groups.items())
    }


def _text(
    bills: list[Bill],
    targets: Mapping[str, Total],
    stages: Mapping[str, Total],
    whole: Total,
) -> Iterator[str]:
    rows = [
        (b.endpoint, b.stage, b.target, " or ".join(b.after.machines), *_cells(b)) for b in bills
    ]
    head = ("ENDPOINT", "STAGE", "TARGET", "MACHINE", "$/H", "$/MONTH", "AS OF")
    yield from table(head, rows)
    yield ""
    for kind, totals in (("target", targets), ("stage", stages)):
        yield from (f"{kind} {name}: {each}" for name, each in totals.items())
    yield f"together: {whole}"
    notes = [f"{b.endpoint}: {b.after.note}" for b in bills if b.after.note]
    notes += [f"{name}: price unknown: {why}" for name, why in whole.unknown.items()]
    if notes:
        yield ""
        yield from map(clean, notes)


def _cells(bill: Bill) -> tuple[str, str, str]:
    cost = bill.after
    if cost.unknown:
        return "unknown", "unknown", ""
    month = cost.month
    if not cost.whole_month:
        month += f" ({cost.hours:.0f} h)"
    return cost.hour, month, cost.as_of
