"""One instance: a model-server process, started and stopped as a cloud does a container."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloudreg_emulator.faults import Faults, Kind, When
from cloudreg_emulator.fleet import model
from cloudreg_emulator.fleet.launch import Launch
from cloudreg_emulator.fleet.wire import Line

QUICK_CRASHES = 3
"""Starts in a row that end before the first good health check."""

STEADY_S = 10.0
"""Who lived that long did not crash at the start."""

MAX_PAUSE_S = 5.0
"""Between two starts of an instance that was healthy once."""

LAST_WORDS_S = 1.0
"""For what a process wrote before it ended; a grandchild may keep the pipe open."""

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity "
    "error. Please retry using a different ML instance type or after some time."
)
"""Source: https://docs.aws.amazon.com/sagemaker/latest/dg/inference-pipeline-troubleshoot.html"""

KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
"""Of this process's environment, what any program needs to run. A container's image has its own."""


def not_healthy(variant: str) -> str:
    """Return what the service says of containers that do not answer ``/ping``."""
    # The words of FailureReason: https://github.com/aws/amazon-sagemaker-examples/issues/3432
    return (
        f"The primary container for production variant {variant} did not pass the ping health "
        "check. Please check CloudWatch logs for this endpoint."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all instances of a group share.

    Attributes:
        launch: What was asked for.
        argv: The image's command.
        data: The model data, mirrored for each instance.
        folder: Where instances have their own folders.
        start_s: Real seconds from the start to the first good health check.
        live_s: Real seconds from the start until it must listen; None asks for no such thing.
        ping_pause_s: Real seconds between two health checks.
        scale: Real seconds of an emulated second.
        faults: Asked before each start.
        log: Takes an instance's name and a line of it.
        changed: Called when a state changes.
    """

    launch: Launch
    argv: Sequence[str]
    data: Path
    folder: Path
    start_s: float
    live_s: float | None
    ping_pause_s: float
    scale: float
    faults: Faults
    log: Callable[[str, str], None]
    changed: Callable[[], None]


class Instance:
    """A process, and its successors after crashes.

    Attributes:
        name: Of its log stream.
        ready: Whether it takes requests.
        inflight: Requests that it works on.
        failure: Why it does not come up, in the service's words.
        line: How it is reached; None while there is no process.
        pid: Of the process that runs.
        gone: Whether nothing of it is left, and nothing will come.
    """

    def __init__(self, name: str, plan: Plan) -> None:
        """Start it, in a thread of its own."""
        self.name = name
        self.ready = False
        self.inflight = 0
        self.failure: str | None = None
        self.line: Line | None = None
        self.pid: int | None = None
        self.gone = False
        self._was_ready = False
        self._plan = plan
        self._folder = plan.folder / name
        self._idle = threading.Condition()
        self._ending = threading.Event()
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._live, name=f"instance {name}", daemon=True)
        self._thread.start()

    def enter(self) -> None:
        """Count a request; it will not be stopped before `leave`, within its grace."""
        with self._idle:
            self.inflight += 1

    def leave(self) -> None:
        """Count a request less."""
        with self._idle:
            self.inflight -= 1
            self._idle.notify_all()

    def stop(self, *, grace_s: float) -> None:
        """Let it end in the background: its requests first, then SIGTERM, then SIGKILL.

        Args:
            grace_s: Real seconds for all that; a second call can only shorten it.
        """
        self.ready = False
        self._deadline = min(self._deadline, time.monotonic() + grace_s)
        self._ending.set()
        with self._idle:
            self._idle.notify_all()

    def join(self) -> None:
        """Return when nothing of it is left."""
        self._thread.join()

    def _live(self) -> None:
        crashes = 0
        while not self._ending.is_set():
            began = time.monotonic()
            problem = self._once()
            if problem is None:
                break
            crashes = 1 if time.monotonic() - began > STEADY_S else crashes + 1
            self._plan.log(self.name, f"the container ended: {problem}")
            if self.failure is None and crashes >= QUICK_CRASHES:
                self.failure = not_healthy(self._plan.launch.variant)
            self._plan.changed()
            if self.failure is not None and not self._was_ready:
                break  # another start would end in the same way
            self._ending.wait(min(MAX_PAUSE_S, 0.05 * 2**crashes))
        model.remove(self._folder)
        self.gone = True
        self._plan.changed()

    def _once(self) -> str | None:
        """Run one process to its end, and return why it ended; None where that was asked for."""
        healthy = True
        launch = self._plan.launch
        fault = self._plan.faults.strike(
            "fleet", f"{launch.endpoint}/{launch.variant}", When.LAUNCH
        )
        if fault is not None and fault.kind is Kind.CAPACITY:
            self.failure = NO_CAPACITY
            return "there is no capacity"
        if fault is not None and fault.kind is Kind.SLOW_START:
            self._ending.wait(fault.seconds * self._plan.scale)
        if fault is not None and fault.kind is Kind.UNHEALTHY:
            healthy = False
        if self._ending.is_set():
            return None
        port = _free_port()
        try:
            process = self._start(port)
        except OSError as error:
            return f"it cannot be started: {error}"
        self.pid, self.line = process.pid, Line(port, health=launch.contract.health)
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        try:
            return self._watch(process, self.line, healthy=healthy)
        finally:
            self.ready = False
            self._end(process)
            reader.join(LAST_WORDS_S)
            self.line.close()
            self.pid, self.line = None, None

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        contract = self._plan.launch.contract
        model_folder = self._folder / "model"
        if not contract.is_mirrored:
            self._folder.mkdir(parents=True, exist_ok=True)
        elif not model_folder.exists():
            model.mirror(self._plan.data, model_folder)
        return subprocess.Popen(
            [*(contract.command or self._plan.argv), *contract.arguments],
            # Its end tells those who ask for it that the emulator is gone.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env={
                **{name: os.environ[name] for name in KEPT if name in os.environ},
                **self._plan.launch.environment,
                **contract.environment(self._folder, port),
            },
            start_new_session=True,
        )

    def _watch(self, process: subprocess.Popen[bytes], line: Line, *, healthy: bool) -> str | None:
        """Return when the process ended, or has to; None where that was asked for."""
        began = time.monotonic()
        deadline = began + self._plan.start_s
        live_s = self._plan.live_s
        pause = 0.01
        while not (healthy and line.ping(timeout_s=self._plan.launch.contract.health_s)):
            if self._ending.wait(pause):
                return None
            if process.poll() is not None:
                return _obituary(process)
            if live_s is not None and time.monotonic() - began > live_s:
                if not line.listens():
                    return f"nothing listens on its port after {live_s:g} s"
                live_s = None
            if time.monotonic() > deadline:
                self.failure = not_healthy(self._plan.launch.variant)
                return f"it is not healthy after {self._plan.launch.startup_timeout_s:g} s"
            pause = min(0.2, pause * 1.5)
        # Its port may have been taken by somebody who answers: then it has ended by itself.
        if process.poll() is not None:
            return _obituary(process)
        self.failure = None
        self.ready = not self._ending.is_set()
        self._was_ready = True
        self._plan.changed()
        return self._attend(process, line)

    def _attend(self, process: subprocess.Popen[bytes], line: Line) -> str | None:
        """Watch a healthy process, and return why it is that no more."""
        contract = self._plan.launch.contract
        missed = 0
        while missed < contract.misses or not contract.replaces:
            until = time.monotonic() + self._plan.ping_pause_s
            while time.monotonic() < until:
                if self._ending.wait(min(0.1, self._plan.ping_pause_s)):
                    return None
                if process.poll() is not None:
                    return _obituary(process)
            missed = 0 if line.ping(timeout_s=contract.health_s) else missed + 1
            if not contract.replaces:
                self._lead(missed < contract.misses)
        return f"it missed {missed} health checks"

    def _lead(self, ready: bool) -> None:
        """Give it requests, or no more of them for now."""
        ready = ready and not self._ending.is_set()
        if ready != self.ready:
            self.ready = ready
            self._plan.changed()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the process and everything that it started."""
        if not self._ending.is_set():
            self._deadline = min(self._deadline, time.monotonic() + LAST_WORDS_S)
        with self._idle:
            while self._ending.is_set() and self.inflight and self._left_s:
                self._idle.wait(self._left_s)
        if process.poll() is None:
            process.terminate()
        while process.poll() is None and self._left_s:
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(0.1, self._left_s))
        if not self._ending.is_set():
            self._deadline = math.inf
        # When the first process of a container ends, all others in it are killed.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    @property
    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            while line := process.stdout.readline(1_000_000):
                self._plan.log(self.name, line.decode(errors="replace").rstrip())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _obituary(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
