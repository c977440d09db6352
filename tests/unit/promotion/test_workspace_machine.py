"""Any sequence of what people, consoles and dying processes do to a workspace of two targets.

A few dictionaries say what must be true. A process that dies is one whose calls fail from some
call on, looks excepted: nothing of it is heard any more, and the next process takes over when its
lease has ended.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

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
from cloudreg.errors import CloudregError, GateFailed, NotFound, RepairRequired
from cloudreg.manifest import Lineage
from cloudreg.testing.faults import Faults, When, faulty
from cloudreg_local import PLUGIN

T = TypeVar("T")

STAGES = ("dev", "staging", "prod")
TARGETS = ("local", "west")
MIRRORS = {"local": STAGES, "west": ("prod",)}
MODEL = "churn"
TOML = """
[targets.local]
provider = "mortal"
path = ".local"

[targets.west]
provider = "mortal"
path = ".west"

[stages.dev]
[stages.staging]
gates = []
[stages.prod]
targets = ["local", "west"]
commit = "{commit}"
gates = []
"""


class Died(BaseException):
    """The process is no more."""


class Life(Faults):
    """Calls of a process, which dies at one of them, and is not heard afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.when = When.BEFORE
        self.dead = False

    def around(self, target: str, verb: str, subject: str, act: Callable[[], T]) -> T:
        if self.dead:
            raise Died
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.dead = True
                if self.when is When.AFTER:
                    act()
                raise Died
        return act()


class Clock:
    """Time that passes when somebody says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Machine(RuleBasedStateMachine):
    """What is done, and what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.lives: list[Life] = []
        self.spaces: list[Workspace] = []
        self.contents: dict[int, bytes] = {}
        self.held: dict[str, list[int]] = {stage: [] for stage in STAGES}
        """What each stage held, the present version last; what was gone back from is not there."""
        self.been: dict[str, set[int]] = {stage: set() for stage in STAGES}
        self.behind: set[tuple[str, str]] = set()
        """Target and stage where a commit counted before the target followed."""
        self.vague: set[str] = set()
        """Stages of which only the ledger knows what they held before."""
        self.edited: dict[tuple[str, str], int | None] = {}
        """Target and stage, to what a console makes it show."""

    @initialize(commit=st.sampled_from(["all", "any", "home-first"]))
    def begin(self, commit: str) -> None:
        (self.root / "cloudreg.toml").write_text(TOML.format(commit=commit))
        self.ws = self.opened()
        self.register()

    def opened(self) -> Workspace:
        """Return the workspace of a new process."""
        life = Life()
        self.lives.append(life)
        plugins.register(replace(faulty(PLUGIN, life), name="mortal"))
        self.spaces.append(
            Workspace.load(self.root, actor="ada", wait_s=5.0, timeout_s=5.0, clock=self.clock)
        )
        self.life = life
        return self.spaces[-1]

    def present(self, stage: str) -> int | None:
        return self.held[stage][-1] if self.held[stage] else None

    def enter(self, stage: str, number: int) -> None:
        if self.present(stage) != number:
            self.held[stage].append(number)
        self.been[stage].add(number)

    @rule()
    def register(self) -> None:
        """A new version gets the next number, and the first stage."""
        self._register(self.ws)
        self.enter("dev", max(self.contents))
        self.look()

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
        # The first stage is shown as the ledger has it, whatever a console made of it.
        self.edited.pop(("local", "dev"), None)

    @rule(data=st.data(), stage=st.sampled_from(["staging", "prod"]))
    def promote(self, data: Any, stage: str) -> None:
        """A version enters, or is refused for the one reason that there is."""
        number = data.draw(st.sampled_from(sorted(self.contents)))
        before = STAGES[STAGES.index(stage) - 1]
        try:
            self.ws.promote(f"{MODEL}:{number}", to=stage)
        except RepairRequired:
            assert any(there == stage for _, there in self.edited)
        except GateFailed:
            assert number not in self.been[before]
        else:
            assert not self.meddled(stage)
            known = number in self.been[before] or number == self.present(stage)
            assert known, f"{number} was never in {before}, only {self.been[before]}"
            self.enter(stage, number)
            self.look()

    def meddled(self, stage: str) -> bool:
        """Whether somebody moved *stage* by hand: a target that is behind is no such thing."""
        behind = self.behind
        return any(
            there == stage and (target, there) not in behind for target, there in self.edited
        )

    @rule(stage=st.sampled_from(["staging", "prod"]))
    def roll_back(self, stage: str) -> None:
        """A stage goes back to what it held before, once for each time."""
        try:
            version = self.ws.rollback(MODEL, stage=stage).version
        except RepairRequired:
            assert any(there == stage for _, there in self.edited)
        except NotFound:
            assert len(self.held[stage]) < 2 or stage in self.vague
        else:
            assert version is not None
            assert not self.meddled(stage)
            if stage in self.vague:
                assert version.number in self.been[stage]
                self.held[stage] = [version.number]
            else:
                self.held[stage].pop()
                assert version.number == self.present(stage)
            self.look()

    @rule(data=st.data(), place=st.sampled_from(TARGETS))
    def edit(self, data: Any, place: str) -> None:
        """Somebody moves a stage in a target's own console."""
        target = place
        stage = data.draw(st.sampled_from(MIRRORS[target]))
        registry = self.ws.targets[target].registry
        published = sorted({version.number for version in registry.published(MODEL)})
        number = data.draw(st.sampled_from([None, *published]))
        digest = None if number is None else self.ws.version(f"{MODEL}:{number}").digest
        registry.point(MODEL, stage, digest)
        self.look()

    def look(self) -> None:
        """Remember where a target shows something else than the ledger, and why."""
        behind = self.ws.fold(MODEL).behind
        self.behind = {(target, stage) for stage, there in behind.items() for target in there}
        self.edited = {
            (target, stage): shown
            for target, stages in MIRRORS.items()
            for stage in stages
            if (shown := self.shown(target, stage)) != self.present(stage)
        }

    def shown(self, target: str, stage: str) -> int | None:
        registry = self.ws.targets[target].registry
        return next((v.number for v in registry.published(MODEL) if stage in v.stages), None)

    @rule()
    def repair(self) -> None:
        """Every target shows what the ledger says."""
        self.ws.repair(MODEL)
        self.edited.clear()
        assert self.ws.drift(MODEL) == []

    @precondition(lambda self: self.edited)
    @rule(data=st.data())
    def adopt(self, data: Any) -> None:
        """What a target shows is true from now on; nothing of it is changed."""
        target = data.draw(st.sampled_from(sorted({there for there, _ in self.edited})))
        self.ws.adopt(MODEL, target=target, reason="it was meant")
        for (there, stage), number in list(self.edited.items()):
            if there != target:
                continue
            self.held[stage] = [number] if number is not None else []
            if number is not None:
                self.been[stage].add(number)
            # What a rollback goes back to from here, the ledger knows.
            self.vague.add(stage)
        self.look()
        assert not any(there == target for there, _ in self.edited)

    @rule(
        data=st.data(),
        verb=st.sampled_from(["promote", "rollback", "repair", "register", "adopt"]),
        call=st.integers(min_value=1, max_value=14),
        when=st.sampled_from([When.BEFORE, When.AFTER]),
    )
    def die(self, data: Any, verb: str, call: int, when: When) -> None:
        """A process dies at one of its changes; the next one finds all as before, or all done."""
        stage = data.draw(st.sampled_from(["staging", "prod"]))
        number = data.draw(st.sampled_from(sorted(self.contents)))
        dying = self.opened()
        life, life.left, life.when = self.life, call, when
        acts: dict[str, Callable[[], object]] = {
            "promote": lambda: dying.promote(f"{MODEL}:{number}", to=stage),
            "rollback": lambda: dying.rollback(MODEL, stage=stage),
            "repair": lambda: dying.repair(MODEL),
            "register": lambda: self._register(dying),
            "adopt": lambda: dying.adopt(MODEL, reason="it was meant"),
        }
        with suppress(Died, CloudregError):  # nobody hears what it says
            acts[verb]()
        life.dead = True
        # Nobody renews its lease any more.
        self.clock.now += 3600.0
        self.ws = self.opened()
        if verb == "register":
            self._register_at_last()
        self.ws.settle(MODEL)
        self.follow(verb, stage, number)
        self.look()

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
            now, was = holder.number if holder is not None else None, self.present(name)
            if now == was:
                continue
            match verb:
                case "promote":
                    assert (name, now) == (stage, number)
                case "rollback":
                    assert name == stage
                    assert now in (
                        self.been[stage] if stage in self.vague else self.held[stage][-2:]
                    )
                case "register":
                    assert (name, now) == ("dev", newest)
                case "adopt":
                    assert now == self.edited[TARGETS[0], name]
                case _:
                    raise AssertionError(f"{verb} moved {name} from {was} to {now}")
            self.held[name] = [now] if now is not None else []
            if now is not None:
                self.been[name].add(now)
            self.vague.add(name)
        if verb == "register":
            self.been["dev"].add(newest)
            self.held["dev"] = [newest]

    @invariant()
    def truth(self) -> None:
        """The ledger is whole, nothing is under way, and the stages are where they should be."""
        if not self.spaces:
            return
        assert self.ws.verify(MODEL).problems == ()
        fold = self.ws.fold(MODEL)
        assert fold.open is None
        assert {s: h.number for s, h in fold.stages.items()} == {
            stage: self.present(stage) for stage in STAGES if self.held[stage]
        }
        assert [version.number for version in self.ws.versions(MODEL)] == sorted(
            self.contents, reverse=True
        )
        drifted = {(one.target, one.name.partition("@")[2]) for one in self.ws.drift(MODEL)}
        assert drifted == set(self.edited)

    def teardown(self) -> None:
        """Whatever happened, a repair ends it, and no byte was lost."""
        try:
            if self.spaces:
                self.ws.repair(MODEL)
                assert self.ws.drift(MODEL) == []
                for number, content in self.contents.items():
                    copy = self.root / "copy" / str(number)
                    self.ws.download(f"{MODEL}:{number}", copy)
                    assert (copy / "weights.txt").read_bytes() == content
        finally:
            for space in self.spaces:
                space.close()
            plugins._registered.pop("mortal", None)
            shutil.rmtree(self.root)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Machine,
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
    run(8, 20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_workspaces() -> None:
    """The same, for longer."""
    run(200, 40)
