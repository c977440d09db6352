"""A process that is killed, or whose answer is lost, at any change that any verb makes.

For each verb: at its first change, its second, and so on until there are no more, the process is
killed before the call, killed after it, or told that the answer was lost. Then somebody else runs
the same verb plainly. It has to end well, and leave the truth.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloudreg import Workspace
from cloudreg.manifest import Lineage
from cloudreg.testing.faults import CRASHES, Fault

KILLED = -9


MAX_CALLS = 80


class Scenario:
    """A verb in its place.

    Attributes:
        verb: In `forge.VERBS`.
        stages: What the ledger must say in the end.
        serves: The version that both endpoints must serve in the end; None: they are gone.
        parity: Whether both targets are asked before traffic moves.
    """

    def __init__(
        self,
        verb: str,
        *,
        stages: dict[str, int],
        serves: int | None = None,
        parity: bool = False,
    ) -> None:
        self.verb, self.stages, self.serves = verb, stages, serves
        self.parity = parity

    def prepare(self, project) -> None:
        if self.parity:
            project.configure(parity=True)
        if self.verb in ("promote-endpoint", "rollback", "down", "repair", "apply"):
            with project.open("ada") as ws:
                if self.verb != "apply":
                    ws.apply()
                if self.verb in ("promote-endpoint", "rollback"):
                    ws.promote("churn:2", to="staging")
                if self.verb == "rollback":
                    ws.promote("churn:2", to="prod")
        if self.verb in ("repair", "adopt"):
            # What somebody did in a console.
            with project.open("ada") as ws:
                second = ws.version("churn:2")
                registry = ws.targets["local"].registry
                registry.point("churn", "prod", second.digest)

    def again(self, ws: Workspace) -> None:
        match self.verb:
            case "register":
                ws.register("churn", ws.root / "build" / "new", lineage=Lineage())
            case "approve":
                ws.approve("churn:2", stage="prod")
            case "promote":
                ws.promote("churn:2", to="staging")
            case "promote-endpoint":
                ws.promote("churn:2", to="prod")
            case "promote-first":
                ws.promote("churn:1", to="dev")
            case "apply":
                ws.apply()
            case "rollback":
                ws.rollback("churn", stage="prod", to="churn:1")
            case "down":
                ws.down()
            case "repair":
                ws.repair("churn")
            case "adopt":
                ws.adopt("churn", reason="the console was right")
                ws.repair("churn")


SCENARIOS = {
    "register": Scenario("register", stages={"dev": 3, "staging": 1, "prod": 1}),
    "approve": Scenario("approve", stages={"dev": 2, "staging": 1, "prod": 1}),
    "promote": Scenario("promote", stages={"dev": 2, "staging": 2, "prod": 1}),
    "promote-first": Scenario("promote-first", stages={"dev": 1, "staging": 1, "prod": 1}),
    "promote-endpoint": Scenario(
        "promote-endpoint", stages={"dev": 2, "staging": 2, "prod": 2}, serves=2
    ),
    "promote-parity": Scenario(
        "promote-endpoint", stages={"dev": 2, "staging": 2, "prod": 2}, serves=2, parity=True
    ),
    "apply": Scenario("apply", stages={"dev": 2, "staging": 1, "prod": 1}, serves=1),
    "rollback": Scenario("rollback", stages={"dev": 2, "staging": 2, "prod": 1}, serves=1),
    "down": Scenario("down", stages={"dev": 2, "staging": 1, "prod": 1}),
    "repair": Scenario("repair", stages={"dev": 2, "staging": 1, "prod": 1}, serves=1),
    "adopt": Scenario("adopt", stages={"dev": 2, "staging": 1, "prod": 2}),
}


def survive(scenario: Scenario, kind: str, project, tally, *, first: int, stride: int) -> int:
    """Strike every *stride*-th change, check what is left each time, and return how many."""
    struck = 0
    for number in range(first, MAX_CALLS, stride):
        here = project()
        scenario.prepare(here)
        code = here.crash(scenario.verb, Fault(call=number, **CRASHES[kind]))
        if len(here.calls()) < number:
            assert code == 0, here.log.read_text()
            break
        struck += 1
        tally.tried[kind] = tally.tried.get(kind, 0) + 1
        if "killed" in kind:
            assert code == KILLED, here.log.read_text()
        with here.open() as ws:
            where = f"{scenario.verb}, {kind} change {number}: {here.calls()[-1]}"
            try:
                scenario.again(ws)
                here.check(ws)
                stages = {s: h.number for s, h in ws.fold("churn").stages.items()}
                assert stages == scenario.stages
                names = sorted(
                    e.spec.name for t in ws.targets for e in ws.targets[t].endpoints.endpoints()
                )
                assert names == (["churn-other", "churn-prod"] if scenario.serves else [])
                for name in names:
                    assert here.served(ws, name) == scenario.serves
            except Exception as error:
                error.add_note(where)
                raise
        tally.survived[kind] = tally.survived.get(kind, 0) + 1
    else:
        pytest.fail(f"{scenario.verb} makes more than {MAX_CALLS} changes")
    return struck


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, list(CRASHES)[n % len(CRASHES)]) for n, name in enumerate(SCENARIOS)],
)
def test_sample(name: str, kind: str, project: Callable[..., object], tally) -> None:
    """A sample of the changes of each verb survives one fault each, all faults in turn."""
    first = 1 + list(CRASHES).index(kind)
    stride = {"register": 5, "approve": 1}.get(name, 13)
    survive(SCENARIOS[name], kind, project, tally, first=first, stride=stride)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_change(name: str, kind: str, project: Callable[..., object], tally) -> None:
    """Every change of each verb survives each fault."""
    assert survive(SCENARIOS[name], kind, project, tally, first=1, stride=1)
