"""Model servers and endpoints on a real GPU; without one all of this is skipped."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudreg import Workspace
from cloudreg.errors import CloudregError
from cloudreg.importers.torch import save
from cloudreg.manifest import Lineage
from cloudreg_local.devices import discover

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")

CODE = '''
import torch


class Picky(torch.nn.Module):
    """Gives the row of a table that the first number names; one that is not there ends a GPU."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(20.0).reshape(10, 2))

    def forward(self, x):
        return self.table[x[:, 0].long()]
'''

CONFIG = """
home = "here"

[targets.here]
provider = "local"
path = ".here"
emulate_accelerators = true
{devices}

[stages.dev]
[stages.prod]
[[stages.prod.gates]]
kind = "golden"
path = "golden.jsonl"

[endpoints.table]
model = "table"
stage = "prod"
gpu = "L4"
min_replicas = 2
max_replicas = 2
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Workspace]]:
    """A model on an endpoint of this machine's GPU, promoted through a golden gate."""
    opened: list[Workspace] = []

    def make(devices: str = "") -> Workspace:
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "picky.py").write_text(CODE)
        (tmp_path / "cloudreg.toml").write_text(CONFIG.format(devices=devices))
        samples = [{"instance": [n, 0, 0], "expected": [2.0 * n, 2.0 * n + 1]} for n in range(10)]
        (tmp_path / "golden.jsonl").write_text("\n".join(map(json.dumps, samples)))
        module = importlib.import_module("picky").Picky()
        save(
            module,
            tmp_path / "model",
            sample=torch.zeros(1, 3),
            factory="picky:Picky",
            code=[tmp_path / "picky.py"],
        )
        ws = Workspace.load(tmp_path, actor="ada", wait_s=60.0, timeout_s=120.0)
        opened.append(ws)
        ws.register("table", tmp_path / "model", lineage=Lineage())
        ws.promote("table@dev", to="prod")
        ws.apply()
        return ws

    yield make
    for ws in opened:
        ws.down()
        ws.close()
    sys.modules.pop("picky", None)


def asked(ws: Workspace, row: int) -> Any:
    body = json.dumps({"instances": [[row, 0, 0]]}).encode()
    return json.loads(ws.endpoint("table").invoke(body))["predictions"]


def observed(root: Path) -> list[str]:
    found = json.loads((root / ".here/endpoints/table/observed.json").read_bytes())
    return [device for variant in found["variants"] for device in variant["devices"]]


def test_an_endpoint_computes_on_the_gpu(place: Callable[..., Workspace], tmp_path: Path) -> None:
    """Found without a library, given to replicas in turn, told in status and log."""
    count = torch.cuda.device_count()
    assert len(discover({})) == count
    ws = place()
    assert asked(ws, 3) == [[6.0, 7.0]]
    assert sorted(set(observed(tmp_path))) == sorted(discover({}))[:2]
    assert "device is cuda:0" in " ".join(ws.endpoint("table").logs())


def test_a_lost_gpu_costs_one_replica(place: Callable[..., Workspace], tmp_path: Path) -> None:
    """The replica whose GPU failed is replaced, and the other one answers meanwhile."""
    ws = place()
    before = set(pids(tmp_path))
    with suppress(CloudregError):
        asked(ws, 10_000)
    for row in range(10):
        assert asked(ws, row) == [[2.0 * row, 2.0 * row + 1]]
    end = time.monotonic() + 60.0
    while len(now := set(pids(tmp_path))) < 2 or now == before:
        assert time.monotonic() < end, (before, now)
        time.sleep(0.1)
    assert len(now & before) == 1
    assert asked(ws, 4) == [[8.0, 9.0]]


def pids(root: Path) -> list[int]:
    found = json.loads((root / ".here/endpoints/table/observed.json").read_bytes())
    return [pid for variant in found["variants"] for pid in variant["pids"]]


def test_a_gpu_by_its_identity(place: Callable[..., Workspace], tmp_path: Path) -> None:
    """A device may be named as the driver names it, and then it has to be there."""
    identity = f"cuda:GPU-{torch.cuda.get_device_properties(0).uuid}"
    ws = place(f'devices = ["{identity}"]')
    assert asked(ws, 9) == [[18.0, 19.0]]
    assert observed(tmp_path) == [identity, identity]
