"""Counts and latencies of the last hour."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudreg.types import VariantMetrics
from cloudreg_local.window import BUCKET_S, KEPT_S, STEP, Window


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> Window:
    return Window(clock)


def test_nothing_is_no_success(window: Window) -> None:
    """Without requests there is no rate and no latency."""
    metrics = window.metrics(60)

    assert metrics == VariantMetrics(requests=0, errors=0)
    assert metrics.error_rate is None


def test_old_requests_leave(window: Window, clock: Clock) -> None:
    """A request counts for the asked time, and a bucket more at most."""
    window.add(0.010, failed=True)
    clock.now += 10
    window.add(0.010, failed=False)

    assert window.metrics(10).requests == 2
    assert window.metrics(10 - 2 * BUCKET_S).requests == 1
    clock.now += 20
    assert window.metrics(10) == VariantMetrics(requests=0, errors=0)
    assert window.metrics(60).errors == 1


def test_errors_count_as_requests(window: Window) -> None:
    """The error rate is that of all answers."""
    for number in range(100):
        window.add(0.001, failed=number < 7)

    assert window.metrics(60).error_rate == 0.07


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(min_value=1e-4, max_value=100), min_size=1, max_size=200))
def test_percentiles_are_near(latencies: list[float]) -> None:
    """A percentile differs from that of the sorted latencies by half a step at most."""
    window = Window(Clock())
    for latency in latencies:
        window.add(latency, failed=False)
    metrics = window.metrics(60)

    ranked = sorted(latencies)
    for share, found in ((0.50, metrics.p50_ms), (0.95, metrics.p95_ms)):
        # The smallest value that the share of all does not exceed.
        rank = next(i for i in range(len(ranked)) if i + 1 >= share * len(ranked) - 1e-9)
        assert found == pytest.approx(1000 * ranked[rank], rel=STEP**0.5 - 1 + 1e-3, abs=1e-3)


def test_memory_is_bounded(window: Window, clock: Clock) -> None:
    """An hour is kept, whatever the rate of requests is."""
    for _ in range(20_000):
        clock.now += 0.9
        window.add(0.001, failed=False)

    assert window.metrics(1e9).requests <= KEPT_S / 0.9 + 2
    assert window.metrics(float("inf")).requests > 3000
