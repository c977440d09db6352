"""The newest entries together: fewer requests, and never more than what the entries say."""

from __future__ import annotations

import json

import pytest

from cloudreg.errors import IntegrityError, Unavailable
from cloudreg.ledger import Draft, Witness, verify
from cloudreg.ledger.checkpoint import EVERY, checkpoint_key
from cloudreg.ledger.entry import GENESIS, entry_key
from cloudreg.ledger.gathered import gathered_key
from cloudreg.names import canonical_json, sha256

KEY = gathered_key("churn")


@pytest.fixture
def grown_by(ledger, register, store):
    """Return what makes a ledger of some registrations, whose newest are gathered."""

    def made(count):
        register(ledger(gathers=True), count)
        return store

    return made


def lines(store, kit):
    return kit.content(store, KEY).splitlines()


def rewritten(entries, at, **changes):
    """Return *entries* with one of them changed, and the chain behind it made right again."""
    made, prev = [], None
    for line in entries:
        document = json.loads(line)
        if prev is not None:
            document["prev"] = prev
        if document["seq"] == at:
            document |= changes
            prev = sha256(canonical_json(document))
        elif prev is not None:
            prev = sha256(canonical_json(document))
        made.append(canonical_json(document))
    return made


@pytest.mark.parametrize(("count", "most"), [(1, 3), (60, 3), (EVERY + 40, 4)])
def test_requests(ledger, kit, grown_by, count, most):
    """Who reads for the first time asks for the list, what is gathered, and the newest entry.

    Behind a checkpoint for that one too.
    """
    watched = kit.Watched(grown_by(count))
    fold = ledger(store=watched, gathers=True).read()

    assert kit.state(fold) == kit.state(ledger().read())
    assert watched.count("open", entry_key("churn", count - 1)) == 1
    asked = [call for call in watched.calls if not call[1].startswith("pages/")]
    assert len(asked) == most, asked


def test_not_gathered(ledger, kit, register, store):
    """Where requests cost nothing, nothing is gathered."""
    register(ledger(), 3)
    assert list(store.list("recent/")) == []
    watched = kit.Watched(store)
    ledger(store=watched).read()
    assert watched.count("open", "recent/") == 0


def test_stale(ledger, kit, register, grown_by):
    """What was written since is read where it stands."""
    store = grown_by(5)
    register(ledger(), 3)
    watched = kit.Watched(store)
    fold = ledger(store=watched, gathers=True).read()

    assert kit.state(fold) == kit.state(ledger().read())
    assert [key for verb, key in watched.calls if verb == "open" and "ledger/" in key] == [
        entry_key("churn", seq) for seq in (5, 6, 7)
    ]


@pytest.mark.parametrize("at", [0, 3, 6])
def test_changed_entry(ledger, kit, grown_by, at):
    """An entry that was written again is found, although it was gathered as it was."""
    store = grown_by(7)
    data = kit.content(store, entry_key("churn", at))
    store.put(data.replace(b'"ann"', b'"eve"'), entry_key("churn", at))
    for gathers in (False, True):
        reader = ledger(gathers=gathers)
        if at == 6:  # nothing follows it that would tell
            assert reader.entry(6).actor == "eve"
            assert reader.read().version(7).author == "eve"
            continue
        with pytest.raises(IntegrityError):
            reader.read()


@pytest.mark.parametrize("at", [0, 3, 5])
def test_missing_entry(ledger, grown_by, at):
    """An entry that was deleted is missed, although it was gathered."""
    store = grown_by(7)
    store.delete(entry_key("churn", at))
    with pytest.raises(IntegrityError, match=f"entry {at} is missing"):
        ledger(gathers=True).read()


@pytest.mark.parametrize("at", [0, 3, 6])
def test_forged(ledger, kit, grown_by, at):
    """Entries that are other ones where they are gathered change nothing."""
    store = grown_by(7)
    forged = rewritten(lines(store, kit), at, actor="eve")
    assert len({len(line) for line in forged}) == len({len(line) for line in lines(store, kit)})
    store.put(b"\n".join(forged), KEY)
    fold = ledger(gathers=True).read()

    assert kit.state(fold) == kit.state(ledger().read())
    assert {version.author for version in fold.newest_first()} == {"ann"}


def test_forged_checkpoint(ledger, kit, grown_by):
    """A checkpoint that only a forged entry behind it names is not believed."""
    store = grown_by(EVERY + 1)
    state = json.loads(kit.content(store, checkpoint_key("churn", EVERY - 1)))
    state["stages"]["dev"]["number"] = 1
    data = canonical_json(state)
    store.put(data, checkpoint_key("churn", EVERY - 1))
    store.put(rewritten(lines(store, kit), EVERY, checkpoint=sha256(data))[0], KEY)
    fold = ledger(gathers=True).read()

    assert kit.state(fold) == kit.state(ledger().read())
    assert not verify(ledger()).ok


def test_cut_off(ledger, kit, grown_by, tmp_path):
    """What is gathered does not stand for entries that are gone: their end is missed."""
    store = grown_by(7)
    witness = Witness(tmp_path / "seen", "home")
    ledger(gathers=True, witness=witness).read()
    store.delete(entry_key("churn", 6))

    assert ledger(gathers=True).read().seq == 5
    with pytest.raises(IntegrityError, match="its end is missing"):
        ledger(gathers=True, witness=Witness(tmp_path / "seen", "home")).read()


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"null", b"[]", b'{"seq":"0"}', b'{"seq":4}\n{"seq":9}', b"[" * 3000]
)
def test_garbage(ledger, kit, grown_by, data):
    """Anything else in its place costs time, and nothing more."""
    store = grown_by(7)
    store.put(data, KEY)
    assert kit.state(ledger(gathers=True).read()) == kit.state(ledger().read())


def test_in_the_middle_of_an_operation(ledger, kit, store):
    """An operation gathers once, at its end, and the whole of it."""
    watched = kit.Watched(store)
    mine = ledger(store=watched, gathers=True)
    for kind, data in (
        ("intent", {"verb": "apply", "until": 9}),
        ("step", {"until": 10.5, "progress": {"step": 1}}),
    ):
        mine.append(lambda _, kind=kind, data=data: Draft(kind=kind, root="r", data=data), op="r")
    assert watched.count("put", "recent/") == 0
    mine.append(lambda _: Draft(kind="done", root="r", data={}), op="r")

    assert watched.count("put", "recent/") == 1
    assert [json.loads(line)["kind"] for line in lines(store, kit)] == ["intent", "step", "done"]
    assert json.loads(lines(store, kit)[0])["prev"] == GENESIS


def test_not_to_be_written(ledger, kit, register, store):
    """An entry is there, whether it could be gathered or not."""

    class Refuses(kit.Watched):
        def put(self, source, key, **options):
            if key == KEY:
                raise Unavailable("not now")
            return super().put(source, key, **options)

    register(ledger(store=Refuses(store), gathers=True), 2)
    assert ledger(gathers=True).read().last_number == 2
