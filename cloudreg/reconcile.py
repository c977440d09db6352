"""What targets show against what the ledger says: find it, mend it, or accept it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cloudreg.deploy import Deployer, Sight
from cloudreg.errors import Conflict, Fenced, NotFound
from cloudreg.fence import FencedRegistry
from cloudreg.ledger import Draft, Entry, Fold, Lease
from cloudreg.ledger.lease import LEASE_S, held
from cloudreg.names import ModelRef, short
from cloudreg.operations import SILENT, Progress
from cloudreg.plan import spec_from_json, spec_json
from cloudreg.projection import Difference, differences, show_stage
from cloudreg.promotion import Promoter
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What a repair or an adoption did.

    Attributes:
        differences: What was found.
        entry: The ledger's entry that records it; None where nothing was found.
    """

    differences: tuple[Difference, ...]
    entry: Entry | None


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
        progress: Progress = SILENT,
        lease_s: float = LEASE_S,
    ) -> None:
        """Use what is configured, opened and registered."""
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
        served = {applied.target for fold in folds.values() for applied in fold.applied.values()}
        sight = self._deployer.look(sorted(served))
        return {model: self._compare(model, fold, sight) for model, fold in folds.items()}

    def _compare(self, model: str, fold: Fold, sight: Sight) -> list[Difference]:
        found: list[Difference] = []
        for target, stages in self._mirrors().items():
            found += differences(
                model,
                fold=fold,
                target=target,
                stages=stages,
                registry=self._targets[target].registry,
            )
        return [*found, *self._deployer.drift(fold, sight=sight)]

    def repair(self, model: str) -> Repair:
        """Make targets show what the ledger says.

        Raises:
            Conflict: Somebody holds the model for too long, or a rollout of it is paused.
            CloudregError: A target refuses; what was mended stays mended.
        """
        self._promoter.settle(model)
        found = self.drift(model)
        if not found:
            return Repair(differences=(), entry=None)
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
        return Repair(differences=tuple(found), entry=entry)

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
        self._promoter.settle(model)
        fold = self._registry.fold(model)
        seq = fold.seq
        found = [d for d in self.drift(model) if d.target == target]
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
                    self._deployer.bring(version, target, lease)
                read = self._registry.ledger(model).read
                with suppress(NotFound):  # a registration on its way shows its version itself
                    show_stage(model, stage, read=read, registry=registry)
        for name, applied in fold.applied.items():
            self._progress.say(f"{applied.target}: {name}")
            self._deployer.restore(name, applied.target, spec_from_json(applied.spec), lease)

    def _check_mended(self, model: str) -> None:
        left = self.drift(model)
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
                endpoints[name] = {"target": target, "spec": spec_json(seen.spec)}
        return endpoints
