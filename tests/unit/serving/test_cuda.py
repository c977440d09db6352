"""The runtimes on a real GPU; without one all of this is skipped, and the summary says so."""

from __future__ import annotations

import json
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cloudreg.catalog.gpus import gpus
from cloudreg.manifest import Signature
from cloudreg.serving.checks import ModelFault
from cloudreg.serving.runtimes import Compute, LoadFailed, load

pytestmark = [
    pytest.mark.usefixtures("imports"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees"),
]

GREEDY = """
import torch


class Greedy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3, 2))

    def forward(self, x):
        gigabytes = int(x[0, 1])
        if gigabytes:
            torch.empty(gigabytes << 30, dtype=torch.uint8, device=x.device)
        return x @ self.scale
"""

HASTY = '''
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


def ready(version: Any, device: str = "cuda") -> Any:
    return load(version.folder, version.manifest, compute=Compute(device=device))


def test_the_gpu_computes_what_the_cpu_does(kit: ModuleType, tmp_path: Path) -> None:
    """Full float32, whatever the card could do faster: TensorFloat-32 would be a thousand off."""
    size = 2048
    signature = Signature(
        inputs=(kit.tensor("features", "float32", -1, size),),
        outputs=(kit.tensor("y", "float32", -1, 8),),
    )
    version = kit.torch_version(
        tmp_path / "v",
        "Plain",
        signature=signature,
        arguments={"features": size, "classes": 8},
    )
    # Large sums in the first layer: what rounding does to their products shows in the answer.
    rows = np.random.default_rng(0).normal(size=(256, size)).astype(np.float32) * 30
    on_cpu, on_gpu = ready(version, "cpu"), ready(version)
    assert on_gpu.device.startswith("cuda")
    wanted, found = (r.predict({"features": rows})["y"] for r in (on_cpu, on_gpu))
    assert kit.close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.set_float32_matmul_precision("high")
    try:
        coarse = on_gpu.predict({"features": rows})["y"]
    finally:
        torch.set_float32_matmul_precision("highest")
    if torch.cuda.get_device_capability() >= (8, 0):
        assert not kit.close(coarse, wanted, rtol=1e-4, atol=1e-5), "the test could not fail"


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_the_gpu_is_taken(kit: ModuleType, tmp_path: Path, device: str) -> None:
    """Without a word the GPU is taken, and weights, inputs and answers of all types pass."""
    version = kit.torch_version(tmp_path / "v", "Pair", signature=kit.PAIR)
    runtime = ready(version, device)
    assert runtime.device.startswith("cuda")
    found = runtime.predict({"left": np.ones((3, 2), np.float32), "right": np.arange(3)})
    assert found["total"].tolist() == [[1, 1], [2, 2], [3, 3]]
    assert found["even"].tolist() == [True, False, True]


def test_a_gpu_too_many(kit: ModuleType, tmp_path: Path) -> None:
    """Beyond the last there is none, and the error says how many there are."""
    count = torch.cuda.device_count()
    with pytest.raises(LoadFailed, match=f"cuda:{count}: torch sees {count}"):
        ready(kit.torch_version(tmp_path / "v"), f"cuda:{count}")


def test_more_memory_than_there_is(kit: ModuleType, tmp_path: Path) -> None:
    """A request that the memory has no room for fails alone; the device goes on."""
    version = kit.torch_version(
        tmp_path / "v",
        code=GREEDY,
        entrypoint="shapes:Greedy",
        state={"scale": torch.ones(3, 2)},
    )
    runtime = ready(version)
    total = torch.cuda.get_device_properties(0).total_memory >> 30
    with pytest.raises(torch.OutOfMemoryError):
        runtime.predict({"x": np.array([[0, total * 2, 0]], np.float32)})
    assert runtime.predict({"x": np.array([[1, 0, 2]], np.float32)})["y"].tolist() == [[3, 3]]


def test_a_stream_from_the_gpu(kit: ModuleType, tmp_path: Path) -> None:
    """Pieces come one after another, each in the memory of the host."""
    runtime = ready(kit.torch_version(tmp_path / "v"))
    pieces = list(runtime.stream({"x": np.array([[0, 3, 0]], np.float32)}))
    assert [piece["y"].shape for piece in pieces] == [(1, 2)] * 3
    assert kit.close(pieces[2]["y"], pieces[0]["y"] + 2)


def test_half_precision(kit: ModuleType, tmp_path: Path) -> None:
    """float16 is answered as it is; bfloat16, which no answer can carry, is refused by name."""
    for dtype, name in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16")):
        code = f"""
import torch


class Half(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2).to(torch.{name})

    def forward(self, x):
        return self.linear(x.to(torch.{name}))
"""
        linear = torch.nn.Linear(3, 2).to(dtype)
        state = linear.state_dict(prefix="linear.")
        half = kit.torch_version(
            tmp_path / name,
            code=code,
            # A module of its own: the other one stays imported.
            entrypoint=f"shapes_{name}:Half",
            state=state,
            more={f"code/shapes_{name}.py": code.encode()},
            signature=Signature(
                inputs=kit.LINE.inputs, outputs=(kit.tensor("y", "float16", -1, 2),)
            ),
        )
        x = {"x": np.ones((2, 3), np.float32)}
        if dtype is torch.float16:
            assert ready(half).predict(x)["y"].dtype == np.float16
        else:
            with pytest.raises(ModelFault, match="y is bfloat16"):
                ready(half).predict(x)


def test_a_lost_gpu_ends_the_server(kit: ModuleType, tmp_path: Path) -> None:
    """After a failed kernel every call would fail: the server says so and ends with its own code.

    The request that did it is answered, or its connection ends: it never hangs.
    """
    table = {"table": torch.arange(20.0).reshape(10, 2)}
    version = kit.torch_version(tmp_path / "v", code=HASTY, entrypoint="shapes:Picky", state=table)
    with kit.Served(version.argv()) as server:
        server.ready()
        assert server.predict([[7, 0, 0]]) == [[14.0, 15.0]]
        with suppress(OSError, HTTPException):
            status, _ = server.post("/invocations", {"instances": [[10_000, 0, 0]]})
            assert status >= 500
        assert server.wait(timeout_s=60.0) == 5
        assert "the device answers nothing any more" in server.logs()


def test_the_same_bits(kit: ModuleType, tmp_path: Path) -> None:
    """Deterministic, a GPU adds up in one order: the same request has the same bits, always."""
    torch.manual_seed(0)
    state = {"weight": torch.randn(3, 100_000)}
    version = kit.torch_version(tmp_path / "v", code=HASTY, entrypoint="shapes:Adder", state=state)
    rows = np.random.default_rng(0).normal(size=(4, 3)).tolist()
    with kit.Served(version.argv("--deterministic")) as server:
        server.ready()
        answers = {json.dumps(server.predict(rows)) for _ in range(50)}
    assert len(answers) == 1


def test_what_the_catalogue_says_of_this_card() -> None:
    """Memory, less what the driver keeps, and compute capability are those of the real card."""
    card = torch.cuda.get_device_properties(0)
    words = card.name.replace("-", " ").split()
    named = [gpu for gpu in gpus().values() if gpu.name.partition("-")[0] in words]
    if not named:
        pytest.skip(f"the catalogue has no {card.name}")
    memory = card.total_memory / 2**30
    fitting = [gpu for gpu in named if 0.9 * gpu.memory_gib <= memory <= 1.02 * gpu.memory_gib]
    assert fitting, f"{card.name} has {memory:.1f} GiB, the catalogue says {named}"
    assert {gpu.capability for gpu in fitting} == {(card.major, card.minor)}
