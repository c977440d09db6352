"""Changing targets behind a lease: all of them or none, or each for itself; and undoing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudreg.deploy import Deployer
from cloudreg.errors import CloudregError, Fenced, RolloutPaused
from cloudreg.fence import FencedRegistry
from cloudreg.ledger import Fold, Lease
from cloudreg.operations import SILENT, Progress
from cloudreg.parity import Parity
from cloudreg.projection import show_stage
from cloudreg.registry import Registry
from cloudreg.targets import Targets
from cloudreg.types import EndpointSpec, GateResult
from cloudreg.work import Work, stage_of, why


@dataclass(slots=True, kw_only=True)
class Way:
    """How far a change of targets is: what has to be undone, and what will be recorded.

    Attributes:
        befores: Endpoint to its target and what it was before the operation; None: not there.
        first_steps: Endpoint to the step where its paused rollout goes on.
        touched: Endpoints that may be changed already.
        pointed: Targets whose stage may be moved already.
        applied: What the ledger will say of each endpoint.
        behind: Stage to target to why it was left as it was.
        undone: What was brought back of targets that failed alone.
        measured: What was found by asking all targets before traffic moved.
    """

    befores: Mapping[str, tuple[str, EndpointSpec | None]]
    first_steps: Mapping[str, int] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    pointed: list[str] = field(default_factory=list)
    applied: dict[str, Any] = field(default_factory=dict)
    behind: dict[str, dict[str, str]] = field(default_factory=dict)
    undone: list[str] = field(default_factory=list)
    measured: list[GateResult] = field(default_factory=list)

    def judged(self, results: Sequence[GateResult]) -> list[GateResult]:
        """Return what the gates found, with what was measured in place of what was expected."""
        kinds = {result.gate for result in self.measured}
        return [*(result for result in results if result.gate not in kinds), *self.measured]


@dataclass(slots=True, kw_only=True)
class Undoing:
    """What became of an attempt to undo.

    Attributes:
        undone: What is again as it was, in the order in which it was brought back.
        notes: What could not be brought back, and why.
    """

    undone: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, list[str]]:
        """Return what the ledger keeps of it."""
        facts = {"undone": self.undone, "notes": self.notes}
        return {name: lines for name, lines in facts.items() if lines}


class Changer:
    """Brings versions to targets, moves their endpoints, and points their stages."""

    def __init__(
        self,
        targets: Targets,
        registry: Registry,
        deployer: Deployer,
        *,
        progress: Progress = SILENT,
    ) -> None:
        """Use what is opened and registered."""
        self._targets = targets
        self._registry = registry
        self._deployer = deployer
        self._parity = Parity(targets, deployer, progress=progress)
        self._progress = progress

    def change(self, work: Work, lease: Lease, way: Way) -> None:
        """Make the changes; a target that may be left behind is, where it fails.

        Raises:
            Fenced: Somebody else holds the model.
            RolloutPaused: Somebody has to decide.
            CloudregError: A change failed that had to be made; the caller undoes what was made.
        """
        way.behind = {stage: dict(targets) for stage, targets in work.behind.items()}
        if work.together:
            self._together(work, lease, way)
            return
        first: CloudregError | None = None
        made = 0
        for target in work.units:
            if way.pointed or way.touched:
                lease.listen()
                lease.heed()
            try:
                self._alone(work.on(target), target, lease, way)
            except CloudregError as error:
                if isinstance(error, Fenced | RolloutPaused) or "abort" in lease.requests:
                    raise
                first = first or error
                self._progress.say(f"{target} is left behind: {why(error)}")
                for stage in _stages(work.on(target)):
                    way.behind.setdefault(stage, {})[target] = why(error)
            else:
                made += target in work.targets or not work.targets
        if first is not None and work.needed and not made:
            raise first

    def _together(self, work: Work, lease: Lease, way: Way) -> None:
        if work.version is not None:
            for target in work.targets:
                self._deployer.bring(work.version, target, lease, stage=work.stage)
            self._compare(work, lease, way)
        way.applied |= self._deployer.deploy(
            work.changes, lease, touched=way.touched, first_steps=way.first_steps
        )
        for target in work.targets:
            assert work.version is not None
            assert work.stage is not None
            registry = FencedRegistry(self._targets[target].registry, lease)
            way.pointed.append(target)
            registry.point(work.model, work.stage, work.version.digest)

    def _compare(self, work: Work, lease: Lease, way: Way) -> None:
        """Ask all targets before traffic moves, where the stage wants that.

        Raises:
            GateFailed: They do not answer alike.
        """
        if not work.questions:
            return
        assert work.version is not None
        assert work.stage is not None
        way.befores = {**way.befores, **{one.asked: (one.target, None) for one in work.beside}}
        way.measured += self._parity.measure(
            work.version, work.stage, work.questions, work.ways, lease, touched=way.touched
        )

    def _alone(self, work: Work, target: str, lease: Lease, way: Way) -> None:
        """Make the changes of one target, or none of them."""
        touched, pointed = len(way.touched), len(way.pointed)
        try:
            self._together(work, lease, way)
        except CloudregError as error:
            if isinstance(error, Fenced | RolloutPaused):
                raise
            befores = {n: way.befores[n] for n in way.touched[touched:] if n in way.befores}
            undoing = self.undo(work.model, lease, befores, way.pointed[pointed:], work.stage)
            del way.touched[touched:], way.pointed[pointed:]
            way.undone += undoing.undone
            if undoing.notes:
                error.add_note("; ".join(undoing.notes))
            raise

    def undo(
        self,
        model: str,
        lease: Lease,
        befores: Mapping[str, tuple[str, EndpointSpec | None]],
        pointed: Sequence[str],
        stage: str | None,
    ) -> Undoing:
        """Bring targets back to the ledger's truth, in reverse."""
        done = Undoing()
        for target in reversed(pointed):
            assert stage is not None
            try:
                show_stage(
                    model,
                    stage,
                    target=target,
                    read=self._registry.ledger(model).read,
                    registry=FencedRegistry(self._targets[target].registry, lease),
                )
                done.undone.append(f"{model}@{stage} on {target}")
            except Fenced:
                raise
            except CloudregError as error:
                done.notes.append(
                    f"{model}@{stage} on {target} could not be set back: {error.message}"
                )
        for name, (target, before) in reversed(list(befores.items())):
            try:
                self._progress.say(f"{name}: going back to what it was")
                self._deployer.restore(name, target, before, lease)
                done.undone.append(f"endpoint {name} on {target}")
            except Fenced:
                raise
            except CloudregError as error:
                done.notes.append(f"endpoint {name} could not be brought back: {error.message}")
        return done


def _stages(work: Work) -> set[str]:
    """Return the stages that a request is about."""
    return {work.stage} if work.stage is not None else {stage_of(c) for c in work.changes}


def record(work: Work, way: Way, fold: Fold) -> dict[str, Any]:
    """Return what the ledger says of a change that is made."""
    data: dict[str, Any] = {"verb": work.verb, "endpoints": way.applied}
    if work.version is not None and work.stage is not None and work.moves_stage:
        data |= {
            "stages": {work.stage: work.version.number},
            "digest": work.version.digest,
            "previous": work.previous,
        }
    data["gates"] = [r.to_json() for r in way.judged(work.plan.gates)]
    for key in ("break_glass", "reason"):
        if work.plan.request.get(key):
            data[key] = work.plan.request[key]
    rests = {c.name: c.rests for c in work.changes if c.rests and c.name in way.applied}
    if rests:
        data["rests"] = rests
    if way.undone:
        data["undone"] = way.undone
    behind = _behind(work, way, fold)
    if behind:
        data["behind"] = behind
    return data


def _behind(work: Work, way: Way, fold: Fold) -> dict[str, dict[str, Any]]:
    """Return who is behind from now on, for each stage of which that was or is said."""
    stages = set(way.behind) | {work.stage or ""} | {stage_of(c) for c in work.changes}
    said: dict[str, dict[str, Any]] = {}
    for stage in stages:
        was, now = fold.behind.get(stage, {}), way.behind.get(stage, {})
        holder = fold.stages.get(stage)
        left: dict[str, Any] = {
            target: {"number": lagging.number, "reason": lagging.reason}
            for target, lagging in was.items()
            if target not in work.considered
            or (work.stage is None and (holder is None or lagging.number != holder.number))
        }
        for target, reason in now.items():
            left[target] = {"number": fold.shown(stage, target), "reason": reason}
        if left or was:
            said[stage] = left
    return said
