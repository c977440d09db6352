"""``google.protobuf.Value``, from JSON and back: what predictions consist of.

`json_format` does the same for messages of all kinds, some ten times slower: a row of a thousand
numbers took longer than the model did.

Source: https://protobuf.dev/reference/protobuf/google.protobuf/#value
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from google.protobuf import struct_pb2

__all__ = ["MAX_DEPTH", "fill", "plain"]

MAX_DEPTH = 49
"""How deep JSON may nest: protobuf's own parsers take 100 messages, and each level is two.

Source: https://protobuf.dev/programming-guides/proto-limits/
"""


def fill(value: struct_pb2.Value, said: Any, *, depth: int = 0) -> None:
    """Write JSON into *value*; every number is a double there.

    Raises:
        ValueError: It nests too deep, or is no JSON.
    """
    if isinstance(said, float):
        # 1e999 is JSON, and infinite.
        if not isfinite(said):
            raise ValueError(f"{said} is no number of JSON")
        value.number_value = said
    elif isinstance(said, list | dict):
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        _fill_nested(value, said, depth + 1)
    elif isinstance(said, bool):
        value.bool_value = said
    elif isinstance(said, int):
        value.number_value = _double(said)
    elif isinstance(said, str):
        value.string_value = said
    elif said is None:
        value.null_value = struct_pb2.NULL_VALUE
    else:
        raise ValueError(f"{said!r} is no JSON")


def _fill_nested(value: struct_pb2.Value, said: list[Any] | dict[str, Any], depth: int) -> None:
    if isinstance(said, list):
        value.list_value.SetInParent()
        add = value.list_value.values.add
        for item in said:
            if type(item) is float and isfinite(item):
                add().number_value = item
            else:
                fill(add(), item, depth=depth)
        return
    value.struct_value.SetInParent()
    fields = value.struct_value.fields
    for name, item in said.items():
        fill(fields[name], item, depth=depth)


def _double(number: int) -> float:
    try:
        return float(number)
    except OverflowError as error:
        raise ValueError(f"{number} is no double") from error


def plain(value: struct_pb2.Value) -> Any:
    """Return a value as JSON.

    Raises:
        ValueError: NaN and Infinity are no numbers of JSON.
    """
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        if not isfinite(number):
            raise ValueError(f"{number} is no number of JSON")
        return number
    if kind == "list_value":
        return [
            item.number_value
            if item.HasField("number_value") and isfinite(item.number_value)
            else plain(item)
            for item in value.list_value.values
        ]
    if kind == "struct_value":
        return {name: plain(item) for name, item in value.struct_value.fields.items()}
    if kind in (None, "null_value"):
        return None
    return getattr(value, kind)
