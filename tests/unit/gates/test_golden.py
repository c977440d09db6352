"""A version whose answers are not the golden ones does not enter, and the refusal says why."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.errors import InvalidRequest, OperationFailed
from cloudreg.gates.agreement import Tolerance, compare
from cloudreg.gates.golden import GoldenGate
from cloudreg.manifest import Signature, TensorSpec

Check = Callable[..., Any]

ONE_OUTPUT = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(-1,)),),
    outputs=(TensorSpec(name="probability", dtype="float32", shape=(-1,)),),
)


@pytest.fixture
def golden(tmp_path: Path) -> Callable[..., str]:
    """Write samples, each (instance, expected), and return the path."""

    def write(*samples: tuple[Any, Any], name: str = "golden.jsonl") -> str:
        rows = [{"instance": instance, "expected": expected} for instance, expected in samples]
        text = (
            json.dumps(rows) if name.endswith(".json") else "\n".join(json.dumps(r) for r in rows)
        )
        (tmp_path / name).write_text(text)
        return name

    return write


@pytest.mark.parametrize("name", ["golden.json", "golden.jsonl", "golden.ndjson"])
def test_agreement(
    check: Check, version: Check, serving: Check, golden: Check, tmp_path: Path, name: str
) -> None:
    """Every sample is asked of the candidate itself, in batches, and the file is on record."""
    path = golden(*((i, i * 2.0) for i in range(70)), name=name)
    server, candidate = serving(lambda x: x * 2), version()

    result = check(GoldenGate(path=path), candidate, serve=server)

    assert result.passed
    assert server.served == [candidate]
    assert server.batches == [32, 32, 6]
    assert server.running == 0
    assert result.measured == "70 of 70 samples agree (100 %)"
    assert result.evidence["samples"] == 70
    assert result.evidence["mismatches"] == []
    sha256 = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert result.evidence["sha256"] == f"sha256:{sha256}"


def test_refusal(check: Check, version: Check, serving: Check, golden: Check) -> None:
    """A refusal names measured, wanted, the worst field, and the first samples."""
    path = golden(*((i, {"probability": 0.5, "label": 1}) for i in range(10)))

    def answer(i: int) -> dict[str, Any]:
        return {"probability": 0.5 + i / 10 * (i > 3), "label": 1, "extra": "not compared"}

    result = check(GoldenGate(path=path, min_agreement=0.9), version(), serve=serving(answer))

    assert not result.passed
    assert result.measured == "4 of 10 samples agree (40 %)"
    assert result.wanted == "at least 90 %"
    assert result.reason == (
        "4 of 10 samples agree (40 %), wanted at least 90 %; "
        "worst field probability: off by 0.9, 6e-05 is allowed; "
        "sample 4: probability is 0.9, expected 0.5; "
        "sample 5: probability is 1.0, expected 0.5; "
        "sample 6: probability is 1.1, expected 0.5; "
        "and 3 samples more"
    )
    assert result.evidence["agreement"] == 0.4
    assert result.evidence["mismatches"][0] == {
        "index": 4,
        "field": "probability",
        "got": 0.9,
        "expected": 0.5,
    }


@pytest.mark.parametrize(("wanted", "passed"), [(0.9, True), (0.91, False), (1.0, False)])
def test_share(
    check: Check, version: Check, serving: Check, golden: Check, wanted: float, passed: bool
) -> None:
    """The share of agreeing samples decides, the bound itself being enough."""
    path = golden(*((i, i) for i in range(10)))
    gate = GoldenGate(path=path, min_agreement=wanted)

    result = check(gate, version(), serve=serving(lambda i: 0 if i == 3 else i))

    assert result.passed is passed
    # What differs is evidence where it does not matter, and the reason where it does.
    assert ("sample 3: prediction is 0, expected 3" in result.reason) is not passed
    assert result.evidence["mismatches"][0]["index"] == 3


@pytest.mark.parametrize(
    ("got", "expected", "agrees"),
    [
        (0.50004, 0.5, True),
        (0.50007, 0.5, False),
        (1, 1.0, True),
        (1.00001, 1, True),
        (2, 1, False),
        (1000001, 1000000, False),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (False, 0.0, False),
        ("yes", "yes", True),
        ("Yes", "yes", False),
        (None, None, True),
        (None, 0, False),
        ("1", 1, False),
        (math.nan, 0.5, False),
        (math.inf, 0.5, False),
        (10**400, 0.5, False),
        (0.5, 10**400, False),
        ([1.0, 2.0], [1.0, 2.00001], True),
        ([1.0, 2.0], [1.0], False),
        ([1.0, [2.0]], [1.0, [3.0]], False),
        (1.0, [1.0], False),
        ([1.0], 1.0, False),
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, True),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, False),
        (1, {"a": 1}, False),
    ],
)
def test_values(got: Any, expected: Any, agrees: bool) -> None:
    """Numbers are compared by tolerance, all else exactly, and types are never mixed."""
    found = compare(got, expected, bare_name="prediction", tolerances={})

    assert (not found) is agrees


def test_tolerance_of_a_field() -> None:
    """A field's tolerance holds for it at any depth, whole numbers included, and for no other."""
    tolerances = {"scores": Tolerance(atol=1, rtol=0)}
    got = {"scores": [{"n": 2}, 3.9], "n": 2}

    found = compare(got, {"scores": [{"n": 1}, 3], "n": 1}, bare_name="p", tolerances=tolerances)

    assert [(d.field, d.got, d.expected) for d in found] == [("n", 2, 1)]


def test_places() -> None:
    """A difference names its place."""
    got = {"a": {"b": [1, {"c": 2}]}}

    found = compare(got, {"a": {"b": [1, {"c": 3}], "d": 1}}, bare_name="p", tolerances={})

    assert [d.field for d in found] == ["a.b[1].c", "a.d"]
    assert found[1].reason == "a.d is missing"


@given(
    expected=st.floats(-1e9, 1e9),
    atol=st.floats(0, 1e3),
    rtol=st.floats(0, 1),
    share=st.floats(0, 3),
)
def test_tolerance_is_what_it_says(expected: float, atol: float, rtol: float, share: float) -> None:
    """A number agrees within atol + rtol * |expected|, and not beyond."""
    allowed = atol + rtol * abs(expected)
    got = expected + share * allowed

    found = compare(got, expected, bare_name="p", tolerances={"p": Tolerance(atol=atol, rtol=rtol)})

    assert (not found) == (abs(got - expected) <= allowed)


def test_bare_predictions(check: Check, version: Check, serving: Check, golden: Check) -> None:
    """A version with one output answers bare, whether a sample names it or not."""
    path = golden((1, {"probability": 0.5}), (2, 0.5))
    gate = GoldenGate(path=path, tolerances={"probability": Tolerance(atol=0.2)})
    candidate = version(signature=ONE_OUTPUT)

    assert check(gate, candidate, serve=serving(lambda _: 0.6)).passed
    assert "probability is 0.8" in check(gate, candidate, serve=serving(lambda _: 0.8)).reason


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("g.jsonl", "", "g.jsonl holds no sample: nothing would be compared"),
        ("g.jsonl", "\n \n", "g.jsonl holds no sample: nothing would be compared"),
        ("g.json", "[]", "g.json holds no sample: nothing would be compared"),
        ("g.json", "{}", "g.json is no array of samples"),
        ("g.json", "[\n{]", "g.json, line 2, column 2: Expecting property name"),
        ("g.jsonl", '{"instance": 1, "expected": 2}\n{"ins', "g.jsonl, line 2, column 2"),
        ("g.jsonl", "3", 'g.jsonl, line 1: a sample is {"instance": …, "expected": …}'),
        ("g.jsonl", '{"instance": 1}', "g.jsonl, line 1: a sample is"),
        ("g.json", '[{"instance": 1, "expect": 2}]', "g.json, sample 0: a sample is"),
        ("g.json", '[{"instance": 1, "expected": 2, "id": 3}]', "g.json, sample 0: a sample is"),
        ("g.json", '[{"instance": 1, "expected": {}}]', "g.json, sample 0: expected is empty"),
        ("g.json", '[{"instance": 1, "expected": [[]]}]', "g.json, sample 0: expected is empty"),
        ("g.json", '[{"instance": 1, "expected": NaN}]', "g.json: NaN is no JSON"),
        ("g.json", '[{"instance": 1, "expected": 1e999}]', "g.json: 1e999 is too large"),
        ("g.json", f"[{'9' * 5000}]", "g.json: Exceeds the limit"),
        ("g.json", "[" * 100_000, "g.json: maximum recursion depth exceeded"),
    ],
)
def test_malformed_data(
    check: Check, version: Check, serving: Check, tmp_path: Path, name: str, text: str, reason: str
) -> None:
    """Data that cannot be used fails the gate with its place, and no server is started."""
    (tmp_path / name).write_text(text)
    server = serving(lambda x: x)

    result = check(GoldenGate(path=name), version(), serve=server)

    assert not result.passed
    assert reason in result.reason
    assert result.measured == "no usable golden data"
    assert result.evidence["sha256"].startswith("sha256:")
    assert server.served == []


def test_missing_data(check: Check, version: Check, tmp_path: Path) -> None:
    """Data that is not there, or is a folder, fails the gate by its name."""
    (tmp_path / "folder.json").mkdir()

    for name in ("nowhere.json", "folder.json"):
        result = check(GoldenGate(path=name), version())
        assert not result.passed
        assert f"there is no file {name}" in result.reason


def test_data_that_is_no_text(check: Check, version: Check, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are refused."""
    (tmp_path / "g.jsonl").write_bytes(b"\xff\xfe")

    assert "is no UTF-8" in check(GoldenGate(path="g.jsonl"), version()).reason


def test_lines_are_lines(check: Check, version: Check, serving: Check, tmp_path: Path) -> None:
    """A Unicode line separator inside a string does not end the line."""
    sample = json.dumps({"instance": "a\u2028b", "expected": "a\u2028b"}, ensure_ascii=False)
    (tmp_path / "g.jsonl").write_text(sample + "\r\n" + sample + "\n")

    result = check(GoldenGate(path="g.jsonl"), version(), serve=serving(lambda x: x))

    assert result.passed
    assert result.evidence["samples"] == 2


def test_misspelt_tolerance(check: Check, version: Check, golden: Check) -> None:
    """A tolerance for a field that no sample has would silently do nothing: it fails."""
    path = golden((1, {"probability": 0.5, "label": 1}))

    result = check(GoldenGate(path=path, tolerances={"probabilty": Tolerance()}), version())

    assert not result.passed
    assert "'probabilty'" in result.reason
    assert "they expect label, probability" in result.reason


def test_refused_request(check: Check, version: Check, serving: Check, golden: Check) -> None:
    """A server that refuses samples fails the gate, and the samples are named."""
    path = golden(*((i, i) for i in range(4)))

    def answer(i: int) -> int:
        if i == 3:
            raise InvalidRequest("instances[1].x: an array is wanted")
        return i

    server = serving(answer)
    result = check(GoldenGate(path=path, batch_size=2), version(), serve=server)

    assert not result.passed
    assert "samples 2 to 3: instances[1].x: an array is wanted" in result.reason
    assert result.evidence["error"] == "InvalidRequest"
    assert server.running == 0


def test_server_that_dies(check: Check, version: Check, golden: Check) -> None:
    """A server that cannot be started fails the gate, and its last words are shown."""

    def serve(_: Any) -> Any:
        raise OperationFailed("the model server of churn:7 ended", logs=["no such tensor: w"])

    result = check(GoldenGate(path=golden((1, 1))), version(), serve=serve)

    assert not result.passed
    assert "churn:7 could not be asked" in result.reason
    assert "no such tensor: w" in result.reason


def test_missing_predictions(check: Check, version: Check, serving: Check, golden: Check) -> None:
    """Fewer predictions than samples are no agreement."""
    server = serving(lambda x: x)
    server.predict = lambda instances: instances[:1]

    result = check(GoldenGate(path=golden((1, 1), (2, 2))), version(), serve=server)

    assert not result.passed
    assert "samples 0 to 1: 1 predictions came back" in result.reason


def test_evidence_stays_small(check: Check, version: Check, serving: Check, golden: Check) -> None:
    """What goes into the ledger is bounded, whatever the answers are."""
    path = golden(*((i, {"text": "x" * 10_000}) for i in range(300)))

    result = check(
        GoldenGate(path=path), version(), serve=serving(lambda _: {"text": "y" * 10_000})
    )

    assert not result.passed
    assert len(json.dumps(result.to_json())) < 8_000


def test_huge_numbers(check: Check, version: Check, serving: Check, golden: Check) -> None:
    """A number that nothing can carry further is a difference, not a crash."""
    result = check(
        GoldenGate(path=golden((1, 1), (2, 0.5))), version(), serve=serving(lambda _: 10**5000)
    )

    assert not result.passed
    assert "is a number of 16610 bits" in result.reason
