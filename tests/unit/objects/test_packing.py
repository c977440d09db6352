"""One compressed object of a version's files."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import IntegrityError, NotFound
from cloudreg.manifest import MANIFEST_FILE
from cloudreg.objects.packing import archive_key, pack
from cloudreg.provider import ProviderContext
from cloudreg.testing.base import make_version
from cloudreg.types import ModelVersion
from cloudreg_local import PLUGIN

FILES = {"weights.bin": b"w" * 3_000_000, "deep/er/é.txt": b"text", "empty": b""}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return PLUGIN.open(PLUGIN.settings()(), ProviderContext(target="t", root=tmp_path)).store


@pytest.fixture
def version(store: Any) -> ModelVersion:
    return make_version(store, 1, **FILES)


def read(store: Any, key: str) -> bytes:
    with store.open(key) as reader:
        data: bytes = reader.read()
        return data


def test_files_and_manifest(store: Any, version: ModelVersion) -> None:
    """Any tar finds the files as they were registered, and the manifest beside them."""
    key = pack(version, store, target="t")

    assert key == archive_key(version.digest)
    with tarfile.open(fileobj=io.BytesIO(read(store, key)), mode="r:gz") as archive:
        members = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        found = {name: file.read() for name, file in members.items() if file is not None}
    assert found.pop(MANIFEST_FILE) == version.manifest.encode()
    assert found == FILES


def test_same_bytes(store: Any, version: ModelVersion) -> None:
    """Whoever packs a version, and whenever, makes the same bytes."""
    key = pack(version, store, target="t")
    first = read(store, key)
    store.delete(key)

    assert pack(version, store, target="t") == key
    assert hashlib.sha256(read(store, key)).digest() == hashlib.sha256(first).digest()


def test_made_once(store: Any, version: ModelVersion) -> None:
    """An archive that is there is not made again."""
    key = pack(version, store, target="t")
    (before,) = store.list(key)
    for entry in version.manifest.files:
        store.delete(entry.key)

    assert pack(version, store, target="t") == key
    assert list(store.list(key)) == [before]


def test_missing_file(store: Any, version: ModelVersion) -> None:
    """A file that is not in the store is named, and no archive is left."""
    store.delete(version.manifest.files[0].key)

    with pytest.raises(NotFound, match=version.manifest.files[0].key):
        pack(version, store, target="t")
    assert list(store.list("archives/")) == []


def test_other_bytes(store: Any, version: ModelVersion) -> None:
    """A file that is not what was registered is named, and no archive is left."""
    (entry,) = [e for e in version.manifest.files if e.path == "weights.bin"]
    store.put(b"v" * entry.size, entry.key)

    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        pack(version, store, target="t")
    assert list(store.list("archives/")) == []


def test_bounded_memory(store: Any, version: ModelVersion) -> None:
    """No block that is handed to the store is larger than a few megabytes."""
    sizes: list[int] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def put(self, source: Iterator[bytes], key: str, *, if_absent: bool) -> Any:
            def seen() -> Iterator[bytes]:
                for block in source:
                    sizes.append(len(block))
                    yield block

            return store.put(seen(), key, if_absent=if_absent)

    key = pack(version, Watching(), target="t")  # type: ignore[arg-type]

    assert max(sizes) < 2 * 1024 * 1024
    assert len(gzip.decompress(read(store, key))) > sum(map(len, FILES.values()))
