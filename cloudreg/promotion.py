"""Carrying out what was planned: bytes, endpoints, pointers, ledger, or all as it was.

Everything that can refuse comes first, and touches nothing. Then one intent holds the model, the
targets are changed behind its fence, and one ``done`` entry makes it true. What fails on the way is
undone in reverse, and that is recorded too. A process that dies on the way leaves an open intent:
the next one takes it over, undoes what it left, and then plans its own request afresh.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cloudreg.changing import Changer, Way, record
from cloudreg.deploy import Deployer
from cloudreg.errors import (
    CloudregError,
    Conflict,
    Fenced,
    NotFound,
    RepairRequired,
    RolloutPaused,
    StalePlan,
    Unsupported,
)
from cloudreg.ledger import Draft, Entry, Fold, Lease, OpenIntent
from cloudreg.ledger.lease import LEASE_S, claimable, held
from cloudreg.names import ModelRef
from cloudreg.operations import SILENT, Progress, poll_until
from cloudreg.plan import Plan, spec_from_json, spec_json
from cloudreg.planning import Planner
from cloudreg.projection import show_stage
from cloudreg.registry import Registry
from cloudreg.rollout import CANARY
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import Driver, Endpoint, EndpointSpec, GateResult, ModelVersion
from cloudreg.work import FOLLOW, FOLLOWS, Work, home_part, stage_of, why

ROUNDS = 50
"""How often a request is planned again because others moved the world meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a request did.

    Attributes:
        plan: What was changed.
        entry: The ledger's entry that made it true; None where nothing had to change.
        version: The version that was moved, if one was.
        endpoints: The endpoints that were changed, as they were afterwards.
        behind: Targets that were left as they were: stage to target to why.
    """

    plan: Plan
    entry: Entry | None
    version: ModelVersion | None = None
    endpoints: Mapping[str, Endpoint | None] | None = None
    behind: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything had to change."""
        return self.entry is not None


class Promoter:
    """Carries out everything that changes stages or endpoints."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        registry: Registry,
        deployer: Deployer,
        planner: Planner,
        *,
        progress: Progress = SILENT,
        announce: Callable[[Plan], None] = lambda _: None,
        wait_s: float = 120.0,
        lease_s: float = LEASE_S,
        contested: Callable[[str], Conflict | None] = lambda _: None,
    ) -> None:
        """Use what is configured.

        Args:
            settings: The configuration.
            targets: Opened when needed.
            registry: The home's.
            deployer: Of the endpoints.
            planner: Prepares what is carried out here.
            progress: Where it is shown.
            announce: Gets each plan that is permitted, before anything is changed.
            wait_s: Patience for others who hold the model.
            lease_s: Seconds that this process may be silent before others take over.
            contested: Returns why nothing may change before somebody decides.
        """
        self._contested = contested
        self._settings = settings
        self._targets = targets
        self._registry = registry
        self._deployer = deployer
        self._planner = planner
        self._changer = Changer(targets, registry, deployer, progress=progress)
        self._progress = progress
        self._announce = announce
        self._wait_s = wait_s
        self._lease_s = lease_s

    def perform(
        self,
        model: str,
        prepare: Callable[[Sequence[GateResult] | None], Work],
        *,
        expected: str | None = None,
    ) -> Outcome:
        """Plan, check, claim the model, and make the changes.

        Args:
            model: Whose ledger.
            prepare: Plans from the newest state; given gate results, it does not run them again.
            expected: Fingerprint of a saved plan; anything else is refused.

        Raises:
            StalePlan: The world moved since the plan was saved.
            GateFailed: With all results.
            ApprovalRequired: With who agreed already.
            Conflict: Others held the model for too long.
            RolloutPaused: Somebody has to decide.
            CloudregError: A change failed, and all is again as it was.
        """
        ledger = self._registry.ledger(model)
        known: tuple[int, Sequence[GateResult]] | None = None
        announced = ""
        for _ in range(ROUNDS):
            self.settle(model)
            seq = ledger.known().seq
            try:
                with self._registry.steady(model):
                    work = prepare(known[1] if known is not None and known[0] == seq else None)
            except RepairRequired:
                now = ledger.read()
                if now.seq != seq or now.open is not None:
                    continue  # somebody is at work, or was between the two looks
                raise
            known = (seq, work.plan.gates)
            if expected is not None and work.plan.fingerprint != expected:
                raise StalePlan(
                    "the world moved since this plan was saved: it would now be another",
                    hint="plan again, look at it, and apply that one",
                )
            if work.plan.empty:
                return Outcome(plan=work.plan, entry=None, version=work.version, behind=work.behind)
            with self._registry.steady(model):
                self._planner.permit(work)
            if work.plan.fingerprint != announced:
                announced = work.plan.fingerprint
                self._announce(work.plan)
            first = home_part(work, self._settings)
            try:
                lease = self._claim(first, seq)
            except Conflict:
                continue  # somebody was faster: look again
            return self._with_followers(work, self._carry_out(first, lease))
        raise Conflict(f"{model}: others were faster {ROUNDS} times")

    def resume(self, model: str, *, next_step: bool = False) -> Outcome:
        """Go on with a paused operation.

        Args:
            model: Whose.
            next_step: Go to the next step instead of watching the same one again.

        Raises:
            NotFound: Nothing is paused.
            Conflict: Somebody else went on with it, or the configuration is another by now.
        """
        intent = self._paused(model)
        # Planned first: what is refused here stays paused, and can still be aborted.
        work = self._again(model, intent)
        way = self._way_so_far(work, intent)
        if "endpoint" in intent.progress:
            step = int(intent.progress.get("step", 0)) + int(next_step)
            way.first_steps = {str(intent.progress["endpoint"]): step}
        outcome = self._make(work, self._take_over(model, intent, "resumed"), way)
        return self._with_followers(work, outcome)

    def abort(self, model: str) -> Entry:
        """Undo a paused operation, or one whose process is gone.

        Raises:
            NotFound: Nothing is open.
        """
        fold = self._registry.fold(model)
        if fold.open is None:
            raise NotFound(f"nothing is under way for {model}")
        if not (fold.open.paused or claimable(fold.open, self._registry.ledger(model).clock())):
            return self.request(model, "abort")
        intent = fold.open
        lease = self._take_over(model, intent, "aborted by hand")
        return self._recover(model, intent, lease, "aborted by hand")

    def request(self, model: str, action: str) -> Entry:
        """Ask whoever holds the model to ``pause`` or ``abort`` at the next look.

        Raises:
            NotFound: Nobody holds it.
        """

        def draft(fold: Fold) -> Draft:
            if fold.open is None:
                raise NotFound(f"nothing is under way for {model}")
            if action == "pause" and fold.open.progress.get("driver") == Driver.NATIVE:
                raise Unsupported(
                    f"{model}: the target itself moves the traffic of "
                    f"{fold.open.progress['endpoint']}, and cannot be told to pause",
                    hint=f"cloudreg rollout abort {model}",
                )
            return Draft(kind="note", root=fold.open.root, data={"request": action})

        self._registry.fold(model)
        entry = self._registry.ledger(model).append(draft, op="request")
        assert entry is not None
        return entry

    def settle(self, model: str) -> None:
        """Return once nobody holds the model, undoing what a dead process left.

        Raises:
            Conflict: It is paused, or still held when patience ends; or it was changed without
                the home, and somebody has to decide what counts.
        """
        ledger = self._registry.ledger(model)
        contested = self._contested(model)
        if contested is not None:
            raise contested
        told: set[str] = set()

        def free() -> OpenIntent | None:
            intent = ledger.read().open
            if intent is None or intent.paused:
                return intent
            if claimable(intent, ledger.clock()):
                try:
                    lease = self._take_over(model, intent, "its process is gone")
                except Conflict:
                    return ledger.read().open
                self._progress.say(f"{model}: {intent.verb} by {intent.actor} died; cleaning up")
                self._recover(model, intent, lease, "its process was gone")
                return ledger.read().open
            if intent.op not in told:
                told.add(intent.op)
                self._progress.say(f"{held(model, intent).message}; waiting")
            return intent

        # In a tuple, because a free model is an answer too, and not the end of patience.
        last = poll_until(
            lambda: (free(),),
            lambda answer: answer[0] is None or answer[0].paused,
            timeout_s=self._wait_s,
            interval_s=0.1,
            max_interval_s=1.0,
        )
        intent = last[0] if last is not None else ledger.read().open
        if intent is not None:
            raise held(model, intent)

    def await_quiet(self, model: str) -> None:
        """Return once nobody is changing the model's targets, or when patience ends.

        Nothing is undone: a dead or a paused operation counts as quiet.
        """
        ledger = self._registry.ledger(model)

        def at_work() -> bool:
            intent = ledger.read().open
            return not (intent is None or intent.paused or claimable(intent, ledger.clock()))

        poll_until(at_work, operator.not_, timeout_s=self._wait_s, max_interval_s=1.0)

    def follow(self, model: str) -> dict[str, dict[str, str]]:
        """Bring targets up that are behind, and return those that still are: stage, target, why.

        Raises:
            Conflict: Others hold the model.
            RolloutPaused: Somebody has to decide.
        """
        for stage in list(self._registry.fold(model).behind):
            self._follow(model, stage)
        return {
            stage: {target: lagging.reason for target, lagging in targets.items()}
            for stage, targets in self._registry.fold(model).behind.items()
        }

    def _follow(self, model: str, stage: str, *, at_once: bool = False) -> Outcome | None:
        """Bring up the targets that are behind in one stage; None where none answers."""
        ledger = self._registry.ledger(model)
        fold = ledger.read()
        holder, seq = fold.stages.get(stage), fold.seq
        if holder is None or stage not in self._settings.stages:
            return None
        version = self._registry.version(ModelRef(model=model, number=holder.number))
        work = self._planner.promotion(
            version,
            stage,
            verb=FOLLOW,
            resumed=True,
            only=tuple(fold.behind.get(stage, {})),
            at_once=at_once,
        )
        if work.plan.empty:
            return None
        return self._carry_out(work, self._claim(work, seq))

    def _with_followers(self, work: Work, outcome: Outcome) -> Outcome:
        """Let those follow that wait for the home, and return what came of all."""
        waiting = [s for s, targets in outcome.behind.items() if FOLLOWS in targets.values()]
        endpoints, behind = dict(outcome.endpoints or {}), dict(outcome.behind)
        for stage in waiting:
            try:
                followed = self._follow(work.model, stage, at_once=work.verb == "rollback")
            except (Fenced, RolloutPaused):
                raise
            except CloudregError as error:
                # What the home has is true already: who is behind is in the ledger.
                self._progress.say(f"{work.model}@{stage}: others do not follow: {error.message}")
                continue
            if followed is not None:
                endpoints |= followed.endpoints or {}
                behind[stage] = followed.behind.get(stage, {})
        return replace(outcome, endpoints=endpoints, behind={s: t for s, t in behind.items() if t})

    def _claim(self, work: Work, seq: int) -> Lease:
        return Lease.claim(
            self._registry.ledger(work.model),
            verb=work.verb,
            data=work.intent(),
            guard=_unmoved(work, seq),
            lease_s=self._lease_s,
        )

    def _carry_out(self, work: Work, lease: Lease) -> Outcome:
        befores = {c.name: (c.target, c.before.spec if c.before else None) for c in work.changes}
        return self._make(work, lease, Way(befores=befores))

    def _take_over(self, model: str, intent: OpenIntent, why: str) -> Lease:
        ledger = self._registry.ledger(model)
        return Lease.take_over(ledger, intent, why=why, lease_s=self._lease_s)

    def _again(self, model: str, intent: OpenIntent) -> Work:
        """Plan what is left of an operation that another process began."""
        request = intent.data.get("request", {})
        known = [GateResult(**result) for result in intent.data.get("gates", ())]
        if "stage" in intent.data:
            version = self._registry.version(ModelRef(model=model, number=intent.data["number"]))
            work = self._planner.promotion(
                version,
                intent.data["stage"],
                verb=intent.verb,
                break_glass=intent.data.get("break_glass"),
                reason=intent.data.get("reason", ""),
                known_gates=known,
                resumed=True,
                only=_tried(intent),
            )
            return replace(work, behind={**intent.data.get("behind", {}), **work.behind})
        names = self._deployer.names(model=model)
        return self._planner.endpoints(model, names, prune=bool(request.get("prune")))

    def _way_so_far(self, work: Work, intent: OpenIntent) -> Way:
        """Return how far the process before came.

        Raises:
            Conflict: An endpoint stands half-way, and is not configured to go on.
        """
        befores = _befores(intent)
        way = Way(befores=befores, touched=list(befores))
        for name, (target, _) in befores.items():
            if name in {change.name for change in work.changes}:
                continue
            # Done by the process before: this one records it.
            seen = self._targets[target].endpoints.endpoint(name)
            if seen is not None and seen.spec.variant(CANARY) is not None:
                raise Conflict(
                    f"endpoint {name} is in the middle of a rollout that the configuration does "
                    "not ask for any more",
                    target=target,
                    hint=f"cloudreg rollout abort {work.model}",
                )
            way.applied[name] = (
                {"target": target, "spec": spec_json(seen.spec)} if seen is not None else None
            )
        return way

    def _found(self, work: Work, way: Way, fold: Fold) -> dict[str, Any]:
        """Return what the ledger lacks of endpoints that needed no change."""
        if work.version is None or work.stage is None:
            return {}
        following = set(work.considered) - set(way.behind.get(work.stage, {}))
        return self._deployer.unrecorded(
            work.version, work.stage, fold, targets=following, but=way.applied
        )

    def _make(self, work: Work, lease: Lease, way: Way) -> Outcome:
        """Change the targets, and record it; or undo it, and record that."""
        try:
            self._changer.change(work, lease, way)
            fold = self._registry.ledger(work.model).known()
            way.applied |= self._found(work, way, fold)
            entry = lease.done(record(work, way, fold), heeding=True)
        except (Fenced, RolloutPaused):
            raise
        except BaseException as error:
            # Takes the next place in the ledger, so that a ``done`` whose answer was lost cannot
            # land there later; if it has landed, nothing is undone any more.
            lease.step({})
            undo = {name: way.befores[name] for name in way.touched if name in way.befores}
            undoing = self._changer.undo(work.model, lease, undo, way.pointed, work.stage)
            for note in undoing.notes:
                error.add_note(note)
            undoing.undone[:0] = way.undone
            lease.abort(why(error), undoing.facts())
            raise
        if work.stage == self._settings.order[0]:
            # A registration moves the first stage without holding the model.
            for target in way.pointed:
                # What is not published yet is shown by whoever registers it now.
                with suppress(NotFound):
                    show_stage(
                        work.model,
                        work.stage,
                        target=target,
                        read=self._registry.ledger(work.model).read,
                        registry=self._targets[target].registry,
                    )
        endpoints = {
            change.name: (
                self._targets[change.target].endpoints.endpoint(change.name)
                if change.after is not None
                else None
            )
            for change in work.changes
            if change.target not in way.behind.get(stage_of(change), {})
        }
        return Outcome(
            plan=work.plan,
            entry=entry,
            version=work.version,
            endpoints=endpoints,
            behind={stage: targets for stage, targets in way.behind.items() if targets},
        )

    def _recover(self, model: str, intent: OpenIntent, lease: Lease, reason: str) -> Entry:
        """Undo what a dead or paused operation left, and close it."""
        stage = intent.data.get("stage")
        pointed = self._settings.stage_targets(stage) if stage in self._settings.stages else ()
        only = _tried(intent)
        if only is not None:
            pointed = tuple(target for target in pointed if target in only)
        undoing = self._changer.undo(model, lease, _befores(intent), pointed, stage)
        return lease.abort(reason, undoing.facts())

    def _paused(self, model: str) -> OpenIntent:
        intent = self._registry.fold(model).open
        if intent is None or not intent.paused:
            raise NotFound(f"no rollout of {model} is paused", hint="cloudreg rollout status")
        return intent


def _tried(intent: OpenIntent) -> tuple[str, ...] | None:
    """Return the targets that an operation was to change; None for all that are concerned."""
    if "only" not in intent.data:
        return None
    left = {t for targets in intent.data.get("behind", {}).values() for t in targets}
    return tuple(target for target in intent.data["only"] if target not in left)


def _befores(intent: OpenIntent) -> dict[str, tuple[str, EndpointSpec | None]]:
    found = {}
    for name, data in intent.data.get("endpoints", {}).items():
        before = data["before"]
        found[name] = (data["target"], spec_from_json(before) if before else None)
    return found


def _unmoved(work: Work, seq: int) -> Callable[[Fold], None]:
    """Return what refuses a claim if anything that *work* was planned from has changed."""

    def guard(fold: Fold) -> None:
        if fold.closed > seq:
            raise Conflict(f"somebody else changed {work.model} meanwhile")
        holder = fold.stages.get(work.stage) if work.stage is not None else None
        if work.stage is not None and (holder.number if holder else None) != work.previous:
            # A registration moves the first stage without holding the model.
            raise Conflict(f"{work.model}@{work.stage} moved meanwhile")

    return guard
