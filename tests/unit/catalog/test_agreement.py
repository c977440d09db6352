"""The catalogue, the providers' machines and prices, and the vendors' own lists agree."""

from __future__ import annotations

from datetime import date

import pytest

from cloudreg.catalog import GpuWish, choose, gpus
from cloudreg.errors import Unsupported
from cloudreg.machines import Machine, PriceList
from cloudreg.types import Resources
from cloudreg_local.abilities import GPUS as LOCAL
from cloudreg_sagemaker import machines as aws
from cloudreg_sagemaker import prices as aws_prices
from cloudreg_sagemaker.abilities import capabilities as sagemaker
from cloudreg_sagemaker.checks import service_model
from cloudreg_vertex import machines as gcp
from cloudreg_vertex import prices as gcp_prices
from cloudreg_vertex.abilities import capabilities as vertex

UNPRICED = {
    "sagemaker": {"B200", "H200"},
    "vertex": {
        "A100", "A100-40GB", "A100-80GB", "B200", "GB200", "H100-MEGA", "H200", "P4", "P100",
        "RTX-PRO-6000", "V100",
    },
}  # fmt: skip
"""Classes none of whose machines has a price anywhere: none was found in public material.

Whoever finds one puts it in the provider's ``prices.toml``, and takes the class out here.
"""


def test_sagemaker_knows_every_machine() -> None:
    """SageMaker's own list has each instance type that has a price or carries a class."""
    types = set(service_model("sagemaker").shape_for("ProductionVariantInstanceType").enum)

    assert aws_prices.prices().names() <= types
    assert {machine.name for machine in aws.GPUS} <= types


def test_vertex_knows_every_machine() -> None:
    """Vertex AI's own enum has each GPU that has a price, and the table each machine."""
    from google.cloud.aiplatform_v1 import AcceleratorType

    names = gcp_prices.prices().names()
    enum = {one.name for one in AcceleratorType}
    gpus_priced = {name for name in names if name.startswith("NVIDIA_")}
    known = {name for machines in gcp.BUILT_IN.values() for _, name in machines}
    known |= set(gcp._FOR_ATTACHED.values()) | {gcp.DEFAULT_CPU} | set(gcp._CARRIED)

    assert set(gcp.ACCELERATORS.values()) <= enum
    assert gpus_priced <= enum
    assert names - gpus_priced <= known


def test_every_class_is_in_the_catalogue() -> None:
    """What a GPU is, is known of each class that a provider offers or names the nearest of."""
    offered = {*aws.CLASSES, *aws.NEAREST, *gcp.CLASSES, *gcp.NEAREST, *LOCAL}

    assert offered - gpus().keys() == set()


def test_memory_agrees() -> None:
    """The memory that EC2 describes is what the maker prints, less what the driver keeps."""
    for machine in aws.GPUS:
        assert machine.accelerator is not None
        printed = gpus()[machine.accelerator].memory_gib
        assert 0.92 <= machine.gpu_memory_mib / 1024 / printed <= 1.01, machine


def cheapest(provider: str, gpu: str) -> list[Machine]:
    """Return the machines of a class in each region of which something is known."""
    found = []
    for region in (aws_prices if provider == "sagemaker" else gcp_prices).prices().prices:
        for count in (1, 2, 4, 8, 16):
            only = Resources.parse(f"{gpu}:{count}")
            try:
                if provider == "sagemaker":
                    found += aws_prices.priced(only, {}, region=region, target="t")
                else:
                    found += gcp_prices.priced(only, {}, region=region, target="t")
            except Unsupported:
                continue
    return found


@pytest.mark.parametrize(
    ("provider", "classes"), [("sagemaker", aws.CLASSES), ("vertex", gcp.CLASSES)]
)
def test_classes_without_a_price(provider: str, classes: frozenset[str]) -> None:
    """Each class has a price somewhere, or is named as one without; a machine says why it has
    none."""
    machines = {gpu: cheapest(provider, gpu) for gpu in classes}

    assert all(machines.values())
    assert {
        gpu for gpu, found in machines.items() if all(m.price is None for m in found)
    } == UNPRICED[provider]
    assert all(m.unpriced or m.price for found in machines.values() for m in found)


@pytest.mark.parametrize("prices", [aws_prices.prices(), gcp_prices.prices()])
def test_prices_have_day_and_source(prices: PriceList) -> None:
    """Each price has a day that was, a source that can be opened, and is one that can be."""
    found = list(prices)

    assert found
    for price in found:
        assert date(2024, 1, 1) <= date.fromisoformat(price.as_of) <= date.today()
        assert price.source.startswith("https://")
        assert 0.03 <= price.usd_per_hour <= 200


def test_larger_machines_cost_more() -> None:
    """Of one class, in one region, more GPUs cost more: a figure that slipped would show."""
    for provider, classes in (("sagemaker", aws.CLASSES), ("vertex", gcp.CLASSES)):
        for gpu in classes:
            by_count: dict[tuple[str, int], float] = {}
            for machine in cheapest(provider, gpu):
                if machine.price is not None:
                    key = (machine.price.region, machine.accelerator_count)
                    by_count[key] = machine.price.usd_per_hour
            ordered = sorted(by_count)
            costs = [by_count[key] for key in ordered]
            regions = [region for region, _ in ordered]
            for region in set(regions):
                mine = [cost for r, cost in zip(regions, costs, strict=True) if r == region]
                assert mine == sorted(mine), (provider, gpu, region)


@pytest.mark.parametrize("provider", ["sagemaker", "vertex"])
def test_nearest_in_words_is_nearest_in_numbers(provider: str) -> None:
    """The class that a provider's words call the nearest is the one that the numbers choose."""
    able = sagemaker() if provider == "sagemaker" else vertex()

    def quote(gpu: str) -> Machine:
        only = Resources.parse(gpu)
        if provider == "sagemaker":
            return aws_prices.priced(only, {}, region="us-west-2", target="t")[0]
        return gcp_prices.priced(only, {}, region="us-central1", target="t")[0]

    for gpu, words in able.nearest.items():
        wish = GpuWish(accelerator=gpu, allow_downgrade=True)
        choice = choose(wish, able, quote, name="e", target="t")
        names = (gpus()[choice.accelerator].name, *gpus()[choice.accelerator].aliases)
        assert any(f'"{name}"' in words for name in names), (gpu, choice)
