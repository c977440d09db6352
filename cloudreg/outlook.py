"""What a configured endpoint should be on its target now: its GPUs, its hours, its price."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cloudreg.catalog import MONTH_H, Bill, Choice, Cost, Grade, choose, cost_of
from cloudreg.errors import CloudregError
from cloudreg.hours import Presence, presence
from cloudreg.ledger import Fold
from cloudreg.machines import Machine
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    Identified,
    PublishedVersion,
    Resources,
    Variant,
)

Clock = Callable[[], float]
"""Returns seconds since 1970."""

WEEK_H = 168

NOTHING = Cost()
"""What an endpoint costs that is not there."""


class Outlook:
    """Answers for the endpoints of a configuration; it asks no target."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        *,
        fold: Callable[[str], Fold],
        clock: Clock,
    ) -> None:
        """Use what is configured.

        Args:
            settings: The configuration.
            targets: For what their providers offer.
            fold: Returns the state of a model; called where an endpoint has a ttl.
            clock: Whose time counts for schedules and ttls.
        """
        self._fold = fold
        self._settings = settings
        self._targets = targets
        self._clock = clock

    def choice(self, name: str) -> Choice | None:
        """Return the GPUs that an endpoint gets; None for CPU.

        Raises:
            Unsupported: Its target has none that will do.
        """
        endpoint = self._settings.endpoints[name]
        wish, target = endpoint.wish, self._settings.endpoint_target(name)
        if wish is None:
            return None
        if endpoint.machine_type is not None and wish.accelerator is not None:
            # Somebody who names the machine knows what is in it.
            return Choice(accelerator=wish.accelerator, count=wish.count)

        def quote(gpu: str) -> Machine:
            only = Resources.parse(f"{gpu}:{wish.count}")
            return self._targets.machines(target, only)[0]

        return choose(wish, self._targets.offers(target), quote, name=name, target=target)

    def spec(self, name: str, version: Identified, choice: Choice | None) -> EndpointSpec:
        """Return the endpoint that serves *version*, with the GPUs that were chosen."""
        gpu = f"{choice.accelerator}:{choice.count}" if choice is not None else None
        return self._settings.endpoints[name].spec(name, version, gpu=gpu)

    def presence(self, name: str, *, anew: bool = False) -> Presence:
        """Return whether an endpoint should be there now, and until when.

        Args:
            name: The endpoint's.
            anew: Whether it is deployed now, so that its ttl begins.
        """
        endpoint = self._settings.endpoints[name]
        since = None if anew else self._deployed_at(name)
        now = datetime.fromtimestamp(self._clock(), UTC)
        return presence(now, schedule=endpoint.hours, ttl_s=endpoint.ttl_s, since=since)

    def began(self, name: str) -> str:
        """Return when the ttl of an endpoint that goes began; nothing where it has none."""
        since = self._deployed_at(name)
        return since.isoformat() if since is not None else ""

    def _deployed_at(self, name: str) -> datetime | None:
        """Return when an endpoint with a ttl was last deployed or touched; None if never."""
        endpoint = self._settings.endpoints[name]
        if endpoint.ttl_s is None:
            return None
        fold = self._fold(endpoint.model)
        applied, served = fold.applied.get(name), fold.served.get(name)
        times = [*([applied.at] if applied is not None else []), *([served] if served else [])]
        return max(map(datetime.fromisoformat, times)) if times else None

    def bill(
        self, name: str, target: str, *, seen: Endpoint | None, after: EndpointSpec, now: Presence
    ) -> Bill:
        """Return what an endpoint costs as it is, and as it is configured.

        Hours in which a schedule takes it down are in its price for a month already; what its ttl
        has ended costs nothing.
        """
        configured = self.cost(after, target)
        ended = not now.up and now.until is None
        if seen is not None:
            before = self.cost(seen.spec, target)
        else:
            before = NOTHING if now.up or ended else configured
        return Bill(
            endpoint=name,
            target=target,
            stage=after.stage,
            before=before,
            after=NOTHING if ended else configured,
        )

    def costs(self) -> list[Bill]:
        """Return what each endpoint costs as it is configured, without a look at its target."""
        return [self._configured(name) for name in sorted(self._settings.endpoints)]

    def _configured(self, name: str) -> Bill:
        endpoint, target = self._settings.endpoints[name], self._settings.endpoint_target(name)
        nobody = PublishedVersion(model=endpoint.model, number=1, digest=f"sha256:{'0' * 64}")
        cost = self.cost(self.spec(name, nobody, self.choice(name)), target)
        return Bill(endpoint=name, target=target, stage=endpoint.stage, before=cost, after=cost)

    def cost(self, spec: EndpointSpec, target: str) -> Cost:
        """Return what an endpoint costs on a target."""
        configured = self._settings.endpoints.get(spec.name)
        schedule = configured.hours if configured is not None else None
        hours = MONTH_H if schedule is None else MONTH_H * schedule.hours_per_week / WEEK_H
        shadow = (spec.shadow,) if spec.shadow is not None else ()
        machines = {v.name: self._machines(v, target) for v in (*spec.variants, *shadow)}
        return cost_of(spec, machines, hours=hours)

    def _machines(self, variant: Variant, target: str) -> tuple[Machine, ...]:
        try:
            return self._targets.machines(target, variant.resources)
        except CloudregError as error:
            # What runs may be something that the tables know no more; its price is unknown then.
            return (Machine(name=str(variant.resources), unpriced=error.message),)


def told(name: str, choice: Choice | None) -> str:
    """Return what a plan says of a choice; nothing where it is what was asked for."""
    if choice is None or not choice.reason:
        return ""
    what = f"endpoint {name}: gpu {choice.accelerator}:{choice.count}"
    if choice.grade is Grade.EXACT:
        return f"{what}: {choice.reason}"
    return f"{what}, {_ARTICLES[choice.grade]}: {choice.reason}"


def told_of(name: str, now: Presence) -> str:
    """Return what a plan says of an endpoint that should not be there; nothing of others."""
    return "" if now.up else f"endpoint {name} is {now}"


_ARTICLES = {
    Grade.EQUIVALENT: "an equivalent",
    Grade.UPGRADE: "an upgrade",
    Grade.DOWNGRADE: "a downgrade that is allowed",
}
