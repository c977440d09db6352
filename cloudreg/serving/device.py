"""The one thread that touches the device, and how a result comes back from it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


class Device:
    """The thread that loads the model and runs it; a device is never touched by another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; it does not keep the process from ending."""
        self._loop = loop
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._work, name="device", daemon=True).start()

    def call(
        self,
        function: Callable[[], T],
        done: Callable[[T | BaseException], None],
        *,
        wait_s: float = 0.0,
    ) -> None:
        """Run *function* there, then *done* with its result on the event loop.

        Args:
            function: What to run.
            done: Gets the result, or what was raised.
            wait_s: How long to wait here for a result that comes at once; then *done* is called
                before this returns. Two threads that both want the interpreter pass it to and
                fro at each operator of the model; one that waits lets the other run.
        """
        results: list[T | BaseException] = []
        here, first = Lock(), Lock()
        here.acquire()

        def run() -> None:
            result: T | BaseException
            try:
                result = function()
            except BaseException as error:
                # Handed over, not lost: a model's sys.exit() must not end this thread.
                result = error
            # Whoever takes the lock first decides where the result goes.
            if wait_s and first.acquire(blocking=False):
                results.append(result)
                here.release()
                return
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self._loop.call_soon_threadsafe(done, result)

        self._calls.put(run)
        if not wait_s:
            return
        if not here.acquire(timeout=wait_s):
            if first.acquire(blocking=False):
                return
            here.acquire()  # it is being put there just now
        done(results[0])

    def _work(self) -> None:
        while True:
            self._calls.get()()
