"""Waiting: asked until it is done, with progress, and given up in time."""

from __future__ import annotations

import threading

import pytest

from cloudreg.errors import Fenced, OperationFailed, OperationTimeout, Unavailable
from cloudreg.operations import SILENT, every, poll_until, wait
from cloudreg.provider import Operation
from cloudreg.types import OperationState, OperationStatus


class Scripted:
    """An operation that answers what it was told to, and its last word for ever."""

    name = "making churn-prod"

    def __init__(self, *answers):
        self.answers = list(answers)
        self.polls = 0

    def poll(self):
        self.polls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def running(**says):
    return OperationStatus(state=OperationState.RUNNING, **says)


DONE = OperationStatus(state=OperationState.SUCCEEDED, message="ready")


def test_scripted_operation():
    """What the tests script is an operation by the contract."""
    assert isinstance(Scripted(DONE), Operation)


def test_done_at_once(clock):
    """What is done already is not waited for."""
    assert wait(Scripted(DONE), sleep=clock.sleep, clock=clock) == DONE
    assert clock.slept == []


def test_wait(clock, kit):
    """The operation is asked until it succeeds, and its progress adds up to the whole."""
    meter = kit.Meter()
    operation = Scripted(
        running(progress=0.25, message="starting"),
        running(progress=0.125),
        running(message="loading"),
        running(progress=1.5),
        DONE,
    )
    assert wait(operation, progress=meter, sleep=clock.sleep, clock=clock) == DONE
    assert operation.polls == 5
    assert meter.titles == ["making churn-prod"]
    assert meter.notes == ["starting", "loading", "ready"]
    assert meter.done == 1.0 == meter.total


def test_intervals(clock):
    """Pauses double from the first to the longest, and the last ends with the time."""
    found = poll_until(
        lambda: 1, lambda _: False, timeout_s=10.0, interval_s=0.5, max_interval_s=3.0,
        sleep=clock.sleep, clock=clock,
    )  # fmt: skip
    assert found is None
    assert clock.slept == [0.5, 1.0, 2.0, 3.0, 3.0, 0.5]


def test_last_question(clock):
    """What becomes true while the last pause runs is still seen."""
    start = clock()
    found = poll_until(
        clock, lambda now: now - start >= 2.0, timeout_s=2.0, interval_s=1.5, max_interval_s=9.0,
        sleep=clock.sleep, clock=clock,
    )  # fmt: skip
    assert found == start + 2.0


def test_no_patience(clock):
    """Without patience there is one question and no pause."""
    asked = []
    assert (
        poll_until(lambda: asked.append(1), bool, timeout_s=0, sleep=clock.sleep, clock=clock)
        is None
    )
    assert asked == [1]
    assert clock.slept == []


def test_failed(clock):
    """An operation that failed raises its own words and its last log lines."""
    failed = OperationStatus(
        state=OperationState.FAILED, message="no such weights", logs=("a", "b")
    )
    with pytest.raises(OperationFailed, match="making churn-prod: no such weights") as error:
        wait(Scripted(running(), failed), target="gcp", sleep=clock.sleep, clock=clock)
    assert (error.value.target, error.value.logs) == ("gcp", ("a", "b"))


def test_failed_without_a_word(clock):
    """An operation that failed in silence says so."""
    with pytest.raises(OperationFailed, match="no reason given"):
        wait(Scripted(OperationStatus(state=OperationState.FAILED)), sleep=clock.sleep, clock=clock)


def test_timeout(clock):
    """An operation that is not done in time is named; it keeps running."""
    start = clock()
    with pytest.raises(OperationTimeout, match="still running after 90 s") as error:
        wait(Scripted(running()), timeout_s=90, target="aws", sleep=clock.sleep, clock=clock)
    assert error.value.target == "aws"
    assert clock() - start == 90


def test_what_a_poll_raises(clock):
    """Polling is not retrying: what a question raises ends the wait."""
    operation = Scripted(running(), Unavailable("no answer"))
    with pytest.raises(Unavailable):
        wait(operation, sleep=clock.sleep, clock=clock)
    assert operation.polls == 2


def test_fenced_while_waiting(clock):
    """A lease that went to another process ends the wait before the next question."""
    looks = []

    def look():
        looks.append(1)
        if len(looks) == 3:
            raise Fenced("gone")

    operation = Scripted(running())
    with pytest.raises(Fenced):
        wait(operation, on_poll=look, sleep=clock.sleep, clock=clock)
    assert operation.polls == 2


def test_silent():
    """Progress that nobody watches takes everything and says nothing."""
    with SILENT.task("x", total=1.0, unit="B") as task:
        task.advance(1.0)
        task.note("y")
    SILENT.say("z")


def test_every():
    """The action is repeated while the block runs, beyond lost answers, and not after it."""
    calls = []
    often = threading.Event()

    def action():
        calls.append(1)
        if len(calls) == 4:
            often.set()
        raise Unavailable("no answer")

    with every(0.001, action):
        assert often.wait(20)
    done = len(calls)
    assert not [t for t in threading.enumerate() if t.name == "every"]
    assert len(calls) == done


def test_every_until_refused():
    """A refusal ends the repetition, and the block goes on."""
    calls = []
    refused = threading.Event()

    def action():
        calls.append(1)
        refused.set()
        raise Fenced("gone")

    with every(0.001, action):
        assert refused.wait(20)
        for thread in threading.enumerate():
            if thread.name == "every":
                thread.join(20)
    assert calls == [1]
