"""Endpoints that somebody changed behind the ledger's back: found, mended, or accepted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.cli import main
from cloudreg.errors import Conflict, NotFound, Unavailable
from cloudreg.operations import wait

Live = Callable[..., Workspace]


def change(ws: Workspace, **changes: Any) -> None:
    """Change an endpoint's spec by hand."""
    backend = ws.targets["local"].endpoints
    spec = replace(ws.endpoint("churn-prod").describe().spec, **changes)
    versions = {v.digest: ws.version(f"{v.model}:{v.number}") for v in spec.variants}
    wait(backend.update(spec, artifacts=versions))


def facts(ws: Workspace) -> list[tuple[str, str, str]]:
    return [(d.field, d.ledger, d.actual) for d in ws.drift("churn")]


def test_deleted_endpoint(house: Any, live: Live) -> None:
    """An endpoint that was deleted by hand is found, and made again by a repair."""
    ws = live(versions=1)
    wait(ws.targets["local"].endpoints.delete("churn-prod"))
    assert facts(ws) == [("endpoint", "there", "gone")]
    assert [r.endpoints[0].status for r in ws.status("churn") if r.endpoints] == ["absent"]
    with pytest.raises(NotFound):
        house.served(ws)
    ws.repair("churn")
    assert house.served(ws) == 1
    house.check_truth(ws)


def test_changed_endpoint(house: Any, live: Live) -> None:
    """A field that was changed by hand is named with both values, and set back by a repair."""
    ws = live()
    change(ws, env={"STANDIN_MARK": "hand"})
    assert facts(ws) == [("env.STANDIN_MARK", "None", "hand")]
    repair = ws.repair("churn")
    assert [d.name for d in repair.differences] == ["churn-prod"]
    assert ws.endpoint("churn-prod").describe().spec.env == {}
    house.check_truth(ws)


def test_version_swapped_by_hand(house: Any, live: Live) -> None:
    """Another version on an endpoint than the ledger says is drift, whatever its status."""
    ws = live()
    two = ws.version("churn:2")
    [variant] = ws.endpoint("churn-prod").describe().spec.variants
    change(ws, variants=(replace(variant, number=2, digest=two.digest),))
    assert house.served(ws) == 2
    assert ("variants.primary.number", "1", "2") in facts(ws)
    assert ("primary runs", ws.version("churn:1").digest, two.digest) in facts(ws)
    ws.repair("churn")
    assert house.served(ws) == 1
    house.check_truth(ws)


def test_adopted_endpoint(house: Any, live: Live) -> None:
    """What was changed by hand can be taken as the truth; the next apply still asks for ours."""
    ws = live()
    change(ws, env={"STANDIN_MARK": "hand"})
    adopted = ws.adopt("churn", reason="hot fix")
    assert adopted.entry is not None
    assert adopted.entry.data["endpoints"]["churn-prod"]["spec"]["env"] == {"STANDIN_MARK": "hand"}
    house.check_truth(ws)
    assert not ws.plan().plan.empty
    assert ws.adopt("churn", reason="again").entry is None


def test_adopted_removal(house: Any, live: Live) -> None:
    """An endpoint that was deleted by hand can be adopted as gone."""
    ws = live(versions=1)
    wait(ws.targets["local"].endpoints.delete("churn-prod"))
    ws.adopt("churn", reason="too dear")
    assert ws.fold("churn").applied == {}
    house.check_truth(ws)


def test_adoption_of_a_target_that_shows_nothing(house: Any, live: Live) -> None:
    """A target that mirrors no stage cannot be adopted from, where something differs on it."""
    text = '[endpoints.churn-prod]\nmodel = "churn"\nstage = "prod"\ntarget = "west"'
    ws = live(text, versions=1, targets={"local": "", "west": ""})
    wait(ws.targets["west"].endpoints.delete("churn-prod"))
    with pytest.raises(NotFound, match="shows no stage"):
        ws.adopt("churn", target="west", reason="no")
    ws.repair("churn")
    house.check_truth(ws)


def kill_supervisor(house: Any, ws: Workspace, eventually: Any) -> None:
    os.kill(house.observed("churn-prod")["pid"], signal.SIGKILL)
    eventually(lambda: ws.endpoint("churn-prod").describe().status != "ready")


def test_killed_supervisor(house: Any, live: Live, eventually: Any) -> None:
    """An endpoint whose supervisor died is degraded, in words, and repair starts it again."""
    ws = live(versions=1)
    kill_supervisor(house, ws, eventually)

    [state] = [r.endpoints[0] for r in ws.status("churn") if r.endpoints]
    assert state.status == "degraded"
    assert "supervisor is not running" in state.message
    assert [(s.number, s.ready, s.desired) for s in state.serving] == [(1, 0, 1)]
    assert "status" in {field for field, _, _ in facts(ws)}
    assert any(
        "primary runs is (none), the ledger says sha256:" in str(d) for d in ws.drift("churn")
    )
    plan = ws.plan().plan
    assert [c.action.value for c in plan.changes] == ["update"]
    assert "it is degraded" in plan.changes[0].note
    ws.repair("churn")

    assert house.served(ws) == 1
    [state] = [r.endpoints[0] for r in ws.status("churn") if r.endpoints]
    assert (state.status, [(s.number, s.weight, s.ready) for s in state.serving]) == (
        "ready",
        [(1, 100, 1)],
    )
    house.check_truth(ws)


def test_killed_supervisor_is_started_by_apply(house: Any, live: Live, eventually: Any) -> None:
    """Applying the same configuration again brings a dead endpoint back."""
    ws = live(versions=1)
    kill_supervisor(house, ws, eventually)
    applied = ws.apply()
    assert applied.changed
    assert house.served(ws) == 1
    house.check_truth(ws)


def test_repair_that_does_not_help(house: Any, live: Live) -> None:
    """A repair that leaves differences says so, and is recorded as one without effect."""
    ws = live("", versions=1, provider="scripted")
    ws.targets["local"].registry.point("churn", "prod", None)
    house.script = lambda _, verb, __, call: None if verb == "point" else call()
    with pytest.raises(Conflict, match="left after the repair"):
        ws.repair("churn")
    house.script = None
    assert house.kinds(ws)[-2:] == ["intent", "abort"]
    ws.repair("churn")
    house.check_truth(ws)


def test_silent_return_to_the_old(house: Any, live: Live) -> None:
    """A target that goes back by itself after all was well is found by the next look."""
    ws = live()
    one = ws.endpoint("churn-prod").describe().spec
    ws.promote("churn:2", to="staging")
    ws.promote("churn:2", to="prod")
    change(ws, variants=one.variants)
    assert ("variants.primary.number", "2", "1") in facts(ws)
    ws.repair("churn")
    assert house.served(ws) == 2
    house.check_truth(ws)


def test_endpoint_that_the_ledger_does_not_know(house: Any, live: Live) -> None:
    """An endpoint of the model that was made by hand is found; a repair leaves it, and says so."""
    ws = live()
    backend = ws.targets["local"].endpoints
    spec = replace(ws.endpoint("churn-prod").describe().spec, name="churn-hand")
    wait(backend.create(spec, artifacts={v.digest: ws.version("churn:1") for v in spec.variants}))
    [found] = ws.drift("churn")
    assert (found.kind, found.name, found.actual) == ("foreign", "churn-hand", "there")
    repair = ws.repair("churn")
    assert (repair.differences, [d.name for d in repair.left]) == ((), ["churn-hand"])
    assert backend.endpoint("churn-hand") is not None
    ws.down("churn-hand")
    house.check_truth(ws)


def test_adopted_endpoint_that_the_ledger_did_not_know(house: Any, live: Live) -> None:
    """An adoption records it; from then on it is somebody's to plan, and no drift."""
    ws = live()
    backend = ws.targets["local"].endpoints
    spec = replace(ws.endpoint("churn-prod").describe().spec, name="churn-hand")
    wait(backend.create(spec, artifacts={v.digest: ws.version("churn:1") for v in spec.variants}))
    adopted = ws.adopt("churn", reason="made during the outage")
    assert [d.name for d in adopted.differences] == ["churn-hand"]
    assert ws.fold("churn").applied["churn-hand"].target == "local"
    house.check_truth(ws)
    assert "--prune would destroy it" in ws.plan().plan.warnings[0]
    ws.down("churn-hand")
    house.check_truth(ws)


def test_three_ways(house: Any, live: Live) -> None:
    """What the configuration asks for by now is told beside what was applied and what is there."""
    ws = live(versions=1)
    change(ws, env={"STANDIN_MARK": "hand"})
    text = (house.root / "cloudreg.toml").read_text()
    (house.root / "cloudreg.toml").write_text(text + 'env = { STANDIN_MARK = "file" }\n')
    later = house.open()
    [found] = later.drift("churn")
    assert (found.ledger, found.actual, found.wanted) == ("None", "hand", "file")
    assert str(found).endswith("is hand, the ledger says None, and now file is wanted")


def test_target_that_does_not_answer(
    house: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is silent is told, in drift and in status; the others are compared all the same."""
    house.configure(
        """
[endpoints.churn-prod]
model = "churn"
stage = "prod"

[endpoints.churn-far]
model = "churn"
stage = "prod"
target = "far"
""",
        provider="scripted",
        targets={"local": "", "far": ""},
        stages={"prod": 'gates = []\ntargets = ["local", "far"]'},
    )
    ws = house.open()
    house.register(ws)
    ws.promote("churn:1", to="staging")
    ws.promote("churn:1", to="prod")
    house.silent.add("far")
    change(ws, env={"STANDIN_MARK": "hand"})
    silent, hand = ws.drift("churn")
    assert (silent.kind, silent.target) == ("target", "far")
    assert "far was not compared: far does not answer" in str(silent)
    assert (hand.target, hand.actual) == ("local", "hand")
    # Nobody knows what it shows: to say that all is well again would be a lie.
    for act in (ws.repair, lambda model: ws.adopt(model, target="far", reason="x")):
        with pytest.raises(Unavailable, match="far does not answer"):
            act("churn")
    monkeypatch.chdir(house.root)
    assert main(["drift", "churn"]) == 5
    change(ws, env={})
    capsys.readouterr()
    assert main(["drift", "churn"]) == 1
    said = capsys.readouterr()
    assert said.out == "target far was not compared: far does not answer\n"
    assert said.err == "next: cloudreg doctor\n"

    prod = next(row for row in ws.status("churn") if row.stage == "prod")
    assert [(s.target, s.numbers, bool(s.trouble)) for s in prod.shown] == [
        ("local", (1,), False),
        ("far", (), True),
    ]
    assert sorted((e.name, e.status) for e in prod.endpoints) == [
        ("churn-far", "unknown"),
        ("churn-prod", "ready"),
    ]
