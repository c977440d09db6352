"""Several processes at one model of SageMaker: one truth, whoever is faster or sleeps.

A process that sleeps is halted at a change on the wire, and wakes when others have taken over: one
call can come late then. What it changed is drift that a repair finds; it changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.testing.faults import Action, Fault, When

LEASE_S = 0.5
MOMENTS = {"before": When.BEFORE, "after": When.AFTER}
SLEEPERS = ("promote", "rollback", "apply", "down")
MAX_CALLS = 60


def race(project: Callable[[], Any], tally: Any, *, racers: int) -> None:
    """Let processes register and promote at once, and look at what they leave."""
    family = f"AWS, {racers} processes at once"
    tally.tried[family] = racers
    here = project()
    here.configure(endpoint=True)
    with here.open("ada") as ws:
        here.register(ws, 1)
        here.promote(ws, 1)
    names = [f"worker{n}" for n in range(racers)]
    cases = [
        here.case(
            "race",
            actor=name,
            record=str(here.root / f"{name}.jsonl"),
            log=str(here.root / f"{name}.log"),
            # Whoever is last has waited for all the others.
            wait_s=30.0 * racers + 60.0,
        )
        for name in names
    ]
    codes = here.together(*cases)
    assert codes == [0] * racers, [(here.root / f"{name}.log").read_text() for name in names]
    with here.open() as ws:
        entries = list(ws.history(here.model, newest_first=False))
        moves = [e for e in entries if e.kind == "done" and "prod" in e.data.get("stages", {})]
        numbers = [e.data["stages"]["prod"] for e in moves]
        assert sorted(numbers) == list(range(1, racers + 2))
        # Each promotion knew what it took the place of: none was made in ignorance of another.
        assert [e.data["previous"] for e in moves] == [None, *numbers[:-1]]
        here.check(ws, prod=numbers[-1], dev=racers + 1, serves=numbers[-1])
    here.check_tidy()
    tally.survived[family] = racers


def prepare(verb: str, here: Any) -> None:
    """Bring a new project to where *verb* is due."""
    here.configure(endpoint=verb != "apply")
    with here.open("ada") as ws:
        here.register(ws, 1)
        here.promote(ws, 1)
        if verb in ("promote", "rollback"):
            here.register(ws, 2)
            if verb == "rollback":
                here.promote(ws, 2)
            here.register(ws, 3)
    here.configure(endpoint=True)


def overtake(verb: str, ws: Workspace, model: str) -> None:
    """Do something else than the process that sleeps was about to do."""
    match verb:
        case "promote" | "rollback":
            ws.promote(f"{model}:3", to="prod")
        case "apply" | "down":
            ws.apply()


def sleep(verb: str, moment: str, project: Any, tally: Any, numbers: Iterable[int]) -> int:
    """Halt a process at the changes of these numbers, and wake it too late; return how many."""
    slept = 0
    family = f"AWS, a process that sleeps {moment} a change"
    for number in numbers:
        here = project()
        prepare(verb, here)
        fault = Fault(call=number, when=MOMENTS[moment], action=Action.STOP)
        halted = here.crash(verb, fault, lease_s=LEASE_S)
        calls = here.calls()
        if len(calls) < number:
            assert halted == 0, here.log.read_text()
            break
        slept += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        hit = calls[number - 1]
        try:
            with here.open() as ws:
                wake_too_late(verb, here, ws, halted["stopped"])
            here.check_tidy()
        except Exception as error:
            error.add_note(f"{verb}, halted {moment} change {number}: {hit.verb} {hit.subject}")
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, f"{verb} makes more changes than that"
    return slept


def wake_too_late(verb: str, here: Any, ws: Workspace, pid: int) -> None:
    """Take over from a process that sleeps, wake it, and look at what it does."""
    # Before its intent and after its end it holds nothing that could be taken.
    held = ws.fold(here.model).open is not None
    overtake(verb, ws, here.model)
    entries = len(list(ws.history(here.model)))
    code = here.wake(pid)
    said = here.log.read_text()
    assert code in (0, 1), said
    if held:
        assert (code, said.partition("\n")[0]) == (1, "Fenced"), said
        assert len(list(ws.history(here.model))) == entries
    here.cloud.at_rest(here.model)
    ws.repair(here.model)
    stages = {s: h.number for s, h in ws.fold(here.model).stages.items()}
    serves = stages["prod"] if ws.fold(here.model).applied else None
    if held:
        assert stages["prod"] == serves == (1 if verb in ("apply", "down") else 3)
    here.check(ws, prod=stages["prod"], dev=stages["dev"], serves=serves)


@pytest.mark.timeout(300)
def test_two_at_once(project: Callable[[], Any], tally: Any) -> None:
    """Two processes that register and promote at once both succeed, and leave one truth."""
    race(project, tally, racers=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("racers", [8, 32])
def test_many_at_once(racers: int, project: Callable[[], Any], tally: Any) -> None:
    """Eight, or 32, that register and promote at once all succeed, and leave one truth."""
    race(project, tally, racers=racers)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("moment", "number"), [("before", 5), ("after", 4)])
def test_sleeper(moment: str, number: int, project: Callable[[], Any], tally: Any) -> None:
    """A change that comes too late is fenced afterwards, and what it changed is put right."""
    assert sleep("promote", moment, project, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("verb", SLEEPERS)
def test_every_sleeper(verb: str, moment: str, project: Callable[[], Any], tally: Any) -> None:
    """Whoever sleeps at any change, and wakes when others have taken over, changes no more."""
    assert sleep(verb, moment, project, tally, range(1, MAX_CALLS + 1))
