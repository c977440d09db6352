"""Copies of requests for a shadow, sent in the background: their answers are dropped.

Whoever asks is never slower and never fails for it: a copy that finds the queue full is dropped,
and counted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cloudreg.errors import CloudregError

MOST_WAITING = 100
WORKERS = 2
PATIENCE_S = 1.0
"""For what is on its way when nobody sends any more: a command line ends soon after it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """What became of copies.

    Attributes:
        sent: That were answered, whatever the answer was worth.
        failed: That the shadow did not answer well.
        dropped: That found too many others waiting.
        waiting: That were not sent yet.
    """

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0


class Mirror:
    """Sends copies of some of the requests to a shadow. Thread-safe."""

    def __init__(
        self,
        send: Callable[[bytes, str], object],
        *,
        percent: int,
        most_waiting: int = MOST_WAITING,
        workers: int = WORKERS,
    ) -> None:
        """Begin with nothing to send; no thread is started before there is.

        Args:
            send: Gets body and content type of a request.
            percent: Of the requests that are copied.
            most_waiting: Copies that may wait; more are dropped.
            workers: Threads that send.
        """
        self._send = send
        self._percent = percent
        self._queue: queue.Queue[tuple[bytes, str] | None] = queue.Queue(most_waiting)
        self._lock = threading.Lock()
        self._credit = 0
        self._counts = {"sent": 0, "failed": 0, "dropped": 0}
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._closed = False

    def offer(self, body: bytes, content_type: str) -> None:
        """Copy a request, if it is one of those; never wait, and never raise."""
        with self._lock:
            self._credit += self._percent
            if self._credit < 100 or self._closed:
                return
            self._credit -= 100
            self._begin()
            try:
                self._queue.put_nowait((body, content_type))
            except queue.Full:
                self._counts["dropped"] += 1

    @property
    def counts(self) -> Mirrored:
        """What became of the copies so far."""
        with self._lock:
            return Mirrored(**self._counts, waiting=self._queue.qsize())

    def close(self, *, patience_s: float = PATIENCE_S) -> None:
        """Send what waits for as long as *patience_s*, and drop the rest.

        A copy that the shadow does not answer in that time is left to its thread, which ends with
        it: whoever is done waits for no shadow.
        """
        end = time.monotonic() + patience_s
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            with suppress(queue.Full):
                self._queue.put(None, timeout=max(0.0, end - time.monotonic()))
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock, suppress(queue.Empty):
            while True:
                self._counts["dropped"] += self._queue.get_nowait() is not None
        for _ in threads:
            with suppress(queue.Full):
                self._queue.put_nowait(None)

    def _begin(self) -> None:
        while len(self._threads) < self._workers:
            # A process that ends does not wait for copies.
            thread = threading.Thread(target=self._work, name="mirror", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (copy := self._queue.get()) is not None:
            done = "sent"
            try:
                self._send(*copy)
            except CloudregError:
                done = "failed"
            with self._lock:
                self._counts[done] += 1
