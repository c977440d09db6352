"""The endpoints of all models: planned, applied and removed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloudreg.deploy import Deployer, Sight
from cloudreg.errors import InvalidRequest, NotFound, StalePlan
from cloudreg.hours import Presence
from cloudreg.names import check_model
from cloudreg.plan import Plan
from cloudreg.planning import Planner
from cloudreg.promotion import Outcome, Promoter
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import Endpoint, GateResult
from cloudreg.work import Work

Prepare = Callable[[Sequence[GateResult] | None], Work]


class Fleet:
    """Everything that serves, and everything that should."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        registry: Registry,
        deployer: Deployer,
        *,
        planner: Planner,
        promoter: Promoter,
    ) -> None:
        """Use what is configured, opened and registered."""
        self._settings = settings
        self._targets = targets
        self._registry = registry
        self._deployer = deployer
        self._planner = planner
        self._promoter = promoter

    def plan(self, model: str | None, *, prune: bool) -> Plan:
        """Return what making endpoints as they are configured would change.

        The request of the plan holds the fingerprint of each model's part of it.
        """
        # One look for all models: endpoints times models would be asked otherwise.
        sight = self._planner.look()
        works = {
            name: self._planner.endpoints(
                name, self._deployer.names(model=name), prune=prune, sight=sight, fold=fold
            )
            for name, fold in self._registry.folds(self._models(model, sight)).items()
        }
        return Plan(
            request={
                "verb": "apply",
                "prune": prune,
                "models": {name: work.plan.fingerprint for name, work in works.items()},
            },
            changes=tuple(c for work in works.values() for c in work.plan.changes),
            warnings=tuple(w for work in works.values() for w in work.plan.warnings),
            bills=tuple(b for work in works.values() for b in work.plan.bills),
        )

    def apply(self, request: Mapping[str, Any]) -> list[Outcome]:
        """Apply to each model what was planned for it; nothing if any of them moved.

        Raises:
            StalePlan: The changes would be others by now.
        """
        planned: Mapping[str, str] = request["models"]
        prune = bool(request["prune"])
        for model in planned:
            self._promoter.settle(model)
        # Again one look for all of them; whoever has something to change looks for itself.
        sight = self._planner.look()
        works = {
            model: self._planner.endpoints(
                model, self._deployer.names(model=model), prune=prune, sight=sight
            )
            for model in planned
        }
        for model, work in works.items():
            if work.plan.fingerprint != planned[model]:
                raise StalePlan(
                    f"the world moved since the endpoints of {model} were planned",
                    hint="plan again, look at it, and apply that one",
                )
        return [
            Outcome(plan=work.plan, entry=None, version=None, behind=work.behind)
            if work.plan.empty
            else self._promoter.perform(
                model, self._endpoints(model, prune), expected=planned[model]
            )
            for model, work in works.items()
        ]

    def settle(self, model: str | None) -> None:
        """Undo what dead processes left half done, so that a plan shows the truth."""
        sight = self._planner.look() if model is None else {}
        for name in self._models(model, sight):
            self._promoter.settle(name)

    def removable(self) -> dict[str, tuple[str, str, Endpoint | None]]:
        """Return name to model, target and endpoint: of what runs, and what the ledger thinks runs.

        After a crash an endpoint can be gone that the ledger still knows.
        """
        known: dict[str, tuple[str, str, Endpoint | None]] = {
            name: (model, applied.target, None)
            for model, fold in self._registry.folds().items()
            for name, applied in fold.applied.items()
        }
        running = self._running(self._deployer.look()).items()
        return known | {name: (seen.spec.model, target, seen) for name, (target, seen) in running}

    def remove(self, names: Sequence[str]) -> dict[str, str]:
        """Remove endpoints, all of them without names, and return endpoint to target.

        Raises:
            NotFound: No such endpoint; nothing was removed.
        """
        found = self.removable()
        unknown = sorted(set(names) - set(found))
        if unknown:
            raise NotFound(
                f"no endpoint {unknown[0]!r} is there",
                hint=f"there are {', '.join(sorted(found)) or 'none'}",
            )
        removed: dict[str, str] = {}
        # An endpoint that was configured elsewhere later can run on several targets.
        for _ in self._targets:
            found = self.removable()
            wanted = {name: found[name] for name in (names or sorted(found)) if name in found}
            for model in sorted({model for model, _, _ in wanted.values()}):
                mine = {name for name, (owner, _, _) in wanted.items() if owner == model}
                self._promoter.perform(model, self._removal(model, mine))
            removed |= {name: target for name, (_, target, _) in wanted.items()}
        return removed

    def touch(self, names: Sequence[str]) -> dict[str, Presence]:
        """Let the time of endpoints begin anew, and return until when they are up.

        Raises:
            NotFound: No such endpoint is configured; nothing was touched.
            InvalidRequest: One has no ttl; nothing was touched.
        """
        endpoints = self._settings.endpoints
        for name in names:
            if name not in endpoints:
                raise NotFound(
                    f"no endpoint {name!r} is configured",
                    hint=f"there are {', '.join(endpoints) or 'none'}",
                )
            if endpoints[name].ttl_s is None:
                raise InvalidRequest(
                    f"endpoint {name} has no ttl that could begin anew",
                    hint=f'ttl = "8h" in [endpoints.{name}]',
                )
        for model in sorted({endpoints[name].model for name in names}):
            mine = [name for name in names if endpoints[name].model == model]
            self._registry.touch(model, mine)
        return {name: self._deployer.outlook.presence(name) for name in names}

    def _endpoints(self, model: str, prune: bool) -> Prepare:
        names = self._deployer.names(model=model)
        return lambda _: self._planner.endpoints(model, names, prune=prune)

    def _models(self, model: str | None, sight: Sight) -> list[str]:
        """Return *model* alone, or all that have endpoints in *sight* or should have some."""
        if model is not None and self._deployer.names(model=check_model(model)):
            return [model]
        if model is not None:
            self._registry.fold(model)  # a name that nobody knows is no empty plan
            return [model]
        configured = {endpoint.model for endpoint in self._settings.endpoints.values()}
        running = {seen.spec.model for _, seen in self._running(sight).values()}
        return sorted(configured | running)

    def _running(self, sight: Sight) -> dict[str, tuple[str, Endpoint]]:
        """Return all endpoints in *sight*: name to target and endpoint.

        Of one that runs on several targets, where it is configured.
        """
        found: dict[str, tuple[str, Endpoint]] = {}
        for target, there in sight.items():
            for seen in there:
                name = seen.spec.name
                configured = name in self._settings.endpoints
                if name not in found or (
                    configured and self._settings.endpoint_target(name) == target
                ):
                    found[name] = (target, seen)
        return found

    def _removal(self, model: str, names: set[str]) -> Prepare:
        def prepare(_: Sequence[GateResult] | None) -> Work:
            found = self.removable()
            there = {n: found[n][1:] for n in sorted(names) if n in found}
            return self._planner.down(model, there)

        return prepare
