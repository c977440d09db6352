"""What one file is."""

from __future__ import annotations

import struct
from pathlib import PurePosixPath
from typing import Any

import msgspec

from cloudreg.formats import Finding, packed, pickles
from cloudreg.formats.packed import is_tar, is_text, suffix, unknown
from cloudreg.formats.ranges import BLOCK, MAX_READ, Ranges, Read, hostile

MAX_FIELDS = 10_000

_CLAIMS = frozenset({".safetensors", ".onnx", ".npy", ".npz", ".mar", ".pt2"})
"""Endings that say what a file must be; if it is not, nobody knows what it is."""

_OPAQUE = frozenset({".h5", ".hdf5", ".keras", ".engine", ".plan"})
_COMPILED = frozenset({".pyc", ".pyo", ".so", ".dll", ".dylib", ".pyd", ".class"})
_SOURCE = frozenset({".py", ".pyi"})

_ONNX_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_ONNX_VERSION, _ONNX_GRAPH = 1, 7


def classify(path: str, size: int, read: Read) -> Finding:
    """Return what a file is.

    Args:
        path: Inside the version.
        size: Bytes.
        read: Returns ranges of it.

    Raises:
        IntegrityError: Less can be read than the file has.
    """
    stream = Ranges(read, size, name=path)
    head = stream.read(BLOCK)
    zipped = packed.archive(path, head, stream)
    if zipped is not None:
        return zipped
    stream.seek(0)
    # Whatever else it may be as well: what can be followed as a pickle can be loaded as one.
    scanned = pickles.scan(stream, skip=stream.skip)
    return (
        packed.pickled(path, scanned, text=is_text(head))
        or _by_content(path, head, stream)
        or (unknown(path, packed.ENDLESS) if scanned.exhausted else None)
        or _by_name(path, head)
    )


def _by_content(path: str, head: bytes, stream: Ranges) -> Finding | None:
    """Return what the content shows, if it shows anything."""
    stream.seek(0)
    if head.startswith(packed.NPY):
        return packed.array(path, stream)
    if _is_safetensors(stream):
        return Finding(path=path, format="safetensors")
    if _is_onnx(stream):
        return Finding(path=path, format="onnx")
    if head.startswith(packed.EXECUTABLE) and not is_text(head):
        return Finding(path=path, format="compiled", found=("machine code",))
    for sign, why in (
        (head.startswith(packed.HDF5), "HDF5, in which Keras keeps layers as code"),
        (head.startswith(packed.ENCLOSED), "compressed, and not with gzip, zlib or bzip2"),
        (is_tar(head), "a tar archive"),
    ):
        if sign:
            return unknown(path, why)
    return packed.compressed(path, head, stream)


def _by_name(path: str, head: bytes) -> Finding:
    """Return what a file is whose content shows nothing."""
    ending, text = suffix(path), is_text(head)
    if ending in _CLAIMS or (ending in packed.PICKLED and not text):
        return unknown(path, f"it is called {ending} and cannot be read as that")
    if ending in _OPAQUE or PurePosixPath(path).name == "saved_model.pb":
        return unknown(path, f"{ending} files can hold code")
    if ending in _COMPILED:
        return Finding(path=path, format="compiled", found=(f"a {ending} file",))
    if not text:
        return Finding(path=path, format="data")
    return Finding(path=path, format="code" if ending in _SOURCE else "text")


def _is_safetensors(stream: Ranges) -> bool:
    """Whether it is a safetensors file whose tensors fill it without a gap.

    Source: https://github.com/huggingface/safetensors#format
    """
    stream.seek(0)
    with hostile():
        (length,) = struct.unpack("<Q", stream.read(8))
        room = stream.size - 8 - length
        if room < 0 or length > MAX_READ:
            return False
        header = stream.read(length)
        document = msgspec.json.decode(header, type=dict[str, dict[str, Any]])
        document.pop("__metadata__", None)
        end = 0
        for start, stop in sorted(tuple(t["data_offsets"]) for t in document.values()):
            if start != end or stop < start:
                return False
            end = stop
        return header.startswith(b"{") and end == room
    return False


def _is_onnx(stream: Ranges) -> bool:
    """Whether it is a protobuf message with the fields of ONNX's ModelProto, a graph among them.

    Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    """
    stream.seek(0)
    seen: set[int] = set()
    with hostile():
        for _ in range(MAX_FIELDS):
            if stream.tell() >= stream.size:
                return stream.tell() == stream.size and {_ONNX_VERSION, _ONNX_GRAPH} <= seen
            field, wire = divmod(_varint(stream), 8)
            if field not in _ONNX_FIELDS or wire not in (0, 2):
                return False
            value = _varint(stream)
            if wire == 2:
                stream.skip(value)
            seen.add(field)
    return False


def _varint(stream: Ranges) -> int:
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = stream.read(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number without an end")
