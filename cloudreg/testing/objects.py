"""What the tests of an object store share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest

from cloudreg.provider import ObjectStore, Provider
from cloudreg.testing.base import ConformanceTests, at_once, fresh

CHUNK = 1024 * 1024


class ObjectStoreTests(ConformanceTests):
    """The base of the tests of a store."""

    @pytest.fixture
    def store(self, provider: Provider) -> ObjectStore:
        """Return the provider's store."""
        return provider.store

    @pytest.fixture
    def at(self) -> str:
        """Return a prefix that no other test uses, with its slash."""
        return fresh("kit") + "/"


def read(store: ObjectStore, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
    """Return a range of an object, however few bytes the reader gives at a time."""
    with closing(store.open(key, offset=offset, length=length)) as reader:
        return b"".join(iter(lambda: reader.read(CHUNK), b""))


def keys(store: ObjectStore, prefix: str, *, after: str = "") -> list[str]:
    """Return the keys that a listing shows."""
    return [stored.key for stored in store.list(prefix, after=after)]


def contend(act: Callable[[int], object], threads: int) -> list[object]:
    """Call *act* with 0, 1, … in as many threads at once; return answers or errors."""
    return at_once([partial(act, number) for number in range(threads)])
