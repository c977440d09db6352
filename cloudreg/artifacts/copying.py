"""A version that is in a store: checked there, and copied to another one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloudreg.artifacts.blobs import find, has, put_blob, verified
from cloudreg.artifacts.chunks import (
    HELD,
    PARALLEL_FILES,
    RANGE,
    SMALL,
    UPLOADS_AT_ONCE,
    Budget,
    Seen,
    streams_for,
)
from cloudreg.artifacts.records import put_record, recorded
from cloudreg.errors import IntegrityError, Unavailable
from cloudreg.manifest import FileEntry
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore, StoredObject
from cloudreg.types import ModelVersion

ASKED = 32
"""Files of which a plan asks whether they are there; each is a request."""


def check(
    version: ModelVersion,
    store: ObjectStore,
    *,
    target: str | None = None,
    progress: Progress = SILENT,
    record: ObjectStore | None = None,
) -> None:
    """Read every byte of *version* in *store* and hash it again.

    Args:
        version: Which one.
        store: Where its files are.
        target: The store's target, for messages.
        progress: Where it is shown.
        record: Another store that has its manifest, where *store* is only about to get the
            version; what is wrong is removed then, so that whoever repeats the copy brings it.

    Raises:
        IntegrityError: A file is missing or has other bytes; the message names it.
    """
    manifest, _ = recorded(version, store if record is None else record, target)
    streams = streams_for(entry.size for entry in manifest.files)
    with progress.task(f"checking {version.ref}", total=manifest.size, unit="B") as task:

        def one(entry: FileEntry) -> None:
            seen = Seen(task, entry.size)
            try:
                for _ in verified(entry, store, version.ref, seen, target=target, streams=streams):
                    pass
            except IntegrityError:
                if record is not None:
                    store.delete(entry.key)
                raise

        with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="check") as pool:
            list(pool.map(one, manifest.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """What a store lacks of a version.

    Attributes:
        size: Bytes.
        files: How many files have them; of several with the same bytes, one counts.
        exact: Whether the store was asked for each of them.
    """

    size: int
    files: int
    exact: bool


def lacking(version: ModelVersion, dest: ObjectStore) -> Lacking:
    """Return what *dest* lacks of *version*; all of it, where to ask would take too long."""
    entries = list({entry.key: entry for entry in version.manifest.files}.values())
    exact = len(entries) <= ASKED
    if exact:
        with ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="lacking") as pool:
            there = list(pool.map(lambda entry: has(dest, entry), entries))
        entries = [entry for entry, is_there in zip(entries, there, strict=True) if not is_there]
    return Lacking(size=sum(entry.size for entry in entries), files=len(entries), exact=exact)


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
    with ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="copy") as pool:
        there = dict(
            zip(entries, pool.map(lambda entry: find(dest, entry.key), entries), strict=True)
        )
        missing = [entry for entry, found in there.items() if not _is_whole(entry, found)]
        streams = streams_for(entry.size for entry in missing)
        total = sum(entry.size for entry in missing)
        budget = Budget(HELD)
        with progress.task(f"copying {version.ref}", total=total, unit="B") as task:

            def send(entry: FileEntry, seen: Seen, *, absent: bool) -> bool:
                # What is asked for ahead, and what waits for its turn to be sent.
                held = RANGE * streams if entry.size > SMALL else entry.size
                with budget.taken(held):
                    chunks = verified(entry, source, version.ref, seen, streams=streams)
                    return put_blob(dest, entry, chunks, absent=absent)

            def one(entry: FileEntry) -> int:
                seen = Seen(task, entry.size)
                try:
                    was_sent = send(entry, seen, absent=there[entry] is None)
                except Unavailable:
                    # Of two that go on with one upload the store lets one finish it. A store that
                    # is out says so again.
                    was_sent = not has(dest, entry) and send(entry, seen, absent=False)
                seen.all()
                return entry.size if was_sent else 0

            copied = sum(pool.map(one, missing))
    # The recorded bytes, never encoded anew: they are what the digest names.
    put_record(record, version.digest, dest)
    return copied


def _is_whole(entry: FileEntry, found: StoredObject | None) -> bool:
    return found is not None and found.size == entry.size
