"""Several processes at one model of Google Cloud: one truth, whoever is faster or sleeps.

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
PATIENCE_S = 900.0
"""Of one of many: each waits until all before it have promoted."""

MOMENTS = {"before": When.BEFORE, "after": When.AFTER}
SLEEPERS = ("promote", "apply", "down")
SPOKEN = ("REST", "gRPC")
MAX_CALLS = 60


def race(way: str, project: Callable[..., Any], tally: Any, *, racers: int) -> None:
    """Let processes register and promote at once, and look at what they leave."""
    here = project(way)
    family = f"{here.family}, {racers} processes at once"
    tally.tried[family] = racers
    here.register(1)
    here.configure(endpoint=True)
    here.promote(1)
    names = [f"worker{n}" for n in range(racers)]
    cases = [
        here.case(
            "race",
            actor=name,
            record=str(here.root / f"{name}.jsonl"),
            log=str(here.root / f"{name}.log"),
            patience={"wait_s": PATIENCE_S, "timeout_s": PATIENCE_S},
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
    tally.survived[family] = racers


def prepare(verb: str, here: Any) -> None:
    """Bring a new project to where *verb* is due."""
    here.register(1)
    here.configure(endpoint=verb != "apply")
    here.promote(1)
    here.configure(endpoint=True)
    if verb == "promote":
        here.register(2)
        here.register(3)


def overtake(verb: str, ws: Workspace, model: str) -> None:
    """Do something else than the process that sleeps was about to do."""
    match verb:
        case "promote":
            ws.promote(f"{model}:3", to="prod")
        case "apply":
            ws.apply()
        case "down":
            ws.settle(model)
            ws.down()
            ws.apply()


def sleep(
    way: str, verb: str, moment: str, project: Any, tally: Any, numbers: Iterable[int]
) -> int:
    """Halt a process at the changes of these numbers, and wake it too late; return how many."""
    slept = 0
    for number in numbers:
        here = project(way)
        family = f"{here.family}, a process that sleeps {moment} a change"
        prepare(verb, here)
        fault = Fault(call=number, when=MOMENTS[moment], action=Action.STOP)
        halted = here.crash(verb, fault, patience={"lease_s": LEASE_S})
        calls = here.calls()
        if len(calls) < number:
            assert halted == 0, here.log.read_text()
            break
        slept += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        hit = calls[number - 1].subject
        try:
            with here.open() as ws:
                # Before its intent and after its end it holds nothing that could be taken.
                held = ws.fold(here.model).open is not None
                overtake(verb, ws, here.model)
                entries = len(list(ws.history(here.model)))
                code = here.wake(halted["stopped"])
                said = here.log.read_text()
                assert code in (0, 1), said
                if held:
                    assert (code, said.partition("\n")[0]) == (1, "Fenced"), said
                    assert len(list(ws.history(here.model))) == entries
                assert here.quiet()
                ws.repair(here.model)
                stages = {s: h.number for s, h in ws.fold(here.model).stages.items()}
                serves = stages["prod"] if ws.fold(here.model).applied else None
                if held:
                    assert stages["prod"] == serves == (3 if verb == "promote" else 1)
                here.check(ws, prod=stages["prod"], dev=stages["dev"], serves=serves)
        except Exception as error:
            error.add_note(f"{verb}, halted {moment} change {number}: {hit}")
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, f"{verb} makes more changes than that"
    return slept


def edit_alias(here: Any) -> None:
    """Show another version in the last stage."""
    here.cloud.point(here.model, 2, "prod")


def edit_traffic(here: Any) -> None:
    """Send all requests to what was deployed first."""
    cloud = here.cloud
    seen = cloud.endpoint(here.model)
    first = min(seen.deployed_models, key=lambda one: one.create_time)
    cloud.endpoints.update_endpoint(
        endpoint={"name": seen.name, "traffic_split": {first.id: 100}},
        update_mask={"paths": ["traffic_split"]},
    )


EDITS = {"alias": edit_alias, "traffic": edit_traffic}


def meddle(way: str, edit: str, project: Any, tally: Any, numbers: Iterable[int]) -> int:
    """Edit in a console while a promotion is at the changes of these numbers; return how many."""
    edited = 0
    for number in numbers:
        here = project(way)
        family = f"{here.family}, a promotion against an edit in the console"
        here.register(1)
        here.configure(endpoint=True)
        here.promote(1)
        here.register(2)
        halted = here.crash("promote", Fault(call=number, action=Action.STOP))
        calls = here.calls()
        if len(calls) < number:
            assert halted == 0, here.log.read_text()
            break
        edited += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        try:
            EDITS[edit](here)
            code = here.wake(halted["stopped"])
            with here.open() as ws:
                fold = ws.fold(here.model)
                assert fold.stages["prod"].number == (2 if code == 0 else 1)
                # Whatever the edit left is told, and mended; then the promotion goes through.
                ws.repair(here.model)
                assert ws.drift(here.model) == []
                ws.promote(f"{here.model}:2", to="prod")
                here.check(ws, prod=2, dev=2, serves=2)
        except Exception as error:
            error.add_note(f"{edit}, at change {number}: {calls[number - 1].subject}")
            error.add_note(here.log.read_text())
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, "a promotion makes more changes than that"
    return edited


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["REST", pytest.param("gRPC", marks=pytest.mark.slow)])
def test_two_at_once(way: str, project: Callable[..., Any], tally: Any) -> None:
    """Two processes that register and promote at once both succeed, and leave one truth."""
    race(way, project, tally, racers=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("way", "racers"), [("REST", 8), ("REST", 32), ("gRPC", 32)])
def test_many_at_once(way: str, racers: int, project: Callable[..., Any], tally: Any) -> None:
    """Many processes that register and promote at once all succeed, and leave one truth."""
    race(way, project, tally, racers=racers)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("way", "number"), [("REST", 4), pytest.param("gRPC", 7, marks=pytest.mark.slow)]
)
def test_sleeper(way: str, number: int, project: Callable[..., Any], tally: Any) -> None:
    """A deployment that comes too late is fenced afterwards, and what it took is given back."""
    assert sleep(way, "promote", "before", project, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("verb", SLEEPERS)
@pytest.mark.parametrize("way", SPOKEN)
def test_every_sleeper(
    way: str, verb: str, moment: str, project: Callable[..., Any], tally: Any
) -> None:
    """Whoever sleeps at any change, and wakes when others have taken over, changes no more."""
    assert sleep(way, verb, moment, project, tally, range(1, MAX_CALLS + 1))


@pytest.mark.timeout(300)
def test_edit(project: Callable[..., Any], tally: Any) -> None:
    """Traffic that somebody moves in the middle of a canary is not taken for the canary's."""
    assert meddle("REST", "traffic", project, tally, [10]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("way", SPOKEN)
def test_every_edit(way: str, edit: str, project: Callable[..., Any], tally: Any) -> None:
    """An edit in the console at any moment of a promotion is told and mended, and loses nothing."""
    assert meddle(way, edit, project, tally, range(1, MAX_CALLS + 1))
