"""The contract, over the store that obstore keeps in memory."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from obstore.store import MemoryStore

from cloudreg.objects import ObstoreObjects
from cloudreg.testing.store import StoreTests
from cloudreg.testing.uploads import UploadTests


class MemoryTests(StoreTests, UploadTests):
    """Without a prefix."""

    prefix = ""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> Iterator[SimpleNamespace]:
        store = ObstoreObjects(MemoryStore(), target="memory", prefix=cls.prefix)
        yield SimpleNamespace(store=store)
        store.close()


class TestMemory(MemoryTests):
    """In a bucket of its own."""


class TestPrefix(MemoryTests):
    """Below a prefix of a bucket."""

    prefix = "teams/fraud"
