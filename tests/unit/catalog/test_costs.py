"""What endpoints cost while they run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloudreg.catalog import Bill, Cost, bills_json, bills_lines, cost_of, total
from cloudreg.kinds import EndpointKind, Serverless
from cloudreg.machines import Machine, Price, PriceList
from cloudreg.types import EndpointSpec, Resources, Scaling, Variant


def machine(name: str, usd: float | None, as_of: str = "2026-09-01") -> Machine:
    price = None
    if usd is not None:
        price = Price(usd_per_hour=usd, region="r", as_of=as_of, source="https://example.com")
    return Machine(name=name, price=price, unpriced="" if price else f"no price of {name}")


def spec(low: int = 1, high: int = 1, **more: object) -> EndpointSpec:
    variant = Variant(
        name="primary",
        model="churn",
        number=1,
        digest=f"sha256:{'a' * 64}",
        resources=Resources(memory_mib=100 if "pool" in more else None),
        scaling=Scaling(min_replicas=low, max_replicas=high),
    )
    return EndpointSpec(name="e", stage="prod", variants=(variant,), **more)  # type: ignore[arg-type]


def priced(low: int, high: int, *machines: Machine, hours: float = 730) -> Cost:
    return cost_of(spec(low, high), {"primary": machines}, hours=hours)


def test_hour_and_month() -> None:
    """An hour is replicas times the machine, and a month has 730 of them."""
    cost = priced(1, 4, machine("m", 1.5))

    assert (cost.low_usd_per_hour, cost.high_usd_per_hour) == (1.5, 6.0)
    assert (cost.low_usd_per_month, cost.high_usd_per_month) == (1095.0, 4380.0)
    assert str(cost) == "$1.50 to $6.00 an hour, $1,095 to $4,380 a month"
    assert str(priced(2, 2, machine("m", 1.5))) == "$3.00 an hour, $2,190 a month"


def test_rest_costs_nothing() -> None:
    """An endpoint that may have no replica may cost nothing."""
    assert priced(0, 2, machine("m", 1.5)).low_usd_per_hour == 0.0


def test_fallback_is_priced_as_the_dearest() -> None:
    """Where machines stand in for each other, the most is on the dearest and the least on the
    cheapest."""
    cost = priced(1, 2, machine("b", 2.0), machine("c", 5.0), machine("a", 1.0, "2025-01-01"))

    assert (cost.low_usd_per_hour, cost.high_usd_per_hour) == (1.0, 10.0)
    assert cost.machines == ("b", "c", "a")
    assert cost.as_of == "2025-01-01"


def test_unknown_price() -> None:
    """One machine without a price makes the endpoint's unknown; none is made up."""
    cost = priced(1, 1, machine("a", 1.0), machine("b", None))

    assert cost.high_usd_per_hour is cost.high_usd_per_month is None
    assert str(cost) == "price unknown: no price of b"
    assert not cost.free


def test_serverless_is_paid_by_request() -> None:
    """Nobody knows what a serverless endpoint costs in an hour."""
    cost = cost_of(spec(kind=EndpointKind.SERVERLESS, serverless=Serverless()), {"primary": ()})

    assert "paid for by the requests" in cost.unknown


def test_pool_shares_machines() -> None:
    """Endpoints of a pool cost at most a machine for each replica."""
    cost = cost_of(spec(2, 3, pool="shared"), {"primary": (machine("m", 2.0),)})

    assert (cost.low_usd_per_hour, cost.high_usd_per_hour) == (0.0, 6.0)
    assert "pool shared" in cost.note


def test_more_gpus_than_were_asked_for() -> None:
    """A machine with more GPUs than a replica needs is told of: it is paid for as a whole."""
    asked = spec()
    variant = replace(asked.variants[0], resources=Resources.parse("A100"))
    eight = replace(machine("p4d", 25.0), accelerator="A100", accelerator_count=8)

    cost = cost_of(replace(asked, variants=(variant,)), {"primary": (eight,)})
    assert cost.note == "p4d has 8 GPUs for the 1 that primary needs"
    assert cost.high_usd_per_hour == 25.0


def test_hours_of_a_schedule() -> None:
    """An endpoint with a schedule costs what its hours cost, and says how many they are."""
    cost = priced(1, 1, machine("m", 2.0), hours=260)

    assert (cost.high_usd_per_hour, cost.high_usd_per_month) == (2.0, 520.0)
    assert str(cost).endswith("a month of 260 hours")


def test_total_names_what_is_unknown() -> None:
    """A sum says which endpoints are not in it."""
    found = total({"a": priced(1, 1, machine("m", 1.0)), "b": priced(1, 2, machine("n", None))})

    assert (found.low_usd_per_hour, found.high_usd_per_month) == (1.0, 730.0)
    assert found.unknown == {"b": "no price of n"}
    assert str(found) == "$1.00 an hour, $730 a month, and b of unknown price"


def bill(before: Cost, after: Cost, name: str = "e") -> Bill:
    return Bill(endpoint=name, target="aws", stage="prod", before=before, after=after)


def test_bills_as_text() -> None:
    """A plan shows both prices where the change is one of the price, and what all come to."""
    one, two = priced(1, 1, machine("m", 1.0)), priced(1, 2, machine("n", 1.0))

    assert str(bill(Cost(), one)) == "e on aws (m): $1.00 an hour, $730 a month"
    assert str(bill(one, one)) == str(bill(Cost(), one))
    assert str(bill(one, Cost())) == "e on aws: $1.00 an hour, $730 a month -> nothing"
    assert str(bill(one, two)).endswith(
        "$1.00 an hour, $730 a month -> $1.00 to $2.00 an hour, $730 to $1,460 a month"
    )
    lines = list(bills_lines([bill(one, two), bill(one, one, "f")]))
    assert lines[0].endswith("as of 2026-09-01 or later; a month has 730 hours:")
    assert lines[-1] == "  together: $2.00 to $3.00 an hour, $1,460 to $2,190 a month"
    assert list(bills_lines([bill(Cost(), Cost())])) == ["Price: nothing is paid for."]
    assert list(bills_lines([])) == []


@pytest.mark.parametrize("after", [Cost(), priced(0, 2, machine("m", 1.5), hours=100.5)])
def test_bills_as_json(after: Cost) -> None:
    """A bill is read back from JSON as it was, and the facts are those of the text."""
    made = bill(priced(1, 1, machine("m", None)), after)

    assert Bill.from_json(made.to_json()) == made
    document = bills_json([made])
    assert document["endpoints"][0]["before"]["unknown"] == "no price of m"
    assert document["total"]["after"]["usd_per_month"]["max"] == after.high_usd_per_month


def test_newer_list_counts(tmp_path: object) -> None:
    """Of two lists of one region, the newer has the last word, whatever their order is."""
    from pathlib import Path

    path = Path(str(tmp_path)) / "prices.toml"
    lists = [("2026-09-01", 2.0), ("2025-01-01", 9.0)]
    path.write_text(
        "\n".join(
            f'[[list]]\nregion = "r"\nas_of = "{day}"\nsource = "s"\n[list.usd_per_hour]\nm = {usd}'
            for day, usd in lists
        )
    )
    prices = PriceList.read(path)

    found = prices.find("m", "r")
    assert found is not None
    assert (found.usd_per_hour, found.as_of) == (2.0, "2026-09-01")
    assert prices.find("m", "elsewhere") is None
    assert prices.reason("m", "elsewhere") == (
        "no list price of m in elsewhere is known ($2 an hour in r on 2026-09-01)"
    )
    assert prices.reason("n", "r") == "no list price of n in r is known"
