"""The folder of one endpoint, as both sides know it: whoever asks, and the supervisor.

::

    endpoints/<name>/desired.json     what was asked for
    endpoints/<name>/observed.json    what the supervisor has made of it
    endpoints/<name>/supervisor.lock  held as long as the supervisor lives
    endpoints/<name>/supervisor.log   what it says beside
    endpoints/<name>/port             where it listens
    endpoints/<name>/models/<sha256>/ the files that the model servers read
    endpoints/<name>/logs/            what they wrote
    endpoints/.locks/<name>           held by whoever changes the folder
"""

from __future__ import annotations

import datetime
import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from cloudreg.errors import IntegrityError
from cloudreg_local import wire
from cloudreg_local.disk import is_locked, locked, write_whole


class EndpointFolder:
    """Where one endpoint lives."""

    def __init__(self, path: Path) -> None:
        """Use *path*, whether it is there or not."""
        self.path = path
        self.models = path / "models"
        self.logs = path / "logs"
        self.port = path / "port"
        self.lock = path / "supervisor.lock"
        self._desired = path / "desired.json"
        self._observed = path / "observed.json"
        self._log = path / "supervisor.log"

    def exists(self) -> bool:
        """Whether it holds an endpoint, and not only what a crash left."""
        return self._desired.exists()

    def held(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """Keep others from changing the folder."""
        return locked(self.path.parent / ".locks" / self.path.name, shared=shared)

    def alive(self) -> bool:
        """Whether the supervisor runs; ask only while the folder is held."""
        return is_locked(self.lock)

    def desired(self) -> wire.Desired | None:
        """Return what was asked for; None where there is no endpoint."""
        with suppress(FileNotFoundError):
            return wire.decode(self._desired.read_bytes(), wire.Desired)
        return None

    def observed(self) -> wire.Observed | None:
        """Return what the supervisor wrote last."""
        # Half written by a machine that lost its power: as if it were not there.
        with suppress(FileNotFoundError, IntegrityError):
            return wire.decode(self._observed.read_bytes(), wire.Observed)
        return None

    def ask(self, desired: wire.Desired) -> None:
        """Write what should be, durably."""
        write_whole(self._desired, wire.encode(desired))

    def show(self, observed: bytes) -> None:
        """Write what is."""
        # The lock tells whether it is current: after a power cut an old file does no harm.
        with suppress(FileNotFoundError):
            write_whole(self._observed, observed, durable=False)

    def last_words(self) -> list[str]:
        """Return the end of the supervisor's own log."""
        with suppress(FileNotFoundError):
            return self._log.read_text(errors="replace").splitlines()[-20:]
        return []

    def remove(self) -> None:
        """Remove everything; the caller holds the folder."""
        # First what makes it an endpoint: whatever a crash leaves is swept by the next.
        self._desired.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def supervise(self) -> int | None:
        """Start the supervisor unless it runs, and return its process id.

        The caller holds the folder.
        """
        lock = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            self._bury()
            with self._log.open("wb") as log:
                # The lock goes to the child with its descriptor: it is never free in between.
                daemon = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-m", "cloudreg_local.supervisor"),
                        *(str(self.path), "--lock", str(lock)),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.path,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            # It outlives us by design: nobody shall be warned that it still runs.
            daemon.returncode = 0
            return daemon.pid
        finally:
            os.close(lock)

    def _bury(self) -> None:
        """Take from ``observed.json`` what died with an earlier supervisor."""
        last = self.observed()
        if last is not None:
            self.show(wire.encode(replace(last, variants=())))


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    moment = datetime.datetime.now(datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
