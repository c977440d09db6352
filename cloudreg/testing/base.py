"""What all parts of the kit share: fixtures to give, knobs to turn, versions to publish."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ClassVar, TypeVar

import pytest

from cloudreg.errors import AlreadyExists
from cloudreg.names import sha256
from cloudreg.provider import ObjectStore, Provider
from cloudreg.types import FileEntry, Manifest, ModelVersion

T = TypeVar("T")


class ConformanceTests:
    """The base of every class of the kit.

    Each test uses keys, models and endpoints with names of its own and never asks for an empty
    target, so one provider serves a whole class: on a cloud, to make one is slow.

    Attributes:
        threads: How many contend where the contract speaks of several writers.
    """

    threads: ClassVar[int] = 16

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> Provider:
        """Return an open provider that only these tests use; of scope class or wider."""
        raise NotImplementedError("override the fixture `provider` in your subclass")

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> str:
        """Return the target's name, as the provider was opened with."""
        return "conformance"

    def make_version(
        self, store: ObjectStore, number: int, *, model: str = "kit", **files: bytes
    ) -> ModelVersion:
        """Return a version of *files*; override it where a target wants to know more of one."""
        return make_version(store, number, model=model, **files)


def make_version(
    store: ObjectStore, number: int, *, model: str = "kit", **files: bytes
) -> ModelVersion:
    """Store files and manifest under the documented keys, and return the version.

    Args:
        store: Where they go.
        number: The version's.
        model: The model's name.
        files: Content by path; without any, one file that differs by model and number.
    """
    contents = files or {"weights.bin": f"weights of {model}:{number}".encode()}
    entries = []
    for path, data in sorted(contents.items()):
        entry = FileEntry(path=path, size=len(data), sha256=sha256(data).removeprefix("sha256:"))
        entries.append(entry)
        _keep(store, entry.key, data)
    manifest = Manifest(files=tuple(entries), labels={"made-by": "cloudreg.testing"})
    _keep(store, f"manifests/{manifest.digest.removeprefix('sha256:')}", manifest.encode())
    return ModelVersion(
        model=model,
        number=number,
        digest=manifest.digest,
        manifest=manifest,
        author="conformance kit",
        created_at="2026-01-01T00:00:00Z",
    )


def _keep(store: ObjectStore, key: str, data: bytes) -> None:
    with suppress(AlreadyExists):
        store.put(data, key, if_absent=True)


def fresh(stem: str) -> str:
    """Return a name that nobody has used: *stem*, a hyphen and eight hexadecimal digits."""
    return f"{stem}-{uuid.uuid4().hex[:8]}"


def at_once(acts: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Run all *acts*, each in a thread, from one moment on; return answers or errors in order."""
    barrier = threading.Barrier(len(acts))

    def one(act: Callable[[], T]) -> T | Exception:
        barrier.wait(timeout=60.0)
        try:
            return act()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(one, acts))


def timed(act: Callable[[], T]) -> tuple[T, float]:
    """Return what *act* returns, and how many seconds it took."""
    began = time.monotonic()
    answer = act()
    return answer, time.monotonic() - began
