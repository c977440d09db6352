"""Time that moves when a test says so."""

from __future__ import annotations

import threading

START_S = 1_750_000_000.0
"""Where a clock begins unless it is told otherwise: June 2025."""


class Clock:
    """Seconds since 1970 that stand still, and a sleep that moves them on.

    Give the clock itself where a ``clock`` is asked for, and its `sleep` where a ``sleep`` is.

    Attributes:
        slept: How long each sleep was, in order.
    """

    def __init__(self, now_s: float = START_S) -> None:
        """Begin at *now_s*."""
        self.slept: list[float] = []
        self._now_s = now_s
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time."""
        with self._lock:
            return self._now_s

    def set(self, now_s: float) -> None:
        """Make it *now_s*; backwards too, as clocks of other machines are."""
        with self._lock:
            self._now_s = now_s

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        with self._lock:
            self._now_s += seconds

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass at once, and remember that somebody slept.

        Raises:
            ValueError: They are negative, as `time.sleep` says.
        """
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        with self._lock:
            self._now_s += seconds
            self.slept.append(seconds)
