"""What a request would change: the order of stages, approvals, gates, copies, endpoints.

Everything here looks and refuses; nothing here changes anything.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cloudreg import gates
from cloudreg.admission import Admission
from cloudreg.artifacts import is_present, lacking
from cloudreg.backwards import held_before
from cloudreg.deploy import Deployer, Desired, Sight
from cloudreg.errors import (
    InvalidRequest,
    NotFound,
    RepairRequired,
)
from cloudreg.gates.parity import Question
from cloudreg.ledger import Fold
from cloudreg.names import ModelRef
from cloudreg.operations import poll_until
from cloudreg.parity import Asking, askings
from cloudreg.plan import Action, Change, EndpointChange, Plan, stage_change
from cloudreg.projection import Difference, differences
from cloudreg.registry import Registry
from cloudreg.seals import Seals
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    GateResult,
    ModelVersion,
    PublishedVersion,
    Rollout,
)
from cloudreg.work import FOLLOW, SILENCE, Lag, Work, stage_of

IN_FLIGHT_S = 2.0
"""Patience with a registration that is in the ledger and not on every target yet."""


class Planner:
    """Prepares everything that changes stages or endpoints."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        registry: Registry,
        deployer: Deployer,
        admission: Admission,
        *,
        seals: Seals,
    ) -> None:
        """Use what is configured, opened and registered."""
        self._seals = seals
        self._settings = settings
        self._targets = targets
        self._registry = registry
        self._deployer = deployer
        self._admission = admission

    def promotion(
        self,
        version: ModelVersion,
        stage: str,
        *,
        verb: str = "promote",
        break_glass: str | None = None,
        reason: str = "",
        known_gates: Sequence[GateResult] | None = None,
        resumed: bool = False,
        only: Sequence[str] | None = None,
        at_once: bool = False,
    ) -> Work:
        """Return what moving *version* into *stage* would change.

        Args:
            version: What moves.
            stage: Where to.
            verb: ``promote``, ``rollback``, or ``follow`` for targets that are behind.
            break_glass: Why order, gates and approvals do not count this time.
            reason: For the ledger.
            known_gates: What the gates found in this very state; they are not run again.
            resumed: The operation is under way: targets may show part of it.
            only: Targets that are looked at; all that are concerned without.
            at_once: Endpoints get the version without steps, as in a rollback.

        Raises:
            InvalidRequest: The glass is broken without a reason.
            RepairRequired: A target shows something else than the ledger in that stage.
            Unsupported: A target cannot do what its endpoints ask for.
        """
        self._registry.check_stage(stage)
        if break_glass is not None and not break_glass.strip():
            raise InvalidRequest("breaking the glass needs a reason")
        model = version.model
        fold = self._registry.fold(model)
        holder = fold.stages.get(stage)
        request: dict[str, Any] = {"verb": verb, "ref": version.ref, "to": stage}
        if break_glass:
            request["break_glass"] = break_glass
        if reason:
            request["reason"] = reason
        lag = Lag(
            self._settings, glass=verb == FOLLOW or (verb == "rollback" and bool(break_glass))
        )
        shows, serves = self._concerned(model, stage, only)
        if not (break_glass or resumed):
            for target in shows:
                with lag.looking(stage, target):
                    self._check_shown(model, stage, fold, target)
        changes: list[Change] = [*self._copies(version, stage, shows, lag)]
        if holder is None or holder.digest != version.digest:
            changes.append(
                stage_change(
                    model,
                    stage,
                    before=(holder.number, holder.digest) if holder else None,
                    after=(version.number, version.digest),
                    note=f"break glass: {break_glass}" if break_glass else "",
                )
            )
        else:
            changes += _following(version, stage, fold, lag)
        found = self._desired(version, stage, serves, lag)
        moves = tuple(sorted((m for d in found for m in d.changes), key=lambda move: move.name))
        bills = tuple(bill for desired in found for bill in desired.bills)
        if at_once or verb == "rollback":
            # Going back must be quick: what is gone back to has proved itself here before.
            moves = tuple(_at_once(change) for change in moves)
        lag.check_any(stage, shows or tuple(serves))
        changes += [change.change() for change in moves]
        results: Sequence[GateResult] = known_gates or ()
        if known_gates is None and verb == "promote" and changes:
            results = self._admission.inspect(version, stage, fold, bills=bills)
        moved = holder is None or holder.digest != version.digest
        if changes and not break_glass and not (verb == "promote" and moved):
            # No gate stands before what goes back, follows or only redeploys; the signatures do.
            self._seals.require(version, stage)
        questions: tuple[Question, ...] = ()
        ways: tuple[Asking, ...] = ()
        if verb == "promote" and moved and not (break_glass or resumed):
            questions, ways = self._parity(version, stage, moves)
        warnings: tuple[str, ...] = ()
        if changes and verb == "promote" and not break_glass:
            warnings = self._admission.missing_approvals(version, stage)
        notes = [note for desired in found for note in desired.notes]
        notes += [*lag.warnings(), *(way.told() for way in ways if way.is_beside)]
        here = (*shows, *serves)
        return Work(
            model=model,
            plan=Plan(
                request=request,
                changes=tuple(changes),
                gates=tuple(results),
                warnings=(*warnings, *notes),
                bills=bills,
            ),
            changes=moves,
            version=version,
            stage=stage,
            previous=holder.number if holder else None,
            targets=tuple(target for target in shows if not lag.missing(stage, target)),
            considered=tuple(dict.fromkeys(here)),
            behind=lag.behind,
            together=not any(lag.allows(stage, target) for target in here),
            needed=verb != FOLLOW,
            questions=questions,
            ways=ways,
        )

    def _parity(
        self, version: ModelVersion, stage: str, moves: Sequence[EndpointChange]
    ) -> tuple[tuple[Question, ...], tuple[Asking, ...]]:
        """Return what the targets of a stage are asked before traffic moves, and how."""
        try:
            questions = self._admission.questions(version, stage)
        except InvalidRequest:
            return (), ()  # its gate says so, and refuses
        if not questions:
            return (), ()
        moving = {move.name for move in moves}
        others = {
            name: (self._settings.endpoint_target(name), self._settings.endpoints[name].kind)
            for name in self._deployer.names(model=version.model, stage=stage)
            if name not in moving
        }
        return questions, askings(moves, others, self._targets)

    def endpoints(
        self,
        model: str,
        names: Sequence[str],
        *,
        prune: bool = False,
        sight: Sight | None = None,
        fold: Fold | None = None,
    ) -> Work:
        """Return what making a model's endpoints as they are configured would change.

        Args:
            model: Whose endpoints.
            names: Those that are configured.
            prune: Remove those that are not.
            sight: What was seen already; without it, the targets are asked, once.
            fold: The model's state, where it was read already.

        Raises:
            IntegrityError: The manifest of a version that would serve is not the one that was
                registered.
        """
        fold = self._registry.ledger(model).read() if fold is None else fold
        sight = self.look() if sight is None else sight
        lag = Lag(self._settings)
        silent = [name for name in names if self._settings.endpoint_target(name) not in sight]
        for name in silent:
            target = self._settings.endpoint_target(name)
            lag.leave(self._settings.endpoints[name].stage, target, "it did not answer")
        names = [name for name in names if name not in silent]
        held = {
            stage: PublishedVersion(model=model, number=holder.number, digest=holder.digest)
            for stage, holder in fold.stages.items()
        }
        desired = self._deployer.desired(
            names, holders=lambda _, stage: held.get(stage), sight=sight
        )
        moves = list(desired.changes)
        wanted = (v for move in moves if move.after for v in move.after.variants)
        for number in sorted({variant.number for variant in wanted}):
            # Only of what would be moved: to compare, the digests are enough.
            version = self._registry.version(ModelRef(model=model, number=number))
            for stage in {m.after.stage for m in moves if m.after and _serves(m.after, number)}:
                self._seals.require(version, stage)
        warnings = [
            f"endpoint {name} waits for a version of {model} in "
            f"{self._settings.endpoints[name].stage}"
            for name in desired.waiting
        ]
        warnings += desired.notes
        for target, seen in self._deployer.orphans(model, sight):
            name = seen.spec.name
            if prune and name not in {move.name for move in moves}:
                moves.append(EndpointChange(name=name, target=target, before=seen, after=None))
            elif prune:
                # Not in one go: what serves elsewhere from now on has to serve first.
                warnings.append(
                    f"endpoint {name} still runs on {target} too; --prune destroys it there once "
                    "the one that is configured is as it should be"
                )
            else:
                warnings.append(
                    f"endpoint {name} on {target} is not configured any more; "
                    "--prune would destroy it"
                )
        return Work(
            model=model,
            plan=Plan(
                request={"verb": "apply", "model": model, "prune": prune},
                changes=tuple(change.change() for change in moves),
                warnings=(*warnings, *lag.warnings()),
                bills=desired.bills,
            ),
            changes=tuple(moves),
            considered=tuple(sight),
            behind=lag.behind,
            together=not any(lag.allows(stage_of(move), move.target) for move in moves),
        )

    def look(self) -> Sight:
        """Return what runs on all targets; one that fails is missing where it may be behind.

        Raises:
            CloudregError: One fails on which an endpoint is needed.
        """
        sight: dict[str, Sequence[Endpoint]] = {}
        for target in self._targets:
            lag = Lag(self._settings)
            stages = {
                endpoint.stage
                for name, endpoint in self._settings.endpoints.items()
                if self._settings.endpoint_target(name) == target
            }
            may_lag = bool(stages) and all(lag.allows(stage, target) for stage in stages)
            try:
                sight |= self._deployer.look([target])
            except SILENCE:
                if not may_lag:
                    raise
        return sight

    def down(self, model: str, endpoints: Mapping[str, tuple[str, Endpoint | None]]) -> Work:
        """Return what removing endpoints would change; the model and its stages stay.

        Args:
            model: Whose ledger.
            endpoints: Name to target and endpoint; None for one that only the ledger knows.
        """
        moves = tuple(
            EndpointChange(
                name=name,
                target=target,
                before=seen,
                after=None,
                why="" if seen is not None else "it is gone already",
            )
            for name, (target, seen) in endpoints.items()
        )
        return Work(
            model=model,
            plan=Plan(
                request={"verb": "down", "model": model, "endpoints": sorted(endpoints)},
                changes=tuple(move.change() for move in moves),
            ),
            changes=moves,
        )

    def rollback_to(self, model: str, stage: str, to: ModelRef | None) -> ModelVersion:
        """Return the version that a rollback goes back to.

        Raises:
            NotFound: The stage holds nothing, or has held nothing else before.
            InvalidRequest: The version never held the stage: that would be a promotion.
        """
        self._registry.check_stage(stage)
        fold = self._registry.fold(model)
        holder = fold.stages.get(stage)
        if holder is None:
            raise NotFound(f"no version of {model} is in {stage}: nothing to go back from")
        if to is None:
            number = held_before(self._registry.history(model), stage, holder)
            if number is None:
                raise NotFound(
                    f"{model}@{stage} has held nothing before {model}:{holder.number}",
                    hint=f"cloudreg history {model}",
                )
            return self._registry.version(ModelRef(model=model, number=number))
        if to.model != model:
            raise InvalidRequest(f"{to} is no version of {model}")
        summary = self._registry.summary(to)
        if stage not in summary.held:
            raise InvalidRequest(
                f"{model}:{summary.number} was never in {stage}, so that it cannot be gone back to",
                hint=f"cloudreg promote {model}:{summary.number} --to {stage}",
            )
        return self._registry.load(model, summary)

    def permit(self, work: Work) -> None:
        """Return if gates and approvals allow the work.

        Raises:
            GateFailed: With all results.
            ApprovalRequired: With who agreed already.
        """
        if work.version is None or work.stage is None or work.verb != "promote":
            return
        if work.plan.request.get("break_glass"):
            return
        if work.moves_stage:
            gates.judge(work.plan.gates, version=work.version, stage=work.stage)
            self._admission.check_approvals(work.version, work.stage)

    def _concerned(
        self, model: str, stage: str, only: Sequence[str] | None
    ) -> tuple[tuple[str, ...], dict[str, list[str]]]:
        """Return the targets that show a stage, and target to the endpoints that follow it."""
        shows = self._settings.stage_targets(stage)
        home = self._settings.home
        shows = tuple(sorted(shows, key=lambda target: target != home))
        serves: dict[str, list[str]] = {}
        for name in self._deployer.names(model=model, stage=stage):
            serves.setdefault(self._settings.endpoint_target(name), []).append(name)
        if only is not None:
            shows = tuple(target for target in shows if target in only)
            serves = {target: names for target, names in serves.items() if target in only}
        return shows, serves

    def _desired(
        self, version: ModelVersion, stage: str, serves: Mapping[str, Sequence[str]], lag: Lag
    ) -> list[Desired]:
        """Return how endpoints get *version*, by target; those of targets that fail stay."""
        found: list[Desired] = []
        for target, names in serves.items():
            if lag.missing(stage, target):
                continue
            with lag.looking(stage, target):
                found.append(
                    self._deployer.desired(names, holders=lambda _, __: version, anew=True)
                )
        return found

    def _check_shown(self, model: str, stage: str, fold: Fold, target: str) -> None:
        # Registrations move the first stage without holding the model.
        patience_s = IN_FLIGHT_S if stage == self._settings.order[0] else 0.0

        def look() -> list[Difference]:
            return differences(
                model,
                fold=fold,
                target=target,
                stages=(stage,),
                registry=self._targets[target].registry,
                lagging=True,
            )

        found = poll_until(look, operator.not_, timeout_s=patience_s)
        if found is None:
            found = look()
        if found:
            raise RepairRequired(
                f"somebody changed what {target} shows: {found[0]}",
                target=target,
                hint=f"cloudreg drift {model}, then cloudreg repair {model}",
            )

    def _copies(
        self, version: ModelVersion, stage: str, shows: Sequence[str], lag: Lag
    ) -> list[Change]:
        copies = []
        for target in shows:
            if target == self._settings.home or lag.missing(stage, target):
                continue
            with lag.looking(stage, target):
                if not is_present(version, self._targets[target].store):
                    copies.append(self._copy(version, target))
        return copies

    def _copy(self, version: ModelVersion, target: str) -> Change:
        provider, home = self._targets[target], self._settings.home
        lacks = lacking(version, provider.store)
        limit = self._settings.targets[target].transfer_above_bytes
        by_service = provider.capabilities.require_transfer(
            version.ref,
            lacks.size,
            limit,
            source=self._targets[home].location,
            target=target,
        )
        egress = self._targets[home].capabilities.egress
        if not lacks.size:
            note = "the target has all of it"
        elif egress is None:
            note = f"egress price unknown for {home}: see its own price list"
        else:
            note = egress.of(lacks.size)
        if by_service:
            note = f"by {provider.transfers.service}, past this machine; {note}"
        return Change(
            kind="copy",
            name=version.ref,
            target=target,
            action=Action.CREATE,
            after={"bytes": lacks.size, "files": lacks.files},
            note=note if lacks.exact else f"at most; {note}",
        )


def _following(version: ModelVersion, stage: str, fold: Fold, lag: Lag) -> list[Change]:
    """Return what happens to targets that are behind in a stage that does not move."""
    return [
        Change(
            kind="follow",
            name=f"{version.model}@{stage}",
            target=target,
            action=Action.UPDATE,
            before={"version": lagging.number},
            after={"version": version.number},
            note=f"behind since {lagging.since}: {lagging.reason}",
        )
        for target, lagging in fold.behind.get(stage, {}).items()
        if not lag.missing(stage, target)
    ]


def _serves(spec: EndpointSpec, number: int) -> bool:
    return any(variant.number == number for variant in spec.variants)


def _at_once(change: EndpointChange) -> EndpointChange:
    return replace(change, rollout=Rollout())
