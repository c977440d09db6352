"""How often the targets are looked at where endpoints of many models are applied together."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from cloudreg.fleet import Fleet

MODELS = ("churn", "fraud", "spam")


@dataclass
class Scripted:
    """Planner, promoter and deployer of models of which some have something to change."""

    changed: tuple[str, ...]
    looks: int = 0
    performed: list[str] = field(default_factory=list)

    def look(self) -> dict[str, Any]:
        self.looks += 1
        return {}

    def names(self, *, model: str) -> list[str]:
        return [f"{model}-prod"]

    def settle(self, model: str) -> None:
        assert model in MODELS

    def endpoints(self, model: str, names: list[str], **_: Any) -> Any:
        assert names == [f"{model}-prod"]
        plan = SimpleNamespace(fingerprint=f"plan of {model}", empty=model not in self.changed)
        return SimpleNamespace(plan=plan, behind={})

    def perform(self, model: str, _prepare: Any, *, expected: str) -> str:
        assert expected == f"plan of {model}"
        self.performed.append(model)
        return model


def applied(*changed: str) -> tuple[Scripted, list[Any]]:
    script: Any = Scripted(changed)
    nothing: Any = None
    fleet = Fleet(nothing, nothing, nothing, script, planner=script, promoter=script)
    request = {"prune": False, "models": {model: f"plan of {model}" for model in MODELS}}
    return script, fleet.apply(request)


def test_one_look_for_all_models() -> None:
    """However many models there are, what nobody changes is looked at once."""
    script, outcomes = applied()

    assert script.looks == 1
    assert script.performed == []
    assert [outcome.changed for outcome in outcomes] == [False] * len(MODELS)


def test_only_what_changes_is_performed() -> None:
    """A model with a change is carried out by itself, which looks again; the others are told of."""
    script, outcomes = applied("fraud")

    assert script.performed == ["fraud"]
    assert script.looks == 1
    assert outcomes[1] == "fraud"
    assert [outcomes[0].changed, outcomes[2].changed] == [False, False]
