"""A ``torch.nn.Module`` called as the model server calls it: by name where it can be."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from cloudreg.errors import InvalidRequest
from cloudreg.manifest import DTYPES

Tensors = dict[str, torch.Tensor]


def call(module: torch.nn.Module, inputs: Tensors, *, names: Sequence[str] | None) -> Tensors:
    """Return the module's outputs by name.

    Args:
        module: In evaluation mode.
        inputs: By name, the first dimension being the batch.
        names: Of the outputs; None takes the module's own, or ``output``.

    Raises:
        InvalidRequest: It does not take the inputs, or gives something that cannot be served.
    """
    given = {name: tensor.to(device_of(module)) for name, tensor in inputs.items()}
    by_name = _takes(module, given)
    # A module that draws random numbers draws the same ones at each call.
    torch.manual_seed(0)
    try:
        with torch.inference_mode():
            answer = module(**given) if by_name else module(*given.values())
    except Exception as error:
        raise InvalidRequest(
            f"the module fails on the sample: {type(error).__name__}: {error}"
        ) from error
    outputs = _named(answer, names)
    for name, tensor in outputs.items():
        check_tensor(tensor, f"output {name}")
    return outputs


def first_parameter(module: torch.nn.Module) -> str:
    """Return what the module calls its first input."""
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            return parameter.name
        break
    return "input"


def check_tensor(tensor: object, what: str) -> None:
    """Return if *tensor* is a batch that a request or an answer can carry.

    Raises:
        InvalidRequest: It is not.
    """
    if not isinstance(tensor, torch.Tensor):
        raise InvalidRequest(f"{what} is a {type(tensor).__name__}, not a tensor")
    if dtype_of(tensor) not in DTYPES:
        raise InvalidRequest(
            f"{what} is {dtype_of(tensor)}, which no request can carry",
            hint=f"known are {', '.join(DTYPES)}",
        )
    if tensor.ndim == 0 or len(tensor) == 0:
        raise InvalidRequest(f"{what} has the shape {list(tensor.shape)}: a batch must come first")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise InvalidRequest(f"{what} holds NaN or infinity, which no JSON can carry")


def dtype_of(tensor: torch.Tensor) -> str:
    """Return the type in NumPy's word, as far as NumPy has one."""
    return str(tensor.dtype).removeprefix("torch.")


def device_of(module: torch.nn.Module) -> torch.device:
    """Return where the module's first tensor is."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def calm(module: torch.nn.Module) -> Iterator[None]:
    """Put the module into evaluation mode, and leave modes and random numbers as they were."""
    modes = {part: part.training for part in module.modules()}
    device = device_of(module)
    module.eval()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def _takes(module: torch.nn.Module, inputs: Tensors) -> bool:
    """Whether the module takes its inputs by name; if not, it must take as many by position."""
    signature = inspect.signature(module.forward)
    try:
        signature.bind(**inputs)
    except TypeError:
        try:
            signature.bind(*inputs.values())
        except TypeError as error:
            raise InvalidRequest(
                f"forward{signature} does not take the inputs {', '.join(inputs)}: {error}"
            ) from error
        return False
    return True


def _named(given: Any, names: Sequence[str] | None) -> Tensors:
    if isinstance(given, Mapping):
        missing = [name for name in names or () if name not in given]
        if missing:
            raise InvalidRequest(f"the module gives {list(given)}, and no {missing[0]!r}")
        return {name: given[name] for name in (names if names is not None else given)}
    values = list(given) if isinstance(given, (tuple, list)) else [given]
    if names is None:
        usual = ["output"] if len(values) == 1 else [f"output_{i}" for i in range(len(values))]
        names = getattr(given, "_fields", usual)
    if len(names) != len(values):
        raise InvalidRequest(f"the module gives {len(values)} outputs, and {list(names)} are named")
    return dict(zip(names, values, strict=True))
