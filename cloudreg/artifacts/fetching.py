"""From a store into a folder: everything that was registered, or nothing.

What is on its way stands out of sight, so that nobody takes half a version for a model::

    DEST/.cloudreg/unfinished/digest    which version this is going to be
    DEST/.cloudreg/unfinished/0, 1, …   the files of its manifest, in their order

A download that was killed or lost its connection goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cloudreg.artifacts.blobs import verified
from cloudreg.artifacts.chunks import CHUNK, PARALLEL_FILES, Seen, streams_for
from cloudreg.artifacts.records import recorded
from cloudreg.errors import CloudregError, Conflict, IntegrityError, InvalidRequest
from cloudreg.manifest import MANIFEST_FILE, FileEntry, Manifest
from cloudreg.names import short
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion

UNFINISHED = ".cloudreg/unfinished"
_DIGEST = "digest"


NOTHING: Mapping[str, bytes] = {}


def download(
    version: ModelVersion,
    store: ObjectStore,
    dest: Path,
    *,
    beside: Mapping[str, bytes] = NOTHING,
    progress: Progress = SILENT,
) -> Path:
    """Write the files of *version* and its manifest below *dest*, checking every byte.

    All files are there afterwards, or none. After a kill or a lost connection the same download
    goes on where it stopped.

    Args:
        version: Which one.
        store: Where its files are.
        dest: New, empty, or begun by the same download.
        beside: Path and content of what goes with the files, such as signatures.
        progress: Where it is shown.

    Raises:
        IntegrityError: A file is missing or has other bytes; the message names it.
        InvalidRequest: *dest* holds something already, or cannot be written.
        Conflict: Another process downloads into *dest* now.
    """
    manifest, record = recorded(version, store, None)
    with _writing(dest), _begun(dest, version, manifest, beside) as parts:
        streams = streams_for(entry.size for entry in manifest.files)
        with progress.task(f"fetching {version.ref}", total=manifest.size, unit="B") as task:

            def one(numbered: tuple[int, FileEntry]) -> None:
                number, entry = numbered
                seen = Seen(task, entry.size)
                if not _is_whole(dest / entry.path, entry):
                    part = parts / str(number)
                    _fetch(entry, store, part, ref=version.ref, seen=seen, streams=streams)
                seen.all()

            with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="fetch") as pool:
                list(pool.map(one, enumerate(manifest.files)))
        for number, entry in enumerate(manifest.files):
            part = parts / str(number)
            if part.exists():
                path = dest / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                part.replace(path)
        (dest / MANIFEST_FILE).write_bytes(record)
        for name, content in beside.items():
            (dest / name).parent.mkdir(parents=True, exist_ok=True)
            (dest / name).write_bytes(content)
        # The note goes last: until then the folder is known to be ours, and a re-run ends it.
        for left in parts.iterdir():
            if left.name != _DIGEST:
                left.unlink()
        (parts / _DIGEST).unlink()
        parts.rmdir()
    return dest


def _fetch(
    entry: FileEntry, store: ObjectStore, part: Path, *, ref: str, seen: Seen, streams: int
) -> None:
    """Write an object to *part*, of which the beginning may be there."""
    with part.open("a+b", buffering=0) as writer:
        writer.seek(0)
        digest, size = hashlib.sha256(), 0
        while chunk := writer.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
        if 0 < size <= entry.size:
            seen(size)
            rest = verified(entry, store, ref, seen, begun=digest, offset=size, streams=streams)
            # If the beginning is to blame, the whole is fetched and decides.
            with suppress(IntegrityError):
                for chunk in rest:
                    _write(writer, chunk)
                return
        writer.truncate(0)
        for chunk in verified(entry, store, ref, seen, streams=streams):
            _write(writer, chunk)


@contextmanager
def _writing(dest: Path) -> Iterator[None]:
    try:
        yield
    except CloudregError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        raise InvalidRequest(f"{dest} cannot be written: {error.strerror}") from error


@contextmanager
def _begun(
    dest: Path, version: ModelVersion, manifest: Manifest, beside: Iterable[str]
) -> Iterator[Path]:
    """Yield the folder for files on their way, which nobody else uses meanwhile."""
    parts = dest / UNFINISHED
    if not parts.is_dir() and dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise InvalidRequest(f"{dest} is not an empty folder")
    parts.mkdir(parents=True, exist_ok=True)
    with _alone(parts, dest):
        _check_ours(dest, version, manifest, beside)
        try:
            yield parts
        except (IntegrityError, OSError) as error:
            # Bytes that are wrong help no second attempt, and a full disk wants its room back. A
            # lost connection leaves what came, out of sight.
            if isinstance(error, IntegrityError) or not isinstance(error, CloudregError):
                _clear(dest)
            raise


@contextmanager
def _alone(parts: Path, dest: Path) -> Iterator[None]:
    """Hold the folder itself; the system lets go when the process dies."""
    busy = Conflict(f"another process downloads into {dest} now")
    handle = os.open(parts, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        try:
            if not parts.exists() or not os.path.samestat(os.fstat(handle), parts.stat()):
                raise busy  # it ended in this very moment, and took the folder with it
            yield
        finally:
            # By word, not only by closing: a process forked meanwhile has the descriptor, too.
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def _check_ours(
    dest: Path, version: ModelVersion, manifest: Manifest, beside: Iterable[str]
) -> None:
    """Refuse a folder with anything in it that this very download did not write."""
    note = dest / UNFINISHED / _DIGEST
    begun = note.read_text(encoding="utf-8") if note.exists() else ""
    ours = {dest / entry.path for entry in manifest.files} | {dest / MANIFEST_FILE}
    ours |= {dest / name for name in beside}
    inside = [path for path in dest.rglob("*") if path.is_symlink() or not path.is_dir()]
    outside = [path for path in inside if note.parent not in path.parents]
    if not (ours if begun else set()).issuperset(outside):
        raise InvalidRequest(f"{dest} is not an empty folder")
    if begun and begun != version.digest:
        raise InvalidRequest(
            f"{dest} holds an unfinished download of another version ({short(begun)}…)",
            hint="finish that one, or delete the folder",
        )
    # Renamed into its place: the note is there whole, before the first byte of a file.
    part = note.with_suffix(".part")
    part.write_text(version.digest, encoding="utf-8")
    part.replace(note)


def _is_whole(path: Path, entry: FileEntry) -> bool:
    """Whether an earlier attempt brought the file to its place, and it is still the one."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != entry.size:
        return False
    with path.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest() == entry.sha256


def _write(writer: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[writer.write(rest) :]


def _clear(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
