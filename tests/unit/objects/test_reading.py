"""Objects that take several requests to read."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from cloudreg.errors import AlreadyExists, Conflict, InvalidRequest
from cloudreg.objects import ObstoreObjects
from cloudreg.objects.reading import FIRST, STEP

CONTENT = random.Random(7).randbytes(FIRST + 3 * STEP + 5)


@pytest.fixture
def store() -> Iterator[ObstoreObjects]:
    made = ObstoreObjects(MemoryStore(), target="memory")
    made.put(CONTENT, "large")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (0, FIRST), (0, FIRST + 1), (1, FIRST + STEP), (STEP, None), (5, 10 * FIRST)],
)
def test_pieces_come_in_order(store: ObstoreObjects, offset: int, length: int | None) -> None:
    """However many requests a range takes, its bytes come once each, in order."""
    end = None if length is None else offset + length
    with closing(store.open("large", offset=offset, length=length)) as reader:
        found = b"".join(iter(lambda: reader.read(1_000_003), b""))

    assert found == CONTENT[offset:end]


def test_object_that_changes_is_not_mixed(store: ObstoreObjects) -> None:
    """A reader whose object is replaced ends with an error, never with bytes of both."""
    with closing(store.open("large")) as reader:
        assert reader.read(10) == CONTENT[:10]
        store.put(bytes(len(CONTENT)), "large")
        with pytest.raises(Conflict):
            reader.read()


def test_file_that_changes_is_not_left(store: ObstoreObjects, tmp_path: Path) -> None:
    """A file is there whole or not at all, and nothing is overwritten."""
    (tmp_path / "mine").write_bytes(b"mine")
    store.get("large", tmp_path / "dest")

    assert (tmp_path / "dest").read_bytes() == CONTENT
    with pytest.raises(AlreadyExists):
        store.get("large", tmp_path / "mine")
    with pytest.raises(InvalidRequest):
        store.get("large", tmp_path / "no folder" / "dest")
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_reader_that_is_closed_early(store: ObstoreObjects) -> None:
    """Whoever has read enough closes the reader, and others go on."""
    reader = store.open("large")
    reader.read(FIRST + 1)
    reader.close()

    with closing(store.open("large", offset=FIRST)) as other:
        assert other.read() == CONTENT[FIRST:]


def test_large_objects_have_one_winner(store: ObstoreObjects) -> None:
    """Of two large puts with if_absent one wins, whichever ends first, and nothing else stays."""
    outcomes: list[object] = []
    both = threading.Barrier(2, timeout=30)

    def pieces(number: int) -> Iterator[bytes]:
        yield bytes([number]) * (FIRST + 1)
        both.wait()
        yield b"end"

    def put(number: int) -> None:
        try:
            outcomes.append(store.put(pieces(number), "one", if_absent=True).size)
        except AlreadyExists:
            outcomes.append("taken")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(str, outcomes)) == [str(FIRST + 4), "taken"]
    assert [stored.key for stored in store.list("")] == ["large", "one"]


@pytest.mark.parametrize("error", [ValueError("mine"), FileNotFoundError("mine"), KeyError("mine")])
def test_error_of_the_source_passes(store: ObstoreObjects, error: Exception) -> None:
    """What a source raises is the caller's own, also where it looks like the store's."""

    def pieces() -> Iterator[bytes]:
        yield bytes(FIRST + 1)
        raise error

    for if_absent in (True, False):
        with pytest.raises(type(error)) as caught:
            store.put(pieces(), "broken", if_absent=if_absent)
        assert caught.value is error
    assert [stored.key for stored in store.list("")] == ["large"]
