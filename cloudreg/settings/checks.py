"""What no single table can check: names that cannot be, and references that lead nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudreg.errors import CloudregError
from cloudreg.names import (
    check_endpoint,
    check_model,
    check_signer,
    check_stage,
    check_target,
)
from cloudreg.settings.endpoints import EndpointSettings
from cloudreg.settings.tables import Settings
from cloudreg.types import (
    Commit,
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
    for name, section in targets.items():
        _named(("targets", name), lambda name=name: check_target(name))
        _named(("targets", name, "transfer_above"), lambda s=section: s.transfer_above_bytes)
    _check_keys(settings)
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
        ("stages", first, key)
        for key in ("gates", "approvals", "signed_by")
        if getattr(stages[first], key)
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
    _check_parity(settings)
    _check_endpoints(settings)
    _check_prices(settings)


def _check_keys(settings: Settings) -> None:
    """Refuse signers that nobody knows."""
    for name in settings.keys:
        _named(("keys", name), lambda name=name: check_signer(name))
    for name, stage in settings.stages.items():
        where = ("stages", name, "signed_by")
        for signer in stage.signed_by:
            if signer not in settings.keys:
                known = _list(settings.keys) if settings.keys else f"[keys.{signer}]"
                raise Misplaced(where, f"no key {signer!r}", known)
        if len(set(stage.signed_by)) != len(stage.signed_by):
            raise Misplaced(where, "a key is listed twice")


def _check_parity(settings: Settings) -> None:
    """Refuse a comparison of targets in a stage that moves without some of them."""
    for stage in settings.order:
        for model in ("", *settings.models):
            kinds = [table.get("kind") for _, table in settings.gate_tables(model, stage)]
            if "parity" in kinds and settings.stages[stage].commit is not Commit.ALL:
                raise Misplaced(
                    ("stages", stage, "commit"),
                    "a parity gate compares all targets, and this stage moves without some",
                    'commit = "all"',
                )


def _check_prices(settings: Settings) -> None:
    for target in settings.prices:
        if target not in settings.targets:
            raise Misplaced(("prices", target), f"no target {target!r}", _list(settings.targets))


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
        _named((*where, "ttl"), lambda e=endpoint: e.ttl_s)
        _named((*where, "schedule"), lambda e=endpoint: e.hours)
        _named((*where, "min_replicas"), lambda e=endpoint: e.scaling)
        _check_following(where, endpoint)
        _named((*where, "rollout"), lambda e=endpoint: e.rollout.noun())
        _check_kind(where, endpoint)
        _check_shadow(where, endpoint, stages)
        _named((*where, "env"), lambda e=endpoint: check_environment(e.env))


def _check_shadow(
    where: tuple[str, ...], endpoint: EndpointSettings, stages: Mapping[str, Any]
) -> None:
    """Refuse a shadow of two versions or of none, and one that nothing could be copied to."""
    shadow = endpoint.shadow
    if shadow is None:
        return
    where = (*where, "shadow")
    if (shadow.stage is None) == (shadow.version is None):
        raise Misplaced(where, "a shadow is of a stage or of a version, one of both", 'stage = "…"')
    if shadow.stage is not None and shadow.stage not in stages:
        raise Misplaced((*where, "stage"), f"no stage {shadow.stage!r}", _list(stages))
    if shadow.stage == endpoint.stage:
        raise Misplaced(
            (*where, "stage"),
            f"the endpoint itself follows {shadow.stage!r}: it would be its own shadow",
            "another stage",
        )
    if endpoint.kind is not EndpointKind.REAL_TIME or endpoint.pool or not endpoint.min_replicas:
        raise Misplaced(
            where,
            "a shadow is for real-time endpoints with machines of their own that never rest",
            "min_replicas = 1, and neither kind nor pool",
        )


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
