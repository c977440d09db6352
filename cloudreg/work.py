"""One request, prepared: what it would change, and where it may fall behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cloudreg.errors import (
    CloudregError,
    OperationFailed,
    OperationTimeout,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
)
from cloudreg.gates.parity import Question
from cloudreg.parity import Asking
from cloudreg.plan import EndpointChange, Plan, spec_json
from cloudreg.settings import Settings
from cloudreg.types import Commit, ModelVersion

FOLLOWS = "it follows the home"
"""Why a target is behind that has not been tried yet."""

FOLLOW = "follow"
"""The verb that brings targets up which are behind."""

SILENCE = (Unavailable, PermissionDenied, QuotaExceeded, OperationFailed, OperationTimeout)
"""What a look at a target ends with that does not work: everything else is a mistake of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One request, prepared: what it would change, and what must still be so when it does.

    Attributes:
        model: Whose ledger.
        plan: For people.
        changes: For the deployer.
        version: What moves, if a stage moves.
        stage: Where to.
        previous: The stage's number now.
        targets: Targets whose registries are made to show the stage.
        considered: All targets that were looked at, or should have been.
        behind: Stage to target to why it is left as it is.
        together: Whether a target that fails takes all others with it.
        needed: Whether at least one target has to succeed, where not all of them do.
        questions: What each target is asked before traffic moves.
        ways: How each of them is asked.
    """

    model: str
    plan: Plan
    changes: tuple[EndpointChange, ...]
    version: ModelVersion | None = None
    stage: str | None = None
    previous: int | None = None
    targets: tuple[str, ...] = ()
    considered: tuple[str, ...] = ()
    behind: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    together: bool = True
    needed: bool = True
    questions: tuple[Question, ...] = ()
    ways: tuple[Asking, ...] = ()

    @property
    def verb(self) -> str:
        """Return what is about to happen."""
        return str(self.plan.request["verb"])

    @property
    def moves_stage(self) -> bool:
        """Whether a stage would point to another version."""
        return any(change.kind == "stage" for change in self.plan.changes)

    @property
    def beside(self) -> tuple[Asking, ...]:
        """Return how targets are asked by endpoints that come and go."""
        return tuple(way for way in self.ways if way.is_beside)

    @property
    def units(self) -> tuple[str, ...]:
        """Return the targets that would change, in the order in which they do."""
        named = [*self.targets, *(change.target for change in self.changes)]
        return tuple(dict.fromkeys(named))

    def on(self, target: str) -> Work:
        """Return what would change on one target alone."""
        return replace(
            self,
            changes=tuple(change for change in self.changes if change.target == target),
            targets=tuple(name for name in self.targets if name == target),
            considered=(target,),
        )

    def intent(self) -> dict[str, Any]:
        """Return what the ledger keeps, so that another process can finish or undo it."""
        data: dict[str, Any] = {
            "request": dict(self.plan.request),
            "endpoints": {
                c.name: {
                    "target": c.target,
                    "before": spec_json(c.before.spec) if c.before else None,
                }
                for c in self.changes
            }
            | {way.asked: {"target": way.target, "before": None} for way in self.beside},
            "gates": [r.to_json() for r in self.plan.gates],
        }
        if self.version is not None:
            data |= {
                "stage": self.stage,
                "number": self.version.number,
                "digest": self.version.digest,
                "previous": self.previous,
            }
        if self.behind:
            data |= {"only": list(self.considered), "behind": self.behind}
        elif self.verb == FOLLOW:
            data["only"] = list(self.considered)
        for key in ("break_glass", "reason"):
            if self.plan.request.get(key):
                data[key] = self.plan.request[key]
        return data


class Lag:
    """Which targets of a request may be left behind, and which have to be."""

    def __init__(self, settings: Settings, *, glass: bool = False) -> None:
        """Use the policies of the stages; with *glass*, every target may be left behind."""
        self._settings = settings
        self._glass = glass
        self._first: CloudregError | None = None
        self.behind: dict[str, dict[str, str]] = {}

    def allows(self, stage: str, target: str) -> bool:
        """Whether a change of *stage* counts although it failed on *target*."""
        known = stage in self._settings.stages
        return self._glass or (known and self._settings.may_lag(stage, target))

    def missing(self, stage: str, target: str) -> bool:
        """Whether *target* is left behind already."""
        return target in self.behind.get(stage, {})

    def leave(self, stage: str, target: str, why: str) -> None:
        """Leave *target* behind."""
        self.behind.setdefault(stage, {}).setdefault(target, why)

    @contextmanager
    def looking(self, stage: str, target: str) -> Iterator[None]:
        """Leave *target* behind if the look in the block fails and that is allowed."""
        try:
            yield
        except SILENCE as error:
            if not self.allows(stage, target):
                raise
            self._first = self._first or error
            self.leave(stage, target, why(error))

    def check_any(self, stage: str, targets: Sequence[str]) -> None:
        """Return if not all *targets* are left behind.

        Raises:
            CloudregError: They are; what the first of them said.
        """
        if targets and self._first and all(self.missing(stage, target) for target in targets):
            raise self._first

    def warnings(self) -> list[str]:
        """Return what people should know of it."""
        return [
            f"{target} will be behind in {stage}: {why}"
            for stage, targets in self.behind.items()
            for target, why in targets.items()
        ]


def why(error: BaseException) -> str:
    """Return an error as the ledger keeps it: one line of it, not too long."""
    text = getattr(error, "message", None) or type(error).__name__
    line = " ".join(str(text).split())
    return line if len(line) <= 500 else line[:499] + "…"


def stage_of(change: EndpointChange) -> str:
    """Return the stage that an endpoint follows, or followed."""
    spec = change.after or (change.before.spec if change.before else None)
    return spec.stage if spec is not None else ""


def home_part(work: Work, settings: Settings) -> Work:
    """Return what has to be true before anything else is tried: what is the home's."""
    home = settings.home
    stages = {work.stage} if work.stage is not None else {stage_of(c) for c in work.changes}
    # A removal brings nothing that others could follow: they would be behind for good.
    others = {t: follows for t in work.units if t != home and (follows := _brought(work, t))}
    policies = {settings.stages[s].commit for s in stages if s in settings.stages}
    glass = work.verb == "rollback" and work.plan.request.get("break_glass")
    if work.verb == FOLLOW or glass or home not in work.units or not others:
        return work
    if policies != {Commit.HOME_FIRST}:
        return work
    behind = {stage: dict(targets) for stage, targets in work.behind.items()}
    for target, follows in others.items():
        for stage in follows:
            behind.setdefault(stage, {})[target] = FOLLOWS
    first = replace(work.on(home), behind=behind)
    changes = tuple(c for c in work.changes if c.target == home or c.after is None)
    return replace(first, changes=changes, considered=(home, *others))


def _brought(work: Work, target: str) -> set[str]:
    """Return the stages of which *target* is brought something."""
    stages = {stage_of(c) for c in work.changes if c.target == target and c.after is not None}
    if work.stage is not None and target in work.targets:
        stages.add(work.stage)
    return stages
