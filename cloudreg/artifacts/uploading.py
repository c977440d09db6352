"""From a folder into a store: what it lacks is sent, hashed in the pass that sends it."""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from cloudreg.artifacts.blobs import has, holds, put_blob
from cloudreg.artifacts.chunks import (
    HELD,
    PIECE,
    SMALL,
    UPLOADS_AT_ONCE,
    Budget,
    Seen,
    hashed,
    read,
)
from cloudreg.errors import AlreadyExists, CloudregError, NotFound, Unavailable
from cloudreg.importers import SourceFile
from cloudreg.manifest import FileEntry
from cloudreg.names import canonical_json
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What `upload` did.

    Attributes:
        files: All files, sorted by path.
        sent_bytes: Bytes that the store did not have.
        present_bytes: Bytes that it had already.
    """

    files: tuple[FileEntry, ...]
    sent_bytes: int
    present_bytes: int


def upload(
    files: Sequence[SourceFile], store: ObjectStore, *, progress: Progress = SILENT
) -> Uploaded:
    """Store what *store* lacks of *files*, hashing each in the pass that sends it.

    What stands under a digest with another size than it says is replaced: nobody could use it.
    After a kill the same files go on where they stopped, as far as the store kept what it had.

    Raises:
        IntegrityError: A file changed while it was read, or is gone.
        InvalidRequest: A file cannot be read.
    """
    sent: list[int] = []
    budget = Budget(HELD)
    total = sum(file.size for file in files)
    with progress.task("storing files", total=total, unit="B") as task:

        def one(file: SourceFile) -> FileEntry:
            seen = Seen(task, file.size)
            # One piece is hashed, one waits for that, and one is handed on.
            with budget.taken(min(file.size, 3 * PIECE)):
                try:
                    entry, was_sent = _upload_one(file, store, seen)
                except Unavailable:
                    # Of two that go on with one upload the store lets one finish it: by now it is
                    # there, or on its way. A store that is out says so again.
                    if file.size <= SMALL:
                        raise
                    entry, was_sent = _upload_one(file, store, seen)
            seen.all()
            if was_sent:
                sent.append(entry.size)
            return entry

        with ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload") as pool:
            entries = list(pool.map(one, files))
    entries.sort(key=lambda entry: entry.path)
    return Uploaded(files=tuple(entries), sent_bytes=sum(sent), present_bytes=total - sum(sent))


def _upload_one(file: SourceFile, store: ObjectStore, seen: Seen) -> tuple[FileEntry, bool]:
    if file.size <= SMALL:
        # One byte more than it should have, so that one read tells whether it grew.
        data = b"".join(read(file, chunk=file.size + 1))
        entry = _entry(file, hashlib.sha256(data))
        return entry, put_blob(store, entry, data)
    name = _name(file)
    waiting = f"uploads/{name}"
    if next(iter(store.list(f"blobs/{file.size}/")), None) is None:
        digest = hashlib.sha256()
        # Nobody overwrites what waits there: it has the bytes that its writer hashed.
        with suppress(AlreadyExists):
            store.put(
                hashed(read(file, seen, chunk=PIECE), digest), waiting, if_absent=True, resume=name
            )
            entry = _entry(file, digest)
            _settle(waiting, entry, store)
            return entry, True
    # Something of this very size, or this very file, is there already: look before sending.
    digest = hashlib.sha256()
    for chunk in read(file):
        digest.update(chunk)
    entry = _entry(file, digest)
    if has(store, entry):
        return entry, False
    if holds(store, waiting, entry):
        _settle(waiting, entry, store)
        return entry, True
    again = read(file, seen, chunk=PIECE)
    return entry, put_blob(store, entry, hashed(again, hashlib.sha256(), entry.sha256))


def _entry(file: SourceFile, digest: hashlib._Hash) -> FileEntry:
    return FileEntry(path=file.path, size=file.size, sha256=digest.hexdigest())


def _settle(waiting: str, entry: FileEntry, store: ObjectStore) -> None:
    """Give the object *waiting* its place among the blobs."""
    try:
        with suppress(AlreadyExists):
            store.copy(waiting, entry.key, if_absent=True)
    except NotFound:
        # Another process that registers the same file found it waiting, and was faster.
        if not has(store, entry):
            raise
    # What cannot be deleted now is swept later: the file itself went well.
    with suppress(CloudregError):
        store.delete(waiting)


def _name(file: SourceFile) -> str:
    """Return what a re-run on this machine calls the upload of this file, too.

    Device and inode are the file, whatever path leads to it. Size and times are its state: the
    time of the last change of anything about it (``ctime``) cannot be set, so that new bytes mean
    a new name even where somebody restores the time of writing. The name only helps to find what
    is left; what is left counts as far as it equals the file.
    """
    try:
        state = file.location.stat()
    except OSError:
        return uuid.uuid4().hex  # reading it will say what is wrong
    facts = [
        platform.node(),
        state.st_dev,
        state.st_ino,
        state.st_size,
        state.st_mtime_ns,
        state.st_ctime_ns,
    ]
    return hashlib.sha256(canonical_json(facts)).hexdigest()[:32]
