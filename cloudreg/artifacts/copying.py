"""A version that is in a store: checked there, and copied to another one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cloudreg.artifacts.blobs import has, put_blob, verified
from cloudreg.artifacts.chunks import PARALLEL_FILES, Seen, streams_for
from cloudreg.artifacts.records import put_record, recorded
from cloudreg.manifest import FileEntry
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion


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
    manifest, _ = recorded(version, store, target)
    streams = streams_for(entry.size for entry in manifest.files)
    with progress.task(f"checking {version.ref}", total=manifest.size, unit="B") as task:

        def one(entry: FileEntry) -> None:
            seen = Seen(task, entry.size)
            for _ in verified(entry, store, version.ref, seen, target=target, streams=streams):
                pass

        with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="check") as pool:
            list(pool.map(one, manifest.files))


def replicate(
    version: ModelVersion, source: ObjectStore, dest: ObjectStore, *, progress: Progress = SILENT
) -> int:
    """Copy what *dest* lacks of *version*, checking every byte, and return how many it lacked.

    After a kill the copy goes on where it stopped, as far as *dest* kept what it had.

    Raises:
        IntegrityError: The source has other bytes than were registered; *dest* stays without.
    """
    manifest, record = recorded(version, source, None)
    # Two files with the same bytes are one object.
    entries = list({entry.key: entry for entry in manifest.files}.values())
    with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="copy") as pool:
        there = list(pool.map(lambda entry: has(dest, entry), entries))
        missing = [entry for entry, is_there in zip(entries, there, strict=True) if not is_there]
        streams = streams_for(entry.size for entry in missing)
        total = sum(entry.size for entry in missing)
        with progress.task(f"copying {version.ref}", total=total, unit="B") as task:

            def one(entry: FileEntry) -> int:
                seen = Seen(task, entry.size)
                chunks = verified(entry, source, version.ref, seen, streams=streams)
                was_sent = put_blob(dest, entry, chunks)
                seen.all()
                return entry.size if was_sent else 0

            copied = sum(pool.map(one, missing))
    # The recorded bytes, never encoded anew: they are what the digest names.
    put_record(record, version.digest, dest)
    return copied
