"""Large objects and copies, with what every obstore store can do.

obstore can refuse a taken key in one request, but not at the end of an upload in parts. So such
an upload is staged: sent under a key that nobody else has, then copied to its own, which the store
refuses when it is taken. A store that can do better brings a `Large` of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import obstore
from obstore import exceptions

from cloudreg.objects.failures import failure, translated

PART = 8 * 1024 * 1024
"""Bytes of a part."""

PARTS_AT_ONCE = 12


class Staging:
    """Puts and copies of objects that are too large for one request."""

    def __init__(self, store: Any, *, stage: Callable[[str], str], target: str) -> None:
        """Send to *store*.

        Args:
            store: obstore's.
            stage: Returns where an upload waits that is called so; sweep that place.
            target: For messages.
        """
        self._store = store
        self._stage = stage
        self._target = target

    def put(
        self, pieces: Iterator[bytes], name: str, *, if_absent: bool, resume: str | None
    ) -> None:
        """Store *pieces* under *name*, whole or not at all; *resume* starts anew.

        Raises:
            AlreadyExists: With *if_absent*, when the name is taken.
        """
        if not if_absent:
            self._send(pieces, name, name)
            return
        waiting = self._stage(uuid.uuid4().hex)
        self._send(pieces, waiting, name)
        try:
            with translated(f"object {name!r}", target=self._target):
                obstore.copy(self._store, waiting, name, overwrite=False)
        finally:
            # What cannot be removed now is swept later.
            with suppress(exceptions.BaseError, OSError):
                obstore.delete(self._store, waiting)

    def copy(self, name: str, to: str, *, size: int, tag: str | None, if_absent: bool) -> None:
        """Copy inside the store, in one request.

        Raises:
            NotFound: No such object.
            AlreadyExists: With *if_absent*, when *to* is taken.
        """
        with translated(f"object {to!r}", target=self._target):
            obstore.copy(self._store, name, to, overwrite=not if_absent)

    def _send(self, pieces: Iterator[bytes], name: str, shown: str) -> None:
        source = _Source(pieces)
        try:
            obstore.put(
                self._store,
                name,
                source,
                use_multipart=True,
                chunk_size=PART,
                max_concurrency=PARTS_AT_ONCE,
            )
        except BaseException as error:
            # The caller's own error, which may look like one of obstore's, passes as it is.
            if source.error is not None or not isinstance(error, Exception):
                raise
            raise failure(error, f"object {shown!r}", target=self._target) from error


class _Source:
    """Pieces, and what went wrong with them."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            # obstore takes an empty piece for the end.
            return next(piece for piece in self._pieces if piece)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
