"""Endpoints that follow stages: what they should be, what they are, and the way between."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cloudreg import artifacts
from cloudreg.carrying import hand_over
from cloudreg.catalog import Bill
from cloudreg.errors import CloudregError, Conflict
from cloudreg.fence import FencedEndpoints, FencedRegistry
from cloudreg.holding import holding
from cloudreg.ledger import Fold, Lease
from cloudreg.names import ModelRef
from cloudreg.operations import SILENT, Progress
from cloudreg.outlook import Outlook, told, told_of
from cloudreg.plan import EndpointChange, endpoint_change, flat, spec_from_json, spec_json
from cloudreg.projection import FOREIGN, Difference, mirror
from cloudreg.registry import Registry
from cloudreg.rollout import Roller, shared
from cloudreg.seals import Seals
from cloudreg.settings import Settings
from cloudreg.settings.endpoints import EndpointSettings
from cloudreg.targets import Targets
from cloudreg.types import (
    SHADOW,
    Driver,
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    Identified,
    ModelVersion,
    PublishedVersion,
    Scaling,
    Variant,
)

NOWHERE: Mapping[str, int] = {}
"""No rollout is under way."""

Sight = Mapping[str, Sequence[Endpoint]]
"""What runs: target to all endpoints that cloudreg made there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What the configured endpoints of a model should be.

    Attributes:
        changes: Endpoints that are not what they should be.
        waiting: Endpoints whose stage holds no version yet.
        notes: What people should know of GPUs that were chosen, and of endpoints that are down.
        bills: What each costs, changed or not.
    """

    changes: tuple[EndpointChange, ...]
    waiting: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bills: tuple[Bill, ...] = ()


class Deployer:
    """The endpoints of all targets."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        registry: Registry,
        *,
        seals: Seals,
        outlook: Outlook,
        progress: Progress = SILENT,
        timeout_s: float = 1800.0,
    ) -> None:
        """Use what is configured, opened and registered."""
        self.outlook = outlook
        self._seals = seals
        self._settings = settings
        self._targets = targets
        self._registry = registry
        self._progress = progress
        self._timeout_s = timeout_s
        self._brought: set[tuple[str, str, str]] = set()

    def names(self, *, model: str | None = None, stage: str | None = None) -> list[str]:
        """Return the configured endpoints, by name."""
        return sorted(
            name
            for name, endpoint in self._settings.endpoints.items()
            if (model is None or endpoint.model == model)
            and (stage is None or endpoint.stage == stage)
        )

    def look(self, targets: Iterable[str] | None = None) -> Sight:
        """Return what runs on *targets* now, with one list call for each; on all without."""
        return {
            target: list(self._targets[target].endpoints.endpoints())
            for target in (self._targets if targets is None else targets)
        }

    def observe(
        self, names: Iterable[str], *, sight: Sight | None = None
    ) -> dict[str, Endpoint | None]:
        """Return the endpoints as they are now, with one list call for each target.

        Args:
            names: Configured endpoints.
            sight: What was seen already; then nothing is asked.
        """
        wanted = list(names)
        seen: dict[str, Endpoint | None] = dict.fromkeys(wanted)
        for target in sorted({self._settings.endpoint_target(name) for name in wanted}):
            for endpoint in (
                self._targets[target].endpoints.endpoints() if sight is None else sight[target]
            ):
                name = endpoint.spec.name
                if name in seen and self._settings.endpoint_target(name) == target:
                    seen[name] = endpoint
        return seen

    def desired(
        self,
        names: Sequence[str],
        *,
        holders: Callable[[str, str], Identified | None],
        sight: Sight | None = None,
        anew: bool = False,
    ) -> Desired:
        """Compare the configured endpoints with what there is.

        Args:
            names: Configured endpoints.
            holders: Returns the version of a model that a stage has, or will have.
            sight: What was seen already; without it, the targets are asked.
            anew: Whether this is a deployment, with which the time of an endpoint begins anew.

        Raises:
            Unsupported: A target cannot do what is configured; nothing was touched.
            Conflict: An endpoint serves another model.
        """
        observed = self.observe(names, sight=sight)
        changes: list[EndpointChange] = []
        waiting: list[str] = []
        notes: list[str] = []
        bills: list[Bill] = []
        for name in names:
            configured = self._settings.endpoints[name]
            target = self._settings.endpoint_target(name)
            version = holders(configured.model, configured.stage)
            if version is None:
                waiting.append(name)
                continue
            seen = observed[name]
            if seen is not None and seen.spec.model != configured.model:
                # The ledger of the other model speaks of it: only that one can let it go.
                raise Conflict(
                    f"endpoint {name} serves {seen.spec.model}, and is configured for "
                    f"{configured.model}",
                    target=target,
                    hint=f"cloudreg down {name}, then cloudreg apply",
                )
            if seen is not None and seen.spec.kind is not configured.kind:
                # Whoever calls it calls it otherwise; and SageMaker makes no serverless endpoint
                # of another: https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html
                raise Conflict(
                    f"endpoint {name} is {seen.spec.kind}, and is configured as "
                    f"{configured.kind}: its callers would break",
                    target=target,
                    hint=f"another name, or cloudreg down {name} and then cloudreg apply",
                )
            choice = self.outlook.choice(name)
            spec = self.outlook.spec(name, version, choice)
            if configured.shadow is not None:
                spec = replace(spec, shadow=self._shadow(configured, spec))
            rollout = configured.rollout.noun()
            capabilities = self._targets[target].capabilities
            capabilities.require(spec, target=target)
            capabilities.require_change(
                seen.spec if seen is not None else None, spec, target=target
            )
            # Refused now, and not by the first version that has to share the traffic.
            capabilities.require_rollout(rollout, spec, target=target)
            if rollout.stepwise and rollout.driver is Driver.CLOUDREG:
                capabilities.require(shared(spec), target=target)
            now = self.outlook.presence(name, anew=anew)
            notes += filter(None, [told(name, choice), told_of(name, now)])
            bills.append(self.outlook.bill(name, target, seen=seen, after=spec, now=now))
            change = endpoint_change(
                name,
                target=target,
                desired=spec if now.up else None,
                observed=seen,
                rollout=rollout,
            )
            if change is not None and not now.up:
                change = replace(change, why=now.why, rests=self.outlook.began(name))
            if change is not None:
                changes.append(change)
        return Desired(
            changes=tuple(changes),
            waiting=tuple(waiting),
            notes=tuple(notes),
            bills=tuple(bills),
        )

    def _shadow(self, configured: EndpointSettings, spec: EndpointSpec) -> Variant | None:
        """Return the version that gets copies; None while its stage holds none."""
        wanted = configured.shadow
        assert wanted is not None
        number = wanted.version
        if wanted.stage is not None:
            # Of the ledger, and not of the request: that one moves the endpoint's own stage.
            holder = self._registry.fold(configured.model).stages.get(wanted.stage)
            number = holder.number if holder is not None else None
        if number is None:
            return None
        found = self._registry.version(ModelRef(model=configured.model, number=number))
        (own,) = spec.variants
        # It follows no load: what it is asked is a share of what others are asked.
        least = max(1, own.scaling.min_replicas)
        return replace(
            own,
            name=SHADOW,
            number=found.number,
            digest=found.digest,
            weight=wanted.percent,
            scaling=Scaling(min_replicas=least, max_replicas=least),
        )

    def orphans(self, model: str, sight: Sight) -> list[tuple[str, Endpoint]]:
        """Return target and endpoint of what cloudreg made and nobody configures there any more."""
        return [
            (target, seen)
            for target, found in sight.items()
            for seen in found
            if seen.spec.model == model and not self._is_configured(seen, target)
        ]

    def _is_configured(self, seen: Endpoint, target: str) -> bool:
        name = seen.spec.name
        if name not in self._settings.endpoints:
            return False
        where = self._settings.endpoint_target(name)
        if where == target:
            return True
        # Two targets may lead to one place: then this is the endpoint that is configured.
        there = self._targets[where].endpoints.endpoint(name)
        return there is not None and (there.url, there.native_id) == (seen.url, seen.native_id)

    def deploy(
        self,
        changes: Sequence[EndpointChange],
        lease: Lease,
        *,
        touched: list[str],
        first_steps: Mapping[str, int] = NOWHERE,
    ) -> dict[str, Any]:
        """Make the changes one after another, and return what the ledger records of them.

        Args:
            changes: From `desired`.
            lease: Of the model that they serve.
            touched: Gets the name of each endpoint before it is touched, for whoever undoes.
            first_steps: Endpoint to the step where its paused rollout goes on.

        Raises:
            RolloutPaused: The endpoint stays as it is.
            CloudregError: A change failed.
        """
        applied: dict[str, Any] = {}
        for change in changes:
            touched.append(change.name)
            if change.after is None:
                self.roller(change.target, lease, {}).delete(change.name)
                if self._is_recorded(change, lease):
                    applied[change.name] = None
                continue
            versions = self._versions(change.after, change.before)
            for variant in change.after.served:
                version = versions[variant.digest]
                self.bring(version, change.target, lease, stage=change.after.stage)
            roller = self.roller(change.target, lease, versions)
            live = roller.roll(
                change.before,
                change.after,
                change.rollout,
                first_step=first_steps.get(change.name, 0),
            )
            applied[change.name] = {"target": change.target, "spec": spec_json(live.spec)}
        return applied

    def unrecorded(
        self,
        version: ModelVersion,
        stage: str,
        fold: Fold,
        *,
        targets: Container[str],
        but: Container[str],
    ) -> dict[str, Any]:
        """Return what the ledger is to say of endpoints that serve *version*, where it does not.

        An operation whose undoing failed left them so, and whoever does the same again finds
        nothing to change there. Where the ledger knows, nothing is asked.

        Args:
            version: What the stage holds from now on.
            stage: Of the endpoints.
            fold: The state of the model.
            targets: Those that follow the stage now.
            but: Endpoints that were changed.
        """
        where = {
            name: self._settings.endpoint_target(name)
            for name in self.names(model=version.model, stage=stage)
            if name not in but
        }

        def is_known(name: str) -> bool:
            applied = fold.applied.get(name)
            if applied is None or applied.target != where[name]:
                return False
            return version.digest in {v.digest for v in spec_from_json(applied.spec).variants}

        names = [name for name in where if where[name] in targets and not is_known(name)]
        return {
            name: {"target": where[name], "spec": spec_json(seen.spec)}
            for name, seen in self.observe(names).items()
            if seen is not None and {v.digest for v in seen.spec.variants} == {version.digest}
        }

    def _is_recorded(self, change: EndpointChange, lease: Lease) -> bool:
        """Whether the ledger speaks of this very endpoint, and not of one on another target."""
        applied = lease.ledger.read().applied.get(change.name)
        return applied is None or applied.target == change.target

    def stand_up(
        self, version: ModelVersion, spec: EndpointSpec, target: str, lease: Lease
    ) -> None:
        """Make an endpoint as *spec* says, with *version* among what it serves."""
        self.bring(version, target, lease, stage=spec.stage)
        self.roller(target, lease, self._versions(spec, None)).stand_up(spec)

    def restore(self, name: str, target: str, before: EndpointSpec | None, lease: Lease) -> None:
        """Bring one endpoint back to *before*."""
        versions = self._versions(before, None) if before is not None else {}
        self.roller(target, lease, versions).restore(name, before)

    def roller(self, target: str, lease: Lease, versions: Mapping[str, ModelVersion]) -> Roller:
        """Return what moves endpoints of a target, behind the lease's fence."""
        return Roller(
            FencedEndpoints(self._targets[target].endpoints, lease),
            lease,
            target=target,
            artifacts=versions,
            progress=self._progress,
            timeout_s=self._timeout_s,
        )

    def drift(self, fold: Fold, *, sight: Sight) -> list[Difference]:
        """Return where endpoints are not what cloudreg last made of them.

        Args:
            fold: The state of the model that they serve.
            sight: What runs on their targets.
        """
        there = {(t, seen.spec.name): seen for t, every in sight.items() for seen in every}
        found = [
            replace(_difference(name, target, "endpoint", "not there", "there"), kind=FOREIGN)
            for (target, name), seen in sorted(there.items())
            # One that was moved to another target may still run on this one: the plan says so.
            if seen.spec.model == fold.model and name not in fold.applied
        ]
        for name, applied in sorted(fold.applied.items()):
            if applied.target not in sight:
                continue  # it does not answer, and that is told
            wanted = spec_from_json(applied.spec)
            seen = there.get((applied.target, name))
            if seen is None:
                found.append(_difference(name, applied.target, "endpoint", "there", "gone"))
                continue
            now = self._asked(name, fold)
            found += [
                _difference(name, applied.target, key, left, right, wanted=now.get(key, left))
                for key, left, right in _fields(spec_json(wanted), spec_json(seen.spec))
            ]
            if seen.status is not EndpointStatus.READY:
                state = f"{seen.status} ({seen.message})" if seen.message else str(seen.status)
                found.append(_difference(name, applied.target, "status", "ready", state))
            running = {status.name: status for status in seen.variants}
            for variant in wanted.served:
                status = running.get(variant.name)
                if status is not None and status.digest != variant.digest:
                    found.append(
                        _difference(
                            name,
                            applied.target,
                            f"{variant.name} runs",
                            variant.digest,
                            status.digest,
                        )
                    )
        return found

    def _asked(self, name: str, fold: Fold) -> dict[str, Any]:
        """Return what stage and configuration ask of an endpoint now, part by part."""
        configured = self._settings.endpoints.get(name)
        holder = fold.stages.get(configured.stage) if configured is not None else None
        if configured is None or holder is None:
            return {}
        version = PublishedVersion(model=fold.model, number=holder.number, digest=holder.digest)
        try:
            spec = self.outlook.spec(name, version, self.outlook.choice(name))
        except CloudregError:
            return {}  # the plan says why it cannot be
        return dict(flat(spec_json(spec)))

    def bring(self, version: ModelVersion, target: str, lease: Lease, *, stage: str | None) -> None:
        """Make sure that the target has the version, with the very bytes that were registered.

        Once for each operation: a stage and its endpoints need the same bytes.

        Args:
            version: Which one.
            target: Where.
            lease: Of the model.
            stage: What it is brought for; its signatures are proved there, by what stands there.

        Raises:
            IntegrityError: It has others, or a signature that does not hold.
            SignatureRequired: The stage asks for a signature that nobody gave.
        """
        provider = self._targets[target]
        self._bring(version, target, lease)
        if stage is not None:
            self._seals.require(version, stage, store=provider.store, target=target)

    def _bring(self, version: ModelVersion, target: str, lease: Lease) -> None:
        brought = (lease.op, version.digest, target)
        if brought in self._brought:
            return
        provider = self._targets[target]
        limit = self._settings.targets[target].transfer_above_bytes
        with lease.kept():
            is_checked = False
            if target != self._settings.home:
                with holding(lease.check):
                    is_checked = hand_over(
                        version,
                        self._targets[self._settings.home],
                        provider,
                        limit=limit,
                        target=target,
                        progress=self._progress,
                        on_poll=lease.glance,
                    )
            mirror(
                version,
                source=None if target == self._settings.home else self._registry.store,
                store=provider.store,
                registry=FencedRegistry(provider.registry, lease),
                progress=self._progress,
            )
            if not is_checked:
                artifacts.check(version, provider.store, target=target, progress=self._progress)
        if target != self._settings.home:
            self._seals.carry(version, provider.store)
        self._brought.add(brought)

    def _versions(self, spec: EndpointSpec, before: Endpoint | None) -> dict[str, ModelVersion]:
        variants = [*spec.served, *(before.spec.served if before is not None else ())]
        versions: dict[str, ModelVersion] = {}
        for variant in variants:
            if variant.digest not in versions:
                ref = ModelRef(model=variant.model, digest=variant.digest)
                versions[variant.digest] = self._registry.version(ref)
        return versions


def _difference(
    name: str, target: str, part: str, ledger: object, actual: object, *, wanted: object = None
) -> Difference:
    return Difference(
        kind="endpoint",
        name=name,
        target=target,
        field=part,
        ledger=str(ledger),
        actual=str(actual),
        wanted=str(wanted) if wanted not in (None, ledger) else None,
    )


def _fields(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    left, right = dict(flat(wanted)), dict(flat(seen))
    return [
        (key, left.get(key), right.get(key))
        for key in sorted({*left, *right})
        if left.get(key) != right.get(key)
    ]
