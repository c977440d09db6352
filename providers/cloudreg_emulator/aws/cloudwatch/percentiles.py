"""Percentiles of metric data, which moto answers with nothing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from moto.cloudwatch.models import MetricDatum

PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,10})?|100)")


def share(statistic: str) -> float | None:
    """Return 0.95 for ``p95``; None for what is not a percentile."""
    found = PERCENTILE.fullmatch(statistic or "")
    return float(found[1]) / 100 if found else None


def percentile(data: Iterable[Any], statistic: str) -> float | None:
    """Return a percentile of everything in *data*.

    None where *statistic* is no percentile, there is no value, or what is there was published as
    a summary of minimum and maximum: CloudWatch knows no percentile then, either.
    """
    wanted = share(statistic)
    counts: Counter[float] = Counter()
    for datum in data:
        if isinstance(datum, MetricDatum):
            counts[datum.value] += 1
            continue
        values = getattr(datum, "values", None)
        if values is None:
            return None
        counts.update(values())
    if wanted is None or not counts:
        return None
    # The nearest rank.
    left = max(1, math.ceil(wanted * counts.total() - 1e-9))
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return max(counts)
