"""What every listing of an object store must show, as tests."""

from __future__ import annotations

from typing import ClassVar

import pytest

from cloudreg.provider import ObjectStore
from cloudreg.testing.objects import ObjectStoreTests, contend, keys


class ListingTests(ObjectStoreTests):
    """Keys in order, by prefix, and behind a key.

    Attributes:
        listed_objects: How many a long listing holds: more than the store shows on one page.
    """

    listed_objects: ClassVar[int] = 1050

    def test_list_is_in_order_of_bytes(self, store: ObjectStore, at: str) -> None:
        """Keys are listed in the order of their UTF-8 bytes, whatever folders they look like."""
        names = ["a", "a/b", "a/b/c", "a-b", "a.b", "a0", "a b", "B", "b", "10", "9", "ä", "z"]
        names += ["\uffee", "😀", "a!", "aa", "p" * 90, "p" * 90 + "/q", "p" * 80]
        wanted = sorted((at + name for name in names), key=str.encode)
        for key in wanted[1::2] + wanted[::2]:
            store.put(b"", key)

        assert keys(store, at) == wanted

    def test_list_shows_what_is_there(self, store: ObjectStore, at: str) -> None:
        """A listing shows the size and time that put returned."""
        stored = [store.put(b"x" * size, f"{at}{size}") for size in (0, 1, 7)]
        found = list(store.list(at))

        assert [(o.key, o.size) for o in found] == [(o.key, o.size) for o in stored]
        for shown, said in zip(found, stored, strict=True):
            # Some stores round to a second in one of the two answers.
            assert shown.modified_at == pytest.approx(said.modified_at, abs=1.0)

    @pytest.mark.parametrize(
        ("prefix", "wanted"),
        [
            ("run", "run run-2 run/1 run/1/a run/10 run/2"),
            ("run/", "run/1 run/1/a run/10 run/2"),
            ("run/1", "run/1 run/1/a run/10"),
            ("run/1/", "run/1/a"),
            ("run/1/a", "run/1/a"),
            ("r", "ran run run-2 run/1 run/1/a run/10 run/2"),
            ("run/1/a/", ""),
            ("run/3", ""),
            ("runs", ""),
            ("Run", ""),
        ],
    )
    def test_list_by_prefix(self, store: ObjectStore, at: str, prefix: str, wanted: str) -> None:
        """A prefix is text, not a folder: it may end inside a name, and be a key itself."""
        for name in ("run", "run/1", "run/1/a", "run/10", "run/2", "run-2", "ran", "sun"):
            store.put(b"", at + name)

        assert keys(store, at + prefix) == [at + name for name in wanted.split()]

    @pytest.mark.parametrize("prefix", ["/x", "a//", "../", "x" * 2000], ids=lambda p: p[:4])
    def test_prefix_of_no_key(self, store: ObjectStore, at: str, prefix: str) -> None:
        """A prefix that no key can have lists nothing, and nothing outside the store."""
        store.put(b"", f"{at}a/x")

        assert keys(store, at + prefix) == []

    def test_list_of_nothing(self, store: ObjectStore, at: str) -> None:
        """A prefix without objects lists nothing, whatever stands beside it."""
        store.put(b"", f"{at[:-1]}-beside/a")

        assert keys(store, at) == []

    def test_list_of_everything(self, store: ObjectStore, at: str) -> None:
        """The empty prefix lists the whole store."""
        store.put(b"", f"{at}a")
        store.put(b"", f"{at}b/c")
        found = [key for key in keys(store, "", after=at[:-1]) if key.startswith(at)]

        assert found == [f"{at}a", f"{at}b/c"]

    @pytest.mark.parametrize(
        ("after", "wanted"),
        [
            ("", "a a/b a/b/c a0 b c/d"),
            ("a", "a/b a/b/c a0 b c/d"),
            ("a/a", "a/b a/b/c a0 b c/d"),
            ("a/b", "a/b/c a0 b c/d"),
            ("a/b/c", "a0 b c/d"),
            ("a/z", "a0 b c/d"),
            ("a0", "b c/d"),
            ("bb", "c/d"),
            ("c/", "c/d"),
            ("c/d", ""),
            ("zzz", ""),
        ],
    )
    def test_list_after(self, store: ObjectStore, at: str, after: str, wanted: str) -> None:
        """A listing goes on behind any key, whether that exists or not."""
        for name in ("a", "a/b", "a/b/c", "a0", "b", "c/d"):
            store.put(b"", at + name)

        assert keys(store, at, after=at + after) == [at + name for name in wanted.split()]

    def test_list_after_a_key_outside(self, store: ObjectStore, at: str) -> None:
        """A key before the prefix leaves out nothing; one behind it leaves out all."""
        store.put(b"", f"{at}m/a")
        store.put(b"", f"{at}m/b")

        assert keys(store, f"{at}m/", after=f"{at}c") == [f"{at}m/a", f"{at}m/b"]
        assert keys(store, f"{at}m/", after=f"{at}x") == []

    def test_long_list(self, store: ObjectStore, at: str) -> None:
        """A listing longer than a page is complete, in order, and can be gone on with."""
        wanted = [f"{at}{number:05d}" for number in range(self.listed_objects)]
        contend(
            lambda thread: [store.put(b"", key) for key in wanted[thread :: self.threads]],
            self.threads,
        )
        middle = len(wanted) // 2

        assert keys(store, at) == wanted
        assert keys(store, at, after=wanted[middle]) == wanted[middle + 1 :]

    def test_list_while_objects_go(self, store: ObjectStore, at: str) -> None:
        """Objects that are deleted during a listing do not end it."""
        for number in range(20):
            store.put(b"", f"{at}{number:02d}")
        listing = store.list(at)
        first = next(listing)
        for number in range(1, 19):
            store.delete(f"{at}{number:02d}")
        rest = [stored.key for stored in listing]

        assert first.key == f"{at}00"
        assert rest[-1:] == [f"{at}19"]
        assert rest == sorted(set(rest))
