"""Tensors against the signature: what comes in, and what the model gives back.

The fast path is a handful of NumPy calls for the whole request. Whatever it does not accept goes
the slow way, value by value, which either finds the field to name or converts exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudreg.manifest import Signature, TensorSpec
from cloudreg.serving.http import Refusal, mismatch

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

EXACT = 2**53 - 1
"""Up to here no other whole number has the same float64: 2**53 is 2**53 + 1 as well."""


class ModelFault(Exception):
    """The model gave something that its signature does not say."""


class TensorCheck:
    """One named tensor of a signature.

    Attributes:
        name: Its name.
        dtype: NumPy's.
        tail: The sizes behind the batch dimension; -1 where any size goes.
    """

    def __init__(self, spec: TensorSpec) -> None:
        """Work out once what is asked at each request."""
        self.name = spec.name
        self.dtype = np.dtype(spec.dtype)
        self.tail = spec.shape[1:]
        self._kind = self.dtype.kind
        if self._kind in "iu":
            info = np.iinfo(self.dtype)
            self._low, self._high = int(info.min), int(info.max)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether *shape*, batch dimension first, is one that the signature allows."""
        tail = shape[1:]
        return len(shape) == len(self.tail) + 1 and (
            tail == self.tail
            or all(want in (-1, have) for want, have in zip(self.tail, tail, strict=True))
        )

    def from_rows(self, rows: list[Any], at: Callable[[int], str]) -> Array:
        """Return the tensor whose rows are parsed JSON.

        A whole number may be written ``3.0``: Vertex AI sends every number through a float64.

        Args:
            rows: One nested list, or scalar, for each row.
            at: Names a row in an error.

        Raises:
            Refusal: A value has the wrong type, is too large or not finite, or is missing.
        """
        array = self._fast(rows)
        if array is None or not self.fits(array.shape):
            array = self._slow(rows, at)
        return array

    def from_flat(self, values: list[Any], shape: tuple[int, ...], field: str) -> Array:
        """Return the tensor whose values stand in one list, row by row.

        Raises:
            Refusal: As for rows.
        """
        scalars = TensorCheck(TensorSpec(name=self.name, dtype=self.dtype.name, shape=(-1,)))
        return scalars.from_rows(values, lambda i: f"{field}[{i}]").reshape(shape)

    def from_bytes(self, data: memoryview, shape: tuple[int, ...], field: str) -> Array:
        """Return the tensor whose little-endian bytes are *data*.

        Raises:
            Refusal: The size is wrong, a float is not finite, or a bool is neither 0 nor 1.
        """
        wanted = math.prod(shape) * self.dtype.itemsize
        if len(data) != wanted:
            raise mismatch(field, wanted=f"{wanted} bytes", got=f"{len(data)}")
        if self._kind == "b":
            raw = np.frombuffer(data, np.uint8)
            if raw.size and raw.max() > 1:
                bad = int(np.argmax(raw > 1))
                raise mismatch(f"{field}[{bad}]", wanted="0 or 1", got=str(raw[bad]))
        array = np.frombuffer(data, self.dtype.newbyteorder("<")).astype(self.dtype, copy=False)
        if self._kind == "f":
            finite = np.isfinite(array)
            if not finite.all():
                bad = int(np.argmin(finite))
                raise mismatch(
                    f"{field}[{bad}]", wanted=f"a finite {self.dtype}", got=str(array[bad])
                )
        return array.reshape(shape)

    def _fast(self, rows: list[Any]) -> Array | None:
        flat: Iterable[Any] = rows
        try:
            for _ in self.tail:
                flat = chain.from_iterable(flat)
            # NumPy would take True for 1 and "1.5" for 1.5; the types decide, not it.
            types = set(map(type, flat))
            if self._kind == "b":
                return np.array(rows, np.bool_) if types <= {bool} else None
            if not types <= {int, float}:
                return None
            if self._kind in "iu" and float in types:
                return self._whole(np.array(rows, np.float64))
            with np.errstate(over="ignore"):
                array = np.array(rows, self.dtype)
        except (TypeError, ValueError, OverflowError):
            return None
        return array if self._kind != "f" or all_finite(array) else None

    def _whole(self, array: npt.NDArray[np.float64]) -> Array | None:
        low, high = max(self._low, -EXACT), min(self._high, EXACT)
        if array.size and (array.min() < low or array.max() > high):
            return None
        return array.astype(self.dtype) if np.array_equal(array, np.trunc(array)) else None

    def _slow(self, rows: list[Any], at: Callable[[int], str]) -> Array:
        values: list[Any] = []
        # Sizes that the signature leaves open are set by the first row that has them.
        sizes = list(self.tail)
        path: list[int] = []

        def where() -> str:
            return at(path[0]) + "".join(f"[{i}]" for i in path[1:])

        def walk(value: Any, depth: int) -> None:
            if depth == len(sizes):
                values.append(self._scalar(value, where))
                return
            size = sizes[depth]
            if not isinstance(value, list):
                raise mismatch(where(), wanted=self._wanted(depth), got=describe(value))
            if size == -1:
                sizes[depth] = len(value)
            elif len(value) != size:
                reason = "" if self.tail[depth] != -1 else ", as in the request's other rows"
                raise mismatch(where(), wanted=f"{size} values{reason}", got=str(len(value)))
            for index, item in enumerate(value):
                path.append(index)
                walk(item, depth + 1)
                path.pop()

        for index, row in enumerate(rows):
            path.append(index)
            walk(row, 0)
            path.pop()
        shape = (len(rows), *(0 if size == -1 else size for size in sizes))
        return np.array(values, self.dtype).reshape(shape)

    def _scalar(self, value: Any, where: Callable[[], str]) -> Any:
        if self._kind == "b":
            if isinstance(value, bool):
                return value
            raise mismatch(where(), wanted="true or false", got=describe(value))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise mismatch(where(), wanted=f"a number ({self.dtype})", got=describe(value))
        if self._kind == "f":
            with np.errstate(over="ignore"):
                if math.isfinite(self.dtype.type(value)):
                    return value
            raise mismatch(where(), wanted=f"a finite {self.dtype}", got=describe(value))
        if isinstance(value, float) and not (value.is_integer() and abs(value) <= EXACT):
            raise mismatch(where(), wanted=f"a whole number ({self.dtype})", got=describe(value))
        if not self._low <= value <= self._high:
            wanted = f"{self._low} to {self._high} ({self.dtype})"
            raise mismatch(where(), wanted=wanted, got=describe(value))
        return int(value)

    def _wanted(self, depth: int) -> str:
        rest = ", ".join("any" if size == -1 else str(size) for size in self.tail[depth:])
        return f"an array [{rest}] of {self.dtype}"

    def check_output(self, array: Array, rows: int) -> Array:
        """Return what the model gave as *name*, if the signature says so.

        Raises:
            ModelFault: Another type, another shape, or another number of rows.
        """
        if array.dtype != self.dtype:
            raise ModelFault(
                f"output {self.name} is {array.dtype}, the signature says {self.dtype}"
            )
        if not self.fits(array.shape) or array.shape[0] != rows:
            raise ModelFault(
                f"output {self.name} has the shape {list(array.shape)}, "
                f"the signature says {[rows, *self.tail]}"
            )
        return np.ascontiguousarray(array)

    def check_finite(self, array: Array) -> None:
        """Refuse an output that JSON has no word for.

        Raises:
            ModelFault: It holds NaN or infinity.
        """
        if self._kind == "f" and not all_finite(array):
            finite = np.isfinite(array)
            if not finite.all():
                bad = [int(i) for i in np.argwhere(~finite)[0]]
                raise ModelFault(f"output {self.name}{bad} is {array[tuple(bad)]}, not finite")


class SignatureCheck:
    """All tensors of a signature.

    Attributes:
        inputs: By name, in order.
        outputs: By name, in order.
    """

    def __init__(self, signature: Signature) -> None:
        """Work out once what is asked at each request."""
        self.inputs = {spec.name: TensorCheck(spec) for spec in signature.inputs}
        self.outputs = {spec.name: TensorCheck(spec) for spec in signature.outputs}

    def check_outputs(self, outputs: Mapping[str, Array], rows: int) -> Tensors:
        """Return the outputs that the signature names.

        Raises:
            ModelFault: One is missing, or not what the signature says.
        """
        missing = [name for name in self.outputs if name not in outputs]
        if missing:
            raise ModelFault(f"the model gave {sorted(outputs)}, not {', '.join(missing)}")
        return {n: check.check_output(outputs[n], rows) for n, check in self.outputs.items()}

    def finite(self, outputs: Mapping[str, Array]) -> bool:
        """Whether JSON has a word for every value."""
        return all(array.dtype.kind != "f" or all_finite(array) for array in outputs.values())

    def check_finite(self, outputs: Mapping[str, Array]) -> None:
        """Refuse outputs that JSON has no word for.

        Raises:
            ModelFault: One holds NaN or infinity.
        """
        for name, check in self.outputs.items():
            check.check_finite(outputs[name])


def all_finite(array: Array) -> bool:
    """Whether no value of a float array is NaN or infinite."""
    # The sum of squares is either: one call where two are needed to be exact. It may overflow.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def check_names(given: Iterable[str], wanted: Sequence[str], field: str) -> None:
    """Refuse names that are missing, and names that nobody knows.

    Raises:
        Refusal: Either.
    """
    have = list(given)
    listed = ", ".join(wanted)
    for name in have:
        if name not in wanted:
            raise mismatch(f"{field}.{name[:100]}", wanted=f"one of {listed}", got="another name")
    for name in wanted:
        if name not in have:
            raise Refusal(400, f"{field}.{name} is missing", field=f"{field}.{name}", wanted=listed)


def describe(value: Any) -> str:
    """Return a parsed JSON value in few words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    return repr(value)
