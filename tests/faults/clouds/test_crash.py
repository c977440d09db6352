"""A process that is killed, or whose answer is lost, at any change that it sends to two clouds.

The changes are those on the wire, to whichever cloud. Then somebody else runs the same verb
plainly, or does something else: it has to end well, and leave one truth on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import NotFound
from cloudreg.testing.faults import CRASHES, Fault, recorded

KILLED = -9
ENDS: dict[str, int | None] = {
    "promote": 2,
    "promote-parity": 2,
    "rollback": 1,
    "repair": 1,
    "down": None,
}
"""Which version both clouds serve in the end.

With parity both clouds are asked the same before traffic moves: SageMaker on an endpoint that
comes and goes for it, Vertex AI on the endpoint itself.
"""

MAX_CALLS = 160


def prepare(verb: str, here: Any) -> None:
    """Bring a project to where *verb* is due: on both clouds."""
    here.promoted(1)
    with here.open() as ws:
        here.register(ws, 2)
        if verb == "rollback":
            ws.promote(f"{here.model}:2", to="prod")
        if verb == "repair":
            # What somebody did in the consoles.
            second = ws.version(f"{here.model}:2")
            registry = ws.targets["aws"].registry
            registry.publish(second)
            registry.point(here.model, "prod", second.digest)
            ws.targets["gcp"].registry.point(here.model, "prod", None)


def again(verb: str, ws: Workspace, model: str) -> None:
    """Run *verb* as if nothing had been."""
    match verb:
        case "promote" | "promote-parity":
            ws.promote(f"{model}:2", to="prod")
        case "rollback":
            ws.rollback(model, stage="prod", to=f"{model}:1")
        case "repair":
            ws.repair(model)
        case "down":
            with suppress(NotFound):  # it was done, and nobody heard of it
                ws.down(f"{model}-aws", f"{model}-gcp")


def survive(
    verb: str,
    kind: str,
    project: Callable[..., Any],
    forge: Callable[[dict[str, Any]], Any],
    tally: Any,
    numbers: Iterable[int],
) -> int:
    """Strike the changes of these numbers, check what is left each time, and return how many."""
    struck = 0
    family = f"two clouds, {kind}"
    for number in numbers:
        here = project(home="aws", parity=verb == "promote-parity")
        prepare(verb, here)
        record, log = here.root / "calls.jsonl", here.root / "forge.log"
        case = {
            "root": str(here.root),
            "verb": verb.removesuffix("-parity"),
            "model": here.model,
            "faults": [Fault(call=number, **CRASHES[kind]).to_json()],
            "record": str(record),
            "log": str(log),
        }
        (code,) = forge({"cases": [case]})
        calls = recorded(record)
        if len(calls) < number:
            assert code == 0, log.read_text()
            here.clean()
            break
        struck += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        if "killed" in kind:
            assert code == KILLED, log.read_text()
        hit = calls[number - 1]
        try:
            finish(verb, here, number)
        except BaseException as error:
            error.add_note(f"{verb}, {kind} change {number}: {hit.verb} {hit.subject}")
            error.add_note(log.read_text())
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, f"{verb} makes more changes than that"
    return struck


def finish(verb: str, here: Any, number: int) -> None:
    """Do it again, or go another way every third time, and look at both clouds."""
    end = ENDS[verb]
    with here.open() as ws:
        if number % 3 == 0 and verb.startswith(("promote", "rollback")):
            # Somebody else wants the other version there.
            other = 3 - (end or 0)
            ws.promote(f"{here.model}:{other}", to="prod")
            here.check(number=other)
            return
        again(verb, ws, here.model)
    if end is not None:
        here.check(number=end)
        return
    with here.open() as ws:
        assert ws.verify(here.model).ok
        assert ws.drift(here.model) == []
        for cloud in ("aws", "gcp"):
            assert ws.targets[cloud].endpoints.endpoint(f"{here.model}-{cloud}") is None


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("verb", "kind", "number"),
    [
        pytest.param("promote-parity", "killed after", 14, marks=pytest.mark.slow),
        ("rollback", "lost answer", 5),
    ],
)
def test_sample(verb: str, kind: str, number: int, project: Any, forge: Any, tally: Any) -> None:
    """A change of a verb across both clouds survives a fault."""
    assert survive(verb, kind, project, forge, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize("verb", ENDS)
def test_every_change(verb: str, kind: str, project: Any, forge: Any, tally: Any) -> None:
    """Every change that a verb sends to either cloud survives each fault."""
    assert survive(verb, kind, project, forge, tally, range(1, MAX_CALLS + 1))
