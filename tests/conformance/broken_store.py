"""Object stores that are broken in one way each."""

from __future__ import annotations

import posixpath
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from memory import (
    MemoryStore,
)
from mutants import PAUSE_S, noticed_by

from cloudreg.errors import (
    AlreadyExists,
    InvalidRequest,
    Unavailable,
)
from cloudreg.provider import StoredObject

Source = Path | bytes | Iterable[bytes]


@noticed_by("test_taken_key_is_refused", "test_taken_key_is_refused_to_every_source")
class IgnoresIfAbsent(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        return super().put(source, key)


@noticed_by("test_taken_key_is_refused")
class TakesEqualBytes(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        data = self.gather(source, key)
        if if_absent and key in self.objects and self.objects[key][0] == data:
            return self.shown(key)
        return super().put(data, key, if_absent=if_absent)


@noticed_by("test_one_writer_wins", "test_one_copy_wins")
class LooksThenLeaps(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        if if_absent and key in self.objects:
            raise AlreadyExists(key)
        time.sleep(PAUSE_S)
        return super().put(source, key)


@noticed_by("test_broken_source_leaves_nothing", "test_broken_source_keeps_the_old")
class PutsHalf(MemoryStore):
    def gather(self, source: Source, key: str) -> bytes:
        if isinstance(source, Path | bytes):
            return super().gather(source, key)
        data = b""
        try:
            for chunk in source:
                data += chunk
        except Exception:
            self.objects[key] = (data, time.time())
            raise
        return data


@noticed_by("test_broken_source_keeps_the_old")
class ClearsFirst(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        if not if_absent:
            self.objects.pop(key, None)
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_broken_source_leaves_nothing")
class HidesTheSourcesError(MemoryStore):
    def gather(self, source: Source, key: str) -> bytes:
        try:
            return super().gather(source, key)
        except Exception as error:
            raise Unavailable(key) from error


@noticed_by("test_key_is_free_after_a_broken_source")
class ReservesTheKey(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        reserved = self.world.__dict__.setdefault("reserved", set())
        if if_absent and key in reserved:
            raise AlreadyExists(key)
        reserved.add(key)
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_new_object_appears_whole")
class ShowsWhatGrows(MemoryStore):
    def gather(self, source: Source, key: str) -> bytes:
        if isinstance(source, Path | bytes):
            return super().gather(source, key)
        data = b""
        for chunk in source:
            data += chunk
            self.objects[key] = (data, time.time())
        return data


@noticed_by("test_readers_see_whole_objects")
class WritesInPlace(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        data = self.gather(source, key)
        self.objects[key] = (data[: len(data) // 2 + 1], time.time())
        time.sleep(PAUSE_S)
        return super().put(data, key, if_absent=False)


@noticed_by("test_put_overwrites", "test_copy_overwrites")
class NeverOverwrites(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        return super().put(source, key, if_absent=True)


@noticed_by("test_chunks_come_back")
class StopsAtAnEmptyChunk(MemoryStore):
    def gather(self, source: Source, key: str) -> bytes:
        if isinstance(source, Path | bytes):
            return super().gather(source, key)
        return b"".join(iter(iter(source).__next__, b""))


@noticed_by("test_large_object")
class MixesUpParts(MemoryStore):
    def gather(self, source: Source, key: str) -> bytes:
        data = super().gather(source, key)
        part = 5 * 1024 * 1024
        return data[part:] + data[:part]


@noticed_by("test_stored_file_is_a_copy")
class LinksTheFile(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        if isinstance(source, Path):
            self.world.__dict__.setdefault("links", {})[key] = source
        return super().put(source, key, if_absent=if_absent)

    def bytes_of(self, key: str) -> bytes:
        link = self.world.__dict__.get("links", {}).get(key)
        return link.read_bytes() if link else super().bytes_of(key)


@noticed_by("test_file_comes_back")
class MovesTheFile(MemoryStore):
    def gather(self, source: Source, key: str) -> bytes:
        data = super().gather(source, key)
        if isinstance(source, Path):
            source.unlink()
        return data


@noticed_by("test_bytes_come_back", "test_copy")
class ForgetsTheSize(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        return replace(super().put(source, key, if_absent=if_absent), size=0)


@noticed_by("test_list_shows_what_is_there")
class ListsNoSizes(MemoryStore):
    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        return (replace(shown, size=-1) for shown in super().list(prefix, after=after))


@noticed_by("test_modified_at")
class CountsMilliseconds(MemoryStore):
    def shown(self, key: str) -> StoredObject:
        found = super().shown(key)
        return replace(found, modified_at=found.modified_at * 1000)


@noticed_by("test_range", "test_reader_reads_in_steps")
class IgnoresLength(MemoryStore):
    def cut(self, data: bytes, offset: int, length: int | None) -> bytes:
        return data[offset:]


@noticed_by("test_range", "test_ranges_of_a_large_object")
class IncludesTheEnd(MemoryStore):
    def cut(self, data: bytes, offset: int, length: int | None) -> bytes:
        return super().cut(data, offset, None if length is None else length + 1)


@noticed_by("test_range_of_an_empty_object")
class RefusesUnsatisfiableRanges(MemoryStore):
    def cut(self, data: bytes, offset: int, length: int | None) -> bytes:
        if offset and offset >= len(data):
            raise InvalidRequest("416")
        return super().cut(data, offset, length)


@noticed_by("test_negative_range")
class CountsFromTheEnd(MemoryStore):
    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        return super().open(key, offset=max(offset, 0), length=length and max(length, 0))


@noticed_by("test_missing_object")
class OpensWhatIsNotThere(MemoryStore):
    def bytes_of(self, key: str) -> bytes:
        return self.objects.get(key, (b"", 0.0))[0]


@noticed_by("test_missing_object")
class MakesTheFileFirst(MemoryStore):
    def get(self, key: str, dest: Path) -> None:
        dest.touch(exist_ok=False)
        dest.write_bytes(self.bytes_of(key))


@noticed_by("test_existing_file_is_kept")
class OverwritesTheFile(MemoryStore):
    def get(self, key: str, dest: Path) -> None:
        dest.write_bytes(self.bytes_of(self.check(key)))


@noticed_by("test_copy")
class Moves(MemoryStore):
    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        stored = super().copy(key, to, if_absent=if_absent)
        self.delete(key)
        return stored


@noticed_by("test_copy_stands_alone")
class CopiesByName(MemoryStore):
    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        self.world.__dict__.setdefault("names", {})[to] = key
        return super().copy(key, to, if_absent=if_absent)

    def bytes_of(self, key: str) -> bytes:
        return super().bytes_of(self.world.__dict__.get("names", {}).get(key, key))


@noticed_by("test_copy_to_a_taken_key")
class CopiesOverAnything(MemoryStore):
    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        return super().copy(key, to)


@noticed_by("test_copy_of_nothing")
class CopiesNothing(MemoryStore):
    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        if key not in self.objects:
            return self.put(b"", to, if_absent=if_absent)
        return super().copy(key, to, if_absent=if_absent)


@noticed_by("test_delete")
class MissesTheDeleted(MemoryStore):
    def delete(self, key: str) -> None:
        self.bytes_of(key)
        super().delete(key)


@noticed_by("test_delete_leaves_the_others")
class DeletesTheFolder(MemoryStore):
    def delete(self, key: str) -> None:
        for other in [k for k in self.objects if k.startswith(f"{key}/")]:
            super().delete(other)
        super().delete(key)


@noticed_by("test_deleted_key_is_free")
class LeavesTombstones(MemoryStore):
    def delete(self, key: str) -> None:
        super().delete(key)
        self.world.__dict__.setdefault("dead", set()).add(key)

    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        if if_absent and key in self.world.__dict__.get("dead", ()):
            raise AlreadyExists(key)
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_list_is_in_order_of_bytes", "test_list_by_prefix", "test_long_list")
class ListsAsWritten(MemoryStore):
    def in_order(self, keys: list[str]) -> list[str]:
        return keys


@noticed_by("test_list_is_in_order_of_bytes")
class ListsFolderByFolder(MemoryStore):
    def in_order(self, keys: list[str]) -> list[str]:
        return sorted(keys, key=lambda key: key.split("/"))


@noticed_by("test_list_is_in_order_of_bytes")
class ListsInOrderOfUtf16(MemoryStore):
    def in_order(self, keys: list[str]) -> list[str]:
        return sorted(keys, key=lambda key: key.encode("utf-16-be"))


@noticed_by("test_list_by_prefix", "test_list_of_nothing", "test_prefix_of_no_key")
class IgnoresPrefix(MemoryStore):
    def wanted(self, key: str, prefix: str, after: str) -> bool:
        return super().wanted(key, "", after)


@noticed_by("test_list_by_prefix")
class TakesPrefixForAFolder(MemoryStore):
    def wanted(self, key: str, prefix: str, after: str) -> bool:
        folder = prefix if prefix.endswith("/") else f"{prefix}/"
        return super().wanted(key, folder, after)


@noticed_by("test_list_by_prefix")
class LeavesOutThePrefixItself(MemoryStore):
    def wanted(self, key: str, prefix: str, after: str) -> bool:
        return key != prefix and super().wanted(key, prefix, after)


@noticed_by("test_list_shows_what_is_there")
class DropsThePrefix(MemoryStore):
    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        for shown in super().list(prefix, after=after):
            yield replace(shown, key=shown.key.removeprefix(prefix))


@noticed_by("test_list_of_everything")
class RefusesTheEmptyPrefix(MemoryStore):
    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        return super().list(prefix, after=after) if prefix else iter(())


@noticed_by("test_prefix_of_no_key")
class RefusesAPrefixOfNoKey(MemoryStore):
    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        self.check(prefix.removesuffix("/"))
        return super().list(prefix, after=after)


@noticed_by("test_list_after")
class StartsAtAfter(MemoryStore):
    def wanted(self, key: str, prefix: str, after: str) -> bool:
        return key.startswith(prefix) and key.encode() >= after.encode()


@noticed_by("test_list_after", "test_list_after_a_key_outside")
class IgnoresAfter(MemoryStore):
    def wanted(self, key: str, prefix: str, after: str) -> bool:
        return super().wanted(key, prefix, "")


@noticed_by("test_long_list")
class ListsOnePage(MemoryStore):
    def in_order(self, keys: list[str]) -> list[str]:
        return super().in_order(keys)[:1000]


@noticed_by("test_list_while_objects_go")
class TripsOverTheDeleted(MemoryStore):
    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        found = [key for key in self.objects if self.wanted(key, prefix, after)]
        return (self.shown(key) for key in self.in_order(found))


@noticed_by("test_bad_key")
class TakesBackslashes(MemoryStore):
    def check(self, key: str) -> str:
        return super().check(key.replace("\\", "-"))


@noticed_by("test_bad_key", "test_bad_key_writes_nothing")
class Normalises(MemoryStore):
    def check(self, key: str) -> str:
        return super().check(posixpath.normpath(key).lstrip("./") if key else key)


@noticed_by("test_bad_key_writes_nothing")
class RefusesTooLate(MemoryStore):
    def put(self, source: Source, key: str, *, if_absent: bool = False) -> StoredObject:
        if ".." in key.split("/"):
            super().put(source, posixpath.normpath(key))
        return super().put(source, key, if_absent=if_absent)


@noticed_by("test_odd_keys_are_different")
class FoldsCase(MemoryStore):
    def check(self, key: str) -> str:
        return super().check(key.casefold())


@noticed_by("test_odd_key")
class Composes(MemoryStore):
    def check(self, key: str) -> str:
        return super().check(unicodedata.normalize("NFC", key))


@noticed_by("test_odd_key", "test_odd_keys_are_different")
class Unquotes(MemoryStore):
    def check(self, key: str) -> str:
        return super().check(unquote(key))


@noticed_by("test_longest_key")
class RefusesLongKeys(MemoryStore):
    def check(self, key: str) -> str:
        if len(key.encode()) > 1000:
            raise InvalidRequest(key)
        return super().check(key)
