"""All groups of an emulator, and the commands that stand for images."""

from __future__ import annotations

import atexit
import itertools
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cloudreg_emulator.faults import Faults
from cloudreg_emulator.fleet import model
from cloudreg_emulator.fleet.group import Group, Surroundings
from cloudreg_emulator.fleet.launch import Launch

PATIENCE_S = 30.0
"""Real seconds that a start may take at least: a real server loads its model in real time."""

PING_PAUSE_S = 1.0

CLOSE_S = 0.5
"""From SIGTERM to SIGKILL when the emulator itself ends."""

DEFAULT_IMAGES: Mapping[str, Sequence[str]] = {
    "*cloudreg*": (
        *(sys.executable, "-P", "-m", "cloudreg.serving"),
        # A container has a network of its own; here the server must not be reached from outside.
        *("--host", "127.0.0.1", "--exit-with-parent"),
    ),
}
"""Patterns of image URIs, and the command that each stands for."""


def _nowhere(launch: Launch, instance: str, line: str) -> None:
    del launch, instance, line


class Fleet:
    """Real processes behind emulated endpoints. Thread-safe."""

    def __init__(
        self,
        read: model.Read,
        images: Mapping[str, Sequence[str]] | None = None,
        *,
        scale: float = 1.0,
        patience_s: float = PATIENCE_S,
        ping_pause_s: float = PING_PAUSE_S,
        faults: Faults | None = None,
        log: Callable[[Launch, str, str], None] = _nowhere,
    ) -> None:
        """Begin without any group.

        Args:
            read: ``read(bucket, key, kind)`` yields (relative path, content) of model data.
            images: Patterns of image URIs with the command of each, looked at in their order
                before `DEFAULT_IMAGES`.
            scale: Real seconds of an emulated second.
            patience_s: Real seconds that a start may take at least, whatever the scale.
            ping_pause_s: Real seconds between two health checks.
            faults: Asked before each start of an instance.
            log: Takes the launch, an instance's name and each line that it writes.
        """
        self.scale = scale
        self._read = read
        self._images = {**(images or {}), **DEFAULT_IMAGES, **(images or {})}
        self._patience_s = patience_s
        self._ping_pause_s = ping_pause_s
        self._faults = faults or Faults()
        self._log = log
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._groups: list[Group] = []
        self._folder: Path | None = None
        self._closed = False
        _open.add(self)

    @property
    def groups(self) -> list[Group]:
        """The groups of which something is left."""
        with self._lock:
            return [group for group in self._groups if not group.gone]

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [pid for group in self.groups for pid in group.pids]

    def start(self, launch: Launch, count: int) -> Group:
        """Begin to start *count* instances, and return them as a group."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the fleet is closed")
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="fleet-"))
            around = Surroundings(
                read=self._read,
                folder=self._folder / str(next(self._numbers)),
                scale=self.scale,
                patience_s=self._patience_s,
                ping_pause_s=self._ping_pause_s,
                faults=self._faults,
                log=self._log,
            )
            group = Group(launch, count, self._command(launch.image), around)
            self._groups = [g for g in self._groups if not g.gone] + [group]
            return group

    def close(self) -> None:
        """End every process, by its id, and return when none is left."""
        with self._lock:
            self._closed = True
            groups, self._groups = self._groups, []
            folder, self._folder = self._folder, None
        for group in groups:
            group.begin_close(grace_s=CLOSE_S)
        for group in groups:
            group.join()
        if folder is not None:
            model.remove(folder)
        _open.discard(self)

    def _command(self, image: str) -> Sequence[str] | None:
        for pattern, argv in self._images.items():
            if fnmatchcase(image, pattern):
                return argv
        return None


_open: weakref.WeakSet[Fleet] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # Processes in sessions of their own would outlive a parent that forgot to close.
    for fleet in list(_open):
        fleet.close()
