"""Model data becomes plain files that cannot escape their folder."""

from __future__ import annotations

import io
import tarfile

import pytest

from cloudreg_emulator.fleet.model import NoModelData, fetch, mirror, remove


def archive(*members, **files):
    """Return a tar.gz of files and of ready-made members."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in members:
            tar.addfile(info)
    return data.getvalue()


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def fetched(launch, objects, tmp_path):
    """Fetches, and returns what lies in the folder."""

    def run(*, most=10**6, **changes):
        folder = tmp_path / "model"
        try:
            fetch(launch(**changes), objects.read, folder, timeout_s=5, max_unpacked_bytes=most)
            return {
                str(path.relative_to(folder)): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file()
            }
        finally:
            remove(folder)

    return run


def test_archive(fetched, objects):
    """A tar.gz is unpacked, whatever its folders are."""
    folder = member("./sub/", tarfile.DIRTYPE)
    objects["models", "a.tar.gz"] = archive(folder, **{"./sub/x.bin": b"1", "y": b"2"})

    found = fetched(key="a.tar.gz", kind="object", compressed=True)

    assert found == {"sub/x.bin": b"1", "y": b"2"}


def test_single_object(fetched, objects):
    """One uncompressed object keeps its name."""
    objects["models", "deep/weights.onnx"] = b"onnx"

    assert fetched(key="deep/weights.onnx", kind="object") == {"weights.onnx": b"onnx"}


def test_folder_markers(fetched, objects):
    """What consoles store for an empty folder is no file."""
    objects["models", "double/"] = b""
    objects["models", "double/empty/"] = b""

    assert list(fetched()) == ["model.json"]


@pytest.mark.parametrize(
    "bad",
    [
        member("../out", tarfile.REGTYPE),
        member("/etc/out", tarfile.REGTYPE),
        member("a/../../out", tarfile.REGTYPE),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "y"),
        member("fifo", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
    ],
    ids=lambda info: info.name,
)
def test_archive_that_escapes(fetched, objects, tmp_path, bad):
    """An archive with a path out of its folder, a link or a device is refused."""
    objects["models", "a.tar.gz"] = archive(bad, y=b"2")

    with pytest.raises(NoModelData, match=r"s3://models/a\.tar\.gz"):
        fetched(key="a.tar.gz", kind="object", compressed=True)
    assert not (tmp_path / "out").exists()


def test_archive_that_is_none(fetched, objects):
    """What is no archive is refused, and so is half of one."""
    for data in (b"hello", archive(y=b"2" * 1000)[:40]):
        objects["models", "a.tar.gz"] = data
        with pytest.raises(NoModelData, match="not a readable"):
            fetched(key="a.tar.gz", kind="object", compressed=True)


def test_bomb(fetched, objects):
    """An archive that unpacks to more than the limit is refused."""
    objects["models", "a.tar.gz"] = archive(y=b"0" * 101)

    with pytest.raises(NoModelData, match="unpacks to over 100 bytes"):
        fetched(most=100, key="a.tar.gz", kind="object", compressed=True)


@pytest.mark.parametrize("key", ["a//b", "../a", "a/./b", "a/..", "x" * 256, "a/ /b", "n\0l"])
def test_names_that_are_none(fetched, objects, key):
    """Names that SageMaker's documentation rules out are refused."""
    objects["models", f"double/{key}"] = b""

    with pytest.raises(NoModelData, match="must not be named"):
        fetched()


@pytest.mark.parametrize("order", [("a", "a/b"), ("a/b", "a")])
def test_clash(fetched, objects, order):
    """An object that would have to be a file and a folder is refused, in either order."""
    for name in order:
        objects["models", f"clash/{name}"] = b"1"

    with pytest.raises(NoModelData, match="clashes"):
        fetched(key="clash/")


def test_mirrors_share_bytes(launch, objects, tmp_path):
    """Instances have names of their own for the same bytes."""
    fetch(launch(), objects.read, tmp_path / "data", timeout_s=5)
    mirror(tmp_path / "data", tmp_path / "1" / "model")

    files = [tmp_path / "data" / "model.json", tmp_path / "1" / "model" / "model.json"]
    assert len({path.stat().st_ino for path in files}) == 1
    for folder in ("data", "1"):
        remove(tmp_path / folder)
    assert list(tmp_path.iterdir()) == []
