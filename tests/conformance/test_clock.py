"""Time that moves when a test says so."""

from __future__ import annotations

import time

import pytest

from cloudreg.testing.clock import Clock


def test_stands_still() -> None:
    """Nothing but the test moves the clock."""
    clock = Clock(100.0)

    assert [clock(), clock()] == [100.0, 100.0]


def test_moves() -> None:
    """A clock can be advanced, and set, backwards too."""
    clock = Clock(100.0)
    clock.advance(1.5)
    assert clock() == 101.5

    clock.set(7.0)
    assert clock() == 7.0


def test_sleep_takes_no_time() -> None:
    """A sleep moves the clock at once, and is remembered."""
    clock = Clock(0.0)
    began = time.monotonic()
    clock.sleep(3600.0)
    clock.sleep(0.0)

    assert clock() == 3600.0
    assert clock.slept == [3600.0, 0.0]
    assert time.monotonic() - began < 60.0


def test_negative_sleep() -> None:
    """A negative sleep is the error that the real one raises, and moves nothing."""
    clock = Clock(0.0)
    with pytest.raises(ValueError, match="non-negative"):
        clock.sleep(-1.0)

    assert (clock(), clock.slept) == (0.0, [])
