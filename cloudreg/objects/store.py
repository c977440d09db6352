"""The contract of an object store over obstore, which retries the wire and signs what it sends."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import obstore
from obstore import exceptions

from cloudreg.errors import AlreadyExists, InvalidRequest, NotFound, Unavailable
from cloudreg.names import check_key
from cloudreg.objects import keys
from cloudreg.objects.failures import failure, status_of, translated, was_first_answer
from cloudreg.objects.reading import Reader, Source, in_order, save
from cloudreg.objects.staging import Staging
from cloudreg.provider import StoredObject

WHOLE = 8 * 1024 * 1024
"""Objects up to this size go in one request, in which the store can refuse a taken key."""

READERS = 16
"""Ranges that are asked for at once, of all objects together."""

MARK = "cloudreg-put"
"""Metadata of an object that was put with ``if_absent``: which put it was."""

_PAGE = 1000


class Large(Protocol):
    """How a store takes what is too large for one request; names are the store's own."""

    def put(
        self, pieces: Iterator[bytes], name: str, *, if_absent: bool, resume: str | None
    ) -> None:
        """Store *pieces* under *name*, whole or not at all.

        Raises:
            AlreadyExists: With *if_absent*, when the name is taken.
        """
        ...

    def copy(self, name: str, to: str, *, size: int, tag: str | None, if_absent: bool) -> None:
        """Copy an object of *size* bytes, as long as its ETag is *tag*, inside the store.

        Raises:
            NotFound: No such object.
            AlreadyExists: With *if_absent*, when *to* is taken.
        """
        ...


class ObstoreObjects:
    """An object store in a bucket, or below a prefix of one; safe with many threads.

    `StoredObject.modified_at` of a put is this machine's time; a listing has the store's.
    """

    def __init__(
        self, store: Any, *, target: str, prefix: str = "", large: Large | None = None
    ) -> None:
        """Use *store*.

        Args:
            store: obstore's; it must know attributes, as all but its local folders do.
            target: For messages.
            prefix: What all keys are below, without a slash at its ends.
            large: How large objects are sent and copied; by default, `Staging` at ``uploads/``.
        """
        self._store = store
        self._target = target
        self._base = f"{prefix}/" if prefix else ""
        self._large = large or Staging(
            store, stage=lambda name: f"{self._base}uploads/{name}", target=target
        )
        self._lock = threading.Lock()
        self._pool: Executor | None = None

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        """Store *source*; see `cloudreg.provider.ObjectStore.put`."""
        name = self._name(key)
        began = time.time()
        if isinstance(source, bytes) and len(source) <= WHOLE:
            self._put_whole(source, key, name, if_absent=if_absent)
            return StoredObject(key=key, size=len(source), modified_at=began)
        pieces = _pieces(source)
        start: list[bytes] = []
        size = 0
        for piece in pieces:
            start.append(piece)
            size += len(piece)
            if size > WHOLE:
                break
        else:
            self._put_whole(b"".join(start), key, name, if_absent=if_absent)
            return StoredObject(key=key, size=size, modified_at=began)
        if if_absent and self._head(key, name) is not None:
            # Refused at the end as well, but that would be many bytes later.
            raise self._taken(key)
        counted = _Counted(chain(_emptied(start), pieces))
        try:
            self._large.put(counted, name, if_absent=if_absent, resume=resume)
        except AlreadyExists as error:
            raise self._taken(key) from error
        return StoredObject(key=key, size=counted.size, modified_at=began)

    def get(self, key: str, dest: Path) -> None:
        """Write the object to *dest*; see `cloudreg.provider.ObjectStore.get`."""
        save(self._source(key), dest, self._readers, target=self._target)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Return a reader; see `cloudreg.provider.ObjectStore.open`."""
        check_key(key)
        if offset < 0 or (length is not None and length < 0):
            raise InvalidRequest(f"range of {key!r}: offset and length must not be negative")
        source = self._source(key, offset=offset, length=length)
        return io.BufferedReader(Reader(in_order(source, self._readers)))

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        """Copy inside the store; see `cloudreg.provider.ObjectStore.copy`."""
        name, copy = self._name(key), self._name(to)
        head = self._head(key, name)
        if head is None:
            raise NotFound(f"object {key!r} is not there", target=self._target)
        size = int(head["size"])
        began = time.time()
        if name == copy and if_absent:
            raise self._taken(to)
        if name != copy:
            try:
                self._large.copy(name, copy, size=size, tag=head["e_tag"], if_absent=if_absent)
            except AlreadyExists as error:
                raise self._taken(to) from error
        return StoredObject(key=to, size=size, modified_at=began)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Yield objects in order; see `cloudreg.provider.ObjectStore.list`."""
        if not keys.begins_keys(prefix):
            return
        start = self._base + keys.start_of_names(prefix)
        # obstore lists by whole folders: what the prefix says beyond one is where to begin, and
        # where to stop. A store's answer is a page, so that a short one is never asked for twice.
        folder, _, rest = start.rpartition("/")
        offset = max(keys.before(start) if rest else "", self._base + keys.behind(after))
        listing = obstore.list(self._store, folder or None, offset=offset or None, chunk_size=_PAGE)
        behind = after.encode(errors="surrogatepass")
        while True:
            with translated(f"listing {prefix!r}", target=self._target):
                page = next(listing, None)
            if page is None:
                return
            for found in page:
                name = found["path"]
                if not name.startswith(start):
                    if name.encode() > start.encode():
                        return
                    continue
                key = keys.key_of(name[len(self._base) :])
                if key.startswith(prefix) and key.encode() > behind:
                    yield StoredObject(
                        key=key,
                        size=found["size"],
                        modified_at=found["last_modified"].timestamp(),
                    )

    def delete(self, key: str) -> None:
        """Remove the object; see `cloudreg.provider.ObjectStore.delete`."""
        name = self._name(key)
        try:
            with self._translated(key):
                obstore.delete(self._store, name)
        except NotFound:
            return

    def close(self) -> None:
        """Let go of the threads; readers that are open end with an error."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _put_whole(self, data: bytes, key: str, name: str, *, if_absent: bool) -> None:
        if not if_absent:
            with self._translated(key):
                obstore.put(self._store, name, data, use_multipart=False)
            return
        mark = uuid.uuid4().hex
        for _ in range(2):
            try:
                obstore.put(self._store, name, data, mode="create", attributes={MARK: mark})
            except exceptions.AlreadyExistsError as error:
                refused = error
            except Exception as error:
                raise failure(error, f"object {key!r}", target=self._target) from error
            else:
                return
            if was_first_answer(refused) and status_of(refused) == 412:
                raise self._taken(key) from refused
            # obstore asks again after a lost answer, and can then meet its own first attempt; and
            # S3 says 409 where two conditional requests met, whichever was first, or where the
            # object was just deleted. Only reading tells.
            found = self._mark(key, name)
            if found == mark:
                return
            if found is not None:
                raise self._taken(key) from refused
            # Nothing is there: the 409 means that the put may be sent once more.
        raise Unavailable(
            f"object {key!r} is written and deleted by others at this moment",
            target=self._target,
            hint="try again",
        )

    def _mark(self, key: str, name: str) -> str | None:
        """Return which put made the object; "" for another kind of put, None without object."""
        try:
            with self._translated(key):
                answer = obstore.get(self._store, name, options={"head": True})
        except NotFound:
            return None
        return str(answer.attributes.get(MARK, ""))

    def _head(self, key: str, name: str) -> Any | None:
        try:
            with self._translated(key):
                return obstore.head(self._store, name)
        except NotFound:
            return None

    def _source(self, key: str, *, offset: int = 0, length: int | None = None) -> Source:
        return Source(
            self._store,
            self._name(key),
            offset=offset,
            length=length,
            what=f"object {key!r}",
            target=self._target,
        )

    def _readers(self) -> Executor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="ranges")
            return self._pool

    def _name(self, key: str) -> str:
        return self._base + keys.name_of(check_key(key))

    def _taken(self, key: str) -> AlreadyExists:
        return AlreadyExists(f"object {key!r} is there already", target=self._target)

    def _translated(self, key: str) -> Any:
        return translated(f"object {key!r}", target=self._target)


class _Counted:
    """Pieces, and how many bytes they were."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self.size += len(piece)
        return piece


def _emptied(pieces: list[bytes]) -> Iterator[bytes]:
    """Yield *pieces* and hold none of them longer."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def _pieces(source: Path | bytes | Iterable[bytes]) -> Iterator[bytes]:
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as reader:
            while piece := reader.read(WHOLE):
                yield piece
    elif isinstance(source, bytes):
        for start in range(0, len(source), WHOLE):
            yield source[start : start + WHOLE]
    else:
        yield from source
