"""Requests to batches, on the one thread that touches the device.

While the device computes, requests gather; when it is free, the next batch is what has gathered.
There is no timer: an idle server answers at once, a busy one fills its batches by itself. Before
a batch that is not full the event loop turns as long as requests come: the clients that were just
answered would else make two halves of a batch for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from cloudreg.serving.checks import Array, ModelFault, SignatureCheck, Tensors
from cloudreg.serving.device import Device
from cloudreg.serving.http import Refusal, unavailable
from cloudreg.serving.metrics import Metrics
from cloudreg.serving.runtimes import DeviceLost, Runtime
from cloudreg.serving.streaming import Pipe

log = logging.getLogger("cloudreg.serving")

QUICK_S = 0.001
"""A batch that took less is not worth two threads: the event loop waits for the next one."""

TURNS = 3
"""Of the event loop without one more request, until a batch that is not full is run."""

SWEEP_S = 0.5
"""Between two looks for requests that have waited too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is done at once, and how much may wait.

    Attributes:
        max_batch: Rows of a batch.
        max_queue: Rows that may wait.
        timeout_s: From a request's arrival to its answer.
        together: Whether requests may share a batch.
    """

    max_batch: int = 32
    max_queue: int = 1024
    timeout_s: float = 60.0
    together: bool = True


Done = Callable[[Tensors | Exception], None]


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One request that waits or runs.

    Attributes:
        inputs: What the model gets.
        rows: How many.
        shape: The sizes behind the batch dimension, of each input.
        since: When it came.
        done: Gets the outputs or an error, once; None when nobody waits for them.
        pipe: Gets the outputs where they come piece by piece.
    """

    inputs: Tensors
    rows: int
    shape: tuple[tuple[int, ...], ...]
    since: float
    done: Done | None = None
    pipe: Pipe | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits."""
        return self.done is not None or (self.pipe is not None and not self.pipe.closed)

    def finish(self, outcome: Tensors | Exception) -> None:
        """Hand over what came of it, if somebody still waits."""
        done, self.done = self.done, None
        if done is not None:
            done(outcome)
        elif self.pipe is not None:
            self.pipe.end(outcome if isinstance(outcome, Exception) else None)

    def cancel(self) -> None:
        """Say that nobody waits any more."""
        self.done = None


class Batcher:
    """The queue in front of one model."""

    def __init__(
        self,
        runtime: Runtime,
        checks: SignatureCheck,
        *,
        device: Device,
        limits: Limits,
        metrics: Metrics,
        lost: Callable[[DeviceLost], None],
    ) -> None:
        """Begin with an empty queue; must be called on the event loop.

        Args:
            runtime: The model.
            checks: Its signature.
            device: Where it was loaded.
            limits: How much at once.
            metrics: Where it is counted.
            lost: Called when the device answers nothing any more.
        """
        self._runtime = runtime
        self._checks = checks
        self._device = device
        self._limits = limits
        self._metrics = metrics
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Job] = deque()
        self._waiting = 0
        self._running: list[Job] = []
        self._scheduled = False
        self._moved = 0.0
        self._took = QUICK_S
        # How the batch after one of several requests grows: rows seen, turns left.
        self._seen = self._turns = 0
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    @property
    def stuck(self) -> bool:
        """Whether the device has computed one thing for longer than anybody waits."""
        return bool(self._running) and perf_counter() - self._moved > self._limits.timeout_s

    @property
    def full(self) -> bool:
        """Whether not even one row more may wait."""
        return self._waiting >= self._limits.max_queue

    def shed(self) -> Refusal:
        """Count and return the refusal of a request that finds the queue full."""
        self._metrics.shed.inc()
        return unavailable(f"{self._waiting} rows are waiting already")

    def infer(self, inputs: Tensors, done: Done) -> Job:
        """Compute, and call *done* later on the event loop with the outputs or an error.

        Raises:
            Refusal: The queue is full, or no queue would ever be long enough.
        """
        return self._enqueue(inputs, done=done)

    def stream(self, inputs: Tensors) -> Pipe:
        """Return a pipe through which outputs will come.

        Raises:
            Refusal: The queue is full, or no queue would ever be long enough.
        """
        # Less than the patience after which a device counts as stuck.
        pipe = Pipe(self._loop, timeout_s=self._limits.timeout_s / 2)
        self._enqueue(inputs, pipe=pipe)
        return pipe

    def close(self) -> None:
        """Stop looking after the queue."""
        self._sweeper.cancel()

    def _enqueue(
        self,
        inputs: Tensors,
        *,
        done: Done | None = None,
        pipe: Pipe | None = None,
    ) -> Job:
        rows = len(next(iter(inputs.values())))
        if rows > self._limits.max_queue:
            wanted = f"at most {self._limits.max_queue} rows in one request"
            raise Refusal(
                413,
                f"wanted {wanted}, got {rows}: send fewer, or start the server with --max-queue",
                field="instances",
                wanted=wanted,
                got=str(rows),
            )
        if self._waiting + rows > self._limits.max_queue:
            raise self.shed()
        job = Job(
            inputs=inputs,
            rows=rows,
            shape=tuple([array.shape[1:] for array in inputs.values()]),
            since=perf_counter(),
            done=done,
            pipe=pipe,
        )
        self._queue.append(job)
        self._waiting += rows
        # Not now but after the other sockets that are readable in this turn of the loop.
        if not self._running:
            self._schedule()
        return job

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        if self._running:
            return
        quick = self._took < QUICK_S
        if self._may_grow():
            self._schedule()
            return
        jobs = self._take()
        self._metrics.queue_rows.set(self._waiting)
        if not jobs:
            return
        self._running = jobs
        self._moved = perf_counter()
        self._device.call(
            lambda: self._work(jobs),
            lambda result: self._done(jobs, result),
            wait_s=QUICK_S if quick and jobs[0].pipe is None else 0.0,
        )

    def _may_grow(self) -> bool:
        """Whether the next batch is not full, and the loop's last turns made it grow.

        No timer: a turn takes microseconds when nothing comes.
        """
        if not self._turns:
            return False
        self._turns = TURNS if self._waiting > self._seen else self._turns - 1
        self._seen = self._waiting
        return bool(self._turns) and 0 < self._waiting < self._limits.max_batch

    def _take(self) -> list[Job]:
        """Remove and return the next batch: the first in the queue and those that fit to it."""
        jobs: list[Job] = []
        passed: list[Job] = []
        rows = 0
        while self._queue and rows < self._limits.max_batch:
            job = self._queue.popleft()
            if not job.wanted:
                self._waiting -= job.rows
            elif not jobs:
                jobs.append(job)
                rows = job.rows
                if job.pipe is not None or not self._limits.together:
                    break
            elif (
                job.pipe is None
                and job.shape == jobs[0].shape
                and rows + job.rows <= self._limits.max_batch
            ):
                jobs.append(job)
                rows += job.rows
            else:
                passed.append(job)
        self._queue.extendleft(reversed(passed))
        self._waiting -= rows
        return jobs

    def _done(self, jobs: list[Job], result: list[Tensors | ModelFault] | BaseException) -> None:
        self._running = []
        if isinstance(result, BaseException):
            outcomes: list[Tensors | ModelFault] = [_fault(result) for _ in jobs]
        else:
            outcomes = result
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.finish(outcome)
        if isinstance(result, DeviceLost):
            self._lost(result)
            return
        # After a request that was alone nobody comes back with it: the next one goes at once.
        self._seen, self._turns = 0, TURNS if len(jobs) > 1 else 0
        if self._waiting < self._limits.max_batch:
            # The answers go out first: their clients' next requests make a fuller batch.
            self._schedule()
        else:
            self._next()

    def _sweep(self) -> None:
        """Give up requests that have waited too long, those on the device too."""
        oldest = perf_counter() - self._limits.timeout_s
        for job in (*self._queue, *self._running):
            if job.since < oldest and job.done is not None:
                self._metrics.expired.inc()
                job.finish(Refusal(504, f"no prediction after {self._limits.timeout_s:g} s"))
        # A stuck device takes no next batch: nobody else would remove them.
        kept = deque(job for job in self._queue if job.wanted)
        self._waiting -= sum(j.rows for j in self._queue) - sum(j.rows for j in kept)
        self._queue = kept
        self._metrics.queue_rows.set(self._waiting)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    # From here on: the device's thread.

    def _work(self, jobs: list[Job]) -> list[Tensors | ModelFault]:
        began = perf_counter()
        for job in jobs:
            self._metrics.queue_seconds.observe(began - job.since)
        try:
            if jobs[0].pipe is not None:
                return [self._flow(jobs[0], jobs[0].pipe)]
            return self._compute(jobs)
        finally:
            self._took = perf_counter() - began
            self._metrics.busy_seconds.inc(self._took)

    def _compute(self, jobs: list[Job]) -> list[Tensors | ModelFault]:
        try:
            outputs = self._run(_joined([job.inputs for job in jobs]), sum(j.rows for j in jobs))
        except DeviceLost:
            raise
        except (Exception, SystemExit) as error:  # whatever the model raises is an answer: 500
            if len(jobs) == 1:
                return [_fault(error)]
            # One of them may have done it: the others shall not pay for it.
            return [outcome for job in jobs for outcome in self._compute([job])]
        answers: list[Tensors | ModelFault] = []
        finite = self._checks.finite(outputs)
        start = 0
        for job in jobs:
            part = {name: array[start : start + job.rows] for name, array in outputs.items()}
            start += job.rows
            if not finite:
                try:
                    self._checks.check_finite(part)
                except ModelFault as error:
                    answers.append(error)
                    continue
            answers.append(part)
        return answers

    def _run(self, inputs: Tensors, rows: int) -> Tensors:
        """Run the model; a single request of many rows goes in parts of a batch each."""
        size = self._limits.max_batch
        parts = [
            {name: array[start : start + size] for name, array in inputs.items()}
            for start in range(0, rows, size)
        ]
        found = []
        for part in parts if rows > size else [inputs]:
            count = len(next(iter(part.values())))
            self._metrics.batch_rows.observe(count)
            found.append(self._checks.check_outputs(self._runtime.predict(part), count))
            self._moved = perf_counter()
        return _joined(found)

    def _flow(self, job: Job, pipe: Pipe) -> Tensors | ModelFault:
        self._metrics.batch_rows.observe(job.rows)
        try:
            for piece in self._runtime.stream(job.inputs):
                if pipe.closed:
                    break
                checked = self._checks.check_outputs(piece, job.rows)
                self._checks.check_finite(checked)
                pipe.write(checked)
                self._moved = perf_counter()
        except DeviceLost:
            raise
        except (Exception, SystemExit) as error:  # as above
            return _fault(error)
        return {}


def _fault(error: BaseException) -> ModelFault:
    """Return *error* as what the client reads; the log keeps where it came from."""
    if isinstance(error, ModelFault):
        return error
    log.error("the model failed", exc_info=error)
    return ModelFault(f"the model failed: {type(error).__name__}: {str(error)[:500]}")


def _joined(parts: list[Tensors]) -> Tensors:
    if len(parts) == 1:
        return parts[0]
    names: Mapping[str, Array] = parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
