"""From files to a function: one module for each kind of runtime.

=========  =====================================================================
`torch`    a module that the version's own factory makes, safetensors weights
`onnx`     an ONNX graph, through onnxruntime
=========  =====================================================================

Both read data, not code, from the weights: safetensors and ONNX have no way to run any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from cloudreg.errors import CloudregError
from cloudreg.manifest import Manifest
from cloudreg.serving.checks import Array

KINDS = {"torch": "cloudreg.serving.runtimes.torch", "onnx": "cloudreg.serving.runtimes.onnx"}


class LoadFailed(CloudregError):
    """The files are right, and yet no model came of them."""


class DeviceLost(Exception):
    """The device answers nothing any more: only a new process helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where and how a model computes.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        threads: For the operators of one batch on a CPU; None leaves it to the runtime.
        deterministic: The same bits for the same request on the same kind of device.
    """

    device: str = "auto"
    threads: int | None = None
    deterministic: bool = False


class Runtime(Protocol):
    """A loaded model. Only one thread ever calls it."""

    device: str
    """Where it computes."""

    streams: bool
    """Whether `stream` gives anything."""

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs, as many rows as the inputs have.

        Raises:
            DeviceLost: Nothing will ever be computed again.
        """
        ...

    def stream(self, inputs: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
        """Yield outputs one after another, each with as many rows as the inputs have."""
        ...


def load(folder: Path, manifest: Manifest, *, compute: Compute) -> Runtime:
    """Return the model of *folder*, whose files have been checked.

    Raises:
        LoadFailed: It cannot be loaded, and why.
    """
    kind = manifest.runtime.kind if manifest.runtime else None
    if kind not in KINDS:
        raise LoadFailed(
            f"runtime {kind or 'none'} is not served here",
            hint=f"this server runs {' and '.join(KINDS)}; custom versions need their own image",
        )
    try:
        runtime: Runtime = import_module(KINDS[kind]).load(folder, manifest, compute=compute)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("torch", "onnxruntime"):
            raise
        raise LoadFailed(
            f"runtime {kind} needs {error.name}", hint=f"pip install 'cloudreg[{kind}]'"
        ) from error
    return runtime
