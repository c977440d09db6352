"""Several processes at one model: one truth, whoever sleeps, dies or is faster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import Conflict, RepairRequired
from cloudreg.operations import Silent

Start = Callable[..., "subprocess.Popen[str]"]

TWO = {"local": "", "west": ""}
BOTH = 'targets = ["local", "west"]\ngates = []'


@pytest.fixture
def start(house: Any, worker: Path) -> Iterator[Start]:
    """Start a worker in the house; what still runs at the end is killed by its id."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(worker), str(house.root), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_eight_processes(house: Any, live: Callable[..., Workspace], start: Start) -> None:
    """Eight that register and promote at once all succeed, and leave one truth."""
    ws = live(targets=TWO, stages={"prod": BOTH}, versions=1)
    workers = [start("race", f"worker{n}") for n in range(8)]
    ended = [process.communicate(timeout=120) for process in workers]

    assert "".join(err for _, err in ended) == ""
    assert [process.returncode for process in workers] == [0] * 8
    assert sorted(int(out) for out, _ in ended) == list(range(2, 10))
    assert [v.number for v in ws.versions("churn")] == list(range(9, 0, -1))
    entries = list(ws.history("churn", newest_first=False))
    moves = [e for e in entries if e.kind == "done" and "prod" in e.data.get("stages", {})]
    assert len(moves) == 9
    # Each promotion knew what it took the place of: none was made in ignorance of another.
    numbers = [e.data["stages"]["prod"] for e in moves]
    assert [e.data["previous"] for e in moves] == [None, *numbers[:-1]]
    assert house.served(ws) == numbers[-1]
    house.check_truth(ws)


@pytest.mark.parametrize("verb", ["publish", "update", "point"])
def test_sleeper_stops_when_it_wakes(
    house: Any, live: Callable[..., Workspace], start: Start, eventually: Any, verb: str
) -> None:
    """Whoever slept past its lease is fenced at its next call; what others made stays."""
    ws = live(versions=3, targets=TWO, stages={"prod": BOTH}, provider="scripted")
    for number in (2, 3):
        ws.promote(f"churn:{number}", to="staging")
    sleeper = start("stop", "after", verb)
    eventually(lambda: state(sleeper.pid) == "T")
    assert ws.fold("churn").open.actor == "zombie"
    ws.promote("churn:3", to="prod")
    kinds = house.kinds(ws)
    assert kinds[-4:] == ["takeover", "abort", "intent", "done"]
    os.kill(sleeper.pid, signal.SIGCONT)

    assert sleeper.communicate(timeout=30) == ("Fenced\n", "")
    assert house.kinds(ws) == kinds
    assert house.served(ws) == 3
    house.check_truth(ws)


@pytest.mark.parametrize(("verb", "what"), [("update", "endpoint"), ("point", "stage")])
def test_call_of_a_sleeper_that_comes_late(
    house: Any,
    live: Callable[..., Workspace],
    start: Start,
    eventually: Any,
    verb: str,
    what: str,
) -> None:
    """A call that slept between the question and the target is drift, and is repaired."""
    ws = live(versions=3, provider="scripted")
    for number in (2, 3):
        ws.promote(f"churn:{number}", to="staging")
    sleeper = start("stop", "before", verb)
    eventually(lambda: state(sleeper.pid) == "T")
    ws.promote("churn:3", to="prod")
    os.kill(sleeper.pid, signal.SIGCONT)
    assert sleeper.communicate(timeout=30) == ("Fenced\n", "")

    assert ws.fold("churn").stages["prod"].number == 3
    assert {d.kind for d in ws.drift("churn")} == {what}
    if what == "stage":
        with pytest.raises(RepairRequired):
            ws.promote("churn:2", to="prod")
    ws.repair("churn")
    assert house.served(ws) == 3
    house.check_truth(ws)


def test_killed_process(
    house: Any, live: Callable[..., Workspace], start: Start, eventually: Any
) -> None:
    """What a killed process left is undone at once by the next on the same machine."""
    ws = live(provider="scripted")
    ws.promote("churn:2", to="staging")
    victim = start("stop", "before", "point")
    eventually(lambda: state(victim.pid) == "T")
    assert house.served(ws) == 2
    victim.kill()
    victim.wait()
    entry = ws.abort("churn")

    assert (entry.kind, entry.data["reason"]) == ("abort", "aborted by hand")
    assert house.served(ws) == 1
    house.check_truth(ws)
    ws.promote("churn:2", to="prod")
    assert house.kinds(ws)[-5:] == ["intent", "takeover", "abort", "intent", "done"]


class News(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_patience_ends(
    house: Any, live: Callable[..., Workspace], background: Any, eventually: Any
) -> None:
    """Who waits too long for another learns who it is, since when, and at what."""
    text = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
[endpoints.churn-prod.rollout]
strategy = "canary"
bake_s = 600
"""
    ws = live(text)
    ws.promote("churn:2", to="staging")
    rollout = background(ws.promote, "churn:2", to="prod")
    news = News()
    other = house.open("bob", wait_s=0.5, progress=news)
    eventually(lambda: other.fold("churn").open is not None)
    for verb in (
        lambda: other.promote("churn:1", to="staging"),
        lambda: other.repair("churn"),
        lambda: other.adopt("churn", reason="no"),
        other.down,
    ):
        with pytest.raises(Conflict, match="held by ada, promote of churn:2 to prod, since"):
            verb()
    # Once for each attempt, however often it looked.
    assert [line.endswith("; waiting") for line in news.lines] == [True] * 4
    # Registering and approving hold nobody up.
    house.register(other)
    house.open("carol").approve("churn:3", stage="prod")
    other.abort("churn")
    with pytest.raises(Exception, match="somebody asked for it"):
        rollout.result(20)
    house.check_truth(other)
