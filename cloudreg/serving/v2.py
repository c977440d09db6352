"""The Open Inference Protocol V2: JSON, and tensors as bytes behind a JSON header.

The length of that header stands in one of three places, since two clouds strip foreign headers::

    Inference-Header-Content-Length: N                                              plain HTTP
    Content-Type: application/vnd.sagemaker-triton.binary+json;json-header-size=N   SageMaker
    Content-Type: application/vnd.vertex-ai-triton.binary+json;json-header-size=N   Vertex AI

An answer with bytes uses the place that the request used.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from cloudreg.manifest import TensorSpec
from cloudreg.serving.checks import (
    Array,
    SignatureCheck,
    TensorCheck,
    Tensors,
    check_names,
    describe,
)
from cloudreg.serving.http import Answer, Headers, mismatch, parse_json

PLAIN = "application/octet-stream"
VENDORS = (
    "application/vnd.sagemaker-triton.binary+json",
    "application/vnd.vertex-ai-triton.binary+json",
)
LENGTH = b"inference-header-content-length"

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """A decoded request.

    Attributes:
        inputs: By name.
        id: Given back as it came.
        outputs: The outputs that are wanted, and whether as bytes.
        vendor: The content type that carries the header's length; None for the plain header.
    """

    inputs: Tensors
    id: str | None
    outputs: Mapping[str, bool]
    vendor: str | None


def metadata(tensors: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    """Return tensors as the protocol describes them."""
    return [
        {"name": t.name, "datatype": DATATYPES[t.dtype], "shape": list(t.shape)} for t in tensors
    ]


def header_size(
    headers: Mapping[bytes, bytes], kind: str, parameters: Mapping[str, str]
) -> int | None:
    """Return the bytes of the JSON header; None where the whole body is JSON.

    Raises:
        Refusal: The length is missing or no number.
    """
    if kind in VENDORS:
        field, text = "json-header-size", parameters.get("json-header-size", "")
    elif LENGTH in headers:
        field, text = LENGTH.decode(), headers[LENGTH].decode("latin-1")
    else:
        return None
    # Not int() alone: it takes " 1_0 " for 10, and digits of every alphabet.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise mismatch(field, wanted="the length of the JSON header", got=repr(text[:40]))
    return int(text)


def decode(
    body: bytes, checks: SignatureCheck, *, size: int | None, vendor: str | None = None
) -> Infer:
    """Return what a request asks for.

    Args:
        body: JSON, or a JSON header and bytes.
        checks: The signature.
        size: Of the JSON header; None where the whole body is JSON.
        vendor: The content type that gave the size, if it was one of the vendors'.

    Raises:
        Refusal: It is not what the protocol or the signature says.
    """
    if size is not None and size > len(body):
        raise mismatch("body", wanted=f"a JSON header of {size} bytes", got=f"{len(body)} bytes")
    view = memoryview(body)
    document = parse_json(body if size is None else view[:size])
    return read(document, checks, tail=view[len(body) if size is None else size :], vendor=vendor)


def read(
    document: Any,
    checks: SignatureCheck,
    *,
    tail: memoryview = memoryview(b""),  # noqa: B008 - empty, so that nobody can change it
    vendor: str | None = None,
) -> Infer:
    """Return what a parsed request asks for; *tail* holds the bytes behind it.

    Raises:
        Refusal: It is not what the protocol or the signature says.
    """
    document = _object(document, "body", ("id", "parameters", "inputs", "outputs"))
    request_id = document.get("id")
    if not isinstance(request_id, str | None):
        raise mismatch("id", wanted="a string", got=describe(request_id))
    parameters = _object(document.get("parameters", {}), "parameters", ("binary_data_output",))
    binary = _flag(parameters.get("binary_data_output", False), "parameters.binary_data_output")
    inputs, rest = _inputs(document.get("inputs"), checks, tail)
    if len(rest):
        raise mismatch("body", wanted="no bytes behind the last input", got=f"{len(rest)}")
    outputs = _outputs(document.get("outputs", []), checks, binary=binary)
    return Infer(inputs=inputs, id=request_id, outputs=outputs, vendor=vendor)


def _inputs(given: Any, checks: SignatureCheck, tail: memoryview) -> tuple[Tensors, memoryview]:
    if not isinstance(given, list):
        raise mismatch("inputs", wanted="an array", got=describe(given))
    keys = ("name", "shape", "datatype", "parameters", "data")
    tensors = [_object(one, f"inputs[{i}]", keys) for i, one in enumerate(given)]
    names = [_text(one.get("name"), f"inputs[{i}].name") for i, one in enumerate(tensors)]
    if len(set(names)) != len(names):
        raise mismatch("inputs", wanted="each input once", got=f"{', '.join(names)[:200]}")
    check_names(names, list(checks.inputs), "inputs")
    found: Tensors = {}
    rows = None
    for index, (name, one) in enumerate(zip(names, tensors, strict=True)):
        field = f"inputs[{index}]"
        check = checks.inputs[name]
        shape = _shape(one.get("shape"), check, f"{field}.shape")
        if rows not in (None, shape[0]):
            raise mismatch(f"{field}.shape[0]", wanted=f"{rows} rows", got=str(shape[0]))
        rows = shape[0]
        wanted = DATATYPES[check.dtype.name]
        if one.get("datatype") != wanted:
            raise mismatch(f"{field}.datatype", wanted=wanted, got=describe(one.get("datatype")))
        options = _object(one.get("parameters", {}), f"{field}.parameters", ("binary_data_size",))
        size = options.get("binary_data_size")
        if size is None:
            found[name] = _data(one.get("data"), check, shape, f"{field}.data")
            continue
        if "data" in one:
            raise mismatch(f"{field}.data", wanted="none beside binary_data_size", got="some")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(tail):
            raise mismatch(
                f"{field}.parameters.binary_data_size",
                wanted=f"0 to {len(tail)}, the bytes that are left",
                got=describe(size),
            )
        found[name] = check.from_bytes(tail[:size], shape, field)
        tail = tail[size:]
    return {name: found[name] for name in checks.inputs}, tail


def _data(data: Any, check: TensorCheck, shape: tuple[int, ...], field: str) -> Array:
    if not isinstance(data, list):
        raise mismatch(field, wanted="an array", got=describe(data))
    count = math.prod(shape)
    if len(shape) > 1 and data and isinstance(data[0], list):
        array = check.from_rows(data, f"{field}[{{}}]".format)
        if array.shape != shape:
            raise mismatch(field, wanted=f"the shape {list(shape)}", got=f"{list(array.shape)}")
        return array
    if len(data) != count:
        raise mismatch(field, wanted=f"{count} values", got=str(len(data)))
    return check.from_flat(data, shape, field)


def _shape(given: Any, check: TensorCheck, field: str) -> tuple[int, ...]:
    wanted = f"[rows, {', '.join(map(str, check.tail))}]" if check.tail else "[rows]"
    if not isinstance(given, list) or not all(
        isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**31 for size in given
    ):
        raise mismatch(field, wanted=f"{wanted}, whole numbers from 0", got=repr(given)[:80])
    shape = tuple(given)
    if not check.fits(shape) or shape[0] == 0:
        raise mismatch(field, wanted=f"{wanted}, at least one row", got=repr(given)[:80])
    return shape


def _outputs(given: Any, checks: SignatureCheck, *, binary: bool) -> dict[str, bool]:
    if not isinstance(given, list):
        raise mismatch("outputs", wanted="an array", got=describe(given))
    wanted: dict[str, bool] = {}
    for index, item in enumerate(given):
        field = f"outputs[{index}]"
        one = _object(item, field, ("name", "parameters"))
        name = _text(one.get("name"), f"{field}.name")
        if name not in checks.outputs or name in wanted:
            known = f"one of {', '.join(checks.outputs)}, each once"
            raise mismatch(f"{field}.name", wanted=known, got=repr(name[:100]))
        options = _object(one.get("parameters", {}), f"{field}.parameters", ("binary_data",))
        wanted[name] = _flag(options.get("binary_data", binary), f"{field}.parameters.binary_data")
    return wanted or dict.fromkeys(checks.outputs, binary)


def _object(value: Any, field: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise mismatch(field, wanted="an object", got=describe(value))
    for key in value:
        if key not in keys:
            raise mismatch(f"{field}.{key[:100]}", wanted=f"one of {', '.join(keys)}", got="a key")
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise mismatch(field, wanted="a string", got=describe(value))
    return value


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise mismatch(field, wanted="true or false", got=describe(value))
    return value


def encode(
    infer: Infer, outputs: Mapping[str, Array], *, model: str, version: str | None
) -> Answer:
    """Return the answer in the form that the request asked for."""
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in infer.outputs.items():
        array = outputs[name]
        one: dict[str, Any] = {
            "name": name,
            "shape": list(array.shape),
            "datatype": DATATYPES[array.dtype.name],
        }
        if binary:
            raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            one["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            one["data"] = array.ravel()
        described.append(one)
    document: dict[str, Any] = {"model_name": model}
    if version is not None:
        document["model_version"] = version
    if infer.id is not None:
        document["id"] = infer.id
    document["outputs"] = described
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(infer.outputs.values()):
        return Answer(body=header)
    length = str(len(header))
    extra: Headers = ()
    if infer.vendor is not None:
        kind = f"{infer.vendor};json-header-size={length}"
    else:
        kind, extra = PLAIN, ((LENGTH, length.encode()),)
    return Answer(body=b"".join([header, *tail]), content_type=kind.encode(), headers=extra)
