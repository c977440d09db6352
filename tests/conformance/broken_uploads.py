"""Object stores that take up a broken put in a way that is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from memory import MemoryStore
from mutants import PAUSE_S, noticed_by

from cloudreg.errors import Unavailable
from cloudreg.provider import StoredObject

Source = Path | bytes | Iterable[bytes]


def left(store: MemoryStore) -> dict[str, bytes]:
    """What broken puts left, by the name of the upload."""
    found: dict[str, bytes] = store.world.__dict__.setdefault("left", {})
    return found


def gathered(store: MemoryStore, source: Source, name: str) -> bytes:
    """Read a source; what it gave before it broke is left."""
    if isinstance(source, Path | bytes):
        return MemoryStore.gather(store, source, name)
    data = b""
    try:
        for chunk in source:
            data += chunk
    except Exception:
        left(store)[name] = data
        raise
    return data


@noticed_by("test_broken_upload_is_repeated_with_other_bytes")
class BelievesWhatIsLeft(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        if resume is not None:
            kept = left(self).pop(resume, b"")
            source = kept + gathered(self, source, resume)[len(kept) :]
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_broken_upload_is_repeated", "test_every_source_can_go_on")
class AppendsToWhatIsLeft(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        if resume is not None:
            source = left(self).pop(resume, b"") + gathered(self, source, resume)
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_broken_upload_is_repeated_with_other_bytes")
class KeepsTheLongerEnd(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        if resume is not None:
            kept = left(self).pop(resume, b"")
            data = gathered(self, source, resume)
            source = data + kept[len(data) :]
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_upload_that_is_done_leaves_nothing")
class NeverBeginsAnew(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        if resume is not None:
            kept = left(self).get(resume, b"")
            source = kept + gathered(self, source, resume)[len(kept) :]
            left(self)[resume] = source
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_broken_upload_is_not_seen")
class ShowsWhatIsLeft(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        if resume is not None:
            try:
                source = gathered(self, source, resume)
            except Exception:
                super().put(left(self).pop(resume), key)
                raise
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_upload_to_a_taken_key", "test_one_upload_of_a_name_wins")
class GoesOnOverAnything(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        return super().put(source, key, if_absent=if_absent and resume is None)


@noticed_by("test_any_text_names_an_upload")
class TakesNamesForKeys(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        if resume is not None:
            self.check(resume)
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_uploads_of_one_name_at_once")
class RefusesTheSecond(MemoryStore):
    def put(
        self, source: Source, key: str, *, if_absent: bool = False, resume: str | None = None
    ) -> StoredObject:
        busy: set[str | None] = self.world.__dict__.setdefault("busy", set())
        if resume in busy:
            raise Unavailable("somebody else sends that")
        busy.add(resume)
        try:
            time.sleep(PAUSE_S)
            return super().put(source, key, if_absent=if_absent)
        finally:
            busy.discard(resume)
