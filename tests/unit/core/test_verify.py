"""Whether anything was edited, deleted, reordered, truncated or forked."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cloudreg.errors import IntegrityError
from cloudreg.ledger import Entry, Witness, verify
from cloudreg.ledger.checkpoint import EVERY, checkpoint_key
from cloudreg.ledger.entry import entry_key
from cloudreg.ledger.witness import HOME_KEY, home_id
from cloudreg.names import canonical_json

LAST = 2 * EVERY + 4
PLACES = (0, 1, EVERY - 1, EVERY, EVERY + 1, LAST - 1)


def edit(objects, place, /, **changes):
    key = entry_key("churn", place)
    objects[key] = canonical_json(json.loads(objects[key]) | changes)


def flip(seq, where):
    def change(objects):
        key = entry_key("churn", seq)
        data = objects[key]
        at = int(where * (len(data) - 1))
        objects[key] = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return change


def field(seq, name, value):
    return lambda objects: edit(objects, seq, **{name: value})


def delete(seq):
    return lambda objects: objects.pop(entry_key("churn", seq))


def swap(a, b):
    def change(objects):
        x, y = entry_key("churn", a), entry_key("churn", b)
        objects[x], objects[y] = objects[y], objects[x]

    return change


def renumbered_swap(a, b):
    def change(objects):
        swap(a, b)(objects)
        edit(objects, a, seq=a)
        edit(objects, b, seq=b)

    return change


def closed_gap(seq):
    """Delete an entry, and move all that follow one place down."""

    def change(objects):
        for place in range(seq, LAST):
            objects[entry_key("churn", place)] = objects[entry_key("churn", place + 1)]
            edit(objects, place, seq=place)
        del objects[entry_key("churn", LAST)]

    return change


def truncate(count):
    def change(objects):
        for seq in range(LAST, LAST - count, -1):
            del objects[entry_key("churn", seq)]

    return change


def fork(seq, *, length=None):
    """Change one entry and rewrite everything behind it so that the hashes fit."""

    def change(objects):
        head = json.loads(objects[entry_key("churn", seq)])["prev"]
        for place in range(seq, LAST + 1):
            key = entry_key("churn", place)
            document = json.loads(objects[key]) | {"prev": head}
            if place == seq:
                document["actor"] = "eve"
            if length is not None and place >= length:
                del objects[key]
                continue
            objects[key] = canonical_json(document)
            head = Entry.decode(objects[key], model="churn", seq=place, prev=head).hash

    return change


def replaced(prefix, data):
    def change(objects):
        key = next(key for key in objects if key.startswith(prefix))
        objects[key] = data

    return change


def dropped(prefix):
    return lambda objects: objects.pop(next(key for key in objects if key.startswith(prefix)))


def planted(key, data=b"{}"):
    return lambda objects: objects.update({key: data})


CASES = {
    **{f"byte {where:.2f} of {seq}": flip(seq, where)
       for seq in PLACES for where in (0.0, 0.13, 0.31, 0.5, 0.77, 0.95, 1.0)},
    **{f"{name} of {seq}": field(seq, name, value)
       for seq in PLACES
       for name, value in {"actor": "eve", "at": "2020-01-01T00:00:00Z", "op": "x", "root": "x",
                           "id": "x", "tool": "x", "kind": "note", "data": {}, "seq": 7_777,
                           "model": "other", "format": 2, "prev": "sha256:" + "0" * 63 + "1",
                           "checkpoint": "sha256:" + "0" * 64}.items()},
    **{f"deleted {seq}": delete(seq) for seq in PLACES},
    **{f"swapped {seq}": swap(seq, seq + 1) for seq in PLACES},
    **{f"swapped and renumbered {seq}": renumbered_swap(seq, seq + 1) for seq in PLACES},
    **{f"gap closed at {seq}": closed_gap(seq) for seq in PLACES},
    **{f"{count} cut off over a checkpoint": truncate(count) for count in (6, EVERY + 6, LAST)},
    "all entries cut off": truncate(LAST + 1),
    "changed checkpoint": replaced("checkpoints/", b"{}"),
    "missing checkpoint": dropped("checkpoints/"),
    "changed page": replaced("pages/", b"[]"),
    "missing page": dropped("pages/"),
    "changed number": replaced("digests/", b"250"),
    "missing number": dropped("digests/"),
    "missing mark": dropped("models/"),
    "foreign object before": planted("ledger/churn/0"),
    "foreign object between": planted("ledger/churn/00000/00000003.json.bak"),
    "foreign object behind": planted("ledger/churn/zzz"),
    "an entry far ahead": planted(entry_key("churn", 99_999_999)),
    "an entry one ahead": planted(entry_key("churn", LAST + 2)),
    "an entry under two keys": planted("ledger/churn/00001/00000003.json"),
    "a checkpoint of the future": planted(checkpoint_key("churn", 10_000)),
    "a checkpoint of no entry": planted(checkpoint_key("churn", 50)),
    "a foreign checkpoint": planted("checkpoints/churn/latest"),
    "a fork over a checkpoint": fork(EVERY - 3),
    "a fork at the start": fork(0),
}  # fmt: skip


def test_untouched(ledger, objects, kit):
    """A ledger that nobody touched is found to be well, and its length and head are told."""
    found = verify(ledger(store=kit.Memory(objects)))
    assert found.problems == ()
    assert found.entries == LAST + 1
    assert found.head == ledger(store=kit.Memory(objects)).read().head
    assert found.ok


def test_number_of_cases():
    """There are at least 160 ways to tamper here, none of them twice."""
    assert len(CASES) >= 160


@pytest.mark.parametrize("case", CASES)
def test_tampered(ledger, objects, kit, case):
    """Whatever is done to a ledger behind cloudreg's back is found."""
    store = kit.Memory(objects)
    CASES[case](store.objects)
    assert store.objects != objects
    found = verify(ledger(store=store))
    assert not found.ok
    assert all(problem and "Traceback" not in problem for problem in found.problems)


@pytest.mark.parametrize("where", [0.0, 0.13, 0.31, 0.5, 0.77, 0.95, 1.0])
def test_last_entry(ledger, objects, kit, where):
    """Nobody follows the last entry: its own hash, known from elsewhere, proves it."""
    head = ledger(store=kit.Memory(objects)).read().head
    store = kit.Memory(objects)
    flip(LAST, where)(store.objects)
    assert not verify(ledger(store=store), pinned=(LAST, head)).ok


def test_every_byte(ledger, kit, register):
    """Each single byte of an entry counts, whichever bit of it is turned."""
    store = kit.Memory()
    register(ledger(store=store), 3)
    key = entry_key("churn", 1)
    data = store.objects[key]
    for at in range(len(data)):
        store.objects[key] = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        assert not verify(ledger(store=store)).ok, (at, store.objects[key])
    store.objects[key] = data
    assert verify(ledger(store=store)).ok


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_truncated(ledger, objects, kit, tmp_path, count):
    """An end that was cut off is missed by whoever has seen it, or knows its hash."""
    witness = Witness(tmp_path / "seen", "home")
    whole = ledger(store=kit.Memory(objects), witness=witness).read()
    pinned = (whole.seq, whole.head)
    store = kit.Memory(objects)
    truncate(count)(store.objects)
    assert verify(ledger(store=store)).ok, "a chain alone cannot know its length"
    for proof in ({"pinned": pinned}, {"witness": Witness(tmp_path / "seen", "home")}):
        found = verify(ledger(store=store), **proof)
        assert [p for p in found.problems if "truncated" in p]
    with pytest.raises(IntegrityError, match="its end is missing"):
        ledger(store=store, witness=Witness(tmp_path / "seen", "home")).read()


@pytest.mark.parametrize("seq", [2 * EVERY + 1, LAST - 1, LAST])
def test_forked(ledger, objects, kit, tmp_path, seq):
    """A history that was rewritten with fitting hashes is known by an entry that was seen."""
    witness = Witness(tmp_path / "seen", "home")
    whole = ledger(store=kit.Memory(objects), witness=witness).read()
    pinned = (whole.seq, whole.head)
    store = kit.Memory(objects)
    fork(seq)(store.objects)
    assert verify(ledger(store=store)).ok, "every hash fits"
    assert not verify(ledger(store=store), pinned=pinned).ok
    assert not verify(ledger(store=store), witness=Witness(tmp_path / "seen", "home")).ok
    with pytest.raises(IntegrityError, match="rewritten"):
        ledger(store=store, witness=Witness(tmp_path / "seen", "home")).read()


def test_pin_and_witness_of_one_place(ledger, objects, kit, tmp_path):
    """What was seen and what is pinned both count, also where they speak of one entry."""
    witness = Witness(tmp_path / "seen", "home")
    ledger(store=kit.Memory(objects), witness=witness).read()
    store = kit.Memory(objects)
    fork(LAST)(store.objects)
    forged = ledger(store=store).read()
    assert not verify(ledger(store=store), witness=witness, pinned=(LAST, forged.head)).ok


def test_pinned_before(ledger, objects, kit):
    """An older pin proves the history up to its place, and lets the ledger grow."""
    mine = ledger(store=kit.Memory(objects))
    old = mine.entry(17)
    assert verify(mine, pinned=(17, old.hash)).ok
    assert not verify(mine, pinned=(17, "sha256:" + "0" * 64)).ok


def test_shorter_fork_behind_a_checkpoint(ledger, objects, kit, tmp_path, register):
    """A longer history in the place of the one that was seen is known, checkpoint or not."""
    store = kit.Memory()
    register(ledger(store=store), 3)
    ledger(store=store, witness=Witness(tmp_path / "seen", "home")).read()
    other = kit.Memory(objects)
    fork(0)(other.objects)
    with pytest.raises(IntegrityError, match="rewritten"):
        ledger(store=other, witness=Witness(tmp_path / "seen", "home")).read()


def test_witness_remembers(ledger, kit, register, tmp_path):
    """A witness keeps the newest entry of each model, across processes, and never an older one."""
    store = kit.Memory()
    folder = tmp_path / "seen"
    mine = ledger(store=store, witness=Witness(folder, "home"))
    register(mine, 3)
    head = mine.read().head
    assert Witness(folder, "home").newest("churn") == (2, head)
    assert Witness(folder, "other home").newest("churn") is None
    assert Witness(folder, "home").newest("other") is None
    Witness(folder, "home").remember("churn", 1, "sha256:old")
    assert Witness(folder, "home").newest("churn") == (2, head)
    assert [path.name for path in (folder / "home").iterdir()] == ["churn.json"]


@pytest.mark.parametrize("note", [b"", b"[", b"[1]", b"{}", b"\xff", b'"\xff"', b'["a","b"]'])
def test_unreadable_note(ledger, kit, register, tmp_path, note):
    """A note that cannot be read is no witness, and is written anew."""
    path = tmp_path / "seen" / "home" / "churn.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(note)
    mine = ledger(store=kit.Memory(), witness=Witness(tmp_path / "seen", "home"))
    register(mine, 2)
    assert Witness(tmp_path / "seen", "home").newest("churn") == (1, mine.read().head)


def test_witness_without_a_disk(ledger, kit, register, tmp_path):
    """A disk that takes no note stops nobody; this process still remembers."""
    (tmp_path / "seen").write_text("a file where the folder should be")
    witness = Witness(tmp_path / "seen", "home")
    store = kit.Memory()
    register(ledger(store=store, witness=witness), 3)
    assert witness.newest("churn")[0] == 2
    del store.objects[entry_key("churn", 2)]
    with pytest.raises(IntegrityError, match="its end is missing"):
        ledger(store=store, witness=witness).read()


def test_witness_on_a_full_disk(tmp_path):
    """A disk without room stops nobody, and half a note is not left behind."""
    program = (
        "import resource, sys; from pathlib import Path; from cloudreg.ledger import Witness;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0));"
        "witness = Witness(Path(sys.argv[1]), 'home'); witness.remember('churn', 5, 'x');"
        "print(witness.newest('churn'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert found.stdout == "(5, 'x')\n"
    assert list((tmp_path / "home").iterdir()) == []


def test_others_write_while_the_witness_is_asked(ledger, kit, register, tmp_path):
    """What others append and see between two looks is no proof of loss."""
    memory = kit.Memory()
    register(ledger(store=memory), 3)

    class Slow(kit.Watched):
        def list(self, prefix, *, after=""):
            found = list(super().list(prefix, after=after))
            if prefix.startswith("ledger/") and self.count("list", "ledger/") == 1:
                register(ledger("bob", store=memory, witness=Witness(tmp_path / "seen", "home")))
            return iter(found)

    mine = ledger(store=Slow(memory), witness=Witness(tmp_path / "seen", "home"))
    assert mine.read().seq == 2
    assert mine.read().seq == 3


def test_home_id(store, kit):
    """A home names itself once; whoever comes second reads the same name."""
    first = home_id(store)
    assert home_id(store) == first
    assert json.loads(kit.content(store, HOME_KEY)) == {"id": first}
