"""What would change: shown, saved, applied, and refused when the world moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import Conflict, InvalidRequest, NotFound, StalePlan, Unsupported
from cloudreg.operations import wait

Live = Callable[..., Workspace]

PROD = '\n[endpoints.churn-prod]\nmodel = "churn"\nstage = "prod"\n'
DEV = '\n[endpoints.churn-dev]\nmodel = "churn"\nstage = "dev"\n'
TWO = {"local": "", "west": ""}


def edit(ws: Workspace, name: str, target: str = "local", **env: str) -> None:
    """Change an endpoint's environment behind the ledger's back."""
    backend = ws.targets[target].endpoints
    spec = replace(ws.endpoint(name).describe().spec, env=env)
    versions = {v.digest: ws.version(f"{v.model}:{v.number}") for v in spec.variants}
    wait(backend.update(spec, artifacts=versions))


def running(house: Any, target: str = "local") -> list[str]:
    folder = house.root / f".{target}" / "endpoints"
    return sorted(path.parent.name for path in folder.glob("*/desired.json"))


def test_plan_of_a_promotion(house: Any, live: Live) -> None:
    """A dry run shows stage, endpoint and gates in Terraform's marks, and changes nothing."""
    ws = live(PROD + "[endpoints.churn-prod.rollout]\nstrategy = 'canary'\nbake_s = 5\n")
    ws.promote("churn:2", to="staging")
    before = house.kinds(ws)
    preview = ws.promote("churn:2", to="prod", dry_run=True)

    one, two = (ws.version(f"churn:{n}").digest[:19] for n in (1, 2))
    assert str(preview).splitlines() == [
        "cloudreg will make these changes:",
        "",
        "  ~ stage churn@prod",
        f"      digest: {one} -> {two}",
        "      version: 1 -> 2",
        "",
        "  ~ endpoint churn-prod on local",
        f"      variants.primary.digest: {one} -> {two}",
        "      variants.primary.number: 1 -> 2",
        "      (canary: 10 % -> 100 %, 5 s each)",
        "",
        "Gates:",
        f"  pass  stage_order: {preview.plan.gates[0].reason}",
        f"  pass  format: {preview.plan.gates[1].reason}",
        "",
        "Price: nothing is paid for.",
        "",
        "Plan: 0 to create, 2 to change, 0 to destroy.",
    ]
    assert house.kinds(ws) == before
    assert house.served(ws) == 1


def test_plan_as_json(house: Any, live: Live, tmp_path: Path) -> None:
    """A saved plan is JSON with the same facts, and can be applied by somebody else."""
    ws = live(PROD)
    ws.promote("churn:2", to="staging")
    preview = ws.promote("churn:2", to="prod", dry_run=True, reason="better")
    preview.save(tmp_path / "plan.json")
    document = json.loads((tmp_path / "plan.json").read_bytes())

    assert document == json.loads(json.dumps(preview.plan.to_json()))
    assert [c["actions"] for c in document["changes"]] == [["update"], ["update"]]
    assert document["changes"][1]["after"]["variants"][0]["number"] == 2
    assert document["counts"] == {"create": 0, "update": 2, "delete": 0}

    applied = house.open("bob").apply_saved(tmp_path / "plan.json")
    assert applied.entry is not None
    assert (applied.entry.actor, applied.entry.data["reason"]) == ("bob", "better")
    assert house.served(ws) == 2
    house.check_truth(ws)


def test_refused_plan_is_shown(house: Any, ws: Workspace) -> None:
    """A dry run of what the gates refuse shows which; only applying it raises."""
    house.register(ws)
    preview = ws.promote("churn:1", to="prod", dry_run=True)
    assert not preview.plan.allowed
    assert "  FAIL  stage_order" in str(preview)
    assert ws.promote("churn:1", to="prod", dry_run=True, break_glass="night").plan.allowed
    assert house.kinds(ws) == ["register"]


def test_plan_goes_stale_by_a_promotion(house: Any, live: Live, tmp_path: Path) -> None:
    """A plan that somebody was faster than is refused, in memory and from a file."""
    ws = live("", versions=3)
    for number in (2, 3):
        ws.promote(f"churn:{number}", to="staging")
    preview = ws.promote("churn:2", to="prod", dry_run=True)
    preview.save(tmp_path / "plan.json")
    house.open("bob").promote("churn:3", to="prod")
    before = house.kinds(ws)
    with pytest.raises(StalePlan):
        preview.apply()
    with pytest.raises(StalePlan):
        ws.apply_saved(tmp_path / "plan.json")
    assert house.kinds(ws) == before


def test_plan_goes_stale_by_an_edited_endpoint(house: Any, live: Live, tmp_path: Path) -> None:
    """A plan is refused where its endpoint was edited behind the ledger's back since."""
    ws = live(PROD)
    ws.promote("churn:2", to="staging")
    preview = ws.promote("churn:2", to="prod", dry_run=True)
    edit(ws, "churn-prod", STANDIN_MARK="by hand")
    with pytest.raises(StalePlan):
        preview.apply()
    assert house.served(ws) == 1


def test_plan_goes_stale_by_another_configuration(house: Any, live: Live, tmp_path: Path) -> None:
    """A saved plan is refused where the configuration asks for something else by now."""
    ws = live(PROD)
    house.configure(PROD + "max_replicas = 2\n")
    house.open().plan().save(tmp_path / "plan.json")
    house.configure(PROD + "max_replicas = 3\n")
    with pytest.raises(StalePlan, match="endpoints of churn"):
        house.open().apply_saved(tmp_path / "plan.json")
    assert ws.endpoint("churn-prod").describe().spec.variants[0].scaling.max_replicas == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 1, "request": {}, "fingerprint": "sha256:0"}',
        '{"format": 1, "request": {}, "fingerprint": "sha256:' + "0" * 64 + '"}',
        '{"format": 1, "request": {"verb": "erase"}, "fingerprint": "sha256:' + "0" * 64 + '"}',
        '{"format": 1, "request": {"verb": "apply", "prune": 1, "models": 1}, "fingerprint": '
        '"sha256:' + "0" * 64 + '"}',
        '{"format": 7, "request": {"verb": "apply"}, "fingerprint": "sha256:' + "0" * 64 + '"}',
    ],
)
def test_file_that_is_no_plan(ws: Workspace, tmp_path: Path, text: str) -> None:
    """What is no plan is refused as such."""
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InvalidRequest):
        ws.apply_saved(tmp_path / "plan.json")


def test_missing_plan(ws: Workspace, tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(NotFound, match=r"plan\.json"):
        ws.apply_saved(tmp_path / "plan.json")


def test_apply(house: Any, live: Live) -> None:
    """Apply makes what is configured, changes what is configured otherwise, and then is done."""
    ws = live("")
    house.configure(PROD + DEV)
    ws = house.open()
    preview = ws.plan()
    assert [line for line in str(preview).splitlines() if line.startswith("  +")] == [
        "  + endpoint churn-dev on local",
        "  + endpoint churn-prod on local",
    ]
    applied = preview.apply()
    assert set(applied.endpoints) == {"churn-dev", "churn-prod"}
    assert (house.served(ws, "churn-dev"), house.served(ws)) == (2, 1)

    house.configure(PROD + 'max_replicas = 2\nenv = { STANDIN_MARK = "blue" }' + DEV)
    ws = house.open()
    plan = ws.plan().plan
    assert [(c.name, c.action.value, c.note) for c in plan.changes] == [
        ("churn-prod", "update", "")
    ]
    assert list(plan.changes[0].lines())[1:] == [
        "    env.STANDIN_MARK: (none) -> blue",
        "    variants.primary.scaling.max_replicas: 1 -> 2",
    ]
    ws.apply()
    assert json.loads(ws.endpoint("churn-prod").invoke(b"{}"))["env"] == "blue"
    assert ws.fold("churn").applied["churn-prod"].spec["env"] == {"STANDIN_MARK": "blue"}
    again = ws.apply()
    assert not again.changed
    assert again.plan.empty
    house.check_truth(ws)


def test_scaling_keeps_the_servers(house: Any, live: Live) -> None:
    """More replicas are added to those that run, and no canary is made of it."""
    rollout = '[endpoints.churn-prod.rollout]\nstrategy = "canary"\nbake_s = 600\n'
    ws = live(PROD + rollout)
    [before] = house.observed("churn-prod")["variants"][0]["pids"]
    house.configure(PROD + "min_replicas = 2\n" + rollout)
    ws = house.open()
    ws.apply()
    seen = ws.endpoint("churn-prod").describe()
    assert [(v.name, v.ready_replicas) for v in seen.variants] == [("primary", 2)]
    assert before in house.observed("churn-prod")["variants"][0]["pids"]
    house.check_truth(ws)


def test_prune(house: Any, live: Live) -> None:
    """An endpoint that is not configured any more is told of, and removed only where asked."""
    ws = live(PROD)
    house.configure()
    ws = house.open()
    plan = ws.plan().plan
    assert plan.empty
    assert plan.warnings == (
        "endpoint churn-prod on local is not configured any more; --prune would destroy it",
    )
    assert not ws.apply().changed
    assert running(house) == ["churn-prod"]

    preview = ws.plan(prune=True)
    assert "  - endpoint churn-prod on local" in str(preview).splitlines()
    preview.apply()
    assert running(house) == []
    assert ws.fold("churn").applied == {}
    assert ws.fold("churn").stages["prod"].number == 1
    house.check_truth(ws)


def test_orphan_on_a_target_that_no_endpoint_uses(house: Any, live: Live) -> None:
    """An endpoint is not forgotten on a target that nothing else is configured on."""
    ws = live(PROD + 'target = "west"', targets=TWO)
    house.configure(targets=TWO)
    ws = house.open()
    assert "churn-prod on west" in ws.plan().plan.warnings[0]
    ws.apply(prune=True)
    assert running(house, "west") == []
    house.check_truth(ws)


def test_endpoint_that_moves_to_another_target(house: Any, live: Live) -> None:
    """It is made in the new place first; the old one goes by prune, once the new one serves."""
    live(PROD, targets=TWO)
    house.configure(PROD + 'target = "west"', targets=TWO)
    ws = house.open()
    plan = ws.plan(prune=True).plan
    assert [(c.action.value, c.target) for c in plan.changes] == [("create", "west")]
    assert "still runs on local" in plan.warnings[0]
    ws.apply(prune=True)
    assert (running(house), running(house, "west")) == (["churn-prod"], ["churn-prod"])
    house.check_truth(ws)
    assert "churn-prod on local is not configured" in ws.plan().plan.warnings[0]

    ws.apply(prune=True)
    assert (running(house), running(house, "west")) == ([], ["churn-prod"])
    assert ws.fold("churn").applied["churn-prod"].target == "west"
    assert ws.plan(prune=True).plan.warnings == ()
    house.check_truth(ws)


def test_two_targets_of_one_place(house: Any, live: Live) -> None:
    """Where two names lead to one folder, an endpoint is not taken for one that is left over."""
    ws = live(PROD)
    west = '[targets.west]\nprovider = "local"\npath = ".local"\n'
    house.configure(PROD + west)
    ws = house.open()
    preview = ws.plan(prune=True)
    assert preview.plan.empty
    assert preview.plan.warnings == ()
    assert running(house) == ["churn-prod"]
    assert ws.down() == {"churn-prod": "local"}
    house.check_truth(ws)


def test_down_finds_an_endpoint_on_every_target(house: Any, live: Live) -> None:
    """An endpoint that was moved in the file is removed from both of its targets."""
    live(PROD, targets=TWO)
    house.configure(PROD + 'target = "west"', targets=TWO)
    ws = house.open()
    ws.apply()
    assert set(ws.down("churn-prod")) == {"churn-prod"}
    assert (running(house), running(house, "west")) == ([], [])
    assert ws.fold("churn").applied == {}
    house.check_truth(ws)


def test_endpoint_waits_for_a_version(house: Any) -> None:
    """An endpoint whose stage is empty, or whose model is not there yet, is no change."""
    house.configure(PROD + '[endpoints.other]\nmodel = "other"\nstage = "dev"\n')
    ws = house.open()
    house.register(ws)
    plan = ws.plan().plan
    assert plan.empty
    assert plan.warnings == (
        "endpoint churn-prod waits for a version of churn in prod",
        "endpoint other waits for a version of other in dev",
    )
    assert not ws.apply().changed
    assert [m.model for m in ws.models()] == ["churn"]
    assert ws.promote("churn:1", to="prod", break_glass="first").changed
    assert house.served(ws) == 1


def test_endpoint_of_another_model(house: Any, live: Live) -> None:
    """An endpoint is not taken from a model by a line in the file: it has to be let go first."""
    live(PROD, versions=1)
    house.configure('[endpoints.churn-prod]\nmodel = "other"\nstage = "dev"')
    ws = house.open()
    house.register(ws, model="other")
    with pytest.raises(Conflict, match="serves churn, and is configured for other") as refusal:
        ws.plan()
    assert refusal.value.hint == "cloudreg down churn-prod, then cloudreg apply"
    assert house.served(ws) == 1

    ws.down("churn-prod")
    ws.apply()
    for model in ("churn", "other"):
        house.check_truth(ws, model)


def test_unsupported_gpu(house: Any, live: Live) -> None:
    """A GPU that the target has not is refused in the plan, with what to type, untouched."""
    ws = live("")
    house.configure(PROD + 'gpu = "T4:2"\n')
    ws = house.open()
    before = house.kinds(ws)
    ws.promote("churn:2", to="staging")
    for attempt in (
        ws.plan,
        ws.apply,
        lambda: ws.promote("churn:2", to="prod", dry_run=True),
        lambda: ws.promote("churn:2", to="prod"),
    ):
        with pytest.raises(Unsupported, match="no T4") as refusal:
            attempt()
        assert refusal.value.target == "local"
        assert "emulate_accelerators = true" in str(refusal.value.hint)
    assert house.kinds(ws) == [*before, "intent", "done"]
    assert ws.fold("churn").stages["prod"].number == 1
    assert running(house) == []


def test_unsupported_machine(house: Any, live: Live) -> None:
    """A machine that the target cannot have is refused in the plan, and is never ignored."""
    live("")
    house.configure(PROD + 'machine_type = "g5.xlarge"\n')
    ws = house.open()
    for attempt in (ws.plan, ws.apply):
        with pytest.raises(Unsupported, match=r"no machine 'g5\.xlarge'.* the only one") as refusal:
            attempt()
        assert refusal.value.hint == "leave machine_type out"
    assert running(house) == []


def test_emulated_gpu(house: Any, live: Live) -> None:
    """A target that emulates accelerators accepts it, and shows it back."""
    ws = live(PROD + 'gpu = "T4:2"\n', targets={"local": "emulate_accelerators = true"})
    seen = ws.endpoint("churn-prod").describe()
    assert str(seen.spec.variants[0].resources) == "T4:2"
    assert house.served(ws) == 1
    house.check_truth(ws)


def test_down(house: Any, live: Live) -> None:
    """Down removes the endpoints and nothing else; apply brings them back."""
    ws = live(PROD + DEV)
    ws.apply()
    assert ws.down("churn-dev") == {"churn-dev": "local"}
    assert running(house) == ["churn-prod"]
    with pytest.raises(NotFound, match="no endpoint 'churn-dev'"):
        ws.down("churn-dev", "churn-prod")
    assert ws.down() == {"churn-prod": "local"}
    assert ws.down() == {}

    assert running(house) == []
    assert ws.fold("churn").stages["prod"].number == 1
    assert [r.endpoints[0].status for r in ws.status("churn") if r.endpoints] == [
        "absent",
        "absent",
    ]
    house.check_truth(ws)
    ws.apply()
    assert house.served(ws) == 1
