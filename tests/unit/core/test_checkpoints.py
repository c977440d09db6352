"""Checkpoints, pages and hints: quicker to read, and never more than what the entries say."""

from __future__ import annotations

import json

import pytest

from cloudreg.errors import IntegrityError, Unavailable
from cloudreg.ledger import Draft, Fold, Ledger, checkpoint, verify
from cloudreg.ledger.checkpoint import EVERY, checkpoint_key
from cloudreg.ledger.fold import PAGE


def scratch(ledger: Ledger) -> Fold:
    """Fold all entries, whatever stands beside them."""
    fold = Fold("churn")
    for entry in ledger.entries():
        fold.apply(entry)
    return fold


def keys(store, prefix):
    return [stored.key for stored in store.list(prefix)]


def test_equal_state(ledger, register, kit):
    """A state that began at a checkpoint is the one that all entries give."""
    store = kit.Memory()
    writer = ledger(store=store)
    register(writer, EVERY)
    for kind, op, data in (
        ("approve", "x", {"number": 3, "stage": "prod"}),
        ("intent", "r", {"verb": "promote", "until": 9, "number": 3}),
        ("step", "r", {"until": 10.5, "progress": {"step": 1}}),
        (
            "done",
            "r",
            {
                "stages": {"prod": 3},
                "endpoints": {"live": {"target": "t", "spec": {"a": [1, {"b": None}]}}},
            },
        ),
    ):
        draft = Draft(kind=kind, root="r", data=data)
        writer.append(lambda _, draft=draft: draft, op=op)
    register(writer, 2 * EVERY)
    assert len(keys(store, "checkpoints/")) == 3
    reader = ledger(store=store).read()
    assert kit.state(reader) == kit.state(scratch(ledger(store=store))) == kit.state(writer.read())
    assert reader.version(3).approvals == {"prod": ("ann",)}
    assert reader.version(3).held == ("dev", "prod")


def test_endpoints_that_rest_in_a_checkpoint(ledger, register, kit):
    """When the ttl of an endpoint that is gone began is known beyond a checkpoint."""
    store = kit.Memory()
    writer = ledger(store=store)
    register(writer, 1)
    began = "2026-11-25T04:00:00+00:00"
    for root, data in (
        ("a", {"endpoints": {"one": {"target": "t", "spec": {}}, "two": None}}),
        ("b", {"endpoints": {"one": None}, "rests": {"one": began}}),
        ("c", {"endpoints": {"three": None}, "rests": {"three": began}}),
        ("d", {"endpoints": {"three": {"target": "t", "spec": {}}}}),
    ):
        for kind, said in (("intent", {"verb": "apply", "until": 9}), ("done", data)):
            draft = Draft(kind=kind, root=root, data=said)
            writer.append(lambda _, draft=draft: draft, op=root)
    note = Draft(kind="note", root="touch", data={"touched": ["four"]})
    touched = writer.append(lambda _: note, op="touch")
    register(writer, 2 * EVERY)

    assert keys(store, "checkpoints/")
    reader = ledger(store=store).read()
    # What is deployed again has its own time; what somebody took down has none.
    assert reader.served == {"one": began, "four": touched.at}
    assert reader.served == scratch(ledger(store=store)).served
    assert verify(ledger(store=store)).problems == ()


def test_open_intent_in_a_checkpoint(ledger, register, kit):
    """An operation that is under way while a checkpoint is made is under way after it."""
    store = kit.Memory()
    writer = ledger(store=store)
    register(writer, EVERY - 3)
    writer.append(lambda _: Draft(kind="intent", root="op", data={
        "verb": "promote", "until": 7, "process": {"host": "h", "pid": 1, "started": 2},
        "request": {"nested": [1, 2.5, None]}}), op="op")  # fmt: skip
    writer.append(lambda _: Draft(kind="note", root="op", data={"request": "pause"}), op="x")
    register(writer, 5)
    fold = ledger(store=store).read()
    assert fold.open.requests == ("pause",)
    assert kit.state(fold) == kit.state(scratch(ledger(store=store)))


def test_whole_numbers_are_numbers(ledger, register, kit):
    """1 and 1.0 are one metric: a checkpoint made after reading another one has the same bytes."""
    store = kit.Memory()
    ledger(store=store).append(
        lambda f: kit.registration(f, metrics={"auc": 1, "loss": 2.0}), op="p"
    )
    for _ in range(3):
        register(ledger(store=store), EVERY)
    assert verify(ledger(store=store)).problems == ()


def test_two_writers_one_checkpoint(ledger, store, register, kit):
    """Writers that are at it at once make the same bytes."""
    writer, rival = ledger(), ledger("bob")
    register(writer, EVERY)
    rival.read()

    class Late(kit.Watched):
        def put(self, source, key, *, if_absent=False):
            if key.startswith("ledger/") and not self.count("put", "ledger/"):
                self.calls.append(("put", key))
                before = kit.content(store, checkpoint_key("churn", EVERY - 1))
                register(rival)
                assert kit.content(store, checkpoint_key("churn", EVERY - 1)) == before
            return super().put(source, key, if_absent=if_absent)

    register(ledger(store=Late(store)))
    assert [e.checkpoint is not None for e in list(ledger().entries())[-2:]] == [True, False]
    assert verify(ledger()).ok


@pytest.mark.parametrize("lost", ["pages/", "digests/", "checkpoints/"])
def test_lost_page(ledger, store, register, kit, lost):
    """A checkpoint whose parts could not be written is written whole by the next attempt."""

    class Down(kit.Watched):
        left = 1

        def put(self, source, key, *, if_absent=False):
            if key.startswith(lost) and self.left:
                self.left -= 1
                raise Unavailable("no answer")
            return super().put(source, key, if_absent=if_absent)

    writer = ledger(store=Down(store))
    register(writer, EVERY)
    with pytest.raises(Unavailable):
        register(writer)
    assert ledger().read().seq == EVERY - 1
    assert register(writer)[0].checkpoint is not None
    assert verify(ledger()).problems == ()
    assert ledger().read().version(5).digest == kit.digest(5)


@pytest.fixture
def long(ledger, grown, kit):
    """Return the state that the entries of the grown ledger give."""
    return kit.state(scratch(ledger(store=grown)))


CHANGES = {
    "missing": lambda data: None,
    "empty": lambda data: b"",
    "garbage": lambda data: b"\xff\x00",
    "deep": lambda data: b"[" * 3000,
    "list": lambda data: b"[]",
    "null": lambda data: b"null",
    "other stage": lambda data: data.replace(b'"number":', b'"number":1'),
    "other model": lambda data: data.replace(b"churn", b"other"),
    "one byte": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "cut": lambda data: data[:-10],
    "more": lambda data: data + b" ",
    "extra key": lambda data: data[:-1] + b',"x":1}',
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("which", ["newest", "all"])
def test_changed_checkpoint(ledger, grown, long, kit, change, which):
    """A checkpoint that is missing or was changed is passed over: the state is the same."""
    for seq in (2 * EVERY - 1, EVERY - 1)[: 1 if which == "newest" else 2]:
        key = checkpoint_key("churn", seq)
        new = CHANGES[change](kit.content(grown, key))
        grown.delete(key) if new is None else grown.put(new, key)
    assert kit.state(ledger(store=grown).read()) == long
    assert not verify(ledger(store=grown)).ok


@pytest.mark.parametrize("change", ["missing", "empty", "garbage", "one byte", "cut"])
def test_changed_page(ledger, grown, long, kit, change):
    """A page that is missing or was changed is made again from the entries."""
    for key in keys(grown, "pages/"):
        new = CHANGES[change](kit.content(grown, key))
        grown.delete(key) if new is None else grown.put(new, key)
    fold = ledger(store=grown).read()
    assert fold.version(3).digest == kit.digest(3)
    assert kit.state(fold) == long


@pytest.mark.parametrize(
    "hint", [None, b"", b"x", b"true", b"-1", b"0", b"1e3", b"99999999", b"[" * 3000, b"9" * 400,
             b"127", b"256"],
)  # fmt: skip
def test_changed_hint(ledger, grown, long, kit, hint):
    """A hint that leads nowhere costs a listing, and neither truth nor the checkpoints."""
    grown.delete("heads/churn.json") if hint is None else grown.put(hint, "heads/churn.json")
    watched = kit.Watched(grown)
    fold = ledger(store=watched).read()
    assert watched.count("open", "ledger/") <= EVERY + 7
    assert kit.state(fold) == long


def test_checkpoint_of_another_history(ledger, grown, register, long, kit):
    """A checkpoint that hangs together in itself, and not with the entries, is passed over."""
    other = ledger(model="other", store=grown)
    register(other, EVERY + 1)
    key = checkpoint_key("churn", 2 * EVERY - 1)
    forged = json.loads(kit.content(grown, checkpoint_key("other", EVERY - 1)))
    forged |= {"model": "churn", "seq": 2 * EVERY - 1}
    grown.put(json.dumps(forged).encode(), key)
    assert kit.state(ledger(store=grown).read()) == long


def test_foreign_page(ledger, grown, long, kit):
    """A page that follows from no entry is refused, not believed."""
    key = checkpoint_key("churn", 2 * EVERY - 1)
    document = json.loads(kit.content(grown, key))
    document["pages"]["0"] = "sha256:" + "0" * 64
    grown.put(json.dumps(document).encode(), key)
    fold, _ = checkpoint.read(
        grown, "churn", 2 * EVERY - 1, rebuild=ledger(store=grown)._rebuilt_pages
    )
    with pytest.raises(IntegrityError, match="does not follow"):
        fold.version(1)


@pytest.mark.parametrize("count", [100, 2000])
def test_cost(ledger, register, kit, count):
    """Opening, reading and appending cost the same however long the history is."""
    store = kit.Memory()
    kit.history(store, "churn", count)
    # What `append` would have left on the way: the state up to the newest due checkpoint.
    writer = ledger(store=store)
    register(writer, EVERY - count % EVERY + 1)
    watched = kit.Watched(store)
    reader = ledger(store=watched)
    fold = reader.read()
    assert fold.last_number == count + EVERY - count % EVERY + 1
    assert watched.count("open") <= EVERY + 4
    assert watched.count("list") <= 2
    watched.calls.clear()
    register(reader)
    reader.read()
    assert len(watched.calls) <= 4, watched.calls
    watched.calls.clear()
    assert reader.find(kit.digest(5)).number == 5
    assert len(watched.calls) <= 4, watched.calls


def test_cost_of_a_thousand_entries(ledger, register, kit):
    """Whoever opens a ledger of a thousand entries reads the ones since a checkpoint."""
    store = kit.Memory()
    register(ledger(store=store), 1000)
    watched = kit.Watched(store)
    assert ledger(store=watched).read().last_number == 1000
    assert watched.count("open", "ledger/") <= 1000 % EVERY + 1
    assert watched.count("open") <= 1000 % EVERY + 4
    assert watched.count("open", "pages/") == 0


def test_pages(ledger, register, kit):
    """Summaries stand in pages of 256, and one version needs one of them."""
    store = kit.Memory()
    register(ledger(store=store), 5 * EVERY + 1)
    watched = kit.Watched(store)
    fold = ledger(store=watched).read()
    watched.calls.clear()
    assert fold.version(PAGE - 1).number == PAGE - 1
    assert fold.version(1).number == 1
    assert watched.count("open", "pages/") == 1
    assert fold.version(PAGE).number == PAGE
    assert watched.count("open", "pages/") == 2
    assert [s.number for s in fold.newest_first()] == list(range(5 * EVERY + 1, 0, -1))
    assert fold.version(0) is None
    assert fold.version(5 * EVERY + 2) is None


def test_a_lost_hint(ledger, store, register, kit):
    """A hint that cannot be written stops nobody."""

    class Down(kit.Watched):
        def put(self, source, key, *, if_absent=False):
            if key.startswith("heads/"):
                raise Unavailable("no answer")
            return super().put(source, key, if_absent=if_absent)

    register(ledger(store=Down(store)), EVERY + 1)
    assert keys(store, "heads/") == []
    assert ledger().read().seq == EVERY
