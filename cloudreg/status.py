"""What runs where, from the ledger and from the targets side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloudreg.deploy import Deployer
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import Endpoint

PARALLEL_LISTS = 8
"""Lists of registries that are asked for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a target's own registry shows of a stage.

    Attributes:
        target: Where.
        numbers: The versions that it shows in the stage; one, if all is well.
    """

    target: str
    numbers: tuple[int, ...]


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
        status: ``absent``, or one of `cloudreg.types.EndpointStatus`.
        message: Why, in the target's words.
        url: Where requests go.
        since: When it last changed, ISO 8601 in UTC.
        serving: Its variants.
    """

    name: str
    target: str
    status: str
    message: str = ""
    url: str | None = None
    since: str | None = None
    serving: tuple[Serving, ...] = ()


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
    """

    model: str
    stage: str
    number: int | None
    digest: str | None
    since: str | None
    shown: tuple[Shown, ...]
    endpoints: tuple[EndpointState, ...]


def status(
    model: str | None = None,
    *,
    settings: Settings,
    targets: Targets,
    registry: Registry,
    deployer: Deployer,
) -> list[StageStatus]:
    """Return every stage of a model, or of all, with one list call for the endpoints of a target.

    Raises:
        NotFound: No such model.
    """
    folds = registry.folds() if model is None else {model: registry.fold(model)}
    names = [name for name, endpoint in settings.endpoints.items() if endpoint.model in folds]
    observed = deployer.observe(names)
    mirrors = sorted({t for stage in settings.order for t in settings.stage_targets(stage)})
    registries = {target: targets[target].registry for target in mirrors}
    asked = [(target, name) for name in folds for target in mirrors]
    with ThreadPoolExecutor(PARALLEL_LISTS, thread_name_prefix="status") as pool:
        lists = list(pool.map(lambda each: list(registries[each[0]].published(each[1])), asked))
    shown = dict(zip(asked, lists, strict=True))
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
                        Shown(
                            target=target,
                            numbers=tuple(
                                sorted(v.number for v in shown[target, name] if stage in v.stages)
                            ),
                        )
                        for target in settings.stage_targets(stage)
                    ),
                    endpoints=tuple(
                        _state(each, settings.endpoint_target(each), observed[each])
                        for each in deployer.names(model=name, stage=stage)
                    ),
                )
            )
    return rows


def _state(name: str, target: str, seen: Endpoint | None) -> EndpointState:
    if seen is None:
        return EndpointState(name=name, target=target, status="absent")
    numbers = {variant.name: variant.number for variant in seen.spec.variants}
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
