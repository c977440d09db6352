"""Bytes: hashed in the pass that moves them, stored once, checked whenever they are used.

Keys in a target's object store::

    blobs/<size>/<sha256>       content; identical bytes have one key
    manifests/<sha256>          canonical JSON of a version's manifest
    uploads/<uuid>              a file on its way, before its digest is known; gone afterwards
"""

from __future__ import annotations

import hashlib
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    IntegrityError,
    InvalidRequest,
    NotFound,
)
from cloudreg.importers import SourceFile
from cloudreg.manifest import MANIFEST_FILE, FileEntry, Manifest
from cloudreg.names import sha256
from cloudreg.operations import SILENT, Progress, Task
from cloudreg.provider import ObjectStore, StoredObject
from cloudreg.types import ModelVersion

CHUNK = 4 * 1024 * 1024
"""Bytes held at a time for each file that is being moved."""

SMALL = 1024 * 1024
"""Files up to this size are hashed before they are sent: they fit in one chunk."""

PARALLEL_FILES = 8
ABANDONED_S = 24 * 3600.0
"""Age of an upload that nobody will finish any more."""


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


class _Seen:
    """Passes progress on and counts it: an object that is there already moves no bytes."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.total = 0.0

    def __call__(self, amount: float) -> None:
        self.total += amount
        self._task.advance(amount)


def upload(
    files: Sequence[SourceFile], store: ObjectStore, *, progress: Progress = SILENT
) -> Uploaded:
    """Store what *store* lacks of *files*, hashing each in the pass that sends it.

    What stands under a digest with another size than it says is replaced: nobody could use it.

    Raises:
        IntegrityError: A file changed while it was read, or is gone.
        InvalidRequest: A file cannot be read.
    """
    sent: list[int] = []
    total = sum(file.size for file in files)
    with progress.task("storing files", total=total, unit="B") as task:

        def one(file: SourceFile) -> FileEntry:
            entry, was_sent = _upload_one(file, store, task)
            if was_sent:
                sent.append(entry.size)
            return entry

        with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="upload") as pool:
            entries = list(pool.map(one, files))
    entries.sort(key=lambda entry: entry.path)
    return Uploaded(files=tuple(entries), sent_bytes=sum(sent), present_bytes=total - sum(sent))


def _upload_one(file: SourceFile, store: ObjectStore, task: Task) -> tuple[FileEntry, bool]:
    def entry_of(digest: str) -> FileEntry:
        return FileEntry(path=file.path, size=file.size, sha256=digest)

    if file.size <= SMALL or _any(store, f"blobs/{file.size}/"):
        # Something of this very size is there already: look before sending.
        digest = hashlib.sha256()
        for chunk in _read(file, lambda _: None):
            digest.update(chunk)
        entry = entry_of(digest.hexdigest())
        seen = _Seen(task)
        chunks = _hashed(_read(file, seen), hashlib.sha256(), entry.sha256)
        was_sent = _put_blob(store, entry, chunks)
        task.advance(file.size - seen.total)
        return entry, was_sent
    digest = hashlib.sha256()
    waiting = f"uploads/{uuid.uuid4().hex}"
    try:
        store.put(_hashed(_read(file, task.advance), digest), waiting)
        entry = entry_of(digest.hexdigest())
        with suppress(AlreadyExists):
            store.copy(waiting, entry.key, if_absent=True)
    finally:
        # What cannot be deleted now is swept later; the file itself went well, or has its error.
        with suppress(CloudregError):
            store.delete(waiting)
    return entry, True


def _put_blob(store: ObjectStore, entry: FileEntry, chunks: Iterable[bytes]) -> bool:
    """Store *chunks*, unless the store has them, and return whether they were sent.

    *chunks* must refuse to end as anything but the bytes that *entry* names.
    """
    there = _find(store, entry.key)
    if there is not None and there.size == entry.size:
        return False
    try:
        # An object of another size cannot be what its key says: replacing it loses nothing.
        store.put(chunks, entry.key, if_absent=there is None)
    except AlreadyExists:
        return False
    return True


def _hashed(
    chunks: Iterable[bytes], digest: hashlib._Hash, expected: str | None = None
) -> Iterator[bytes]:
    """Yield *chunks* and hash them, one ahead of whoever writes them."""
    yield from _ahead(chunks, digest.update)
    if expected is not None and digest.hexdigest() != expected:
        # Raised inside the store's put, so that nothing is stored under the wrong digest.
        raise IntegrityError("a file changed while it was registered: nothing was recorded")


def _ahead(chunks: Iterable[bytes], work: Callable[[bytes], None]) -> Iterator[bytes]:
    """Do *work* on each chunk in another thread, while the caller handles the one before.

    Reading and hashing release the interpreter lock, so that they hide behind the writing.
    """
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=2)
    stop = threading.Event()

    def offer(item: bytes | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def produce() -> None:
        try:
            for chunk in chunks:
                if stop.is_set():
                    return
                work(chunk)
                offer(chunk)
            offer(None)
        except BaseException as error:  # handed to the consumer, which raises it
            offer(error)

    thread = threading.Thread(target=produce, name="hash", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _read(file: SourceFile, seen: Callable[[float], None]) -> Iterator[bytes]:
    """Yield the content of a file that must not change meanwhile."""
    changed = IntegrityError(f"{file.path} changed while it was registered: nothing was recorded")
    size = 0
    try:
        with file.location.open("rb", buffering=0) as reader:
            while chunk := reader.read(CHUNK):
                size += len(chunk)
                if size > file.size:
                    raise changed
                seen(len(chunk))
                yield chunk
            state = file.location.stat()
    except FileNotFoundError as error:
        raise changed from error
    except OSError as error:
        raise InvalidRequest(f"{file.path} cannot be read: {error.strerror}") from error
    if size != file.size or state.st_mtime_ns != file.mtime_ns:
        raise changed


def put_manifest(manifest: Manifest, store: ObjectStore) -> str:
    """Store the manifest and return its digest."""
    data = manifest.encode()
    digest = sha256(data)
    _put_record(data, digest, store)
    return digest


def _put_record(data: bytes, digest: str, store: ObjectStore) -> None:
    try:
        store.put(data, manifest_key(digest), if_absent=True)
    except AlreadyExists:
        # Only these bytes can stand here; if others do, nobody can read the version any more.
        if _manifest_bytes(digest, store) != data:
            store.put(data, manifest_key(digest))


def read_manifest(digest: str, store: ObjectStore) -> Manifest:
    """Return the manifest that *digest* names.

    Raises:
        NotFound: The store does not have it.
        IntegrityError: Its bytes are others.
    """
    return Manifest.decode(_manifest_bytes(digest, store), digest=digest)


def _manifest_bytes(digest: str, store: ObjectStore) -> bytes:
    with store.open(manifest_key(digest)) as reader:
        return reader.read()


def _recorded(
    version: ModelVersion, store: ObjectStore, target: str | None
) -> tuple[Manifest, bytes]:
    """Return a version's manifest as the store has it, and its bytes."""
    try:
        record = _manifest_bytes(version.digest, store)
        return Manifest.decode(record, digest=version.digest), record
    except NotFound as error:
        raise IntegrityError(
            f"{version.ref}: its manifest is missing in the store", target=target
        ) from error
    except IntegrityError as error:
        raise IntegrityError(f"{version.ref}: {error.message}", target=target) from error


def manifest_key(digest: str) -> str:
    """Return where the manifest with *digest* stands."""
    return f"manifests/{digest.removeprefix('sha256:')}"


def check(
    version: ModelVersion,
    store: ObjectStore,
    *,
    target: str | None = None,
    progress: Progress = SILENT,
) -> None:
    """Read every byte of *version* in *store* and hash it again.

    Raises:
        IntegrityError: A file is missing or has other bytes; the message names it.
    """
    manifest, _ = _recorded(version, store, target)
    with progress.task(f"checking {version.ref}", total=manifest.size, unit="B") as task:

        def one(entry: FileEntry) -> None:
            for _ in _verified(entry, store, version.ref, target, task.advance):
                pass

        with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="check") as pool:
            list(pool.map(one, manifest.files))


def download(
    version: ModelVersion, store: ObjectStore, dest: Path, *, progress: Progress = SILENT
) -> Path:
    """Write the files of *version* and its manifest below *dest*, checking every byte.

    All files are there afterwards, or none.

    Raises:
        IntegrityError: A file is missing or has other bytes; the message names it.
        InvalidRequest: *dest* holds something already, or cannot be written.
    """
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise InvalidRequest(f"{dest} is not an empty folder")
    manifest, record = _recorded(version, store, None)
    try:
        with progress.task(f"fetching {version.ref}", total=manifest.size, unit="B") as task:

            def one(entry: FileEntry) -> None:
                path = dest / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as writer:
                    for chunk in _verified(entry, store, version.ref, None, task.advance):
                        writer.write(chunk)

            with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="fetch") as pool:
                list(pool.map(one, manifest.files))
        path = dest / MANIFEST_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record)
    except BaseException as error:
        # Bytes that nobody could check must not be taken for a model.
        _clear(dest)
        if isinstance(error, OSError) and not isinstance(error, CloudregError):
            raise InvalidRequest(f"{dest} cannot be written: {error.strerror}") from error
        raise
    return dest


def _clear(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _verified(
    entry: FileEntry,
    store: ObjectStore,
    ref: str,
    target: str | None,
    seen: Callable[[float], None],
) -> Iterator[bytes]:
    try:
        reader = store.open(entry.key)
    except NotFound as error:
        raise IntegrityError(
            f"{ref}: {entry.path} is missing in the store",
            target=target,
            hint=f"register the same files again: cloudreg register {ref.partition(':')[0]} DIR",
        ) from error
    digest = hashlib.sha256()
    size = 0
    with reader:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            seen(len(chunk))
            yield chunk
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{ref}: {entry.path} in the store is not what was registered "
            f"({size} bytes, sha256 {digest.hexdigest()[:12]}…; "
            f"wanted {entry.size} bytes, {entry.sha256[:12]}…)",
            target=target,
            hint=f"delete {entry.key} from that store, then register or promote again",
        )


def replicate(
    version: ModelVersion, source: ObjectStore, dest: ObjectStore, *, progress: Progress = SILENT
) -> int:
    """Copy what *dest* lacks of *version*, hash it on the way, and return the bytes copied.

    Raises:
        IntegrityError: The source has other bytes than were registered; *dest* stays without.
    """
    manifest, record = _recorded(version, source, None)
    # Two files with the same bytes are one object.
    entries = list({entry.key: entry for entry in manifest.files}.values())

    def lacks(entry: FileEntry) -> bool:
        there = _find(dest, entry.key)
        return there is None or there.size != entry.size

    with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="copy") as pool:
        missing = [
            e for e, lacking in zip(entries, pool.map(lacks, entries), strict=True) if lacking
        ]
        total = sum(entry.size for entry in missing)
        with progress.task(f"copying {version.ref}", total=total, unit="B") as task:

            def one(entry: FileEntry) -> int:
                seen = _Seen(task)
                chunks = _verified(entry, source, version.ref, None, seen)
                was_sent = _put_blob(dest, entry, chunks)
                task.advance(entry.size - seen.total)
                return entry.size if was_sent else 0

            copied = sum(pool.map(one, missing))
    # The recorded bytes, never encoded anew: they are what the digest names.
    _put_record(record, version.digest, dest)
    return copied


def sweep(store: ObjectStore, *, now: float | None = None) -> int:
    """Delete uploads that were abandoned more than a day ago, and return how many."""
    limit = (time.time() if now is None else now) - ABANDONED_S
    old = [stored.key for stored in store.list("uploads/") if stored.modified_at < limit]
    for key in old:
        store.delete(key)
    return len(old)


def is_present(version: ModelVersion, store: ObjectStore) -> bool:
    """Whether a store was given the version: the manifest is written last."""
    return _exists(store, manifest_key(version.digest))


def _any(store: ObjectStore, prefix: str) -> bool:
    return next(iter(store.list(prefix)), None) is not None


def _exists(store: ObjectStore, key: str) -> bool:
    return _find(store, key) is not None


def _find(store: ObjectStore, key: str) -> StoredObject | None:
    return next((stored for stored in store.list(key) if stored.key == key), None)
