"""What a plan says of GPUs and of the price, and the budget that stands before a stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.errors import GateFailed, StalePlan, Unsupported
from cloudreg.machines import Machine, Price
from cloudreg.provider import ProviderContext
from cloudreg.types import Resources
from cloudreg_local import PLUGIN

USD = {"T4": 1.0, "L4": 2.0, "A10G": 3.0}
"""What a GPU costs an hour in the cloud of these tests; all others have no price."""

PROD = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
"""


class Cloud:
    """A local target that offers three classes of GPUs, and rents them out."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.capabilities = replace(provider.capabilities, accelerators=frozenset({"L4", "T4"}))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)


def machines(_: Any, resources: Resources, target: str) -> tuple[Machine, ...]:
    def machine(gpu: str | None) -> Machine:
        name = f"m-{gpu}" if gpu else "m-cpu"
        usd = USD.get(gpu or "", 0.5 if gpu is None else None)
        if usd is None:
            return Machine(name=name, accelerator=gpu, unpriced=f"nobody knows of {name}")
        price = Price(
            usd_per_hour=usd * max(1, resources.accelerator_count),
            region="here",
            as_of="2026-09-01",
            source="https://example.com/prices",
        )
        return Machine(
            name=name, accelerator=gpu, accelerator_count=resources.accelerator_count, price=price
        )

    return tuple(machine(gpu) for gpu in (resources.accelerator, *resources.fallback))


@pytest.fixture
def cloud() -> Iterator[str]:
    """The name of a provider that costs something."""

    def opened(settings: Any, context: ProviderContext) -> Any:
        return Cloud(PLUGIN.open(settings, context))

    plugins.register(replace(PLUGIN, name="cloud", open=opened, machines=machines))
    yield "cloud"
    plugins._registered.pop("cloud")


Priced = Callable[..., Workspace]


@pytest.fixture
def priced(house: Any, cloud: str) -> Priced:
    """Return a workspace whose only target costs something, with a version in staging."""

    def make(text: str, **configured: Any) -> Workspace:
        emulated = {"local": "emulate_accelerators = true"}
        house.configure(text, provider=cloud, targets=emulated, **configured)
        ws: Workspace = house.open()
        if not ws.models():
            house.register(ws)
            ws.promote("churn:1", to="staging")
        return ws

    return make


def price(ws: Workspace) -> dict[str, Any]:
    """Return what a plan says of the price, as JSON."""
    document: dict[str, Any] = ws.plan().plan.to_json()["price"]
    return document


def test_plan_of_a_promotion_has_a_price(priced: Priced) -> None:
    """Before anything is there, a plan says what it will cost with the fewest replicas and most."""
    ws = priced(PROD + 'gpu = "T4:2"\nmin_replicas = 1\nmax_replicas = 3\n')
    plan = ws.promote("churn:1", to="prod", dry_run=True).plan

    lines = str(plan).splitlines()
    assert (
        "Price while it runs, on demand, as of 2026-09-01 or later; a month has 730 hours:" in lines
    )
    assert "  churn-prod on local (m-T4): $2.00 to $6.00 an hour, $1,460 to $4,380 a month" in lines
    (endpoint,) = plan.to_json()["price"]["endpoints"]
    assert endpoint["before"]["usd_per_hour"] == {"min": 0.0, "max": 0.0}
    assert endpoint["after"]["usd_per_hour"] == {"min": 2.0, "max": 6.0}
    assert endpoint["after"]["usd_per_month"] == {"min": 1460.0, "max": 4380.0}
    assert endpoint["after"]["sources"] == ["https://example.com/prices"]


def test_price_before_and_after(house: Any, priced: Priced) -> None:
    """A change of the machine shows both prices; a plan without changes shows the one there is."""
    ws = priced(PROD + 'gpu = "T4"\n')
    ws.promote("churn:1", to="prod")

    assert "  churn-prod on local (m-T4): $1.00 an hour, $730 a month" in str(ws.plan())
    assert ws.plan().plan.empty
    changed = priced(PROD + 'gpu = "L4"\n')
    shown = "$1.00 an hour, $730 a month -> $2.00 an hour, $1,460 a month"
    assert f"  churn-prod on local (m-L4): {shown}" in str(changed.plan())
    assert price(changed)["total"]["before"]["usd_per_month"]["max"] == 730


def test_fallback_costs_at_most_the_dearest(priced: Priced) -> None:
    """GPUs that stand in for each other are priced from the cheapest to the dearest."""
    ws = priced(PROD + 'gpu = "L4"\ngpu_fallback = ["T4"]\nmax_replicas = 2\n')
    ws.promote("churn:1", to="prod")

    assert price(ws)["total"]["after"]["usd_per_hour"] == {"min": 1.0, "max": 4.0}


def test_own_price_comes_first(priced: Priced) -> None:
    """What somebody really pays beats the list, and makes known what the list does not know."""
    text = PROD + 'machine_type = "m-special"\n'
    own = '[prices.local]\n"m-cpu" = 0.25\n'
    ws = priced(PROD + own)
    ws.promote("churn:1", to="prod")

    found = price(ws)["endpoints"][0]["after"]
    assert found["usd_per_hour"] == {"min": 0.25, "max": 0.25}
    assert found["as_of"] is None
    assert found["sources"] == ["[prices.local]"]
    assert text


def test_a_provider_that_tells_no_prices(house: Any) -> None:
    """Without prices a plan says so and why, and never that it costs nothing."""
    house.configure(PROD, provider="scripted")
    ws = house.open()
    house.register(ws)
    ws.promote("churn:1", to="staging")
    plan = ws.promote("churn:1", to="prod", dry_run=True).plan

    assert "price unknown: the provider 'scripted' tells of no prices" in str(plan)
    assert '[prices.local] "cpu" = 1.23 says what you pay' in str(plan)
    assert plan.to_json()["price"]["endpoints"][0]["after"]["usd_per_hour"]["max"] is None


BUDGET = '[[stages.prod.gates]]\nkind = "budget"\nusd_per_month = {}\n'


def test_budget_stops_a_promotion(house: Any, priced: Priced) -> None:
    """A promotion whose endpoints may cost more than the budget is refused, with both figures."""
    text = PROD + 'gpu = "L4"\nmax_replicas = 2\n' + BUDGET.format(2919)
    ws = priced(text, stages={"prod": "approvals = 0"})

    with pytest.raises(GateFailed) as refused:
        ws.promote("churn:1", to="prod")

    (failed,) = [result for result in refused.value.results if not result.passed]
    assert failed.gate == "budget"
    assert "may cost $2,920.00 a month, and $2,919.00 are allowed" in failed.reason
    assert ws.plan().plan.empty
    assert "prod" not in ws.fold("churn").stages


def test_budget_that_is_enough(priced: Priced) -> None:
    """Within the budget a promotion goes on, and the ledger keeps what was found."""
    text = PROD + 'gpu = "L4"\nmax_replicas = 2\n' + BUDGET.format(2920)
    ws = priced(text, stages={"prod": "approvals = 0"})
    entry = ws.promote("churn:1", to="prod").entry

    assert entry is not None
    (found,) = [result for result in entry.data["gates"] if result["gate"] == "budget"]
    assert found["evidence"]["endpoints"] == {"churn-prod": 2920.0}


def test_price_that_changed_since_the_plan(priced: Priced, tmp_path: Path) -> None:
    """A saved plan is refused once its price is another: somebody agreed to the one it showed."""
    ws = priced(PROD)
    ws.promote("churn:1", to="prod")
    more = PROD + 'max_replicas = 2\n[prices.local]\n"m-cpu" = {}\n'
    priced(more.format(1)).plan().save(tmp_path / "plan.json")
    dearer = priced(more.format(2))

    with pytest.raises(StalePlan):
        dearer.apply_saved(tmp_path / "plan.json")

    assert json.loads((tmp_path / "plan.json").read_bytes())["price"]["total"]["after"] == {
        "usd_per_hour": {"min": 1.0, "max": 2.0},
        "usd_per_month": {"min": 730.0, "max": 1460.0},
        "unknown": {},
    }
    assert priced(more.format(1)).apply_saved(tmp_path / "plan.json").changed


def test_gpu_by_what_it_must_have(priced: Priced) -> None:
    """An endpoint that names no class gets the smallest that will do, and the plan says which."""
    ws = priced(PROD + "gpu = {min_memory_gib = 20}\n")
    plan = ws.promote("churn:1", to="prod", dry_run=True).plan

    assert plan.changes[-1].after is not None
    assert plan.changes[-1].after["variants"][0]["resources"]["accelerator"] == "L4"
    (note,) = plan.warnings
    assert note.startswith("endpoint churn-prod: gpu L4:1: the smallest on local with at least 20")
    ws.promote("churn:1", to="prod")
    assert ws.plan().plan.empty
    assert ws.drift("churn") == []


def test_downgrade_needs_a_word(priced: Priced) -> None:
    """A class that is not there is replaced by a worse one where that is allowed, and shown."""
    ws = priced(PROD + 'gpu = "A10G"\n')
    with pytest.raises(Unsupported, match="the nearest, L4, is a downgrade"):
        ws.promote("churn:1", to="prod", dry_run=True)

    allowed = priced(PROD + 'gpu = "A10G"\nallow_downgrade = true\n')
    plan = allowed.promote("churn:1", to="prod", dry_run=True).plan
    assert "endpoint churn-prod: gpu L4:1, a downgrade that is allowed: there is no A10G" in str(
        plan
    )
    assert "(m-L4): $2.00 an hour" in str(plan)


def test_cost_without_a_version(priced: Priced) -> None:
    """What is configured has a price before anything is there to serve."""
    ws = priced(PROD + 'gpu = "T4"\n[endpoints.churn-dev]\nmodel = "churn"\nstage = "dev"\n')

    assert [(b.endpoint, b.after.high_usd_per_hour) for b in ws.costs()] == [
        ("churn-dev", 0.5),
        ("churn-prod", 1.0),
    ]
