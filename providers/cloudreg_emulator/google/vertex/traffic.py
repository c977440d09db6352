"""What a deployed model was asked: for autoscaling, and for Cloud Monitoring."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Asked", "Traffic"]

KEPT_S = 24 * 3600.0
MOST = 200_000
"""Requests that are remembered; older ones are forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request.

    Attributes:
        at: When it was answered, seconds since 1970.
        code: The HTTP status of the answer.
        latency_s: From the request to the whole answer.
    """

    at: float
    code: int
    latency_s: float


class Traffic:
    """The requests of one deployed model. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with none."""
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: deque[Asked] = deque(maxlen=MOST)
        self.last_asked = clock()

    def note(self, code: int, latency_s: float) -> None:
        """Remember an answer."""
        now = self._clock()
        with self._lock:
            self.last_asked = now
            self._asked.append(Asked(at=now, code=code, latency_s=latency_s))
            while self._asked and self._asked[0].at < now - KEPT_S:
                self._asked.popleft()

    def touch(self) -> None:
        """Remember that somebody asked, whatever became of it."""
        self.last_asked = self._clock()

    def between(self, begin: float, end: float) -> list[Asked]:
        """Return what was answered in (begin, end]."""
        with self._lock:
            return [one for one in self._asked if begin < one.at <= end]
