"""A version that nobody could make again does not enter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.gates.lineage import LineageGate
from cloudreg.manifest import Lineage

Check = Callable[..., Any]

WHOLE = Lineage(
    git_commit="0" * 40, git_dirty=False, data_digest="sha256:1", environment_digest="sha256:2",
    seed=0,
)  # fmt: skip


def test_complete(check: Check, version: Check) -> None:
    """A complete lineage passes; 0 is a seed."""
    result = check(LineageGate(), version(lineage=WHOLE))

    assert result.passed
    assert result.measured.endswith("(work tree: clean)")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"git_commit": None}, "the git commit is missing"),
        ({"data_digest": None}, "the digest of the training data is missing"),
        ({"environment_digest": ""}, "the digest of the environment is missing"),
        ({"seed": None}, "the seed is missing"),
        ({"git_dirty": True}, "the work tree differed from the commit"),
        ({"git_dirty": None}, "it is not known whether the work tree differed from the commit"),
    ],
)
def test_incomplete(check: Check, version: Check, change: dict[str, Any], reason: str) -> None:
    """Each missing part fails, and is named."""
    result = check(LineageGate(), version(lineage=replace(WHOLE, **change)))

    assert not result.passed
    assert result.reason == reason


def test_nothing_known(check: Check, version: Check) -> None:
    """All that is missing is named at once."""
    result = check(LineageGate(), version())

    assert result.evidence["missing"] == [
        "git_commit",
        "data_digest",
        "environment_digest",
        "seed",
    ]
    assert result.reason.count("missing") == 4
    assert result.measured == "nothing (work tree: not known)"


def test_dirty_tree_allowed(check: Check, version: Check) -> None:
    """A dirty tree passes where that is allowed."""
    gate = LineageGate(allow_dirty=True)

    assert check(gate, version(lineage=replace(WHOLE, git_dirty=True))).passed


def test_other_requirements(check: Check, version: Check) -> None:
    """Only what is required must be there."""
    gate = LineageGate(require=("parameters", "seed"))

    assert not check(gate, version(lineage=Lineage(seed=1))).passed
    assert check(gate, version(lineage=Lineage(seed=1, parameters={"lr": 0.1}))).passed
