"""What was done on this machine while the home did not answer, until the ledger has it.

One file a line of the story, written where none stands yet and forced to the disk before anything
is changed; each names the hash of the one before it::

    <state>/journal/<home>/<model>/<number>.json
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from cloudreg.errors import AlreadyExists, Conflict, IntegrityError
from cloudreg.ledger.entry import GENESIS
from cloudreg.names import canonical_json, sha256

FORMAT = 1
FOLDER = "journal"

BEGIN = "begin"
"""A change begins: what it does, on whose copy of the ledger it rests."""
CHANGED = "changed"
"""A target is as it should be."""
FAILED = "failed"
"""A target is not, and why."""
CLOSED = "closed"
"""The ledger has all that stands before this line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a journal.

    Attributes:
        number: Its place, from 0.
        prev: Hash of the line before it.
        kind: `BEGIN`, `CHANGED`, `FAILED` or `CLOSED`.
        at: When, ISO 8601 in UTC, by this machine's clock.
        actor: Who.
        data: What the kind needs.
    """

    number: int
    prev: str
    kind: str
    at: str
    actor: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the canonical bytes, the ones that are hashed."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return canonical_json({"format": FORMAT, **document})

    @property
    def hash(self) -> str:
        """Return what the next line names as its predecessor."""
        return sha256(self.encode())


class Journal:
    """The journal of one model."""

    def __init__(self, state: Path, home: str, model: str) -> None:
        """Use the folder of *model* in what this machine remembers of the home called *home*."""
        self.model = model
        self.home = home
        self._folder = state / FOLDER / home / model

    @property
    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self._folder.is_dir()

    def lines(self) -> list[Line]:
        """Return all lines, checked against each other.

        Raises:
            IntegrityError: One was edited or is missing.
        """
        found: list[Line] = []
        prev = GENESIS
        names = sorted(self._folder.glob("*.json")) if self.exists else []
        for number, path in enumerate(names):
            where = f"{path}: line {number} of the journal of {self.model}"
            data = path.read_bytes()
            try:
                document = msgspec.json.decode(data, type=dict[str, Any])
                known = document.pop("format", None) == FORMAT
                line = msgspec.convert(document, Line)
            except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors too
                raise IntegrityError(f"{where} cannot be read: {error}") from error
            if not known or (line.number, line.prev) != (number, prev) or line.encode() != data:
                raise IntegrityError(f"{where} was edited, or the one before it is missing")
            found.append(line)
            prev = line.hash
        return found

    def pending(self) -> list[Line]:
        """Return the lines that the ledger does not have yet."""
        lines = self.lines()
        closed = [line.number for line in lines if line.kind == CLOSED]
        return lines[closed[-1] + 1 :] if closed else lines

    def append(self, kind: str, data: Mapping[str, Any], *, actor: str, at: str) -> Line:
        """Write the next line, and return once it is on the disk.

        Raises:
            AlreadyExists: Another process was faster; the folder is held by nobody.
        """
        before = self.lines()
        line = Line(
            number=len(before),
            prev=before[-1].hash if before else GENESIS,
            kind=kind,
            at=at,
            actor=actor,
            data=data,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{line.number:08d}.json"
        # A killed process leaves no half line: it is written under another name first.
        part = path.with_suffix(f".{os.getpid()}")
        try:
            with part.open("wb") as writer:
                writer.write(line.encode())
                writer.flush()
                os.fsync(writer.fileno())
            try:
                path.hardlink_to(part)
            except FileExistsError as error:
                raise AlreadyExists(f"{path} is there already") from error
        finally:
            part.unlink(missing_ok=True)
        for folder in (self._folder, *self._folder.parents[:3]):
            _force(folder)
        return line

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the journal; the system lets go when the process dies.

        Raises:
            Conflict: Another process of this machine holds it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"another process of this machine changes {self.model} without the home now",
                    hint="wait until it is done",
                ) from error
            yield
        finally:
            os.close(handle)


def _force(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
