"""What a request would change: the order of stages, approvals, gates, copies, endpoints.

Everything here looks and refuses; nothing here changes anything.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cloudreg import gates
from cloudreg.admission import Admission
from cloudreg.artifacts import is_present
from cloudreg.deploy import Deployer, Sight
from cloudreg.errors import (
    InvalidRequest,
    NotFound,
    RepairRequired,
)
from cloudreg.ledger import Fold, Holder
from cloudreg.names import ModelRef
from cloudreg.operations import poll_until
from cloudreg.plan import Action, Change, EndpointChange, Plan, spec_json, stage_change
from cloudreg.projection import Difference, differences
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import Endpoint, GateResult, ModelVersion, PublishedVersion, Rollout

IN_FLIGHT_S = 2.0
"""Patience with a registration that is in the ledger and not on every target yet."""

MOVES = ("register", "done", "adopt")
"""Entries that can move a stage."""


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
    """

    model: str
    plan: Plan
    changes: tuple[EndpointChange, ...]
    version: ModelVersion | None = None
    stage: str | None = None
    previous: int | None = None

    @property
    def verb(self) -> str:
        """Return what is about to happen."""
        return str(self.plan.request["verb"])

    @property
    def moves_stage(self) -> bool:
        """Whether a stage would point to another version."""
        return any(change.kind == "stage" for change in self.plan.changes)

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
            },
            "gates": [r.to_json() for r in self.plan.gates],
        }
        if self.version is not None:
            data |= {
                "stage": self.stage,
                "number": self.version.number,
                "digest": self.version.digest,
                "previous": self.previous,
            }
        for key in ("break_glass", "reason"):
            if self.plan.request.get(key):
                data[key] = self.plan.request[key]
        return data


class Planner:
    """Prepares everything that changes stages or endpoints."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        registry: Registry,
        deployer: Deployer,
        admission: Admission,
    ) -> None:
        """Use what is configured, opened and registered."""
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
    ) -> Work:
        """Return what moving *version* into *stage* would change.

        Args:
            version: What moves.
            stage: Where to.
            verb: ``promote`` or ``rollback``.
            break_glass: Why order, gates and approvals do not count this time.
            reason: For the ledger.
            known_gates: What the gates found in this very state; they are not run again.
            resumed: The operation is under way: targets may show part of it.

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
        if not (break_glass or resumed):
            self._check_shown(model, stage, fold)
        changes: list[Change] = [*self._copies(version, stage)]
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

        def holders(_: str, __: str) -> ModelVersion:
            return version

        names = self._deployer.names(model=model, stage=stage)
        desired = self._deployer.desired(names, holders=holders)
        moves = desired.changes
        if verb == "rollback":
            # Going back must be quick: what is gone back to has proved itself here before.
            moves = tuple(_at_once(change) for change in moves)
        changes += [change.change() for change in moves]
        results: Sequence[GateResult] = known_gates or ()
        if known_gates is None and verb == "promote" and changes:
            results = self._admission.inspect(version, stage, fold)
        warnings: tuple[str, ...] = ()
        if changes and verb == "promote" and not break_glass:
            warnings = self._admission.missing_approvals(version, stage)
        return Work(
            model=model,
            plan=Plan(
                request=request,
                changes=tuple(changes),
                gates=tuple(results),
                warnings=warnings,
            ),
            changes=moves,
            version=version,
            stage=stage,
            previous=holder.number if holder else None,
        )

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
        sight = self._deployer.look() if sight is None else sight
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
            self._registry.version(ModelRef(model=model, number=number))
        warnings = [
            f"endpoint {name} waits for a version of {model} in "
            f"{self._settings.endpoints[name].stage}"
            for name in desired.waiting
        ]
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
                warnings=tuple(warnings),
            ),
            changes=tuple(moves),
        )

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
            number = self._before(model, stage, holder)
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

    def _before(self, model: str, stage: str, holder: Holder) -> int | None:
        """Return what the stage held before its version was promoted.

        A second rollback goes further back: what was rolled away from is not what anybody wants.
        """
        promoted = False
        for entry in self._registry.history(model):
            moved = entry.data.get("stages", {}) if entry.kind in MOVES else {}
            if entry.seq > holder.seq or stage not in moved:
                continue
            number: int | None = moved[stage]
            if promoted and number not in (None, holder.number):
                return number
            if number == holder.number and entry.data.get("verb") != "rollback":
                promoted = True
        return None

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

    def _check_shown(self, model: str, stage: str, fold: Fold) -> None:
        # Registrations move the first stage without holding the model.
        patience_s = IN_FLIGHT_S if stage == self._settings.order[0] else 0.0

        def look(target: str) -> list[Difference]:
            return differences(
                model,
                fold=fold,
                target=target,
                stages=(stage,),
                registry=self._targets[target].registry,
            )

        for target in self._settings.stage_targets(stage):
            found = poll_until(partial(look, target), operator.not_, timeout_s=patience_s)
            if found is None:
                found = look(target)
            if found:
                raise RepairRequired(
                    f"somebody changed what {target} shows: {found[0]}",
                    target=target,
                    hint=f"cloudreg drift {model}, then cloudreg repair {model}",
                )

    def _copies(self, version: ModelVersion, stage: str) -> list[Change]:
        missing = [
            target
            for target in self._settings.stage_targets(stage)
            if target != self._settings.home
            and not is_present(version, self._targets[target].store)
        ]
        return [
            Change(
                kind="copy",
                name=version.ref,
                target=target,
                action=Action.CREATE,
                after={"bytes": version.manifest.size, "files": len(version.manifest.files)},
            )
            for target in missing
        ]


def _at_once(change: EndpointChange) -> EndpointChange:
    return replace(change, rollout=Rollout())
