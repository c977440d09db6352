"""Requests to endpoints, and what a refusal of one means."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    CloudregError,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    Unavailable,
)
from cloudreg.names import check_endpoint
from cloudreg_sagemaker import streams
from cloudreg_sagemaker.errors import from_client_error, translated

if TYPE_CHECKING:
    from cloudreg_sagemaker.clients import Clients


T = TypeVar("T")

NEEDS_NAME = re.compile(r"Inference Component Name header is required", re.I)
"""What the runtime says of a request to an endpoint of components that names none.

Source: https://github.com/aws-samples/amazon-kendra-langchain-extensions/issues/64
"""

NOT_HERE = re.compile(r"not found", re.I)
ELSEWHERE = re.compile(f"{NEEDS_NAME.pattern}|not found", re.I)
"""What it says where a name is a component's, on its own endpoint or on that of a pool."""


PRIMARY = "primary"
"""The one variant of an endpoint of components."""


class Calls:
    """What is asked of endpoints; each request is sent once and never repeated."""

    def __init__(
        self,
        clients: Clients,
        capabilities: Capabilities,
        *,
        look: Callable[[str], Mapping[str, Any] | None],
        logs: Callable[..., list[str]],
        host: Callable[[str], str],
        target: str,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            clients: boto3's.
            capabilities: With the largest request.
            look: Returns DescribeEndpoint; None where there is none.
            logs: Returns an endpoint's last log lines.
            host: Returns on which of SageMaker's endpoints an endpoint is.
            target: For messages.
        """
        self._clients = clients
        self._capabilities = capabilities
        self._look = look
        self._logs = logs
        self._target = target
        self._host = host
        self._components: dict[str, str] = {}

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None,
    ) -> bytes:
        """Return an answer, whole."""
        from botocore import exceptions

        request = self._request(name, body, content_type, variant)
        with self._understood(name, variant):
            try:
                client = self._clients.runtime(timeout_s)
                answer = self._addressed(request, lambda sent: client.invoke_endpoint(**sent))
                return bytes(answer["Body"].read())
            except exceptions.ReadTimeoutError as error:
                raise OperationTimeout(
                    f"endpoint {name} did not answer in {timeout_s:g} s", target=self._target
                ) from error

    def stream(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        accept: str,
        variant: str | None,
    ) -> Generator[bytes, None, None]:
        """Yield an answer, piece by piece."""
        request = {**self._request(name, body, content_type, variant), "Accept": accept}

        def begin(sent: dict[str, Any]) -> tuple[bytes | None, Generator[bytes, None, None]]:
            pieces = streams.pieces(
                self._clients.runtime(timeout_s),
                sent,
                what=f"endpoint {name}",
                timeout_s=timeout_s,
                target=self._target,
            )
            return next(pieces, None), pieces

        with self._understood(name, variant):
            first, rest = self._addressed(request, begin)
            try:
                if first is not None:
                    yield first
                yield from rest
            finally:
                rest.close()

    def _addressed(self, request: dict[str, Any], send: Callable[[dict[str, Any]], T]) -> T:
        """Send with the component's name where an endpoint needs one; the refusal tells.

        A request that was refused for its address has reached no model server, so that it is
        sent again to the right one.
        """
        from botocore import exceptions

        name = request["EndpointName"]
        known = self._components.get(name)
        try:
            return send(self._to_component(request, known) if known else request)
        except exceptions.ClientError as error:
            words = NOT_HERE if known else ELSEWHERE
            if not words.search(error.response["Error"].get("Message", "")):
                raise
            host = self._host(name)
            needs_name = NEEDS_NAME.search(error.response["Error"].get("Message", ""))
            if not known and host == name and not needs_name:
                raise
        if known:
            del self._components[name]
            return send(request)
        self._components[name] = host
        return send(self._to_component(request, host))

    def _to_component(self, request: Mapping[str, Any], host: str) -> dict[str, Any]:
        """Return a request to the one component of an endpoint, which has its name."""
        name, variant = request["EndpointName"], request.get("TargetVariant", PRIMARY)
        if variant != PRIMARY:
            raise NotFound(f"endpoint {name} has no variant {variant!r}", target=self._target)
        rest = {key: value for key, value in request.items() if key != "TargetVariant"}
        return {**rest, "EndpointName": host, "InferenceComponentName": name}

    def _request(
        self, name: str, body: bytes, content_type: str, variant: str | None
    ) -> dict[str, Any]:
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
        return request

    @contextmanager
    def _understood(self, name: str, variant: str | None) -> Iterator[None]:
        """Turn a refusal into what it means for a prediction."""
        from botocore import exceptions

        try:
            with translated(f"endpoint {name}", target=self._target):
                try:
                    yield
                except exceptions.ClientError as error:
                    raise self._refusal(name, variant, error) from error
        except (InvalidRequest, NotFound) as error:
            # One code for many things: only a look tells what is wrong.
            if isinstance(error.__cause__, exceptions.ClientError):
                self._check_addressee(name, variant, error)
            raise

    def _refusal(self, name: str, variant: str | None, error: Any) -> CloudregError:
        """Return what a refused prediction means: the model server's words are in it."""
        said = error.response
        if "has no capacity" in said["Error"].get("Message", ""):
            return Unavailable(
                f"endpoint {name} has no replica at this moment (min_replicas = 0): this request "
                "asks for one",
                target=self._target,
                hint="ask again in some minutes: instance and model are started",
            )
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
            return self._logs(name, variant=variant, lines=20)
        except (NotFound, Unavailable):
            return []

    def _check_addressee(self, name: str, variant: str | None, error: CloudregError) -> None:
        """Refuse for the reason that a look at the endpoint gives, if it gives one."""
        said = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
        if said == "ModelError":
            return
        seen = self._look(self._host(name))
        if seen is None:
            raise NotFound(f"no endpoint {name!r} is here", target=self._target) from error
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
