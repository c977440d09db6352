"""Endpoints: content-addressed models and configurations, one describe a poll.

A configuration never changes, so every change of what runs is a new one, whose name is a digest of
it. Weights and numbers of instances change in place. What SageMaker says it runs is compared with
what was asked for, because it goes back to an old configuration in silence.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    Conflict,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    Unavailable,
)
from cloudreg.names import check_endpoint
from cloudreg.objects.layout import lay_out
from cloudreg.objects.records import Asked, Records, latest
from cloudreg.provider import ObjectStore, Operation
from cloudreg.types import Endpoint, EndpointSpec, ModelVersion, VariantMetrics
from cloudreg_sagemaker import requests as outgoing
from cloudreg_sagemaker import wire
from cloudreg_sagemaker.changes import Bench, Change, Removal
from cloudreg_sagemaker.errors import from_client_error, translated
from cloudreg_sagemaker.hosting import Hosting
from cloudreg_sagemaker.logs import EndpointLogs
from cloudreg_sagemaker.metrics import EndpointMetrics
from cloudreg_sagemaker.scaling import VariantScaling

if TYPE_CHECKING:
    from cloudreg_sagemaker.clients import Clients
    from cloudreg_sagemaker.settings import SageMakerSettings

PARALLEL_LOOKS = 16


class SageMakerEndpoints:
    """The real-time endpoints of one account and region, as far as cloudreg made them."""

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
        self._hosting = Hosting(clients, target=target)
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
            looks = list(pool.map(self._hosting.look, names))
        for name, seen in zip(names, looks, strict=True):
            if seen is not None:
                yield self._shown(name, seen, known[name], bounds.get(name, {}))

    def endpoint(self, name: str) -> Endpoint | None:
        known = self._records.of(check_endpoint(name))
        seen = self._hosting.look(name) if known else None
        return self._look_closely(name, seen, known) if seen is not None else None

    def create(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        self._check(spec, artifacts)
        seen = self._hosting.look(spec.name)
        if seen is not None and seen["EndpointStatus"] != "Deleting":
            known = self._records.of(spec.name)
            if not known:
                raise AlreadyExists(
                    f"endpoint {spec.name} exists, and cloudreg did not make it",
                    target=self._target,
                )
            if spec not in self._asked_for(seen, known):
                raise AlreadyExists(
                    f"endpoint {spec.name} exists with another configuration",
                    target=self._target,
                )
        self._lay_out(spec, artifacts)
        return self._change(spec, artifacts).begin(seen)

    def update(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        self._check(spec, artifacts)
        seen = self._hosting.look(spec.name) if self._records.of(spec.name) else None
        if seen is None or seen["EndpointStatus"] == "Deleting":
            raise self._missing(spec.name)
        self._check_owner(seen)
        self._lay_out(spec, artifacts)
        return self._change(spec, artifacts).begin(seen)

    def delete(self, name: str) -> Operation:
        known = self._records.of(check_endpoint(name))
        seen = self._hosting.look(name) if known else None
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
        from botocore import exceptions

        most = self._capabilities.max_request_bytes
        if most is not None and len(body) > most:
            raise InvalidRequest(
                f"endpoint {name}: a request of {len(body)} bytes, {most} at most",
                target=self._target,
            )
        request: dict[str, Any] = {
            "EndpointName": check_endpoint(name),
            "Body": body,
            "ContentType": content_type,
        }
        if variant is not None:
            request["TargetVariant"] = variant
        try:
            with translated(f"endpoint {name}", target=self._target):
                try:
                    answer = self._clients.runtime(timeout_s).invoke_endpoint(**request)
                    return bytes(answer["Body"].read())
                except exceptions.ReadTimeoutError as error:
                    raise OperationTimeout(
                        f"endpoint {name} did not answer in {timeout_s:g} s", target=self._target
                    ) from error
                except exceptions.ClientError as error:
                    raise self._refusal(name, variant, error) from error
        except (InvalidRequest, NotFound) as error:
            # One code for many things: only a look tells what is wrong.
            if isinstance(error.__cause__, exceptions.ClientError):
                self._check_addressee(name, variant, error)
            raise

    def metrics(self, name: str, *, window_s: float) -> Mapping[str, VariantMetrics]:
        if not window_s >= 0:
            raise InvalidRequest(f"window_s {window_s} is not 0 or more", target=self._target)
        seen = self._needed(name)
        source = EndpointMetrics(self._clients["cloudwatch"], target=self._target)
        return source.of(
            name,
            [variant["VariantName"] for variant in seen.get("ProductionVariants", ())],
            window_s=window_s,
            since=seen["CreationTime"],
            now=self._now(),
        )

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        seen = self._needed(name)
        return self._bench().logs.tail(
            name, lines=lines, variant=variant, since=seen["CreationTime"]
        )

    def native(self, name: str) -> dict[str, Any]:
        """Return boto3's answer to DescribeEndpoint.

        Raises:
            NotFound: No such endpoint.
        """
        return self._needed(name)

    def _check(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        """Refuse what could not be started, before anything is touched."""
        self._capabilities.require(spec, target=self._target)
        for variant in spec.variants:
            if variant.digest not in artifacts:
                raise InvalidRequest(
                    f"variant {variant.name}: no version is given for {variant.digest}",
                    target=self._target,
                )
        self._hosting.check(self._requests(spec, artifacts, None))

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
        for digest in sorted({variant.digest for variant in spec.variants}):
            lay_out(artifacts[digest], self._store, target=self._target)

    def _requests(
        self,
        spec: EndpointSpec,
        artifacts: Mapping[str, ModelVersion],
        seen: Mapping[str, Any] | None,
    ) -> outgoing.Requests:
        running = seen.get("ProductionVariants", ()) if seen is not None else ()
        follows = {variant.name for variant in spec.variants if variant.scaling.autoscaled}
        return outgoing.requests_for(
            spec,
            artifacts,
            self._settings,
            counts={
                variant["VariantName"]: variant.get("DesiredInstanceCount", 0)
                for variant in running
                if variant["VariantName"] in follows
            },
            target=self._target,
        )

    def _change(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> Change:
        return Change(self._bench(), spec, partial(self._requests, spec, artifacts))

    def _bench(self) -> Bench:
        return Bench(
            hosting=self._hosting,
            scaling=VariantScaling(self._clients["application-autoscaling"], target=self._target),
            records=self._records,
            logs=EndpointLogs(self._clients["logs"], target=self._target),
            settings=self._settings,
        )

    def _asked_for(self, seen: Mapping[str, Any], known: list[Asked]) -> list[EndpointSpec]:
        """Return the specs that an endpoint has, or is on its way to."""
        pending = seen.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        asked = [latest(known, seen.get("EndpointConfigName")), latest(known, pending)]
        specs = [self._records.spec(one) for one in asked if one is not None]
        return [*specs, self._look_closely(seen["EndpointName"], seen, known).spec]

    def _look_closely(self, name: str, seen: Mapping[str, Any], known: list[Asked]) -> Endpoint:
        """Return an endpoint with what its models say, and not only its configuration's name."""
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
    ) -> Endpoint:
        asked = latest(known, seen.get("EndpointConfigName"))
        return wire.endpoint_from(
            seen,
            self._records.spec(asked) if asked is not None else None,
            name=name,
            region=self._settings.region,
            bounds=bounds,
            digests=digests,
        )

    def _refusal(self, name: str, variant: str | None, error: Any) -> CloudregError:
        """Return what a refused prediction means: the model server's words are in it."""
        said = error.response
        if said["Error"].get("Code") != "ModelError":
            return from_client_error(error, f"endpoint {name}", target=self._target)
        status = int(said.get("OriginalStatusCode") or 500)
        words = str(said.get("OriginalMessage") or said["Error"].get("Message", ""))[:2000].strip()
        if 400 <= status < 500:
            return InvalidRequest(
                f"endpoint {name} answered {status}: {words}", target=self._target
            )
        if "timed out" in said["Error"].get("Message", ""):
            return OperationTimeout(f"endpoint {name}: {words}", target=self._target)
        return OperationFailed(
            f"endpoint {name} answered {status}: {words}",
            target=self._target,
            logs=self._last_words(name, variant),
        )

    def _last_words(self, name: str, variant: str | None) -> list[str]:
        try:
            return self.logs(name, variant=variant, lines=20)
        except (NotFound, Unavailable):
            return []

    def _check_addressee(self, name: str, variant: str | None, error: CloudregError) -> None:
        """Refuse for the reason that a look at the endpoint gives, if it gives one."""
        said = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
        if said == "ModelError":
            return
        seen = self._hosting.look(name)
        if seen is None:
            raise self._missing(name) from error
        there = {v["VariantName"] for v in seen.get("ProductionVariants", ())}
        if variant is not None and variant not in there:
            raise NotFound(
                f"endpoint {name} has no variant {variant!r}", target=self._target
            ) from error
        if seen["EndpointStatus"] in ("Creating", "Failed", "OutOfService", "Deleting"):
            raise Unavailable(
                f"endpoint {name} is {seen['EndpointStatus']}: {seen.get('FailureReason', '')}",
                target=self._target,
            ) from error

    def _needed(self, name: str) -> dict[str, Any]:
        seen = self._hosting.look(check_endpoint(name))
        if seen is None:
            raise self._missing(name)
        return seen

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"no endpoint {name!r} is here", target=self._target)
