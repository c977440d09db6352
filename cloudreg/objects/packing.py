"""The files of a version as one compressed object, for what reads no prefix.

Batch jobs and serverless endpoints of some clouds take a ``.tar.gz`` and nothing else. It is made
once for each version, in the pass that reads the store: a block at a time, whatever the size, and
the same bytes whoever makes it. Content is checked against the manifest on its way, and the model
server checks it again before it serves.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress

from cloudreg.errors import AlreadyExists, IntegrityError, NotFound
from cloudreg.manifest import MANIFEST_FILE, FileEntry
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion

BLOCK = 1024 * 1024
LEVEL = 1
"""Weights hardly get smaller, and the time is paid for each byte of them."""

GZIP = 31
"""zlib's number for a gzip frame; its header has no time in it."""


def archive_key(digest: str) -> str:
    """Return where the archive of a version stands in the store."""
    return f"archives/{digest.removeprefix('sha256:')}.tar.gz"


def pack(version: ModelVersion, store: ObjectStore, *, target: str) -> str:
    """Return the key of the archive of *version*, made where it is missing.

    Raises:
        NotFound: A file is not in the store.
        IntegrityError: A file has other bytes than were registered; nothing is stored.
    """
    key = archive_key(version.digest)
    if any(found.key == key for found in store.list(key)):
        return key
    with suppress(AlreadyExists):  # whoever was first made the same bytes
        store.put(_compressed(_blocks(version, store, target)), key, if_absent=True)
    return key


def _compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    for block in blocks:
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()


def _blocks(version: ModelVersion, store: ObjectStore, target: str) -> Iterator[bytes]:
    for entry in sorted(version.manifest.files, key=lambda entry: entry.path):
        yield _head(entry.path, entry.size)
        yield from _content(version, entry, store, target)
        yield _padding(entry.size)
    record = version.manifest.encode()
    yield _head(MANIFEST_FILE, len(record))
    yield record
    yield _padding(len(record)) + bytes(2 * tarfile.BLOCKSIZE)


def _content(
    version: ModelVersion, entry: FileEntry, store: ObjectStore, target: str
) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    try:
        reader = store.open(entry.key)
    except NotFound as error:
        raise NotFound(
            f"{version.ref}: {entry.key} is not in the store",
            target=target,
            hint=f"register the same files again: cloudreg register {version.model} DIR",
        ) from error
    with closing(reader):
        while block := reader.read(BLOCK):
            digest.update(block)
            size += len(block)
            yield block
    if (size, digest.hexdigest()) != (entry.size, entry.sha256):
        raise IntegrityError(
            f"{version.ref}: {entry.path} in the store is not what was registered "
            f"({size} bytes, {entry.size} were)",
            target=target,
        )


def _head(path: str, size: int) -> bytes:
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o444
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
