"""How traffic moves: custom metrics, what a target does itself, and whose request goes where."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest
from cloudreg.traffic import (
    CustomMetric,
    Driver,
    MetricSource,
    NativeRollouts,
    Rollout,
    RolloutStrategy,
    assigned,
)

KEYS = [f"user-{number}" for number in range(5000)]
NATIVE = NativeRollouts(
    canary_percent=(1, 50), linear_percent=(10, 50), bake_s=(0, 3600), sources=frozenset({"ours"})
)


def metric(**said: Any) -> CustomMetric:
    return CustomMetric(**{"name": "drift", "source": "ours", "max": 1.0, **said})


def split(weights: dict[str, int], **more: Any) -> dict[str, str]:
    return {key: assigned(key, weights, **more) for key in KEYS}


def test_keys_get_their_shares() -> None:
    """Each variant gets its percent of the keys, within two points at five thousand keys."""
    weights = {"primary": 70, "canary": 25, "third": 5, "nothing": 0}
    found = Counter(split(weights).values())

    # Three standard deviations of a share of 5000 draws are 2 points at most.
    assert {n: pytest.approx(w, abs=2.0) for n, w in weights.items() if w} == {
        n: 100 * count / len(KEYS) for n, count in found.items()
    }


def test_same_key_same_variant() -> None:
    """A key meets the same variant in every process: the answer is written down here."""
    weights = {"primary": 50, "canary": 50}
    assert [assigned(f"user-{n}", weights, salt="churn-prod") for n in range(8)] == [
        assigned(f"user-{n}", dict(reversed(weights.items())), salt="churn-prod") for n in range(8)
    ]
    assert "".join(assigned(f"user-{n}", weights, salt="churn-prod")[0] for n in range(16)) == KNOWN


KNOWN = "pppppcpcppccpccc"


def test_only_keys_move_that_have_to() -> None:
    """Where ten points of weight move, a tenth of the keys moves, and all in that direction."""
    before = split({"primary": 80, "canary": 20})
    after = split({"primary": 70, "canary": 30})
    moved = [key for key in KEYS if before[key] != after[key]]

    assert {before[key] for key in moved} == {"primary"}
    assert len(moved) / len(KEYS) == pytest.approx(0.1, abs=0.02)


def test_two_endpoints_split_differently() -> None:
    """Whoever is in the canary of one endpoint is not for that reason in another's."""
    weights = {"primary": 50, "canary": 50}
    one, two = split(weights, salt="one"), split(weights, salt="two")
    same = sum(one[key] == two[key] for key in KEYS)
    assert same / len(KEYS) == pytest.approx(0.5, abs=0.03)


def test_no_weight_at_all() -> None:
    """Keys cannot be split over nothing."""
    with pytest.raises(InvalidRequest, match="no variant has any weight"):
        assigned("user", {"primary": 0})


def test_metric_without_a_limit() -> None:
    """A metric that nothing is judged by is refused, and so are limits that no number satisfies."""
    for said in ({"max": None}, {"min": 2.0, "max": 1.0}, {"max": float("nan")}, {"name": ""}):
        with pytest.raises(InvalidRequest, match="rollout metric"):
            metric(**said)


def test_limits_of_a_metric() -> None:
    """A value on a limit holds, one beyond it breaks, and what is no number always breaks."""
    both = metric(min=0.5, max=1.0)
    assert [both.breaks(v) for v in (0.5, 1.0, 0.49, 1.01, float("nan"))] == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert both.worst([0.7, 1.2, 0.8]) == 1.2
    assert both.worst([0.7, 0.8]) == 0.8
    assert both.worst([]) is None


def test_query_speaks_of_the_variant() -> None:
    """Placeholders are filled in texts and tables; other braces stay as they are."""
    asked = metric(query={"metric": "drift_{model}", "dimensions": {"V": "{variant}", "x": "{y}"}})
    assert asked.filled(model="churn", variant="canary") == {
        "metric": "drift_churn",
        "dimensions": {"V": "canary", "x": "{y}"},
    }


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "needs metric"),
        ({"metric": "a", "unit": "b"}, "no key 'unit'"),
        ({"metric": {"a": "b"}}, "metric is a text"),
        ({"metric": "a", "labels": "b"}, "labels is a table"),
        ({"metric": "a", "statistic": "mode"}, "'mode' is none of ours's"),
    ],
)
def test_query_that_the_source_does_not_know(query: dict[str, Any], words: str) -> None:
    """What a source cannot look up is refused by the key's name."""
    source = MetricSource(
        required=frozenset({"metric"}),
        optional=frozenset({"labels", "statistic"}),
        tables=frozenset({"labels"}),
        choices={"statistic": ("mean", "max")},
    )
    source.check(metric(query={"metric": "a", "labels": {"b": "c"}, "statistic": "max"}))
    with pytest.raises(InvalidRequest, match=words):
        source.check(metric(query=query))


CANARY = {"strategy": RolloutStrategy.CANARY, "steps": (10, 100), "driver": Driver.NATIVE}
LINEAR = {"strategy": RolloutStrategy.LINEAR, "steps": (30, 60, 90, 100), "driver": Driver.NATIVE}


@pytest.mark.parametrize(
    "said",
    [
        CANARY,
        LINEAR,
        {"driver": Driver.NATIVE},
        {**CANARY, "max_error_rate": 0.1, "bake_s": 60.0, "min_requests": 0},
        {**LINEAR, "metrics": (metric(),), "bake_s": 60.0, "min_requests": 0},
    ],
)
def test_what_a_target_can_do_itself(said: dict[str, Any]) -> None:
    """Rollouts that mean the same to the target are left to it."""
    assert NATIVE.against(Rollout(**said)) is None


@pytest.mark.parametrize(
    ("said", "words", "hint"),
    [
        ({**CANARY, "steps": (60, 100)}, "one step of 1 to 50 %", "steps = [50, 100]"),
        ({**CANARY, "steps": (10, 50, 100)}, "one step", 'driver = "cloudreg"'),
        ({**LINEAR, "steps": (20, 50, 100)}, "all alike", 'driver = "cloudreg"'),
        ({**LINEAR, "steps": (5, 10, 100)}, "all alike", 'driver = "cloudreg"'),
        ({**CANARY, "bake_s": 1.5}, "whole seconds", "bake_s = 2"),
        ({**CANARY, "bake_s": 7200.0}, "0 to 3600", "bake_s = 3600"),
        ({**CANARY, "max_p95_ms": 5.0, "bake_s": 9.0}, "cannot pause", "min_requests = 0"),
        ({**CANARY, "max_p95_ms": 5.0, "min_requests": 0}, "judged by nothing", "bake_s = 300"),
        (
            {**CANARY, "metrics": (metric(source="theirs"),), "bake_s": 9.0},
            "watches no theirs, and so no drift",
            'driver = "cloudreg"',
        ),
    ],
)
def test_what_a_target_cannot_do_itself(said: dict[str, Any], words: str, hint: str) -> None:
    """What would mean something else there is refused, with what can be typed instead."""
    against = NATIVE.against(Rollout(**said))
    assert against is not None
    assert words in against[0]
    assert hint in against[1]
