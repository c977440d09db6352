"""Any sequence of what people, consoles and dying processes do to a workspace of two targets.

A few dictionaries say what must be true, after every step. A process that dies is one whose calls
fail from some call on, looks excepted: nothing of it is heard any more, and the next process takes
over when its lease has ended.

Nothing is served here, so that it is quick: `test_serving_machine` has endpoints too.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cloudreg import Workspace, plugins
from cloudreg.errors import (
    ApprovalRequired,
    CloudregError,
    Conflict,
    GateFailed,
    InvalidRequest,
    NotFound,
    RepairRequired,
)
from cloudreg.manifest import Lineage
from cloudreg.testing.faults import When, faulty
from cloudreg_local import PLUGIN


def _neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"workspace_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


kit = _neighbour("machine")

STAGES = kit.STAGES
TARGETS = ("local", "west")
MIRRORS = {"local": STAGES, "west": ("prod",)}
MODEL = "churn"
CALLS = st.sampled_from(range(1, 15))
TIMES = st.sampled_from([When.BEFORE, When.AFTER])


class Machine(RuleBasedStateMachine):
    """What is done, and what must be true of it."""

    SERVING = False
    VERBS = ("repair", "register", "adopt", "approve")
    """What a process may die of, besides moving a stage."""

    PATIENCE_S = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.clock = kit.Clock()
        self.spaces: list[Workspace] = []
        self.contents: dict[int, bytes] = {}
        self.stages = kit.Stages()
        self.behind: set[tuple[str, str]] = set()
        """Target and stage where a commit counted before the target followed."""
        self.edited: dict[tuple[str, str], int | None] = {}
        """Target and stage, to what a console makes it show."""

    @initialize(
        commit=st.sampled_from(["all", "any", "home-first"]),
        approvals=st.sampled_from([0, 1]),
        past=st.sampled_from([1, 2, 0]),
    )
    def begin(self, commit: str, approvals: int, past: int) -> None:
        """As many versions as *past* says have been everywhere; one more is there."""
        self.commit, self.stages.approvals = commit, approvals
        text = kit.configuration(commit=commit, approvals=approvals, serving=self.SERVING)
        (self.root / "cloudreg.toml").write_text(text)
        self.ws = self.opened()
        self.register()
        for number in range(1, past + 1):
            self.register()
            if approvals:
                self._approve(number, "bob")
            for stage in STAGES[1:]:
                self._promote(number, stage)

    def opened(self, actor: str = "ada") -> Workspace:
        """Return the workspace of a new process."""
        self.life = kit.Life()
        plugins.register(replace(faulty(PLUGIN, self.life), name="mortal"))
        self.spaces.append(
            Workspace.load(
                self.root,
                actor=actor,
                wait_s=5.0,
                timeout_s=self.PATIENCE_S,
                clock=self.clock,
            )
        )
        return self.spaces[-1]

    def deployed(self, stage: str, *, changed: bool) -> None:
        """Take notice of a stage that has its version now."""

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Check that who is refused has written nothing; what targets show is looked at after."""
        before = self.ws.fold(MODEL).head
        try:
            yield
        except CloudregError:
            assert self.ws.fold(MODEL).head == before
            raise

    @rule()
    def register(self) -> None:
        """A new version gets the next number, and the first stage."""
        self._register(self.ws)
        self.stages.enter("dev", max(self.contents))
        self.notice()

    def _register(self, ws: Workspace) -> None:
        number = max(self.contents, default=0) + 1
        folder = self.root / f"build{number}"
        folder.mkdir(exist_ok=True)
        content = f"weights {number}".encode()
        (folder / "weights.txt").write_bytes(content)
        assert ws.register(MODEL, folder, lineage=Lineage()).number == number
        self.contents[number] = content

    @rule(data=st.data())
    def register_again(self, data: Any) -> None:
        """The same files are the same version, and move nothing."""
        number = data.draw(st.sampled_from(sorted(self.contents)))
        again = self.ws.register(MODEL, self.root / f"build{number}", lineage=Lineage())
        assert again.number == number
        if self.stages["dev"] in self.published("local"):
            # The first stage is shown as the ledger has it, whatever a console made of it.
            self.edited.pop(("local", "dev"), None)

    @precondition(lambda self: self.stages.approvals and self.contents.keys() - self.agreed())
    @rule(data=st.data(), actor=st.sampled_from(["bob", "ada"]))
    def approve(self, data: Any, actor: str) -> None:
        """Somebody else can agree to a version; its author cannot."""
        self._approve(data.draw(st.sampled_from(sorted(self.contents))), actor)

    def _approve(self, number: int, actor: str) -> None:
        with self.opened(actor) as ws:
            try:
                ws.approve(f"{MODEL}:{number}", stage="prod")
            except InvalidRequest:
                assert actor == "ada"
            else:
                assert actor == "bob"
                self.stages.approved.add(number)

    @rule(data=st.data(), stage=st.sampled_from(["staging", "prod"]))
    def promote(self, data: Any, stage: str) -> None:
        """A version enters, or is refused for the one reason that there is."""
        self._promote(self.candidate(data, stage), stage)

    def candidate(self, data: Any, stage: str) -> int:
        """Draw a version, rather one that may enter: the others are refused soon enough."""
        every = sorted(self.contents)
        may = [n for n in every if n != self.stages[stage] and self.stages.may_enter(n, stage)]
        drawn: int = data.draw(st.sampled_from(may or every) | st.sampled_from(every))
        return drawn

    def _promote(self, number: int, stage: str) -> None:
        moves = number != self.stages[stage]
        try:
            with self.refusing():
                done = self.ws.promote(f"{MODEL}:{number}", to=stage)
        except RepairRequired:
            assert any(there == stage for _, there in self.edited)
        except GateFailed:
            assert moves
            assert not self.stages.passed(number, stage)
        except ApprovalRequired:
            assert moves
            assert self.stages.wants_approval(number, stage)
        else:
            assert not self.meddled(stage)
            if moves:
                assert self.stages.may_enter(number, stage)
            self.stages.enter(stage, number)
            self.deployed(stage, changed=done.changed)
            self.notice()

    def meddled(self, stage: str) -> bool:
        """Whether somebody moved *stage* by hand: a target that is behind is no such thing."""
        behind = self.behind
        return any(
            there == stage and (target, there) not in behind for target, there in self.edited
        )

    @precondition(lambda self: self.stages.vague or any(map(self.stages.under, STAGES[1:])))
    @rule(data=st.data())
    def roll_back(self, data: Any) -> None:
        """A stage goes back to what it held before, once for each time."""
        every = STAGES[1:]
        may = [stage for stage in every if self.stages.under(stage) or stage in self.stages.vague]
        stage = data.draw(st.sampled_from(may or every) | st.sampled_from(every))
        try:
            with self.refusing():
                version = self.ws.rollback(MODEL, stage=stage).version
        except RepairRequired:
            assert any(there == stage for _, there in self.edited)
        except NotFound:
            assert not self.stages.under(stage) or stage in self.stages.vague
        else:
            assert version is not None
            assert not self.meddled(stage)
            self.stages.back(stage, version.number)
            self.deployed(stage, changed=True)
            self.notice()

    def published(self, target: str) -> list[int]:
        shown = self.ws.targets[target].registry.published(MODEL)
        return sorted({version.number for version in shown})

    @rule(data=st.data(), place=st.sampled_from(TARGETS))
    def edit(self, data: Any, place: str) -> None:
        """Somebody moves a stage in a target's own console."""
        target = place
        stage = data.draw(st.sampled_from(MIRRORS[target]))
        number = data.draw(st.sampled_from([None, *self.published(target)]))
        digest = None if number is None else self.ws.version(f"{MODEL}:{number}").digest
        self.ws.targets[target].registry.point(MODEL, stage, digest)
        self.notice()

    @rule(data=st.data(), place=st.sampled_from(TARGETS))
    def withdraw(self, data: Any, place: str) -> None:
        """Somebody removes a version in a console, which refuses what one of its stages shows."""
        target = place
        number = data.draw(st.sampled_from(sorted(self.contents)))
        shown = [stage for stage in MIRRORS[target] if self.shown(target, stage) == number]
        digest = self.ws.version(f"{MODEL}:{number}").digest
        try:
            self.ws.targets[target].registry.withdraw(MODEL, digest)
        except Conflict:
            assert shown
        else:
            assert not shown
            assert number not in self.published(target)

    def notice(self) -> None:
        """Remember where a target shows something else than the ledger, and why."""
        behind = self.ws.fold(MODEL).behind
        self.behind = {(target, stage) for stage, there in behind.items() for target in there}
        self.edited = {
            (target, stage): shown
            for target, stages in MIRRORS.items()
            for stage in stages
            if (shown := self.shown(target, stage)) != self.stages[stage]
        }

    def shown(self, target: str, stage: str) -> int | None:
        """Return what a target shows in a stage: one version at most."""
        published = self.ws.targets[target].registry.published(MODEL)
        numbers = [version.number for version in published if stage in version.stages]
        assert len(numbers) < 2, f"{target} shows {numbers} in {stage}"
        return next(iter(numbers), None)

    def repair(self) -> None:
        self.ws.repair(MODEL)
        self.edited.clear()
        self.behind.clear()
        assert self.ws.drift(MODEL) == []

    @precondition(lambda self: self.astray() or self.behind)
    @rule()
    def look(self) -> None:
        """After a repair every target is what the ledger says, to the last byte."""
        self.repair()
        self.check()

    def check(self) -> None:
        assert self.ws.fold(MODEL).behind == {}
        for target, stages in MIRRORS.items():
            for stage in stages:
                assert self.shown(target, stage) == self.stages[stage]
        wanted = {
            target: [self.contents[n] for s in stages if (n := self.stages[s]) is not None]
            for target, stages in MIRRORS.items()
        }
        wanted["local"] = list(self.contents.values())
        kit.check_bytes(self.ws, wanted)

    def astray(self) -> set[str]:
        """Return the targets that show something else than the ledger."""
        return {target for target, _ in self.edited}

    @precondition(lambda self: self.astray())
    @rule(data=st.data())
    def adopt(self, data: Any) -> None:
        """What a target shows is true from now on; nothing of it is changed."""
        target = data.draw(st.sampled_from(sorted(self.astray())))
        self.ws.adopt(MODEL, target=target, reason="it was meant")
        self.adopted(target)
        self.notice()
        assert target not in self.astray()

    def adopted(self, target: str) -> None:
        for (there, stage), number in self.edited.items():
            if there == target:
                self.stages.become(stage, number)

    @rule(
        data=st.data(),
        verb=st.sampled_from(["promote", "promote", "rollback"]),
        stage=st.sampled_from(["prod", "staging"]),
        call=CALLS,
        when=TIMES,
    )
    def die_moving(self, data: Any, verb: str, stage: str, call: int, when: When) -> None:
        """A process dies at one of its changes; the next one finds all as before, or all done."""
        self._die(verb, stage, self.candidate(data, stage), call, when)

    @rule(data=st.data(), call=CALLS, when=TIMES)
    def die(self, data: Any, call: int, when: When) -> None:
        """So it does where no stage was to move."""
        verb = data.draw(st.sampled_from(self.VERBS))
        number = data.draw(st.sampled_from(sorted(self.contents)))
        self._die(verb, "prod", number, call, when)

    def _die(self, verb: str, stage: str, number: int, call: int, when: When) -> None:
        dying = self.opened("bob" if verb == "approve" else "ada")
        life, life.left, life.when = self.life, call, when
        with suppress(kit.Died, CloudregError):  # nobody hears what it says
            self.acts(dying, stage, number)[verb]()
        life.dead = True
        # Nobody renews its lease any more.
        self.clock.now += 3600.0
        self.ws = self.opened()
        if verb == "register":
            self._register_at_last()
        self.ws.settle(MODEL)
        self.follow(verb, stage, number)
        self.notice()

    def acts(self, dying: Workspace, stage: str, number: int) -> dict[str, Callable[[], object]]:
        return {
            "promote": lambda: dying.promote(f"{MODEL}:{number}", to=stage),
            "rollback": lambda: dying.rollback(MODEL, stage=stage),
            "repair": lambda: dying.repair(MODEL),
            "register": lambda: self._register(dying),
            "adopt": lambda: dying.adopt(MODEL, reason="it was meant"),
            "approve": lambda: dying.approve(f"{MODEL}:{number}", stage="prod"),
        }

    def _register_at_last(self) -> None:
        """Register what a dead process was about to: it gets the number that is due."""
        number = max(self.contents) + 1
        folder = self.root / f"build{number}"
        if folder.exists():
            assert self.ws.register(MODEL, folder, lineage=Lineage()).number == number
            self.contents[number] = (folder / "weights.txt").read_bytes()

    def follow(self, verb: str, stage: str, number: int) -> None:
        """Take over what the ledger says after a death, if it is one of the two that may be."""
        fold = self.ws.fold(MODEL)
        newest = max(self.contents)
        for name in STAGES:
            holder = fold.stages.get(name)
            now, was = holder.number if holder is not None else None, self.stages[name]
            if now == was:
                continue
            match verb:
                case "promote" | "rollback":
                    assert name == stage
                    assert now in self.stages.may_be(verb, stage, number)
                case "register":
                    assert (name, now) == ("dev", newest)
                case "adopt":
                    assert now == self.edited[TARGETS[0], name]
                case _:
                    raise AssertionError(f"{verb} moved {name} from {was} to {now}")
            self.stages.become(name, now)
        if verb == "register":
            self.stages.been["dev"].add(newest)
            self.stages.held["dev"] = [newest]
        if verb == "approve" and number in self.agreed():
            self.stages.approved.add(number)

    def agreed(self) -> set[int]:
        """Return the versions to which somebody agreed, as the ledger says."""
        return {one.number for one in self.ws.versions(MODEL) if one.approvals.get("prod")}

    @invariant()
    def truth(self) -> None:
        """The ledger is whole, nothing is under way, and the stages are where they should be."""
        if not self.spaces:
            return
        assert self.ws.verify(MODEL).problems == ()
        fold = self.ws.fold(MODEL)
        assert fold.open is None
        assert {s: h.number for s, h in fold.stages.items()} == self.stages.now()
        assert [version.number for version in self.ws.versions(MODEL)] == sorted(
            self.contents, reverse=True
        )
        assert self.agreed() == self.stages.approved
        drift = self.ws.drift(MODEL)
        drifted = {(one.target, one.name) for one in drift if one.kind == "stage"}
        assert drifted == {(target, f"{MODEL}@{stage}") for target, stage in self.edited}
        for target, stages in MIRRORS.items():
            for stage in stages:
                assert self.shown(target, stage) == self.edited.get(
                    (target, stage), self.stages[stage]
                )
        others = {(one.kind, one.name) for one in drift if one.kind != "stage"}
        assert others == {("endpoint", name) for name in self.strays()}

    def strays(self) -> set[str]:
        """Return the endpoints that are not what the ledger says."""
        return set()

    def teardown(self) -> None:
        """Whatever happened, a repair ends it, and no byte was lost."""
        try:
            if self.spaces:
                self.look()
                for number, content in self.contents.items():
                    copy = self.root / "copy" / str(number)
                    self.ws.download(f"{MODEL}:{number}", copy)
                    assert (copy / "weights.txt").read_bytes() == content
                self.end()
        finally:
            kit.stop(self.root)
            for space in self.spaces:
                space.close()
            plugins._registered.pop("mortal", None)
            shutil.rmtree(self.root, ignore_errors=self.SERVING)

    def end(self) -> None:
        """Take away what serves."""


def run(machine: type[Machine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            # A step takes a tenth of a second: what failed is printed as it was, and not shrunk.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_workspaces() -> None:
    """After any of it the ledger counts, and whatever differs is told and mended."""
    run(Machine, 3, 20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_workspaces() -> None:
    """The same, for longer."""
    run(Machine, 200, 40)
