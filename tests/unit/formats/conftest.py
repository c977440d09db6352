"""Files that are what their names say, files that are not, and pickles written by hand."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloudreg.formats import Finding
from cloudreg.formats.classify import classify


class Metered:
    """Bytes in ranges, and how much of them was read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.largest = 0
        self.total = 0

    def __call__(self, offset: int, length: int) -> bytes:
        self.largest = max(self.largest, length)
        self.total += length
        return self.data[offset : offset + length]


class Runs:
    """What runs something when it is unpickled."""

    def __init__(self, function: Any = os.system, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments or ("echo hacked > hacked",)

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def safetensors(
    tensors: dict[str, list[int]] | None = None, data: bytes = bytes(8), **header: Any
) -> bytes:
    """Return a safetensors file with these offsets."""
    offsets = {"w": [0, len(data)]} if tensors is None else tensors
    document = header | {
        name: {"dtype": "U8", "shape": [span[1] - span[0]], "data_offsets": span}
        for name, span in offsets.items()
    }
    text = json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text + data


def zipped(members: dict[str, bytes], *, packed: bool = False) -> bytes:
    """Return a zip archive."""
    made = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def npy(array: Any) -> bytes:
    """Return a ``.npy`` file."""
    made = io.BytesIO()
    np.save(made, array, allow_pickle=True)
    return made.getvalue()


class Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


class Make:
    """What tests of formats build files with."""

    Metered = Metered
    Runs = Runs
    Module = Module
    safetensors = staticmethod(safetensors)
    zipped = staticmethod(zipped)
    npy = staticmethod(npy)

    @staticmethod
    def torch(value: Any, **options: Any) -> bytes:
        made = io.BytesIO()
        torch.save(value, made, **options)
        return made.getvalue()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Finding]]:
    """Classify bytes under a name, where nothing can be unpickled without being noticed."""
    monkeypatch.chdir(tmp_path)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)

    def run(name: str, data: bytes) -> Finding:
        found = classify(name, len(data), Metered(data))
        assert found.path == name
        return found

    yield run
    assert list(tmp_path.iterdir()) == []
