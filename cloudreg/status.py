"""What runs where, from the ledger and from the targets side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cloudreg.deploy import Deployer
from cloudreg.errors import CloudregError
from cloudreg.hours import Presence
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import Endpoint, PublishedVersion

PARALLEL_LISTS = 8
"""Lists of registries that are asked for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a target's own registry shows of a stage.

    Attributes:
        target: Where.
        numbers: The versions that it shows in the stage; one, if all is well.
        trouble: Why it could not be asked; empty where it could.
    """

    target: str
    numbers: tuple[int, ...]
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One variant of an endpoint.

    Attributes:
        variant: Its name.
        number: The version that was asked for.
        digest: What the servers themselves say they run; empty while none answers.
        weight: Percent of the traffic.
        ready: Replicas that answer.
        desired: Replicas that scaling wants.
    """

    variant: str
    number: int
    digest: str
    weight: int
    ready: int
    desired: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """A configured endpoint as it is.

    Attributes:
        name: Its name.
        target: Where.
        status: ``absent``, ``unknown`` where the target does not answer, or one of
            `cloudreg.types.EndpointStatus`.
        message: Why, in the target's words.
        url: Where requests go.
        since: When it last changed, ISO 8601 in UTC.
        serving: Its variants.
        wanted: Whether schedule and ttl want it to be there now.
        until: When that changes by itself, ISO 8601; None for never.
        timed_by: What says so: its schedule, or its ttl.
    """

    name: str
    target: str
    status: str
    message: str = ""
    url: str | None = None
    since: str | None = None
    serving: tuple[Serving, ...] = ()
    wanted: bool = True
    until: str | None = None
    timed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """One stage of one model.

    Attributes:
        model: The model.
        stage: The stage.
        number: The version that it holds; None while it holds none.
        digest: Its identity.
        since: When the stage moved, ISO 8601 in UTC.
        shown: What the registries of its targets show.
        endpoints: The endpoints that follow it.
        behind: Targets that were left as they were when it moved, and why.
    """

    model: str
    stage: str
    number: int | None
    digest: str | None
    since: str | None
    shown: tuple[Shown, ...]
    endpoints: tuple[EndpointState, ...]
    behind: Mapping[str, str] = field(default_factory=dict)


def status(
    model: str | None = None,
    *,
    settings: Settings,
    targets: Targets,
    registry: Registry,
    deployer: Deployer,
) -> list[StageStatus]:
    """Return every stage of a model, or of all, with one list call for the endpoints of a target.

    A target that does not answer is told in its rows; the others are told all the same.

    Raises:
        NotFound: No such model.
    """
    folds = registry.folds() if model is None else {model: registry.fold(model)}
    names = [name for name, endpoint in settings.endpoints.items() if endpoint.model in folds]
    served = sorted({settings.endpoint_target(name) for name in names})
    mirrors = sorted({t for stage in settings.order for t in settings.stage_targets(stage)})
    registries = {target: targets[target].registry for target in mirrors}
    asked = [(target, name) for name in folds for target in mirrors]
    with ThreadPoolExecutor(PARALLEL_LISTS, thread_name_prefix="status") as pool:
        looks = pool.map(lambda target: _told(lambda: deployer.look([target])[target]), served)
        lists = pool.map(
            lambda each: _told(lambda: list(registries[each[0]].published(each[1]))), asked
        )
        seen = dict(zip(served, looks, strict=True))
        shown = dict(zip(asked, lists, strict=True))
    sight = {target: () if isinstance(each, str) else each for target, each in seen.items()}
    observed = deployer.observe(names, sight=sight)
    silent = {target: each for target, each in seen.items() if isinstance(each, str)}
    rows = []
    for name, fold in folds.items():
        for stage in settings.order:
            holder = fold.stages.get(stage)
            rows.append(
                StageStatus(
                    model=name,
                    stage=stage,
                    number=holder.number if holder else None,
                    digest=holder.digest if holder else None,
                    since=holder.since if holder else None,
                    shown=tuple(
                        _shown(target, stage, shown[target, name])
                        for target in settings.stage_targets(stage)
                    ),
                    endpoints=tuple(
                        _timed(
                            _state(each, settings.endpoint_target(each), observed[each], silent),
                            deployer.outlook.presence(each),
                        )
                        for each in deployer.names(model=name, stage=stage)
                    ),
                    behind={
                        target: lagging.reason
                        for target, lagging in fold.behind.get(stage, {}).items()
                    },
                )
            )
    return rows


T = TypeVar("T")


def _told(ask: Callable[[], T]) -> T | str:
    """Return the answer, or why there is none."""
    try:
        return ask()
    except CloudregError as error:
        return error.message


def _shown(target: str, stage: str, published: Sequence[PublishedVersion] | str) -> Shown:
    if isinstance(published, str):
        return Shown(target=target, numbers=(), trouble=published)
    numbers = sorted(version.number for version in published if stage in version.stages)
    return Shown(target=target, numbers=tuple(numbers))


def _timed(state: EndpointState, now: Presence) -> EndpointState:
    until = now.until.isoformat(timespec="minutes") if now.until is not None else None
    return replace(state, wanted=now.up, until=until, timed_by=now.why)


def _state(
    name: str, target: str, seen: Endpoint | None, silent: Mapping[str, str]
) -> EndpointState:
    if target in silent:
        return EndpointState(name=name, target=target, status="unknown", message=silent[target])
    if seen is None:
        return EndpointState(name=name, target=target, status="absent")
    numbers = {variant.name: variant.number for variant in seen.spec.served}
    return EndpointState(
        name=name,
        target=target,
        status=seen.status.value,
        message=seen.message,
        url=seen.url,
        since=seen.since,
        serving=tuple(
            Serving(
                variant=variant.name,
                number=numbers.get(variant.name, 0),
                digest=variant.digest,
                weight=variant.weight,
                ready=variant.ready_replicas,
                desired=variant.desired_replicas,
            )
            for variant in seen.variants
        ),
    )
