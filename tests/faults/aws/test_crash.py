"""A process that is killed, or whose answer is lost, at any change that it sends to AWS.

Unlike on the local provider the changes are those on the wire: each call of boto3 and of obstore.
Then somebody else runs the same verb plainly. It has to end well, and leave the truth.
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
MAX_CALLS = 120


def prepare(verb: str, project: Any) -> None:
    """Bring a new project to where *verb* is due."""
    if verb not in ("register", "apply"):
        project.configure(endpoint=True)
    with project.open("ada") as ws:
        project.register(ws, 1)
        project.promote(ws, 1)
        if verb in ("promote", "rollback", "repair"):
            project.register(ws, 2)
        if verb == "register":
            project.build(2)
        if verb == "rollback":
            project.promote(ws, 2)
        if verb == "repair":
            # What somebody did in a console.
            second = ws.version(f"{project.model}:2")
            ws.targets["aws"].registry.point(project.model, "prod", second.digest)
    if verb == "apply":
        project.configure(endpoint=True)


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


def survive(verb: str, kind: str, project: Any, tally: Any, numbers: Iterable[int]) -> int:
    """Strike the changes of these numbers, check what is left each time, and return how many."""
    struck = 0
    family = f"AWS, {kind}"
    for number in numbers:
        here = project()
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
        hit = calls[number - 1]
        try:
            with here.open() as ws:
                again(verb, ws, here.model)
                here.check(ws, **ENDS[verb])
            if ENDS[verb]["serves"] is not None:
                here.check_tidy()
        except Exception as error:
            error.add_note(f"{verb}, {kind} change {number}: {hit.verb} {hit.subject}")
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, f"{verb} makes more changes than that"
    return struck


SAMPLE = [
    ("register", "lost answer", 6),
    ("apply", "killed before", 6),
    ("apply", "lost answer", 4),
    ("promote", "lost answer", 8),
    ("rollback", "killed before", 2),
    ("repair", "killed after", 4),
    ("down", "lost answer", 4),
]
"""A few changes of each verb; `test_every_change` has them all."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("verb", "kind", "number"), SAMPLE)
def test_sample(
    verb: str, kind: str, number: int, project: Callable[..., object], tally: Any
) -> None:
    """One change of each verb survives a fault."""
    assert survive(verb, kind, project, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize("verb", ENDS)
def test_every_change(verb: str, kind: str, project: Callable[..., object], tally: Any) -> None:
    """Every change that a verb sends survives each fault."""
    assert survive(verb, kind, project, tally, range(1, MAX_CALLS + 1))
