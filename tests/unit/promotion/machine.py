"""What the state machines of workspaces stand on.

Calls that die, time that passes on request, the file that is read, the dictionaries that say what
must be true of stages and of endpoints, and the bytes of two stores, read without cloudreg's help.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cloudreg import Workspace
from cloudreg.errors import CloudregError
from cloudreg.ledger import Fold
from cloudreg.operations import poll_until, wait
from cloudreg.plan import spec_from_json
from cloudreg.provider import ProviderContext
from cloudreg.testing.faults import Faults, When
from cloudreg.types import EndpointSpec, EndpointStatus
from cloudreg_local import PLUGIN

T = TypeVar("T")

STAGES = ("dev", "staging", "prod")
STANDIN = Path(__file__).parents[1] / "local" / "standin.py"
ENDPOINTS = {"churn-home": "local", "churn-west": "west"}
"""Endpoint of the last stage, to its target."""

TOML = """
[targets.local]
provider = "mortal"
path = ".local"
{command}

[targets.west]
provider = "mortal"
path = ".west"
{command}

[stages.dev]
[stages.staging]
gates = []
[stages.prod]
targets = ["local", "west"]
commit = "{commit}"
approvals = {approvals}
gates = []
"""

SERVING = """
[endpoints.churn-home]
model = "churn"
stage = "prod"

[endpoints.churn-west]
model = "churn"
stage = "prod"
target = "west"
"""


def configuration(*, commit: str, approvals: int, serving: bool) -> str:
    """Return the file of a workspace of two targets."""
    command = json.dumps([sys.executable, "-I", str(STANDIN)])
    text = TOML.format(
        commit=commit,
        approvals=approvals,
        command=f"server_command = {command}" if serving else "",
    )
    return text + SERVING if serving else text


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


class Stages:
    """What must be true of the stages.

    Attributes:
        held: What each held, the present version last; what was gone back from is not there.
        been: Every version that was ever there.
        vague: Stages of which only the ledger knows what they held before.
        approvals: How many people have to agree before the last stage moves.
        approved: Versions that somebody agreed to have there.
    """

    def __init__(self) -> None:
        self.held: dict[str, list[int]] = {stage: [] for stage in STAGES}
        self.been: dict[str, set[int]] = {stage: set() for stage in STAGES}
        self.vague: set[str] = set()
        self.approvals = 0
        self.approved: set[int] = set()

    def __getitem__(self, stage: str) -> int | None:
        return self.held[stage][-1] if self.held[stage] else None

    def now(self) -> dict[str, int]:
        return {stage: numbers[-1] for stage, numbers in self.held.items() if numbers}

    def under(self, stage: str) -> list[int]:
        """Return what a stage can go back to."""
        return self.held[stage][:-1]

    def passed(self, number: int, stage: str) -> bool:
        """Whether a version was in the stage before."""
        return number in self.been[STAGES[STAGES.index(stage) - 1]]

    def wants_approval(self, number: int, stage: str) -> bool:
        return stage == STAGES[-1] and bool(self.approvals) and number not in self.approved

    def may_enter(self, number: int, stage: str) -> bool:
        return self.passed(number, stage) and not self.wants_approval(number, stage)

    def enter(self, stage: str, number: int) -> None:
        if self[stage] != number:
            self.held[stage].append(number)
        self.been[stage].add(number)

    def back(self, stage: str, number: int) -> None:
        if stage in self.vague:
            assert number in self.been[stage]
            self.held[stage] = [number]
        else:
            self.held[stage].pop()
            assert number == self[stage]

    def become(self, stage: str, number: int | None) -> None:
        """What a rollback goes back to from here, the ledger knows."""
        self.held[stage] = [number] if number is not None else []
        if number is not None:
            self.been[stage].add(number)
        self.vague.add(stage)

    def may_be(self, verb: str, stage: str, number: int) -> set[int]:
        """Return what a promotion or a rollback of which nobody heard may have made of a stage."""
        if verb == "rollback":
            return self.been[stage] if stage in self.vague else set(self.held[stage][-2:])
        return {number} if self.may_enter(number, stage) else set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an endpoint is, as far as anybody changes it here.

    Attributes:
        number: Of the version that it serves.
        mark: What its server finds in its environment.
        most: Upper bound of its replicas.
    """

    number: int
    mark: str = ""
    most: int = 1

    @classmethod
    def of(cls, spec: EndpointSpec) -> Shape:
        [variant] = spec.variants
        return cls(
            number=variant.number,
            mark=spec.env.get("STANDIN_MARK", ""),
            most=variant.scaling.max_replicas,
        )


Places = dict[str, Shape]


@dataclass(slots=True, kw_only=True)
class Fleet:
    """What must be true of the endpoints.

    Attributes:
        applied: What the ledger says of each.
        running: What each is.
    """

    applied: Places = field(default_factory=dict)
    running: Places = field(default_factory=dict)

    @property
    def astray(self) -> set[str]:
        """Return the endpoints that are not what the ledger says."""
        names = {*self.applied, *self.running}
        return {name for name in names if self.applied.get(name) != self.running.get(name)}

    def differs(self, number: int) -> bool:
        """Whether an endpoint has to change before all serve *number* as configured."""
        return any(self.running.get(name) != Shape(number=number) for name in ENDPOINTS)

    def deploy(self, number: int, names: Iterable[str], *, recording: bool) -> None:
        """Serve *number* as configured; with *recording*, write down who does so unknown."""
        wanted = Shape(number=number)
        for name in names:
            known = self.applied.get(name)
            if self.running.get(name) != wanted:
                self.running[name] = self.applied[name] = wanted
            elif recording and (known is None or known.number != number):
                self.applied[name] = wanted

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.applied.pop(name, None)
            self.running.pop(name, None)

    def mend(self) -> None:
        self.running |= self.applied

    def adopt(self, target: str) -> None:
        for name, where in ENDPOINTS.items():
            if where == target:
                self.applied.pop(name, None)
                if name in self.running:
                    self.applied[name] = self.running[name]

    def pair(self, name: str) -> tuple[Shape | None, Shape | None]:
        return self.applied.get(name), self.running.get(name)


def recorded(fold: Fold) -> Places:
    """Return what a ledger says of the endpoints."""
    assert all(applied.target == ENDPOINTS[name] for name, applied in fold.applied.items())
    return {name: Shape.of(spec_from_json(each.spec)) for name, each in fold.applied.items()}


def served(ws: Workspace) -> Places:
    """Return what runs, once nothing is on its way any more."""
    found: Places = {}
    for target in set(ENDPOINTS.values()):
        backend = ws.targets[target].endpoints
        there_now = poll_until(
            lambda backend=backend: list(backend.endpoints()),
            lambda there: all(seen.status is EndpointStatus.READY for seen in there),
            timeout_s=60.0,
            interval_s=0.02,
        )
        assert there_now is not None, list(backend.endpoints())
        for seen in there_now:
            assert ENDPOINTS[seen.spec.name] == target
            found[seen.spec.name] = Shape.of(seen.spec)
    return found


def change(ws: Workspace, name: str, shape: Shape | None) -> None:
    """Do in a target's console what makes an endpoint that is there something else, or nothing."""
    backend = ws.targets[ENDPOINTS[name]].endpoints
    if shape is None:
        wait(backend.delete(name), timeout_s=60.0)
        return
    seen = backend.endpoint(name)
    assert seen is not None
    version = ws.version(f"{seen.spec.model}:{shape.number}")
    [variant] = seen.spec.variants
    spec = replace(
        seen.spec,
        env={"STANDIN_MARK": shape.mark} if shape.mark else {},
        variants=(
            replace(
                variant,
                number=version.number,
                digest=version.digest,
                scaling=replace(variant.scaling, max_replicas=shape.most),
            ),
        ),
    )
    wait(backend.update(spec, artifacts={version.digest: version}), timeout_s=60.0)


def check_answers(ws: Workspace, running: Places) -> None:
    """Ask each endpoint which version it serves, and what it finds in its environment."""
    for name, shape in running.items():
        answer = json.loads(ws.endpoint(name).invoke(b"{}"))
        assert (answer["number"], answer["env"]) == (shape.number, shape.mark or None), name


def check_bytes(ws: Workspace, wanted: Mapping[str, Iterable[bytes]]) -> None:
    """Read what the stores hold: all is what it is called, and nothing of *wanted* is missing.

    Args:
        ws: Whose targets are read.
        wanted: Target to the files that have to be there.
    """
    for target, contents in wanted.items():
        store = ws.targets[target].store
        held = set()
        for blob in store.list("blobs/"):
            with store.open(blob.key) as reader:
                content = reader.read()
            name = f"blobs/{len(content)}/{hashlib.sha256(content).hexdigest()}"
            assert blob.key == name, f"{blob.key} on {target} holds {content!r}"
            held.add(content)
        for content in contents:
            assert content in held, f"{target} lost {content!r}"


def stop(root: Path) -> None:
    """End whatever serves, by asking first, and then by its id."""
    for folder in root.glob(".*/endpoints"):
        settings = PLUGIN.settings()(path=folder.parent.name)
        context: Any = ProviderContext(target="cleaning", root=root)
        backend = PLUGIN.open(settings, context).endpoints
        for path in list(folder.glob("*/desired.json")):
            pid = 0
            with suppress(FileNotFoundError):
                pid = json.loads((path.parent / "observed.json").read_bytes())["pid"]
            try:
                wait(backend.delete(path.parent.name), timeout_s=30.0)
            except CloudregError:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise
