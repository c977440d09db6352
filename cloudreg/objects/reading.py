"""Ranges of an object in order, some of them asked for ahead: a store limits each connection."""

from __future__ import annotations

import errno
import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore

from cloudreg.errors import AlreadyExists, InvalidRequest, QuotaExceeded
from cloudreg.objects.failures import is_behind_the_end, translated

if TYPE_CHECKING:
    from obstore import GetOptions

FIRST = 8 * 1024 * 1024
"""Bytes that the first request asks for: small objects and ranges need no second one."""

STEP = 4 * 1024 * 1024
"""Bytes that each further request asks for."""

AHEAD = 4
"""Requests of one reader at once."""


class Source:
    """One range of one object, of one state of it.

    The first request is made at once, so that a missing object is known before the first read; it
    also tells the size. All others ask for the object with the same ETag: bytes of two objects
    are never mixed.
    """

    def __init__(
        self,
        store: Any,
        name: str,
        *,
        offset: int,
        length: int | None,
        what: str,
        target: str,
    ) -> None:
        """Ask for the beginning of the range.

        Args:
            store: obstore's.
            name: What the object is called there.
            offset: Where the range begins.
            length: How long it is; None for all that follows.
            what: For messages.
            target: For messages.

        Raises:
            NotFound: No such object.
        """
        self._store = store
        self._name = name
        self._what = what
        self._target = target
        self._tag: str | None = None
        self.first: Any = b""
        with self._translated():
            size = self._begin(offset, length)
        end = size if length is None else min(size, offset + length)
        self.start = offset
        self.end = max(offset, end)

    def _begin(self, offset: int, length: int | None) -> int:
        wanted = FIRST if length is None else min(length, FIRST)
        if not wanted:
            return int(obstore.head(self._store, self._name)["size"])
        try:
            answer = obstore.get(
                self._store, self._name, options={"range": (offset, offset + wanted)}
            )
            self.first = answer.bytes()
        except Exception as error:
            if not is_behind_the_end(error):
                raise
            # The answer is about the object as it was then, and it had nothing here. To ask for
            # its size could meet another object.
            return offset
        self._tag = answer.meta["e_tag"]
        return int(answer.meta["size"])

    def fetch(self, start: int, end: int) -> Any:
        """Return the bytes from *start* to *end* of the same object.

        Raises:
            Conflict: It is another object by now.
            NotFound: It is gone.
        """
        options: GetOptions = {"range": (start, end)}
        if self._tag is not None:
            options["if_match"] = self._tag
        with self._translated():
            return obstore.get(self._store, self._name, options=options).bytes()

    def rest(self) -> Iterator[tuple[int, int]]:
        """Yield where the ranges behind the first begin and end."""
        for start in range(self.start + len(self.first), self.end, STEP):
            yield start, min(start + STEP, self.end)

    def _translated(self) -> Any:
        return translated(self._what, target=self._target)


def in_order(source: Source, pool: Callable[[], Executor]) -> Generator[Any, None, None]:
    """Yield the bytes of *source* piece by piece; nothing is asked for ahead before the second."""
    yield source.first
    waiting: deque[Future[Any]] = deque()
    try:
        for start, end in source.rest():
            waiting.append(pool().submit(source.fetch, start, end))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Reader(io.RawIOBase):
    """A file of pieces that come in order."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        """Read *pieces*, which is closed with the reader."""
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Whether it can be read: it can."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return at most *size* bytes, no more than a piece; everything without a size.

        They are copied once: Python's own would fill a buffer first, and hold them three times.
        """
        if size is None or size < 0:
            return self.readall()
        if not size or not self._fill():
            return b""
        taken, self._left = self._left[:size], self._left[size:]
        return taken.tobytes()

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer* as far as the piece goes; nothing at the end."""
        if not self._fill():
            return 0
        view = memoryview(buffer)
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _fill(self) -> bool:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._left = memoryview(piece)
        return True

    def close(self) -> None:
        """Let go of what is on its way."""
        if not self.closed:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        super().close()


def save(source: Source, dest: Path, pool: Callable[[], Executor], *, target: str) -> None:
    """Write *source* to the new file *dest*, whole or not at all.

    Raises:
        AlreadyExists: It is there; it stays as it is.
    """
    with _written(dest, target):
        handle = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with closing(in_order(source, pool)) as pieces:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    with _written(dest, target):
                        left = left[os.write(handle, left) :]
    except BaseException:
        dest.unlink()
        raise
    finally:
        os.close(handle)


@contextmanager
def _written(dest: Path, target: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise AlreadyExists(f"{dest} is there already", target=target) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        kind = QuotaExceeded if full else InvalidRequest
        raise kind(f"{dest} cannot be written: {error.strerror}", target=target) from error
