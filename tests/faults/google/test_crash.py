"""A process that is killed, or whose answer is lost, at any change that it sends to Google Cloud.

The changes are those on the wire: each request of the SDK and of the store. Then somebody else
runs the same verb plainly. It has to end well, and leave the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.manifest import Lineage
from cloudreg.testing.faults import CRASHES, Fault

KILLED = -9
ENDS: dict[str, dict[str, Any]] = {
    "register": {"dev": 2, "prod": 1, "serves": None},
    "apply": {"dev": 1, "prod": 1, "serves": 1},
    "promote": {"dev": 2, "prod": 2, "serves": 2},
    "rollback": {"dev": 2, "prod": 1, "serves": 1},
    "repair": {"dev": 2, "prod": 1, "serves": 1},
    "down": {"dev": 1, "prod": 1, "serves": None},
}
SAMPLE = [
    ("REST", "register", "killed after", 7),
    ("REST", "promote", "lost answer", 4),
    ("REST", "repair", "killed before", 2),
    ("REST", "down", "lost answer", 3),
    ("to zero", "apply", "lost answer", 5),
]
MATRIX = [
    *(("REST", verb) for verb in ENDS),
    *(("gRPC", verb) for verb in ENDS),
    # What is registered has no replicas.
    *(("to zero", verb) for verb in ENDS if verb != "register"),
]
MAX_CALLS = 120


def prepare(verb: str, project: Any) -> None:
    """Bring a new project to where *verb* is due."""
    project.register(1)
    project.build(2)
    if verb in ("register", "apply"):
        project.promote(1)
    if verb == "register":
        return
    project.configure(endpoint=True)
    if verb == "apply":
        return
    project.promote(1)
    if verb == "down":
        return
    project.register(2)
    if verb == "rollback":
        project.promote(2)
    if verb == "repair":
        project.cloud.point(project.model, 2, "prod")


def again(verb: str, ws: Workspace, model: str) -> None:
    """Run *verb* as if nothing had been."""
    match verb:
        case "register":
            ws.register(model, ws.root / "2", lineage=Lineage())
        case "apply":
            ws.apply()
        case "promote":
            ws.promote(f"{model}:2", to="prod")
        case "rollback":
            ws.rollback(model, stage="prod", to=f"{model}:1")
        case "repair":
            ws.repair(model)
        case "down":
            ws.down()


def survive(
    way: str, verb: str, kind: str, project: Any, tally: Any, numbers: Iterable[int]
) -> int:
    """Strike the changes of these numbers, check what is left each time, and return how many."""
    struck = 0
    for number in numbers:
        here = project(way)
        family = f"{here.family}, {kind}"
        prepare(verb, here)
        code = here.crash(verb, Fault(call=number, **CRASHES[kind]))
        calls = here.calls()
        if len(calls) < number:
            assert code == 0, here.log.read_text()
            break
        struck += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        if "killed" in kind:
            assert code == KILLED, here.log.read_text()
        try:
            with here.open() as ws:
                again(verb, ws, here.model)
                here.check(ws, **ENDS[verb])
        except Exception as error:
            error.add_note(f"{verb}, {kind} change {number}: {calls[number - 1].subject}")
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, f"{verb} makes more changes than that"
    return struck


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("way", "verb", "kind", "number"), SAMPLE)
def test_sample(
    way: str, verb: str, kind: str, number: int, project: Callable[..., object], tally: Any
) -> None:
    """One change of each verb survives a fault."""
    assert survive(way, verb, kind, project, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize(("way", "verb"), MATRIX)
def test_every_change(
    way: str, verb: str, kind: str, project: Callable[..., object], tally: Any
) -> None:
    """Every change that a verb sends survives each fault, however it is sent."""
    assert survive(way, verb, kind, project, tally, range(1, MAX_CALLS + 1))
