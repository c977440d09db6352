"""Endpoints: content-addressed models and configurations, one describe a poll.

A configuration never changes, so every change of what runs is a new one, whose name is a digest of
it. Weights and numbers of instances change in place. What SageMaker says it runs is compared with
what was asked for, because it goes back to an old configuration in silence.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    AlreadyExists,
    Conflict,
    InvalidRequest,
    NotFound,
)
from cloudreg.names import check_endpoint
from cloudreg.objects.layout import lay_out
from cloudreg.objects.packing import pack
from cloudreg.objects.records import Asked, Records, latest
from cloudreg.provider import LINES, ObjectStore, Operation
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointSpec,
    ModelVersion,
    Rollout,
    ScalingMetric,
    Variant,
    VariantMetrics,
    named,
)
from cloudreg_sagemaker import components, resting, shapes, wire
from cloudreg_sagemaker import requests as outgoing
from cloudreg_sagemaker.alarms import StepAlarms
from cloudreg_sagemaker.calls import Calls
from cloudreg_sagemaker.changes import Bench, Change, Removal
from cloudreg_sagemaker.components import (
    ComponentRequests,
    Components,
    host_in,
    host_of,
    is_component,
    is_host,
)
from cloudreg_sagemaker.guards import Guards
from cloudreg_sagemaker.hosting import Hosting, Inventory
from cloudreg_sagemaker.logs import EndpointLogs
from cloudreg_sagemaker.machines import units_of
from cloudreg_sagemaker.metrics import NOTHING, EndpointMetrics
from cloudreg_sagemaker.native import Resources
from cloudreg_sagemaker.queues import Queue
from cloudreg_sagemaker.scaling import VariantScaling
from cloudreg_sagemaker.waking import CopyScaling
from cloudreg_sagemaker.wire import FAILED

if TYPE_CHECKING:
    from cloudreg_sagemaker.clients import Clients
    from cloudreg_sagemaker.settings import SageMakerSettings

PARALLEL_LOOKS = 16
LOOKS = 3
"""How often an endpoint is looked at that moves meanwhile; after that it is a stranger's."""


class SageMakerEndpoints:
    """The endpoints of one account and region, as far as cloudreg made them."""

    def __init__(
        self,
        clients: Clients,
        store: ObjectStore,
        settings: SageMakerSettings,
        capabilities: Capabilities,
        *,
        target: str,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        """Use boto3's clients; nothing is sent."""
        self._clients = clients
        self._store = store
        self._settings = settings
        self._capabilities = capabilities
        self._target = target
        self._now = now
        self._resources = Resources(settings, target=target)
        self._hosting = Hosting(clients, target=target)
        self._queue = Queue(clients, store, settings, target=target)
        self._calls = Calls(
            clients,
            capabilities,
            look=self._hosting.look,
            logs=self.logs,
            host=self._host,
            target=target,
        )
        self._records = Records(
            store, root=f"sagemaker/{settings.region}/endpoints/", target=target
        )

    def endpoints(self) -> Iterator[Endpoint]:
        known = self._records.all()
        if not known:
            return
        bounds = self._bench().scaling.all()
        names = sorted(known)
        with ThreadPoolExecutor(PARALLEL_LOOKS, thread_name_prefix="look") as pool:
            hosts = [host_in((one.config for one in known[name]), name) for name in names]
            inventory = pool.submit(self._hosting.inventory, names)
            looks = list(pool.map(self._hosting.look, hosts))
        for name, look in zip(names, looks, strict=True):
            known[name], seen = self._of_one_moment(name, known[name], look)
            if seen is not None and is_host(seen):
                yield resting.shown(self._rest_bench(), name, seen, known[name])
            elif seen is not None:
                yield self._shown(
                    name, seen, known[name], bounds.get(name, {}), inventory=inventory.result()
                )

    def endpoint(self, name: str) -> Endpoint | None:
        known = self._records.of(check_endpoint(name))
        known, seen = self._of_one_moment(name, known, self._carrier(name, known))
        return self._look_closely(name, seen, known) if seen is not None else None

    def create(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        self._check(spec, artifacts)
        seen = self._hosting.look(host_of(spec))
        is_there = seen is not None and (
            spec.pool is None or self._components.look(spec.name) is not None
        )
        if spec.pool is not None and seen is not None:
            self._check_pool(spec, artifacts, seen)
        if seen is not None and is_there and seen["EndpointStatus"] != "Deleting":
            known = self._records.of(spec.name)
            if not known and not self._is_lost(seen):
                raise AlreadyExists(
                    f"endpoint {spec.name} exists, and cloudreg did not make it",
                    target=self._target,
                )
            if known and spec not in self._asked_for(spec.name, seen, known):
                raise AlreadyExists(
                    f"endpoint {spec.name} exists with another configuration",
                    target=self._target,
                )
        self._lay_out(spec, artifacts)
        return self._begin(spec, artifacts, seen)

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> Operation:
        self._check(spec, artifacts)
        if rollout is not None:
            self._capabilities.require_rollout(rollout, spec, target=self._target)
        known = self._records.of(spec.name)
        seen = self._carrier(spec.name, known)
        if seen is None or seen["EndpointStatus"] == "Deleting":
            raise self._missing(spec.name)
        self._check_owner(seen)
        self._check_shape(spec, artifacts, seen, known)
        self._lay_out(spec, artifacts)
        return self._begin(spec, artifacts, seen, rollout=rollout)

    def delete(self, name: str) -> Operation:
        known = self._records.of(check_endpoint(name))
        seen = self._carrier(name, known)
        if not known:
            there = self._hosting.look(name)
            seen = there if there is not None and self._is_lost(there) else None
        if seen is not None:
            self._check_owner(seen)
        if seen is not None and is_host(seen):
            return resting.ComponentRemoval(self._rest_bench(), name, host=seen).begin()
        return Removal(self._bench(), name, seen).begin(seen)

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None = None,
    ) -> bytes:
        return self._calls.invoke(
            name, body, content_type=content_type, timeout_s=timeout_s, variant=variant
        )

    def stream(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        accept: str = LINES,
        variant: str | None = None,
    ) -> Generator[bytes, None, None]:
        return self._calls.stream(
            name,
            body,
            content_type=content_type,
            timeout_s=timeout_s,
            accept=accept,
            variant=variant,
        )

    def submit(self, name: str, body: bytes, *, content_type: str, timeout_s: float) -> str:
        known = self._records.of(check_endpoint(name))
        seen = self._hosting.look(name) if known else None
        asked = latest(known, seen["EndpointConfigName"]) if seen is not None else None
        if asked is None:
            raise self._missing(name)
        return self._queue.submit(
            self._records.spec(asked), body, content_type=content_type, timeout_s=timeout_s
        )

    def result(self, name: str, request_id: str) -> bytes | None:
        return self._queue.result(check_endpoint(name), request_id)

    def metrics(
        self, name: str, *, window_s: float, custom: Sequence[CustomMetric] = ()
    ) -> Mapping[str, VariantMetrics]:
        if not window_s >= 0:
            raise InvalidRequest(f"window_s {window_s} is not 0 or more", target=self._target)
        self._capabilities.require_metrics(custom, name=name, target=self._target)
        seen = self._needed(name)
        source = EndpointMetrics(self._clients["cloudwatch"], target=self._target)
        variants = [variant["VariantName"] for variant in wire.everything(seen)]
        asked = latest(self._records.of(name), seen["EndpointConfigName"]) if custom else None
        spec = self._records.spec(asked) if asked is not None else None
        return source.of(
            name,
            variants,
            custom=custom,
            known={v: named(spec, v) for v in variants} if spec is not None else NOTHING,
            component=is_host(seen),
            queued="AsyncInferenceConfig" in seen,
            window_s=window_s,
            since=seen["CreationTime"],
            now=self._now(),
        )

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        seen = self._needed(name)
        return self._bench().logs.tail(
            name,
            lines=lines,
            variant=variant,
            since=seen["CreationTime"],
            component=is_host(seen),
        )

    def native(self, name: str) -> Any:
        """Return boto3's answer to DescribeEndpoint, or the SDK's ``Endpoint``."""
        seen = self._needed(name)
        return self._resources.endpoint(name) if self._resources.wanted else seen

    def _check(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        """Refuse what could not be started, before anything is touched."""
        self._capabilities.require(spec, target=self._target)
        for variant in spec.served:
            if variant.digest not in artifacts:
                raise InvalidRequest(
                    f"variant {variant.name}: no version is given for {variant.digest}",
                    target=self._target,
                )
        if is_component(spec):
            requests = self._resting(spec, artifacts)
            self._hosting.check(requests)
            self._components.check(requests)
        else:
            self._hosting.check(self._requests(spec, artifacts, None))

    def _check_shape(
        self,
        spec: EndpointSpec,
        artifacts: Mapping[str, ModelVersion],
        seen: Mapping[str, Any],
        known: list[Asked],
    ) -> None:
        """Refuse a change that no request of SageMaker makes without losing predictions."""
        if seen["EndpointStatus"] == FAILED:
            return  # it is removed, and made as it is asked for
        there = host_in((one.config for one in known), spec.name)
        shapes.check_place(spec, there, seen, target=self._target)
        if spec.pool is not None:
            self._check_pool(spec, artifacts, seen)
        elif is_component(spec):
            wanted = self._resting(spec, artifacts).config_name
            shapes.check_frame(spec, seen, wanted=wanted, target=self._target)

    def _check_pool(
        self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion], seen: Mapping[str, Any]
    ) -> None:
        """Refuse a pool whose machines are not those that are asked for."""
        shapes.check_pool(
            spec,
            seen,
            is_ours=self._hosting.is_ours(seen),
            wanted=self._resting(spec, artifacts).config_name,
            target=self._target,
        )

    def _carrier(self, name: str, known: list[Asked]) -> dict[str, Any] | None:
        """Return DescribeEndpoint of what carries an endpoint: itself, or its pool."""
        if not known:
            return None
        return self._hosting.look(host_in((one.config for one in known), name))

    def _of_one_moment(
        self, name: str, known: list[Asked], seen: dict[str, Any] | None
    ) -> tuple[list[Asked], dict[str, Any] | None]:
        """Return what was asked of an endpoint, and what is there, until the two fit.

        Somebody can change it between the two looks, and what is there has a configuration then
        that was written down since.
        """
        for _ in range(LOOKS):
            if seen is None or is_host(seen) or latest(known, seen.get("EndpointConfigName")):
                break
            known = self._records.of(name)
            seen = self._carrier(name, known)
        return known, seen

    def _host(self, name: str) -> str:
        """Return on which of SageMaker's endpoints an endpoint is, by its records."""
        return host_in((one.config for one in self._records.of(name)), name)

    def _begin(
        self,
        spec: EndpointSpec,
        artifacts: Mapping[str, ModelVersion],
        seen: Mapping[str, Any] | None,
        *,
        rollout: Rollout | None = None,
    ) -> Operation:
        if is_component(spec):
            requests = self._resting(spec, artifacts)
            return resting.ComponentChange(self._rest_bench(), requests).begin()
        build = partial(self._requests, spec, artifacts)
        return Change(self._bench(), spec, build, rollout=rollout).begin(seen)

    def _resting(
        self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]
    ) -> ComponentRequests:
        return components.requests_for(spec, artifacts, self._settings, target=self._target)

    def _rest_bench(self) -> resting.RestBench:
        return resting.RestBench(
            hosting=self._hosting,
            components=self._components,
            scaling=CopyScaling(
                self._clients["application-autoscaling"],
                self._clients["cloudwatch"],
                target=self._target,
            ),
            records=self._records,
            logs=EndpointLogs(self._clients["logs"], target=self._target),
            region=self._settings.region,
            target=self._target,
        )

    @property
    def _components(self) -> Components:
        return Components(self._clients["sagemaker"], target=self._target)

    def _is_lost(self, seen: Mapping[str, Any]) -> bool:
        """Whether an endpoint of which nothing is written down was made by who writes here."""
        return self._hosting.is_of(seen, self._settings.uri(""))

    def _check_owner(self, seen: Mapping[str, Any]) -> None:
        """Refuse an endpoint that somebody made under a name of ours: the tag tells."""
        if not self._hosting.is_ours(seen):
            name = seen["EndpointName"]
            raise Conflict(
                f"endpoint {name} was made anew by somebody else",
                target=self._target,
                hint=f"aws sagemaker delete-endpoint --endpoint-name {name}, if that is wanted",
            )

    def _lay_out(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        for digest in sorted({variant.digest for variant in spec.served}):
            if spec.serverless is not None:
                pack(artifacts[digest], self._store, target=self._target)
                continue
            lay_out(artifacts[digest], self._store, target=self._target)

    def _requests(
        self,
        spec: EndpointSpec,
        artifacts: Mapping[str, ModelVersion],
        seen: Mapping[str, Any] | None,
    ) -> outgoing.Requests:
        counts = self._counts(spec, seen) if seen is not None else {}
        return outgoing.requests_for(
            spec, artifacts, self._settings, counts=counts, target=self._target
        )

    def _counts(self, spec: EndpointSpec, seen: Mapping[str, Any]) -> dict[str, int]:
        """Return how many instances each autoscaled variant has now.

        A version that gets another name, as at the end of a rollout, keeps what load brought it.
        """
        follows = [variant for variant in spec.variants if variant.scaling.autoscaled]
        running = {
            variant["VariantName"]: int(variant.get("DesiredInstanceCount", 0))
            for variant in seen.get("ProductionVariants", ())
        }
        counts = {v.name: running[v.name] for v in follows if v.name in running}
        config = seen.get("EndpointConfigName")
        if not follows or len(running) < 2 or config is None:
            return counts
        asked = latest(self._records.of(spec.name), config)
        for before in self._records.spec(asked).variants if asked is not None else ():
            for variant in follows:
                if variant.digest == before.digest:
                    now = running.get(before.name, 0)
                    counts[variant.name] = max(counts.get(variant.name, 0), now)
        return counts

    def _units(self, variant: Variant, metric: ScalingMetric) -> int:
        return units_of(variant.resources, metric, self._settings.machines, target=self._target)

    def _bench(self) -> Bench:
        return Bench(
            hosting=self._hosting,
            scaling=VariantScaling(
                self._clients["application-autoscaling"],
                StepAlarms(self._clients["cloudwatch"], target=self._target),
                units=self._units,
                target=self._target,
            ),
            records=self._records,
            logs=EndpointLogs(self._clients["logs"], target=self._target),
            guards=Guards(self._clients["cloudwatch"], target=self._target),
            settings=self._settings,
        )

    def _asked_for(
        self, name: str, seen: Mapping[str, Any], known: list[Asked]
    ) -> list[EndpointSpec]:
        """Return the specs that an endpoint has, or is on its way to."""
        pending = seen.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        asked = [latest(known, seen.get("EndpointConfigName")), latest(known, pending)]
        specs = [self._records.spec(one) for one in asked if one is not None]
        return [*specs, self._look_closely(name, seen, known).spec]

    def _look_closely(self, name: str, seen: Mapping[str, Any], known: list[Asked]) -> Endpoint:
        """Return an endpoint with what its models say, and not only its configuration's name."""
        if is_host(seen):
            return resting.shown(self._rest_bench(), name, seen, known)
        variants = [variant["VariantName"] for variant in seen.get("ProductionVariants", ())]
        bounds = self._bench().scaling.bounds(name, variants)
        return self._shown(name, seen, known, bounds, digests=self._hosting.digests(seen))

    def _shown(
        self,
        name: str,
        seen: Mapping[str, Any],
        known: list[Asked],
        bounds: Mapping[str, wire.Bound],
        *,
        digests: Mapping[str, str] | None = None,
        inventory: Inventory | None = None,
    ) -> Endpoint:
        asked = latest(known, seen.get("EndpointConfigName"))
        spec = self._records.spec(asked) if asked is not None else None
        if inventory is not None and spec is not None:
            digests = inventory.digests(seen["EndpointConfigName"], spec)
        return wire.endpoint_from(
            seen,
            spec,
            name=name,
            region=self._settings.region,
            bounds=bounds,
            units=self._units,
            digests=digests,
        )

    def _needed(self, name: str) -> dict[str, Any]:
        known = self._records.of(check_endpoint(name))
        seen = self._hosting.look(host_in((one.config for one in known), name))
        if seen is None:
            raise self._missing(name)
        return seen

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"no endpoint {name!r} is here", target=self._target)
