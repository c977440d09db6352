"""What every object store must do, as tests."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from cloudreg.errors import AlreadyExists, InvalidRequest, NotFound
from cloudreg.provider import ObjectStore, StoredObject
from cloudreg.testing.base import at_once
from cloudreg.testing.keys import KeyTests
from cloudreg.testing.listing import ListingTests
from cloudreg.testing.objects import contend, keys, read
from cloudreg.testing.uploads import MIB, SourceBroke, UploadTests, broken

RANGES = [
    (0, None), (0, 4), (3, None), (3, 4), (0, 0), (3, 0), (9, 1), (8, 100), (10, None), (10, 5),
    (11, None), (5000, 5),
]  # fmt: skip


class StoreTests(UploadTests, ListingTests, KeyTests):
    """Bytes by key.

    Attributes:
        clock_skew_s: How far the store's clock may be from this machine's.
    """

    clock_skew_s: ClassVar[float] = 300.0

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 40], ids=len)
    def test_bytes_come_back(self, store: ObjectStore, at: str, data: bytes) -> None:
        """What is put as bytes comes back byte for byte, and put says its key and size."""
        stored = store.put(data, f"{at}a")

        assert (stored.key, stored.size) == (f"{at}a", len(data))
        assert read(store, f"{at}a") == data

    def test_file_comes_back(self, store: ObjectStore, at: str, tmp_path: Path) -> None:
        """What is put as a path comes back byte for byte, and the file stays."""
        source = tmp_path / "source"
        source.write_bytes(b"weights\r\n\0")
        stored = store.put(source, f"{at}a")
        store.get(f"{at}a", tmp_path / "dest")

        assert stored.size == 10
        assert (tmp_path / "dest").read_bytes() == source.read_bytes() == b"weights\r\n\0"

    def test_stored_file_is_a_copy(self, store: ObjectStore, at: str, tmp_path: Path) -> None:
        """A file that changes after the put does not change the object."""
        source = tmp_path / "source"
        source.write_bytes(b"before")
        store.put(source, f"{at}a")
        with source.open("r+b") as writer:
            writer.write(b"AFTER!")

        assert read(store, f"{at}a") == b"before"

    @pytest.mark.parametrize("chunks", [[], [b""], [b"ab", b"", b"c"]], ids=repr)
    def test_chunks_come_back(self, store: ObjectStore, at: str, chunks: list[bytes]) -> None:
        """What is put as an iterable comes back in one piece, empty chunks included."""
        stored = store.put(iter(chunks), f"{at}a")

        assert stored.size == len(b"".join(chunks))
        assert read(store, f"{at}a") == b"".join(chunks)

    def test_large_object(self, store: ObjectStore, at: str, tmp_path: Path) -> None:
        """Chunks of odd sizes, more than one part of an upload holds, come back in order."""
        wanted, size = hashlib.sha256(), 0

        def chunks() -> Iterator[bytes]:
            nonlocal size
            for number in range(14):
                chunk = number.to_bytes(2, "big") * (number * 60_000 + 7)
                wanted.update(chunk)
                size += len(chunk)
                yield chunk

        stored = store.put(chunks(), f"{at}large")
        store.get(f"{at}large", tmp_path / "large")
        found = (tmp_path / "large").read_bytes()

        assert stored.size == len(found) == size > 9 * MIB
        assert hashlib.sha256(found).hexdigest() == wanted.hexdigest()

    @pytest.mark.parametrize("sent", [0, 1, 9 * MIB])
    def test_broken_source_leaves_nothing(self, store: ObjectStore, at: str, sent: int) -> None:
        """An iterable that raises leaves nothing, however much it gave, and its error passes."""
        with pytest.raises(SourceBroke):
            store.put(broken(sent), f"{at}a")

        assert keys(store, at) == []
        with pytest.raises(NotFound):
            store.open(f"{at}a")

    @pytest.mark.parametrize("sent", [0, 1, 9 * MIB])
    def test_broken_source_keeps_the_old(self, store: ObjectStore, at: str, sent: int) -> None:
        """An iterable that raises leaves the object that was there before."""
        store.put(b"old", f"{at}a")
        with pytest.raises(SourceBroke):
            store.put(broken(sent), f"{at}a")

        assert read(store, f"{at}a") == b"old"

    def test_key_is_free_after_a_broken_source(self, store: ObjectStore, at: str) -> None:
        """A put that broke does not take the key from the next writer."""
        with pytest.raises(SourceBroke):
            store.put(broken(1), f"{at}a", if_absent=True)
        store.put(b"next", f"{at}a", if_absent=True)

        assert read(store, f"{at}a") == b"next"

    def test_put_overwrites(self, store: ObjectStore, at: str) -> None:
        """Without if_absent a later put replaces the object, shorter or longer."""
        for data in (b"first", b"2nd", b"the third"):
            assert store.put(data, f"{at}a").size == len(data)
            assert read(store, f"{at}a") == data

        assert keys(store, at) == [f"{at}a"]

    @pytest.mark.parametrize("data", [b"first", b"other", b""], ids=["equal", "other", "empty"])
    def test_taken_key_is_refused(self, store: ObjectStore, at: str, data: bytes) -> None:
        """With if_absent a taken key is `AlreadyExists`, even for equal bytes, and stays."""
        store.put(b"first", f"{at}a", if_absent=True)
        with pytest.raises(AlreadyExists):
            store.put(data, f"{at}a", if_absent=True)

        assert read(store, f"{at}a") == b"first"

    @pytest.mark.parametrize("kind", ["path", "iterable"])
    def test_taken_key_is_refused_to_every_source(
        self, store: ObjectStore, at: str, tmp_path: Path, kind: str
    ) -> None:
        """With if_absent a taken key is `AlreadyExists` for files and iterables too."""
        (tmp_path / "other").write_bytes(b"other")
        store.put(b"", f"{at}a")
        with pytest.raises(AlreadyExists):
            store.put(
                tmp_path / "other" if kind == "path" else iter([b"other"]),
                f"{at}a",
                if_absent=True,
            )

        assert read(store, f"{at}a") == b""

    @pytest.mark.parametrize("kind", ["bytes", "iterable"])
    def test_one_writer_wins(self, store: ObjectStore, at: str, kind: str) -> None:
        """Of many writers with if_absent exactly one wins, and its bytes are the object."""
        for key in (f"{at}{number}" for number in range(4)):

            def act(number: int, key: str = key) -> StoredObject:
                data = [b"%03d" % number, b"!" * 1000]
                source = b"".join(data) if kind == "bytes" else iter(data)
                return store.put(source, key, if_absent=True)

            outcomes = contend(act, self.threads)
            winners = [n for n, found in enumerate(outcomes) if isinstance(found, StoredObject)]

            assert len(winners) == 1, outcomes
            assert len([o for o in outcomes if isinstance(o, AlreadyExists)]) == self.threads - 1
            assert read(store, key) == b"%03d" % winners[0] + b"!" * 1000

    @pytest.mark.parametrize(("offset", "length"), RANGES)
    def test_range(self, store: ObjectStore, at: str, offset: int, length: int | None) -> None:
        """A range holds what a slice would: fewer bytes at the end, none behind it."""
        store.put(b"0123456789", f"{at}a")
        end = None if length is None else offset + length

        assert read(store, f"{at}a", offset=offset, length=length) == b"0123456789"[offset:end]

    def test_range_of_an_empty_object(self, store: ObjectStore, at: str) -> None:
        """Every range of an empty object is empty."""
        store.put(b"", f"{at}a")

        assert read(store, f"{at}a", offset=0, length=10) == b""
        assert read(store, f"{at}a", offset=3) == b""

    def test_ranges_of_a_large_object(self, store: ObjectStore, at: str) -> None:
        """Ranges that lie side by side make up the object."""
        data = bytes(range(251)) * 30_000
        store.put(data, f"{at}a")
        step = 3 * MIB + 1
        parts = [
            read(store, f"{at}a", offset=offset, length=step)
            for offset in range(0, len(data), step)
        ]

        assert [len(part) for part in parts[:-1]] == [step] * (len(parts) - 1)
        assert b"".join(parts) == data

    @pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1), (-3, 2)])
    def test_negative_range(
        self, store: ObjectStore, at: str, offset: int, length: int | None
    ) -> None:
        """A negative offset or length is refused, not read from the end."""
        store.put(b"0123456789", f"{at}a")
        with pytest.raises(InvalidRequest):
            store.open(f"{at}a", offset=offset, length=length)

    def test_reader_reads_in_steps(self, store: ObjectStore, at: str) -> None:
        """A reader goes on where the last read ended, and stays at the end."""
        store.put(b"0123456789", f"{at}a")
        with closing(store.open(f"{at}a", offset=2, length=7)) as reader:
            assert [reader.read(n) for n in (3, 3, 3, 3)] == [b"234", b"567", b"8", b""]

    def test_missing_object(self, store: ObjectStore, at: str, tmp_path: Path) -> None:
        """A missing key is `NotFound` before any byte is read, and get makes no file."""
        store.put(b"x", f"{at}a/b")
        for key in (f"{at}missing", f"{at}a", f"{at}a/b/c"):
            with pytest.raises(NotFound):
                store.open(key)
            with pytest.raises(NotFound):
                store.get(key, tmp_path / "dest")

        assert list(tmp_path.iterdir()) == []

    def test_existing_file_is_kept(self, store: ObjectStore, at: str, tmp_path: Path) -> None:
        """Get refuses a file that exists and leaves it alone."""
        dest = tmp_path / "dest"
        dest.write_bytes(b"mine")
        store.put(b"theirs", f"{at}a")
        with pytest.raises(AlreadyExists):
            store.get(f"{at}a", dest)

        assert dest.read_bytes() == b"mine"
        assert list(tmp_path.iterdir()) == [dest]

    def test_copy(self, store: ObjectStore, at: str) -> None:
        """A copy has the bytes of its source, which stays."""
        store.put(b"weights", f"{at}a")
        stored = store.copy(f"{at}a", f"{at}b/c")

        assert (stored.key, stored.size) == (f"{at}b/c", 7)
        assert read(store, f"{at}a") == read(store, f"{at}b/c") == b"weights"
        assert keys(store, at) == [f"{at}a", f"{at}b/c"]

    def test_copy_stands_alone(self, store: ObjectStore, at: str) -> None:
        """A copy does not change when its source is overwritten or deleted."""
        store.put(b"weights", f"{at}a")
        store.copy(f"{at}a", f"{at}b")
        store.put(b"others!", f"{at}a")
        assert read(store, f"{at}b") == b"weights"

        store.delete(f"{at}a")
        assert read(store, f"{at}b") == b"weights"

    def test_copy_overwrites(self, store: ObjectStore, at: str) -> None:
        """Without if_absent a copy replaces what is there."""
        store.put(b"new", f"{at}a")
        store.put(b"the old", f"{at}b")
        store.copy(f"{at}a", f"{at}b")

        assert read(store, f"{at}b") == b"new"

    def test_copy_to_a_taken_key(self, store: ObjectStore, at: str) -> None:
        """With if_absent a copy to a taken key is `AlreadyExists`, even for equal bytes."""
        for key, data in (("a", b"new"), ("b", b"old"), ("c", b"new")):
            store.put(data, at + key)
        for key in ("b", "c"):
            with pytest.raises(AlreadyExists):
                store.copy(f"{at}a", at + key, if_absent=True)
        store.copy(f"{at}a", f"{at}d", if_absent=True)

        assert [read(store, at + key) for key in "abcd"] == [b"new", b"old", b"new", b"new"]

    def test_copy_of_nothing(self, store: ObjectStore, at: str) -> None:
        """A copy of a missing key is `NotFound`, and makes and changes nothing."""
        store.put(b"old", f"{at}b")
        for to in ("b", "c"):
            with pytest.raises(NotFound):
                store.copy(f"{at}missing", at + to)

        assert keys(store, at) == [f"{at}b"]
        assert read(store, f"{at}b") == b"old"

    def test_one_copy_wins(self, store: ObjectStore, at: str) -> None:
        """Of many copies with if_absent to one key exactly one wins."""
        for number in range(self.threads):
            store.put(b"%03d" % number, f"{at}from/{number}")
        outcomes = contend(
            lambda number: store.copy(f"{at}from/{number}", f"{at}to", if_absent=True),
            self.threads,
        )
        winners = [n for n, found in enumerate(outcomes) if isinstance(found, StoredObject)]

        assert len(winners) == 1, outcomes
        assert len([o for o in outcomes if isinstance(o, AlreadyExists)]) == self.threads - 1
        assert read(store, f"{at}to") == b"%03d" % winners[0]

    def test_modified_at(self, store: ObjectStore, at: str) -> None:
        """The time of an object is that of its last put, in seconds since 1970."""
        before = time.time() - self.clock_skew_s
        first = store.put(b"1", f"{at}a")
        second = store.put(b"2", f"{at}a")

        assert before <= first.modified_at <= second.modified_at
        assert second.modified_at <= time.time() + self.clock_skew_s

    def test_delete(self, store: ObjectStore, at: str) -> None:
        """What is deleted is gone; to delete it again, or what never was, is fine."""
        store.put(b"x", f"{at}a")
        store.delete(f"{at}a")
        store.delete(f"{at}a")
        store.delete(f"{at}never/was")

        assert keys(store, at) == []
        with pytest.raises(NotFound):
            store.open(f"{at}a")

    def test_delete_leaves_the_others(self, store: ObjectStore, at: str) -> None:
        """Only the object of exactly that key goes."""
        names = ["a", "a/b", "a/b/c", "ab", "A"]
        for name in names:
            store.put(name.encode(), at + name)
        store.delete(f"{at}a/b")
        names.remove("a/b")

        assert keys(store, at) == sorted(at + name for name in names)
        assert [read(store, at + name) for name in names] == [name.encode() for name in names]

    def test_deleted_key_is_free(self, store: ObjectStore, at: str) -> None:
        """A deleted key can be taken again with if_absent."""
        store.put(b"old", f"{at}a", if_absent=True)
        store.delete(f"{at}a")
        store.put(b"new", f"{at}a", if_absent=True)

        assert read(store, f"{at}a") == b"new"

    def test_readers_see_whole_objects(self, store: ObjectStore, at: str) -> None:
        """Who reads while others write sees one of the objects, whole."""
        contents = [b"a" * 300_000, b"b" * 200_000, b""]
        store.put(contents[0], f"{at}a")
        done = threading.Event()
        torn: list[tuple[int, bytes]] = []

        def write() -> int:
            try:
                for number in range(40):
                    store.put(contents[number % 3], f"{at}a")
            finally:
                done.set()
            return 40

        def look() -> int:
            count = 0
            while not done.is_set() or not count:
                found = read(store, f"{at}a")
                count += 1
                if found not in contents:
                    torn.append((len(found), found[:1] + found[-1:]))
            return count

        outcomes = at_once([write, look, look, look])

        assert torn == []
        assert all(isinstance(outcome, int) and outcome > 0 for outcome in outcomes), outcomes

    def test_new_object_appears_whole(self, store: ObjectStore, at: str) -> None:
        """An object is not there while its source still gives, and is whole once it is."""
        seen: list[list[str]] = []

        def chunks() -> Iterator[bytes]:
            for _ in range(4):
                yield b"x" * (2 * MIB)
                seen.append(keys(store, at))

        store.put(chunks(), f"{at}a")

        assert seen == [[], [], [], []]
        assert len(read(store, f"{at}a")) == 8 * MIB
