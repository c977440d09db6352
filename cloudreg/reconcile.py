"""What targets show against what the ledger says: find it, mend it, or accept it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cloudreg.deploy import Deployer
from cloudreg.errors import (
    CloudregError,
    Conflict,
    Fenced,
    NotFound,
    RepairRequired,
    Unavailable,
)
from cloudreg.fence import FencedRegistry
from cloudreg.ledger import Draft, Entry, Fold, Lease
from cloudreg.ledger.lease import LEASE_S, held
from cloudreg.names import ModelRef, short
from cloudreg.operations import SILENT, Progress
from cloudreg.plan import spec_from_json, spec_json
from cloudreg.projection import SILENT_TARGET, Difference, differences, show_stage
from cloudreg.promotion import Promoter
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import Endpoint, EndpointSpec

PARALLEL_LOOKS = 8
"""Lists of endpoints and of registries that are asked for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What a repair or an adoption did.

    Attributes:
        differences: What was found.
        entry: The ledger's entry that records it; None where nothing was found.
        left: What a repair does not end.
    """

    differences: tuple[Difference, ...]
    entry: Entry | None
    left: tuple[Difference, ...] = ()


class Reconciler:
    """Compares, repairs and adopts."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        registry: Registry,
        deployer: Deployer,
        promoter: Promoter,
        *,
        overrule: Callable[[str], None] = lambda _: None,
        progress: Progress = SILENT,
        lease_s: float = LEASE_S,
    ) -> None:
        """Use what is configured, opened and registered.

        Args:
            settings: The configuration.
            targets: Opened when needed.
            registry: The home's.
            deployer: Of the endpoints.
            promoter: Settles what is under way.
            overrule: Closes what was done without the home, and does not count.
            progress: Where it is shown.
            lease_s: Seconds that this process may be silent before others take over.
        """
        self._overrule = overrule
        self._settings = settings
        self._targets = targets
        self._registry = registry
        self._deployer = deployer
        self._promoter = promoter
        self._progress = progress
        self._lease_s = lease_s

    def drift(self, model: str) -> list[Difference]:
        """Return where targets show something else than the ledger.

        Raises:
            NotFound: No such model.
        """
        return self.drifts({model: self._registry.fold(model)})[model]

    def drifts(self, folds: Mapping[str, Fold]) -> dict[str, list[Difference]]:
        """Return the same for several models, with one look at the endpoints of each target.

        Args:
            folds: The state of each.
        """
        mirrors = self._mirrors()
        served = {applied.target for fold in folds.values() for applied in fold.applied.values()}
        targets = sorted({*served, *mirrors})
        with ThreadPoolExecutor(PARALLEL_LOOKS, thread_name_prefix="drift") as pool:
            looks = dict(zip(targets, pool.map(self._look, targets), strict=True))
            sight = {t: seen for t, seen in looks.items() if not isinstance(seen, CloudregError)}
            asked = [(m, t, s) for m in folds for t, s in mirrors.items() if t in sight]
            shown = pool.map(lambda each: self._compare(folds[each[0]], *each), asked)
            found = {(m, t): each for (m, t, _), each in zip(asked, shown, strict=True)}
        silent = [_silent(t, e) for t, e in looks.items() if isinstance(e, CloudregError)]
        return {
            model: [
                *silent,
                *(difference for t in mirrors for difference in found.get((model, t), ())),
                *self._deployer.drift(fold, sight=sight),
            ]
            for model, fold in folds.items()
        }

    def _compared(self, model: str, *targets: str) -> list[Difference]:
        """Return the drift, if the targets that matter answered: all of them without names.

        Raises:
            Unavailable: One did not, so that nobody knows what it shows.
        """
        found = self.drift(model)
        for silent in found:
            if silent.kind == SILENT_TARGET and (not targets or silent.target in targets):
                raise Unavailable(silent.actual, target=silent.target, hint="cloudreg doctor")
        return found

    def _look(self, target: str) -> Sequence[Endpoint] | CloudregError:
        """Return what runs on a target, or why it does not answer."""
        try:
            return self._deployer.look([target])[target]
        except CloudregError as error:
            return error

    def _compare(
        self, fold: Fold, model: str, target: str, stages: tuple[str, ...]
    ) -> list[Difference]:
        try:
            return differences(
                model,
                fold=fold,
                target=target,
                stages=stages,
                registry=self._targets[target].registry,
            )
        except CloudregError as error:
            return [_silent(target, error)]

    def repair(self, model: str) -> Repair:
        """Make targets show what the ledger says.

        Raises:
            Conflict: Somebody holds the model for too long, or a rollout of it is paused.
            CloudregError: A target refuses; what was mended stays mended.
        """
        self._overrule(model)
        self._promoter.settle(model)
        brought = self._bring_up(model)
        compared = self._compared(model)
        found = [difference for difference in compared if difference.mendable]
        left = tuple(difference for difference in compared if not difference.mendable)
        if not found:
            entry = next(iter(self._registry.history(model)), None) if brought else None
            return Repair(differences=tuple(brought), entry=entry, left=left)
        lease = Lease.claim(
            self._registry.ledger(model), verb="repair", data={}, lease_s=self._lease_s
        )
        try:
            self._mend(model, lease)
            self._check_mended(model)
            entry = lease.done({"verb": "repair", "repaired": [str(d) for d in found]})
        except Fenced:
            raise
        except BaseException as error:
            lease.abort(getattr(error, "message", None) or type(error).__name__)
            raise
        return Repair(differences=(*brought, *found), entry=entry, left=left)

    def adopt(self, model: str, *, target: str, reason: str) -> Repair:
        """Take what *target* shows as the truth: its stages and its endpoints.

        Args:
            model: Whose ledger.
            target: Whose console was right.
            reason: For the ledger.

        Raises:
            Conflict: It shows what cannot be the truth: a version that was never registered, or
                two versions in one stage.
            NotFound: No such model or target.
        """
        if target not in list(self._targets):
            raise NotFound(
                f"no target {target!r} is configured", hint=f"there are {', '.join(self._targets)}"
            )
        self._overrule(model)
        self._promoter.settle(model)
        fold = self._registry.fold(model)
        seq = fold.seq
        found = [d for d in self._compared(model, target) if d.target == target]
        if not found:
            return Repair(differences=(), entry=None)
        stages = self._shown_stages(model, target, fold)
        endpoints = self._shown_endpoints(target, fold)

        def draft(fold: Fold) -> Draft:
            if fold.open is not None:
                raise held(model, fold.open)
            if fold.seq != seq:
                # What was found may be what somebody else made true meanwhile.
                raise Conflict(
                    f"{model} moved while {target} was looked at: nothing was adopted",
                    hint=f"cloudreg drift {model}",
                )
            return Draft(
                kind="adopt",
                root=f"adopt:{target}",
                data={
                    "target": target,
                    "reason": reason,
                    "stages": stages,
                    "endpoints": endpoints,
                    "found": [str(d) for d in found],
                },
            )

        entry = self._registry.ledger(model).append(draft, op="adopt")
        return Repair(differences=tuple(found), entry=entry)

    def _bring_up(self, model: str) -> list[Difference]:
        """Bring targets up that are behind, and return how they were.

        Raises:
            RepairRequired: One still is.
        """
        fold = self._registry.fold(model)
        was = [
            Difference(
                kind="stage",
                name=f"{model}@{stage}",
                target=target,
                field="version",
                ledger=str(fold.stages[stage].number) if stage in fold.stages else "(none)",
                actual=f"{lagging.number or '(none)'}, behind: {lagging.reason}",
            )
            for stage, targets in fold.behind.items()
            for target, lagging in targets.items()
        ]
        for stage, left in (self._promoter.follow(model) if was else {}).items():
            for target, why in left.items():
                raise RepairRequired(
                    f"{target} is still behind in {stage}: {why}",
                    target=target,
                    hint=f"once it answers: cloudreg repair {model}",
                )
        return was

    def _mirrors(self) -> dict[str, tuple[str, ...]]:
        """Return target to the stages that it must show."""
        mirrors: dict[str, list[str]] = {self._settings.home: []}
        for stage in self._settings.order:
            for target in self._settings.stage_targets(stage):
                mirrors.setdefault(target, []).append(stage)
        return {target: tuple(stages) for target, stages in mirrors.items()}

    def _mend(self, model: str, lease: Lease) -> None:
        fold = self._registry.fold(model)
        for target, stages in self._mirrors().items():
            registry = FencedRegistry(self._targets[target].registry, lease)
            # First, because a foreign version can stand under the number of one of ours.
            for shown in list(registry.published(model)):
                known = fold.version(shown.number)
                if known is None or known.digest != shown.digest:
                    self._progress.say(
                        f"{target}: {model}:{shown.number} ({short(shown.digest)}) was never "
                        "registered; it is withdrawn"
                    )
                    for stage in shown.stages:
                        registry.point(model, stage, None)
                    registry.withdraw(model, shown.digest)
            for stage in stages:
                holder = fold.stages.get(stage)
                if holder is not None:
                    version = self._registry.version(ModelRef(model=model, number=holder.number))
                    self._deployer.bring(version, target, lease, stage=stage)
                read = self._registry.ledger(model).read
                with suppress(NotFound):  # a registration on its way shows its version itself
                    show_stage(model, stage, target=target, read=read, registry=registry)
        for name, applied in fold.applied.items():
            self._progress.say(f"{applied.target}: {name}")
            self._deployer.restore(name, applied.target, spec_from_json(applied.spec), lease)

    def _check_mended(self, model: str) -> None:
        left = [difference for difference in self._compared(model) if difference.mendable]
        if left:
            raise Conflict(
                f"{len(left)} differences are left after the repair: {left[0]}",
                target=left[0].target,
            )

    def _shown_stages(self, model: str, target: str, fold: Fold) -> dict[str, int | None]:
        mirrored = self._mirrors().get(target)
        if mirrored is None:
            raise NotFound(f"target {target!r} shows no stage", hint="see [stages.*] targets")
        published = list(self._targets[target].registry.published(model))
        stages: dict[str, int | None] = {}
        for stage in mirrored:
            shown = [version for version in published if stage in version.stages]
            if len(shown) > 1:
                raise Conflict(
                    f"{target} shows {len(shown)} versions in {stage}: only one can be adopted",
                    target=target,
                    hint=f"cloudreg repair {model}",
                )
            holder = fold.stages.get(stage)
            number = shown[0].number if shown else None
            if number == (holder.number if holder else None):
                continue
            if shown:
                known = fold.version(shown[0].number)
                if known is None or known.digest != shown[0].digest:
                    raise Conflict(
                        f"{target} shows {model}:{number} ({short(shown[0].digest)}) in {stage}, "
                        "which was never registered",
                        target=target,
                        hint=f"cloudreg repair {model}",
                    )
            stages[stage] = number
        return stages

    def _shown_endpoints(self, target: str, fold: Fold) -> dict[str, Mapping[str, Any] | None]:
        endpoints: dict[str, Mapping[str, Any] | None] = {}
        for name, applied in fold.applied.items():
            if applied.target != target:
                continue
            seen = self._targets[target].endpoints.endpoint(name)
            if seen is None:
                endpoints[name] = None
            elif seen.spec != spec_from_json(applied.spec):
                _check_known(seen.spec, fold, target=target)
                endpoints[name] = {"target": target, "spec": spec_json(seen.spec)}
        for seen in self._deployer.look([target])[target]:
            if seen.spec.model == fold.model and seen.spec.name not in fold.applied:
                _check_known(seen.spec, fold, target=target)
                endpoints[seen.spec.name] = {"target": target, "spec": spec_json(seen.spec)}
        return endpoints


def _silent(target: str, error: CloudregError) -> Difference:
    return Difference(
        kind=SILENT_TARGET,
        name=target,
        target=target,
        field="answer",
        ledger="it answers",
        actual=error.message,
    )


def _check_known(spec: EndpointSpec, fold: Fold, *, target: str) -> None:
    """Refuse to adopt what runs something that nobody registered."""
    for variant in spec.variants:
        known = fold.version(variant.number)
        if known is None or known.digest != variant.digest:
            raise Conflict(
                f"endpoint {spec.name} on {target} runs {short(variant.digest)}, which was never "
                "registered",
                target=target,
                hint=f"cloudreg repair {fold.model}",
            )
