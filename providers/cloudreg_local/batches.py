"""Data sets that are scored here: a process that goes on when whoever asked has ended.

::

    batch/<name>/job.json     what was asked for
    batch/<name>/state.json   how it stands
    batch/<name>/lock         held as long as the process lives
    batch/<name>/stop         somebody wants it to stop
    batch/<name>/models/      the files that the model servers read
    batch/<name>/log          what the process and its servers say
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloudreg.capabilities import Capabilities
from cloudreg.errors import NotFound, Unsupported
from cloudreg.jobs import BatchSpec
from cloudreg.provider import Operation
from cloudreg.types import ModelVersion, OperationState, OperationStatus
from cloudreg_local import wire
from cloudreg_local.disk import is_locked, locked, make_folder, write_whole
from cloudreg_local.errors import translated
from cloudreg_local.store import LocalStore

LAST_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the process is told.

    Attributes:
        spec: What was asked for.
        store: Folder of the target's store.
        command: Starts a model server.
    """

    spec: BatchSpec
    store: str
    command: tuple[str, ...]


class JobFolder:
    """The folder of one job, as both sides know it."""

    def __init__(self, path: Path) -> None:
        """Use *path*, whether it is there or not."""
        self.path = path
        self.lock = path / "lock"
        self.log = path / "log"
        self.models = path / "models"
        self._job = path / "job.json"
        self._state = path / "state.json"
        self._stop = path / "stop"

    @property
    def exists(self) -> bool:
        """Whether a job was asked for."""
        return self._job.is_file()

    def job(self) -> Job:
        """Return what was asked for."""
        return msgspec.json.decode(self._job.read_bytes(), type=Job)

    def ask(self, job: Job) -> None:
        """Write down what is asked for."""
        write_whole(self._job, msgspec.json.encode(job))

    def state(self) -> OperationStatus | None:
        """Return how it stands; None before it began."""
        with suppress(FileNotFoundError):
            return msgspec.json.decode(self._state.read_bytes(), type=OperationStatus)
        return None

    def say(self, status: OperationStatus) -> None:
        """Write down how it stands."""
        write_whole(self._state, msgspec.json.encode(status), durable=False)

    @property
    def stopping(self) -> bool:
        """Whether somebody wants it to stop."""
        return self._stop.exists()

    def stop(self) -> None:
        """Ask it to stop."""
        self._stop.touch()

    def last_words(self) -> tuple[str, ...]:
        """Return the last lines of the log."""
        with suppress(FileNotFoundError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            return tuple(lines[-LAST_LINES:])
        return ()


class LocalBatch:
    """The jobs of a local target."""

    def __init__(
        self,
        root: Path,
        store: LocalStore,
        capabilities: Capabilities,
        *,
        store_root: Path,
        command: tuple[str, ...],
        target: str,
    ) -> None:
        """Use *root*; it is made with the first job."""
        self._root = root
        self._store = store
        self._store_root = store_root
        self._capabilities = capabilities
        self._command = command
        self._target = target

    def start(self, spec: BatchSpec, *, version: ModelVersion) -> Operation:
        able = self._capabilities
        gpu = spec.resources.accelerator
        if gpu is not None and gpu not in able.accelerators:
            raise Unsupported(
                f"batch {spec.name}: no {gpu} on this provider "
                f"({able.reasons.get('accelerators', '')})",
                target=self._target,
                hint=able.nearest.get(gpu) or "leave gpu out",
            )
        if spec.replicas > able.max_replicas:
            raise Unsupported(
                f"batch {spec.name}: {spec.replicas} replicas, {able.max_replicas} at most "
                f"({able.reasons['max_replicas']})",
                target=self._target,
                hint=f"--replicas {able.max_replicas}",
            )
        for key in (wire.manifest_key(spec.digest), *(f.key for f in version.manifest.files)):
            if not self._store.has(key):
                raise NotFound(
                    f"{spec.model}:{spec.number}: {key} is not in the store", target=self._target
                )
        folder = self._folder(spec.name)
        with translated(f"batch {spec.name}", target=self._target):
            make_folder(self._root / ".locks")
            with locked(self._root / ".locks" / spec.name):
                if not folder.exists:
                    make_folder(folder.path)
                    job = Job(spec=spec, store=str(self._store_root), command=self._command)
                    _begin(folder, job)
        return Scoring(folder)

    def find(self, name: str) -> Operation | None:
        folder = self._folder(name)
        return Scoring(folder) if folder.exists else None

    def stop(self, name: str) -> None:
        folder = self._folder(name)
        if folder.exists:
            folder.stop()

    def _folder(self, name: str) -> JobFolder:
        return JobFolder(self._root / name)


def _begin(folder: JobFolder, job: Job) -> None:
    """Start the process; the lock goes to it with its descriptor."""
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.ask(job)
        with folder.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cloudreg_local.scoring", str(folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder.path,
                start_new_session=True,
                pass_fds=(lock,),
            )
        # It outlives us by design: nobody shall be warned that it still runs.
        process.returncode = 0
    finally:
        os.close(lock)


class Scoring:
    """A job, watched."""

    def __init__(self, folder: JobFolder) -> None:
        """Remember which job it is."""
        self._folder = folder

    @property
    def name(self) -> str:
        return f"batch {self._folder.path.name}"

    def poll(self) -> OperationStatus:
        # In this order: who is dead before we read has written his last.
        alive = is_locked(self._folder.lock)
        status = self._folder.state()
        if status is not None and (alive or status.state is not OperationState.RUNNING):
            return status
        if alive:
            return OperationStatus(state=OperationState.RUNNING, message="starting")
        return OperationStatus(
            state=OperationState.FAILED,
            message="its process died",
            logs=self._folder.last_words(),
        )
