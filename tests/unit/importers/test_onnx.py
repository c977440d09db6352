"""An ONNX model describes itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from cloudreg.errors import InvalidRequest
from cloudreg.importers import Description, directory
from cloudreg.manifest import Runtime, Signature, TensorSpec

Export = Callable[..., Path]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Write a model that passes its one input on, and return its file."""

    def make(
        shape: list[int | str] | None = None,
        *,
        dtype: int = TensorProto.FLOAT,
        name: str = "m.onnx",
    ) -> Path:
        shape = ["batch", 3] if shape is None else shape
        x = helper.make_tensor_value_info("x", dtype, shape)
        y = helper.make_tensor_value_info("y", dtype, shape)
        node = helper.make_node("Identity", ["x"], ["y"])
        model = helper.make_model(
            helper.make_graph([node], "g", [x], [y]),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        onnx.save(model, str(tmp_path / name))
        return tmp_path / name

    return make


READERS = [(), ("onnx",)]
"""Modules that are missing: each reader has its turn."""


@pytest.fixture(params=READERS, ids=["onnx", "onnxruntime"])
def _reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in request.param:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("_reader")
@pytest.mark.parametrize(
    ("dtype", "word"),
    [(TensorProto.FLOAT, "float32"), (TensorProto.INT64, "int64"), (TensorProto.BOOL, "bool")],
)
def test_lone_model(export: Export, dtype: int, word: str) -> None:
    """A lone ONNX file is served by ONNX, with the signature that it states itself."""
    path = export(["batch", "length", 3], dtype=dtype)

    assert directory.read(path).description == Description(
        runtime=Runtime(kind="onnx", weights="m.onnx"),
        signature=Signature(
            inputs=(TensorSpec(name="x", dtype=word, shape=(-1, -1, 3)),),
            outputs=(TensorSpec(name="y", dtype=word, shape=(-1, -1, 3)),),
        ),
    )


def test_weights_among_the_inputs(export: Export) -> None:
    """Weights that an old exporter lists as inputs are none."""
    model = onnx.load(str(export()))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))
    path = export()
    onnx.save(model, str(path))

    found = directory.read(path).description.signature

    assert found is not None
    assert [t.name for t in found.inputs] == ["x"]


@pytest.mark.usefixtures("_reader")
@pytest.mark.parametrize("shape", [[4, 3], [1, 3], []])
def test_fixed_batch(export: Export, shape: list[int | str]) -> None:
    """A model that takes one batch size only is refused before it fails under load."""
    with pytest.raises(InvalidRequest, match="it is the batch") as caught:
        directory.read(export(shape))

    assert "dynamic" in str(caught.value.hint)


@pytest.mark.usefixtures("_reader")
def test_types_that_cannot_be_served(export: Export) -> None:
    """A type that no request can carry is refused by its name."""
    with pytest.raises(InvalidRequest, match=r"of type (STRING|string)"):
        directory.read(export(dtype=TensorProto.STRING))


@pytest.mark.usefixtures("_reader")
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 40])
def test_no_model(tmp_path: Path, content: bytes) -> None:
    """A file that only has the name of a model is refused."""
    (tmp_path / "m.onnx").write_bytes(content)

    with pytest.raises(InvalidRequest, match=r"m\.onnx is no ONNX model"):
        directory.read(tmp_path / "m.onnx")


def test_neither_reader(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnx and onnxruntime the signature stays open."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    assert directory.read(export()).description == Description(
        runtime=Runtime(kind="onnx", weights="m.onnx")
    )


def test_two_models(export: Export) -> None:
    """Where there is a choice, nothing is guessed."""
    export(name="other.onnx")

    assert directory.read(export().parent).description == Description()


def test_signature_that_the_description_leaves_open(export: Export) -> None:
    """A description that names the model and no signature gets the model's own."""
    folder = export().parent
    export(name="other.onnx")
    (folder / "model.toml").write_text(
        '[runtime]\nkind = "onnx"\nweights = "m.onnx"\n[labels]\na = "b"\n'
    )

    described = directory.read(folder).description

    assert described.labels == {"a": "b"}
    assert described.signature is not None


def test_description_without_a_runtime(export: Export) -> None:
    """A description that names no runtime is believed: the version is kept, not served."""
    folder = export().parent
    (folder / "model.toml").write_text("")

    described: Any = directory.read(folder).description

    assert described == Description()
