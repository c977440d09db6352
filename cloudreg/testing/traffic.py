"""Requests that do not stop, to see whether any is lost while an endpoint changes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

PAUSE_S = 0.005
"""Between two requests of a thread: steady load, not a flood."""


class SteadyTraffic:
    """Threads that ask until the context is left.

    Attributes:
        answers: How many requests each version answered, by its number.
        failures: What every request that got no answer raised.
    """

    def __init__(self, ask: Callable[[], int], *, threads: int = 3) -> None:
        """Prepare.

        Args:
            ask: Sends one request and returns the number of the version that answered.
            threads: How many ask at once.
        """
        self.answers: Counter[int] = Counter()
        self.failures: list[Exception] = []
        self._ask = ask
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, name=f"traffic-{number}")
            for number in range(threads)
        ]

    def __enter__(self) -> SteadyTraffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def flow(self, requests: int, *, timeout_s: float) -> None:
        """Return once that many more requests were answered or lost."""
        end = time.monotonic() + timeout_s
        wanted = self._count() + requests
        while self._count() < wanted:
            assert time.monotonic() < end, f"{self._count()} of {wanted} after {timeout_s:g} s"
            self._done.wait(PAUSE_S)

    def _count(self) -> int:
        with self._lock:
            return self.answers.total() + len(self.failures)

    def _run(self) -> None:
        while not self._done.wait(PAUSE_S):
            try:
                number = self._ask()
            except Exception as error:
                with self._lock:
                    self.failures.append(error)
            else:
                with self._lock:
                    self.answers[number] += 1
