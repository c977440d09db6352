"""torch: the version's factory makes the module, safetensors fills it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from cloudreg.manifest import Manifest, Signature
from cloudreg.serving.checks import Array, ModelFault, Tensors
from cloudreg.serving.runtimes import Compute, DeviceLost, LoadFailed

CODE = "code"
"""The folder of a version that its module is imported from."""


class TorchRuntime:
    """A ``torch.nn.Module`` in evaluation mode."""

    def __init__(self, module: torch.nn.Module, signature: Signature, device: torch.device) -> None:
        """Work out once how the module wants its inputs."""
        self.device = str(device)
        self.streams = callable(getattr(module, "stream", None))
        self._module = module
        self._device = device
        self._outputs = [spec.name for spec in signature.outputs]
        names = [spec.name for spec in signature.inputs]
        self._by_name = _takes(module.forward, names)
        self._stream: Any = getattr(module, "stream", None)
        if self.streams and not _takes(self._stream, names):
            raise LoadFailed(f"stream() does not take the inputs {', '.join(names)} by name")

    def predict(self, inputs: Mapping[str, Array]) -> Tensors:
        """Return the outputs, as many rows as the inputs have."""
        tensors = {name: self._tensor(array) for name, array in inputs.items()}
        try:
            with torch.inference_mode():
                given = (
                    self._module(**tensors) if self._by_name else self._module(*tensors.values())
                )
                return self._named(given)
        except torch.AcceleratorError as error:
            # A failed kernel poisons the context: every later call fails in the same way.
            raise DeviceLost(str(error)) from error

    def stream(self, inputs: Mapping[str, Array]) -> Iterator[Tensors]:
        """Yield outputs one after another."""
        tensors = {name: self._tensor(array) for name, array in inputs.items()}
        try:
            with torch.inference_mode():
                for given in self._stream(**tensors):
                    yield self._named(given)
        except torch.AcceleratorError as error:
            raise DeviceLost(str(error)) from error

    def _tensor(self, array: Array) -> torch.Tensor:
        # Bytes of a request are read-only and may start anywhere; torch wants neither.
        return torch.from_numpy(np.require(array, requirements=["C", "A", "W"])).to(self._device)

    def _named(self, given: Any) -> Tensors:
        if isinstance(given, torch.Tensor):
            given = (given,)
        if isinstance(given, Mapping):
            missing = [name for name in self._outputs if name not in given]
            if missing:
                raise ModelFault(
                    f"the module gave {sorted(map(str, given))}, not {', '.join(missing)}"
                )
            given = [given[name] for name in self._outputs]
        if not isinstance(given, (tuple, list)) or len(given) != len(self._outputs):
            size = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
            raise ModelFault(
                f"the module gave a {type(given).__name__}{size}, "
                f"the signature names {', '.join(self._outputs)}"
            )
        return {name: _numpy(value, name) for name, value in zip(self._outputs, given, strict=True)}


def load(folder: Path, manifest: Manifest, *, compute: Compute) -> TorchRuntime:
    """Return the module of *folder*.

    Raises:
        LoadFailed: The factory, the weights or the device are not what the manifest says.
    """
    runtime, signature = manifest.runtime, manifest.signature
    assert runtime is not None
    assert signature is not None
    assert runtime.entrypoint is not None
    assert runtime.weights is not None
    device = _settle(compute)
    factory = _find(runtime.entrypoint, folder / CODE)
    module = factory(**runtime.arguments)
    if not isinstance(module, torch.nn.Module):
        raise LoadFailed(
            f"{runtime.entrypoint} returned a {type(module).__name__}, not a torch.nn.Module"
        )
    fill(module, folder / runtime.weights)
    module.to(device).eval()
    return TorchRuntime(module, signature, device)


def fill(module: torch.nn.Module, path: Path) -> None:
    """Read the weights into *module*, if they are exactly its own.

    Raises:
        LoadFailed: A tensor is missing, unknown, or has another type or shape.
    """
    state = module.state_dict()
    for name, own in state.items():
        if not isinstance(own, torch.Tensor) or own.is_meta:
            raise LoadFailed(f"{name} of the module cannot be filled: it is no tensor with memory")
    try:
        with safe_open(path, framework="pt") as weights, torch.no_grad():
            names = set(weights.keys())
            unknown = sorted(names - state.keys())
            # Tied weights stand in the file once, under one of their names.
            filled = {_memory(state[name]) for name in names & state.keys()}
            missing = [
                name
                for name, own in state.items()
                if name not in names and (own.numel() == 0 or _memory(own) not in filled)
            ]
            for what, some in (("it lacks", missing), ("the module has no", unknown)):
                if some:
                    more = ", …" if len(some) > 5 else ""
                    raise LoadFailed(f"{path.name}: {what} {', '.join(some[:5])}{more}")
            for name in sorted(names):
                tensor, own = weights.get_tensor(name), state[name]
                if tensor.dtype != own.dtype or tensor.shape != own.shape:
                    raise LoadFailed(
                        f"{path.name}: {name} is {_kind(tensor)}, the module wants {_kind(own)}"
                    )
                own.copy_(tensor)
    except SafetensorError as error:
        raise LoadFailed(f"{path.name} is not a safetensors file: {error}") from error


def _find(entrypoint: str, code: Path) -> Any:
    """Return the factory that *entrypoint* names; the version's own code comes first."""
    name, _, attribute = entrypoint.partition(":")
    top = name.partition(".")[0]
    own = (code / top).is_dir() or (code / f"{top}.py").is_file()
    if code.is_dir():
        for path in code.iterdir():
            is_module = path.suffix == ".py" or (path / "__init__.py").is_file()
            if is_module and path.stem in sys.stdlib_module_names:
                raise LoadFailed(f"code/{path.name} hides Python's own {path.stem}; rename it")
        # The next start would find byte code among the files that nobody registered.
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(code))
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LoadFailed(f"{entrypoint}: no module {error.name}") from error
    location = Path(module.__file__ or "")
    if own and not location.is_relative_to(code):
        raise LoadFailed(
            f"code/{top} is hidden by {location}, which was imported before; rename it"
        )
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise LoadFailed(f"{entrypoint}: the module has no function {attribute}")
    return factory


def _settle(compute: Compute) -> torch.device:
    """Return the device, after setting what torch keeps for the whole process."""
    if compute.threads is not None or compute.deterministic:
        torch.set_num_threads(compute.threads or 1)
    # TensorFloat-32 drops 13 bits of the fraction, on some GPUs only.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if compute.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(compute.device)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise LoadFailed(f"device {compute.device}: torch sees {count} CUDA devices here")
    return device


def _takes(function: Any, names: list[str]) -> bool:
    """Whether *function* takes its inputs by name; if not, it must take as many by position.

    Raises:
        LoadFailed: It takes them in neither way.
    """
    arguments: list[Any] = [None] * len(names)
    signature = inspect.signature(function)
    try:
        signature.bind(**dict(zip(names, arguments, strict=True)))
    except TypeError:
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise LoadFailed(
                f"{function.__qualname__}{signature} does not take the inputs "
                f"{', '.join(names)}: {error}"
            ) from error
        return False
    return True


def _numpy(value: Any, name: str) -> Array:
    if not isinstance(value, torch.Tensor):
        raise ModelFault(f"output {name} is a {type(value).__name__}, not a tensor")
    if value.dtype is torch.bfloat16:
        raise ModelFault(f"output {name} is bfloat16, which no answer can carry: use .float()")
    return value.detach().cpu().numpy()


def _memory(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
