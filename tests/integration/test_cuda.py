"""Model servers and endpoints on a real GPU; without one all of this is skipped."""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloudreg import Workspace
from cloudreg.errors import CloudregError
from cloudreg.importers.torch import save
from cloudreg.manifest import Lineage
from cloudreg_local.devices import discover

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")

_spec = importlib.util.spec_from_file_location(
    "serving_kit", Path(__file__).parents[1] / "unit" / "serving" / "kit.py"
)
assert _spec is not None
assert _spec.loader is not None
kit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kit)

CODE = '''
import torch


class Picky(torch.nn.Module):
    """Gives the row of a table that the first number names; one that is not there ends a GPU."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(20.0).reshape(10, 2))

    def forward(self, x):
        return self.table[x[:, 0].long()]


class Adder(torch.nn.Module):
    """Adds up in an order that a GPU chooses, unless it was told not to."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 100_000))

    def forward(self, x):
        values = x @ self.weight
        where = torch.arange(values.shape[1], device=x.device) % 2
        return torch.zeros(len(x), 2, device=x.device).index_add_(1, where, values)
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
def start() -> Iterator[Callable[..., Any]]:
    """Start model servers that end with the test."""
    made = []

    def begin(version: Any, *argv: str, **env: str) -> Any:
        made.append(kit.Served(version.argv(*argv), env=env))
        return made[-1]

    yield begin
    for server in made:
        server.end()


def version(folder: Path, name: str, state: dict[str, torch.Tensor]) -> Any:
    return kit.torch_version(folder, code=CODE, entrypoint=f"shapes:{name}", state=state)


def test_a_lost_gpu_ends_the_server(start: Callable[..., Any], tmp_path: Path) -> None:
    """After a failed kernel every call would fail: the server says so and ends with its own code.

    The request that did it is answered, or its connection ends: it never hangs.
    """
    table = torch.arange(20.0).reshape(10, 2)
    server = start(version(tmp_path / "v", "Picky", {"table": table})).ready()
    assert server.predict([[7, 0, 0]]) == [[14.0, 15.0]]
    with suppress(OSError, http.client.HTTPException):
        status, _ = server.post("/invocations", {"instances": [[10_000, 0, 0]]})
        assert status >= 500
    assert server.wait(timeout_s=60.0) == 5
    assert "the device answers nothing any more" in server.logs()


def test_the_same_bits(start: Callable[..., Any], tmp_path: Path) -> None:
    """Deterministic, a GPU adds up in one order: the same request has the same bits, always."""
    torch.manual_seed(0)
    state = {"weight": torch.randn(3, 100_000)}
    server = start(version(tmp_path / "v", "Adder", state), "--deterministic").ready()
    rows = np.random.default_rng(0).normal(size=(4, 3)).tolist()
    answers = {json.dumps(server.predict(rows)) for _ in range(50)}
    assert len(answers) == 1


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
