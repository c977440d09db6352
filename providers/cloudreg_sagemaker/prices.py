"""What instances cost, at the list prices of ``prices.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cloudreg.machines import Machine, PriceList
from cloudreg.types import Resources
from cloudreg_sagemaker.machines import GPUS, machines_for

DATA = Path(__file__).with_name("prices.toml")


@cache
def prices() -> PriceList:
    """Return the list prices, read once."""
    return PriceList.read(DATA)


def priced(
    resources: Resources, overrides: Mapping[str, str], *, region: str, target: str
) -> tuple[Machine, ...]:
    """Return what a replica comes on, with its price in *region*.

    Raises:
        Unsupported: No machine has that many GPUs, or two classes come on one machine.
    """
    classes = (resources.accelerator, *resources.fallback)
    names = machines_for(resources, overrides, target=target)
    return tuple(
        _machine(name, gpu, region=region) for name, gpu in zip(names, classes, strict=True)
    )


def _machine(name: str, gpu: str | None, *, region: str) -> Machine:
    listed = next((m.count for m in GPUS if m.name == name), None)
    price = prices().find(name, region)
    return Machine(
        name=name,
        accelerator=gpu,
        # Of a type that the user names, only the user knows.
        accelerator_count=listed or int(gpu is not None),
        price=price,
        unpriced="" if price is not None else prices().reason(name, region),
    )
