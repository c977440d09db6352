"""Appending and reading: one object per entry, put-if-absent, whoever else writes."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudreg.errors import (
    AlreadyExists,
    Conflict,
    IntegrityError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from cloudreg.ledger import Draft, Entry, Ledger, ledger_models, verify
from cloudreg.ledger.checkpoint import EVERY
from cloudreg.ledger.entry import GENESIS, entry_key, seq_of
from cloudreg_local.store import LocalStore

WRITER = """
import sys, time
from pathlib import Path
from cloudreg.ledger import Draft, Ledger
from cloudreg_local.store import LocalStore

ledger = Ledger(LocalStore(Path(sys.argv[1]), target="home"), "churn", actor=sys.argv[2], tool="t")
print("ready", flush=True)
sys.stdin.readline()
for count in range(int(sys.argv[3])):
    data = {"by": sys.argv[2], "count": count}
    ledger.append(lambda fold: Draft(kind="note", root="r", data=data), op=sys.argv[2])
"""


def note(**data):
    return lambda _: Draft(kind="note", root="r", data=data)


def test_new_ledger(ledger, store):
    """A model that nobody registered has no entry, no state and no mark in the store."""
    fold = ledger().read()
    assert (fold.seq, fold.head, fold.last_number) == (-1, GENESIS, 0)
    assert not ledger().exists()
    assert list(ledger().entries()) == []
    assert ledger_models(store) == []


def test_append(ledger, store, clock):
    """An entry names its predecessor, its author and its time, and is read back as written."""
    first = ledger().append(note(a=1), op="p1")
    second = ledger("bob").append(note(b=[1, {"x": None}]), op="p2", id="mine")
    assert (first.seq, first.prev, first.actor) == (0, GENESIS, "ann")
    assert (second.seq, second.prev, second.actor, second.id) == (1, first.hash, "bob", "mine")
    assert second.at == "2023-11-14T22:13:20.000000Z"
    assert list(ledger().entries()) == [first, second]
    assert list(ledger().entries(newest_first=True)) == [second, first]
    assert ledger().entry(1) == second
    assert ledger().read().head == second.hash
    assert ledger_models(store) == ["churn"]


def test_models_are_apart(ledger, store):
    """One model's entries are none of another's, not even where a name begins alike."""
    for model in ("churn-two", "churn", "a"):
        ledger(model=model).append(note(), op="p")
    assert ledger_models(store) == ["a", "churn", "churn-two"]
    assert all(ledger(model=m).read().seq == 0 for m in ledger_models(store))


def test_nothing_to_append(ledger, store, kit):
    """A draft that has nothing to say writes nothing."""
    watched = kit.Watched(store)
    assert ledger(store=watched).append(lambda _: None, op="p") is None
    assert watched.count("put") == 0


@pytest.mark.parametrize(
    "draft",
    [
        Draft(kind="register", root="r", data={"number": 2}),
        Draft(kind="register", root="r", data={"number": 7, "digest": "sha256:" + "a" * 64,
                                               "size": 1, "files": 1}),
        Draft(kind="register", root="r", data={"number": 1, "digest": "nope", "size": 1,
                                               "files": 1}),
        Draft(kind="register", root="r", data={"number": 1, "digest": "sha256:" + "a" * 64,
                                               "size": "big", "files": 1}),
        Draft(kind="register", root="r", data={"number": 1, "digest": "sha256:" + "a" * 64,
                                               "size": 1, "files": 1, "stages": {"dev": 2}}),
        Draft(kind="register", root="r", data={"number": 1, "digest": "sha256:" + "a" * 64,
                                               "size": 1, "files": 1, "metrics": {"a": "high"}}),
        Draft(kind="approve", root="r", data={"number": 1, "stage": "prod"}),
        Draft(kind="intent", root="r", data={"verb": "promote"}),
        Draft(kind="intent", root="r", data={"verb": "promote", "until": "soon"}),
        Draft(kind="step", root="r", data={"until": 1.0}),
        Draft(kind="takeover", root="r", data={"until": 1.0}),
        Draft(kind="done", root="r", data={}),
        Draft(kind="abort", root="r", data={}),
        Draft(kind="adopt", root="r", data={"stages": {"prod": 1}}),
        Draft(kind="adopt", root="r", data={"endpoints": {"e": {"target": "t"}}}),
        Draft(kind="note", root="r", data={"request": ["pause"]}),
        Draft(kind="dance", root="r", data={}),
    ],
    ids=lambda d: f"{d.kind}-{len(d.data)}",
)  # fmt: skip
def test_what_could_not_be_understood(ledger, store, draft):
    """An entry that readers would stumble over is refused, and nothing is written."""
    with pytest.raises(IntegrityError):
        ledger().append(lambda _: draft, op="p")
    assert list(store.list("")) == []
    assert ledger().read().seq == -1


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, object, "\ud800"], ids=ascii)
def test_no_plain_json(ledger, store, value):
    """Data that JSON has no word for is refused, and nothing is written."""
    with pytest.raises(InvalidRequest):
        ledger().append(note(x=value), op="p")
    assert list(store.list("")) == []


def test_refused_entry_leaves_no_trace(ledger, register, kit):
    """A refusal leaves the state in memory as it was."""
    mine = ledger()
    register(mine, 2)
    before = kit.state(mine.read())
    with pytest.raises(IntegrityError):
        mine.append(lambda f: kit.registration(f, stages={"dev": 9}), op="p")
    assert kit.state(mine.read()) == before
    assert register(mine)[0].seq == 2


def test_threads_race(store, clock):
    """Sixteen writers at once leave a chain without gaps in which each entry stands once."""
    start = threading.Barrier(16)

    def write(number: int) -> list[int]:
        mine = Ledger(store, "churn", actor=f"a{number}", tool="t", clock=clock)
        start.wait()
        return [mine.append(note(by=number, i=i), op=f"p{number}").seq for i in range(5)]

    with ThreadPoolExecutor(16) as pool:
        seqs = [seq for landed in pool.map(write, range(16)) for seq in landed]
    entries = list(Ledger(store, "churn", actor="x", tool="t").entries())
    assert sorted(seqs) == list(range(80)) == [e.seq for e in entries]
    assert {(e.data["by"], e.data["i"]) for e in entries} == {
        (n, i) for n in range(16) for i in range(5)
    }
    assert verify(Ledger(store, "churn", actor="x", tool="t")).ok


def test_one_ledger_many_threads(ledger, register):
    """Threads that share one ledger get in each other's way as little as processes do."""
    shared = ledger()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: register(shared, 5), range(8)))
    assert shared.read().last_number == 40
    assert verify(ledger()).ok


def test_processes_race(tmp_path, store, clock):
    """Eight processes at once leave a chain without gaps in which each entry stands once."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "home"), f"p{n}", "18"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 8
    ledger = Ledger(store, "churn", actor="x", tool="t", clock=clock)
    entries = list(ledger.entries())
    assert [e.seq for e in entries] == list(range(144))
    for n in range(8):
        assert [e.data["count"] for e in entries if e.actor == f"p{n}"] == list(range(18))
    assert entries[EVERY].checkpoint is not None
    assert verify(ledger).ok


def test_draft_sees_the_newest_state(ledger, store, register, kit):
    """A draft is asked again after a lost race, with what the winner changed."""
    rival = ledger("bob")

    class Late(kit.Watched):
        def put(self, source, key, *, if_absent=False):
            if key == entry_key("churn", 1) and self.count("put", key) < 1:
                register(rival)
            return super().put(source, key, if_absent=if_absent)

    late = Late(store)
    mine = ledger(store=late)
    register(mine)
    asked = []

    def draft(fold):
        asked.append(fold.last_number)
        return kit.registration(fold)

    entry = mine.append(draft, op="p")
    assert asked == [1, 2]
    assert (entry.seq, entry.data["number"]) == (2, 3)


def test_draft_that_reads_on(ledger, register, kit):
    """A draft that looks again, and finds more, is asked anew: it lands where it looked."""
    mine, rival = ledger(), ledger("bob")
    asked = []

    def draft(fold):
        asked.append(fold.last_number)
        if len(asked) == 1:
            register(rival)
            mine.read()
        return kit.registration(fold)

    assert mine.append(draft, op="p").data["number"] == 2
    assert asked == [0, 1]


def test_too_many_rivals(ledger, store, kit, monkeypatch):
    """Who loses every race gives up with a conflict."""
    monkeypatch.setattr("cloudreg.ledger.log.MAX_ATTEMPTS", 3)
    rival = ledger("bob")

    class Slow(kit.Watched):
        def put(self, source, key, *, if_absent=False):
            if key.startswith("ledger/"):
                rival.append(note(), op="r")
            return super().put(source, key, if_absent=if_absent)

    with pytest.raises(Conflict, match="3 other writers"):
        ledger(store=Slow(store)).append(note(), op="p")
    assert ledger().read().seq == 2


def lossy(kit, store, *, error=Unavailable, times=1):
    class Lossy(kit.Watched):
        """Stores the entry, and loses the answer."""

        left = times

        def put(self, source, key, *, if_absent=False):
            stored = super().put(source, key, if_absent=if_absent)
            if key.startswith("ledger/") and self.left:
                self.left -= 1
                raise error("no answer")
            return stored

    return Lossy(store)


@pytest.mark.parametrize("error", [Unavailable, AlreadyExists])
def test_lost_answer(ledger, store, kit, error):
    """An entry whose answer was lost, or that met itself, is found and not doubled."""
    mine = ledger(store=lossy(kit, store, error=error))
    entry = mine.append(note(a=1), op="p")
    assert list(ledger().entries()) == [entry]
    assert mine.append(note(a=2), op="p").seq == 1


def test_lost_request(ledger, store, kit):
    """A put that never arrived is an unknown outcome, and nothing is there."""

    class Down(kit.Watched):
        def put(self, source, key, *, if_absent=False):
            if key.startswith("ledger/"):
                raise Unavailable("no answer")
            return super().put(source, key, if_absent=if_absent)

    mine = ledger(store=Down(store))
    with pytest.raises(Unavailable):
        mine.append(note(), op="p")
    assert ledger().read().seq == -1


def test_lost_request_and_lost_race(ledger, store, kit):
    """Where the answer is lost and the place is somebody else's, the entry is put behind it."""
    rival = ledger("bob")

    class Down(kit.Watched):
        left = 1

        def put(self, source, key, *, if_absent=False):
            if key.startswith("ledger/") and self.left:
                self.left -= 1
                rival.append(note(), op="r")
                raise Unavailable("no answer")
            return super().put(source, key, if_absent=if_absent)

    assert ledger(store=Down(store)).append(note(), op="p").seq == 1
    assert [e.actor for e in ledger().entries()] == ["bob", "ann"]


def test_nothing_fails_after_the_entry(ledger, store, kit):
    """Once the entry is there, a store that goes away does not make it look as if it were not."""

    class Fades(kit.Watched):
        def _up(self):
            if self.count("put", "ledger/"):
                raise Unavailable("gone")

        def open(self, key, *, offset=0, length=None):
            self._up()
            return super().open(key, offset=offset, length=length)

        def list(self, prefix, *, after=""):
            self._up()
            return super().list(prefix, after=after)

    mine = ledger(store=Fades(store))
    assert mine.append(note(), op="p").seq == 0
    with pytest.raises(Unavailable):
        mine.read()
    assert ledger().read().seq == 0


def test_same_id_again(ledger, register):
    """Whoever asks again with the same key gets the entry that is there, also much later."""
    first = ledger().append(note(a=1), op="p", id="k1")
    register(ledger("bob"), EVERY + 10)
    again = ledger().append(note(a=1), op="other", id="k1")
    assert again == first
    assert ledger().read().seq == EVERY + 10


def test_same_id_at_once(ledger, store, kit):
    """A rival with the same key, faster by a moment, is found after the lost race."""
    rival = ledger("bob")

    class Late(kit.Watched):
        def put(self, source, key, *, if_absent=False):
            if key == entry_key("churn", 0):
                rival.append(note(), op="r", id="k")
            return super().put(source, key, if_absent=if_absent)

    entry = ledger(store=Late(store)).append(note(), op="p", id="k")
    assert entry.actor == "bob"
    assert ledger().read().seq == 0


def test_readers_meanwhile(store, register, clock):
    """Readers see a state that was true at some moment, each no older than the last."""
    over = threading.Event()

    def read(_: int) -> list[int]:
        mine = Ledger(store, "churn", actor="r", tool="t", clock=clock)
        seen = []
        while not over.is_set():
            fold = mine.read()
            assert fold.last_number == fold.seq + 1
            seen.append(fold.seq)
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, n) for n in range(3)]
        register(Ledger(store, "churn", actor="w", tool="t", clock=clock), 150)
        over.set()
        for reader in readers:
            seen = reader.result()
            assert seen == sorted(seen)


def test_listing_lags(ledger, store, register, kit):
    """A listing that shows a later entry and not the earlier one is no missing entry."""
    register(ledger(), 5)

    class Lagging(kit.Watched):
        def list(self, prefix, *, after=""):
            return (s for s in super().list(prefix, after=after) if s.key != entry_key("churn", 3))

    assert ledger(store=Lagging(store)).read().seq == 4
    assert verify(ledger(store=Lagging(store))).ok


def test_missing_entry(ledger, store, register):
    """Where an entry is really gone, reading stops and says which."""
    register(ledger(), 5)
    store.delete(entry_key("churn", 2))
    with pytest.raises(IntegrityError, match="entry 2 is missing"):
        ledger().read()
    with pytest.raises(NotFound):
        ledger().entry(2)


@pytest.mark.parametrize("key", ["ledger/churn/zzz", "ledger/churn/00000/x.json",
                                 "ledger/churn/00000/3.json", "ledger/churn/00001/00000003.json",
                                 "ledger/churn/00000/0000000٣.json"])  # fmt: skip
def test_foreign_object(ledger, store, register, key):
    """What cloudreg did not write stops every reader, who names it."""
    register(ledger(), 3)
    store.put(b"{}", key)
    with pytest.raises(IntegrityError, match="foreign object"):
        ledger().read()


def test_changed_under_a_reader(ledger, store, register):
    """History from the newest entry on is checked against the state that was read."""
    mine = ledger()
    register(mine, 3)
    newest = mine.entry(2)
    forged = Entry.decode(newest.encode(), model="churn", seq=2, prev=None)
    store.put(forged.encode().replace(b'"ann"', b'"eve"'), entry_key("churn", 2))
    with pytest.raises(IntegrityError, match="entry 2 was changed"):
        next(mine.entries(newest_first=True))
    with pytest.raises(IntegrityError, match="rewritten"):
        list(mine.entries())


@pytest.mark.parametrize("at", [0, 1, 3])
def test_changed_before(ledger, store, register, at):
    """An older entry that was changed breaks the chain in both directions."""
    mine = ledger()
    register(mine, 5)
    data = mine.entry(at).encode()
    store.put(data.replace(b'"ann"', b'"eve"'), entry_key("churn", at))
    with pytest.raises(IntegrityError):
        list(mine.entries(newest_first=True))
    with pytest.raises(IntegrityError):
        list(mine.entries())
    with pytest.raises(IntegrityError):
        ledger().read()


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"null", b"\xff", b'"\xff"', b'{"format":2}', b"[" * 3000, b"{" * 10,
     b'{"format":1,"model":"churn"}', b'{"format":1e999}'],
)  # fmt: skip
def test_garbage_entry(ledger, store, register, data):
    """Any bytes at all are an entry or a typed refusal."""
    register(ledger(), 1)
    store.put(data, entry_key("churn", 1))
    with pytest.raises(IntegrityError, match="entry 1"):
        ledger().read()
    assert not verify(ledger()).ok


def test_entry_in_another_form(ledger, register):
    """An entry with the same fields and other bytes was rewritten."""
    entry = register(ledger())[0]
    data = entry.encode()
    for other in (
        data + b"\n",
        data.replace(b",", b", ", 1),
        data[:-1] + b',"checkpoint":null}',
        data[:-1] + b',"zzz":1}',
        data[:-1] + b',"tool":"test"}',
    ):
        with pytest.raises(IntegrityError, match=r"canonical form|cannot be read"):
            Entry.decode(other, model="churn", seq=0, prev=GENESIS)


def test_keys_sort_like_entries():
    """The thousandth entry begins a folder, and keys sort in the order of the entries."""
    keys = [entry_key("churn", seq) for seq in (0, 9, 10, 999, 1000, 12_345, 99_999_999)]
    assert keys == sorted(keys)
    assert keys[4] == "ledger/churn/00001/00001000.json"
    assert [seq_of(key) for key in keys] == [0, 9, 10, 999, 1000, 12_345, 99_999_999]


def test_find(ledger, register, kit):
    """A version is found by its digest before and after a checkpoint, and only by the whole one."""
    register(ledger(), EVERY + 5)
    for number in (1, EVERY, EVERY + 1, EVERY + 5):
        assert ledger().find(kit.digest(number)).number == number
    assert ledger().find(kit.digest(999)) is None
    assert ledger().find(kit.digest(1)[:20]) is None


@pytest.mark.parametrize("content", [b"", b"x", b"7", b"-1", b"9" * 5000, b"0"])
def test_find_with_a_changed_number(ledger, store, register, kit, content):
    """A number that was changed beside the ledger never leads to another version."""
    register(ledger(), EVERY + 5)
    store.put(content, f"digests/churn/{kit.digest(3)[7:]}")
    assert ledger().find(kit.digest(3)) is None


def test_store_root(tmp_path):
    """A ledger can be opened on a folder that does not exist yet."""
    fresh = LocalStore(tmp_path / "not" / "yet", target="home")
    assert not Ledger(fresh, "churn", actor="a", tool="t").exists()
