"""From a store into a folder: everything that was registered, or nothing.

What is on its way stands out of sight, so that nobody takes half a version for a model::

    DEST/.cloudreg/unfinished/digest    which version this is going to be
    DEST/.cloudreg/unfinished/0, 1, …   the files of its manifest, in their order

A download that was killed or lost its connection goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cloudreg.artifacts.blobs import verified
from cloudreg.artifacts.chunks import CHUNK, PARALLEL_FILES, Seen, streams_for
from cloudreg.artifacts.records import recorded
from cloudreg.errors import CloudregError, Conflict, IntegrityError, InvalidRequest
from cloudreg.manifest import MANIFEST_FILE, FileEntry, Manifest
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion

UNFINISHED = ".cloudreg/unfinished"
_DIGEST = "digest"


def download(
    version: ModelVersion, store: ObjectStore, dest: Path, *, progress: Progress = SILENT
) -> Path:
    """Write the files of *version* and its manifest below *dest*, checking every byte.

    All files are there afterwards, or none. After a kill or a lost connection the same download
    goes on where it stopped.

    Raises:
        IntegrityError: A file is missing or has other bytes; the message names it.
        InvalidRequest: *dest* holds something already, or cannot be written.
        Conflict: Another process downloads into *dest* now.
    """
    manifest, record = recorded(version, store, None)
    with _writing(dest), _begun(dest, version, manifest) as parts:
        streams = streams_for(entry.size for entry in manifest.files)
        with progress.task(f"fetching {version.ref}", total=manifest.size, unit="B") as task:

            def one(numbered: tuple[int, FileEntry]) -> None:
                number, entry = numbered
                seen = Seen(task, entry.size)
                if not _is_whole(dest / entry.path, entry):
                    _fetch(entry, store, parts / str(number), version.ref, seen, streams)
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
        # Last: until then it is known to be ours, and a re-run finishes it.
        shutil.rmtree(parts)
    return dest


def _fetch(
    entry: FileEntry, store: ObjectStore, part: Path, ref: str, seen: Seen, streams: int
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
            rest = verified(
                entry, store, ref, seen, begun=digest, offset=size, streams=streams
            )
            # If the beginning is to blame, the whole is fetched and decides.
            with suppress(IntegrityError):
                for chunk in rest:
                    _write(writer.fileno(), chunk)
                return
        writer.truncate(0)
        for chunk in verified(entry, store, ref, seen, streams=streams):
            _write(writer.fileno(), chunk)


@contextmanager
def _begun(dest: Path, version: ModelVersion, manifest: Manifest) -> Iterator[Path]:
    """Yield the folder for files on their way, which nobody else uses meanwhile."""
    parts = dest / UNFINISHED
    if not parts.is_dir():
        if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
            raise InvalidRequest(f"{dest} is not an empty folder")
