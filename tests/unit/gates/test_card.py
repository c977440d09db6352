"""A card with holes does not enter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.gates.card import CardGate, is_stated
from cloudreg.manifest import ModelCard

Check = Callable[..., Any]


def test_complete(check: Check, version: Check) -> None:
    """Intended use and limits are enough."""
    card = ModelCard(intended_use="Calls.", limits="Europe only.")

    assert check(CardGate(), version(card=card)).passed


@pytest.mark.parametrize("text", ["", "  \n", "TODO", "tbd.", "**TODO**: ask Ann", "n/a", "…", "-"])
def test_holes(check: Check, version: Check, text: str) -> None:
    """Nothing, white space and placeholders are holes."""
    result = check(CardGate(), version(card=ModelCard(intended_use="Calls.", limits=text)))

    assert not result.passed
    assert result.evidence["missing"] == ["limits"]
    assert result.reason.startswith("the model card of churn:7 is not complete: limits is ")
    assert ("placeholder" in result.reason) is bool(text.strip())


def test_other_sections(check: Check, version: Check) -> None:
    """Only what is required must be there."""
    gate = CardGate(require=("bias", "owners"))

    assert not check(gate, version(card=ModelCard(bias="None was found in 4 groups."))).passed
    assert check(gate, version(card=ModelCard(bias="Looked at age.", owners="ann"))).passed


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("", False),
        (" \n\t", False),
        ("TODO", False),
        ("todo: ask legal", False),
        ("**TBD**", False),
        ("[TBD]", False),
        ("(to be defined)", False),
        ("To be determined by Ann", False),
        ("FIXME later", False),
        ("xxx", False),
        ("N/A", False),
        ("n.a.", False),
        ("None.", False),
        ("unknown", False),
        ("not stated", False),
        ("...", False),
        ("?", False),
        ("—", False),
        ("<!-- say what it is for -->", False),
        ("<!-- hint --> Calls.", True),
        ("Lorem ipsum dolor", False),
        ("None of the 4 groups is treated worse.", True),
        ("Not for todo lists.", True),
        ("Unknown customers are scored too high.", True),
        ("只用于测试", True),
        ("B2B", True),
        ("Todos are ranked.", True),
    ],
)
def test_placeholders(text: str, stated: bool) -> None:
    """A placeholder states nothing; a sentence that holds such a word does."""
    assert is_stated(text) is stated
