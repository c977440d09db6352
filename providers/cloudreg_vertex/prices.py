"""What machines cost, at the list prices of ``prices.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cloudreg.machines import Machine, Price, PriceList
from cloudreg.types import Resources
from cloudreg_vertex import machines
from cloudreg_vertex.machines import machine_for

DATA = Path(__file__).with_name("prices.toml")


@cache
def prices() -> PriceList:
    """Return the list prices, read once."""
    return PriceList.read(DATA)


def priced(
    resources: Resources,
    overrides: Mapping[str, str],
    *,
    region: str,
    target: str,
    check: bool = True,
) -> tuple[Machine, ...]:
    """Return what a replica comes on, with its price in *region*.

    Raises:
        Unsupported: No machine has that GPU, or not in that number.
        InvalidRequest: The machine that was named cannot carry it.
    """
    found = machine_for(resources, overrides, target=target, check=check)
    price, unpriced = _price(found, region)
    return (
        Machine(
            name=found.name,
            accelerator=resources.accelerator,
            accelerator_count=found.count,
            price=price,
            unpriced=unpriced,
        ),
    )


def _price(machine: machines.Machine, region: str) -> tuple[Price | None, str]:
    """Return the price of a machine with the GPUs that are joined with it, or why there is none."""
    price = prices().find(machine.name, region)
    if price is None:
        return None, prices().reason(machine.name, region)
    if machine.accelerator is None or machine.accelerator not in machines.ATTACHED:
        return price, ""
    gpu = prices().find(machine.accelerator, region)
    if gpu is None:
        return None, prices().reason(machine.accelerator, region)
    return price.plus(gpu, times=machine.count), ""
