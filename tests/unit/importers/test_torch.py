"""A torch module becomes a folder from which the same module can be made again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cloudreg.errors import AlreadyExists, InvalidRequest
from cloudreg.importers import Description, directory
from cloudreg.importers.torch import save
from cloudreg.manifest import ModelCard, Runtime, Signature, TensorSpec

X = torch.linspace(-1, 1, 6).reshape(2, 3)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """Where to save."""
    return tmp_path / "out" / "model"


@pytest.fixture
def refused(dest: Path) -> Callable[..., InvalidRequest]:
    """Save, and return the refusal; nothing is left behind."""

    def attempt(module: torch.nn.Module, **arguments: Any) -> InvalidRequest:
        with pytest.raises(InvalidRequest) as caught:
            save(module, dest, **{"sample": X, **arguments})
        assert not dest.parent.exists() or not list(dest.parent.iterdir())
        return caught.value

    return attempt


def test_folder(nets: ModuleType, code: Path, dest: Path) -> None:
    """The folder holds weights, code, description and warm-up, and can be registered."""
    module = nets.Net(hidden=8)
    card = ModelCard(intended_use='Calls.\n"Not" prices.')

    path = save(
        module,
        dest,
        sample=X,
        factory=nets.Net,
        arguments={"hidden": 8},
        outputs=["probability"],
        code=[code],
        metrics={"val_auc": 0.91},
        card=card,
        labels={"team": "growth"},
    )

    source = directory.read(path)
    assert [f.path for f in source.files] == [
        "code/small_nets.py",
        "model.safetensors",
        "warmup.json",
    ]
    assert source.description == Description(
        runtime=Runtime(
            kind="torch",
            entrypoint="small_nets:Net",
            arguments={"hidden": 8},
            weights="model.safetensors",
        ),
        signature=Signature(
            inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 3)),),
            outputs=(TensorSpec(name="probability", dtype="float32", shape=(-1,)),),
        ),
        metrics={"val_auc": 0.91},
        card=card,
        labels={"team": "growth"},
    )
    assert json.loads((path / "warmup.json").read_text()) == {"instances": X.tolist()}
    state = load_file(path / "model.safetensors")
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


def test_nothing_else_changes(nets: ModuleType, code: Path, dest: Path) -> None:
    """Saving leaves modes, random numbers, paths and loaded modules as they were."""
    module = nets.Net()
    module.body.eval()
    torch.manual_seed(3)
    state, path = torch.get_rng_state(), list(sys.path)

    save(module, dest, sample=X, factory="small_nets:Net", code=[code])

    assert (module.training, module.body.training, module.body[1].training) == (True, False, False)
    assert torch.equal(torch.get_rng_state(), state)
    assert sys.path == path
    assert sys.modules["small_nets"] is nets
    assert not list(code.parent.rglob("__pycache__"))
    assert not list(dest.rglob("__pycache__"))


def test_several_inputs_and_a_mapping(nets: ModuleType, dest: Path) -> None:
    """Inputs go by name, a mapping's outputs by key, and instances are objects."""
    sample = {"ids": torch.tensor([[1, 2], [3, 4]]), "mask": torch.ones(2, 2)}
    wide = TensorSpec(name="vectors", dtype="float32", shape=(-1, -1, 4))

    save(
        nets.Two(),
        dest,
        sample=sample,
        factory="small_nets:Two",
        inputs=[TensorSpec(name="ids", dtype="int64", shape=(-1, -1)), "mask"],
        outputs=[wide, "length"],
    )

    signature = directory.read(dest).description.signature
    assert signature is not None
    assert [str(t) for t in signature.inputs] == ["ids: int64 [-1, -1]", "mask: float32 [-1, 2]"]
    assert [str(t) for t in signature.outputs] == [
        "vectors: float32 [-1, -1, 4]",
        "length: float32 [-1]",
    ]
    assert json.loads((dest / "warmup.json").read_text()) == {
        "instances": [{"ids": [1, 2], "mask": [1.0, 1.0]}, {"ids": [3, 4], "mask": [1.0, 1.0]}]
    }


def test_positional_inputs_and_a_tuple(nets: ModuleType, dest: Path) -> None:
    """Inputs that the module does not name go by position; a tuple's outputs are numbered."""
    save(nets.Positional(), dest, sample={"a": X, "b": X.flip(1)}, factory=nets.Positional)

    signature = directory.read(dest).description.signature
    assert signature is not None
    assert [str(t) for t in signature.outputs] == [
        "output_0: float32 [-1, 3]",
        "output_1: bool [-1, 3]",
    ]


def test_named_tuple(nets: ModuleType, dest: Path) -> None:
    """A named tuple's outputs have its names."""
    save(nets.Named(), dest, sample=X, factory=nets.Named)

    signature = directory.read(dest).description.signature
    assert signature is not None
    assert [str(t) for t in signature.outputs] == ["score: float32 [-1]", "label: int64 [-1]"]


def test_one_output(nets: ModuleType, dest: Path) -> None:
    """A bare tensor is called output."""
    save(nets.Hidden(), dest, sample=X, factory=nets.Hidden)

    signature = directory.read(dest).description.signature
    assert signature is not None
    assert [str(t) for t in signature.outputs] == ["output: float32 [-1, 3]"]


def test_tied_weights(nets: ModuleType, dest: Path) -> None:
    """Weights that share memory are written under each name, and stay tied when loaded."""
    module = nets.Tied()

    save(module, dest, sample=X, factory=nets.tied)

    state = load_file(dest / "model.safetensors")
    assert sorted(state) == ["decode.weight", "encode.weight", "part", "whole"]
    other = nets.Tied()
    other.load_state_dict(state, strict=True)
    assert torch.equal(other(X), module(X))
    assert other.decode.weight is other.encode.weight


def test_random_module(nets: ModuleType, dest: Path) -> None:
    """A module that draws random numbers is compared with the same ones."""
    save(nets.Noisy(), dest, sample=X, factory=nets.Noisy)

    assert (dest / "model.toml").exists()


def test_warmup_is_small(nets: ModuleType, dest: Path) -> None:
    """A large sample does not become a large version."""
    save(nets.Hidden(), dest, sample=torch.zeros(500, 3), factory=nets.Hidden)

    assert len(json.loads((dest / "warmup.json").read_text())["instances"]) == 8


def test_saving_again(nets: ModuleType, code: Path, dest: Path) -> None:
    """A folder of an earlier save is replaced whole."""
    save(nets.Net(), dest, sample=X, factory=nets.Net, code=[code])
    save(nets.Hidden(), dest, sample=X, factory=nets.Hidden)

    assert [f.path for f in directory.read(dest).files] == ["model.safetensors", "warmup.json"]
    assert [p.name for p in dest.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["thesis.tex", "model.safetensors"])
def test_foreign_folder(nets: ModuleType, dest: Path, name: str) -> None:
    """A folder that no save wrote is left alone."""
    dest.mkdir(parents=True)
    (dest / name).write_text("precious")

    with pytest.raises(AlreadyExists):
        save(nets.Hidden(), dest, sample=X, factory=nets.Hidden)

    assert [p.name for p in dest.iterdir()] == [name]


def test_failed_save_keeps_the_old_folder(nets: ModuleType, dest: Path) -> None:
    """A refusal leaves the earlier folder as it was."""
    save(nets.Hidden(), dest, sample=X, factory=nets.Hidden)
    before = (dest / "model.toml").read_bytes()

    with pytest.raises(InvalidRequest):
        save(nets.Net(), dest, sample=X, factory=nets.Hidden)

    assert (dest / "model.toml").read_bytes() == before
    assert [p.name for p in dest.parent.iterdir()] == ["model"]


def test_package_as_code(nets: ModuleType, code: Path, dest: Path) -> None:
    """A package is copied whole, junk left out, and its own modules find each other."""
    package = code.parent / "nets_package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__" / "x.pyc").write_bytes(b"x")
    (package / "__init__.py").write_text("from nets_package.parts import build\n")
    (package / "parts.py").write_text(
        "import small_nets\ndef build():\n    return small_nets.Hidden()\n"
    )

    save(nets.Hidden(), dest, sample=X, factory="nets_package:build", code=[package, code])

    assert [f.path for f in directory.read(dest).files] == [
        "code/nets_package/__init__.py",
        "code/nets_package/parts.py",
        "code/small_nets.py",
        "model.safetensors",
        "warmup.json",
    ]
    assert "nets_package" not in sys.modules


class Local(torch.nn.Identity):
    """A module of this file, which no server can import."""


def test_factories_that_cannot_be_imported(
    nets: ModuleType, refused: Callable[..., InvalidRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factory must be at the top of a module that can be found."""
    module = nets.Hidden()

    assert "cannot be imported" in refused(module, factory=lambda: module).message
    assert "cannot be imported" in refused(module, factory="no_such_module:build").message
    assert "no_such" in refused(module, factory="small_nets:no_such").message
    assert "is not module:factory" in refused(module, factory="small_nets").message
    assert "has no name" in refused(module, factory=torch.nn.Identity()).message
    monkeypatch.setattr(Local, "__module__", "__main__")
    refusal = refused(module, factory=Local)
    assert "__main__:Local" in refusal.message
    assert "module of its own" in str(refusal.hint)


@pytest.mark.parametrize(
    ("factory", "arguments", "reason"),
    [
        ("none", {}, "returned a NoneType, not a torch.nn.Module"),
        ("broken", {}, "fails: RuntimeError: no such file"),
        ("Net", {"depth": 3}, "fails: TypeError"),
        ("Net", {"hidden": 5}, "makes another module"),
        ("Hidden", {}, "makes another module"),
        ("Net", {"hidden": None}, "arguments.hidden is None"),
        ("Net", {"hidden": float("nan")}, "not plain JSON"),
        ("Net", {"hidden": X}, "not plain JSON"),
    ],
)
def test_factories_that_make_something_else(
    nets: ModuleType,
    refused: Callable[..., InvalidRequest],
    factory: str,
    arguments: dict[str, Any],
    reason: str,
) -> None:
    """A factory that does not make the module is refused with what it makes."""
    refusal = refused(nets.Net(), factory=f"small_nets:{factory}", arguments=arguments)

    assert reason in refusal.message


def test_state_outside_the_weights(
    nets: ModuleType, refused: Callable[..., InvalidRequest]
) -> None:
    """A module whose answers depend on a plain attribute is refused: it would be lost."""
    module = nets.Hidden()
    module.factor = 2.0

    assert "do not give the module's own answer" in refused(module, factory=nets.Hidden).message


def test_other_precision(nets: ModuleType, refused: Callable[..., InvalidRequest]) -> None:
    """Weights are not converted without a word."""
    refusal = refused(nets.Net().double(), sample=X.double(), factory=nets.Net)

    assert "as float32, the module has float64" in refusal.message


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("3", "output output is a int, not a tensor"),
        ("{'a': None}", "output a is a NoneType"),
        ("x.sum()", "a batch must come first"),
        ("x.bfloat16()", "is bfloat16, which no request can carry"),
        ("x / 0 - x / 0", "holds NaN or infinity"),
        ("x[:1]", "a row for each row of the inputs is needed"),
        ("x.T", "a row for each row of the inputs is needed"),
        ("()", "outputs is empty"),
        ("x @ x", "the module fails on the sample: RuntimeError"),
    ],
)
def test_answers_that_cannot_be_served(
    nets: ModuleType, refused: Callable[..., InvalidRequest], what: str, reason: str
) -> None:
    """What no answer could carry is refused where the module is made."""
    refusal = refused(nets.Gives(what), factory="small_nets:Gives", arguments={"what": what})

    assert reason in refusal.message


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sample": {}}, "the sample is empty"),
        ({"sample": torch.tensor(1.0)}, "a batch must come first"),
        ({"sample": X[:0]}, "a batch must come first"),
        ({"sample": X.to(torch.complex64)}, "complex64, which no request can carry"),
        ({"sample": X / 0}, "holds NaN or infinity"),
        ({"sample": {"x": [1]}}, "sample x is a list, not a tensor"),
        ({"sample": {"x": X, "y": X[:1]}}, "batches differ: {'x': 2, 'y': 1}"),
        ({"sample": {"x": X, "y": X}}, "does not take the inputs x, y"),
        ({"inputs": ["a", "b"]}, "inputs ['a', 'b'] are not those of the sample, ['a']"),
        ({"outputs": ["a", "b"]}, "the module gives 1 outputs, and ['a', 'b'] are named"),
        (
            {"inputs": [TensorSpec(name="x", dtype="float32", shape=(-1, 4))]},
            "x: float32 [-1, 4] was said, and x: float32 [-1, 3] is what the module shows",
        ),
        (
            {"outputs": [TensorSpec(name="y", dtype="float64", shape=(-1, 3))]},
            "y: float64 [-1, 3] was said, and y: float32 [-1, 3] is what the module shows",
        ),
        ({"metrics": {"auc": float("nan")}}, "metric 'auc' is nan"),
    ],
)
def test_wrong_requests(
    nets: ModuleType,
    refused: Callable[..., InvalidRequest],
    arguments: dict[str, Any],
    reason: str,
) -> None:
    """A sample, a name or a number that cannot be right is refused."""
    assert reason in refused(nets.Hidden(), factory=nets.Hidden, **arguments).message


def test_missing_key(nets: ModuleType, refused: Callable[..., InvalidRequest]) -> None:
    """An output that the module's mapping lacks is refused by its name."""
    sample = {"ids": torch.ones(1, 2, dtype=torch.int64), "mask": torch.ones(1, 2)}

    refusal = refused(nets.Two(), sample=sample, factory=nets.Two, outputs=["score"])

    assert "no 'score'" in refusal.message


def test_weights_without_memory(nets: ModuleType, refused: Callable[..., InvalidRequest]) -> None:
    """Weights that are only promised cannot be written."""
    module = nets.Hidden()
    module.register_buffer("promised", torch.zeros(2, device="cpu").to_sparse())

    assert (
        "promised of the module has no plain memory" in refused(module, factory=nets.Hidden).message
    )


@pytest.mark.parametrize("name", ["json.py", "random"])
def test_code_that_hides_python(
    nets: ModuleType, tmp_path: Path, refused: Callable[..., InvalidRequest], name: str
) -> None:
    """Code must not take the place of Python's own modules."""
    (tmp_path / name).write_text("x = 1")

    refusal = refused(nets.Hidden(), factory=nets.Hidden, code=[tmp_path / name])

    assert "hide Python's own" in refusal.message


def test_code_given_twice(
    nets: ModuleType, code: Path, refused: Callable[..., InvalidRequest]
) -> None:
    """Two pieces of code of one name are refused."""
    refusal = refused(nets.Hidden(), factory=nets.Hidden, code=[code, code])

    assert "small_nets.py is given twice" in refusal.message


SCRIPT = """
import small_nets, torch
from cloudreg.errors import InvalidRequest
from cloudreg.importers.torch import save

module, sample = small_nets.Hidden(), torch.ones(2, 3)
try:
    save(module, "refused", sample=sample, factory=small_nets.Hidden)
except InvalidRequest as error:
    print(error)
save(module, "model", sample=sample, factory=small_nets.Hidden, code=["small_nets.py"])
save(module, "again", sample=sample, factory="torch.nn:Identity")
"""


def test_code_beside_the_script(code: Path) -> None:
    """Code that only the running script sees is refused until it is given along."""
    (code.parent / "train.py").write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=code.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "cannot be imported: ModuleNotFoundError: No module named 'small_nets'" in done.stdout
    assert {p.parent.name for p in code.parent.glob("*/model.toml")} == {"again", "model"}
