"""What no single table can check: names that cannot be, and references that lead nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudreg.errors import CloudregError
from cloudreg.names import check_endpoint, check_model, check_stage, check_target
from cloudreg.settings.tables import EndpointSettings, Settings
from cloudreg.types import (
    EndpointKind,
    Resources,
    Rollout,
    Scaling,
    ScalingMetric,
    check_environment,
    check_measurable,
)


class Misplaced(Exception):
    """A value that cannot be, with its key.

    Attributes:
        where: The key, from the top.
        reason: In words.
        hint: What to write instead.
    """

    def __init__(self, where: tuple[str, ...], reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.where, self.reason, self.hint = where, reason, hint


def check(settings: Settings) -> None:
    """Refuse names that cannot be, and references that lead nowhere."""
    targets, stages = settings.targets, settings.stages
    for name in targets:
        _named(("targets", name), lambda name=name: check_target(name))
    if settings.home not in targets:
        raise Misplaced(("home",), f"no target {settings.home!r}", f"[targets.{settings.home}]")
    if not stages:
        raise Misplaced(("stages",), "at least one stage is needed")
    for name, stage in stages.items():
        _named(("stages", name), lambda name=name: check_stage(name))
        for target in stage.targets:
            if target not in targets:
                raise Misplaced(
                    ("stages", name, "targets"), f"no target {target!r}", _list(targets)
                )
        if len(set(stage.targets)) != len(stage.targets):
            raise Misplaced(("stages", name, "targets"), "a target is listed twice")
        if stage.targets and settings.home not in stage.targets:
            # The home shows every stage: its registry is where people look first.
            raise Misplaced(
                ("stages", name, "targets"), f"the home, {settings.home!r}, must be among them"
            )
    first = settings.order[0]
    ignored: list[tuple[str, ...]] = [
        ("stages", first, key) for key in ("gates", "approvals") if getattr(stages[first], key)
    ]
    ignored += [
        ("models", m, "gates", first) for m, s in settings.models.items() if s.gates.get(first)
    ]
    if ignored:
        raise Misplaced(
            ignored[0],
            f"every registered version enters the first stage, {first!r}, so that nothing can "
            "stand before it",
            "list the stages before it too, in order: [stages.dev]",
        )
    for name, model in settings.models.items():
        _named(("models", name), lambda name=name: check_model(name))
        for stage_name in model.gates:
            if stage_name not in stages:
                raise Misplaced(
                    ("models", name, "gates", stage_name),
                    f"no stage {stage_name!r}",
                    _list(stages),
                )
    _check_endpoints(settings)


def _check_endpoints(settings: Settings) -> None:
    targets, stages = settings.targets, settings.stages
    for name, endpoint in settings.endpoints.items():
        where = ("endpoints", name)
        _named(where, lambda name=name: check_endpoint(name))
        _named((*where, "model"), lambda e=endpoint: check_model(e.model))
        if endpoint.stage not in stages:
            raise Misplaced((*where, "stage"), f"no stage {endpoint.stage!r}", _list(stages))
        if endpoint.target is not None and endpoint.target not in targets:
            raise Misplaced((*where, "target"), f"no target {endpoint.target!r}", _list(targets))
        _named((*where, "gpu"), lambda e=endpoint: e.resources)
        _named((*where, "min_replicas"), lambda e=endpoint: e.scaling)
        _check_following(where, endpoint)
        _named((*where, "rollout"), lambda e=endpoint: e.rollout.noun())
        _check_kind(where, endpoint)
        _named((*where, "env"), lambda e=endpoint: check_environment(e.env))


def _check_kind(where: tuple[str, ...], endpoint: EndpointSettings) -> None:
    """Refuse a table of another kind, and what a serverless endpoint has no place for."""
    for kind in (EndpointKind.SERVERLESS, EndpointKind.ASYNCHRONOUS):
        if getattr(endpoint, kind) is not None and endpoint.kind is not kind:
            raise Misplaced((*where, kind), f"the endpoint is {endpoint.kind}", f'kind = "{kind}"')
        _named((*where, kind), lambda k=kind: getattr(endpoint, f"{k}_noun"))
    if endpoint.kind is not EndpointKind.SERVERLESS:
        return
    wrong = {
        "gpu": endpoint.resources != Resources(),
        "max_replicas": endpoint.scaling != Scaling(),
        "rollout": endpoint.rollout.noun() != Rollout(),
    }
    hints = {
        "gpu": "leave gpu and machine_type out",
        "max_replicas": f"[{'.'.join(where)}.serverless] max_concurrency bounds it instead",
        "rollout": 'strategy = "all_at_once"',
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise Misplaced(
                (*where, key), f"a serverless endpoint has no {_LACKS[key]}", hints[key]
            )


_LACKS = {
    "gpu": "machines to choose",
    "max_replicas": "replicas to count",
    "rollout": "second variant, and so no steps",
}


def _check_following(where: tuple[str, ...], endpoint: EndpointSettings) -> None:
    """Refuse what would be followed by nothing, or measured on nothing."""
    scaling = endpoint.scaling
    _named((*where, scaling.metric), lambda: check_measurable(endpoint.resources, scaling))
    fixed = [
        *(m.value for m in endpoint.followed if m is not ScalingMetric.CONCURRENCY),
        *(key for key in ("scaling_steps", "scale_out_cooldown_s") if getattr(endpoint, key)),
    ]
    if fixed and not scaling.autoscaled:
        raise Misplaced(
            (*where, fixed[0]),
            f"{fixed[0]}: the number of replicas is fixed at {scaling.max_replicas}",
            f"max_replicas = {scaling.max_replicas + 1}",
        )


def _named(where: tuple[str, ...], check: Any) -> None:
    try:
        check()
    except CloudregError as error:
        raise Misplaced(where, error.message, error.hint) from error


def _list(names: Mapping[str, Any]) -> str:
    return f"there are {', '.join(names)}"
