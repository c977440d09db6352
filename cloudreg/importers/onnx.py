"""What an ONNX model says about its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cloudreg.errors import InvalidRequest
from cloudreg.manifest import Signature, TensorSpec

_DTYPES = {
    "FLOAT": "float32", "float": "float32",
    "DOUBLE": "float64", "double": "float64",
    "FLOAT16": "float16", "float16": "float16",
    "BOOL": "bool", "bool": "bool",
    "INT8": "int8", "int8": "int8",
    "INT16": "int16", "int16": "int16",
    "INT32": "int32", "int32": "int32",
    "INT64": "int64", "int64": "int64",
    "UINT8": "uint8", "uint8": "uint8",
    "UINT16": "uint16", "uint16": "uint16",
    "UINT32": "uint32", "uint32": "uint32",
    "UINT64": "uint64", "uint64": "uint64",
}  # fmt: skip
"""Element types as `onnx` and as `onnxruntime` spell them, to NumPy's words."""

Tensor = tuple[str, str, list[int | None]]
"""Name, element type, and sizes: None where any size goes."""


def signature(path: Path) -> Signature | None:
    """Read the signature of an ONNX file; None where neither onnx nor onnxruntime is installed.

    Raises:
        InvalidRequest: It is no ONNX model, or has an input or output that cannot be served.
    """
    for reader in (_with_onnx, _with_onnxruntime):
        try:
            inputs, outputs = reader(path)
        except ModuleNotFoundError:
            continue
        return Signature(
            inputs=tuple(_spec(tensor, "input", path) for tensor in inputs),
            outputs=tuple(_spec(tensor, "output", path) for tensor in outputs),
        )
    return None


def _with_onnx(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    import onnx

    try:
        # The weights beside the file are not needed for what it says about itself.
        graph = onnx.load(str(path), load_external_data=False).graph
    # protobuf's error has no name that can be imported without protobuf's own module.
    except Exception as error:
        raise InvalidRequest(f"{path.name} is no ONNX model: {error}") from error
    if not graph.output:
        raise InvalidRequest(f"{path.name} is no ONNX model: it has no outputs")
    # Old exporters list the weights among the inputs.
    weights = {tensor.name for tensor in graph.initializer}

    def tensors(values: Iterable[Any]) -> list[Tensor]:
        return [
            (
                value.name,
                onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
                [
                    dim.dim_value if dim.HasField("dim_value") else None
                    for dim in value.type.tensor_type.shape.dim
                ],
            )
            for value in values
        ]

    return tensors(v for v in graph.input if v.name not in weights), tensors(graph.output)


def _with_onnxruntime(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # Its exceptions share no base class but this one.
    except Exception as error:
        raise InvalidRequest(f"{path.name} is no ONNX model that can be run: {error}") from error

    def tensors(values: Iterable[Any]) -> list[Tensor]:
        return [
            (
                value.name,
                value.type.removeprefix("tensor(").removesuffix(")"),
                [dim if isinstance(dim, int) else None for dim in value.shape],
            )
            for value in values
        ]

    return tensors(session.get_inputs()), tensors(session.get_outputs())


def _spec(tensor: Tensor, side: str, path: Path) -> TensorSpec:
    name, kind, sizes = tensor
    hint = "describe the version in a model.toml"
    if kind not in _DTYPES:
        raise InvalidRequest(
            f"{path.name}: {side} {name} is of type {kind}, which cannot be served", hint=hint
        )
    if not sizes or sizes[0] is not None:
        shown = [size if size is not None else "any" for size in sizes]
        raise InvalidRequest(
            f"{path.name}: {side} {name} has the shape {shown}: its first dimension must take any "
            "size, since it is the batch",
            hint="export it with a dynamic first axis (dynamic_axes or dynamic_shapes)",
        )
    rest = (size if size is not None else -1 for size in sizes[1:])
    return TensorSpec(name=name, dtype=_DTYPES[kind], shape=(-1, *rest))
