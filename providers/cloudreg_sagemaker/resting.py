"""Endpoints that scale to zero: what they are, and the operations that make and remove them.

Each poll looks once at the endpoint and its component, and sends what can be sent by then: first
the instances, then the component on them, then its scaling.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cloudreg.errors import AlreadyExists, CloudregError, Conflict, InvalidRequest
from cloudreg.objects.records import Asked, latest
from cloudreg.types import Endpoint, EndpointStatus, OperationState, OperationStatus, VariantStatus
from cloudreg_sagemaker import wire
from cloudreg_sagemaker.changes import LAST_LINES, NO_REASON, STALE_LOOKS
from cloudreg_sagemaker.components import ComponentRequests, frame_of, host_of, names_in, taken
from cloudreg_sagemaker.waking import alone
from cloudreg_sagemaker.wire import BUSY, FAILED

if TYPE_CHECKING:
    from cloudreg.objects.records import Records
    from cloudreg_sagemaker.components import Components
    from cloudreg_sagemaker.hosting import Hosting
    from cloudreg_sagemaker.logs import EndpointLogs
    from cloudreg_sagemaker.waking import CopyScaling

Seen = Mapping[str, Any]

MOVING = frozenset({"Creating", "Updating", "Deleting"})
"""Statuses of a component that pass by themselves."""

_STATUS = {
    "Creating": EndpointStatus.CREATING,
    "Updating": EndpointStatus.UPDATING,
    "InService": EndpointStatus.READY,
    "Deleting": EndpointStatus.DELETING,
    "Failed": EndpointStatus.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestBench:
    """What operations and looks work with."""

    hosting: Hosting
    components: Components
    scaling: CopyScaling
    records: Records
    logs: EndpointLogs
    region: str
    target: str


def shown(bench: RestBench, name: str, host: Seen, known: list[Asked]) -> Endpoint:
    """Return what callers are told of an endpoint of this shape."""
    component = bench.components.look(name)
    specification = component.get("Specification", {}) if component is not None else {}
    frame = frame_of(host["EndpointConfigName"], specification, host["EndpointName"], name)
    asked = latest(known, frame) if component is not None else max(known, key=_age, default=None)
    plain = wire.endpoint_from(
        host,
        bench.records.spec(asked) if asked is not None else None,
        name=name,
        region=bench.region,
        bounds={},
        units=alone,
        digests={},
    )
    if component is None or asked is None:
        status = plain.status
        if component is None and status is EndpointStatus.READY:
            # Between two polls of whoever makes it, or after somebody removed the component.
            return replace(
                plain, variants=(), status=EndpointStatus.DEGRADED, message="it has no component"
            )
        return replace(plain, variants=()) if component is None else plain
    spec = bench.records.spec(asked)
    copies = component.get("RuntimeConfig", {})
    count = copies.get("DesiredCopyCount", 0)
    current = component["InferenceComponentStatus"]
    status, message = _STATUS[current], str(component.get("FailureReason", ""))
    variant = spec.variants[0]
    if current == "InService":
        scaling = bench.scaling.copies(name)
        told = wire.scaling_from(variant, count, scaling.bound, alone)
        variant = replace(variant, scaling=told)
        if told.min_replicas == 0 and not scaling.wakes:
            status, message = EndpointStatus.DEGRADED, "nothing brings it back from zero"
    return replace(
        plain,
        spec=replace(spec, variants=(variant,)),
        status=status,
        message=message,
        variants=(
            VariantStatus(
                name=variant.name,
                digest=bench.components.digest(component),
                ready_replicas=copies.get("CurrentCopyCount", 0),
                desired_replicas=count,
                weight=100,
            ),
        ),
        since=wire.iso(component["LastModifiedTime"]),
    )


def _age(asked: Asked) -> tuple[int, str]:
    return asked.count, asked.key


class ComponentChange:
    """A create or an update."""

    def __init__(self, bench: RestBench, requests: ComponentRequests) -> None:
        """Prepare; nothing is sent."""
        self._bench = bench
        self._requests = requests
        self._is_host_asked = False
        self._is_asked = False
        self._before: Any = None
        self._looks = 0
        self._done: OperationStatus | None = None

    @property
    def name(self) -> str:
        return f"endpoint {self._requests.spec.name}"

    def begin(self) -> ComponentChange:
        """Send what can be sent now."""
        self.poll()
        return self

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        name = self._requests.spec.name
        host = self._bench.hosting.look(host_of(self._requests.spec))
        try:
            if host is None or host["EndpointStatus"] != "InService":
                return self._host(host)
            if host["EndpointConfigName"] != self._requests.config_name:
                return self._fail(host, "somebody else changed its machines")
            return self._place(host, self._bench.components.look(name))
        except (AlreadyExists, Conflict):
            # Somebody else was faster: the next look shows what they did.
            return _running("waiting: another change was first")

    def _host(self, host: Seen | None) -> OperationStatus:
        """Bring the instances."""
        hosting, requests = self._bench.hosting, self._requests
        if host is None:
            self._looks += 1
            if self._is_host_asked:
                if self._looks <= STALE_LOOKS:
                    return _running("not shown yet")
                return self._end(OperationState.FAILED, "the endpoint was deleted")
            self._write_down()
            hosting.prepare(requests)
            hosting.start(requests)
            self._is_host_asked, self._looks = True, 0
            return _running("starting instances")
        status = host["EndpointStatus"]
        if status in BUSY:
            return _running("starting instances" if status == "Creating" else str(status))
        if status == FAILED and not self._is_host_asked:
            hosting.remove(host_of(requests.spec))
            return _running("removing what failed before")
        return self._fail(host, host.get("FailureReason") or NO_REASON)

    def _place(self, host: Seen, component: Seen | None) -> OperationStatus:
        """Bring the component, or the one that there is to what is asked for."""
        name = self._requests.spec.name
        if component is None:
            return self._create()
        if component["EndpointName"] != host["EndpointName"]:
            return self._end(OperationState.FAILED, taken(name, target=self._bench.target).message)
        if component["InferenceComponentStatus"] in MOVING:
            return _running("placing the model")
        if component["InferenceComponentStatus"] == FAILED:
            return self._mend(component)
        if not self._runs(host, component["Specification"]):
            return self._replace(component)
        return self._settle(component)

    def _create(self) -> OperationStatus:
        """Ask for the component."""
        self._looks += 1
        if self._is_asked:
            if self._looks <= STALE_LOOKS:
                return _running("not shown yet")
            return self._end(OperationState.FAILED, "the component was deleted")
        self._write_down()
        self._bench.hosting.prepare(self._requests)
        self._bench.components.create(self._requests)
        self._is_asked, self._looks = True, 0
        return _running("placing the model")

    def _mend(self, component: Seen) -> OperationStatus:
        """Say that the component failed, or remove one that failed before."""
        if self._is_asked:
            return self._fail(component, component.get("FailureReason") or NO_REASON)
        self._bench.components.remove(self._requests.spec.name)
        return _running("removing what failed before")

    def _settle(self, component: Seen) -> OperationStatus:
        """Set a number of copies that is fixed."""
        name, scaling = self._requests.spec.name, self._requests.spec.variants[0].scaling
        count = component["RuntimeConfig"]["DesiredCopyCount"]
        if not scaling.autoscaled and count != scaling.min_replicas:
            # What follows the load would move the number back.
            self._bench.scaling.let_go(name)
            self._bench.components.resize(name, scaling.min_replicas)
            return _running("changing the number of copies")
        return self._finish(component)

    def _runs(self, host: Seen, specification: Seen) -> bool:
        """Whether a component is what was asked for, and has what it needs."""
        requests = self._requests
        frame = frame_of(
            host["EndpointConfigName"], specification, host["EndpointName"], requests.spec.name
        )
        has = specification.get("ComputeResourceRequirements", {})
        needs = requests.component["Specification"]["ComputeResourceRequirements"]
        return frame == requests.frame and all(has.get(k) == v for k, v in needs.items())

    def _replace(self, component: Seen) -> OperationStatus:
        """Send another model, or say that SageMaker went back to the one before."""
        if self._is_asked:
            self._looks += 1
            if component["LastModifiedTime"] == self._before and self._looks <= STALE_LOOKS:
                return _running("not shown yet")
            model = component["Specification"].get("ModelName")
            reason = component.get("FailureReason") or NO_REASON
            return self._fail(component, f"SageMaker went back to {model}: {reason}")
        self._write_down()
        self._bench.hosting.prepare(self._requests)
        self._bench.components.update(self._requests)
        self._is_asked, self._looks = True, 0
        self._before = component["LastModifiedTime"]
        return _running("replacing copies")

    def _finish(self, component: Seen) -> OperationStatus:
        if not self._is_asked:
            self._write_down()
        self._bench.scaling.follow(self._requests.spec)
        # What is left behind costs nothing and is found again by the next change.
        with suppress(CloudregError):
            tidy(self._bench, component["InferenceComponentName"], keep=self._requests.frame)
        return self._end(OperationState.SUCCEEDED, "in service")

    def _fail(self, seen: Seen, reason: str) -> OperationStatus:
        lines: list[str] = []
        with suppress(CloudregError):  # the reason matters more than the last words
            lines = self._bench.logs.tail(
                self._requests.spec.name,
                lines=LAST_LINES,
                since=self._before or seen["CreationTime"],
                newcomers=True,
                component=True,
            )
        return self._end(OperationState.FAILED, reason, logs=tuple(lines))

    def _end(
        self, state: OperationState, message: str, *, logs: tuple[str, ...] = ()
    ) -> OperationStatus:
        progress = 1.0 if state is OperationState.SUCCEEDED else None
        self._done = OperationStatus(state=state, message=message, logs=logs, progress=progress)
        return self._done

    def _write_down(self) -> None:
        records, requests = self._bench.records, self._requests
        records.write(requests.spec, requests.frame, records.of(requests.spec.name))


class ComponentRemoval:
    """A delete: the component, then the instances."""

    def __init__(self, bench: RestBench, name: str, *, host: Seen) -> None:
        """Remember which endpoint it is about: one that is made anew is another.

        Args:
            bench: What it works with.
            name: The endpoint's.
            host: DescribeEndpoint of what carries it.
        """
        self._bench = bench
        self._endpoint = name
        self._host = str(host["EndpointName"])
        component = bench.components.look(name)
        self._made = host["CreationTime"]
        self._placed = component["CreationTime"] if component is not None else None
        self._done: OperationStatus | None = None

    @property
    def name(self) -> str:
        return f"removal of endpoint {self._endpoint}"

    def begin(self) -> ComponentRemoval:
        """Send what can be sent now."""
        self.poll()
        return self

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        bench, name = self._bench, self._endpoint
        host = bench.hosting.look(self._host)
        if host is None or host["CreationTime"] != self._made:
            tidy(bench, name, keep=None, with_configs=host is None)
            return self._end()
        component = bench.components.look(name)
        try:
            if component is not None and component["EndpointName"] == self._host:
                if self._placed not in (None, component["CreationTime"]):
                    return self._end()
                if component["InferenceComponentStatus"] != "Deleting":
                    bench.scaling.let_go(name)
                    bench.components.remove(name)
                return _running("deleting")
            return self._remove_host(host)
        except (Conflict, InvalidRequest):
            # SageMaker removes no endpoint that somebody places a component on.
            return _running("waiting: it is changed")

    def _remove_host(self, host: Seen) -> OperationStatus:
        bench, name = self._bench, self._endpoint
        if self._host != name and bench.components.are_on(self._host):
            # Others of the pool go on.
            tidy(bench, name, keep=None, with_configs=False)
            return self._end()
        if host["EndpointStatus"] != "Deleting":
            bench.hosting.remove(self._host)
        return _running("deleting")

    def _end(self) -> OperationStatus:
        self._done = OperationStatus(state=OperationState.SUCCEEDED, progress=1.0)
        return self._done


def tidy(bench: RestBench, name: str, *, keep: str | None, with_configs: bool = True) -> None:
    """Remove models, configurations and specs that nothing needs; the specs last.

    Args:
        bench: What it works with.
        name: The endpoint's.
        keep: What runs; None where nothing does.
        with_configs: Whether configurations go too: others of a pool may need them.
    """
    known = bench.records.of(name)
    kept = set(names_in(keep)) if keep is not None else set()
    for frame in {asked.config for asked in known} - {keep}:
        config, model = names_in(frame)
        if model not in kept:
            bench.components.forget(name, model=model)
        if with_configs and config not in kept:
            bench.hosting.discard(name, config, keep=kept)
    newest = latest(known, keep)
    for asked in known:
        if asked != newest:
            bench.records.forget(asked)


def _running(message: str) -> OperationStatus:
    return OperationStatus(state=OperationState.RUNNING, message=message)
