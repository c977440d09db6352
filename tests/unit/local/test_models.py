"""The files of a version as a model server reads them."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import IntegrityError, NotFound
from cloudreg.manifest import MANIFEST_FILE
from cloudreg_local.models import forget, materialise


def test_files_are_links_to_the_store(own: Callable[..., Any], tmp_path: Path) -> None:
    """A version's folder holds its files, read-only and without a second copy, and its manifest."""
    bench = own()
    one = bench.version(1)
    folder = materialise(one.digest, bench.provider.store, tmp_path / "models")

    assert (folder / "weights.txt").read_text() == "weights of 1"
    assert (folder / "weights.txt").samefile(bench.provider.store.path(one.manifest.files[0].key))
    assert (folder / MANIFEST_FILE).read_bytes() == one.manifest.encode()
    for name in ("weights.txt", MANIFEST_FILE):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o444


def test_many_make_the_same_folder(own: Callable[..., Any], tmp_path: Path) -> None:
    """Threads that make one version's folder at once all get it, and leave nothing beside."""
    bench = own()
    one = bench.version(1, "x" * 3_000_000)
    together = threading.Barrier(8)

    def make(_: int) -> Path:
        together.wait()
        return materialise(one.digest, bench.provider.store, tmp_path / "models")

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(make, range(8)))

    assert folders == {tmp_path / "models" / one.digest[7:]}
    assert list((tmp_path / "models").iterdir()) == list(folders)


def test_without_hard_links(
    own: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system has no hard links the files are copies, checked all the same."""
    bench = own()
    one, two = bench.version(1), bench.version(2)

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)
    folder = materialise(one.digest, bench.provider.store, tmp_path / "models")
    blob = bench.provider.store.path(two.manifest.files[0].key)
    blob.chmod(0o644)
    blob.write_text("weights of !")

    assert (folder / "weights.txt").read_text() == "weights of 1"
    assert stat.S_IMODE((folder / "weights.txt").stat().st_mode) == 0o444
    with pytest.raises(IntegrityError, match=r"weights\.txt in the store is not what"):
        materialise(two.digest, bench.provider.store, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == [folder]


def test_what_is_missing(own: Callable[..., Any], tmp_path: Path) -> None:
    """A version that the store does not hold whole makes no folder."""
    bench = own()
    one = bench.version(1)
    bench.provider.store.delete(one.manifest.files[0].key)

    with pytest.raises(IntegrityError, match=r"weights\.txt is missing in the store"):
        materialise(one.digest, bench.provider.store, tmp_path / "models")
    with pytest.raises(NotFound, match="the manifest of sha256:0"):
        materialise("sha256:" + "0" * 64, bench.provider.store, tmp_path / "models")
    assert not list((tmp_path / "models").glob("*"))


def test_forgetting(own: Callable[..., Any], tmp_path: Path) -> None:
    """What nobody reads any more goes, what a crash left too; the store keeps its objects."""
    bench = own()
    versions = [bench.version(number) for number in (1, 2)]
    models = tmp_path / "models"
    folders = [materialise(v.digest, bench.provider.store, models) for v in versions]
    (models / ".half").mkdir()

    forget(models, keep=[versions[0].digest])

    assert list(models.iterdir()) == folders[:1]
    assert bench.provider.store.has(versions[1].manifest.files[0].key)
