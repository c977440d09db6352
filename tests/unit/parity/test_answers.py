"""Answers of several targets side by side."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest
from cloudreg.gates.agreement import Tolerance
from cloudreg.gates.parity import ParityGate, Question
from cloudreg.names import canonical_json
from cloudreg.types import GateResult


def judged(
    answers: dict[str, list[Any]], failures: dict[str, str] | None = None, **gate: Any
) -> GateResult:
    """Return what a gate finds in these answers."""
    count = len(next(iter(answers.values()), []))
    question = Question(
        gate=ParityGate(path="golden.json", **gate),
        instances=list(range(count)),
        bare_name="score",
        sha256="sha256:" + "0" * 64,
    )
    result = question.judge(answers, failures or {})
    # The ledger takes the result, or the promotion could not be recorded.
    canonical_json(result.to_json())
    return result


def test_alike() -> None:
    """Answers within the tolerance pass, and the largest difference is told for each target."""
    result = judged({"aws": [1.0, 2.0], "gcp": [1.0, 2.00001], "near": [1.0, 2.0]})

    assert result.passed
    largest = result.evidence["largest"]
    assert largest["gcp"] == pytest.approx(1e-5)
    assert "2 answers of aws and gcp and near agree" in result.reason


def test_each_two_are_compared() -> None:
    """Two targets that are both near a third one, and not near each other, differ."""
    rules = {"tolerances": {"score": Tolerance(atol=0.1, rtol=0)}}

    result = judged({"aws": [1.0], "gcp": [1.08], "near": [0.92]}, **rules)

    assert not result.passed
    assert "gcp and near differ on 1 of 1 samples, by 0.16 at most" in result.reason
    assert "aws" not in result.reason
    assert result.evidence["largest"]["aws"] == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 2),
        (1.0, math.nan),
        (1.0, "1.0"),
        (True, 1),
        ([1.0, 2.0], [1.0]),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0}),
        ({"label": "stays"}, {"label": "leaves"}),
        (None, 0.0),
        (10**400, 1.0),
    ],
)
def test_apart(left: Any, right: Any) -> None:
    """What is not the same answer is found, whichever target says it."""
    assert not judged({"aws": [left], "gcp": [right]}).passed
    assert not judged({"aws": [right], "gcp": [left]}).passed
    assert judged({"aws": [right], "gcp": [right]}).passed == (right == right)


def test_a_share_may_differ() -> None:
    """As many answers as the gate allows may differ, and no more."""
    same = {"aws": [1.0] * 10, "gcp": [1.0] * 9 + [2.0]}

    assert judged(same, min_agreement=0.9).passed
    assert not judged(same, min_agreement=0.91).passed


def test_no_answer_is_no_agreement() -> None:
    """A target that could not be asked, or none to compare with, is a failure."""
    failed = judged({"aws": [1.0]}, {"gcp": "no replica is ready"})
    alone = judged({"aws": [1.0]})
    nothing = judged({})

    assert "gcp could not be asked: no replica is ready" in failed.reason
    assert [r.passed for r in (failed, alone, nothing)] == [False, False, False]
    assert "nothing to compare" in alone.reason


@pytest.mark.parametrize(
    "wrong", [{"path": "a.csv"}, {"min_agreement": 0}, {"min_agreement": 2}, {"batch_size": 0}]
)
def test_a_gate_that_could_not_fail(wrong: dict[str, Any]) -> None:
    """Tables that cannot be meant are refused."""
    with pytest.raises(InvalidRequest):
        ParityGate(**{"path": "golden.json", **wrong})


def test_the_readme_shows_a_gate() -> None:
    """The table in the README is a parity gate."""
    import re
    import tomllib
    from pathlib import Path

    from cloudreg import gates

    readme = (Path(__file__).parents[3] / "README.md").read_text()
    section = readme.partition("\n## The same answers everywhere\n")[2].partition("\n## ")[0]
    (text,) = re.findall(r"^```toml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)

    (table,) = tomllib.loads(text)["stages"]["prod"]["gates"]
    assert isinstance(gates.build(table), ParityGate)
