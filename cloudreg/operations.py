"""Waiting, and telling people about it: the only module that sleeps.

Polling is not retrying. The vendors' SDKs retry the wire; here an operation is asked how it
stands until it is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol, TypeVar

import tenacity

from cloudreg.errors import CloudregError, OperationFailed, OperationTimeout, Unavailable
from cloudreg.provider import Operation
from cloudreg.types import OperationState, OperationStatus

T = TypeVar("T")


class Task(Protocol):
    """One long step, as somebody watches it."""

    def advance(self, amount: float) -> None:
        """Say that *amount* more of the total is done."""
        ...

    def note(self, text: str) -> None:
        """Say what is going on now."""
        ...


class Progress(Protocol):
    """Where long steps are shown; the command line draws bars, the API stays silent."""

    def task(
        self, title: str, *, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]:
        """Begin a step; leaving the context ends it.

        Args:
            title: What is being done.
            total: How much there is to do, where that is known.
            unit: ``B`` for bytes, else what is counted.
        """
        ...

    def say(self, text: str) -> None:
        """Show one line of news."""
        ...


class _SilentTask:
    def advance(self, amount: float) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Silent:
    """Progress that nobody watches."""

    def task(
        self, title: str, *, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Task]:
        """Return a task that says nothing."""
        return nullcontext(_SilentTask())

    def say(self, text: str) -> None:
        """Say nothing."""


SILENT = Silent()


def poll_until(
    ask: Callable[[], T],
    done: Callable[[T], bool],
    *,
    timeout_s: float,
    interval_s: float = 0.05,
    max_interval_s: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T | None:
    """Ask until *done* says so; return the last answer, or None when time is up.

    The interval doubles from *interval_s* to *max_interval_s*; the last one ends with the time,
    so that the last question is asked when time is up and not before.
    """
    end = clock() + timeout_s
    doubling = tenacity.wait_exponential(multiplier=interval_s, max=max_interval_s)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda answer: not done(answer)),
        wait=lambda state: max(0.0, min(doubling(state), end - clock())),
        stop=lambda _: clock() >= end,
        sleep=sleep,
    )
    try:
        return retrying(ask)
    except tenacity.RetryError:
        return None


@contextmanager
def every(interval_s: float, action: Callable[[], None]) -> Iterator[None]:
    """Do *action* in another thread every *interval_s* seconds while the block runs.

    What it raises, `Unavailable` aside, ends the repetition quietly: the block finds out by
    itself.
    """
    over = threading.Event()

    def repeat() -> None:
        with suppress(CloudregError):
            while not over.wait(interval_s):
                with suppress(Unavailable):  # one lost answer says nothing about the next
                    action()

    thread = threading.Thread(target=repeat, name="every", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait(
    operation: Operation,
    *,
    timeout_s: float = 1800.0,
    progress: Progress = SILENT,
    target: str | None = None,
    on_poll: Callable[[], None] = lambda: None,
    interval_s: float = 0.05,
    max_interval_s: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> OperationStatus:
    """Poll until the operation succeeds.

    Args:
        operation: What a backend returned.
        timeout_s: Patience in seconds; GPU endpoints take 5 to 20 minutes.
        progress: Where it is shown.
        target: For messages.
        on_poll: Called at each poll, so that a lease can be kept alive; what it raises ends the
            wait.
        interval_s: First pause between two polls; it doubles.
        max_interval_s: Longest pause.
        sleep: For tests.
        clock: For tests; seconds that only rise.

    Raises:
        OperationFailed: The target gave up; the message and the log lines are its own.
        OperationTimeout: Still running, and it keeps running without us.
    """
    shown = 0.0

    with progress.task(operation.name, total=1.0) as task:

        def ask() -> OperationStatus:
            nonlocal shown
            on_poll()
            status = operation.poll()
            reached = min(status.progress or 0.0, 1.0)
            if reached > shown:
                task.advance(reached - shown)
                shown = reached
            if status.message:
                task.note(status.message)
            return status

        status = poll_until(
            ask,
            lambda answer: answer.state is not OperationState.RUNNING,
            timeout_s=timeout_s,
            interval_s=interval_s,
            max_interval_s=max_interval_s,
            sleep=sleep,
            clock=clock,
        )
        if status is None:
            raise OperationTimeout(
                f"{operation.name} is still running after {timeout_s:g} s", target=target
            )
        if status.state is OperationState.FAILED:
            raise OperationFailed(
                f"{operation.name}: {status.message or 'no reason given'}",
                target=target,
                logs=status.logs,
            )
        task.advance(1.0 - shown)
        return status
