"""Buckets and objects outlive the emulator where a folder is named."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage import Storage, handle
from cloudreg_emulator.google.storage.disk import Disk
from cloudreg_emulator.google.storage.nouns import Generation


def opened(folder: Path, **options: Any) -> tuple[Storage, Disk]:
    storage = Storage(project="my-project", project_number=1, **options)
    return storage, Disk(storage, folder)


def asked(
    kept: tuple[Storage, Disk], method: str, path: str, body: bytes = b"", **query: str
) -> Response:
    answer = handle(
        kept[0],
        Request(
            method=method,
            path=path,
            query={name: (value,) for name, value in query.items()},
            body=BytesIO(body),
            size=len(body),
        ),
    )
    kept[1].save()
    return answer


def shown(kept: tuple[Storage, Disk]) -> Any:
    return {
        name: (
            shelf.bucket,
            {name: whole(one) for name, one in shelf.live.items()},
            {name: [whole(one) for one in found] for name, found in shelf.noncurrent.items()},
            {name: [whole(one) for one in found] for name, found in shelf.soft_deleted.items()},
        )
        for name, shelf in kept[0].shelves.items()
    }


def whole(made: Generation) -> Generation:
    """Return the same with its bytes in one piece."""
    return replace(made, content=replace(made.content, pieces=(made.content.data(),)))


def test_everything_is_there_again(tmp_path: Path) -> None:
    """A new emulator has the buckets, policies, bytes, versions and deleted objects of the old."""
    one = opened(tmp_path)
    project = {"project": "my-project"}
    for name in (b"soft", b"versioned", b"gone"):
        asked(one, "POST", "/storage/v1/b", b'{"name": "bucket-' + name + b'"}', **project)
    asked(one, "PATCH", "/storage/v1/b/bucket-versioned", b'{"versioning": {"enabled": true}}')
    asked(one, "PUT", "/storage/v1/b/bucket-soft/iam", b'{"bindings": []}')
    for bucket in ("bucket-soft", "bucket-versioned"):
        for data in (b"one", b"two"):
            asked(one, "PUT", f"/{bucket}/a/b", data)
        asked(one, "PUT", f"/{bucket}/c", b"x" * 100)
        asked(one, "DELETE", f"/{bucket}/c")
    asked(one, "PATCH", "/storage/v1/b/bucket-soft/o/a%2Fb", b'{"metadata": {"k": "v"}}')
    compose = b'{"sourceObjects": [{"name": "a/b"}, {"name": "a/b"}]}'
    asked(one, "POST", "/storage/v1/b/bucket-soft/o/d/compose", compose)
    asked(one, "DELETE", "/storage/v1/b/bucket-gone")
    two = opened(tmp_path)

    assert shown(two) == shown(one)
    assert b"".join(asked(two, "GET", "/bucket-soft/d").body) == b"twotwo"


def test_generations_go_on(tmp_path: Path) -> None:
    """A new emulator whose clock is behind gives no generation twice."""
    one = opened(tmp_path)
    one[0].create_bucket("models", {}, project="my-project")
    asked(one, "PUT", "/models/a", b"x")
    two = opened(tmp_path, clock=lambda: 1.0)
    asked(two, "PUT", "/models/b", b"x")

    live = two[0].shelves["models"].live
    assert live["b"].generation == live["a"].generation + 1


def test_what_a_killed_emulator_left(tmp_path: Path) -> None:
    """Bytes that no bucket names are no object, and half a document is none."""
    one = opened(tmp_path)
    one[0].create_bucket("models", {}, project="my-project")
    asked(one, "PUT", "/models/a", b"x")
    (tmp_path / "contents" / ("0" * 64)).write_bytes(b"half")
    (tmp_path / "buckets" / "models.json.new").write_bytes(b"{")

    assert list(opened(tmp_path)[0].shelves["models"].live) == ["a"]


def test_folder_of_something_else(tmp_path: Path) -> None:
    """A folder that cannot be read is refused, and named."""
    (tmp_path / "buckets").mkdir()
    (tmp_path / "buckets" / "models.json").write_bytes(b'{"colour": "red"}')
    with pytest.raises(ValueError, match="json is no bucket"):
        opened(tmp_path)
