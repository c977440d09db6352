"""What labels and aliases say of a version."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.errors import InvalidRequest
from cloudreg.names import sha256
from cloudreg_vertex import labels


@given(st.binary(max_size=64))
def test_digest(data: bytes) -> None:
    """A digest fits into a label, and comes back."""
    digest = sha256(data)
    text = labels.encoded(digest)

    assert re.fullmatch(r"[a-z0-9_-]{1,63}", text)
    assert labels.decoded(text) == digest


@pytest.mark.parametrize("text", ["", "abc", "!", "a" * 51, "a" * 53, "1" * 52])
def test_no_digest(text: str) -> None:
    """A label that somebody else wrote is no digest."""
    assert labels.decoded(text) is None


def test_identity() -> None:
    """Labels that are not all there are not cloudreg's."""
    marks = {
        labels.MODEL: "churn",
        labels.NUMBER: "7",
        labels.DIGEST: labels.encoded(sha256(b"7")),
    }

    assert labels.identity(marks) == ("churn", 7, sha256(b"7"))
    for key in marks:
        assert labels.identity({k: v for k, v in marks.items() if k != key}) is None
        assert labels.identity({**marks, key: "ü"} if key != labels.MODEL else {}) is None


def test_stages() -> None:
    """Aliases are stages, but for those of numbers and for the one that Vertex AI moves."""
    assert labels.stages(["default", "v7", "prod", "dev", "v2x"]) == ("dev", "prod", "v2x")


@pytest.mark.parametrize("stage", ["default", "v7"])
def test_aliases_that_mean_something_else(stage: str) -> None:
    """A stage that would be taken for something else is refused."""
    with pytest.raises(InvalidRequest, match="means something else"):
        labels.check_alias(stage, target="gcp")
