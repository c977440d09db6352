"""Registering, promoting and going back, where no endpoint is involved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import (
    AlreadyExists,
    ApprovalRequired,
    Conflict,
    Fenced,
    GateFailed,
    InvalidRequest,
    NotFound,
    OperationFailed,
    RepairRequired,
    StalePlan,
    Unavailable,
)
from cloudreg.importers import Description
from cloudreg.manifest import Lineage, ModelCard, Signature, TensorSpec
from cloudreg.types import ModelVersion

TWO = {"local": "", "west": ""}
BOTH = dict.fromkeys(("dev", "staging", "prod"), 'targets = ["local", "west"]\ngates = []')
CARD = ModelCard(intended_use="Rank accounts.", limits="Not for credit.")


def stages(ws: Workspace) -> dict[str, int]:
    return {stage: holder.number for stage, holder in ws.fold("churn").stages.items()}


def shown(ws: Workspace, target: str = "local") -> dict[str, int]:
    """Stage to number, as the target's own registry shows it."""
    return {
        stage: version.number
        for version in ws.targets[target].registry.published("churn")
        for stage in version.stages
    }


def test_registration_moves_the_first_stage(house: Any, ws: Workspace) -> None:
    """A registered version is in the first stage, in the ledger and in the target's registry."""
    first = house.register(ws)
    second = house.register(ws)

    assert [first.number, second.number] == [1, 2]
    assert stages(ws) == shown(ws) == {"dev": 2}
    assert [v.digest for v in ws.targets["local"].registry.published("churn")] == [
        second.digest,
        first.digest,
    ]
    house.check_truth(ws)


def test_registration_is_idempotent(house: Any, ws: Workspace, tmp_path: Path) -> None:
    """The same files with the same description are one version: no byte sent, no entry written."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.txt").write_text("w")
    description = Description(metrics={"auc": 0.9}, lineage=Lineage())

    one = ws.registration("churn", folder, description)
    again = house.open("bob").registration("churn", folder, description)
    other = ws.registration("churn", folder, Description(metrics={"auc": 1}, lineage=Lineage()))

    assert (one.created, one.sent_bytes) == (True, 1)
    assert (again.created, again.sent_bytes, again.present_bytes) == (False, 0, 1)
    assert again.version == one.version
    assert (other.created, other.sent_bytes, other.version.number) == (True, 0, 2)
    assert house.kinds(ws) == ["register", "register"]


def test_known_version_registered_again_does_not_move_the_stage_back(
    house: Any, ws: Workspace, tmp_path: Path
) -> None:
    """A registration that changes nothing leaves the first stage with its newest version."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.txt").write_text("w")
    first = ws.register("churn", folder, lineage=Lineage())
    house.register(ws)

    assert ws.register("churn", folder, lineage=Lineage()) == first
    assert stages(ws) == shown(ws) == {"dev": 2}


def test_broken_registration_is_finished_by_the_next(house: Any, tmp_path: Path) -> None:
    """A version that is in the ledger and on no target yet gets there by another try."""
    house.configure(targets=TWO, stages=BOTH, provider="scripted")
    ws = house.open()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.txt").write_text("w")

    def down(target: str, verb: str, _: Any, call: Callable[[], Any]) -> Any:
        if target == "west":
            raise Unavailable(f"no answer to {verb}", target=target)
        return call()

    house.script = down
    with pytest.raises(Unavailable):
        ws.register("churn", folder, lineage=Lineage())
    house.script = None
    assert shown(ws) == {"dev": 1}
    assert [d.target for d in ws.drift("churn")] == ["west"]
    ws.register("churn", folder, lineage=Lineage())

    assert shown(ws, "west") == {"dev": 1}
    assert house.kinds(ws) == ["register"]
    house.check_truth(ws)


def test_promotion_in_order(house: Any, ws: Workspace) -> None:
    """A version walks from stage to stage, and each step is one intent and one done entry."""
    house.register(ws)
    promoted = ws.promote("churn:1", to="staging", reason="looks good")
    ws.promote("churn@staging", to="prod")

    assert promoted.changed
    assert promoted.version is not None
    assert promoted.version.number == 1
    assert promoted.entry is not None
    assert promoted.entry.data["stages"] == {"staging": 1}
    assert promoted.entry.data["reason"] == "looks good"
    assert stages(ws) == shown(ws) == {"dev": 1, "staging": 1, "prod": 1}
    assert house.kinds(ws) == ["register", "intent", "done", "intent", "done"]
    house.check_truth(ws)


def test_skipping_a_stage_is_refused(house: Any, ws: Workspace) -> None:
    """Whoever skips a stage is told by the gates, with exit code 3, and nothing is written."""
    house.register(ws)
    with pytest.raises(GateFailed) as refusal:
        ws.promote("churn:1", to="prod")

    assert refusal.value.exit_code == 3
    assert [r.gate for r in refusal.value.results if not r.passed] == ["stage_order"]
    assert stages(ws) == shown(ws) == {"dev": 1}
    assert house.kinds(ws) == ["register"]


def test_broken_glass_is_recorded(house: Any, ws: Workspace) -> None:
    """Who breaks the glass skips order and approvals, and the ledger says who and why."""
    house.configure(stages={"prod": "approvals = 2\ngates = []"})
    ws = house.open("eve")
    house.register(ws)
    ws.promote("churn:1", to="prod", break_glass="incident 12")

    newest = next(ws.history("churn"))
    assert (newest.kind, newest.actor, newest.data["break_glass"]) == ("done", "eve", "incident 12")
    assert [g["gate"] for g in newest.data["gates"] if not g["passed"]] == ["stage_order"]
    assert stages(ws) == {"dev": 1, "prod": 1}


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_broken_glass_needs_a_reason(house: Any, ws: Workspace, reason: str) -> None:
    """An empty reason is none."""
    house.register(ws)
    with pytest.raises(InvalidRequest):
        ws.promote("churn:1", to="prod", break_glass=reason)
    assert house.kinds(ws) == ["register"]


def test_expectation(house: Any, ws: Workspace) -> None:
    """A stale expectation changes nothing; a right one, and one that is fulfilled, do no harm."""
    for _ in range(3):
        house.register(ws)
    for number in (1, 2, 3):
        ws.promote(f"churn:{number}", to="staging")
    with pytest.raises(Conflict, match="empty, 3 was expected"):
        ws.promote("churn:1", to="prod", expect=3)
    ws.promote("churn:1", to="prod")
    with pytest.raises(Conflict, match="1, 3 was expected"):
        ws.promote("churn:2", to="prod", expect=3)
    assert stages(ws)["prod"] == 1

    assert ws.promote("churn:2", to="prod", expect=1).changed
    assert not ws.promote("churn:2", to="prod", expect=1).changed


def test_approvals(house: Any) -> None:
    """A stage that asks for two people gets two, who are neither the author nor one person."""
    house.configure(stages={"staging": "approvals = 2\ngates = []"})
    author, bob, carol = house.open("ada"), house.open("bob"), house.open("carol")
    house.register(author)
    with pytest.raises(InvalidRequest, match="cannot approve"):
        author.approve("churn:1", stage="staging")
    bob.approve("churn:1", stage="staging", reason="tried it")
    bob.approve("churn:1", stage="staging")
    carol.approve("churn:1", stage="prod")

    plan = author.promote("churn:1", to="staging", dry_run=True).plan
    assert any("needs 2 approvals" in warning for warning in plan.warnings)
    with pytest.raises(ApprovalRequired, match=r"has 1 \(bob agreed\)") as refusal:
        author.promote("churn:1", to="staging")
    assert refusal.value.exit_code == 4
    assert refusal.value.hint == "cloudreg approve churn:1 --stage staging"
    assert stages(author) == {"dev": 1}
    assert house.kinds(author) == ["register", "approve", "approve"]

    carol.approve("churn:1", stage="staging")
    assert author.promote("churn:1", to="staging").changed


def test_approval_is_of_one_version(house: Any) -> None:
    """Who approved a version did not approve the next one."""
    house.configure(stages={"staging": "approvals = 1\ngates = []"})
    ws = house.open()
    house.register(ws)
    house.register(ws)
    house.open("bob").approve("churn:1", stage="staging")

    ws.promote("churn:1", to="staging")
    with pytest.raises(ApprovalRequired):
        ws.promote("churn:2", to="staging")


def test_promotion_to_where_it_is(house: Any, ws: Workspace) -> None:
    """A version that is there already is not promoted again: no entry, the same answer."""
    house.register(ws)
    ws.promote("churn:1", to="staging")
    before = house.kinds(ws)
    again = ws.promote("churn:1", to="staging")

    assert not again.changed
    assert again.entry is None
    assert again.plan.empty
    assert house.kinds(ws) == before


@pytest.mark.parametrize(
    ("ref", "to", "error"),
    [
        ("churn:9", "staging", NotFound),
        ("other:1", "staging", NotFound),
        ("churn:1", "qa", NotFound),
        ("churn@prod", "prod", NotFound),
        ("churn", "staging", InvalidRequest),
        ("churn:0", "staging", InvalidRequest),
    ],
)
def test_what_is_not_there(
    house: Any, ws: Workspace, ref: str, to: str, error: type[Exception]
) -> None:
    """A version, model or stage that is not there is refused, and nothing is written."""
    house.register(ws)
    with pytest.raises(error):
        ws.promote(ref, to=to)
    assert house.kinds(ws) == ["register"]
    assert [m.model for m in ws.models()] == ["churn"]


def test_metric_gates(house: Any) -> None:
    """A limit and a regression against the stage's holder are measured, and their facts kept."""
    house.configure(
        stages={
            "staging": """
[[stages.staging.gates]]
kind = "metric"
name = "auc"
min = 0.8
max_regression = 0.01
"""
        }
    )
    ws = house.open()
    for auc in (0.95, 0.79, 0.90):
        house.register(ws, metrics={"auc": auc})
    ws.promote("churn:1", to="staging")
    for ref in ("churn:2", "churn:3"):
        with pytest.raises(GateFailed) as refusal:
            ws.promote(ref, to="staging")
        assert "metric" in [r.gate for r in refusal.value.results if not r.passed]
    assert stages(ws)["staging"] == 1
    done = next(ws.history("churn"))
    assert {g["gate"]: g["passed"] for g in done.data["gates"]} == {
        "stage_order": True,
        "format": True,
        "metric": True,
    }


def test_usual_gates_of_the_last_stage(house: Any) -> None:
    """Without configuration prod asks for a card, a lineage and a signature, all told at once."""
    house.configure(stages={"staging": "approvals = 0", "prod": "approvals = 0"})
    ws = house.open()
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 2)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 1)),),
    )
    house.register(ws, signature=signature)
    ws.promote("churn:1", to="staging")
    with pytest.raises(GateFailed) as refusal:
        ws.promote("churn:1", to="prod")

    assert {r.gate: r.passed for r in refusal.value.results} == {
        "stage_order": True,
        "format": True,
        "signature": True,
        "lineage": False,
        "card": False,
    }
    assert all(r.gate in str(refusal.value) for r in refusal.value.results)


def test_card_gate_passes_with_a_card(house: Any) -> None:
    """What the card gate refuses for want of a card it lets pass with one."""
    house.configure(stages={"staging": '[[stages.staging.gates]]\nkind = "card"'})
    ws = house.open()
    house.register(ws)
    house.register(ws, card=CARD)
    with pytest.raises(GateFailed):
        ws.promote("churn:1", to="staging")
    assert ws.promote("churn:2", to="staging").changed


def test_two_targets_show_the_same(house: Any) -> None:
    """Each target of a stage gets the bytes, the version and the pointer."""
    house.configure(targets=TWO, stages={"prod": BOTH["prod"]})
    ws = house.open()
    version = house.register(ws)
    ws.promote("churn:1", to="staging")
    plan = ws.promote("churn:1", to="prod", dry_run=True).plan
    assert [(c.kind, c.target) for c in plan.changes] == [("copy", "west"), ("stage", None)]
    assert list(ws.targets["west"].store.list("blobs/")) == []
    ws.promote("churn:1", to="prod")

    assert shown(ws, "west") == {"prod": 1}
    [entry] = version.manifest.files
    with ws.targets["west"].store.open(entry.key) as reader:
        assert reader.read() == b"weights 0"
    house.check_truth(ws)


def test_second_target_refuses(house: Any) -> None:
    """Where one target refuses the pointer, the others are set back, and the ledger says why."""
    house.configure(targets=TWO, stages={"prod": BOTH["prod"]}, provider="scripted")
    ws = house.open()
    for _ in range(2):
        house.register(ws)
    for number, to in ((1, "staging"), (1, "prod"), (2, "staging")):
        ws.promote(f"churn:{number}", to=to)

    def refuse(target: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if (target, verb) == ("west", "point") and args[2] == ws.version("churn:2").digest:
            raise OperationFailed("west is closed", target=target)
        return call()

    house.script = refuse
    with pytest.raises(OperationFailed, match="west is closed"):
        ws.promote("churn:2", to="prod")

    assert stages(ws)["prod"] == shown(ws)["prod"] == shown(ws, "west")["prod"] == 1
    newest = next(ws.history("churn"))
    assert (newest.kind, newest.data["reason"]) == ("abort", "west is closed")
    assert "notes" not in newest.data
    house.script = None
    house.check_truth(ws)
    assert ws.promote("churn:2", to="prod").changed


def test_what_cannot_be_undone_is_recorded(house: Any) -> None:
    """Where undoing fails too, the error and the ledger name what is left, and drift finds it."""
    house.configure(targets=TWO, stages={"prod": BOTH["prod"]}, provider="scripted")
    ws = house.open()
    house.register(ws)
    ws.promote("churn:1", to="staging")
    pointed: list[str] = []

    def refuse(target: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if verb == "point":
            pointed.append(target)
            if target == "west" or pointed.count("local") > 1:
                raise OperationFailed(f"{target} is closed", target=target)
        return call()

    house.script = refuse
    with pytest.raises(OperationFailed, match="west is closed") as failure:
        ws.promote("churn:1", to="prod")
    house.script = None

    newest = next(ws.history("churn"))
    assert newest.kind == "abort"
    assert newest.data["notes"] == failure.value.__notes__
    assert any("churn@prod on local could not be set back" in n for n in newest.data["notes"])
    assert [(d.target, d.actual, d.ledger) for d in ws.drift("churn")] == [("local", "1", "(none)")]
    ws.repair("churn")
    house.check_truth(ws)


def test_interrupted_promotion(house: Any) -> None:
    """An interrupted promotion is undone and closed, whatever interrupts it."""
    house.configure(provider="scripted")
    ws = house.open()
    house.register(ws)

    def interrupt(_: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        done = call()
        if verb == "point" and args[2] is not None:
            raise KeyboardInterrupt
        return done

    house.script = interrupt
    with pytest.raises(KeyboardInterrupt):
        ws.promote("churn:1", to="staging")
    house.script = None

    assert shown(ws) == {"dev": 1}
    assert next(ws.history("churn")).data["reason"] == "KeyboardInterrupt"
    house.check_truth(ws)


@pytest.mark.parametrize("lands", [True, False])
def test_lost_answer_to_the_last_entry(house: Any, lands: bool) -> None:
    """Where nobody knows whether the done entry landed, targets follow what the ledger says."""
    house.configure(provider="scripted")
    ws = house.open()
    house.register(ws)
    lost: list[Callable[[], Any]] = []

    def cut(_: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        last = verb == "put" and args[1].startswith("ledger/") and b'"kind":"done"' in args[0]
        if last or len(lost) == 1:
            lost.append(call)
            if last and lands:
                call()
            raise Unavailable(f"no answer to {verb}")
        return call()

    house.script = cut
    with pytest.raises(Fenced if lands else Unavailable):
        ws.promote("churn:1", to="staging")
    house.script = None
    late = lost[0]

    with pytest.raises(AlreadyExists):
        late()
    assert stages(ws) == shown(ws) == {"dev": 1, **({"staging": 1} if lands else {})}
    assert house.kinds(ws)[-1] == ("done" if lands else "abort")
    house.check_truth(ws)


@pytest.fixture
def three(house: Any, ws: Workspace) -> Workspace:
    """Three versions that were in prod one after another."""
    for number in (1, 2, 3):
        house.register(ws)
        ws.promote(f"churn:{number}", to="staging")
        ws.promote(f"churn:{number}", to="prod")
    return ws


def test_rollback_to_the_one_before(house: Any, three: Workspace) -> None:
    """A rollback without a version goes back to the one before, and is recorded as such."""
    back = three.rollback("churn", stage="prod", reason="too slow")

    assert back.version is not None
    assert back.version.number == 2
    assert stages(three)["prod"] == shown(three)["prod"] == 2
    assert back.entry is not None
    assert (back.entry.data["verb"], back.entry.data["reason"]) == ("rollback", "too slow")
    house.check_truth(three)


def test_second_rollback_goes_further_back(three: Workspace) -> None:
    """A rollback never returns to what was rolled away from, and ends where nothing is left."""
    three.rollback("churn", stage="prod")
    three.rollback("churn", stage="prod")
    assert stages(three)["prod"] == 1
    with pytest.raises(NotFound, match="held nothing before churn:1"):
        three.rollback("churn", stage="prod")

    three.promote("churn:3", to="prod")
    three.rollback("churn", stage="prod")
    assert stages(three)["prod"] == 1


def test_rollbacks_do_not_go_round(three: Workspace) -> None:
    """A version that was promoted twice is gone back to twice, each time to what was below it."""
    for number in (1, 2):
        three.promote(f"churn:{number}", to="prod")
    back = []
    while True:
        try:
            three.rollback("churn", stage="prod")
        except NotFound:
            break
        back.append(stages(three)["prod"])
        assert len(back) < 10
    # Held were 1, 2, 3, 1, 2: they are left one after the other.
    assert back == [1, 3, 2, 1]


def test_rollback_of_what_was_rolled_back(three: Workspace) -> None:
    """What was gone back from is in nobody's way, and named it is on top again."""
    three.rollback("churn", stage="prod")
    three.promote("churn:1", to="prod")
    three.rollback("churn", stage="prod")
    assert stages(three)["prod"] == 2
    three.rollback("churn", stage="prod", to="churn:3")
    three.rollback("churn", stage="prod")
    assert stages(three)["prod"] == 2
    three.rollback("churn", stage="prod")
    assert stages(three)["prod"] == 1
    with pytest.raises(NotFound, match="held nothing before churn:1"):
        three.rollback("churn", stage="prod")


def test_rollback_to_an_older_one(three: Workspace) -> None:
    """Any version that held the stage can be gone back to, by number, digest or stage."""
    digest = three.version("churn:2").digest
    three.rollback("churn", stage="prod", to="churn:1")
    assert stages(three)["prod"] == 1
    three.rollback("churn", stage="prod", to=f"churn@{digest[:20]}")
    assert stages(three)["prod"] == 2
    assert not three.rollback("churn", stage="prod", to="churn:2").changed


def test_rollback_to_what_was_never_there(house: Any, three: Workspace) -> None:
    """A version that never held the stage is refused: that would be a promotion without gates."""
    house.register(three)
    before = house.kinds(three)
    with pytest.raises(InvalidRequest, match="never in prod") as refusal:
        three.rollback("churn", stage="prod", to="churn:4")
    assert refusal.value.hint == "cloudreg promote churn:4 --to prod"
    with pytest.raises(NotFound):
        three.rollback("churn", stage="prod", to="churn:9")
    assert house.kinds(three) == before


def test_rollback_where_nothing_was(house: Any, ws: Workspace) -> None:
    """A stage that holds nothing, or held nothing else, cannot go back."""
    house.register(ws)
    with pytest.raises(NotFound, match="nothing to go back from"):
        ws.rollback("churn", stage="prod")
    ws.promote("churn:1", to="staging")
    with pytest.raises(NotFound, match="held nothing before"):
        ws.rollback("churn", stage="staging")


def test_rollback_needs_no_gate(house: Any) -> None:
    """What failed the gates of today can be gone back to: it has proved itself here."""
    ws = house.open()
    for auc in (0.9, 0.95):
        number = house.register(ws, metrics={"auc": auc}).number
        ws.promote(f"churn:{number}", to="staging")
    gate = '[[stages.staging.gates]]\nkind = "metric"\nname = "auc"\nmin = 0.94'
    house.configure(stages={"staging": gate})
    ws = house.open()
    with pytest.raises(GateFailed):
        ws.promote("churn:1", to="staging")
    assert ws.rollback("churn", stage="staging").changed
    assert stages(ws)["staging"] == 1


def test_plan_of_a_rollback(house: Any, three: Workspace, tmp_path: Path) -> None:
    """A rollback can be shown, saved and applied; afterwards its plan is stale."""
    preview = three.rollback("churn", stage="prod", dry_run=True)
    assert "churn@prod" in str(preview)
    preview.save(tmp_path / "plan.json")
    assert stages(three)["prod"] == 3
    assert three.apply_saved(tmp_path / "plan.json").changed
    assert stages(three)["prod"] == 2
    with pytest.raises(StalePlan):
        three.apply_saved(tmp_path / "plan.json")


def test_file_cannot_make_a_rollback_of_a_promotion(
    house: Any, three: Workspace, tmp_path: Path
) -> None:
    """A plan whose verb was edited does not bring a version into a stage past the gates."""
    house.register(three)
    preview = three.promote("churn:4", to="prod", dry_run=True)
    preview.save(tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text.replace('"verb": "promote"', '"verb": "rollback"'))
    with pytest.raises(InvalidRequest, match="never in prod"):
        three.apply_saved(tmp_path / "plan.json")
    assert stages(three)["prod"] == 3


def test_stage_edited_by_hand(house: Any, three: Workspace) -> None:
    """What somebody moved behind the ledger's back stops the next promotion, until repaired."""
    one = three.version("churn:1").digest
    three.targets["local"].registry.point("churn", "prod", one)

    [drift] = three.drift("churn")
    assert (drift.kind, drift.name, drift.ledger, drift.actual) == ("stage", "churn@prod", "3", "1")
    house.register(three)
    three.promote("churn:4", to="staging")
    before = house.kinds(three)
    with pytest.raises(RepairRequired) as refusal:
        three.promote("churn:4", to="prod")
    assert refusal.value.exit_code == 4
    assert refusal.value.target == "local"
    assert "repair churn" in str(refusal.value.hint)
    assert house.kinds(three) == before

    repair = three.repair("churn")
    assert repair.differences == (drift,)
    assert repair.entry is not None
    assert repair.entry.data["repaired"] == [str(drift)]
    assert shown(three)["prod"] == 3
    assert three.repair("churn").entry is None
    assert three.promote("churn:4", to="prod").changed
    house.check_truth(three)


def test_first_stage_edited_by_hand(three: Workspace) -> None:
    """The first stage, which registrations move without holding the model, is watched as well."""
    three.targets["local"].registry.point("churn", "dev", None)
    with pytest.raises(RepairRequired):
        three.promote("churn:1", to="dev")
    three.repair("churn")
    assert three.promote("churn:1", to="dev").changed
    assert shown(three)["dev"] == 1


def test_adopted_stage(house: Any, three: Workspace) -> None:
    """What was moved by hand can be taken as the truth, with a reason, and be gone back from."""
    three.targets["local"].registry.point("churn", "prod", three.version("churn:1").digest)
    adopted = three.adopt("churn", reason="moved in the console at night")

    assert adopted.entry is not None
    assert adopted.entry.kind == "adopt"
    assert adopted.entry.data["reason"] == "moved in the console at night"
    assert stages(three)["prod"] == 1
    house.check_truth(three)
    three.rollback("churn", stage="prod")
    assert stages(three)["prod"] == 3


def test_cleared_stage_adopted(house: Any, three: Workspace) -> None:
    """A stage that was emptied by hand can be adopted as empty, and filled again."""
    three.targets["local"].registry.point("churn", "prod", None)
    three.adopt("churn", reason="switched off")
    assert "prod" not in stages(three)
    house.check_truth(three)
    assert three.promote("churn:3", to="prod").changed


def foreign(version: ModelVersion, number: int) -> ModelVersion:
    """A version that somebody else published: never registered."""
    from dataclasses import replace

    manifest = replace(version.manifest, labels={"by": "hand"})
    return replace(version, number=number, digest=manifest.digest, manifest=manifest)


@pytest.mark.parametrize("number", [1, 9])
def test_foreign_version(house: Any, number: int) -> None:
    """A version that was never registered stops promotions, is not adopted, and is withdrawn.

    Also where it stands under the number of one of ours.
    """
    house.configure(targets=TWO, stages={"prod": BOTH["prod"]})
    ws = house.open()
    version = house.register(ws)
    ws.promote("churn:1", to="staging")
    west = ws.targets["west"].registry
    alien = foreign(version, number)
    west.publish(alien)
    west.point("churn", "prod", alien.digest)
    with pytest.raises(RepairRequired):
        ws.promote("churn:1", to="prod")
    with pytest.raises(Conflict, match="never registered"):
        ws.adopt("churn", target="west", reason="")

    repair = ws.repair("churn")
    assert {(d.kind, d.target) for d in repair.differences} == {
        ("stage", "west"),
        ("version", "west"),
    }
    assert list(west.published("churn")) == []
    assert ws.promote("churn:1", to="prod").changed
    house.check_truth(ws)


def test_foreign_version_in_a_stage_of_ours(house: Any) -> None:
    """Where a foreign version took the place of the holder, repair brings the holder back."""
    house.configure(targets=TWO, stages={"prod": BOTH["prod"]})
    ws = house.open()
    version = house.register(ws)
    ws.promote("churn:1", to="staging")
    ws.promote("churn:1", to="prod")
    west = ws.targets["west"].registry
    west.point("churn", "prod", None)
    west.withdraw("churn", version.digest)
    alien = foreign(version, 1)
    west.publish(alien)
    west.point("churn", "prod", alien.digest)

    ws.repair("churn")
    assert shown(ws, "west") == {"prod": 1}
    house.check_truth(ws)


def test_new_target_of_a_stage(house: Any) -> None:
    """A target that is added to a stage gets bytes, version and pointer by a repair."""
    ws = house.open()
    house.register(ws)
    ws.promote("churn:1", to="staging")
    house.configure(targets=TWO, stages={"staging": BOTH["staging"]})
    ws = house.open()
    assert [d.target for d in ws.drift("churn")] == ["west"]
    ws.repair("churn")
    assert shown(ws, "west") == {"staging": 1}
    house.check_truth(ws)


def test_half_of_anothers_promotion_is_no_drift(
    house: Any, background: Any, eventually: Any
) -> None:
    """A stage that somebody moves at this moment is waited for, and not taken for edited."""
    house.configure(provider="scripted")
    ws, other = house.open(), house.open("bob")
    house.register(ws)
    ws.promote("churn:1", to="staging")
    real = other.targets["local"].registry
    begun, looked = Event(), Event()

    class Watched:
        """Looks once while the other is between its pointing and its last entry."""

        def published(self, model: str) -> Any:
            if not begun.is_set():
                begun.set()
                assert looked.wait(20)
            return real.published(model)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    other.targets["local"].registry = Watched()
    over = Event()

    def halt(_: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        done = call()
        if verb == "point" and not looked.is_set():
            looked.set()
            assert over.wait(20)
        return done

    late = background(other.promote, "churn:1", to="prod")
    assert begun.wait(20)
    house.script = halt
    early = background(ws.promote, "churn:1", to="prod")
    eventually(looked.is_set)
    assert not late.done()
    over.set()

    assert early.result(20).changed
    assert not late.result(20).changed
    house.check_truth(ws)


def test_adoption_of_a_world_that_moves(house: Any) -> None:
    """What somebody else makes true while a target is looked at is not overwritten."""
    house.configure(targets=TWO, stages=BOTH, provider="scripted")
    ws, other = house.open(), house.open("bob")
    house.register(ws)
    ws.promote("churn:1", to="staging")
    ws.targets["west"].registry.point("churn", "dev", None)
    real = ws.targets["west"].registry._backend
    looked: list[str] = []

    class Slow:
        def published(self, model: str) -> Any:
            if not looked:
                looked.append(model)
                house.open("bob").promote("churn:1", to="prod")
            return real.published(model)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    ws.targets["west"].registry._backend = Slow()
    with pytest.raises(Conflict, match="nothing was adopted"):
        ws.adopt("churn", target="west", reason="no")
    assert stages(other) == {"dev": 1, "staging": 1, "prod": 1}


def test_status_without_endpoints(house: Any, ws: Workspace) -> None:
    """Each stage is a row, with its number and what its target shows; an empty one too."""
    house.register(ws)
    ws.promote("churn:1", to="staging")
    rows = ws.status()

    assert [(r.stage, r.number, [s.numbers for s in r.shown]) for r in rows] == [
        ("dev", 1, [(1,)]),
        ("staging", 1, [(1,)]),
        ("prod", None, [()]),
    ]
    assert rows == ws.status("churn")
    with pytest.raises(NotFound):
        ws.status("other")
