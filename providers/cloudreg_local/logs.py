"""Log files of bounded size: a time and a line each."""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 1_000_000
"""Of a file; the one before it is kept beside it."""

MAX_LINE = 8_000
KEPT_FILES = 40
STAMP = 27
"""Characters of ``2026-08-01T12:00:00.000000Z``."""


class LogFile:
    """What one replica writes.

    A full disk loses lines, and nothing else: whoever writes them goes on.
    """

    def __init__(self, path: Path) -> None:
        """Begin or go on at *path*."""
        self.name = path.name
        self.last: deque[str] = deque(maxlen=100)
        self._path = path
        self._writer: BinaryIO | None = None
        self._size = 0
        self._closed = False
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()

    def write(self, line: str) -> None:
        """Add one line with its time."""
        line = line[:MAX_LINE]
        self.last.append(line)
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        data = f"{stamp.replace('+00:00', 'Z')} {line}\n".encode(errors="replace")
        if self._closed:
            return
        with suppress(OSError):
            if self._size + len(data) > MAX_BYTES:
                self._let_go()
                self._path.replace(self._path.with_suffix(".log.1"))
            writer = self._writer or self._open()
            self._size += writer.write(data)

    def close(self) -> None:
        """Let go of the file; what comes later is remembered, but not written."""
        self._closed = True
        self._let_go()

    def _open(self) -> BinaryIO:
        self._writer = writer = self._path.open("ab", buffering=0)
        self._size = self._path.stat().st_size
        return writer

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def prune(folder: Path, *, keep: Iterable[str]) -> None:
    """Remove the oldest files of *folder* beyond `KEPT_FILES`, but none of *keep*."""
    kept = set(keep)
    files = sorted(folder.glob("*.log*"), key=lambda path: path.stat().st_mtime)
    for path in files[:-KEPT_FILES]:
        if path.name.removesuffix(".1") not in kept:
            path.unlink(missing_ok=True)


def tail(folder: Path, *, lines: int, names: set[str] | None = None) -> list[str]:
    """Return the last lines of the files of *folder*, oldest first.

    Args:
        folder: With files of `LogFile`.
        lines: How many.
        names: Only of these files; None for all.
    """
    found: list[str] = []
    for path in folder.glob("*.log"):
        if names is not None and path.name not in names:
            continue
        own: list[str] = []
        for part in (path.with_suffix(".log.1"), path):
            with suppress(FileNotFoundError):
                # At line feeds alone: a progress bar's carriage returns are part of its line.
                own += part.read_bytes().decode(errors="replace").split("\n")[:-1]
        found += own[-lines:]
    found.sort(key=lambda line: line[:STAMP])
    return [line[STAMP + 1 :] for line in found[-lines:]] if lines > 0 else []
