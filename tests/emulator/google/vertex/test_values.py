"""Values of predictions, beside protobuf's own reading and writing of them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from cloudreg_emulator.google.vertex import values

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner)
)


def filled(said: Any) -> struct_pb2.Value:
    value = struct_pb2.Value()
    values.fill(value, said)
    return value


@given(DOCUMENTS)
def test_same_as_protobuf(said: Any) -> None:
    """JSON becomes what protobuf's own parser makes of it, and comes back as its printer has it."""
    value = filled(said)

    assert value == json_format.ParseDict(said, struct_pb2.Value())
    assert values.plain(value) == json_format.MessageToDict(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_number(number: float) -> None:
    """NaN and Infinity are refused in both directions, and within lists."""
    for said in (number, [number]):
        with pytest.raises(ValueError, match="no number of JSON"):
            filled(said)
    with pytest.raises(ValueError, match="no number of JSON"):
        values.plain(struct_pb2.Value(number_value=number))


def test_depth() -> None:
    """What is nested deeper than protobuf takes is refused, and no deeper than that."""
    deep: Any = 1.0
    for _ in range(values.MAX_DEPTH):
        deep = [deep]
    read = struct_pb2.Value()
    read.ParseFromString(filled(deep).SerializeToString())
    assert values.plain(read) == deep

    with pytest.raises(ValueError, match="nested deeper"):
        filled([deep])


def test_too_large() -> None:
    """A whole number that no double can hold is refused."""
    with pytest.raises(ValueError, match="no double"):
        filled(10**400)
