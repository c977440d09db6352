"""Requests that take minutes: InvokeEndpointAsync, and the answers that it leaves in the bucket.

A request is found again by its id alone: what AWS said of the places of answer and failure is
written down beside its input::

    sagemaker/<region>/requests/<endpoint>/<id>/input
    sagemaker/<region>/requests/<endpoint>/<id>/ticket

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.errors import InvalidRequest, NotFound, OperationFailed, Unsupported
from cloudreg.provider import ObjectStore
from cloudreg.types import EndpointSpec
from cloudreg_sagemaker.errors import translated

if TYPE_CHECKING:
    from cloudreg_sagemaker.clients import Clients
    from cloudreg_sagemaker.settings import SageMakerSettings

MAX_INLINE_BYTES = 128_000
"""Of InvokeEndpointAsync's Body, in botocore's service model; larger input goes by the bucket."""

MAX_BYTES = 1_000_000_000
"""https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html: "up to 1GB"."""

MAX_TIMEOUT_S = 3600
"""InvocationTimeoutSeconds in botocore's service model."""

GRACE_S = 300.0
"""For the last word of SageMaker about a request whose time is over."""

ANSWER_S = 30.0
"""Patience with SageMaker's receipt."""

_ID = re.compile(r"[0-9a-f]{24}")
MAX_WORDS = 2000


def config(spec: EndpointSpec, settings: SageMakerSettings) -> dict[str, Any]:
    """Return AsyncInferenceConfig."""
    asked = spec.asynchronous
    assert asked is not None
    output: dict[str, Any] = {
        "S3OutputPath": settings.uri(f"{asked.output}/{spec.name}/answers"),
        "S3FailurePath": settings.uri(f"{asked.output}/{spec.name}/failures"),
    }
    if settings.kms_key is not None:
        output["KmsKeyId"] = settings.kms_key
    topics = {"SuccessTopic": asked.notify_success, "ErrorTopic": asked.notify_error}
    if told := {key: topic for key, topic in topics.items() if topic is not None}:
        output["NotificationConfig"] = told
    made: dict[str, Any] = {"OutputConfig": output}
    if asked.max_concurrent_per_replica is not None:
        made["ClientConfig"] = {
            "MaxConcurrentInvocationsPerInstance": asked.max_concurrent_per_replica
        }
    return made


class Queue:
    """The queued requests of one account and region."""

    def __init__(
        self,
        clients: Clients,
        store: ObjectStore,
        settings: SageMakerSettings,
        *,
        target: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Use boto3's clients; nothing is sent.

        Args:
            clients: boto3's.
            store: Of the target.
            settings: The target's section.
            target: For messages.
            now: Seconds since 1970.
        """
        self._clients = clients
        self._store = store
        self._settings = settings
        self._target = target
        self._now = now

    def submit(
        self, spec: EndpointSpec, body: bytes, *, content_type: str, timeout_s: float
    ) -> str:
        """Queue a request, and return its id."""
        name = spec.name
        if spec.asynchronous is None:
            raise Unsupported(
                f"endpoint {name} is {spec.kind}: it queues nothing",
                target=self._target,
                hint=f"cloudreg predict {name}, which waits for the answer",
            )
        if len(body) > MAX_BYTES:
            raise InvalidRequest(
                f"endpoint {name}: a request of {len(body)} bytes, {MAX_BYTES} at most",
                target=self._target,
            )
        if not 1 <= timeout_s <= MAX_TIMEOUT_S:
            raise InvalidRequest(
                f"endpoint {name}: {timeout_s:g} s for an answer is not 1 to {MAX_TIMEOUT_S}",
                target=self._target,
                hint=f"--timeout {MAX_TIMEOUT_S}",
            )
        request_id = uuid.uuid4().hex[:24]
        request: dict[str, Any] = {
            "EndpointName": name,
            "ContentType": content_type,
            "InferenceId": request_id,
            "RequestTTLSeconds": spec.asynchronous.expires_s,
            "InvocationTimeoutSeconds": int(timeout_s),
        }
        if body and len(body) <= MAX_INLINE_BYTES:
            request["Body"] = body
        else:
            key = f"{self._folder(name, request_id)}/input"
            self._store.put(body, key)
            request["InputLocation"] = self._settings.uri(key)
        with translated(f"endpoint {name}", target=self._target):
            said = self._clients.runtime(ANSWER_S).invoke_endpoint_async(**request)
        ticket = {
            "output": self._key(said["OutputLocation"]),
            "failure": self._key(said.get("FailureLocation", "")),
            "over_at": self._now() + spec.asynchronous.expires_s + timeout_s,
        }
        self._store.put(json.dumps(ticket).encode(), f"{self._folder(name, request_id)}/ticket")
        return request_id

    def result(self, name: str, request_id: str) -> bytes | None:
        """Return the answer to a request; None while there is none."""
        ticket = self._ticket(name, request_id)
        answer = self._read(ticket["output"])
        if answer is not None:
            return answer
        failure = self._read(ticket["failure"]) if ticket["failure"] else None
        if failure is not None:
            words = failure.decode(errors="replace").strip()[:MAX_WORDS]
            raise OperationFailed(
                f"endpoint {name}: request {request_id} failed: {words or 'no reason given'}",
                target=self._target,
            )
        if self._now() > ticket["over_at"] + GRACE_S:
            raise OperationFailed(
                f"endpoint {name}: request {request_id} expired, without an answer",
                target=self._target,
            )
        return None

    def _ticket(self, name: str, request_id: str) -> Mapping[str, Any]:
        missing = NotFound(
            f"endpoint {name} was asked no request {request_id!r}", target=self._target
        )
        if not _ID.fullmatch(request_id):
            raise missing
        found = self._read(f"{self._folder(name, request_id)}/ticket")
        if found is None:
            raise missing
        ticket: Mapping[str, Any] = json.loads(found)
        return ticket

    def _read(self, key: str) -> bytes | None:
        try:
            with self._store.open(key) as reader:
                return reader.read()
        except NotFound:
            return None

    def _key(self, uri: str) -> str:
        """Return the key of the store that an address is of."""
        return uri.removeprefix(self._settings.uri(""))

    def _folder(self, name: str, request_id: str) -> str:
        return f"sagemaker/{self._settings.region}/requests/{name}/{request_id}"
