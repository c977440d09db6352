"""A ``torch.nn.Module`` as a folder that can be registered and served.

::

    model.safetensors   the weights: data, and nothing that could run
    code/               the modules that the factory needs
    model.toml          runtime, signature, metrics, card
    warmup.json         a few instances, for the model server's first run

The module is not pickled. The model server calls the factory and fills what it returns with the
weights, so that `save` does the same once, and compares the answers: what would fail under load
fails where the module is made.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cloudreg.errors import AlreadyExists, InvalidRequest
from cloudreg.importers import Description, directory, modelfile
from cloudreg.importers import factory as factories
from cloudreg.importers.calling import (
    Tensors,
    call,
    calm,
    check_tensor,
    device_of,
    dtype_of,
    first_parameter,
)
from cloudreg.manifest import ModelCard, Runtime, Signature, TensorSpec, check_metric
from cloudreg.names import canonical_json

WEIGHTS = "model.safetensors"
CODE = "code"
WARMUP = "warmup.json"
NAMES = frozenset({WEIGHTS, CODE, WARMUP, modelfile.FILE})

ATOL, RTOL = 1e-6, 1e-5
"""How near the rebuilt module's answers must be.

The same operators run on the same numbers, rounding float32 by 2^-24, about 6e-8, each time; only
the memory layout of the weights may differ, and with it the order of a sum.
"""

WARMUP_ROWS = 8
WARMUP_VALUES = 200_000
"""At most so many numbers are written: one image of 3 by 224 by 224 has 150,528."""

Specs = Sequence[str | TensorSpec]


def save(
    module: torch.nn.Module,
    folder: Path,
    *,
    sample: torch.Tensor | Mapping[str, torch.Tensor],
    factory: str | Callable[..., Any],
    arguments: Mapping[str, Any] | None = None,
    inputs: Specs | None = None,
    outputs: Specs | None = None,
    code: Sequence[Path] = (),
    metrics: Mapping[str, float] | None = None,
    card: ModelCard | None = None,
    labels: Mapping[str, str] | None = None,
) -> Path:
    """Write *folder*, ready to be registered, and return it.

    A folder that an earlier call wrote is replaced; any other that is not empty is left alone.

    Args:
        module: Trained; it is run in evaluation mode, and left in the mode that it had.
        folder: Where to.
        sample: Inputs, the first dimension being the batch; a bare tensor for one input.
        factory: ``module:function``, or something importable by name, that returns the module
            without its weights.
        arguments: Keyword arguments of the factory; plain JSON without null.
        inputs: Names, or specs with -1 where sizes other than the batch vary; in the order of
            the sample.
        outputs: Likewise, in the order of a tuple, or naming keys of a mapping.
        code: Python files and packages that the factory needs and that are not installed where
            the version is served.
        metrics: Offline metrics.
        card: What people must know.
        labels: Short free text by key.

    Raises:
        AlreadyExists: *folder* holds something else.
        InvalidRequest: The module cannot be served as it stands; the message says why.
    """
    folder = Path(folder)
    _check_folder(folder)
    runtime = _runtime(factory, dict(arguments or {}))
    given = _sample(module, sample, inputs)
    names = [_name(spec) for spec in outputs] if outputs is not None else None
    with calm(module):
        answers = call(module, given, names=names)
        signature = _signature(module, given, answers, inputs, outputs)
        described = Description(
            runtime=runtime,
            signature=signature,
            metrics={name: check_metric(name, value) for name, value in (metrics or {}).items()},
            card=card,
            labels=dict(labels or {}),
        )
        made = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        made.mkdir(parents=True)
        try:
            _write(made, described, state=_state(module), sample=given, code=code)
            # Not what is in memory but what the server will read has to give the answers.
            directory.read(made)
            again = _answers_when_rebuilt(made, runtime, given, names, device_of(module))
            _compare(again, answers, runtime)
            _put_in_place(made, folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    return folder


def _check_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise AlreadyExists(f"{folder} is no folder")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names and not (modelfile.FILE in names and names <= NAMES | directory.JUNK):
        other = sorted(names - NAMES)
        raise AlreadyExists(
            f"{folder} holds {other[0] if other else 'files'}, which no save wrote",
            hint="give a new folder",
        )


def _put_in_place(made: Path, folder: Path) -> None:
    """Give the new folder its name; what had it goes last."""
    if not folder.exists():
        made.rename(folder)
        return
    old = made.with_name(f"{made.name}.old")
    folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old)


def _runtime(maker: str | Callable[..., Any], arguments: Mapping[str, Any]) -> Runtime:
    entrypoint = factories.entrypoint(maker)
    try:
        canonical_json(arguments)
    except InvalidRequest as error:
        raise InvalidRequest(f"arguments of {entrypoint}: {error.message}") from error
    return Runtime(kind="torch", entrypoint=entrypoint, arguments=arguments, weights=WEIGHTS)


def _name(spec: str | TensorSpec) -> str:
    return spec if isinstance(spec, str) else spec.name


def _sample(
    module: torch.nn.Module,
    sample: torch.Tensor | Mapping[str, torch.Tensor],
    inputs: Specs | None,
) -> Tensors:
    """Return the sample by name.

    Raises:
        InvalidRequest: It has no batch, or names do not fit.
    """
    names = [_name(spec) for spec in inputs] if inputs is not None else None
    if isinstance(sample, torch.Tensor):
        given: Tensors = {names[0] if names else first_parameter(module): sample}
    else:
        given = dict(sample)
    if not given:
        raise InvalidRequest("the sample is empty")
    if names is not None and names != list(given):
        raise InvalidRequest(f"inputs {names} are not those of the sample, {list(given)}")
    for name, tensor in given.items():
        check_tensor(tensor, f"sample {name}")
    sizes = {name: len(tensor) for name, tensor in given.items()}
    if len(set(sizes.values())) != 1:
        raise InvalidRequest(f"the sample's batches differ: {sizes}")
    return given


def _state(module: torch.nn.Module) -> Tensors:
    """Return the weights, each with memory of its own.

    Tied weights are written under each of their names: a reader that knows nothing of the tie
    finds all it needs.

    Raises:
        InvalidRequest: Something in the state is no plain tensor.
    """
    state: Tensors = {}
    seen: set[int] = set()
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise InvalidRequest(f"{name} of the module is a {type(value).__name__}, not a tensor")
        if value.is_meta or value.is_quantized or value.layout is not torch.strided:
            raise InvalidRequest(f"{name} of the module has no plain memory that could be written")
        plain = value.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        state[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return state


def _signature(
    module: torch.nn.Module,
    given: Tensors,
    answers: Tensors,
    inputs: Specs | None,
    outputs: Specs | None,
) -> Signature:
    """Work out the signature from a call, and from another with twice the rows."""
    twice = {name: torch.cat([tensor, tensor]) for name, tensor in given.items()}
    others = call(module, twice, names=list(answers))
    rows = len(next(iter(given.values())))
    for name, tensor in answers.items():
        other = others[name]
        if (len(tensor), len(other), tensor.ndim) != (rows, 2 * rows, other.ndim):
            raise InvalidRequest(
                f"output {name} has the shape {list(tensor.shape)} for {rows} rows and "
                f"{list(other.shape)} for {2 * rows}: a row for each row of the inputs is needed"
            )
    return Signature(inputs=_specs(given, twice, inputs), outputs=_specs(answers, others, outputs))


def _specs(tensors: Tensors, others: Tensors, given: Specs | None) -> tuple[TensorSpec, ...]:
    said = {spec.name: spec for spec in given or () if isinstance(spec, TensorSpec)}
    specs = []
    for name, tensor in tensors.items():
        sizes = zip(tensor.shape[1:], others[name].shape[1:], strict=True)
        shape = (-1, *(a if a == b else -1 for a, b in sizes))
        seen = TensorSpec(name=name, dtype=dtype_of(tensor), shape=shape)
        spec = said.get(name, seen)
        fits = len(spec.shape) == len(shape) and all(
            wide in (-1, size) for wide, size in zip(spec.shape, shape, strict=True)
        )
        if spec.dtype != seen.dtype or not fits:
            raise InvalidRequest(f"{spec} was said, and {seen} is what the module shows")
        specs.append(spec)
    return tuple(specs)


def _write(
    made: Path, described: Description, *, state: Tensors, sample: Tensors, code: Sequence[Path]
) -> None:
    save_file(state, made / WEIGHTS)
    factories.copy_code(code, made / CODE)
    modelfile.write(described, made / modelfile.FILE)
    (made / WARMUP).write_text(_warmup(sample), encoding="utf-8")


def _warmup(sample: Tensors) -> str:
    """Return a few rows of the sample, as a request carries them."""
    values = sum(tensor[0].numel() for tensor in sample.values())
    rows = max(1, min(WARMUP_ROWS, WARMUP_VALUES // max(1, values)))
    columns = {name: tensor[:rows].detach().cpu().tolist() for name, tensor in sample.items()}
    if len(columns) == 1:
        (instances,) = columns.values()
    else:
        lists = zip(*columns.values(), strict=True)
        instances = [dict(zip(columns, row, strict=True)) for row in lists]
    return json.dumps({"instances": instances}, allow_nan=False) + "\n"


def _answers_when_rebuilt(
    made: Path,
    runtime: Runtime,
    given: Tensors,
    names: Sequence[str] | None,
    device: torch.device,
) -> Tensors:
    """Return what the module answers that the model server will make of the files.

    Raises:
        InvalidRequest: The factory makes something that the weights do not fit.
    """
    maker = f"factory {runtime.entrypoint}"
    with factories.imported(str(runtime.entrypoint), made / CODE) as build:
        try:
            module = build(**runtime.arguments)
        except Exception as error:
            raise InvalidRequest(f"{maker} fails: {type(error).__name__}: {error}") from error
        if not isinstance(module, torch.nn.Module):
            raise InvalidRequest(
                f"{maker} returned a {type(module).__name__}, not a torch.nn.Module"
            )
        _fill(module, load_file(made / WEIGHTS), maker)
        return call(module.to(device).eval(), given, names=names)


def _fill(module: torch.nn.Module, state: Tensors, maker: str) -> None:
    own = module.state_dict()
    for name, tensor in state.items():
        # load_state_dict would convert without a word.
        if name in own and own[name].dtype != tensor.dtype:
            raise InvalidRequest(
                f"{maker} makes {name} as {dtype_of(own[name])}, the module has {dtype_of(tensor)}"
            )
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InvalidRequest(
            f"{maker} makes another module: {error}",
            hint="give the arguments that the module was made with",
        ) from error


def _compare(found: Tensors, wanted: Tensors, runtime: Runtime) -> None:
    for name, tensor in wanted.items():
        other = found.get(name)
        if (
            other is None
            or (other.dtype, other.shape) != (tensor.dtype, tensor.shape)
            or not torch.allclose(other, tensor, atol=ATOL, rtol=RTOL)
        ):
            raise InvalidRequest(
                f"factory {runtime.entrypoint} and the weights do not give the module's own "
                f"answer for {name} of the sample",
                hint="keep all that counts in the arguments, the parameters or the buffers",
            )
