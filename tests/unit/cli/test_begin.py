"""The first commands: init, doctor, providers, and a configuration that cannot be read."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg import plugins
from cloudreg.cli.verbs import init
from cloudreg.settings import load


@pytest.fixture
def empty(project: Any) -> Iterator[Path]:
    """A folder without a configuration."""
    (project.root / "cloudreg.toml").unlink()
    return project.root  # type: ignore[no-any-return]


def test_init(empty: Path, cloudreg: Any) -> None:
    """A configuration is written that can be used as it is."""
    said = cloudreg("init")

    assert (said.code, said.out) == (0, "wrote cloudreg.toml\n")
    assert "next: cloudreg register churn " in said.err
    settings = load(empty / "cloudreg.toml")
    assert settings.order == ("dev", "staging", "prod")
    assert settings.endpoints == {}
    assert cloudreg("doctor").code == 0


def test_init_with_an_endpoint(empty: Path, cloudreg: Any) -> None:
    """The example endpoint can be switched on for a model."""
    assert cloudreg("init", "--model", "basket", "--endpoint").code == 0

    endpoint = load(empty / "cloudreg.toml").endpoints["basket-staging"]
    assert (endpoint.model, endpoint.stage) == ("basket", "staging")


def test_init_comments(empty: Path) -> None:
    """What is commented out is a configuration too, once the marks are taken away."""
    lines = init.text("churn", endpoint=False).splitlines()
    # Prose has no = and no bracket at its beginning.
    bare = [re.sub(r"^# (?=\[|\w+ = )", "", line) for line in lines]
    path = empty / "all.toml"
    path.write_text("\n".join(bare))

    settings = load(path)

    kinds = [table["kind"] for table in settings.stages["prod"].gates or ()]
    assert kinds == ["metric", "golden", "signature", "lineage", "card", "budget"]
    assert settings.stages["prod"].approvals == 1
    assert settings.endpoints["churn-staging"].rollout.noun().steps == (10, 50, 100)


def test_init_twice(project: Any, cloudreg: Any) -> None:
    """A configuration that is there is never overwritten."""
    before = project.files()

    said = cloudreg("init", "--json")

    assert said.code == 1
    assert said.json["error"] == "AlreadyExists"
    assert project.files() == before


def test_init_elsewhere(empty: Path, cloudreg: Any) -> None:
    """A folder is made where it is missing, and the next step names it."""
    said = cloudreg("init", "new/place")

    assert said.code == 0
    assert tomllib.loads((empty / "new" / "place" / "cloudreg.toml").read_text())["home"] == "local"
    assert "--config new/place/cloudreg.toml" in said.err


def test_init_where_a_file_is(empty: Path, cloudreg: Any) -> None:
    """A file is no folder."""
    (empty / "taken").write_text("")

    said = cloudreg("init", "taken")

    assert said.code == 64
    assert "taken" in said.err


@pytest.mark.parametrize("before", [None, "build/", "build/\n", ".cloudreg\n"])
def test_init_in_git(empty: Path, cloudreg: Any, before: str | None) -> None:
    """In a work tree git is told to ignore the local target, once, and nothing else changes."""
    subprocess.run(["git", "init", "-q", "."], check=True)
    ignore = empty / ".gitignore"
    if before is not None:
        ignore.write_text(before)

    cloudreg("init")

    lines = ignore.read_text().splitlines()
    assert lines == {
        None: [".cloudreg/"], ".cloudreg\n": [".cloudreg"],
    }.get(before, ["build/", ".cloudreg/"])  # fmt: skip
    assert "cloudreg.toml" not in ignore.read_text()


def test_no_configuration(empty: Path, cloudreg: Any) -> None:
    """Without a configuration every verb says what makes one."""
    for line in ("list", "show churn:1", "plan", "status", "register churn .", "predict churn []"):
        said = cloudreg(*line.split())
        assert said.code == 64, line
        assert "hint: cloudreg init" in said.err, line


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("home = \n", "cloudreg.toml, line 1, column 8"),
        ('home = "local"\nnope = 1\n', "cloudreg.toml, line 2, column 1, nope: unknown key 'nope'"),
        ('home = "moon"\n', "cloudreg.toml, line 1, column 1, home: no target 'moon'"),
        ('[endpoints.x]\nmodel = "churn"\n', "the key 'stage' is missing"),
        ('[endpoints.x]\nmodel = "churn"\nstage = "live"\n', "line 3, column 1"),
        (
            "[stages.a1]\n[stages.b1]\n[[stages.b1.gates]]\nkind = 'card'\n"
            "[[stages.b1.gates]]\nkind = 'luck'\n",
            "cloudreg.toml, line 5, column 1, stages.b1.gates.1: kind 'luck' is none of",
        ),
        (
            "[stages.a1]\n[stages.b1]\ngates = [{kind = 'luck'}]\n",
            "cloudreg.toml, line 3, column 1, stages.b1.gates.0: kind 'luck' is none of",
        ),
        ('[targets.local]\nprovider = "moon"\n', "line 2, column 1, targets.local.provider: no"),
        ('[targets.local]\nprovider = "local"\nnope = 1\n', "line 3, column 1, targets.local.nope"),
    ],
)
def test_broken_configuration(project: Any, cloudreg: Any, text: str, place: str) -> None:
    """A configuration that cannot be used is refused with the place, and nothing is written."""
    (project.root / "cloudreg.toml").write_text(text)
    folder = project.model("one")
    before = project.files()

    said = cloudreg("register", "churn", folder)

    assert (said.code, said.out) == (64, "")
    assert place in said.err
    assert project.files() == before


def test_doctor(churn: Any, cloudreg: Any) -> None:
    """A sound place has one line for each check."""
    said = cloudreg("doctor")

    assert said.code == 0
    found = {tuple(line.split()[:2]) for line in said.out.splitlines()}
    assert {("ok", "python"), ("ok", "configuration"), ("ok", "target"), ("ok", "ledger")} <= found
    assert "1 model, 2 versions, readable to their heads" in said.out
    checks = cloudreg("doctor", "--json").json["checks"]
    assert {check["state"] for check in checks} <= {"ok", "warn"}


def test_doctor_finds_a_broken_configuration(project: Any, cloudreg: Any) -> None:
    """The doctor reports what other verbs would refuse, and ends with 1."""
    (project.root / "cloudreg.toml").write_text("home = 1\nhome = 2\n")

    said = cloudreg("doctor")

    assert said.code == 1
    assert "fail  configuration" in said.out
    assert "cloudreg.toml, line 2, column" in said.out


def test_doctor_finds_a_broken_target(project: Any, cloudreg: Any) -> None:
    """A target that cannot be opened is a failure of its own."""
    text = (project.root / "cloudreg.toml").read_text()
    (project.root / "cloudreg.toml").write_text(f'{text}\n[targets.moon]\nprovider = "moon"\n')

    said = cloudreg("doctor")

    assert said.code == 1
    assert "fail  target moon" in said.out
    assert "ok    target local" in said.out


def test_doctor_finds_a_forged_ledger(churn: Any, cloudreg: Any) -> None:
    """A ledger that cannot be read is a failure."""
    (entry,) = (churn.root / ".cloudreg").rglob("ledger*/churn*/**/00000001.json")
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b"alice", b"mallo"))

    said = cloudreg("doctor")

    assert said.code == 1
    assert "fail  ledger" in said.out


def test_providers(cloudreg: Any) -> None:
    """Each provider is shown with what it can do and why not more."""
    said = cloudreg("providers")
    facts = cloudreg("providers", "--json").json["providers"]

    assert said.code == 0
    assert "local: this machine" in said.out
    assert re.search(r"^  max_replicas +16 +replicas share one machine$", said.out, re.MULTILINE)
    (local,) = [provider for provider in facts if provider["name"] == "local"]
    assert {"capability": "scale_to_zero", "value": True, "reason": ""} in local["capabilities"]


def test_markdown(cloudreg: Any) -> None:
    """The same facts are a Markdown table with a column for each provider."""
    lines = cloudreg("providers", "--markdown").out.splitlines()

    assert lines[0].startswith("| capability | ")
    assert set(lines[1]) == {"|", "-"}
    assert any(line.startswith("| max_replicas | ") for line in lines)
    assert len({line.count("|") for line in lines}) == 1


def test_broken_provider(cloudreg: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A provider that cannot be loaded is named, and hides no other."""
    info = tmp_path / "moon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nmoon = no_such_module:PLUGIN\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    said = cloudreg("providers")

    assert said.code == 0
    assert "moon: provider 'moon' cannot be loaded" in said.out
    assert "local: this machine" in said.out
    assert "moon" not in cloudreg("providers", "--markdown").out
