from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudreg.manifest import DTYPES, Signature, TensorSpec
from cloudreg.serving.checks import ModelFault, SignatureCheck, TensorCheck
from cloudreg.serving.http import Refusal


def check(dtype: str, *tail: int) -> TensorCheck:
    return TensorCheck(TensorSpec(name="x", dtype=dtype, shape=(-1, *tail)))


def rows(one: TensorCheck, values: list[Any]) -> Any:
    return one.from_rows(values, "instances[{}].x".format)


def refused(one: TensorCheck, values: list[Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        rows(one, values)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=20, deadline=None)  # times the number of dtypes
@given(data=st.data())
def test_every_value_comes_through(dtype: str, data: st.DataObject) -> None:
    """What a dtype can hold, and JSON can say, arrives as it was sent."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    elements = {"allow_nan": False, "allow_infinity": False} if "float" in dtype else {}
    sent = data.draw(hnp.arrays(dtype, shape, elements=elements or None))
    got = rows(check(dtype, *shape[1:]), sent.tolist())
    assert got.dtype == sent.dtype
    assert np.array_equal(got, sent)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tail", [(), (2,), (-1,), (2, -1)])
@settings(max_examples=20, deadline=None)  # times the number of dtypes
@given(values=st.lists(json_values, min_size=1, max_size=3))
def test_anything_is_a_tensor_or_a_refusal(
    dtype: str, tail: tuple[int, ...], values: list[Any]
) -> None:
    """Whatever JSON says ends as a tensor of the signature's shape, or as a named refusal."""
    one = check(dtype, *tail)
    refusal = None
    try:
        got = rows(one, values)
    except Refusal as error:
        refusal = error
    if refusal is not None:
        assert refusal.status == 400
        assert str(refusal.field).startswith("instances[")
    else:
        assert got.dtype == one.dtype
        assert one.fits(got.shape)
        assert got.shape[0] == len(values)
        assert np.isfinite(got).all()


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)),
        min_size=1,
        max_size=3,
    ),
    dtype=st.sampled_from(DTYPES[1:]),
)
def test_both_paths_agree(values: list[list[Any]], dtype: str) -> None:
    """The fast path accepts nothing that the exact one refuses, and gives the same."""
    one = check(dtype, -1)
    fast = one._fast(values)
    if fast is not None and one.fits(fast.shape):
        slow = one._slow(values, "instances[{}]".format)
        assert np.array_equal(fast, slow)


@pytest.mark.parametrize(
    ("dtype", "tail", "values", "field", "wanted"),
    [
        ("float32", (3,), [[1, 2, 3], [1, 2]], "instances[1].x", "3 values"),
        ("float32", (3,), [[1, 2, "a"]], "instances[0].x[2]", "a number (float32)"),
        ("float32", (3,), [[1, 2, "3"]], "instances[0].x[2]", "a number (float32)"),
        ("float32", (3,), [[1, None, 3]], "instances[0].x[1]", "a number (float32)"),
        ("float32", (3,), [[1, True, 3]], "instances[0].x[1]", "a number (float32)"),
        ("float32", (3,), [[1, [2], 3]], "instances[0].x[1]", "a number (float32)"),
        ("float32", (3,), [[1, {}, 3]], "instances[0].x[1]", "a number (float32)"),
        ("float32", (3,), ["abc"], "instances[0].x", "an array [3] of float32"),
        ("float32", (3,), [5], "instances[0].x", "an array [3] of float32"),
        ("float32", (1,), [[1e39]], "instances[0].x[0]", "a finite float32"),
        ("float16", (1,), [[70000]], "instances[0].x[0]", "a finite float16"),
        ("float32", (), [math.inf], "instances[0].x", "a finite float32"),
        ("int64", (2,), [[1, 2.5]], "instances[0].x[1]", "a whole number (int64)"),
        ("int64", (), [2**63], "instances[0].x", "-9223372036854775808 to"),
        ("int64", (), [2.0**53], "instances[0].x", "a whole number (int64)"),
        ("int64", (), [2.0**60], "instances[0].x", "a whole number (int64)"),
        ("int64", (), [True], "instances[0].x", "a number (int64)"),
        ("uint8", (2,), [[0, 256]], "instances[0].x[1]", "0 to 255 (uint8)"),
        ("uint8", (2,), [[0, -1.0]], "instances[0].x[1]", "0 to 255 (uint8)"),
        ("bool", (2,), [[True, 1]], "instances[0].x[1]", "true or false"),
        ("bool", (), ["true"], "instances[0].x", "true or false"),
        ("int8", (2, 2), [[[1, 2], [3]]], "instances[0].x[1]", "2 values"),
        ("int8", (-1,), [[1, 2], [3]], "instances[1].x", "2 values, as in the request's"),
    ],
)
def test_the_field_is_named(
    dtype: str, tail: tuple[int, ...], values: list[Any], field: str, wanted: str
) -> None:
    """A refusal says where, what was wanted, and what came."""
    refusal = refused(check(dtype, *tail), values)
    assert refusal.field == field
    assert (refusal.wanted or "").startswith(wanted)
    assert refusal.got
    assert field in refusal.message


def test_whole_floats_are_whole_numbers() -> None:
    """3.0 is 3, since a cloud's proxy makes a float of every number."""
    got = rows(check("int64", 2), [[3.0, 4], [2.0**53 - 1, -1.0]])
    assert got.tolist() == [[3, 4], [2**53 - 1, -1]]


def test_large_whole_numbers_keep_every_digit() -> None:
    """Neighbours beyond 2**53 stay apart, beside a float too."""
    got = rows(check("int64", 2), [[2**53 + 1, 1.0]])
    assert got.tolist() == [[2**53 + 1, 1]]


def test_open_dimensions_may_be_empty() -> None:
    """Rows without values have a shape all the same."""
    assert rows(check("int32", -1), [[], []]).shape == (2, 0)
    assert rows(check("int32", -1, 4), [[], []]).shape == (2, 0, 4)


@settings(max_examples=200, deadline=None)
@given(array=hnp.arrays("float32", (3, 2), elements={"allow_nan": False, "allow_infinity": False}))
def test_bytes_come_through(array: Any) -> None:
    """Little-endian bytes are the tensor."""
    raw = memoryview(array.astype("<f4").tobytes())
    assert np.array_equal(check("float32", 2).from_bytes(raw, (3, 2), "x"), array)


@pytest.mark.parametrize(
    ("dtype", "data", "field"),
    [
        ("float32", b"\0" * 7, "x"),
        ("float32", b"\0" * 12, "x"),
        ("float32", np.array([1, np.nan], "<f4").tobytes(), "x[1]"),
        ("float16", np.array([np.inf, 1], "<f2").tobytes(), "x[0]"),
        ("bool", b"\0\2", "x[1]"),
    ],
)
def test_wrong_bytes(dtype: str, data: bytes, field: str) -> None:
    """Sizes that do not fit, floats that are not finite and odd bools are refused."""
    with pytest.raises(Refusal) as caught:
        check(dtype).from_bytes(memoryview(data), (2,), "x")
    assert caught.value.field == field


def test_outputs_are_checked() -> None:
    """What the model gives is what the signature says, or a fault that names it."""
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="int8", shape=(-1,)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 2)),),
    )
    checks = SignatureCheck(signature)
    right = np.zeros((3, 2), np.float32)
    assert checks.check_outputs({"y": right, "hidden": right}, 3).keys() == {"y"}
    for outputs, said in (
        ({}, "not y"),
        ({"y": right.astype(np.float64)}, "is float64, the signature says float32"),
        ({"y": right[:2]}, r"\[2, 2\], the signature says \[3, 2\]"),
        ({"y": right[:, :1]}, r"\[3, 1\]"),
        ({"y": right[:, :, None]}, r"\[3, 2, 1\]"),
    ):
        with pytest.raises(ModelFault, match=said):
            checks.check_outputs(outputs, 3)
    right[1, 0] = np.nan
    with pytest.raises(ModelFault, match=r"output y\[1, 0\] is nan, not finite"):
        checks.check_finite({"y": right})
