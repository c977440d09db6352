"""Content by its digest: looked for, stored once, read back with its digest in mind."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from cloudreg.artifacts.chunks import SMALL, Hashing, stored
from cloudreg.errors import AlreadyExists, IntegrityError, NotFound
from cloudreg.manifest import FileEntry
from cloudreg.provider import ObjectStore, StoredObject

ABANDONED_S = 24 * 3600.0
"""Age of an upload that nobody will finish any more."""


def find(store: ObjectStore, key: str) -> StoredObject | None:
    """Return the object of exactly that key, or None."""
    return next((found for found in store.list(key) if found.key == key), None)


def has(store: ObjectStore, entry: FileEntry) -> bool:
    """Whether the content is there, as far as its size tells."""
    there = find(store, entry.key)
    return there is not None and there.size == entry.size


def put_blob(
    store: ObjectStore,
    entry: FileEntry,
    content: bytes | Iterable[bytes],
    *,
    absent: bool = False,
) -> bool:
    """Store *content*, unless the store has it, and return whether it was sent.

    An iterable must refuse to end as anything but the bytes that *entry* names.

    Args:
        store: Where to.
        entry: What it is.
        content: Its bytes.
        absent: Whether the store was asked a moment ago, and had nothing there.
    """
    there = find(store, entry.key) if not absent else None
    if there is not None and there.size == entry.size:
        return False
    # The content's own name finds again what a killed process had sent of it. Small ones are
    # sent anew: what is left of them would have to be looked for.
    resume = entry.sha256 if entry.size > SMALL else None
    try:
        # An object of another size cannot be what its key says: replacing it loses nothing.
        store.put(content, entry.key, if_absent=there is None, resume=resume)
    except AlreadyExists:
        return False
    return True


def holds(store: ObjectStore, key: str, entry: FileEntry) -> bool:
    """Whether the object under *key* has the very bytes that *entry* names; they are all read."""
    there = find(store, key)
    if there is None or there.size != entry.size:
        return False
    digest = hashlib.sha256()
    try:
        for chunk in stored(store, key, size=entry.size):
            digest.update(chunk)
    except NotFound:
        return False
    return digest.hexdigest() == entry.sha256


def verified(
    entry: FileEntry,
    store: ObjectStore,
    ref: str,
    seen: Callable[[float], None],
    *,
    target: str | None = None,
    begun: hashlib._Hash | None = None,
    offset: int = 0,
    streams: int = 1,
) -> Iterator[bytes]:
    """Yield the content that *entry* names, and refuse to end as anything else.

    Args:
        entry: What is wanted.
        store: Where it is read.
        ref: The version, for messages.
        seen: Hears how many bytes came.
        target: The store's target, for messages.
        begun: The digest of the first *offset* bytes, which the caller has already.
        offset: Where to go on.
        streams: How many ranges are read at once.

    Raises:
        IntegrityError: It is missing or has other bytes; the message names the file.
    """
    digest = hashlib.sha256() if begun is None else begun
    size = offset
    try:
        with _hashing(digest, entry.size - offset) as hashing:
            for chunk in stored(store, entry.key, size=entry.size, offset=offset, streams=streams):
                hashing.update(chunk)
                size += len(chunk)
                seen(len(chunk))
                yield chunk
    except NotFound as error:
        raise IntegrityError(
            f"{ref}: {entry.path} is missing in the store",
            target=target,
            hint=f"register the same files again: cloudreg register {ref.partition(':')[0]} DIR",
        ) from error
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{ref}: {entry.path} in the store is not what was registered "
            f"({size} bytes, sha256 {digest.hexdigest()[:12]}…; "
            f"wanted {entry.size} bytes, {entry.sha256[:12]}…)",
            target=target,
            hint=f"delete {entry.key} from that store, then register or promote again",
        )


def _hashing(digest: hashlib._Hash, size: int) -> AbstractContextManager[Hashing | hashlib._Hash]:
    """Return where *size* bytes are hashed: a thread of its own is worth it for many."""
    return Hashing(digest) if size > SMALL else nullcontext(digest)


def sweep(store: ObjectStore, *, now: float | None = None) -> int:
    """Delete uploads that were abandoned more than a day ago, and return how many."""
    limit = (time.time() if now is None else now) - ABANDONED_S
    old = [found.key for found in store.list("uploads/") if found.modified_at < limit]
    for key in old:
        store.delete(key)
    return len(old)
