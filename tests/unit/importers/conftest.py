"""A package of small torch modules, as a user would have it beside a training script."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = '''
"""Modules of every shape that the importer has to cope with."""

from collections import namedtuple

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, features=3, hidden=4, dropout=0.5):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.Dropout(dropout))
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        return torch.sigmoid(self.head(self.body(x))).squeeze(-1)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)

    def forward(self, ids, mask):
        gathered = self.embed(ids) * mask.unsqueeze(-1)
        return {"vectors": gathered, "length": mask.sum(1), "extra": gathered.sum()}


class Positional(nn.Module):
    def forward(self, *tensors):
        return tensors[0] + tensors[1], tensors[0] > tensors[1]


Answer = namedtuple("Answer", "score label")


class Named(nn.Module):
    def forward(self, x):
        return Answer(x.sum(1), x.argmax(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 3, bias=False)
        self.decode = nn.Linear(3, 3, bias=False)
        self.decode.weight = self.encode.weight
        self.register_buffer("whole", torch.arange(6.0))
        self.register_buffer("part", self.whole[3:])

    def forward(self, x):
        return self.decode(self.encode(x)) + self.part


class Hidden(nn.Module):
    """Keeps what counts in a plain attribute."""

    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def forward(self, x):
        return x * self.factor


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Gives(nn.Module):
    """Gives what its function makes of the input."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return eval(self.what)


def tied():
    return Tied()


def none():
    return None


def broken(**arguments):
    raise RuntimeError("no such file")
'''


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The file of the modules."""
    path = tmp_path / "src" / "small_nets.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


@pytest.fixture
def nets(code: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The modules, imported."""
    # Behind the first place, which is the running script's and which no server has.
    monkeypatch.setattr(sys, "path", [sys.path[0], str(code.parent), *sys.path[1:]])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import small_nets

    yield small_nets
    del sys.modules["small_nets"]
