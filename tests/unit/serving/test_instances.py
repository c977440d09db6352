from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cloudreg.serving.checks import SignatureCheck
from cloudreg.serving.http import Refusal, accepted, media_type, parse_json
from cloudreg.serving.instances import decode, encode, tile


def test_one_input_bare_or_named(kit: ModuleType) -> None:
    """With one input, an instance is the array or an object that names it."""
    checks = SignatureCheck(kit.LINE)
    bare = decode({"instances": [[1, 2, 3], [4, 5, 6]]}, checks)
    named = decode({"instances": [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}]}, checks)
    assert np.array_equal(bare["x"], named["x"])
    assert bare["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_several_inputs_by_name(kit: ModuleType) -> None:
    """With several inputs, an instance is an object, its keys in any order."""
    checks = SignatureCheck(kit.PAIR)
    got = decode(
        {"instances": [{"right": 1, "left": [1, 2]}, {"left": [3, 4], "right": 2}]}, checks
    )
    assert list(got) == ["left", "right"]
    assert got["right"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "body"),
        ({}, "instances"),
        ({"instances": {}}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": [[1, 2, 3]], "parameters": {"a": 1}}, "parameters"),
        ({"instances": [[1, 2, 3]], "signature_name": "x"}, "signature_name"),
        ({"instances": [{"x": [1, 2, 3], "z": 1}]}, "instances[0].z"),
        ({"instances": [{}]}, "instances[0].x"),
        ({"instances": [{"x": [1, 2, 3]}, [1, 2, 3]]}, "instances[1]"),
        ({"instances": [[1, 2, 3], {"x": [1, 2, 3]}]}, "instances[1]"),
        ({"instances": [{"x": [1, 2, 3]}, {"x": [1, 2, None]}]}, "instances[1].x[2]"),
    ],
)
def test_refusals_name_the_field(kit: ModuleType, document: Any, field: str) -> None:
    """A document that is no request says where it stops being one."""
    with pytest.raises(Refusal) as caught:
        decode(document, SignatureCheck(kit.LINE))
    assert caught.value.status == 400
    assert caught.value.field == field


@pytest.mark.parametrize("parameters", [None, {}])
def test_no_parameters_are_no_parameters(kit: ModuleType, parameters: Any) -> None:
    """An empty object of parameters, as a cloud's SDK sends it, is accepted."""
    got = decode({"instances": [[1, 2, 3]], "parameters": parameters}, SignatureCheck(kit.LINE))
    assert len(got["x"]) == 1


def test_predictions() -> None:
    """One output gives bare values, several give objects; floats keep their own digits."""
    one = encode({"y": np.array([[0.1, 2.0]], np.float32)})
    assert one == b'{"predictions":[[0.1,2.0]]}'
    two = encode({"a": np.array([1, 2], np.int64), "b": np.array([[True], [False]])})
    assert json.loads(two)["predictions"] == [{"a": 1, "b": [True]}, {"a": 2, "b": [False]}]


def test_tile() -> None:
    """Rows are repeated whole."""
    got = tile({"x": np.array([[1, 2], [3, 4]])}, 3)
    assert got["x"].tolist() == [[1, 2], [3, 4], [1, 2]]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"NaN", b"[1e999]", b"\xff", b'"\\ud800"', b"[" * 5000,
        b"[" * 5000 + b"]" * 5000, b"\xef\xbb\xbf{}", b"{}{}",
    ],
)  # fmt: skip
def test_not_json(data: bytes) -> None:
    """What is no JSON is refused, nesting beyond reason included."""
    with pytest.raises(Refusal, match="not JSON") as caught:
        parse_json(data)
    assert caught.value.status == 400


def test_media_types() -> None:
    """Parameters of a type are read, and a type with q=0 is not accepted."""
    assert media_type(b'Application/JSON; Charset="UTF-8"') == (
        "application/json",
        {"charset": "UTF-8"},
    )
    assert accepted(b"text/html;q=0, application/json;q=0.5,*/*") == ["application/json", "*/*"]
