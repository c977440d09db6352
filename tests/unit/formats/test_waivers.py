"""A waiver is recorded, told, kept by checkpoints, and ends."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.cli import main
from cloudreg.errors import GateFailed, IntegrityError, InvalidRequest, NotFound
from cloudreg.ledger import Draft, Ledger, Waiver, verify
from cloudreg.ledger.checkpoint import EVERY
from cloudreg.ledger.fold import VersionIndex, VersionSummary
from cloudreg.manifest import Lineage
from cloudreg_local.store import LocalStore

CONFIG = """
[targets.local]
provider = "local"

[stages.dev]
[stages.staging]
gates = []
[stages.prod]
gates = []
"""

DAY_S = 24 * 3600.0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a model that is a pickle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cloudreg.toml").write_text(CONFIG)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    return tmp_path


@pytest.fixture
def open_as(root: Path) -> Callable[[str], Workspace]:
    """Open the workspace as somebody."""
    return lambda actor: Workspace.load(root, actor=actor)


@pytest.fixture
def author(open_as: Any, root: Path) -> Workspace:
    """The workspace of ann, who has registered the pickle as churn:1."""
    ws: Workspace = open_as("ann")
    ws.register("churn", root / "build", lineage=Lineage())
    return ws


def kinds(ws: Workspace) -> list[str]:
    return [entry.kind for entry in ws.history("churn", newest_first=False)]


def test_refused_then_waived(author: Workspace, open_as: Any) -> None:
    """A pickle stays in the first stage until somebody else waives it for the next, and only it."""
    with pytest.raises(GateFailed, match=r"model\.pkl is pickle"):
        author.promote("churn:1", to="staging")
    assert kinds(author) == ["register"]

    summary = open_as("bob").waive("churn:1", formats=["pickle"], stage="staging", reason="moving")
    author.promote("churn:1", to="staging")

    with pytest.raises(GateFailed, match="--stage prod"):
        author.promote("churn:1", to="prod")
    until = (datetime.now(UTC).date() + timedelta(days=30)).isoformat()
    (given,) = summary.waivers
    assert (given.by, given.formats, given.until) == ("bob", ("pickle",), until)
    done = next(e for e in author.history("churn") if e.kind == "done")
    (gate,) = [g for g in done.data["gates"] if g["gate"] == "format"]
    assert gate["evidence"]["waivers"][0]["by"] == "bob"
    assert author.verify("churn").problems == ()


def test_ends_by_the_ledgers_clock(author: Workspace, open_as: Any) -> None:
    """Once its last day is over, a waiver counts no more."""
    bob = open_as("bob")
    bob.waive("churn:1", formats=["pickle"], stage="staging", reason="moving", days=1)
    ledger = author.registry.ledger("churn")
    now = ledger.clock()
    ledger.clock = lambda: now + 2 * DAY_S

    with pytest.raises(GateFailed, match="a waiver of pickle ended on"):
        author.promote("churn:1", to="staging")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "first stage": ({"stage": "dev"}, "first stage"),
    "no format": ({"formats": []}, "needs a format"),
    "unknown format": ({"formats": ["pickle", "pkl"]}, "no format 'pkl'"),
    "needless format": ({"formats": ["onnx"]}, "onnx needs no waiver"),
    "no days": ({"days": 0}, "1 to 365"),
    "negative days": ({"days": -3}, "1 to 365"),
    "too many days": ({"days": 366}, "1 to 365"),
    "half a day": ({"days": 1.5}, "1 to 365"),
    "true": ({"days": True}, "1 to 365"),
    "no reason": ({"reason": " \n"}, "needs a reason"),
    "no version": ({"ref": "churn"}, "no version"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_waivers(author: Workspace, open_as: Any, case: str) -> None:
    """What cannot be meant is refused, and nothing is written."""
    given, reason = WRONG[case]
    words = {"ref": "churn:1", "formats": ["pickle"], "stage": "prod", "reason": "x", **given}
    with pytest.raises(InvalidRequest, match=reason):
        open_as("bob").waive(words.pop("ref"), **words)
    assert kinds(author) == ["register"]


@pytest.mark.parametrize("change", [{"stage": "live"}, {"ref": "churn:2"}, {"ref": "other:1"}])
def test_nothing_to_waive(author: Workspace, open_as: Any, change: dict[str, Any]) -> None:
    """A stage, version or model that is not there is not found, and nothing is written."""
    words = {"ref": "churn:1", "formats": ["pickle"], "stage": "prod", "reason": "x", **change}
    with pytest.raises(NotFound):
        open_as("bob").waive(words.pop("ref"), **words)
    assert kinds(author) == ["register"]


def test_authors_cannot_waive(author: Workspace) -> None:
    """Who registered a version cannot answer for it alone."""
    with pytest.raises(InvalidRequest, match="registered by ann, who cannot waive"):
        author.waive("churn:1", formats=["pickle"], stage="prod", reason="please")
    assert kinds(author) == ["register"]


def test_twice_is_once(author: Workspace, open_as: Any) -> None:
    """The same waiver on the same day is one entry; another length takes its place."""
    bob = open_as("bob")
    for _ in range(2):
        bob.waive("churn:1", formats=["pickle", "pickle"], stage="prod", reason="moving")
    assert kinds(author) == ["register", "waive"]
    shorter = bob.waive("churn:1", formats=["pickle"], stage="prod", reason="moving", days=2)
    assert kinds(author) == ["register", "waive", "waive"]
    assert len(shorter.waivers) == 1
    more = bob.waive("churn:1", formats=["pickle", "mar"], stage="prod", reason="moving")
    assert [w.formats for w in more.waivers] == [("pickle",), ("mar", "pickle")]


def test_command(author: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that the gate shows works as it stands, and show and history tell of it."""
    words = ["waive", "churn:1", "--format", "pickle", "--stage", "prod", "--days", "30"]
    assert main([*words, "--reason", "moving", "--as", "ann"]) == 64
    assert "who cannot waive" in capsys.readouterr().err
    assert main([*words, "--reason", "moving", "--as", "bob"]) == 0
    out, err = capsys.readouterr()
    until = (datetime.now(UTC).date() + timedelta(days=30)).isoformat()
    assert out == f"churn:1 may have pickle in prod until {until} by bob: moving\n"
    assert "cloudreg promote churn:1 --to prod" in err
    main(["show", "churn:1"])
    assert f"pickle in prod until {until} by bob\n" in capsys.readouterr().out
    main(["history", "churn"])
    assert f"waived pickle of churn:1 in prod until {until}: moving" in capsys.readouterr().out
    main(["show", "churn:1", "--json"])
    assert json.loads(capsys.readouterr().out)["waivers"][0]["by"] == "bob"


@pytest.mark.parametrize(
    "words", [["--days", "0"], ["--days", "x"], ["--days", "400"], ["--format", "exe"]]
)
def test_command_that_cannot_be_meant(
    author: Workspace, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """A wrong word ends with 64, and nothing is written."""
    usual = ["waive", "churn:1", "--format", "pickle", "--stage", "prod", "--reason", "x"]
    assert main([*usual, *words, "--as", "bob"]) == 64
    assert capsys.readouterr().out == ""
    assert kinds(author) == ["register"]


def registration(number: int) -> Draft:
    digest = f"sha256:{number:064x}"
    data = {"number": number, "digest": digest, "size": 1, "files": 1, "stages": {"dev": number}}
    return Draft(kind="register", root=digest, data=data)


def waive(until: str = "2026-05-01", **change: Any) -> Draft:
    data = {
        "number": 1, "stage": "prod", "formats": ["pickle"], "until": until, "reason": "r", **change
    }  # fmt: skip
    return Draft(kind="waive", root="r", data=data)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger with one version."""
    made = Ledger(LocalStore(tmp_path / "home", target="home"), "churn", actor="bob", tool="test")
    made.append(lambda _: registration(1), op="a")
    return made


def test_checkpoints(ledger: Ledger) -> None:
    """A waiver is in the state that begins at a checkpoint, whose bytes follow from the entries."""
    ledger.append(lambda _: waive(), op="b")
    for number in range(2, EVERY + 4):
        ledger.append(lambda _, n=number: registration(n), op="a")
    reader = Ledger(ledger.store, "churn", actor="x", tool="test")
    summary = reader.read().version(1)
    assert summary is not None
    assert reader.read().versions.pages
    assert summary.waivers == (
        Waiver(stage="prod", formats=("pickle",), until="2026-05-01", by="bob", reason="r"),
    )
    assert verify(reader).problems == ()


def test_pages_without_waivers_keep_their_bytes() -> None:
    """A page of versions that nobody waived anything of is written as it always was."""
    index = VersionIndex()
    index.put(
        VersionSummary(number=1, digest="d", author="a", created_at="c", seq=0, size=1, files=1)
    )
    ((_, page),) = index.flushed()[1].items()
    assert b"waivers" not in page


@pytest.mark.parametrize(
    "change",
    [
        {"until": "20260501"},
        {"until": "2026-W18-5"},
        {"until": "tomorrow"},
        {"until": "2026-13-01"},
        {"until": 5},
        {"formats": []},
        {"formats": "pickle"},
        {"number": 2},
        {"reason": None},
    ],
)
def test_entries_that_do_not_follow(ledger: Ledger, change: dict[str, Any]) -> None:
    """A waive entry that says nothing clear does not get into the ledger."""
    with pytest.raises(IntegrityError):
        ledger.append(lambda _: waive(**change), op="b")
    assert ledger.read().seq == 0


def test_days_compare_as_text() -> None:
    """The last day counts, the day after does not, over the end of a year too."""
    given = Waiver(stage="prod", formats=("mar",), until="2026-12-31", by="b", reason="r")
    day = date(2026, 12, 31)
    assert given.counts(day.isoformat())
    assert not given.counts((day + timedelta(days=1)).isoformat())


def test_archive_is_registered_as_its_folder(author: Workspace, root: Path) -> None:
    """The files of an archive are the same version as the folder that was packed."""
    import tarfile

    with tarfile.open(root / "model.tar.gz", "w:gz") as archive:
        archive.add(root / "build", arcname=".")
    again = author.register("churn", root / "model.tar.gz", lineage=Lineage())
    assert again.ref == "churn:1"
    assert kinds(author) == ["register"]


def test_hostile_archive_is_not_registered(author: Workspace, root: Path) -> None:
    """A refused archive leaves no entry and no bytes."""
    import tarfile

    stored = sorted((root / ".cloudreg").rglob("*")) if (root / ".cloudreg").exists() else []
    with tarfile.open(root / "model.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(InvalidRequest, match="a symbolic link"):
        author.register("other", root / "model.tar", lineage=Lineage())
    assert [m.model for m in author.models()] == ["churn"]
    if stored:
        assert sorted((root / ".cloudreg").rglob("*")) == stored


def test_missing_bytes_are_no_pass(author: Workspace, open_as: Any, root: Path) -> None:
    """A file that is gone from the home's store fails the gate, and says which."""
    file = author.version("churn:1").manifest.files[0]
    store: Any = author.registry.store
    store.delete(file.key)
    with pytest.raises(GateFailed, match=r"model\.pkl is missing in the store"):
        author.promote("churn:1", to="staging")
