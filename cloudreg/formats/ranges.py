"""A file that is read in ranges, and what the standard library raises over hostile bytes."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol, cast

from cloudreg.errors import CloudregError, IntegrityError

Read = Callable[[int, int], bytes]
"""Returns the bytes from an offset on: as many as asked for, or all that are left."""

BLOCK = 64 * 1024
SMALL = 1024 * 1024
"""Bytes of a file that is read whole: one request more would cost more than they do."""

MAX_READ = 32 * 1024 * 1024
"""The largest piece that is ever held: the header of a safetensors file, an archive's directory."""

BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, LookupError, OSError,
    NotImplementedError, OverflowError, RecursionError, RuntimeError, SyntaxError, TypeError,
)  # fmt: skip
"""What readers raise over bytes that somebody wrote to deceive them."""


class Stream(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes, none at the end."""
        ...


@contextmanager
def hostile() -> Iterator[None]:
    """Leave the block early where the bytes make no sense; our own errors pass."""
    try:
        yield
    except CloudregError:
        raise
    except BROKEN:
        return


class Ranges(io.BufferedIOBase):
    """A file that is read in ranges: never much at once, and its beginning only once."""

    def __init__(self, read: Read, size: int, *, name: str) -> None:
        """Read *size* bytes through *read*; *name* is for messages."""
        self._read = read
        self._size = size
        self._block = max(BLOCK, size) if size <= SMALL else BLOCK
        self._name = name
        self._at = 0
        self._blocks: dict[int, bytes] = {}

    @property
    def file(self) -> IO[bytes]:
        """The same, as the standard library's types call it."""
        return cast(IO[bytes], self)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Read on elsewhere."""
        self._at = offset + (0, self._at, self._size)[whence]
        if self._at < 0:
            # What the standard library catches where a file is too short for what it looks for.
            raise OSError("before the start")
        return self._at

    def skip(self, count: int) -> None:
        """Pass over *count* bytes."""
        self._at += count

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, fewer at the end.

        Raises:
            ValueError: So much at once that it cannot be meant.
            IntegrityError: There is less than the file has.
        """
        rest = max(0, self._size - self._at)
        wanted = rest if size is None or size < 0 else min(size, rest)
        if wanted > MAX_READ:
            raise ValueError(f"{wanted} bytes at once")
        block, start = divmod(self._at, self._block)
        if wanted == 0:
            return b""
        if start + wanted > self._block:
            data = self._exactly(self._at, wanted)
        else:
            data = self._cached(block)[start : start + wanted]
        self._at += wanted
        return data

    def _cached(self, block: int) -> bytes:
        if block not in self._blocks:
            offset = block * self._block
            data = self._exactly(offset, min(self._block, self._size - offset))
            first = self._blocks.get(0, data)
            self._blocks = {0: first, block: data} if block else {0: data}
        return self._blocks[block]

    def _exactly(self, offset: int, length: int) -> bytes:
        data = self._read(offset, length)
        if len(data) != length:
            raise IntegrityError(f"{self._name} has fewer bytes than were registered")
        return data
