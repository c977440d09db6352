"""What model servers tell of themselves, in Prometheus' text: asked, read and summed up."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from cloudreg.traffic import Asked
from cloudreg.types import CustomMetric, VariantMetrics

if TYPE_CHECKING:
    import aiohttp

    from cloudreg_local.router import Table

PATIENCE_S = 5.0
"""For one model server's answer."""

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
"""https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format"""

Sample = tuple[str, Mapping[str, str], float]


async def scrape(session: aiohttp.ClientSession, table: Table) -> dict[str, list[str]]:
    """Return what each ready replica says at ``/metrics``, by variant; silence is left out."""
    import aiohttp

    async def ask(origin: str) -> str | None:
        try:
            async with asyncio.timeout(PATIENCE_S), session.get(f"{origin}/metrics") as answer:
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError):
            return None

    found: dict[str, list[str]] = {}
    for route in table.routes:
        said = await asyncio.gather(*(ask(replica.origin) for replica in route.pool.ready))
        found[route.name] = [text for text in said if text is not None]
    return found


def with_custom(
    counted: Mapping[str, VariantMetrics],
    scraped: bytes,
    custom: Sequence[CustomMetric],
    known: Mapping[str, Mapping[str, str]],
) -> dict[str, VariantMetrics]:
    """Add what was asked for to the counts of each variant, as far as there is data.

    Args:
        counted: By variant.
        scraped: What the router's ``/-/scrape`` answered.
        custom: What is asked for.
        known: Variant to what a query may speak of.
    """
    texts = msgspec.json.decode(scraped, type=dict[str, list[str]])
    return {
        name: replace(
            found,
            custom={
                metric.name: value
                for metric in custom
                if (value := _value(metric.filled(**known.get(name, {})), texts.get(name, ())))
                is not None
            },
        )
        for name, found in counted.items()
    }


def _value(query: Mapping[str, Asked], texts: Iterable[str]) -> float | None:
    """Return one number for all replicas of a variant."""
    name, labels = str(query["metric"]), query.get("labels", {})
    assert isinstance(labels, Mapping)
    statistic = str(query.get("statistic", "mean"))
    samples = [
        sample
        for text in texts
        for sample in _samples(text)
        if all(sample[1].get(key) == value for key, value in labels.items())
    ]
    plain = [value for found, _, value in samples if found == name]
    if statistic.startswith("p"):
        return _percentile(name, samples, int(statistic[1:]) / 100)
    if not plain:
        # A histogram: what it knows is the mean.
        counts = sum(value for found, _, value in samples if found == f"{name}_count")
        total = sum(value for found, _, value in samples if found == f"{name}_sum")
        return total / counts if counts and statistic == "mean" else None
    every = {"mean": sum(plain) / len(plain), "min": min(plain), "max": max(plain)}
    return every.get(statistic, sum(plain))


def _percentile(name: str, samples: Iterable[Sample], share: float) -> float | None:
    """Return the upper bound of the bucket that holds the percentile; None without values."""
    buckets: dict[float, float] = {}
    for found, labels, value in samples:
        if found == f"{name}_bucket" and "le" in labels:
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    total = buckets.get(math.inf, 0.0)
    if not total:
        return None
    return next(bound for bound in sorted(buckets) if buckets[bound] >= share * total)


def _samples(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        labels = {key: _unescaped(value) for key, value in _LABEL.findall(match[2] or "")}
        try:
            value = float(match[3])
        except ValueError:
            continue
        if not math.isnan(value):
            yield match[1], labels, value


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), text)
