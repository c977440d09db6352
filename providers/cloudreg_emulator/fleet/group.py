"""All instances of one variant: their number, their health, and who gets the next request."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudreg_emulator.faults import Faults
from cloudreg_emulator.fleet import model
from cloudreg_emulator.fleet.instance import Instance, Plan
from cloudreg_emulator.fleet.launch import Answer, Launch, NoInstance
from cloudreg_emulator.fleet.wire import Line

KEPT_LINES = 5000
"""Of a group's log."""

LEAST_GRACE_S = 8.0
"""Real seconds: a model server that drains does so in real time, whatever the scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What groups of a fleet share.

    Attributes:
        read: Reads model data.
        folder: Of this group alone.
        scale: Real seconds of an emulated second.
        patience_s: Real seconds that a start may take at least.
        ping_pause_s: Real seconds between two health checks.
        faults: Asked before each start.
        log: Takes the launch, an instance's name and a line of it.
    """

    read: model.Read
    folder: Path
    scale: float
    patience_s: float
    ping_pause_s: float
    faults: Faults
    log: Callable[[Launch, str, str], None]

    def real_s(self, emulated_s: float, *, least_s: float) -> float:
        """Return real seconds, at least *least_s* or what was asked for unscaled."""
        return max(emulated_s * self.scale, min(emulated_s, least_s))


class Group:
    """Instances that are all alike. Thread-safe; nothing blocks for long.

    Attributes:
        launch: What they were started with.
    """

    def __init__(
        self, launch: Launch, count: int, argv: Sequence[str] | None, around: Surroundings
    ) -> None:
        """Begin to start *count* instances.

        Args:
            launch: What was asked for.
            count: How many.
            argv: The image's command; None where there is no such image.
            around: What groups share.
        """
        self.launch = launch
        self._around = around
        self._desired = count
        self._failure: str | None = None
        self._instances: list[Instance] = []
        self._leaving: list[Instance] = []
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._numbers = itertools.count(1)
        self._turn = itertools.count()
        self._stopped = False
        self._plan: Plan | None = None
        self._news = threading.Condition(threading.RLock())
        self._argv = argv
        self._begin = threading.Thread(target=self._prepare, name="prepare", daemon=True)
        self._begin.start()

    @property
    def desired(self) -> int:
        """How many instances should run."""
        return self._desired

    @property
    def ready(self) -> int:
        """How many take requests."""
        with self._news:
            return sum(instance.ready for instance in self._instances)

    @property
    def inflight(self) -> int:
        """How many requests they work on."""
        with self._news:
            return sum(instance.inflight for instance in self._instances)

    @property
    def failure(self) -> str | None:
        """Why instances cannot come up, in the service's words; None while they may."""
        with self._news:
            failures = (i.failure for i in self._instances if i.failure and not i.ready)
            return self._failure or next(failures, None)

    @property
    def pids(self) -> list[int]:
        """The processes that run, those that are leaving included."""
        with self._news:
            return [i.pid for i in (*self._instances, *self._leaving) if i.pid is not None]

    @property
    def gone(self) -> bool:
        """Whether it was stopped, and nothing of it is left."""
        with self._news:
            return self._stopped and not self._leaving and not self._begin.is_alive()

    def resize(self, count: int) -> None:
        """Start what is missing, and let go of what is too much."""
        with self._news:
            self._desired = count
            self._fill()

    def wait(self, *, timeout_s: float) -> bool:
        """Return whether all desired instances are ready, once they are or cannot be."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while self.ready < self._desired and self.failure is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(left)
            return self.ready >= self._desired

    def stop(self, *, grace_s: float = 30.0) -> None:
        """Let all instances end in the background.

        Args:
            grace_s: Emulated seconds from SIGTERM to SIGKILL.
        """
        self._stop(self._around.real_s(grace_s, least_s=LEAST_GRACE_S))

    def begin_close(self, *, grace_s: float) -> None:
        """Let all instances end within *grace_s* real seconds."""
        self._stop(grace_s)

    def join(self) -> None:
        """Return when nothing of a stopped group is left."""
        self._begin.join()
        with self._news:
            leaving = list(self._leaving)
        for instance in leaving:
            instance.join()
        model.remove(self._around.folder)

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Answer:
        """Return what an instance answers to a prediction.

        Args:
            body: Of the request.
            headers: What the container is to see.
            timeout_s: Real seconds.

        Raises:
            NoInstance: None is ready.
            TimedOut: No whole answer came in time.
            Broken: The connection ended first.
        """
        instance, line = self.enter()
        try:
            return line.post(self.launch.contract.predict, body, headers, timeout_s=timeout_s)
        finally:
            instance.leave()

    def stream(
        self, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, Mapping[str, str], Iterator[bytes]]:
        """Return status and headers of an instance's answer, and its pieces as they come.

        The iterator must be exhausted or closed. Errors are those of `invoke`, also while
        iterating.
        """
        instance, line = self.enter()
        try:
            status, said, pieces = line.stream(
                self.launch.contract.predict, body, headers, timeout_s=timeout_s
            )
        except BaseException:
            instance.leave()
            raise
        return status, said, _Pieces(pieces, instance.leave)

    def enter(self) -> tuple[Instance, Line]:
        """Return the instance with the least to do, entered, and how it is reached.

        Whoever sends by himself leaves the instance once its answer is there, or will not come.

        Raises:
            NoInstance: None is ready.
        """
        with self._news:
            ready = [(i, line) for i in self._instances if i.ready and (line := i.line)]
            if not ready:
                raise NoInstance(f"no instance of {self.launch.variant} is ready")
            found = ready[0]
            if len(ready) > 1:
                turn = next(self._turn) % len(ready)
                found = min(ready[turn:] + ready[:turn], key=lambda one: one[0].inflight)
            found[0].enter()
            return found

    def logs(self, lines: int) -> list[str]:
        """Return the last lines that instances wrote, oldest first."""
        with self._news:
            return list(self._lines)[-lines:] if lines > 0 else []

    def _prepare(self) -> None:
        """Fetch the model data, then start the instances."""
        data = self._around.folder / "data"
        if self._argv is None:
            self._fail(
                f"The image '{self.launch.image}' cannot be pulled: the emulator has no command "
                "for it."
            )
            return
        try:
            limit_s = self._around.real_s(
                self.launch.download_timeout_s, least_s=self._around.patience_s
            )
            if self.launch.contract.is_mirrored:
                model.fetch(self.launch, self._around.read, data, timeout_s=limit_s)
        except model.NoModelData as error:
            self._fail(str(error))
            return
        except Exception as error:
            # A thread has no caller: what goes wrong here becomes the reason of the endpoint.
            self._fail(f'Failed to download model data from URL: "{self.launch.uri}": {error}')
            return
        with self._news:
            self._plan = Plan(
                launch=self.launch,
                argv=self._argv,
                data=data,
                folder=self._around.folder,
                start_s=self._around.real_s(
                    self.launch.startup_timeout_s, least_s=self._around.patience_s
                ),
                live_s=self._live_s(),
                ping_pause_s=self._around.ping_pause_s,
                scale=self._around.scale,
                faults=self._around.faults,
                log=self._log,
                changed=self._changed,
            )
            self._fill()

    def _live_s(self) -> float | None:
        live_s = self.launch.contract.live_s
        if live_s is None:
            return None
        return self._around.real_s(live_s, least_s=self._around.patience_s)

    def _fill(self) -> None:
        """Make the instances as many as desired; the caller holds the lock."""
        if self._plan is None or self._stopped:
            return
        while len(self._instances) < self._desired:
            # As AWS's log streams are called: VARIANT/i-0123456789abcdef0.
            name = f"i-{next(self._numbers):017x}"
            self._instances.append(Instance(name, self._plan))
        while len(self._instances) > self._desired:
            # Those that are not ready go first, then the youngest.
            spare = next((i for i in reversed(self._instances) if not i.ready), self._instances[-1])
            self._instances.remove(spare)
            self._leaving.append(spare)
            spare.stop(grace_s=self._around.real_s(30.0, least_s=LEAST_GRACE_S))
        self._news.notify_all()

    def _stop(self, grace_s: float) -> None:
        with self._news:
            self._stopped = True
            self._desired = 0
            self._leaving += self._instances
            self._instances = []
            for instance in self._leaving:
                instance.stop(grace_s=grace_s)
            self._news.notify_all()

    def _fail(self, reason: str) -> None:
        with self._news:
            self._failure = reason
            self._news.notify_all()

    def _changed(self) -> None:
        with self._news:
            self._leaving = [i for i in self._leaving if not i.gone]
            self._news.notify_all()
        if self.gone:
            model.remove(self._around.folder)

    def _log(self, name: str, line: str) -> None:
        with self._news:
            self._lines.append(line)
        self._around.log(self.launch, name, line)


class _Pieces(Iterator[bytes]):
    """Pieces of an answer whose instance is left exactly once: at their end, or when closed."""

    def __init__(self, pieces: Iterator[bytes], leave: Callable[[], None]) -> None:
        self._pieces = pieces
        self._leave: Callable[[], None] | None = leave

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def __del__(self) -> None:
        self.close()
