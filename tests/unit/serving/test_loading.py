from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cloudreg.errors import IntegrityError
from cloudreg.manifest import MANIFEST_FILE
from cloudreg.serving.loading import load, verify
from cloudreg.serving.options import read
from cloudreg.serving.runtimes import LoadFailed

pytestmark = pytest.mark.usefixtures("imports")


@pytest.fixture
def version(kit: ModuleType, tmp_path: Path) -> Any:
    """A version as it was registered."""
    return kit.torch_version(tmp_path / "v")


def test_files_as_registered(version: Any) -> None:
    """The manifest of an untouched folder is returned."""
    record = version.folder / MANIFEST_FILE
    assert verify(version.folder, record, digest=version.digest) == version.manifest


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip, "model.safetensors is not what was registered"),
        (lambda f: (f / "code/shapes.py").write_bytes(b""), "code/shapes.py is not what was"),
        (lambda f: (f / "code/shapes.py").unlink(), "code/shapes.py cannot be read"),
        (lambda f: (f / "code/more.py").write_bytes(b""), "code/more.py is not among the files"),
        (lambda f: (f / "more").symlink_to("code/shapes.py"), "more is not among the files"),
        (lambda f: (f / MANIFEST_FILE).write_bytes(b"{}"), "has the bytes of"),
        (lambda f: (f / MANIFEST_FILE).unlink(), "the manifest cannot be read"),
        (pipe, "model.safetensors is not a regular file"),
    ],
)
def test_one_byte_is_enough(version: Any, harm: Any, said: str) -> None:
    """A file changed, missing, added, or replaced by something else is found and named."""
    harm(version.folder)
    with pytest.raises(IntegrityError, match=said):
        verify(version.folder, version.folder / MANIFEST_FILE, digest=version.digest)


def test_another_version_is_not_this_one(kit: ModuleType, version: Any, tmp_path: Path) -> None:
    """A right folder of another version is refused."""
    other = kit.torch_version(tmp_path / "other", arguments={"classes": 5})
    with pytest.raises(IntegrityError, match=version.digest):
        verify(other.folder, other.folder / MANIFEST_FILE, digest=version.digest)


def test_no_signature(kit: ModuleType, tmp_path: Path) -> None:
    """Requests that nothing could be checked against are not served."""
    version = kit.torch_version(tmp_path / "v", signature=None)
    with pytest.raises(LoadFailed, match="no signature"):
        load(read(version.argv(), {}))


@pytest.mark.parametrize(
    ("warmup", "said"),
    [
        ({"instances": [[1, 2]]}, r"warmup.json: instances\[0\]"),
        ({"instances": [[666, 2, 3]]}, "the number of the beast"),
        ({"instances": [[999, 2, 3]]}, "warmup.json: output y.* not finite"),
    ],
)
def test_a_warm_up_that_fails(kit: ModuleType, tmp_path: Path, warmup: Any, said: str) -> None:
    """A model that cannot answer its own warm-up never becomes ready."""
    version = kit.torch_version(tmp_path / "v", warmup=warmup)
    with pytest.raises((LoadFailed, ValueError), match=said):
        load(read(version.argv(), {}))


def test_a_warm_up_that_works(kit: ModuleType, tmp_path: Path) -> None:
    """A version that answers its warm-up is loaded."""
    version = kit.torch_version(tmp_path / "v", warmup={"instances": [[1, 2, 3]]})
    assert load(read(version.argv(), {})).kind == "torch"
