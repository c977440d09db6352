"""The tables of ``cloudreg.toml``: every key that there is, with what it means.

Unknown keys are errors everywhere. Credentials come from the vendors' own chains and never pass
through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from cloudreg.catalog import GpuWish
from cloudreg.errors import InvalidRequest
from cloudreg.hours import Schedule, parse_span
from cloudreg.settings.wishes import GpuSettings, ScheduleSettings
from cloudreg.transfer import parse_size
from cloudreg.types import (
    Asynchronous,
    Commit,
    CustomMetric,
    Driver,
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
)

DEFAULT_STAGES = ("dev", "staging", "prod")

ANY_GPU = "ANY"
"""Stands for the class that a target chooses, until it is known which one that is."""

Where = tuple[str | int, ...]
"""A key of the configuration, from the top."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSettings(BaseModel):
    """``[targets.NAME]``: a provider with its account, region and storage.

    Attributes:
        provider: The plug-in's name. All keys that are not named here are the plug-in's own.
        transfer_above: Size, such as ``50GB``, above which a version is not copied to the target
            through this machine, but by a service of the cloud; always through this machine
            without.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    provider: str
    transfer_above: str | int | None = None

    @property
    def transfer_above_bytes(self) -> int | None:
        """Return the limit in bytes.

        Raises:
            InvalidRequest: It is no size.
        """
        return None if self.transfer_above is None else parse_size(self.transfer_above)

    @property
    def options(self) -> dict[str, Any]:
        """Return the keys that the plug-in checks."""
        return dict(self.__pydantic_extra__ or {})


class KeySettings(_Strict):
    """``[keys.NAME]``: somebody whose signature a stage can ask for.

    Attributes:
        public: The public half, a PEM file relative to ``cloudreg.toml``. The private half never
            stands in a configuration.
    """

    public: str


class StageSettings(_Strict):
    """``[stages.NAME]``: a step on the way to production, in the order of the file.

    Attributes:
        targets: Targets whose registries must show the stage; the home by default.
        approvals: How many people other than the author must agree.
        signed_by: Names of ``[keys.*]``, each of which must have signed a version: before it
            enters, on each target that it is copied to, and before each deployment.
        commit: What counts where some of the targets fail: ``all`` of them or none; ``any``,
            and the others are behind until a repair; ``home-first``, where the home's own change
            counts alone, and the others follow.
        gates: ``[[stages.NAME.gates]]`` tables; without the key, what suits the stage's place:
            none for the first, ``signature`` for the others, and ``lineage`` and ``card`` too
            for the last. The order of the stages is always checked, and so are the formats of
            the files, but for the first stage.
    """

    targets: tuple[str, ...] = ()
    approvals: int = Field(default=0, ge=0, le=20)
    signed_by: tuple[str, ...] = ()
    commit: Commit = Commit.ALL
    gates: tuple[dict[str, Any], ...] | None = None


class ModelSettings(_Strict):
    """``[models.NAME]``: what holds for one model only.

    Attributes:
        gates: ``[[models.NAME.gates.STAGE]]`` tables, beside those of the stage.
    """

    gates: dict[str, tuple[dict[str, Any], ...]] = {}


class CustomMetricSettings(BaseModel):
    """``[[endpoints.NAME.rollout.metrics]]``; see `cloudreg.types.CustomMetric`.

    Attributes:
        name: For people.
        source: Where it is read. All other keys are the source's own.
        max: More aborts the rollout.
        min: Less aborts the rollout.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, str | dict[str, str]]

    name: str
    source: str
    max: float | None = None
    min: float | None = None

    def noun(self) -> CustomMetric:
        """Return it as the core speaks of it."""
        return CustomMetric(
            name=self.name,
            source=self.source,
            query=dict(self.__pydantic_extra__ or {}),
            max=self.max,
            min=self.min,
        )


class RolloutSettings(_Strict):
    """``[endpoints.NAME.rollout]``; see `cloudreg.types.Rollout`."""

    strategy: RolloutStrategy = RolloutStrategy.ALL_AT_ONCE
    steps: tuple[int, ...] | None = None
    bake_s: float = 0.0
    max_error_rate: float | None = None
    max_p95_ms: float | None = None
    min_requests: int = 20
    metrics: tuple[CustomMetricSettings, ...] = ()
    driver: Driver = Driver.CLOUDREG

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
            metrics=tuple(metric.noun() for metric in self.metrics),
            driver=self.driver,
        )


class ShadowSettings(_Strict):
    """``[endpoints.NAME.shadow]``: a version that gets copies of requests.

    Attributes:
        stage: The stage whose version it is.
        version: Or its number.
        percent: Of the requests that are copied.
    """

    stage: str | None = None
    version: int | None = Field(default=None, ge=1)
    percent: int = Field(default=100, ge=1, le=100)


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
        gpu: Class and count, such as ``L4`` or ``T4:2``, or what its GPUs must have:
            ``{min_memory_gib = 24, min_compute_capability = "8.0"}``; CPU without.
        allow_downgrade: Whether a GPU may be taken that is worse than the class that ``gpu``
            names, where the target does not offer that one.
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
        shadow: A version that gets copies of requests; nobody gets its answers.
        ttl: How long it is there after it was deployed or touched, such as ``8h``; then ``apply``
            takes it down.
        schedule: Hours of the week in which it is there; outside of them ``apply`` takes it down.
    """

    model: str
    stage: str
    target: str | None = None
    gpu: GpuSettings | None = None
    allow_downgrade: bool = False
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
    shadow: ShadowSettings | None = None
    ttl: str | None = None
    schedule: ScheduleSettings | None = None

    @property
    def wish(self) -> GpuWish | None:
        """Return what is asked of the GPUs; None for CPU.

        Raises:
            InvalidRequest: Nothing is asked, or what cannot be.
        """
        if self.gpu is None:
            if self.allow_downgrade:
                raise InvalidRequest("allow_downgrade: no GPU is asked for", hint='gpu = "L4"')
            return None
        wish = self.gpu.wish(allow_downgrade=self.allow_downgrade)
        if wish.accelerator is None and self.machine_type is not None:
            raise InvalidRequest(
                f"gpu: machine_type {self.machine_type!r} names the one machine there is, and "
                "leaves nothing to choose",
                hint='gpu = "L4", or leave machine_type out',
            )
        return wish

    @property
    def resources(self) -> Resources:
        """Return what one replica needs, before a target is asked for its GPUs."""
        wish = self.wish
        if wish is None:
            return self.equipped(None)
        return self.equipped(f"{wish.accelerator or ANY_GPU}:{wish.count}")

    def equipped(self, gpu: str | None) -> Resources:
        """Return what one replica needs, with GPUs of a class.

        Args:
            gpu: Class and count, such as ``T4:2``, as a target has them; None for CPU.
        """
        whole = Resources.parse(gpu, machine_type=self.machine_type, fallback=self.gpu_fallback)
        return replace(whole, memory_mib=self.memory_mib, cpus=self.cpus)

    @property
    def hours(self) -> Schedule | None:
        """Return the hours of the week in which it is there; None for all."""
        return self.schedule.noun() if self.schedule is not None else None

    @property
    def ttl_s(self) -> int | None:
        """Return the seconds that it is there after a deployment; None for as long as it likes."""
        return parse_span(self.ttl) if self.ttl is not None else None

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

    def spec(self, name: str, version: Identified, *, gpu: str | None = None) -> EndpointSpec:
        """Return the endpoint that serves *version* with all its traffic.

        Args:
            name: The endpoint's.
            version: What it serves.
            gpu: Class and count of each replica's GPUs, as the target has them; None for CPU.
        """
        variant = Variant(
            name="primary",
            model=version.model,
            number=version.number,
            digest=version.digest,
            resources=self.equipped(gpu),
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


class TerraformSettings(_Strict):
    """``[terraform]``: where what Terraform says of the targets is read; one of the three.

    Attributes:
        outputs: A file with what ``terraform output -json`` printed; ``-`` is standard input.
        chdir: The folder of a root, where terraform is asked each time.
        state: A state file, of which only the outputs are read.
        output: The output's name.
    """

    outputs: str | None = Field(default=None, min_length=1)
    chdir: str | None = Field(default=None, min_length=1)
    state: str | None = Field(default=None, min_length=1)
    output: str = Field(default="cloudreg", pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")


class Settings(_Strict):
    """All that is configured.

    Attributes:
        home: The target that keeps the ledger.
        state: Folder for what this machine remembers, relative to ``cloudreg.toml``.
        terraform: Where more of the targets is read.
        targets: By name.
        stages: By name, in order; ``dev``, ``staging``, ``prod`` by default.
        keys: Public keys of those who sign, by name.
        models: By name; models need no section.
        endpoints: By name.
        prices: Target to machine to US dollars an hour: what somebody really pays, before the
            list prices that a provider brings.
    """

    home: str = "local"
    state: str = ".cloudreg/state"
    terraform: TerraformSettings = TerraformSettings()
    targets: dict[str, TargetSettings] = {"local": TargetSettings(provider="local")}
    stages: dict[str, StageSettings] = {name: StageSettings() for name in DEFAULT_STAGES}
    keys: dict[str, KeySettings] = {}
    models: dict[str, ModelSettings] = {}
    endpoints: dict[str, EndpointSettings] = {}
    prices: dict[str, dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]] = {}

    _origin: Callable[[Where], str] | None = PrivateAttr(default=None)
    _source: Callable[[Where], str] | None = PrivateAttr(default=None)
    _facts: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def order(self) -> tuple[str, ...]:
        """Return the stages, first to last."""
        return tuple(self.stages)

    def stage_targets(self, stage: str) -> tuple[str, ...]:
        """Return the targets that must show *stage*, the home first."""
        listed = self.stages[stage].targets
        return listed or (self.home,)

    def may_lag(self, stage: str, target: str) -> bool:
        """Whether a change of *stage* counts although it failed on *target*."""
        commit = self.stages[stage].commit
        return commit is Commit.ANY or (commit is Commit.HOME_FIRST and target != self.home)

    def endpoint_target(self, name: str) -> str:
        """Return where an endpoint runs."""
        return self.endpoints[name].target or self.home

    def place(self, *where: str | int) -> str:
        """Return where a key was set: line and column, an argument, or a variable."""
        dotted = ".".join(str(part) for part in where)
        return self._origin(where) if self._origin is not None else dotted

    def source(self, *where: str | int) -> str:
        """Return what set a key: an argument, a variable, the file, Terraform, or nobody."""
        return self._source(where) if self._source is not None else "code"

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return what Terraform says beside the targets; nothing is decided by it."""
        return self._facts

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
        if self.stages[stage].signed_by:
            names = list(self.stages[stage].signed_by)
            gates.append((("stages", stage, "signed_by"), {"kind": "signed", "keys": names}))
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
