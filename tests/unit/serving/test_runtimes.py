from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cloudreg.manifest import Runtime, Signature
from cloudreg.serving.checks import ModelFault
from cloudreg.serving.runtimes import Compute, LoadFailed, load
from cloudreg.serving.runtimes.torch import TorchRuntime, fill

CPU = Compute(device="cpu")
pytestmark = pytest.mark.usefixtures("imports")


def ready(version: Any, compute: Compute = CPU) -> Any:
    return load(version.folder, version.manifest, compute=compute)


def test_torch_is_bare_torch(kit: ModuleType, tmp_path: Path) -> None:
    """The runtime computes what the module computes, to the bit for the same batch."""
    version = kit.torch_version(tmp_path / "v", "Line")
    torch.manual_seed(0)
    bare = kit.factory("Line")().eval()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    with torch.inference_mode():
        wanted = bare(torch.from_numpy(x)).numpy()
    got = ready(version).predict({"x": x})
    assert np.array_equal(got["y"], wanted)


def test_torch_made_deterministic(kit: ModuleType, tmp_path: Path) -> None:
    """On request torch itself refuses algorithms whose sums have no fixed order."""
    threads = torch.get_num_threads()
    try:
        runtime = ready(kit.torch_version(tmp_path / "v"), Compute(deterministic=True, threads=1))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1
        x = {"x": np.ones((2, 3), np.float32)}
        assert np.array_equal(runtime.predict(x)["y"], runtime.predict(x)["y"])
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)


def test_read_only_and_crooked_bytes(kit: ModuleType, tmp_path: Path) -> None:
    """Bytes as a request brings them, not writable and not aligned, are taken."""
    runtime = ready(kit.torch_version(tmp_path / "v"))
    x = np.ones((2, 3), np.float32)
    crooked = np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1, count=6).reshape(2, 3)
    assert np.array_equal(runtime.predict({"x": crooked})["y"], runtime.predict({"x": x})["y"])


def test_inputs_by_name_and_by_position(kit: ModuleType, tmp_path: Path) -> None:
    """Names of the signature are used where forward has them, else their order."""
    x = {"left": np.ones((2, 2), np.float32), "right": np.array([1, 2])}
    by_name = ready(kit.torch_version(tmp_path / "v", "Pair", signature=kit.PAIR))
    assert by_name.predict(x)["total"].tolist() == [[2, 2], [3, 3]]
    assert by_name.predict(x)["even"].tolist() == [False, True]
    other = Signature(
        inputs=(kit.tensor("a", "float32", -1, 2), kit.tensor("b", "int64", -1)),
        outputs=kit.PAIR.outputs,
    )
    module = kit.factory("Pair")()
    by_position = TorchRuntime(module, other, torch.device("cpu"))
    assert by_position.predict({"a": x["left"], "b": x["right"]})["even"].tolist() == [False, True]
    with pytest.raises(LoadFailed, match="does not take the inputs x"):
        TorchRuntime(module, kit.LINE, torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("linear.bias"), "it lacks linear.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "the module has no extra"),
        (lambda s: s.update({"linear.bias": torch.zeros(3)}), r"float32 \[3\].*float32 \[2\]"),
        (
            lambda s: s.update({"linear.bias": torch.zeros(2, dtype=torch.float64)}),
            r"linear.bias is float64 \[2\], the module wants float32 \[2\]",
        ),
    ],
)
def test_weights_are_the_modules_own(
    kit: ModuleType, tmp_path: Path, change: Any, said: str
) -> None:
    """A tensor too many, too few, or of another type or shape ends the load."""
    state = dict(kit.factory("Line")().state_dict())
    change(state)
    with pytest.raises(LoadFailed, match=said):
        ready(kit.torch_version(tmp_path / "v", state=state))


def test_tied_weights_stand_in_the_file_once(kit: ModuleType, tmp_path: Path) -> None:
    """A tensor that the module has under two names needs only one of them."""
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight
    state = {k: v for k, v in module.state_dict().items() if k != "b.weight"}
    kit.save_file({k: torch.full_like(v, 3.0) for k, v in state.items()}, tmp_path / "w")
    fill(module, tmp_path / "w")
    assert module["b"].weight.unique().tolist() == [3.0]


def test_no_pickle_by_another_name(tmp_path: Path) -> None:
    """A pickle that is called safetensors is not read."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(LoadFailed, match="not a safetensors file"):
        fill(torch.nn.Linear(1, 1), tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entrypoint": "shapes:none"}, "returned a NoneType, not a torch.nn.Module"),
        ({"entrypoint": "shapes:absent"}, "no function absent"),
        ({"entrypoint": "absent_module:x"}, "no module absent_module"),
        ({"code": "import no_such_library\n"}, "no module no_such_library"),
        ({"more": {"code/json.py": b""}}, "hides Python's own json"),
        ({"entrypoint": "numpy:x", "more": {"code/numpy.py": b""}}, "code/numpy is hidden by"),
    ],
)
def test_factories_that_make_no_module(
    kit: ModuleType, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """What is wrong with the version's code is said in one line."""
    with pytest.raises(LoadFailed, match=said):
        ready(kit.torch_version(tmp_path / "v", **changes))


def test_the_versions_own_code_comes_first(kit: ModuleType, tmp_path: Path) -> None:
    """Packages of the version are imported from its code folder, and no byte code is left."""
    version = kit.torch_version(
        tmp_path / "v",
        entrypoint="pack.inner:make",
        more={
            "code/pack/__init__.py": b"",
            "code/pack/inner.py": b"from shapes import Line\ndef make():\n    return Line()\n",
        },
    )
    before = sorted(version.folder.rglob("*"))
    ready(version)
    assert sys.modules["pack.inner"].__file__ == str(version.folder / "code/pack/inner.py")
    assert sorted(version.folder.rglob("*")) == before


class Gives(torch.nn.Module):
    """Gives what it is told."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "a NoneType"),
        ((torch.zeros(1), torch.zeros(1)), "a tuple of 2"),
        ({"z": torch.zeros(1)}, r"\['z'\], not y"),
        ([3.0], "output y is a float"),
        (torch.zeros(1, 2, dtype=torch.bfloat16), "bfloat16"),
    ],
)
def test_outputs_that_fit_no_signature(kit: ModuleType, answer: Any, said: str) -> None:
    """What cannot be mapped to the signature is a fault that says what came."""
    runtime = TorchRuntime(Gives(answer), kit.LINE, torch.device("cpu"))
    with pytest.raises(ModelFault, match=said):
        runtime.predict({"x": np.zeros((1, 3), np.float32)})


def test_more_by_name_than_is_asked(kit: ModuleType) -> None:
    """A dictionary may hold more than the signature names."""
    answer = {"hidden": None, "y": torch.zeros(1, 2)}
    runtime = TorchRuntime(Gives(answer), kit.LINE, torch.device("cpu"))
    assert list(runtime.predict({"x": np.zeros((1, 3), np.float32)})) == ["y"]


def test_devices_that_are_not_there(kit: ModuleType, tmp_path: Path) -> None:
    """A device that nobody has is refused by name, never replaced."""
    count = torch.cuda.device_count()
    with pytest.raises(LoadFailed, match=f"device cuda:{count}"):
        ready(kit.torch_version(tmp_path / "v"), Compute(device=f"cuda:{count}"))


@pytest.mark.parametrize("runtime", [None, Runtime(kind="custom")])
def test_runtimes_of_others(kit: ModuleType, tmp_path: Path, runtime: Runtime | None) -> None:
    """A version that needs an image of its own is refused."""
    version = kit.write(tmp_path, files={"a": b""}, runtime=runtime, signature=kit.LINE)
    with pytest.raises(LoadFailed, match="is not served here"):
        ready(version)


def test_onnx_computes(kit: ModuleType, tmp_path: Path) -> None:
    """The graph's answer is NumPy's, within the tolerance of `kit.close`."""
    version = kit.onnx_version(tmp_path / "v")
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    wanted = x @ np.arange(6, dtype=np.float32).reshape(3, 2) + np.array([1, -1], np.float32)
    for compute in (CPU, Compute(device="auto", threads=1, deterministic=True)):
        runtime = ready(version, compute)
        assert runtime.device == "cpu"
        assert kit.close(runtime.predict({"x": x})["y"], wanted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": "pq"}, "the graph's inputs are p; the signature says x"),
        ({"names": "xq"}, "the graph's outputs are q; the signature says y"),
        ({"batch": 1}, r"x of the graph is float32 \[1, 3\]"),
    ],
)
def test_graphs_of_another_signature(
    kit: ModuleType, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """A graph whose names or shapes differ from the signature ends the load."""
    with pytest.raises(LoadFailed, match=said):
        ready(kit.onnx_version(tmp_path / "v", kit.graph(**changes)))


def test_not_onnx(kit: ModuleType, tmp_path: Path) -> None:
    """Bytes that are no graph end the load."""
    with pytest.raises(LoadFailed, match="Protobuf parsing failed"):
        ready(kit.onnx_version(tmp_path / "v", b"not a graph"))
