"""A table of the configuration becomes a gate, or an error that names the key."""

from __future__ import annotations

from typing import Any

import pytest

from cloudreg import gates
from cloudreg.errors import ConfigError
from cloudreg.gates.agreement import Tolerance


@pytest.mark.parametrize("kind", gates.KINDS)
def test_every_kind(kind: str) -> None:
    """Every kind that is listed exists, and is called what the list calls it."""
    needed: dict[str, dict[str, Any]] = {
        "metric": {"name": "auc", "min": 1},
        "golden": {"path": "golden.json"},
        "signed": {"keys": ["release"]},
        "parity": {"path": "golden.json"},
        "budget": {"usd_per_month": 100},
    }

    gate = gates.build({"kind": kind, **needed.get(kind, {})})

    assert gate.kind == kind


def test_nested_tables() -> None:
    """Tolerances are read with their defaults, and whole numbers are numbers."""
    table = {
        "kind": "golden",
        "path": "golden.jsonl",
        "tolerances": {"probability": {"atol": 0, "rtol": 0.01}, "score": {"atol": 1}},
    }

    gate: Any = gates.build(table)

    assert gate.tolerances == {
        "probability": Tolerance(atol=0.0, rtol=0.01),
        "score": Tolerance(atol=1.0, rtol=1e-4),
    }


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"kind": "vibes"}, "kind 'vibes' is none of"),
        ({}, "kind None is none of"),
        ({"kind": "stage_order", "strict": True}, "unknown key 'strict'"),
        ({"kind": "metric", "min": 1}, "a metric gate needs name"),
        ({"kind": "metric", "name": "auc"}, "nothing is asked of it"),
        ({"kind": "metric", "name": "auc", "min": "0.9"}, r"Expected `float \| null`, got `str`"),
        ({"kind": "metric", "name": "auc", "min": True}, r"Expected `float \| null`, got `bool`"),
        ({"kind": "metric", "name": "auc", "min": float("nan")}, "min is nan"),
        ({"kind": "metric", "name": "auc", "max": float("inf")}, "max is inf"),
        ({"kind": "metric", "name": "auc", "min": 2, "max": 1}, r"min 2\.0 is above max 1\.0"),
        ({"kind": "metric", "name": "auc", "max_regression": -1}, r"max_regression -1\.0 is neg"),
        ({"kind": "metric", "name": "", "min": 1}, "metric name ''"),
        ({"kind": "metric", "name": "a", "min": 1, "higher_is_better": "no"}, "Expected `bool`"),
        ({"kind": "golden"}, "a golden gate needs path"),
        ({"kind": "golden", "path": "golden.csv"}, r"ends in none of \.json"),
        ({"kind": "golden", "path": "g.json", "min_agreement": 0}, r"min_agreement 0\.0 is not"),
        ({"kind": "golden", "path": "g.json", "min_agreement": 90}, r"min_agreement 90\.0 is not"),
        ({"kind": "golden", "path": "g.json", "min_agreement": float("nan")}, "min_agreement nan"),
        ({"kind": "golden", "path": "g.json", "batch_size": 0}, "batch_size 0 is not"),
        ({"kind": "golden", "path": "g.json", "tolerances": {"a": {"tol": 1}}}, "field `tol`"),
        ({"kind": "golden", "path": "g.json", "tolerances": {"a": {"atol": -1}}}, r"atol -1\.0"),
        (
            {"kind": "golden", "path": "g.json", "tolerances": {"a": {"rtol": float("nan")}}},
            "rtol nan",
        ),
        ({"kind": "golden", "path": "g.json", "tolerances": {"a": 1}}, "Expected `object`"),
        ({"kind": "lineage", "require": ["commit"]}, "'commit' is no field of a lineage"),
        ({"kind": "lineage", "require": [], "allow_dirty": True}, "checks nothing"),
        ({"kind": "card", "require": ["use"]}, "'use' is no section of a model card"),
        ({"kind": "card", "require": []}, "checks nothing"),
    ],
)
def test_wrong_tables(table: dict[str, Any], reason: str) -> None:
    """A gate that cannot be meant is refused with the reason."""
    with pytest.raises(ConfigError, match=reason):
        gates.build(table)
