"""Files that the model server fetches from Cloud Storage, as Vertex AI leaves it to containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cloudreg.errors import CloudregError, ConfigError
from cloudreg.serving.fetch import ATTEMPTS, fetch
from cloudreg.serving.runtimes import LoadFailed
from cloudreg_emulator.faults import Fault, Kind
from cloudreg_emulator.google.emulator import Google
from cloudreg_emulator.google.environment import applied, environment

BIG = bytes(range(256)) * 20_000


@pytest.fixture
def cloud() -> Iterator[Google]:
    """A Google Cloud that the environment leads to."""
    with Google() as google, applied(environment(google)):
        yield google


@pytest.fixture
def bucket(cloud: Google) -> Iterator[Callable[..., None]]:
    """Puts objects into the bucket ``models``."""
    with httpx.Client(base_url=cloud.url) as client:
        project = {"project": cloud.place.project}
        made = client.post("/storage/v1/b", params=project, json={"name": "models"})
        assert made.status_code == 200

        def put(**objects: bytes) -> None:
            for name, data in objects.items():
                params = {"uploadType": "media", "name": name}
                said = client.post("/upload/storage/v1/b/models/o", params=params, content=data)
                assert said.status_code == 200

        yield put


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_fetch(bucket: Callable[..., None], tmp_path: Path) -> None:
    """All files below a folder arrive, those of its neighbours do not, and old ones are gone."""
    bucket(
        **{
            "a/.cloudreg/manifest.json": b"{}",
            "a/big.bin": BIG,
            "a/deep/er/empty": b"",
            "a/folder/": b"",
            "ab/other": b"no",
        }
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()

    for uri in ("gs://models/a", "gs://models/a/"):
        fetch(uri, tmp_path / "model")

        assert files(tmp_path / "model") == {
            ".cloudreg/manifest.json": b"{}",
            "big.bin": BIG,
            "deep/er/empty": b"",
        }


def test_many_files(bucket: Callable[..., None], tmp_path: Path) -> None:
    """A folder of more than one page arrives whole."""
    bucket(**{f"a/{number}": b"x" for number in range(1050)})

    fetch("gs://models/a", tmp_path / "model")

    assert len(files(tmp_path / "model")) == 1050


def test_broken_connections(cloud: Google, bucket: Callable[..., None], tmp_path: Path) -> None:
    """A file whose connection breaks off is fetched on from there."""
    bucket(**{"a/big.bin": BIG})
    armed = cloud.faults.arm(Fault(kind=Kind.TRUNCATED, count=ATTEMPTS - 1))

    fetch("gs://models/a", tmp_path / "model")

    assert (files(tmp_path / "model"), armed.struck) == ({"big.bin": BIG}, ATTEMPTS - 1)


def test_no_end_of_broken_connections(
    cloud: Google, bucket: Callable[..., None], tmp_path: Path
) -> None:
    """A file that never arrives is named, with what is missing."""
    bucket(**{"a/big.bin": BIG})
    armed = cloud.faults.arm(Fault(kind=Kind.TRUNCATED, count=1000))

    with pytest.raises(LoadFailed, match=rf"gs://models/a/big\.bin: \d+ of {len(BIG)} bytes"):
        fetch("gs://models/a", tmp_path / "model")

    assert armed.struck == ATTEMPTS


@pytest.mark.parametrize("uri", ["", "models/a", "s3://models/a", "gs://", "gs://M/a"])
def test_no_address(cloud: Google, uri: str, tmp_path: Path) -> None:
    """What is no address of Cloud Storage is a wrong configuration."""
    with pytest.raises(ConfigError, match="AIP_STORAGE_URI"):
        fetch(uri, tmp_path / "model")


@pytest.mark.parametrize("uri", ["gs://models/nothing", "gs://nobody/a"])
def test_nothing_there(bucket: Callable[..., None], uri: str, tmp_path: Path) -> None:
    """A folder or a bucket that is not there is named."""
    with pytest.raises(LoadFailed, match=uri):
        fetch(uri, tmp_path / "model")


def test_no_way_out(bucket: Callable[..., None], tmp_path: Path) -> None:
    """An object whose name leads out of the folder is refused, and nothing is written."""
    bucket(**{"a/../../outside": b"no", "a/inside": b"x"})

    with pytest.raises(CloudregError):
        fetch("gs://models/a", tmp_path / "model")

    assert files(tmp_path) == {}
