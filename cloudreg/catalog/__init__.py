"""GPUs as data with sources, the choice among those of a target, and what endpoints cost.

What a GPU is (`gpus`) is the same on every cloud, and is kept here. Which machines carry it, and
what they cost, is each provider's to know: a provider tells of it through
`cloudreg.provider.ProviderPlugin.machines`, so that a third party's machines are chosen and priced
like all others, and no vendor's name is needed here; providers do not import this package, and
hold no fact of it. `tests/unit/catalog` checks that the two agree.
"""

from cloudreg.catalog.costs import (
    MONTH_H,
    Bill,
    Cost,
    Total,
    bills_json,
    bills_lines,
    cost_of,
    total,
)
from cloudreg.catalog.gpus import Gpu, Grade, compared, gpus
from cloudreg.catalog.matching import Choice, GpuWish, choose

__all__ = [
    "MONTH_H",
    "Bill",
    "Choice",
    "Cost",
    "Gpu",
    "GpuWish",
    "Grade",
    "Total",
    "bills_json",
    "bills_lines",
    "choose",
    "compared",
    "cost_of",
    "gpus",
    "total",
]
