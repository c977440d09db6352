"""The table of an endpoint: what follows a stage, on what, and how a new version gets traffic."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from cloudreg.catalog import GpuWish
from cloudreg.errors import InvalidRequest
from cloudreg.hours import Schedule, parse_span
from cloudreg.settings.wishes import GpuSettings, ScheduleSettings
from cloudreg.types import (
    Asynchronous,
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

ANY_GPU = "ANY"
"""Stands for the class that a target chooses, until it is known which one that is."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
