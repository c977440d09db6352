"""Endpoints: a deployed model for each variant, and one split of the traffic over them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unsupported,
)
from cloudreg.names import check_endpoint
from cloudreg.objects.layout import lay_out
from cloudreg.objects.records import Asked, Records, latest
from cloudreg.provider import LINES, ObjectStore, Operation
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointSpec,
    ModelVersion,
    Rollout,
    VariantMetrics,
    named,
)
from cloudreg_vertex import labels, wire
from cloudreg_vertex import requests as outgoing
from cloudreg_vertex.changes import Bench, Change, Removal
from cloudreg_vertex.hosting import Hosting
from cloudreg_vertex.logs import EndpointLogs
from cloudreg_vertex.metrics import EndpointMetrics
from cloudreg_vertex.native import SdkObjects
from cloudreg_vertex.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Generator

    from cloudreg_vertex.services import Services
    from cloudreg_vertex.settings import VertexSettings


class VertexEndpoints:
    """The online endpoints of one project and location, as far as cloudreg made them."""

    def __init__(
        self,
        services: Services,
        store: ObjectStore,
        settings: VertexSettings,
        capabilities: Capabilities,
        *,
        target: str,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        """Use the SDK's clients; nothing is sent."""
        self._services = services
        self._store = store
        self._settings = settings
        self._capabilities = capabilities
        self._target = target
        self._now = now
        self._native = SdkObjects(services, settings, target=target)
        self._hosting = Hosting(services, version="v1beta1" if settings.preview else "v1")
        self._records = Records(store, root=f"vertex/{settings.location}/endpoints/", target=target)
        self._logs = EndpointLogs(services, settings, target=target)
        self._metrics = EndpointMetrics(services, settings, target=target)
        self._predictions = Predictions(
            services, settings, capabilities, self._hosting, target=target
        )

    def endpoints(self) -> Iterator[Endpoint]:
        known = self._records.all()
        busy = self._busy()
        found = {
            one.name.rpartition("/")[2]: one for one in self._hosting.all() if not _is_shell(one)
        }
        for name in sorted(found):
            asked = known.get(name, [])
            yield self._shown(name, found[name], asked, busy=name in busy)

    def endpoint(self, name: str) -> Endpoint | None:
        seen = self._hosting.look(check_endpoint(name))
        if seen is None or labels.MODEL not in seen.labels or _is_shell(seen):
            return None
        digests = {
            variant: self._hosting.digest(deployed)
            for variant, deployed in wire.holders(seen).items()
        }
        return self._shown(
            name,
            seen,
            self._records.of(name),
            busy=self._hosting.pending(name),
            digests=digests,
        )

    def create(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        placements = self._checked(spec, artifacts)
        seen = self._hosting.look(spec.name)
        if seen is not None:
            if labels.MODEL not in seen.labels:
                raise AlreadyExists(
                    f"endpoint {spec.name} exists, and cloudreg did not make it",
                    target=self._target,
                )
            known = self._records.of(spec.name)
            same = _is_shell(seen) or spec == self._shown(spec.name, seen, known, busy=False).spec
            if not same:
                raise AlreadyExists(
                    f"endpoint {spec.name} exists with another configuration",
                    target=self._target,
                )
        self._lay_out(spec, artifacts)
        return Change(self._bench(), spec, placements).begin(seen)

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> Operation:
        if rollout is not None:
            self._capabilities.require_rollout(rollout, spec, target=self._target)
        placements = self._checked(spec, artifacts)
        seen = self._needed(spec.name)
        self._check_owner(seen)
        self._lay_out(spec, artifacts)
        return Change(self._bench(), spec, placements).begin(seen)

    def delete(self, name: str) -> Operation:
        seen = self._hosting.look(check_endpoint(name))
        if seen is not None:
            self._check_owner(seen)
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
        return self._predictions.invoke(
            check_endpoint(name),
            body,
            content_type=content_type,
            timeout_s=timeout_s,
            variant=variant,
            last_words=self._last_words,
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
        return self._predictions.stream(
            check_endpoint(name),
            body,
            content_type=content_type,
            timeout_s=timeout_s,
            accept=accept,
            variant=variant,
            last_words=self._last_words,
        )

    def submit(self, name: str, body: bytes, *, content_type: str, timeout_s: float) -> str:
        raise self._not_queued(name)

    def result(self, name: str, request_id: str) -> bytes | None:
        raise self._not_queued(name)

    def metrics(
        self, name: str, *, window_s: float, custom: Sequence[CustomMetric] = ()
    ) -> Mapping[str, VariantMetrics]:
        if not window_s >= 0:
            raise InvalidRequest(f"window_s {window_s} is not 0 or more", target=self._target)
        self._capabilities.require_metrics(custom, name=name, target=self._target)
        seen = self._needed(name)
        deployed = {variant: one.id for variant, one in wire.holders(seen).items()}
        now = self._now()
        counted = self._metrics.of(
            name, deployed, window_s=window_s, since=seen.create_time, now=now
        )
        if not custom:
            return counted
        spec = self._shown(name, seen, self._records.of(name), busy=False).spec
        return {
            variant: replace(
                found,
                custom=self._metrics.custom(
                    custom,
                    named(spec, variant) | {"deployed_model": deployed[variant]},
                    window_s=window_s,
                    now=now,
                ),
            )
            for variant, found in counted.items()
        }

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        seen = self._needed(name)
        there = wire.holders(seen)
        if variant is not None and variant not in there:
            raise NotFound(f"endpoint {name} has no variant {variant!r}", target=self._target)
        deployed = there[variant].id if variant is not None else None
        return self._logs.tail(name, lines=lines, deployed=deployed, since=seen.create_time)

    def native(self, name: str) -> Any:
        """Return the ``Endpoint`` message, or with ``native = "sdk"`` `aiplatform.Endpoint`.

        Raises:
            NotFound: No such endpoint.
        """
        seen = self._needed(name)
        return self._native.endpoint(seen.name) if self._native.wanted else seen

    def _checked(
        self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]
    ) -> tuple[outgoing.Placement, ...]:
        """Refuse what could not be started, before anything is touched."""
        self._capabilities.require(spec, target=self._target)
        for variant in spec.variants:
            if variant.digest not in artifacts:
                raise InvalidRequest(
                    f"variant {variant.name}: no version is given for {variant.digest}",
                    target=self._target,
                )
        return outgoing.placements(spec, artifacts, self._settings, target=self._target)

    def _check_owner(self, seen: Any) -> None:
        """Refuse an endpoint that somebody made under a name of ours: the label tells."""
        if labels.MODEL not in seen.labels:
            name = seen.name.rpartition("/")[2]
            raise Conflict(
                f"endpoint {name} was not made by cloudreg",
                target=self._target,
                hint=f"gcloud ai endpoints delete {name}, if that is wanted",
            )

    def _lay_out(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        for digest in sorted({variant.digest for variant in spec.variants}):
            lay_out(artifacts[digest], self._store, target=self._target)

    def _bench(self) -> Bench:
        return Bench(
            hosting=self._hosting,
            records=self._records,
            logs=self._logs,
            settings=self._settings,
        )

    def _busy(self) -> set[str]:
        """Return the endpoints that something is done to now, with one listing."""
        pending = self._services.operations(self._services.parent, what="endpoints")
        parts = [one.name.split("/") for one in pending]
        return {p[p.index("endpoints") + 1] for p in parts if "endpoints" in p}

    def _shown(
        self,
        name: str,
        seen: Any,
        known: list[Asked],
        *,
        busy: bool,
        digests: Mapping[str, str] | None = None,
    ) -> Endpoint:
        asked = latest(known, dict(seen.labels).get(outgoing.SPEC))
        return wire.endpoint_from(
            seen,
            self._records.spec(asked) if asked is not None else None,
            name=name,
            url=self._predictions.url(name, seen),
            busy=busy,
            digests=digests,
        )

    def _last_words(self, name: str) -> list[str]:
        return self._logs.tail(name, lines=20)

    def _not_queued(self, name: str) -> CloudregError:
        self._needed(name)
        return Unsupported(
            f"endpoint {name}: Vertex AI has no asynchronous endpoints",
            target=self._target,
            hint="cloudreg batch scores a data set",
        )

    def _needed(self, name: str) -> Any:
        seen = self._hosting.look(check_endpoint(name))
        if seen is None:
            raise NotFound(f"no endpoint {name!r} is here", target=self._target)
        return seen


def _is_shell(seen: Any) -> bool:
    """Whether somebody made an endpoint for us, as Terraform may, and nothing is on it yet."""
    return not seen.deployed_models and outgoing.SPEC not in dict(seen.labels)
