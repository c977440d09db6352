"""An open intent is the mutex of a model: held, renewed, taken over, fenced, closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudreg.errors import Conflict, Fenced, IntegrityError, RolloutAborted, StalePlan
from cloudreg.ledger import Draft, Lease, Process, verify
from cloudreg.ledger.lease import LEASE_S, SURE_S, claimable

HOLDER = """
import sys
from pathlib import Path
from cloudreg.ledger import Lease, Ledger
from cloudreg_local.store import LocalStore

ledger = Ledger(LocalStore(Path(sys.argv[1]), target="home"), "churn", actor="ann", tool="t")
lease = Lease.claim(ledger, verb="promote", data={"number": 1, "stage": "prod"}, lease_s=3600)
print("held", flush=True)
sys.stdin.readline()
try:
    lease.done({})
except Exception as error:
    print(type(error).__name__, flush=True)
"""


def claim(ledger, **data):
    return Lease.claim(ledger, verb="promote", data={"number": 1, "stage": "prod"} | data)


def silence(clock):
    clock.now += LEASE_S + 1


@pytest.fixture
def held(ledger, register):
    """A model with three versions, held by ann."""
    mine = ledger()
    register(mine, 3)
    return claim(mine)


def test_claim(held, ledger, clock):
    """An intent says who holds the model, for what, until when and from which process."""
    intent = ledger("bob").read().open
    assert (intent.op, intent.root, intent.actor, intent.verb) == (
        held.op, held.root, "ann", "promote")  # fmt: skip
    assert intent.until == clock.now + LEASE_S
    assert Process.of(intent.process) == Process.current()
    assert not claimable(intent, clock())


def test_second_claim(held, ledger):
    """While one process holds the model, others are refused and told who it is."""
    before = ledger().read().seq
    with pytest.raises(Conflict, match="held by ann, promote of churn:1 to prod") as refused:
        claim(ledger("bob"))
    assert "wait" in refused.value.hint
    assert ledger().read().seq == before


def test_one_of_many_claims(store, ledger):
    """Of sixteen who claim at once, one gets the model."""
    start = threading.Barrier(16)

    def attempt(number: int) -> bool:
        mine = ledger(f"a{number}")
        start.wait()
        try:
            claim(mine)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(16))) == 1
    assert ledger().read().seq == 0


def test_claim_and_end_by_what_was_read(kit, store, ledger, register):
    """Claiming and closing look at nothing that was read already: a place that is free tells."""
    watched = kit.Watched(store)
    mine = ledger(store=watched)
    register(mine, 2)
    watched.calls.clear()
    claim(mine).done({"stages": {"prod": 1}})
    assert [verb for verb, _ in watched.calls] == ["put", "put"]
    assert ledger("bob").read().stages["prod"].number == 1


def test_claim_by_what_is_past(ledger):
    """Who saw the model held claims it once it is free, and who saw it free is refused later."""
    mine, others = ledger(), ledger("bob")
    theirs = claim(others)
    assert mine.read().open is not None
    theirs.done({})
    claim(mine).done({})
    claim(others)
    before = ledger().read().seq
    with pytest.raises(Conflict, match="held by bob"):
        claim(mine)
    assert ledger().read().seq == before


def test_end_with_what_others_registered(held, ledger, register):
    """An end counts with a version that was registered after the last look."""
    register(ledger("bob"))
    held.done({"stages": {"prod": 4}})
    assert ledger().read().stages["prod"].number == 4


def test_wish_at_the_last_moment(held, ledger):
    """A wish to abort that came after the last look keeps the end from coming true."""
    ledger("bob").append(
        lambda fold: Draft(kind="note", root=fold.open.root, data={"request": "abort"}), op="bob"
    )
    with pytest.raises(RolloutAborted):
        held.done({"stages": {"prod": 2}}, heeding=True)
    fold = ledger().read()
    assert fold.open is not None
    assert "prod" not in fold.stages


def test_guard(ledger):
    """A claim whose plan no longer fits is refused, and nothing is written."""

    def guard(fold):
        raise StalePlan("the world moved")

    with pytest.raises(StalePlan):
        Lease.claim(ledger(), verb="promote", data={}, guard=guard)
    assert ledger().read().seq == -1


def test_done(held, ledger):
    """Closing moves the stages, records the endpoints and frees the model."""
    spec = {"name": "live", "env": {}}
    entry = held.done({"stages": {"prod": 2}, "endpoints": {"live": {"target": "t", "spec": spec}}})
    fold = ledger().read()
    assert fold.open is None
    assert (fold.stages["prod"].number, fold.stages["prod"].seq) == (2, entry.seq)
    assert fold.stages["prod"].previous is None
    assert fold.applied["live"].spec == spec
    assert fold.closed == entry.seq
    assert fold.version(2).held == ("dev", "prod")
    claim(ledger("bob")).done({"stages": {"prod": 3}, "endpoints": {"live": None}})
    fold = ledger().read()
    assert fold.stages["prod"].previous == 2
    assert fold.applied == {}


def test_same_version_again(held, ledger):
    """A stage that stays where it is remembers what a rollback would go back to."""
    held.done({"stages": {"prod": 1}})
    claim(ledger()).done({"stages": {"prod": 2}})
    moved = ledger().read().stages["prod"]
    claim(ledger()).done({"stages": {"prod": 2}})
    assert ledger().read().stages["prod"] == moved
    assert moved.previous == 1


def test_abort(held, ledger):
    """An aborted operation frees the model and moves no stage."""
    entry = held.abort("no more", {"notes": ["x"]})
    assert entry.data == {"reason": "no more", "notes": ["x"]}
    fold = ledger().read()
    assert fold.open is None
    assert "prod" not in fold.stages
    with pytest.raises(IntegrityError):
        claim(ledger()).abort("x", {"stages": {"prod": 1}})


def test_done_with_an_unknown_version(held, ledger):
    """A stage is never pointed at a version that was not registered; the model stays held."""
    with pytest.raises(IntegrityError, match="never registered"):
        held.done({"stages": {"prod": 4}})
    assert ledger().read().open.op == held.op
    held.done({"stages": {"prod": 3}})


@pytest.mark.parametrize("close", [lambda lease: lease.done({}), lambda lease: lease.abort("x")])
def test_closed_twice(held, ledger, close):
    """What is closed is no longer held: neither checks nor closes succeed again."""
    held.done({})
    seq = ledger().read().seq
    with pytest.raises(Fenced, match="nobody"):
        held.check()
    with pytest.raises(Fenced):
        held.step({"x": 1})
    with pytest.raises(Fenced):
        close(held)
    assert ledger().read().seq == seq


def test_renewal(held, ledger, clock):
    """A check in the second half of the lease renews it; one in the first half writes nothing."""
    seq = ledger().read().seq
    clock.now += LEASE_S / 2 - 1
    held.check()
    assert ledger().read().seq == seq
    clock.now += 2
    held.check()
    assert ledger().read().seq == seq + 1
    assert ledger().read().open.until == clock.now + LEASE_S


def test_sure_for_a_moment(held, store, ledger, clock, kit):
    """The ledger is asked once in two seconds, however many calls there are; never after a pause.

    Whoever takes over waits for the end of the lease, so that nobody can have done so meanwhile.
    """
    watched = kit.Watched(store)
    held.ledger.store = watched
    clock.now += SURE_S - 0.1
    for _ in range(5):
        held.check()
    assert watched.calls == []
    clock.now += 0.1
    held.check()
    asked = len(watched.calls)
    assert asked
    held.check()
    assert len(watched.calls) == asked
    held.step({}, paused=True)
    asked = len(watched.calls)
    held.check()
    assert len(watched.calls) > asked


def test_clock_set_back(held, store, clock, kit):
    """A clock that was set back does not make a holder sure of itself for ever."""
    watched = kit.Watched(store)
    held.ledger.store = watched
    clock.now -= 3600
    held.check()
    assert watched.calls


def test_renewal_keeps_progress(held, ledger, clock):
    """Renewing says nothing about progress, and so leaves it as it was."""
    held.step({"step": 2})
    clock.now += LEASE_S * 0.9
    held.check()
    assert ledger().read().open.progress == {"step": 2}


def test_glance(held, store, ledger, clock, kit):
    """While waiting, the store is asked once a second at most."""
    watched = kit.Watched(store)
    held.ledger.store = watched
    held.check()
    asked = len(watched.calls)
    for _ in range(5):
        held.glance()
    assert len(watched.calls) == asked
    clock.now += 1.0
    held.glance()
    assert len(watched.calls) > asked


def test_silent_holder(held, ledger, clock):
    """Silence for longer than the lease makes a holder claimable, not a moment before."""
    intent = ledger().read().open
    assert not claimable(intent, intent.until)
    assert claimable(intent, intent.until + 0.001)
    assert not claimable(intent, clock())


def test_zombie(held, ledger, clock):
    """A holder that wakes up after a takeover is fenced from everything, and changes nothing."""
    silence(clock)
    intent = ledger("bob").read().open
    taker = Lease.take_over(ledger("bob"), intent, why="silent")
    assert (taker.root, taker.op != held.op) == (held.root, True)
    seq = ledger().read().seq
    for verb in (
        held.check,
        held.glance,
        lambda: held.step({"step": 9}),
        lambda: held.done({"stages": {"prod": 1}}),
        lambda: held.abort("me too"),
    ):
        with pytest.raises(Fenced, match="silent for too long"):
            verb()
    assert ledger().read().seq == seq
    taker.done({"stages": {"prod": 2}})
    assert ledger().read().stages["prod"].number == 2
    assert verify(ledger()).ok


def test_zombie_behind_the_lease(held, ledger, register):
    """The ledger itself refuses the old holder's entries, whoever writes them."""
    mine = ledger()
    with pytest.raises(IntegrityError, match="does not hold the model"):
        mine.append(lambda _: Draft(kind="done", root=held.root, data={}), op="other")
    with pytest.raises(IntegrityError, match="does not hold the model"):
        mine.append(lambda _: Draft(kind="done", root="other", data={}), op=held.op)
    with pytest.raises(IntegrityError, match="while"):
        mine.append(lambda _: Draft(kind="adopt", root="x", data={"stages": {"prod": 1}}), op="x")
    with pytest.raises(IntegrityError, match="while"):
        mine.append(
            lambda _: Draft(kind="intent", root="x", data={"verb": "v", "until": 1}), op="x"
        )
    with pytest.raises(IntegrityError, match="not open"):
        mine.append(lambda _: Draft(kind="takeover", root="x", data={"until": 1}), op="x")
    held.done({})


def test_one_of_many_takers(held, ledger, clock):
    """Of several who take over at once, one becomes the holder."""
    silence(clock)
    intent = ledger().read().open
    start = threading.Barrier(6)

    def attempt(number: int) -> bool:
        mine = ledger(f"a{number}")
        start.wait()
        try:
            Lease.take_over(mine, intent, why="silent")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(6))) == 1


def test_takeover_of_a_closed_intent(held, ledger, clock):
    """What was closed meanwhile cannot be taken over."""
    silence(clock)
    intent = ledger().read().open
    held.done({})
    with pytest.raises(Conflict, match="taken up by somebody else"):
        Lease.take_over(ledger("bob"), intent, why="silent")


def test_takeover_of_a_living_holder(held, ledger, clock):
    """A holder that spoke between the look and the takeover keeps the model."""
    silence(clock)
    intent = ledger("bob").read().open
    held.check()
    with pytest.raises(Conflict, match="at work again"):
        Lease.take_over(ledger("bob"), intent, why="silent")
    held.done({})


def test_paused(held, ledger, clock):
    """A paused operation waits for people: no silence makes it claimable, and it can be resumed."""
    held.step({"step": 1}, paused=True)
    clock.now += 30 * 24 * 3600
    intent = ledger().read().open
    assert intent.paused
    assert not claimable(intent, clock())
    with pytest.raises(Conflict, match="paused promote") as refused:
        claim(ledger("bob"))
    assert "resume churn" in refused.value.hint
    taker = Lease.take_over(ledger("bob"), intent, why="resumed")
    fold = ledger().read()
    assert (fold.open.paused, fold.open.progress) == (False, {"step": 1})
    with pytest.raises(Fenced):
        held.check()
    taker.done({})


def test_requests(held, ledger):
    """Whoever holds the model hears what is asked of it, oldest first, until it has paused."""

    def ask(action, root=held.root):
        ledger("bob").append(lambda _: Draft(kind="note", root=root, data={"request": action}),
                             op="request")  # fmt: skip

    ask("pause")
    ask("abort")
    ask("abort", root="another operation")
    held.listen()
    assert held.requests == ("pause", "abort")
    held.step({})
    assert ledger().read().open.requests == ("pause", "abort")
    held.step({}, paused=True)
    assert ledger().read().open.requests == ()


def test_killed_holder(tmp_path, store, ledger, register, clock):
    """A holder on this machine that was killed is gone at once, however long its lease is."""
    register(ledger())
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "home")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        intent = ledger().read().open
        clock.now = intent.until - 1
        assert not claimable(intent, clock())
        with pytest.raises(Conflict, match="at work again"):
            Lease.take_over(ledger("bob"), intent, why="impatient")
        os.kill(holder.pid, signal.SIGKILL)
        # Not waited for yet: a zombie of the operating system is gone too.
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        assert claimable(intent, clock())
    assert claimable(intent, clock())
    Lease.take_over(ledger("bob"), intent, why="gone").done({"stages": {"prod": 1}})
    assert ledger().read().stages["prod"].number == 1


def test_stopped_holder(tmp_path, store, ledger, register, clock):
    """A holder that is stopped and wakes up after a takeover finds itself fenced."""
    register(ledger())
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "home")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGSTOP)
        intent = ledger().read().open
        clock.now = intent.until + 1
        Lease.take_over(ledger("bob"), intent, why="silent").done({})
        os.kill(holder.pid, signal.SIGCONT)
        output, _ = holder.communicate("go\n", timeout=30)
    assert output == "Fenced\n"
    assert ledger().read().seq == 3


@pytest.mark.parametrize(
    "data",
    [{}, {"host": "h"}, {"host": "h", "pid": "x", "started": 1}, {"host": "h", "pid": None}],
)
def test_unknown_process(data):
    """A holder that does not say where it runs is judged by its lease alone."""
    assert Process.of(data) is None


def test_process():
    """Another start time is another process; of another machine nothing is known."""
    now = Process.current()
    assert not now.gone
    assert Process(host=now.host, pid=now.pid, started=now.started - 1).gone
    assert Process(host=now.host, pid=2**22 + 1, started=1).gone
    assert Process(host=now.host, pid=2**80, started=1).gone
    assert not Process(host="elsewhere", pid=2**22 + 1, started=1).gone


def test_kept(held, ledger, clock):
    """While one long thing is done, another thread renews the lease."""
    quick = Lease(held.ledger, op=held.op, root=held.root, until=clock.now, lease_s=0.03)
    seq = ledger().read().seq
    renewed = threading.Event()
    with quick.kept():
        for _ in range(1000):
            if ledger().read().seq >= seq + 2:
                renewed.set()
                break
    assert renewed.is_set()
    held.done({})
