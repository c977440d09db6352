"""Any sequence of what processes do to a ledger, against a few lines that say what it is."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cloudreg.errors import Conflict, Fenced, IntegrityError, Unavailable
from cloudreg.ledger import Draft, Fold, Lease, Ledger, verify

STAGES = st.sampled_from(["dev", "staging", "prod"])
PEOPLE = st.sampled_from(["ann", "bob", "eve"])


@pytest.fixture
def machine(kit, monkeypatch, clock):
    """Return the machine; checkpoints come every seven entries, so that runs cross several."""
    monkeypatch.setattr("cloudreg.ledger.checkpoint.EVERY", 7)
    monkeypatch.setattr("cloudreg.ledger.fold.PAGE", 4)

    class Losing(kit.Memory):
        """Loses the answer of a put when it is told to."""

        lose = False

        def put(self, source, key, *, if_absent=False):
            stored = super().put(source, key, if_absent=if_absent)
            if self.lose and key.startswith("ledger/"):
                self.lose = False
                raise Unavailable("no answer")
            return stored

    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.store = Losing()
            self.holder = None
            self.zombies = []
            self.versions = 0
            self.stages = {}
            self.previous = {}
            self.approvals = set()
            self.applied = {}
            self.paused = False
            self.entries = 0

        @initialize()
        def begin(self):
            self.ledgers = {name: self.opened(name) for name in ("ann", "bob", "eve")}

        def opened(self, actor):
            return Ledger(self.store, "churn", actor=actor, tool="t", clock=clock)

        def moved(self, stage, number):
            if self.stages.get(stage) != number:
                self.previous[stage] = self.stages.get(stage)
                self.stages[stage] = number

        def wrote(self, count=1):
            self.entries += count

        @rule(who=PEOPLE)
        def restart(self, who):
            self.ledgers[who] = self.opened(who)

        @rule()
        def lose_an_answer(self):
            self.store.lose = True

        @rule(who=PEOPLE)
        def register(self, who):
            self.ledgers[who].append(kit.registration, op="register")
            self.versions += 1
            self.moved("dev", self.versions)
            self.wrote()

        @precondition(lambda self: self.versions)
        @rule(who=PEOPLE, stage=STAGES, data=st.data())
        def approve(self, who, stage, data):
            number = data.draw(st.integers(1, self.versions))
            draft = Draft(kind="approve", root="r", data={"number": number, "stage": stage})
            self.ledgers[who].append(lambda _: draft, op="approve")
            self.approvals.add((number, stage, who))
            self.wrote()

        @rule(who=PEOPLE)
        def claim(self, who):
            if self.holder is None:
                self.holder = Lease.claim(self.ledgers[who], verb="promote", data={"by": who})
                self.wrote()
            else:
                with pytest.raises(Conflict):
                    Lease.claim(self.ledgers[who], verb="promote", data={})

        @precondition(lambda self: self.holder)
        @rule(pause=st.booleans())
        def step(self, pause):
            self.holder.step({"at": self.entries}, paused=pause)
            self.paused = pause
            self.wrote()

        @precondition(lambda self: self.holder)
        @rule(who=PEOPLE, silent=st.booleans())
        def take_over(self, who, silent):
            clock.now += 61 if silent else 0
            intent = self.ledgers[who].read().open
            if not (self.paused or intent.until < clock.now):
                with pytest.raises(Conflict):
                    Lease.take_over(self.ledgers[who], intent, why="x")
                return
            self.zombies.append(self.holder)
            self.holder = Lease.take_over(self.ledgers[who], intent, why="x")
            self.paused = False
            self.wrote()

        @precondition(lambda self: self.holder and self.versions)
        @rule(stage=STAGES, data=st.data(), kept=st.booleans())
        def done(self, stage, data, kept):
            number = data.draw(st.integers(1, self.versions))
            endpoint = None if not kept else {"target": "t", "spec": {"n": number}}
            self.holder.done({"stages": {stage: number}, "endpoints": {"e": endpoint}})
            self.moved(stage, number)
            self.applied = {} if not kept else {"e": {"n": number}}
            self.zombies.append(self.holder)
            self.holder, self.paused = None, False
            self.wrote()

        @precondition(lambda self: self.holder)
        @rule()
        def abort(self):
            self.holder.abort("enough")
            self.zombies.append(self.holder)
            self.holder, self.paused = None, False
            self.wrote()

        @precondition(lambda self: self.versions)
        @rule(who=PEOPLE, stage=STAGES, gone=st.booleans())
        def adopt(self, who, stage, gone):
            number = None if gone else self.versions
            draft = Draft(kind="adopt", root="a", data={"stages": {stage: number}})
            if self.holder is not None:
                with pytest.raises(IntegrityError):
                    self.ledgers[who].append(lambda _: draft, op="a")
                return
            self.ledgers[who].append(lambda _: draft, op="a")
            if gone:
                self.stages.pop(stage, None)
                self.previous.pop(stage, None)
            else:
                self.moved(stage, number)
            self.wrote()

        @precondition(lambda self: self.zombies)
        @rule(data=st.data(), verb=st.sampled_from(["check", "step", "done", "abort"]))
        def wake_up(self, data, verb):
            zombie = data.draw(st.sampled_from(self.zombies))
            arguments = {"check": [], "step": [{}], "done": [{}], "abort": ["x"]}[verb]
            with pytest.raises(Fenced):
                getattr(zombie, verb)(*arguments)

        @rule()
        def lose_what_is_derived(self):
            for key in list(self.store.objects):
                if key.startswith(("heads/", "checkpoints/", "pages/")):
                    del self.store.objects[key]
            self.damaged = True

        damaged = False

        @invariant()
        def one_truth(self):
            scratch = Fold("churn")
            reader = self.opened("reader")
            for entry in reader.entries():
                scratch.apply(entry)
            fold = self.opened("other").read()
            assert kit.state(fold) == kit.state(scratch)
            assert fold.seq + 1 == self.entries
            assert fold.last_number == self.versions
            assert {s: h.number for s, h in fold.stages.items()} == self.stages
            assert {s: h.previous for s, h in fold.stages.items()} == {
                s: self.previous.get(s) for s in self.stages
            }
            assert (fold.open is not None) == (self.holder is not None)
            if self.holder is not None:
                assert (fold.open.op, fold.open.paused) == (self.holder.op, self.paused)
            assert {n: a.spec for n, a in fold.applied.items()} == self.applied
            assert {
                (s.number, stage, who)
                for s in fold.newest_first()
                for stage, people in s.approvals.items()
                for who in people
            } == self.approvals

        def teardown(self):
            found = verify(self.opened("auditor"))
            assert self.damaged or found.problems == ()
            assert found.entries == self.entries

    return Machine


def test_ledger_machine(machine):
    """Whatever processes do, and whatever is lost on the way, the fold is what they did."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
