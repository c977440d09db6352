"""Stages on the command line: promote, approve, rollback, history, drift, repair, adopt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

GATED = """
[[models.churn.gates.staging]]
kind = "metric"
name = "auc"
min = 0.92
"""


def stages(cloudreg: Any) -> dict[str, int]:
    found: dict[str, int] = cloudreg("list", "churn", "--json").json["stages"]
    return found


def test_promote(churn: Any, cloudreg: Any) -> None:
    """A version enters the next stage; the plan, the gates and the outcome are shown."""
    said = cloudreg("promote", "churn:1", "--to", "staging", "--reason", "spring")

    assert said.code == 0, said.err
    assert "  + stage churn@staging" in said.out
    assert "  pass  stage_order: churn:1 has been in dev" in said.out
    assert said.out.endswith("\nchurn:1 is in staging now\n")
    assert said.err.endswith("next: cloudreg promote churn@staging --to prod\n")
    assert stages(cloudreg) == {"dev": 2, "staging": 1}


def test_promote_as_json(churn: Any, cloudreg: Any) -> None:
    """The facts of a promotion are its plan, its entry and its version."""
    facts = cloudreg("promote", "churn:1", "--to", "staging", "--json").json

    assert facts["changed"] is True
    assert facts["version"]["ref"] == "churn:1"
    assert facts["plan"]["counts"] == {"create": 1, "update": 0, "delete": 0}
    assert facts["entry"]["kind"] == "done"
    assert facts["entry"]["hash"].startswith("sha256:")


def test_promote_again(churn: Any, cloudreg: Any) -> None:
    """What is there already is no work and no error."""
    cloudreg("promote", "churn:1", "--to", "staging")

    said = cloudreg("promote", "churn:1", "--to", "staging")

    assert said.code == 0
    assert said.out == "churn:1 is in staging already: nothing had to change\n"


def test_quiet(churn: Any, cloudreg: Any) -> None:
    """With --quiet there is no news and no next step."""
    assert cloudreg("promote", "churn:1", "--to", "staging", "--quiet").err == ""


def test_dry_run(churn: Any, cloudreg: Any) -> None:
    """A dry run shows the plan, ends with 2, and changes nothing."""
    before = churn.files()

    said = cloudreg("promote", "churn:1", "--to", "staging", "--dry-run")

    assert said.code == 2
    assert "Plan: 1 to create, 0 to change, 0 to destroy." in said.out
    assert said.err == "next: cloudreg promote churn:1 --to staging\n"
    assert churn.files() == before


def test_dry_run_without_changes(churn: Any, cloudreg: Any) -> None:
    """A dry run of what is there already ends with 0."""
    said = cloudreg("promote", "churn:2", "--to", "dev", "--dry-run")

    assert said.code == 0
    assert said.out.startswith("No changes.")


def test_saved_plan(churn: Any, cloudreg: Any) -> None:
    """A saved promotion is shown again and carried out."""
    saved = cloudreg("promote", "churn:1", "--to", "staging", "--dry-run", "--out", "p.json")

    assert "next: cloudreg apply p.json\n" in saved.err
    said = cloudreg("apply", "p.json")
    assert said.code == 0, said.err
    assert "  + stage churn@staging" in said.out
    assert said.out.endswith("churn:1 is in staging now\n")
    assert stages(cloudreg)["staging"] == 1


def test_stale_plan(churn: Any, cloudreg: Any) -> None:
    """A saved plan is refused once the world has moved."""
    cloudreg("promote", "churn:1", "--to", "staging", "--dry-run", "--out", "p.json")
    cloudreg("promote", "churn:2", "--to", "staging")

    said = cloudreg("apply", "p.json", "--json")

    assert said.code == 1
    assert said.json["error"] == "StalePlan"
    assert stages(cloudreg)["staging"] == 2


def test_edited_plan(churn: Any, cloudreg: Any) -> None:
    """A plan that shows something else than it would do is refused."""
    cloudreg("promote", "churn:1", "--to", "staging", "--dry-run", "--out", "p.json")
    path = Path("p.json")
    document = json.loads(path.read_text())
    document["changes"][0]["after"]["version"] = 2
    path.write_text(json.dumps(document))

    said = cloudreg("apply", "p.json")

    assert said.code == 64
    assert "p.json was edited after it was saved" in said.err
    assert "staging" not in stages(cloudreg)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", '{"format": 1, "request": {}, "fingerprint": "x"}', "\xff"]
)
def test_no_plan(churn: Any, cloudreg: Any, content: str) -> None:
    """A file that holds no plan is refused as such."""
    Path("p.json").write_text(content, encoding="latin-1")

    said = cloudreg("apply", "p.json")

    assert said.code == 64
    assert "p.json is not a plan that cloudreg saved" in said.err


def test_missing_plan(churn: Any, cloudreg: Any) -> None:
    """A plan that is not there is an error with the command that saves one."""
    said = cloudreg("apply", "nowhere")

    assert said.code == 1
    assert "hint: cloudreg plan --out FILE" in said.err


def test_failed_gate(churn: Any, cloudreg: Any) -> None:
    """A gate that fails ends with 3, says what was measured and wanted, and nothing moves."""
    churn.configure(GATED)
    before = churn.files()

    said = cloudreg("promote", "churn:1", "--to", "staging")

    assert (said.code, said.out) == (3, "")
    assert "FAIL  metric:" in said.err
    assert "measured auc 0.9, wanted auc at least 0.92" in said.err
    assert churn.files() == before


def test_failed_gate_in_a_dry_run(churn: Any, cloudreg: Any) -> None:
    """A dry run that would be refused shows the plan, ends with 3, and suggests nothing."""
    churn.configure(GATED)

    said = cloudreg("promote", "churn:1", "--to", "staging", "--dry-run")

    assert said.code == 3
    assert "  + stage churn@staging" in said.out
    assert "FAIL  metric:" in said.out
    assert "next:" not in said.err


def test_skipped_stage(churn: Any, cloudreg: Any) -> None:
    """A stage cannot be skipped."""
    said = cloudreg("promote", "churn:1", "--to", "prod", "--json")

    assert said.code == 3
    assert [g["gate"] for g in said.json["gates"] if not g["passed"]] == ["stage_order"]


def test_broken_glass(churn: Any, cloudreg: Any) -> None:
    """Breaking the glass goes past the gates, and is loud in the history."""
    said = cloudreg("promote", "churn:1", "--to", "prod", "--break-glass", "the site is down")

    assert said.code == 0
    assert "breaking the glass: the site is down\n" in said.err
    history = cloudreg("history", "churn").out
    assert "!! BREAK GLASS: the site is down" in history
    assert "!! gate FAILED: stage_order:" in history


def test_expectation(churn: Any, cloudreg: Any) -> None:
    """A promotion that expects another version in the stage does nothing."""
    cloudreg("promote", "churn:1", "--to", "staging")

    said = cloudreg("promote", "churn:2", "--to", "staging", "--expect", "2")

    assert said.code == 1
    assert "churn@staging is 1, 2 was expected: nothing was done" in said.err
    assert stages(cloudreg)["staging"] == 1
    assert cloudreg("promote", "churn:2", "--to", "staging", "--expect", "1").code == 0


def test_unknown_stage(churn: Any, cloudreg: Any) -> None:
    """A stage that is not configured is named, with those that are."""
    for words in (("promote", "churn:1", "--to", "live"), ("approve", "churn:1", "--stage", "live"),
                  ("rollback", "churn", "live")):  # fmt: skip
        said = cloudreg(*words)
        assert said.code == 1
        assert "no stage 'live'\n  hint: there are dev, staging, prod" in said.err


def test_approvals(churn: Any, cloudreg: Any) -> None:
    """A stage that asks for approvals ends with 4 until somebody other than the author agrees."""
    churn.configure("approvals = 2\n")
    cloudreg("promote", "churn:1", "--to", "staging")

    refused = cloudreg("promote", "churn@staging", "--to", "prod")
    assert refused.code == 4
    assert "hint: cloudreg approve churn:1 --stage prod" in refused.err
    own = cloudreg("approve", "churn:1", "--stage", "prod")
    assert own.code == 64
    assert "alice, who cannot approve it" in own.err
    first = cloudreg("approve", "churn:1", "--stage", "prod", "--as", "bob", "--reason", "fine")
    assert first.out == "churn:1 is approved for prod by bob (2 needed)\n"
    assert first.err == "next: cloudreg approve churn:1 --stage prod, by 1 more person\n"
    second = cloudreg("approve", "churn:1", "--stage", "prod", "--as", "carol", "--json")
    assert second.json == {
        "ref": "churn:1", "stage": "prod", "approvals": ["bob", "carol"], "needed": 2,
    }  # fmt: skip
    assert cloudreg("promote", "churn@staging", "--to", "prod").code == 0
    assert "approved churn:1 for prod: fine" in cloudreg("history", "churn").out


def test_rollback(churn: Any, cloudreg: Any) -> None:
    """A stage goes back to the version before, and says why in the history."""
    cloudreg("promote", "churn:1", "--to", "staging")
    cloudreg("promote", "churn:2", "--to", "staging")

    preview = cloudreg("rollback", "churn", "staging", "--dry-run", "--reason", "too slow")
    assert preview.code == 2
    assert "cloudreg rollback churn staging --to churn:1 --reason 'too slow'" in preview.err
    said = cloudreg("rollback", "churn", "staging", "--reason", "too slow")

    assert said.code == 0
    assert said.out.endswith("churn:1 is in staging now\n")
    assert stages(cloudreg)["staging"] == 1
    history = cloudreg("history", "churn").out
    assert "rolled back: staging is churn:1, after churn:2" in history
    assert "why: too slow" in history


def test_rollback_to_a_version(churn: Any, cloudreg: Any) -> None:
    """Only what held the stage can be gone back to, and only of the same model."""
    cloudreg("promote", "churn:1", "--to", "staging")
    cloudreg("register", "basket", churn.model("basket"))
    cloudreg("promote", "basket:1", "--to", "staging")

    never = cloudreg("rollback", "churn", "staging", "--to", "churn:2")
    foreign = cloudreg("rollback", "churn", "staging", "--to", "basket:1")

    assert never.code == 64
    assert "churn:2 was never in staging" in never.err
    assert foreign.code == 64
    assert "basket:1 is no version of churn" in foreign.err
    assert stages(cloudreg)["staging"] == 1


def test_rollback_without_a_past(churn: Any, cloudreg: Any) -> None:
    """A stage that held nothing before cannot go back."""
    assert cloudreg("rollback", "churn", "prod").code == 1


def test_history(churn: Any, cloudreg: Any) -> None:
    """Entries are told newest first, with who and when."""
    cloudreg("promote", "churn:1", "--to", "staging", "--as", "bob", "--reason", "spring")

    lines = cloudreg("history", "churn").out.splitlines()
    facts = cloudreg("history", "churn", "--json").json

    assert lines[0].split()[0] == "3"
    assert "  bob    promoted: staging is churn:1" in lines[0]
    assert lines[1].strip() == "why: spring"
    assert lines[-1].endswith(
        "alice  registered churn:1 in dev (sha256:"
        f"{facts['entries'][-1]['data']['digest'][7:19]}, 1 file, 3 B)"
    )
    assert [entry["seq"] for entry in facts["entries"]] == [3, 2, 1, 0]
    assert "verification" not in facts


def test_history_limit(churn: Any, cloudreg: Any) -> None:
    """A limit says on stderr what it hides."""
    said = cloudreg("history", "churn", "--limit", "1")

    assert len(said.out.splitlines()) == 1
    assert "1 older ones; --limit 0 shows all\n" in said.err


def test_verified_history(churn: Any, cloudreg: Any) -> None:
    """A sound ledger ends with 0 and a head that can be pinned elsewhere."""
    said = cloudreg("history", "churn", "--verify")
    head = said.out.splitlines()[-1].removeprefix("Head: ")

    assert said.code == 0
    assert "The ledger is sound: 2 entries hang together, from 0 to the head." in said.out
    assert cloudreg("history", "churn", "--pin", head).code == 0
    other = cloudreg("history", "churn", "--pin", f"0:sha256:{'0' * 64}", "--json")
    assert other.code == 1
    assert other.json["verification"]["ok"] is False


@pytest.mark.parametrize("deed", ["edit", "cut"])
def test_forged_history(churn: Any, cloudreg: Any, deed: str) -> None:
    """An entry that was edited or cut off is found, and ends with 1."""
    cloudreg("history", "churn", "--verify")
    entries = sorted((churn.root / ".cloudreg").rglob("ledger*/churn*/**/0000*.json"))
    assert len(entries) == 2
    entries[-1].chmod(0o644)
    if deed == "edit":
        entries[-1].write_bytes(entries[-1].read_bytes().replace(b"alice", b"mallo"))
    else:
        entries[-1].unlink()

    said = cloudreg("history", "churn", "--verify")
    facts = cloudreg("history", "churn", "--verify", "--json").json

    assert said.code == 1
    assert "The ledger is NOT sound" in said.out
    assert facts["verification"]["problems"]


def test_nothing_under_way(churn: Any, cloudreg: Any) -> None:
    """Without a rollout there is nothing to pause, to go on with, or to undo."""
    assert cloudreg("rollout", "status").out == "nothing is under way\n"
    for action in ("pause", "resume", "abort"):
        assert cloudreg("rollout", action, "churn").code == 1


def test_another_folder(churn: Any, cloudreg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config takes the file or its folder, and beats the variable and the working folder."""
    (churn.root / "else").mkdir()
    shutil.copy("cloudreg.toml", "else/cloudreg.toml")
    monkeypatch.setenv("CLOUDREG_CONFIG", str(churn.root / "cloudreg.toml"))

    for given in ("else", "else/cloudreg.toml"):
        assert cloudreg("list", "--json", "--config", given).json["models"] == []
    assert cloudreg("list", "--json").json["total"] == 1


def test_unknown_model(churn: Any, cloudreg: Any) -> None:
    """Every verb names a model that is not there instead of finding nothing wrong with it."""
    for line in ("list nope", "history nope", "history nope --verify", "status nope", "drift nope",
                 "repair nope", "adopt nope --reason x", "rollback nope prod", "plan --model nope",
                 "apply --model nope --yes", "rollout status nope", "rollout abort nope",
                 "rollout resume nope", "promote nope:1 --to staging"):  # fmt: skip
        said = cloudreg(*line.split())
        assert said.code == 1, line
        assert "no model 'nope'" in said.err, line


def test_history_of_a_day(churn: Any, cloudreg: Any) -> None:
    """What a stage held on a day is told with its times; a day before has nothing."""
    assert cloudreg("promote", "churn:1", "--to", "staging", "--quiet").code == 0
    today = cloudreg("history", "churn", "--at", "2099-01-01", "--json").json["past"]
    assert [(one["stage"], one["number"], one["until"]) for one in today["held"]] == [
        ("dev", 2, None),
        ("staging", 1, None),
    ]
    said = cloudreg("history", "churn", "--at", "2099-01-01").out.splitlines()
    assert said[0] == "churn from 2099-01-01T00:00:00Z to 2099-01-02T00:00:00Z"
    assert said[2].split() == ["STAGE", "VERSION", "DIGEST", "SINCE", "UNTIL", "BY"]
    assert "nothing was in any stage" in cloudreg("history", "churn", "--at", "2020-01-01").out
    wrong = cloudreg("history", "churn", "--at", "2020-01-01", "--verify")
    assert (wrong.code, "one at a time" in wrong.err) == (64, True)
    assert cloudreg("history", "churn", "--at", "May").code == 64
