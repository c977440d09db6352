"""Copies of the ledger, and a rollback that rests on one of them while the home is silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.cli import main
from cloudreg.errors import (
    Conflict,
    IntegrityError,
    InvalidRequest,
    NotFound,
    OperationFailed,
    Unavailable,
)
from cloudreg.journal import Journal
from cloudreg.ledger.copies import LINES, StoreShelf, entries, extend

SERVED = "".join(
    f'\n[endpoints.churn-{name}]\nmodel = "churn"\nstage = "prod"\ntarget = "{name}"\n'
    for name in ("local", "west")
)
PROD = 'targets = ["local", "east", "west"]\ngates = []'


class News:
    """Progress of which only the news are kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, name: str) -> Any:
        from cloudreg.operations import SILENT

        return getattr(SILENT, name)

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def spread(house: Any) -> Callable[..., Workspace]:
    """Return a workspace whose prod is on three targets and went from version 1 to 2."""

    def make(text: str = "") -> Workspace:
        targets = dict.fromkeys(("local", "east", "west"), "")
        house.configure(text, stages={"prod": PROD}, targets=targets, provider="scripted")
        ws = house.open()
        for number in (1, 2):
            house.register(ws)
            ws.promote(f"churn:{number}", to="staging")
            ws.promote(f"churn:{number}", to="prod")
        return ws

    return make


def shown(ws: Workspace) -> dict[str, int]:
    return {
        target: version.number
        for target in ("local", "east", "west")
        for version in ws.targets[target].registry.published("churn")
        if "prod" in version.stages
    }


def pieces(house: Any, target: str) -> list[Path]:
    """The files of a copy, oldest first."""
    return sorted((house.root / f".{target}").rglob("copies.d/*/churn.d/*.jsonl"))


def test_each_commit_is_copied(house: Any, spread: Any) -> None:
    """After each commit every other target has the home's ledger, in the home's bytes."""
    ws = spread()

    for target in ("east", "west"):
        found = ws.verify_copy("churn", target=target)
        assert found.problems == ()
        assert found.entries == ws.fold("churn").seq + 1
    assert len(pieces(house, "east")) == 4
    ws.rollback("churn", stage="prod")
    assert len(pieces(house, "east")) == 5
    assert ws.verify_copy("churn", target="east").ok
    with pytest.raises(NotFound):
        ws.verify_copy("churn", target="local")


def test_copy_that_is_behind(house: Any, spread: Any) -> None:
    """A copy that misses the end is told of, and the next commit adds all that it lacks."""
    ws = spread()
    house.register(ws)
    found = ws.verify_copy("churn", target="east")
    assert found.problems == (f"the copy ends before entry {ws.fold('churn').seq}: it is 1 behind",)

    def strike(target: str, verb: str, arguments: Any, call: Callable[[], Any]) -> Any:
        if (target, verb) == ("east", "put") and str(arguments[1]).startswith("copies/"):
            raise Unavailable("east keeps nothing")
        return call()

    house.script = strike
    ws.promote("churn:3", to="staging")
    assert not ws.verify_copy("churn", target="east").ok
    assert ws.verify_copy("churn", target="west").ok
    house.script = None
    ws.promote("churn:3", to="prod")
    assert ws.verify_copy("churn", target="east").ok


@pytest.mark.parametrize("how", ["edited", "removed", "first removed", "foreign", "doubled"])
def test_copy_that_was_edited(house: Any, spread: Any, how: str) -> None:
    """Whoever edits a copy is found by comparing it with the home, and by its own chain."""
    ws = spread()
    first, second, *_ = pieces(house, "east")
    data = second.read_bytes()
    match how:
        case "edited":
            second.write_bytes(data.replace(b'"ada"', b'"eve"'))
        case "removed":
            second.unlink()
        case "first removed":
            first.unlink()
        case "foreign":
            second.with_name("zzz").write_bytes(b"")
        case "doubled":
            twice = second.with_name(second.name.replace("-", "-9", 1)[:8] + "-00009999.jsonl")
            twice.write_bytes(data.replace(b'"ada"', b'"eve"'))

    found = ws.verify_copy("churn", target="east")

    assert not found.ok
    assert ws.verify_copy("churn", target="west").ok
    assert ws.verify("churn").ok


def test_command_line_proves_copies(house: Any, spread: Any, monkeypatch: Any, capsys: Any) -> None:
    """``history --verify --copy`` judges the copy, and its exit code says so."""
    spread()
    monkeypatch.chdir(house.root)

    assert main(["history", "churn", "--verify", "--copy", "east"]) == 0
    assert "The copy on east is the home's ledger" in capsys.readouterr().out
    (first, *_) = pieces(house, "east")
    first.unlink()
    assert main(["history", "churn", "--verify", "--copy", "east", "--copy", "west"]) == 1
    told = capsys.readouterr().out
    assert "The copy on east is NOT the home's ledger" in told
    assert "The copy on west is the home's ledger" in told
    assert main(["history", "churn", "--copy", "east"]) == 64


def test_long_ledger_is_copied_in_pieces(house: Any, spread: Any) -> None:
    """A target that comes late gets the whole ledger, a bounded number of entries an object."""
    ws = spread()
    ledger = ws.registry.ledger("churn")
    for _ in range(LINES):
        ledger.append(lambda _: _note(), op="many")
    shelf = StoreShelf(ws.targets["east"].store, "another", "churn")

    assert extend(shelf, ledger) == ledger.read().seq
    assert len(list(shelf.names())) == 2
    assert [entry.seq for entry in entries(shelf, "churn")] == list(range(ledger.read().seq + 1))
    assert extend(shelf, ledger) == ledger.read().seq
    assert len(list(shelf.names())) == 2


def _note() -> Any:
    from cloudreg.ledger import Draft

    return Draft(kind="note", root="many")


def test_home_is_down(house: Any, spread: Any, eventually: Any) -> None:
    """With the home silent, a rollback that breaks the glass changes all who answer."""
    ws = spread(SERVED)
    house.silent.add("local")

    with pytest.raises(Unavailable) as refused:
        house.open().rollback("churn", stage="prod")
    assert refused.value.hint == "cloudreg rollback churn prod --break-glass REASON"
    back = house.open("bob").rollback("churn", stage="prod", break_glass="the home burns")

    assert back.version.number == 1
    assert set(back.behind["prod"]) == {"local"}
    assert house.served(ws, "churn-west") == 1
    house.silent.clear()
    assert shown(ws) == {"local": 2, "east": 1, "west": 1}
    assert ws.fold("churn").stages["prod"].number == 2

    news = News()
    late = house.open("cleo", progress=news)
    assert late.fold("churn").stages["prod"].number == 1
    assert any("break glass: the home burns" in line for line in news.lines)
    (entry, *_) = late.history("churn")
    assert (entry.kind, entry.actor, entry.data["break_glass"]) == (
        "adopt",
        "bob",
        "the home burns",
    )
    assert [line["kind"] for line in entry.data["journal"]] == ["begin", "changed", "changed"]
    assert list(late.fold("churn").behind["prod"]) == ["local"]
    late.repair("churn")
    assert [house.served(ws, f"churn-{name}") for name in ("local", "west")] == [1, 1]
    house.check_truth(late)

    quiet = News()
    house.open(progress=quiet).fold("churn")
    assert quiet.lines == []


def test_only_who_answers(house: Any, spread: Any) -> None:
    """A target that is silent too, or fails, is named, and is behind once the home knows."""
    ws = spread()
    house.silent |= {"local", "east"}

    back = house.open().rollback("churn", stage="prod", break_glass="both burn")

    assert set(back.behind["prod"]) == {"local", "east"}
    house.silent.clear()
    late = house.open()
    assert {t: b.number for t, b in late.fold("churn").behind["prod"].items()} == {
        "local": 2,
        "east": 2,
    }
    late.repair("churn")
    assert shown(ws) == {"local": 1, "east": 1, "west": 1}
    house.check_truth(late)


def test_local_cache_will_do(house: Any, spread: Any) -> None:
    """Where the copies of all targets are gone or were edited, this machine's own one counts."""
    ws = spread()
    for path in pieces(house, "east"):
        path.unlink()
    (first, *_) = pieces(house, "west")
    first.write_bytes(first.read_bytes().replace(b'"ada"', b'"eve"'))
    house.silent.add("local")

    back = house.open().rollback("churn", stage="prod", break_glass="x")

    assert "a copy of its ledger on this machine counts" in str(back.plan)
    house.silent.clear()
    assert shown(ws) == {"local": 2, "east": 1, "west": 1}


def test_nobody_has_a_copy(house: Any, spread: Any) -> None:
    """Without any sound copy nothing is changed: nobody knows what there was."""
    ws = spread()
    for path in [*house.root.rglob("churn.d/*-*.jsonl"), *house.root.rglob("churn/*-*.jsonl")]:
        path.unlink()
    house.silent.add("local")

    with pytest.raises(NotFound):
        house.open().rollback("churn", stage="prod", break_glass="x")

    house.silent.clear()
    assert shown(ws) == {"local": 2, "east": 2, "west": 2}


def test_what_cannot_be_gone_back_to(house: Any, spread: Any) -> None:
    """Without the home, too, only what held the stage can be gone back to, and for a reason."""
    ws = spread()
    house.register(ws)
    ws.promote("churn:3", to="staging")
    house.silent.add("local")

    with pytest.raises(InvalidRequest):
        house.open().rollback("churn", stage="prod", to="churn:3", break_glass="x")
    with pytest.raises(InvalidRequest):
        house.open().rollback("churn", stage="prod", break_glass=" ")
    preview = house.open().rollback("churn", stage="prod", break_glass="x", dry_run=True)
    assert "does not answer" in str(preview)
    assert not list(house.root.rglob("journal"))


@pytest.mark.parametrize("way", ["repair", "adopt"])
def test_conflict(house: Any, spread: Any, way: str) -> None:
    """Where the stage moved meanwhile, nothing more is changed before somebody says what counts."""
    ws = spread()
    house.register(ws)
    ws.promote("churn:3", to="staging")
    other = house.open("dan")
    assert other.fold("churn").stages["prod"].number == 2
    house.silent.add("local")
    house.open("bob").rollback("churn", stage="prod", break_glass="it burns")
    house.silent.clear()
    # Somebody whose journal it is not moves the stage past it.
    other.promote("churn:3", to="prod", break_glass="did not know")

    news = News()
    late = house.open("cleo", progress=news)
    assert late.fold("churn").stages["prod"].number == 3
    assert any("only one of them counts" in line for line in news.lines)
    with pytest.raises(Conflict) as refused:
        late.promote("churn:2", to="prod")
    assert refused.value.hint is not None
    assert "cloudreg repair churn" in refused.value.hint
    assert "cloudreg adopt churn --target east" in refused.value.hint

    if way == "repair":
        late.repair("churn")
        assert shown(ws) == {"local": 3, "east": 3, "west": 3}
    else:
        ws.targets["east"].registry.point("churn", "prod", late.version("churn:1").digest)
        late.adopt("churn", target="east", reason="the rollback was right")
        assert late.fold("churn").stages["prod"].number == 1
        late.repair("churn")
    notes = [entry for entry in late.history("churn") if entry.data.get("overruled")]
    assert [entry.data["break_glass"] for entry in notes] == ["it burns"]
    house.check_truth(late)
    house.check_truth(house.open())


def test_twice_without_the_home(house: Any, spread: Any) -> None:
    """A second rollback goes further back, and the ledger gets both at once."""
    ws = spread()
    house.register(ws)
    ws.promote("churn:3", to="staging")
    ws.promote("churn:3", to="prod")
    house.silent.add("local")

    first = house.open().rollback("churn", stage="prod", break_glass="one")
    second = house.open().rollback("churn", stage="prod", break_glass="two")

    assert (first.version.number, second.version.number) == (2, 1)
    house.silent.clear()
    late = house.open()
    assert late.fold("churn").stages["prod"].number == 1
    (entry, *_) = late.history("churn")
    assert entry.data["break_glass"] == "one; two"
    late.repair("churn")
    assert set(shown(ws).values()) == {1}
    house.check_truth(late)


def test_nothing_could_be_changed(house: Any, spread: Any) -> None:
    """A rollback that fails everywhere is an error, and the ledger keeps that it was tried."""
    ws = spread()
    house.silent.add("local")

    def strike(_: str, verb: str, __: Any, call: Callable[[], Any]) -> Any:
        if verb == "point":
            raise OperationFailed("no")
        return call()

    house.script = strike
    with pytest.raises(OperationFailed):
        house.open().rollback("churn", stage="prod", break_glass="x")

    house.script = None
    house.silent.clear()
    late = house.open()
    assert late.fold("churn").stages["prod"].number == 2
    (entry, *_) = late.history("churn")
    assert [line["kind"] for line in entry.data["journal"]] == ["begin", "failed", "failed"]
    house.check_truth(late)
    assert set(shown(ws).values()) == {2}


def test_killed_before_the_journal_is_closed(house: Any, spread: Any) -> None:
    """An entry that was written and not noted here is found again, and not written twice."""
    spread()
    house.silent.add("local")
    house.open().rollback("churn", stage="prod", break_glass="x")
    house.silent.clear()
    late = house.open()
    seq = late.fold("churn").seq
    (closed,) = [
        p for p in house.root.rglob("journal/*/churn/*.json") if b'"closed"' in p.read_bytes()
    ]
    closed.unlink()

    again = house.open()
    assert again.fold("churn").seq == seq
    assert closed.exists()


@pytest.mark.parametrize("how", ["edited", "removed"])
def test_edited_journal(house: Any, spread: Any, how: str) -> None:
    """A journal that was edited is not believed."""
    spread()
    house.silent.add("local")
    house.open().rollback("churn", stage="prod", break_glass="x")
    house.silent.clear()
    (first, *_) = sorted(house.root.rglob("journal/*/churn/*.json"))
    if how == "edited":
        first.write_bytes(first.read_bytes().replace(b'"to":1', b'"to":2'))
    else:
        first.unlink()

    with pytest.raises(IntegrityError):
        house.open().fold("churn")


def test_journal_is_held(tmp_path: Path) -> None:
    """Two processes of one machine do not change targets without the home at once."""
    journal = Journal(tmp_path, "home", "churn")
    with journal.held(), pytest.raises(Conflict), Journal(tmp_path, "home", "churn").held():
        pass
    journal.append("begin", {"a": 1}, actor="ada", at="now")
    assert [line.kind for line in journal.pending()] == ["begin"]
    journal.append("closed", {}, actor="ada", at="now")
    assert journal.pending() == []
    assert [line.number for line in journal.lines()] == [0, 1]


def test_on_the_command_line(house: Any, spread: Any, monkeypatch: Any, capsys: Any) -> None:
    """The command says who was not there, what to type next, and ends with the code of a repair."""
    spread()
    monkeypatch.chdir(house.root)
    house.silent.add("local")

    assert main(["rollback", "churn", "prod"]) == 1
    assert "--break-glass REASON" in capsys.readouterr().err
    assert main(["rollback", "churn", "prod", "--break-glass", "it burns", "--json"]) == 4
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["behind"]["prod"]) == ["local"]
    house.silent.clear()
    assert main(["history", "churn"]) == 0
    told = capsys.readouterr()
    assert "!! BREAK GLASS: it burns" in told.out
    assert "changed without the home" in told.err
    assert main(["repair", "churn"]) == 0
    assert main(["drift", "churn"]) == 0
