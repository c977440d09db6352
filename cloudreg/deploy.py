"""Endpoints that follow stages: what they should be, what they are, and the way between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudreg import artifacts
from cloudreg.errors import Conflict
from cloudreg.fence import FencedEndpoints, FencedRegistry
from cloudreg.ledger import Fold, Lease
from cloudreg.names import ModelRef
from cloudreg.operations import SILENT, Progress
from cloudreg.plan import EndpointChange, endpoint_change, flat, spec_from_json, spec_json
from cloudreg.projection import Difference, mirror
from cloudreg.registry import Registry
from cloudreg.rollout import Roller, shared
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import Endpoint, EndpointSpec, EndpointStatus, Identified, ModelVersion

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
    """

    changes: tuple[EndpointChange, ...]
    waiting: tuple[str, ...] = ()


class Deployer:
    """The endpoints of all targets."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        registry: Registry,
        *,
        progress: Progress = SILENT,
        timeout_s: float = 1800.0,
    ) -> None:
        """Use what is configured, opened and registered."""
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
    ) -> Desired:
        """Compare the configured endpoints with what there is.

        Args:
            names: Configured endpoints.
            holders: Returns the version of a model that a stage has, or will have.
            sight: What was seen already; without it, the targets are asked.

        Raises:
            Unsupported: A target cannot do what is configured; nothing was touched.
            Conflict: An endpoint serves another model.
        """
        observed = self.observe(names, sight=sight)
        changes, waiting = [], []
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
            spec = configured.spec(name, version)
            rollout = configured.rollout.noun()
            capabilities = self._targets[target].capabilities
            capabilities.require(spec, target=target)
            capabilities.require_change(
                seen.spec if seen is not None else None, spec, target=target
            )
            if rollout.stepwise:
                # Refused now, and not by the first version that has to share the traffic.
                capabilities.require(shared(spec), target=target)
            change = endpoint_change(
                name, target=target, desired=spec, observed=seen, rollout=rollout
            )
            if change is not None:
                changes.append(change)
        return Desired(changes=tuple(changes), waiting=tuple(waiting))

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
            for variant in change.after.variants:
                self.bring(versions[variant.digest], change.target, lease)
            roller = self.roller(change.target, lease, versions)
            live = roller.roll(
                change.before,
                change.after,
                change.rollout,
                first_step=first_steps.get(change.name, 0),
            )
            applied[change.name] = {"target": change.target, "spec": spec_json(live.spec)}
        return applied

    def _is_recorded(self, change: EndpointChange, lease: Lease) -> bool:
        """Whether the ledger speaks of this very endpoint, and not of one on another target."""
        applied = lease.ledger.read().applied.get(change.name)
        return applied is None or applied.target == change.target

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
        found: list[Difference] = []
        for name, applied in sorted(fold.applied.items()):
            wanted = spec_from_json(applied.spec)
            seen = there.get((applied.target, name))
            if seen is None:
                found.append(_difference(name, applied.target, "endpoint", "there", "gone"))
                continue
            found += [
                _difference(name, applied.target, key, left, right)
                for key, left, right in _fields(spec_json(wanted), spec_json(seen.spec))
            ]
            if seen.status is not EndpointStatus.READY:
                state = f"{seen.status} ({seen.message})" if seen.message else str(seen.status)
                found.append(_difference(name, applied.target, "status", "ready", state))
            running = {status.name: status for status in seen.variants}
            for variant in wanted.variants:
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

    def bring(self, version: ModelVersion, target: str, lease: Lease) -> None:
        """Make sure that the target has the version, with the very bytes that were registered.

        Once for each operation: a stage and its endpoints need the same bytes.

        Raises:
            IntegrityError: It has others.
        """
        brought = (lease.op, version.digest, target)
        if brought in self._brought:
            return
        provider = self._targets[target]
        with lease.kept():
            mirror(
                version,
                source=None if target == self._settings.home else self._registry.store,
                store=provider.store,
                registry=FencedRegistry(provider.registry, lease),
                progress=self._progress,
            )
            artifacts.check(version, provider.store, target=target, progress=self._progress)
        self._brought.add(brought)

    def _versions(self, spec: EndpointSpec, before: Endpoint | None) -> dict[str, ModelVersion]:
        variants = [*spec.variants, *(before.spec.variants if before is not None else ())]
        versions: dict[str, ModelVersion] = {}
        for variant in variants:
            if variant.digest not in versions:
                ref = ModelRef(model=variant.model, digest=variant.digest)
                versions[variant.digest] = self._registry.version(ref)
        return versions


def _difference(name: str, target: str, part: str, ledger: object, actual: object) -> Difference:
    return Difference(
        kind="endpoint",
        name=name,
        target=target,
        field=part,
        ledger=str(ledger),
        actual=str(actual),
    )


def _fields(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    left, right = dict(flat(wanted)), dict(flat(seen))
    return [
        (key, left.get(key), right.get(key))
        for key in sorted({*left, *right})
        if left.get(key) != right.get(key)
    ]
