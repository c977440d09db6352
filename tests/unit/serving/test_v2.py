from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudreg.manifest import DTYPES, Signature, TensorSpec
from cloudreg.serving import v2
from cloudreg.serving.checks import SignatureCheck
from cloudreg.serving.http import Refusal


def signature(dtype: str, shape: tuple[int, ...]) -> SignatureCheck:
    spec = TensorSpec(name="x", dtype=dtype, shape=(-1, *shape[1:]))
    return SignatureCheck(Signature(inputs=(spec,), outputs=(spec,)))


def split(answer: Any) -> tuple[dict[str, Any], bytes]:
    """Read an answer as a client would, by the header or the content type."""
    size = dict(answer.headers).get(v2.LENGTH)
    if size is None and b"json-header-size=" in answer.content_type:
        size = answer.content_type.partition(b"json-header-size=")[2]
    cut = len(answer.body) if size is None else int(size)
    return json.loads(answer.body[:cut]), answer.body[cut:]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vendor", [None, *v2.VENDORS])
@settings(max_examples=20, deadline=None)  # times the number of dtypes
@given(data=st.data())
def test_binary_round_trip(dtype: str, vendor: str | None, data: st.DataObject) -> None:
    """A tensor sent as bytes comes back as the same bytes, whatever carries the length."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    elements = {"allow_nan": False, "allow_infinity": False} if "float" in dtype else None
    array = data.draw(hnp.arrays(dtype, shape, elements=elements))
    raw = array.tobytes()
    head = json.dumps(
        {
            "id": "a",
            "parameters": {"binary_data_output": True},
            "inputs": [
                {
                    "name": "x",
                    "shape": list(shape),
                    "datatype": v2.DATATYPES[dtype],
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
        }
    ).encode()
    infer = v2.decode(head + raw, signature(dtype, shape), size=len(head), vendor=vendor)
    assert np.array_equal(infer.inputs["x"], array)
    answer = v2.encode(infer, infer.inputs, model="m", version="7")
    document, tail = split(answer)
    assert tail == raw
    assert document["id"] == "a"
    assert document["model_version"] == "7"
    assert document["outputs"][0]["parameters"] == {"binary_data_size": len(raw)}
    assert (vendor or v2.PLAIN) in answer.content_type.decode()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=20, deadline=None)  # times the number of dtypes
@given(data=st.data())
def test_json_round_trip(dtype: str, nested: bool, data: st.DataObject) -> None:
    """A tensor sent as JSON, flat or nested, comes back flat with the same values."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    elements = {"allow_nan": False, "allow_infinity": False} if "float" in dtype else None
    array = data.draw(hnp.arrays(dtype, shape, elements=elements))
    values = array.tolist() if nested else array.ravel().tolist()
    one = {"name": "x", "shape": list(shape), "datatype": v2.DATATYPES[dtype], "data": values}
    infer = v2.decode(json.dumps({"inputs": [one]}).encode(), signature(dtype, shape), size=None)
    document, tail = split(v2.encode(infer, infer.inputs, model="m", version=None))
    assert not tail
    assert "model_version" not in document
    got = np.array(document["outputs"][0]["data"], dtype).reshape(document["outputs"][0]["shape"])
    assert np.array_equal(got, array)


def request(**changes: Any) -> dict[str, Any]:
    one = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
    top = {k[4:]: v for k, v in changes.items() if k.startswith("top_")}
    one.update({k: v for k, v in changes.items() if not k.startswith("top_")})
    return {"inputs": [{k: v for k, v in one.items() if v is not ...}], **top}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "body"),
        ({}, "inputs"),
        ({"inputs": [3]}, "inputs[0]"),
        ({"inputs": []}, "inputs.x"),
        (request(top_priority=1), "body.priority"),
        (request(top_id=5), "id"),
        (request(top_parameters={"sequence_id": 1}), "parameters.sequence_id"),
        (request(top_parameters={"binary_data_output": 1}), "parameters.binary_data_output"),
        (request(name="z"), "inputs.z"),
        (request(name=...), "inputs[0].name"),
        (request(datatype="FP64"), "inputs[0].datatype"),
        (request(datatype=None), "inputs[0].datatype"),
        (request(shape=[2, 4]), "inputs[0].shape"),
        (request(shape=[2, -3]), "inputs[0].shape"),
        (request(shape=[0, 3]), "inputs[0].shape"),
        (request(shape=[6]), "inputs[0].shape"),
        (request(shape=[2.0, 3]), "inputs[0].shape"),
        (request(shape=[2**70, 3]), "inputs[0].shape"),
        (request(shape="23"), "inputs[0].shape"),
        (request(data=[1, 2, 3]), "inputs[0].data"),
        (request(data=...), "inputs[0].data"),
        (request(data=[1, 2, 3, 4, 5, "6"]), "inputs[0].data[5]"),
        (request(data=[[1, 2, 3], [4, 5, True]]), "inputs[0].data[1][2]"),
        (request(data=[[1, 2, 3]]), "inputs[0].data"),
        (request(extra=1), "inputs[0].extra"),
        (request(parameters={"binary_data_size": 4}), "inputs[0].data"),
        (
            request(data=..., parameters={"binary_data_size": 24}),
            "inputs[0].parameters.binary_data_size",
        ),
        (
            request(data=..., parameters={"binary_data_size": -1}),
            "inputs[0].parameters.binary_data_size",
        ),
        (
            request(data=..., parameters={"binary_data_size": True}),
            "inputs[0].parameters.binary_data_size",
        ),
        (request(data=..., parameters={"shared_memory": 1}), "inputs[0].parameters.shared_memory"),
        (request(top_outputs=[{"name": "z"}]), "outputs[0].name"),
        (request(top_outputs=[{"name": "y"}, {"name": "y"}]), "outputs[1].name"),
        (request(top_outputs=[{"name": "y", "parameters": {"classification": 1}}]),
         "outputs[0].parameters.classification"),
        ({"inputs": [request()["inputs"][0]] * 2}, "inputs"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(kit: ModuleType, document: Any, field: str) -> None:
    """Whatever the protocol or the signature does not say is refused by name."""
    with pytest.raises(Refusal) as caught:
        v2.decode(json.dumps(document).encode(), SignatureCheck(kit.LINE), size=None)
    assert caught.value.status == 400
    assert caught.value.field == field


def test_leftover_and_missing_bytes(kit: ModuleType) -> None:
    """Bytes behind the last tensor, and a header longer than the body, are refused."""
    checks = SignatureCheck(kit.LINE)
    head = json.dumps(request()).encode()
    for body, size in ((head + b"\0", len(head)), (head, len(head) + 1)):
        with pytest.raises(Refusal) as caught:
            v2.decode(body, checks, size=size)
        assert caught.value.field == "body"


def test_rows_agree(kit: ModuleType) -> None:
    """Inputs with different numbers of rows are refused."""
    left = {"name": "left", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    right = {"name": "right", "shape": [2], "datatype": "INT64", "data": [1, 2]}
    with pytest.raises(Refusal) as caught:
        v2.read({"inputs": [left, right]}, SignatureCheck(kit.PAIR))
    assert caught.value.field == "inputs[1].shape[0]"


def test_outputs_are_chosen(kit: ModuleType) -> None:
    """A request gets the outputs that it names, each in its own form."""
    left = {"name": "left", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    right = {"name": "right", "shape": [1], "datatype": "INT64", "data": [1]}
    outputs = [{"name": "even", "parameters": {"binary_data": True}}, {"name": "total"}]
    infer = v2.read({"inputs": [right, left], "outputs": outputs}, SignatureCheck(kit.PAIR))
    assert list(infer.inputs) == ["left", "right"]
    given = {"total": np.ones((1, 2), np.float32), "even": np.array([True])}
    document, tail = split(v2.encode(infer, given, model="m", version="7"))
    assert tail == b"\1"
    assert [one["name"] for one in document["outputs"]] == ["even", "total"]
    assert document["outputs"][1]["data"] == [1.0, 1.0]


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", " 1", "1_0", "٣", "9999999999", "1.0"])
def test_header_sizes_are_plain_numbers(text: str) -> None:
    """The header's length is decimal digits and nothing else."""
    with pytest.raises(Refusal):
        v2.header_size({}, v2.VENDORS[0], {"json-header-size": text})
    with pytest.raises(Refusal):
        v2.header_size({v2.LENGTH: text.encode()}, "", {})


def test_the_place_of_the_length() -> None:
    """The vendors' types come before the plain header, and without either all is JSON."""
    assert v2.header_size({v2.LENGTH: b"5"}, v2.VENDORS[1], {"json-header-size": "7"}) == 7
    assert v2.header_size({v2.LENGTH: b"5"}, "application/octet-stream", {}) == 5
    assert v2.header_size({}, "application/json", {}) is None
