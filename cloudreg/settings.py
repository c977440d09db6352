"""What the user configured: ``cloudreg.toml``, ``CLOUDREG_*``, arguments.

Precedence: arguments, then ``CLOUDREG_*``, then ``cloudreg.toml``, then defaults. Unknown keys are
errors everywhere. Credentials come from the vendors' own chains and never pass through here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from cloudreg.errors import CloudregError, ConfigError, InvalidRequest
from cloudreg.names import check_endpoint, check_model, check_stage, check_target
from cloudreg.place import PREFIX, place, position
from cloudreg.types import (
    Asynchronous,
    EndpointKind,
    EndpointSpec,
    Identified,
    Resources,
    Rollout,
    RolloutStrategy,
    Scaling,
    ScalingMetric,
    ScalingStep,
    Serverless,
    Variant,
    check_environment,
    check_measurable,
)

FILE = "cloudreg.toml"

OTHER_VARIABLES = frozenset(
    {"CONFIG", "ACTOR", "TRACEBACK"}
    | {"MODEL_DIR", "MANIFEST", "DIGEST", "MODEL", "NUMBER", "PROVIDER", "HOST", "PORT"}
    | {"DEVICE", "THREADS", "MAX_BATCH", "MAX_QUEUE", "MAX_REQUEST_BYTES"}
    | {"REQUEST_TIMEOUT_S", "DRAIN_S", "DETERMINISTIC"}
)
"""``CLOUDREG_*`` variables that are no settings: the command line's and the model server's."""

DEFAULT_STAGES = ("dev", "staging", "prod")

DEFAULTS: Mapping[str, Any] = {
    "targets": {"local": {"provider": "local"}},
    "stages": {name: {} for name in DEFAULT_STAGES},
}
"""What stands in for a table that the file does not have, so that a variable adds to it."""

Where = tuple[str | int, ...]
"""A key of the configuration, from the top."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSettings(BaseModel):
    """``[targets.NAME]``: a provider with its account, region and storage.

    Attributes:
        provider: The plug-in's name. All other keys are the plug-in's own.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    provider: str

    @property
    def options(self) -> dict[str, Any]:
        """Return the keys that the plug-in checks."""
        return dict(self.__pydantic_extra__ or {})


class StageSettings(_Strict):
    """``[stages.NAME]``: a step on the way to production, in the order of the file.

    Attributes:
        targets: Targets whose registries must show the stage; the home by default.
        approvals: How many people other than the author must agree.
        gates: ``[[stages.NAME.gates]]`` tables; without the key, what suits the stage's place:
            none for the first, ``signature`` for the others, and ``lineage`` and ``card`` too
            for the last. The order of the stages is always checked, and so are the formats of
            the files, but for the first stage.
    """

    targets: tuple[str, ...] = ()
    approvals: int = Field(default=0, ge=0, le=20)
    gates: tuple[dict[str, Any], ...] | None = None


class ModelSettings(_Strict):
    """``[models.NAME]``: what holds for one model only.

    Attributes:
        gates: ``[[models.NAME.gates.STAGE]]`` tables, beside those of the stage.
    """

    gates: dict[str, tuple[dict[str, Any], ...]] = {}


class RolloutSettings(_Strict):
    """``[endpoints.NAME.rollout]``; see `cloudreg.types.Rollout`."""

    strategy: RolloutStrategy = RolloutStrategy.ALL_AT_ONCE
    steps: tuple[int, ...] | None = None
    bake_s: float = 0.0
    max_error_rate: float | None = None
    max_p95_ms: float | None = None
    min_requests: int = 20

    def noun(self) -> Rollout:
        """Return the rollout, with the strategy's usual steps where none are given."""
        usual = {
            RolloutStrategy.ALL_AT_ONCE: (100,),
            RolloutStrategy.CANARY: (10, 100),
            RolloutStrategy.LINEAR: (20, 40, 60, 80, 100),
        }
        return Rollout(
            strategy=self.strategy,
            steps=self.steps if self.steps is not None else usual[self.strategy],
            bake_s=self.bake_s,
            max_error_rate=self.max_error_rate,
            max_p95_ms=self.max_p95_ms,
            min_requests=self.min_requests,
        )


class StepSettings(_Strict):
    """An item of ``scaling_steps``: ``{from = 70, add = 1}``.

    Attributes:
        at: ``from``: value of the metric from which it holds.
        add: Replicas that come at once.
    """

    at: float = Field(alias="from")
    add: int


class ServerlessSettings(_Strict):
    """``[endpoints.NAME.serverless]``; see `cloudreg.kinds.Serverless`."""

    memory_mib: int = 2048
    max_concurrency: int = 20
    provisioned_concurrency: int | None = None


class NotifySettings(_Strict):
    """``[endpoints.NAME.asynchronous.notify]``: topics, by the target's own names."""

    success: str | None = None
    error: str | None = None


class AsynchronousSettings(_Strict):
    """``[endpoints.NAME.asynchronous]``; see `cloudreg.kinds.Asynchronous`."""

    output: str = "asynchronous"
    max_concurrent_per_replica: int | None = None
    expires_s: int = 21_600
    notify: NotifySettings = NotifySettings()

    def noun(self) -> Asynchronous:
        """Return it as the core speaks of it."""
        return Asynchronous(
            output=self.output,
            max_concurrent_per_replica=self.max_concurrent_per_replica,
            notify_success=self.notify.success,
            notify_error=self.notify.error,
            expires_s=self.expires_s,
        )


class EndpointSettings(_Strict):
    """``[endpoints.NAME]``: an endpoint that follows a stage of a model.

    Attributes:
        model: The model.
        stage: The stage whose version it serves.
        target: Where it runs; the home by default.
        gpu: Class and count, such as ``L4`` or ``T4:2``; CPU without.
        machine_type: The target's own machine name, where the catalog's choice will not do.
        min_replicas: Lower bound.
        max_replicas: Upper bound; the lower bound by default.
        gpu_fallback: GPU classes to take in this order where the first has no capacity.
        concurrency: Requests in flight per replica that scaling aims at; 4 where nothing else
            is named.
        requests_per_minute: Or requests a minute per replica.
        gpu_utilization: Or percent that the GPUs are busy.
        cpu_utilization: Or percent that the CPUs are busy.
        scaling_steps: Replicas that come at once where the metric is far above its target, such
            as ``[{from = 70, add = 1}, {from = 90, add = 3}]``.
        scale_out_cooldown_s: Seconds after replicas came before more may.
        scale_in_cooldown_s: Seconds of idleness before a replica goes.
        pool: Endpoints that name the same pool share machines.
        memory_mib: Main memory of a pool's machine that a replica takes.
        cpus: Processors of a pool's machine that a replica takes.
        env: Environment of the model server; no secrets.
        kind: ``real_time``, ``serverless`` or ``asynchronous``.
        serverless: For a serverless endpoint.
        asynchronous: For an asynchronous endpoint.
        rollout: How a new version gets its traffic.
    """

    model: str
    stage: str
    target: str | None = None
    gpu: str | None = None
    machine_type: str | None = None
    min_replicas: int = 1
    max_replicas: int | None = None
    gpu_fallback: tuple[str, ...] = ()
    concurrency: float | None = None
    requests_per_minute: float | None = None
    gpu_utilization: float | None = None
    cpu_utilization: float | None = None
    scaling_steps: tuple[StepSettings, ...] = ()
    scale_out_cooldown_s: float | None = None
    scale_in_cooldown_s: float = 300.0
    pool: str | None = None
    memory_mib: int | None = None
    cpus: float | None = None
    env: dict[str, str] = {}
    kind: EndpointKind = EndpointKind.REAL_TIME
    serverless: ServerlessSettings | None = None
    asynchronous: AsynchronousSettings | None = None
    rollout: RolloutSettings = RolloutSettings()

    @property
    def resources(self) -> Resources:
        """Return what one replica needs."""
        whole = Resources.parse(
            self.gpu, machine_type=self.machine_type, fallback=self.gpu_fallback
        )
        return replace(whole, memory_mib=self.memory_mib, cpus=self.cpus)

    @property
    def followed(self) -> dict[ScalingMetric, float]:
        """Return the metrics that are named, with their targets."""
        values = {metric: getattr(self, metric) for metric in ScalingMetric}
        return {metric: value for metric, value in values.items() if value is not None}

    @property
    def scaling(self) -> Scaling:
        """Return how many replicas.

        Raises:
            InvalidRequest: Two metrics are named, or one for a number that is fixed.
        """
        named = self.followed
        if len(named) > 1:
            raise InvalidRequest(
                f"{' and '.join(named)}: the number of replicas follows one",
                hint=f"leave {list(named)[-1]} out",
            )
        metric, goal = next(iter(named.items()), (ScalingMetric.CONCURRENCY, Scaling().target))
        upper = max(1, self.min_replicas) if self.max_replicas is None else self.max_replicas
        return Scaling(
            min_replicas=self.min_replicas,
            max_replicas=upper,
            metric=metric,
            target=goal,
            steps=tuple(ScalingStep(at=step.at, add=step.add) for step in self.scaling_steps),
            scale_out_cooldown_s=self.scale_out_cooldown_s,
            scale_in_cooldown_s=self.scale_in_cooldown_s,
        )

    def spec(self, name: str, version: Identified) -> EndpointSpec:
        """Return the endpoint that serves *version* with all its traffic."""
        variant = Variant(
            name="primary",
            model=version.model,
            number=version.number,
            digest=version.digest,
            resources=self.resources,
            scaling=self.scaling,
        )
        return EndpointSpec(
            name=name,
            stage=self.stage,
            variants=(variant,),
            env=self.env,
            pool=self.pool,
            kind=self.kind,
            serverless=self.serverless_noun,
            asynchronous=self.asynchronous_noun,
        )

    @property
    def serverless_noun(self) -> Serverless | None:
        """Return what a serverless endpoint may take, with defaults; None for other kinds."""
        if self.kind is not EndpointKind.SERVERLESS:
            return None
        return Serverless(**dict(self.serverless or ServerlessSettings()))

    @property
    def asynchronous_noun(self) -> Asynchronous | None:
        """Return what becomes of queued requests, with defaults; None for other kinds."""
        if self.kind is not EndpointKind.ASYNCHRONOUS:
            return None
        return (self.asynchronous or AsynchronousSettings()).noun()


class Settings(_Strict):
    """All that is configured.

    Attributes:
        home: The target that keeps the ledger.
        state: Folder for what this machine remembers, relative to ``cloudreg.toml``.
        targets: By name.
        stages: By name, in order; ``dev``, ``staging``, ``prod`` by default.
        models: By name; models need no section.
        endpoints: By name.
    """

    home: str = "local"
    state: str = ".cloudreg/state"
    targets: dict[str, TargetSettings] = {"local": TargetSettings(provider="local")}
    stages: dict[str, StageSettings] = {name: StageSettings() for name in DEFAULT_STAGES}
    models: dict[str, ModelSettings] = {}
    endpoints: dict[str, EndpointSettings] = {}

    _origin: Callable[[Where], str] | None = PrivateAttr(default=None)

    @property
    def order(self) -> tuple[str, ...]:
        """Return the stages, first to last."""
        return tuple(self.stages)

    def stage_targets(self, stage: str) -> tuple[str, ...]:
        """Return the targets that must show *stage*, the home first."""
        listed = self.stages[stage].targets
        return listed or (self.home,)

    def endpoint_target(self, name: str) -> str:
        """Return where an endpoint runs."""
        return self.endpoints[name].target or self.home

    def place(self, *where: str | int) -> str:
        """Return where a key was set: line and column, an argument, or a variable."""
        dotted = ".".join(str(part) for part in where)
        return self._origin(where) if self._origin is not None else dotted

    def gate_tables(self, model: str, stage: str) -> list[tuple[Where, Mapping[str, Any]]]:
        """Return (key in the configuration, table) of the gates of a stage, for one model."""
        tables: list[tuple[Where, Mapping[str, Any]]] = [
            (("stages", stage, "gates", i), t) for i, t in enumerate(self._of_stage(stage))
        ]
        own = self.models[model].gates.get(stage, ()) if model in self.models else ()
        tables += [(("models", model, "gates", stage, i), t) for i, t in enumerate(own)]
        return [*self._always(stage), *tables]

    def _always(self, stage: str) -> list[tuple[Where, Mapping[str, Any]]]:
        """Return the gates that no configuration switches off."""
        gates: list[tuple[Where, Mapping[str, Any]]] = [
            (("the order of stages",), {"kind": "stage_order"})
        ]
        if stage != self.order[0]:
            # Only a waiver, recorded and expiring, lets a file through that can run something.
            gates.append((("the format policy",), {"kind": "format"}))
        return gates

    def _of_stage(self, stage: str) -> tuple[Mapping[str, Any], ...]:
        given = self.stages[stage].gates
        if given is not None:
            return given
        if stage == self.order[0]:
            return ()
        if stage == self.order[-1]:
            return tuple({"kind": kind} for kind in ("signature", "lineage", "card"))
        return ({"kind": "signature"},)


def find(start: Path | None = None) -> Path:
    """Return the ``cloudreg.toml`` of *start* or of the nearest folder above it.

    Without *start*, the one that ``CLOUDREG_CONFIG`` names, or else that of the working folder.

    Raises:
        ConfigError: There is none.
    """
    named = os.environ.get(f"{PREFIX}CONFIG") if start is None else None
    if named:
        path = Path(named)
        if not path.is_file():
            raise ConfigError(f"{PREFIX}CONFIG names {named}, which is no file")
        return path.resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ConfigError(f"there is no {FILE} in {here} or above it", hint="cloudreg init")


def load(path: Path, *, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: A ``cloudreg.toml``.
        overrides: Arguments; they beat everything else.

    Raises:
        ConfigError: Syntax, an unknown key, a wrong value, a name that leads nowhere; with the
            line and the column, or the name of the environment variable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, column = position(str(error), text)
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(f"{path.name}, line {line}, column {column}: {reason}") from error
    variables = _known_variables()
    document = {**DEFAULTS, **document}
    try:
        if variables:
            from cloudreg import environment

            settings = environment.read(Settings, document, overrides or {})
        else:
            settings = Settings.model_validate(_over(document, overrides or {}))
        _check(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = place(path, text, first["loc"], overrides or {})
        raise ConfigError(
            f"{where}: {_reason(first)}", hint=_nearest(first) or _unspeakable(where)
        ) from error
    except _Bad as error:
        where = place(path, text, error.where, overrides or {})
        raise ConfigError(
            f"{where}: {error.reason}", hint=error.hint or _unspeakable(where)
        ) from error
    settings._origin = lambda where: place(path, text, where, overrides or {})
    return settings


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return *below* with the values of *above*; tables are merged, key by key."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = _over(under, value)
        else:
            merged[key] = value
    return merged


class _Bad(Exception):
    def __init__(self, where: tuple[str, ...], reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.where, self.reason, self.hint = where, reason, hint


def _check(settings: Settings) -> None:
    """Refuse names that cannot be, and references that lead nowhere."""
    targets, stages = settings.targets, settings.stages
    for name in targets:
        _named(("targets", name), lambda name=name: check_target(name))
    if settings.home not in targets:
        raise _Bad(("home",), f"no target {settings.home!r}", f"[targets.{settings.home}]")
    if not stages:
        raise _Bad(("stages",), "at least one stage is needed")
    for name, stage in stages.items():
        _named(("stages", name), lambda name=name: check_stage(name))
        for target in stage.targets:
            if target not in targets:
                raise _Bad(("stages", name, "targets"), f"no target {target!r}", _list(targets))
        if len(set(stage.targets)) != len(stage.targets):
            raise _Bad(("stages", name, "targets"), "a target is listed twice")
        if stage.targets and settings.home not in stage.targets:
            # The home shows every stage: its registry is where people look first.
            raise _Bad(
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
        raise _Bad(
            ignored[0],
            f"every registered version enters the first stage, {first!r}, so that nothing can "
            "stand before it",
            "list the stages before it too, in order: [stages.dev]",
        )
    for name, model in settings.models.items():
        _named(("models", name), lambda name=name: check_model(name))
        for stage_name in model.gates:
            if stage_name not in stages:
                raise _Bad(
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
            raise _Bad((*where, "stage"), f"no stage {endpoint.stage!r}", _list(stages))
        if endpoint.target is not None and endpoint.target not in targets:
            raise _Bad((*where, "target"), f"no target {endpoint.target!r}", _list(targets))
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
            raise _Bad((*where, kind), f"the endpoint is {endpoint.kind}", f'kind = "{kind}"')
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
            raise _Bad((*where, key), f"a serverless endpoint has no {_LACKS[key]}", hints[key])


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
        raise _Bad(
            (*where, fixed[0]),
            f"{fixed[0]}: the number of replicas is fixed at {scaling.max_replicas}",
            f"max_replicas = {scaling.max_replicas + 1}",
        )


def _named(where: tuple[str, ...], check: Any) -> None:
    try:
        check()
    except CloudregError as error:
        raise _Bad(where, error.message, error.hint) from error


def _list(names: Mapping[str, Any]) -> str:
    return f"there are {', '.join(names)}"


def _known_variables() -> bool:
    """Return whether a variable is a setting.

    Raises:
        ConfigError: A ``CLOUDREG_*`` variable is read by nothing: it would be silently ignored.
    """
    found = False
    for name in os.environ:
        # The settings are read without regard to case, so the unknown ones are too.
        if not name.upper().startswith(PREFIX):
            continue
        field, nested, _ = name.upper().removeprefix(PREFIX).partition("__")
        known = field.lower() in Settings.model_fields
        found = found or known
        if not known and (nested or field not in OTHER_VARIABLES):
            raise ConfigError(
                f"environment variable {name} is no setting",
                hint=f"known are {', '.join(PREFIX + f.upper() for f in Settings.model_fields)}",
            )
        if nested and field in ("HOME", "STATE"):
            raise ConfigError(f"environment variable {name}: {field.lower()} has no parts")
        if re.fullmatch(rf"{PREFIX}ENDPOINTS__.+?__ENV__.+", name.upper()):
            # Names of variables come in lower case from here, and A is not a.
            raise ConfigError(
                f"environment variable {name} would lose the case of its last part",
                hint=f"""{name[: name.upper().rindex("__ENV__")]}__ENV='{{"NAME": "value"}}'""",
            )
    return found


def _unspeakable(where: str) -> str | None:
    """Return why a variable may have named something that is not there."""
    if re.match(rf"environment variable {PREFIX}[A-Z]+__[^_]+_[^_]", where, re.IGNORECASE):
        return f"a name with a hyphen is set in {FILE}: no shell can export a variable with one"
    return None


def _reason(error: Mapping[str, Any]) -> str:
    key = error["loc"][-1] if error["loc"] else ""
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r}"
        case "missing":
            return f"the key {key!r} is missing"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _nearest(error: Mapping[str, Any]) -> str | None:
    if error["type"] != "extra_forbidden":
        return None
    sections: dict[str, type[BaseModel]] = {
        "stages": StageSettings,
        "models": ModelSettings,
        "endpoints": EndpointSettings,
    }
    where = [str(part) for part in error["loc"]]
    model: type[BaseModel] = Settings
    if "rollout" in where[:-1]:
        model = RolloutSettings
    elif len(where) > 1 and where[0] in sections:
        model = sections[where[0]]
    return f"known are {', '.join(model.model_fields)}"
