"""What variants answered lately: counts and latencies in short buckets of time."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cloudreg.types import VariantMetrics

BUCKET_S = 0.25
KEPT_S = 3600.0
STEP = 1.04
"""Ratio of two neighbouring latency classes: a percentile is right to 2 %."""


@dataclass(slots=True)
class _Bucket:
    at: float
    errors: int = 0
    latencies: Counter[int] = field(default_factory=Counter)


class Window:
    """The last hour of one variant."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing."""
        self._clock = clock
        self._buckets: deque[_Bucket] = deque()

    def add(self, latency_s: float, *, failed: bool) -> None:
        """Count one request."""
        now = self._clock()
        if not self._buckets or now - self._buckets[-1].at >= BUCKET_S:
            self._buckets.append(_Bucket(at=now))
            while now - self._buckets[0].at > KEPT_S:
                self._buckets.popleft()
        bucket = self._buckets[-1]
        bucket.errors += failed
        bucket.latencies[_class(latency_s)] += 1

    def metrics(self, window_s: float) -> VariantMetrics:
        """Return what was counted in the last *window_s* seconds, a bucket more at most."""
        limit = self._clock() - window_s - BUCKET_S
        latencies: Counter[int] = Counter()
        errors = 0
        for bucket in reversed(self._buckets):
            if bucket.at <= limit:
                break
            errors += bucket.errors
            latencies.update(bucket.latencies)
        return VariantMetrics(
            requests=latencies.total(),
            errors=errors,
            p50_ms=_percentile(latencies, 0.50),
            p95_ms=_percentile(latencies, 0.95),
        )


def _class(latency_s: float) -> int:
    return round(math.log(max(latency_s, 1e-6), STEP))


def _percentile(latencies: Counter[int], share: float) -> float | None:
    left = share * latencies.total()
    for step in sorted(latencies):
        left -= latencies[step]
        if left <= 0:
            return round(1000 * STEP**step, 3)
    return None
