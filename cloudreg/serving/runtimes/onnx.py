"""ONNX: the graph and its weights in one file, through onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cloudreg.manifest import Manifest, TensorSpec
from cloudreg.serving.checks import Array, ModelFault, Tensors
from cloudreg.serving.runtimes import Compute, LoadFailed

TYPES = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


class OnnxRuntime:
    """An onnxruntime session."""

    streams = False

    def __init__(self, session: Any, outputs: list[str], device: str) -> None:
        """Keep the session and the names that are asked of it."""
        self.device = device
        self._session = session
        self._outputs = outputs

    def predict(self, inputs: Mapping[str, Array]) -> Tensors:
        """Return the outputs, as many rows as the inputs have."""
        feed = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        given = self._session.run(self._outputs, feed)
        for name, value in zip(self._outputs, given, strict=True):
            if not isinstance(value, np.ndarray):
                raise ModelFault(f"output {name} is a {type(value).__name__}, not a tensor")
        return dict(zip(self._outputs, given, strict=True))

    def stream(self, inputs: Mapping[str, Array]) -> Iterator[Tensors]:
        """Yield the one answer; a graph has no way to give pieces."""
        yield self.predict(inputs)


def load(folder: Path, manifest: Manifest, *, compute: Compute) -> OnnxRuntime:
    """Return the session of *folder*.

    Raises:
        LoadFailed: The graph or the device are not what the manifest says.
    """
    runtime, signature = manifest.runtime, manifest.signature
    assert runtime is not None
    assert signature is not None
    assert runtime.weights is not None
    providers, device = _providers(compute.device)
    options = onnxruntime.SessionOptions()
    if compute.threads is not None or compute.deterministic:
        options.intra_op_num_threads = compute.threads or 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = compute.deterministic
    try:
        session = onnxruntime.InferenceSession(
            str(folder / runtime.weights), options, providers=providers
        )
    except Exception as error:  # onnxruntime has a class for each status, and no root of its own
        raise LoadFailed(f"{runtime.weights}: {error}") from error
    if device != "cpu" and "CUDAExecutionProvider" not in session.get_providers():
        # onnxruntime only logs it, and computes on the CPU.
        raise LoadFailed(f"device {compute.device}: onnxruntime cannot use CUDA here; see its log")
    _compare("inputs", signature.inputs, session.get_inputs(), exact=True)
    _compare("outputs", signature.outputs, session.get_outputs(), exact=False)
    return OnnxRuntime(session, [spec.name for spec in signature.outputs], device)


def _providers(device: str) -> tuple[list[Any], str]:
    there = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and not there):
        return ["CPUExecutionProvider"], "cpu"
    if not there:
        raise LoadFailed(
            f"device {device}: this onnxruntime has no CUDA",
            hint="pip install onnxruntime-gpu in place of onnxruntime",
        )
    index = int(device.partition(":")[2] or 0)
    cuda = ("CUDAExecutionProvider", {"device_id": index, "use_tf32": 0})
    return [cuda, "CPUExecutionProvider"], f"cuda:{index}"


def _compare(side: str, specs: tuple[TensorSpec, ...], graph: list[Any], *, exact: bool) -> None:
    """Refuse a graph that does not take or give what the signature says.

    Raises:
        LoadFailed: A name, a type or a number of dimensions differs.
    """
    nodes = {node.name: node for node in graph}
    names = [spec.name for spec in specs]
    if set(names) - nodes.keys() or (exact and nodes.keys() - set(names)):
        raise LoadFailed(
            f"the graph's {side} are {', '.join(nodes)}; the signature says {', '.join(names)}"
        )
    for spec in specs:
        node = nodes[spec.name]
        kind = TYPES.get(node.type, node.type)
        # Symbolic dimensions have names; a graph may also say nothing at all of an output.
        fixed = [size if isinstance(size, int) else -1 for size in node.shape or spec.shape]
        agrees = len(fixed) == len(spec.shape) and all(
            -1 in (have, want) or have == want
            for have, want in zip(fixed[1:], spec.shape[1:], strict=True)
        )
        if kind != spec.dtype or not agrees or fixed[0] != -1:
            raise LoadFailed(
                f"{spec.name} of the graph is {kind} {fixed}, the signature says "
                f"{spec.dtype} {list(spec.shape)}",
                hint="export with a dynamic first dimension" if fixed[0] > 0 else None,
            )
