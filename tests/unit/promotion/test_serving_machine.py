"""Any sequence of what people, consoles and dying processes do, while endpoints serve.

The machine of `test_workspace_machine` with an endpoint of the last stage on each target: real
supervisors and real servers. That costs processes, about four seconds a run: it does half as many
runs, of 30 steps each. All that is checked there is checked here, too.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from cloudreg import Workspace
from cloudreg.errors import NotFound


def _neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"serving_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


base = _neighbour("test_workspace_machine")
kit = base.kit

ENDPOINTS: dict[str, str] = kit.ENDPOINTS
LAST = base.STAGES[-1]
MOVES = ("promote", "rollback")
CHANGES = (*MOVES, "apply")


class Serving(base.Machine):  # type: ignore[misc]  # the neighbour is loaded by its path
    """The same, with endpoints that follow the last stage."""

    SERVING = True
    VERBS = (*base.Machine.VERBS, "apply", "down")
    PATIENCE_S = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.fleet = kit.Fleet()

    def deployed(self, stage: str, *, changed: bool) -> None:
        if stage != LAST:
            return
        number = self.stages[LAST]
        assert number is not None
        if changed:
            self.fleet.deploy(number, ENDPOINTS, recording=True)
        else:
            assert not self.fleet.differs(number)

    @precondition(lambda self: self.lacking())
    @rule()
    def apply(self) -> None:
        """Endpoints become what is configured; once they are, there is nothing to do."""
        number = self.stages[LAST]
        differs = number is not None and self.fleet.differs(number)
        edited = set(self.edited)
        assert self.ws.apply().changed == differs
        if number is not None:
            self.fleet.deploy(number, ENDPOINTS, recording=False)
        self.notice()
        # Who follows the home is shown the stage, too.
        assert set(self.edited) <= edited
        assert not self.ws.apply().changed

    def lacking(self) -> bool:
        """Whether an endpoint is not as configured, or has nothing that it could serve."""
        number = self.stages[LAST]
        return number is None or self.fleet.differs(number)

    @precondition(lambda self: self.fleet.applied or self.fleet.running)
    @rule(names=st.sampled_from([(), *((name,) for name in ENDPOINTS)]))
    def take_down(self, names: tuple[str, ...]) -> None:
        """Endpoints go, all of them where none is named; stages stay."""
        there = {*self.fleet.applied, *self.fleet.running}
        wanted = set(names) or there
        try:
            with self.refusing():
                removed = self.ws.down(*names)
        except NotFound:
            assert not wanted <= there
        else:
            assert removed == {name: ENDPOINTS[name] for name in wanted}
            self.fleet.remove(wanted)
            self.notice()

    @precondition(lambda self: self.fleet.running)
    @rule(data=st.data(), what=st.sampled_from(["version", "scaling", "gone", "env"]))
    def meddle(self, data: Any, what: str) -> None:
        """Somebody changes an endpoint in a target's console."""
        name = data.draw(st.sampled_from(sorted(self.fleet.running)))
        shape = self.fleet.running[name]
        facts = {"number": shape.number, "mark": shape.mark, "most": shape.most}
        match what:
            case "version":
                others = [n for n in self.published(ENDPOINTS[name]) if n != shape.number]
                facts["number"] = data.draw(st.sampled_from(others or [shape.number]))
            case "scaling":
                facts["most"] = 3 - shape.most
            case "env":
                facts["mark"] = "" if shape.mark else "hand"
        after = None if what == "gone" else kit.Shape(**facts)
        kit.change(self.ws, name, after)
        if after is None:
            del self.fleet.running[name]
        else:
            self.fleet.running[name] = after

    def repair(self) -> None:
        self.followed()
        self.fleet.mend()
        super().repair()

    def followed(self) -> None:
        """Take notice of targets that were behind in the last stage, and are brought up."""
        number = self.stages[LAST]
        late = {target for target, stage in self.behind if stage == LAST}
        if number is not None:
            names = [name for name, target in ENDPOINTS.items() if target in late]
            self.fleet.deploy(number, names, recording=True)

    def check(self) -> None:
        super().check()
        assert kit.served(self.ws) == self.fleet.applied
        kit.check_answers(self.ws, self.fleet.running)

    def strays(self) -> set[str]:
        return set(self.fleet.astray)

    def astray(self) -> set[str]:
        return super().astray() | {ENDPOINTS[name] for name in self.strays()}

    def adopted(self, target: str) -> None:
        super().adopted(target)
        self.fleet.adopt(target)

    def acts(self, dying: Workspace, stage: str, number: int) -> dict[str, Callable[[], object]]:
        return {**super().acts(dying, stage, number), "apply": dying.apply, "down": dying.down}

    def follow(self, verb: str, stage: str, number: int) -> None:
        """Take over what endpoints are after a death: as before, or as they were to be."""
        super().follow(verb, stage, number)
        recorded, running = kit.recorded(self.ws.fold(base.MODEL)), kit.served(self.ws)
        before, after = self.fleet, kit.Fleet(applied=recorded, running=running)
        for name in ENDPOINTS:
            assert after.pair(name) in self.may_be(verb, stage, name), (verb, name, before, after)
        changed = any(after.pair(name) != before.pair(name) for name in ENDPOINTS)
        if changed and (verb == "down" or (self.commit == "all" and verb in CHANGES)):
            number = None if verb == "down" else self.stages[LAST]
            numbers = {shape.number if (shape := running.get(n)) else None for n in ENDPOINTS}
            assert numbers == {number}, f"{verb} did one half: {before}, {after}"
        self.fleet = after

    def may_be(self, verb: str, stage: str, name: str) -> list[Any]:
        """Return what the ledger may say of an endpoint, with what it may be."""
        recorded, running = self.fleet.pair(name)
        now = self.stages[LAST]
        wanted = kit.Shape(number=now) if now is not None else None
        may = [(recorded, running)]
        is_meant = verb in ("apply", "repair") or (stage == LAST and verb in MOVES)
        if wanted is not None and is_meant:
            may.append((wanted, wanted))
        match verb:
            case "down":
                may.append((None, None))
            case "repair" if recorded is not None:
                may.append((recorded, recorded))
            case "adopt" if ENDPOINTS[name] == base.TARGETS[0]:
                may.append((running, running))
        return may

    def notice(self) -> None:
        """Compare what is, and what is written down, with what must be."""
        super().notice()
        assert kit.served(self.ws) == self.fleet.running
        assert kit.recorded(self.ws.fold(base.MODEL)) == self.fleet.applied

    def end(self) -> None:
        """With the last endpoint nothing is left that serves."""
        removed = self.ws.down()
        assert set(removed) == set(self.fleet.applied)
        assert kit.served(self.ws) == {}
        assert self.ws.drift(base.MODEL) == []


def test_served_workspaces() -> None:
    """After any of it endpoints are what the dictionaries say, and answer so."""
    base.run(Serving, 2, 10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_served_workspaces() -> None:
    """The same, for longer."""
    base.run(Serving, 100, 30)
