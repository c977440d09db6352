"""Uploads that break and are taken up again, as tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudreg.errors import AlreadyExists, NotFound
from cloudreg.provider import ObjectStore, StoredObject
from cloudreg.testing.objects import ObjectStoreTests, contend, keys, read

MIB = 1024 * 1024

CONTENT = b"".join(number.to_bytes(4, "big") * (MIB // 4) for number in range(12))
"""Twelve MiB: more than one part of an upload, no part like another."""

OTHERS = {
    "changed at its beginning": b"?" + CONTENT[1:],
    "changed in the middle": CONTENT[: 4 * MIB + 17] + b"?" + CONTENT[4 * MIB + 18 :],
    "longer": CONTENT + b"more",
    "shorter than what is left": CONTENT[: MIB + 1],
    "empty": b"",
}


class SourceBroke(Exception):
    """What the iterable of a test raises; no provider knows it."""


def broken(size: int) -> Iterator[bytes]:
    """Yield *size* bytes, then raise."""
    for start in range(0, size, MIB):
        yield b"x" * min(MIB, size - start)
    raise SourceBroke


def chunks(data: bytes, *, broken_at: int | None = None) -> Iterator[bytes]:
    """Yield *data* in chunks of odd sizes; with *broken_at* raise after that many bytes."""
    end = len(data) if broken_at is None else broken_at
    step = 3 * MIB // 2 + 1
    for start in range(0, end, step):
        yield data[start : min(start + step, end)]
    if broken_at is not None:
        raise SourceBroke


class UploadTests(ObjectStoreTests):
    """Puts with a name, by which a second one goes on where the first one broke.

    What a store keeps of a broken put is its own affair: here it may keep all or nothing.
    """

    @pytest.mark.parametrize("broken_at", [0, 1, 9 * MIB, len(CONTENT)])
    def test_broken_upload_is_repeated(self, store: ObjectStore, at: str, broken_at: int) -> None:
        """A put that broke ends whole when it is repeated with the same name."""
        for _ in range(2):
            with pytest.raises(SourceBroke):
                store.put(chunks(CONTENT, broken_at=broken_at), f"{at}a", resume="one")
        stored = store.put(chunks(CONTENT), f"{at}a", resume="one")

        assert stored.size == len(CONTENT)
        assert read(store, f"{at}a") == CONTENT

    @pytest.mark.parametrize("how", OTHERS)
    def test_broken_upload_is_repeated_with_other_bytes(
        self, store: ObjectStore, at: str, how: str
    ) -> None:
        """What is left of a put is not believed: the bytes of the last put are the object."""
        with pytest.raises(SourceBroke):
            store.put(chunks(CONTENT, broken_at=9 * MIB), f"{at}a", resume="one")
        stored = store.put(chunks(OTHERS[how]), f"{at}a", resume="one")

        assert stored.size == len(OTHERS[how])
        assert read(store, f"{at}a") == OTHERS[how]

    def test_upload_that_is_done_leaves_nothing(self, store: ObjectStore, at: str) -> None:
        """A name that was used to the end begins anew, and what it made stays as it is."""
        store.put(chunks(CONTENT), f"{at}a", resume="one")
        store.copy(f"{at}a", f"{at}b")
        for data in (b"?" + CONTENT[1:], b"third"):
            store.put(chunks(data), f"{at}a", resume="one")

            assert read(store, f"{at}a") == data
            assert read(store, f"{at}b") == CONTENT

    @pytest.mark.parametrize("kind", ["path", "bytes"])
    def test_every_source_can_go_on(
        self, store: ObjectStore, at: str, tmp_path: Path, kind: str
    ) -> None:
        """Files and bytes go on where an iterable broke."""
        (tmp_path / "source").write_bytes(CONTENT)
        with pytest.raises(SourceBroke):
            store.put(chunks(CONTENT, broken_at=9 * MIB), f"{at}a", resume="one")
        store.put(tmp_path / "source" if kind == "path" else CONTENT, f"{at}a", resume="one")

        assert read(store, f"{at}a") == CONTENT

    def test_broken_upload_is_not_seen(self, store: ObjectStore, at: str) -> None:
        """What is left of a put is no object, and leaves the one that is there."""
        store.put(b"old", f"{at}b")
        for key in ("a", "b"):
            with pytest.raises(SourceBroke):
                store.put(chunks(CONTENT, broken_at=9 * MIB), at + key, resume="one")

        assert keys(store, at) == [f"{at}b"]
        assert read(store, f"{at}b") == b"old"
        with pytest.raises(NotFound):
            store.open(f"{at}a")

    def test_upload_to_a_taken_key(self, store: ObjectStore, at: str) -> None:
        """With if_absent a name does not open a key that was taken meanwhile."""
        with pytest.raises(SourceBroke):
            store.put(chunks(CONTENT, broken_at=MIB), f"{at}a", if_absent=True, resume="one")
        store.put(b"first", f"{at}a", if_absent=True)
        with pytest.raises(AlreadyExists):
            store.put(chunks(CONTENT), f"{at}a", if_absent=True, resume="one")

        assert read(store, f"{at}a") == b"first"

    @pytest.mark.parametrize("name", ["", "../a", "/a", "a/b", "a\0b", "ü", "x" * 2000], ids=ascii)
    def test_any_text_names_an_upload(self, store: ObjectStore, at: str, name: str) -> None:
        """A name is text, never a path."""
        with pytest.raises(SourceBroke):
            store.put(chunks(CONTENT, broken_at=MIB), f"{at}a", resume=name)
        store.put(chunks(b"whole"), f"{at}a", resume=name)

        assert keys(store, at) == [f"{at}a"]
        assert read(store, f"{at}a") == b"whole"

    def test_uploads_of_one_name_at_once(self, store: ObjectStore, at: str) -> None:
        """Puts of one name at once do not mix: each ends whole, and one of them is the object."""
        contents = [bytes([number]) * (2 * MIB) for number in range(self.threads)]
        with pytest.raises(SourceBroke):
            store.put(chunks(contents[0], broken_at=MIB), f"{at}a", resume="one")
        outcomes = contend(
            lambda number: store.put(chunks(contents[number]), f"{at}a", resume="one"),
            self.threads,
        )
        found = read(store, f"{at}a")

        assert all(isinstance(outcome, StoredObject) for outcome in outcomes), outcomes
        assert (len(found), len(set(found))) == (2 * MIB, 1)

    def test_one_upload_of_a_name_wins(self, store: ObjectStore, at: str) -> None:
        """With if_absent one of many puts of one name wins, and its bytes are the object."""
        contents = [bytes([number]) * (2 * MIB) for number in range(self.threads)]
        outcomes = contend(
            lambda number: store.put(
                chunks(contents[number]), f"{at}a", if_absent=True, resume="one"
            ),
            self.threads,
        )
        winners = [n for n, found in enumerate(outcomes) if isinstance(found, StoredObject)]

        assert len(winners) == 1, outcomes
        assert len([o for o in outcomes if isinstance(o, AlreadyExists)]) == self.threads - 1
        assert read(store, f"{at}a") == contents[winners[0]]
