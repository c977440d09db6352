"""Names, references and canonical JSON."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.errors import InvalidRequest
from cloudreg.names import (
    ModelRef,
    canonical_json,
    check_digest,
    check_endpoint,
    check_model,
    check_stage,
    check_target,
    check_variant,
    sha256,
    short,
)

SLUGS = st.from_regex(r"[a-z](?:-?[a-z0-9]){0,15}", fullmatch=True)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{8,64}", fullmatch=True)

HOSTILE = [
    "", " ", ".", "..", "../x", "a/b", "a\\b", "/a", "C:", "a\0b", "a\n", "\na", "a b",
    "A", "Churn", "1a", "-a", "a-", "a--b", "a_b", "a.b", "%2e%2e", "a%2fb", "a" * 500,
    "\uff41", "\u0430", "a\u200b", "a\u202eb", "é", "ß", "a٣", "{{7*7}}", "$(id)", "a;b",
    "a?b", "a#b", "a@b", "a:b", "<b>", "'a'", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("check", [check_model, check_stage, check_endpoint, check_variant])
def test_hostile_name(check, name):
    """What could escape a folder, a URL or a shell names nothing."""
    with pytest.raises(InvalidRequest):
        check(name)


@pytest.mark.parametrize("name", [n for n in HOSTILE if n != "a_b"], ids=ascii)
def test_hostile_target(name):
    """A target's name is one that an environment variable can spell."""
    with pytest.raises(InvalidRequest):
        check_target(name)


@pytest.mark.parametrize(
    ("check", "limit"),
    [(check_model, 40), (check_stage, 20), (check_endpoint, 63), (check_variant, 20),
     (check_target, 40)],
)  # fmt: skip
def test_length(check, limit):
    """The longest name is right and one character more is wrong, shown shortened."""
    assert check("a" * limit) == "a" * limit
    with pytest.raises(InvalidRequest) as refused:
        check("a" * (limit + 5_000 if check is not check_target else limit + 1))
    assert len(str(refused.value)) < 300


def test_stage_of_one_character():
    """A stage needs two characters: Vertex's aliases do."""
    with pytest.raises(InvalidRequest, match="too short"):
        check_stage("p")
    assert check_stage("qa") == "qa"


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63,
                                  "md5:" + "a" * 32, "a" * 64, "sha256:" + "a" * 64 + "\n"],
)  # fmt: skip
def test_no_digest(text):
    """A digest is whole, in lower case, and says its algorithm."""
    with pytest.raises(InvalidRequest):
        check_digest(text)


@given(
    st.one_of(
        st.builds(ModelRef, model=SLUGS, number=st.integers(1, 999_999_999)),
        st.builds(ModelRef, model=SLUGS, stage=SLUGS.filter(lambda s: 1 < len(s) <= 20)),
        st.builds(ModelRef, model=SLUGS, digest=DIGESTS),
    )
)
def test_reference_round_trip(ref):
    """A reference reads back from the text that it prints."""
    assert ModelRef.parse(str(ref)) == ref


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_refused(text):
    """Parsing ends in a reference that prints the same text, or in a typed refusal."""
    try:
        ref = ModelRef.parse(text)
    except InvalidRequest:
        return
    assert str(ref) == text


@pytest.mark.parametrize(
    "text",
    ["churn:0", "churn:-1", "churn:01", "churn:1.0", "churn:", "churn:x", "churn:1 ", "churn:1\n",
     "churn:1234567890", "churn:٣", "churn@", "churn@PROD", "churn@p", "churn@sha256:",
     "churn@sha256:abc", "churn@sha256:" + "g" * 64, "churn@sha256:" + "a" * 65, "churn:7@prod",
     "churn@prod:7", "churn@prod@dev", ":7", "@prod", "../churn:7", "churn:latest", "latest", ""],
)  # fmt: skip
def test_bad_reference(text):
    """A reference names a model and one version of it, in one of three ways."""
    with pytest.raises(InvalidRequest):
        ModelRef.parse(text)


def test_bare_model():
    """A model without a version is refused with the three ways to say which."""
    with pytest.raises(InvalidRequest, match="no version") as refused:
        ModelRef.parse("churn")
    assert "churn:1" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "parts",
    [{}, {"number": 1, "stage": "prod"}, {"number": 0}, {"number": -1}, {"stage": "Prod"},
     {"stage": ""}, {"digest": "abc"}, {"digest": "sha256:"}],
)  # fmt: skip
def test_impossible_reference(parts):
    """A reference that was built by hand obeys the same grammar."""
    with pytest.raises(InvalidRequest):
        ModelRef(model="churn", **parts)


VECTORS = [
    ({}, "{}", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    (
        {"b": 1, "a": [True, None, 0.5, "é"]},
        '{"a":[true,null,0.5,"é"],"b":1}',
        "8ffc3758f795457406a04600c1cc1926f9ec1940980ab72e2441929747a40a5e",
    ),
    (
        {"x": {"z": 1, "y": []}},
        '{"x":{"y":[],"z":1}}',
        "f454f3092c55f3992a10935a8071cb1f6dc80cd652ec4315e56a9ed10c58596a",
    ),
    (
        [1, 1.0, 1e22, -0.0],
        "[1,1.0,1e+22,-0.0]",
        "ad04e69c4000b5e58b325f253488962a19fa0394c48cebc8cb6ea6db8c90abf0",
    ),
    (
        'a"\\\n\u2028',
        '"a\\"\\\\\\n\u2028"',
        "27af6a248b0c6289cd75a92932739e1f06b9f4a6c9fe3bc9729606273a3633cb",
    ),
]


@pytest.mark.parametrize(("value", "text", "digest"), VECTORS)
def test_vector(value, text, digest):
    """The encoding and its digest are promises: they never change."""
    assert canonical_json(value).decode() == text
    assert sha256(canonical_json(value)) == f"sha256:{digest}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_canonical_json_is_stable(value):
    """What was encoded, read and encoded again has the same bytes."""
    data = canonical_json(value)
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), st.integers()))
def test_order_does_not_matter(value):
    """Two mappings with the same items have one encoding."""
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def _circular() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


def _deep() -> list[object]:
    nest: list[object] = []
    for _ in range(100_000):
        nest = [nest]
    return nest


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, {"a": [math.nan]}, {1, 2}, b"x", object, {1: "a"},
     {9: 1, 10: 2}, {None: 1}, {True: 1}, [{"a": {2.5: 1}}], "\ud800", {"\udfff": 1}],
    ids=ascii,
)  # fmt: skip
def test_no_word_for_it(value):
    """What JSON has no word for has no digest."""
    with pytest.raises(InvalidRequest, match="not plain JSON"):
        canonical_json(value)


@pytest.mark.parametrize("build", [_circular, _deep])
def test_endless(build):
    """A value without end is refused like any other."""
    with pytest.raises(InvalidRequest, match="not plain JSON"):
        canonical_json(build())


def test_digest_in_another_process():
    """Another process, with another hash seed, finds the same digest."""
    program = (
        "from cloudreg.names import *;"
        "print(sha256(canonical_json({k: k for k in {'b', 'a', 'ü'}})))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    wanted = hashlib.sha256('{"a":"a","b":"b","ü":"ü"}'.encode()).hexdigest()
    assert found == {f"sha256:{wanted}"}


def test_short():
    """People compare twelve digits."""
    assert short("sha256:" + "0123456789abcdef" * 4) == "sha256:0123456789ab"
