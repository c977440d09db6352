"""Versions on the command line: register, list, show, compare, card, download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CARD = 'intended_use = "Whom to call."\nlimits = "Not for new customers."\n'


def test_register(project: Any, cloudreg: Any) -> None:
    """A folder becomes version 1, with everything that was said about it."""
    folder = project.model("one")
    (project.root / "train.csv").write_text("a,b\n1,2\n")
    (project.root / "card.toml").write_text(CARD)

    said = cloudreg(
        "register", "churn", folder, "--metric", "auc=0.9", "--metric", "loss=1e-3",
        "--param", "rate=0.1", "--param", "layers=[8, 8]", "--param", "name=NaN",
        "--label", "team=retention", "--seed", "7", "--data", "train.csv", "--card", "card.toml",
    )  # fmt: skip

    assert said.code == 0, said.err
    assert said.out.startswith("registered churn:1 in dev\n")
    assert "1 file, 3 B: 3 B sent, 0 B there already" in said.out
    assert "next: cloudreg promote churn:1 --to staging\n" in said.err
    version = cloudreg("show", "churn:1", "--json").json["version"]
    manifest = version["manifest"]
    assert version["author"] == "alice"
    assert manifest["metrics"] == {"auc": 0.9, "loss": 0.001}
    assert manifest["labels"] == {"team": "retention"}
    assert manifest["card"]["limits"] == "Not for new customers."
    lineage = manifest["lineage"]
    assert lineage["seed"] == 7
    assert lineage["data_digest"].startswith("sha256:")
    # NaN is no JSON, so that it can only be meant as text.
    assert lineage["parameters"] == {"rate": 0.1, "layers": [8, 8], "name": "NaN"}


def test_register_again(churn: Any, cloudreg: Any) -> None:
    """The same files, described in the same way, are the same version, and nothing is sent."""
    words = ("register", "churn", "first", "--metric", "auc=0.9", "--param", "rate=0.1")

    said = cloudreg(*words)
    facts = cloudreg(*words, "--json").json

    assert said.code == 0
    assert "churn:1 is known already" in said.out
    assert "nothing was sent" in said.out
    assert facts["created"] is False
    assert (facts["ref"], facts["sent_bytes"], facts["present_bytes"]) == ("churn:1", 0, 3)


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("missing", 1, "there is no missing"),
        ("empty", 64, "empty holds no file to register"),
    ],
)
def test_no_files(project: Any, cloudreg: Any, path: str, code: int, reason: str) -> None:
    """Without files there is no version, and nothing is written."""
    (project.root / "empty").mkdir()
    before = project.files()

    said = cloudreg("register", "churn", path)

    assert (said.code, said.out) == (code, "")
    assert reason in said.err
    assert project.files() == before


def test_broken_card(project: Any, cloudreg: Any) -> None:
    """A card that is no TOML is refused with line and column, before anything is stored."""
    (project.root / "card.toml").write_text("limits = \n")
    folder = project.model("one")
    before = project.files()

    said = cloudreg("register", "churn", folder, "--card", "card.toml")

    assert said.code == 64
    assert "card.toml, line 1, column 10" in said.err
    assert project.files() == before


def test_no_data(project: Any, cloudreg: Any) -> None:
    """Training data that is not there is an error, not a version without its digest."""
    said = cloudreg("register", "churn", project.model("one"), "--data", "missing.csv")

    assert said.code == 1
    assert "missing.csv" in said.err
    assert cloudreg("list", "--json").json["models"] == []


def test_list_models(churn: Any, cloudreg: Any) -> None:
    """Models are listed by name with what their stages hold."""
    cloudreg("register", "basket", "first")

    said = cloudreg("list")

    assert said.out.splitlines() == [
        "MODEL   VERSIONS  DEV       STAGING  PROD",
        "basket  1         basket:1  -        -",
        "churn   2         churn:2   -        -",
    ]
    assert cloudreg("list", "--json").json == {
        "models": [
            {"model": "basket", "versions": 1, "stages": {"dev": 1}},
            {"model": "churn", "versions": 2, "stages": {"dev": 2}},
        ],
        "total": 2,
    }


def test_list_nothing(project: Any, cloudreg: Any) -> None:
    """An empty home says so, and what comes first."""
    said = cloudreg("list")

    assert (said.code, said.out) == (0, "no model is registered\n")
    assert said.err == "next: cloudreg register NAME FOLDER\n"


def test_list_versions(churn: Any, cloudreg: Any) -> None:
    """Versions are listed newest first, with their stages and metrics."""
    head, newest, oldest = cloudreg("list", "churn").out.splitlines()
    facts = cloudreg("list", "churn", "--json").json

    assert head.split() == [
        "VERSION", "STAGES", "DIGEST", "REGISTERED", "AUTHOR", "SIZE", "METRICS",
    ]  # fmt: skip
    assert newest.split()[:2] == ["churn:2", "dev"]
    assert oldest.split()[:2] == ["churn:1", "-"]
    assert oldest.endswith("alice   3 B   auc=0.9")
    assert [v["number"] for v in facts["versions"]] == [2, 1]
    assert len(facts["versions"][0]["digest"]) == 71


def test_limit(churn: Any, cloudreg: Any) -> None:
    """A limit says on stderr what it hides, and 0 hides nothing."""
    said = cloudreg("list", "churn", "--limit", "1")

    assert len(said.out.splitlines()) == 2
    assert "1 older ones; --limit 0 shows all\n" in said.err
    assert len(cloudreg("list", "churn", "--limit", "0").out.splitlines()) == 3
    assert cloudreg("list", "churn", "--limit", "1", "--json").json["total"] == 2


@pytest.mark.parametrize("ref", ["churn:2", "churn@dev", "digest"])
def test_show(churn: Any, cloudreg: Any, ref: str) -> None:
    """A version is found by number, stage and digest, and shown with all that is known."""
    if ref == "digest":
        found = cloudreg("list", "churn", "--json").json["versions"][0]["digest"]
        ref = f"churn@{found[:20]}"

    said = cloudreg("show", ref)

    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "churn:2"
    assert "  stages      dev" in lines
    assert "  auc  0.95" in lines
    assert "  parameter rate  0.2" in lines
    assert lines[-1].startswith("weights.txt  3 B   sha256:")


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("nope:1", "no model 'nope'\n  hint: there are churn"),
        ("churn:9", "no version churn:9\n  hint: the newest is churn:2"),
        ("churn@nope", "no stage 'nope'\n  hint: there are dev, staging, prod"),
        ("churn@prod", "no version of churn is in prod"),
        ("churn@sha256:00000000", "no version churn@sha256:00000000"),
    ],
)
def test_unknown(churn: Any, cloudreg: Any, ref: str, reason: str) -> None:
    """What is not there is named, with what there is."""
    said = cloudreg("show", ref)

    assert (said.code, said.out) == (1, "")
    assert reason in said.err


def test_error_as_json(churn: Any, cloudreg: Any) -> None:
    """With --json an error is JSON on stdout and stderr stays empty."""
    said = cloudreg("show", "churn:9", "--json")

    assert (said.code, said.err) == (1, "")
    assert said.json == {
        "error": "NotFound",
        "message": "no version churn:9",
        "target": None,
        "hint": "the newest is churn:2",
        "exit_code": 1,
    }


def test_compare(churn: Any, cloudreg: Any) -> None:
    """Two versions stand side by side, without what is equal."""
    said = cloudreg("compare", "churn:1", "churn:2")

    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0] == ["churn:1", "churn:2"]
    assert ["metrics", "auc", "0.9", "0.95"] in rows
    assert ["parameters", "rate", "0.1", "0.2"] in rows
    assert not any("author" in row for row in rows)
    assert "equal; --all shows every row" in said.out
    assert "author" in cloudreg("compare", "churn:1", "churn:2", "--all").out


def test_compare_as_json(churn: Any, cloudreg: Any) -> None:
    """The facts of a comparison are rows that say whether they are equal."""
    facts = cloudreg("compare", "churn:1", "churn:2", "--all", "--json").json

    assert (facts["left"], facts["right"]) == ("churn:1", "churn:2")
    assert len(facts["rows"]) == facts["total"] > facts["differing"]
    assert {
        "section": "metrics", "key": "auc", "left": 0.9, "right": 0.95, "equal": False,
    } in facts["rows"]  # fmt: skip


def test_compare_with_itself(churn: Any, cloudreg: Any) -> None:
    """A version does not differ from itself."""
    assert cloudreg("compare", "churn:1", "churn:1").out == (
        "churn:1 and churn:1 are the same version\n"
    )


def test_card(churn: Any, cloudreg: Any) -> None:
    """The card is Markdown on stdout, or in a file."""
    said = cloudreg("card", "churn:1")
    written = cloudreg("card", "churn:1", "--out", "card.md")

    assert said.out.startswith("# Model card: churn:1\n")
    assert written.out == "wrote card.md\n"
    text = (churn.root / "card.md").read_text()
    assert text.splitlines() == said.out.splitlines()
    assert cloudreg("card", "churn:1", "--json").json["markdown"] == text
    assert cloudreg("card", "churn:1", "--out", "no/where").code == 64


def test_download(churn: Any, cloudreg: Any) -> None:
    """A version's files are written into a new folder, and over nothing."""
    said = cloudreg("download", "churn:1", "here", "--json")

    assert said.code == 0, said.out
    assert Path("here/weights.txt").read_text() == "one"
    assert said.json["files"] == 1
    again = cloudreg("download", "churn:1", "here")
    assert again.code == 64
    assert "here is not an empty folder" in again.err


def test_damaged_store(churn: Any, cloudreg: Any) -> None:
    """Bytes that are not what was registered are never handed out."""
    (blob,) = [
        path
        for path in (churn.root / ".cloudreg" / "store").rglob("*")
        if path.is_file() and path.read_bytes() == b"one"
    ]
    blob.chmod(0o644)
    blob.write_bytes(b"two")

    said = cloudreg("download", "churn:1", "here", "--json")

    assert said.code == 1
    assert said.json["error"] == "IntegrityError"
    assert not Path("here/weights.txt").exists()


def test_foreign_text(churn: Any, cloudreg: Any) -> None:
    """An escape sequence in somebody's text is shown and not obeyed."""
    assert cloudreg("register", "churn", "first", "--label", "note=\x1b[2Jgone").code == 0

    said = cloudreg("show", "churn:3")

    assert "  label note  \\u001b[2Jgone\n" in said.out
    labels = cloudreg("show", "churn:3", "--json").json["version"]["manifest"]["labels"]
    assert labels == {"note": "\x1b[2Jgone"}


def test_strange_actor(churn: Any, cloudreg: Any) -> None:
    """Somebody whose name could be taken for another's does nothing here."""
    said = cloudreg("register", "churn", "first", "--label", "a=b", "--as", "m\u202eallory")

    assert said.code == 64
    assert "\u202e" not in said.err
    assert cloudreg("list", "churn", "--json").json["total"] == 2


def test_json_of_every_reading_verb(churn: Any, cloudreg: Any) -> None:
    """Every verb that reads prints one JSON object and nothing else."""
    for line in (
        "list", "list churn", "show churn:1", "compare churn:1 churn:2", "card churn:1",
        "history churn", "history churn --verify", "plan", "status", "status churn", "drift",
        "rollout status", "providers", "providers --markdown", "doctor",
    ):  # fmt: skip
        said = cloudreg(*line.split(), "--json")
        assert said.code == 0, line
        assert isinstance(json.loads(said.out), dict), line
        assert said.err == "", line
