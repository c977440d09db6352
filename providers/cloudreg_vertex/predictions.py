"""Requests to deployed models.

A document with ``instances`` goes by ``predict``, everything else by ``rawPredict``, which hands
the body on as it is. A dedicated endpoint has an address of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    CloudregError,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)
from cloudreg_vertex import wire
from cloudreg_vertex.abilities import UNADDRESSED
from cloudreg_vertex.errors import status_of, translated

if TYPE_CHECKING:
    from cloudreg_vertex.hosting import Hosting
    from cloudreg_vertex.services import Services
    from cloudreg_vertex.settings import VertexSettings

LastWords = Callable[[str], list[str]]
MAX_SHOWN = 2000


class Predictions:
    """Asks the endpoints of one project and location."""

    def __init__(
        self,
        services: Services,
        settings: VertexSettings,
        capabilities: Capabilities,
        hosting: Hosting,
        *,
        target: str,
    ) -> None:
        """Use the SDK's clients; nothing is sent."""
        self._services = services
        self._settings = settings
        self._capabilities = capabilities
        self._hosting = hosting
        self._target = target
        self._lock = threading.Lock()
        self._hosts: dict[str, str | None] = {}

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None,
        last_words: LastWords,
    ) -> bytes:
        """Send one request and return the answer's bytes; see `EndpointBackend.invoke`."""
        self._check(name, body, variant)
        document = _document(body, content_type)
        with self._refused(name, last_words):
            if self._settings.transport == "grpc":
                return self._call(name, body, document, content_type, timeout_s)
            verb = "predict" if document is not None else "rawPredict"
            with self._post(name, verb, body, content_type, timeout_s) as answer:
                said = bytes(answer.content)
        if document is None:
            return said
        return json.dumps({"predictions": json.loads(said).get("predictions", [])}).encode()

    def stream(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        accept: str,
        variant: str | None,
        last_words: LastWords,
    ) -> Generator[bytes, None, None]:
        """Yield the answer as it is written; see `EndpointBackend.stream`."""
        self._check(name, body, variant)
        with self._refused(name, last_words):
            if self._settings.transport == "grpc":
                yield from self._call_stream(name, body, content_type, timeout_s, accept)
                return
            with self._post(
                name, "streamRawPredict", body, content_type, timeout_s, accept=accept
            ) as answer:
                yield from _pieces(answer, name, self._target)

    def url(self, name: str, seen: Any) -> str:
        """Return where requests to an endpoint go."""
        host = self._settings.address or f"https://{self._host_of(seen)}"
        return f"{host.rstrip('/')}/v1/{self._hosting.path(name)}:rawPredict"

    def _post(
        self,
        name: str,
        verb: str,
        body: bytes,
        content_type: str,
        timeout_s: float,
        *,
        accept: str | None = None,
    ) -> Any:
        """Return the answer to a request that is sent as it is.

        The generated REST client would wrap a raw body into JSON, which Vertex AI would hand on;
        and this imports nothing of it, so that the first prediction does not wait for that.
        """
        headers = {"Content-Type": content_type, **({"Accept": accept} if accept else {})}
        host = self._host(name) or f"{self._settings.location}-aiplatform.googleapis.com"
        base = self._settings.address or f"https://{host}"
        answer = self._services.session().post(
            f"{base}/v1/{self._hosting.path(name)}:{verb}",
            data=body,
            headers=headers,
            timeout=timeout_s,
            stream=verb == "streamRawPredict",
        )
        if answer.status_code >= 400:
            from google.api_core.exceptions import from_http_response

            with answer:
                raise from_http_response(answer)
        return answer

    def _call(
        self,
        name: str,
        body: bytes,
        document: Mapping[str, Any] | None,
        content_type: str,
        timeout_s: float,
    ) -> bytes:
        client = self._services.client_at("predictions", self._host(name))
        path = self._hosting.path(name)
        if document is None:
            request = {"endpoint": path, "http_body": _http_body(body, content_type)}
            answer = client.raw_predict(request=request, timeout=timeout_s, retry=None)
            return bytes(answer.data)
        from google.cloud.aiplatform_v1 import PredictResponse
        from google.protobuf import json_format

        predict: dict[str, Any] = {
            "endpoint": path,
            "instances": [_value(one) for one in document["instances"]],
        }
        if document.get("parameters") is not None:
            predict["parameters"] = _value(document["parameters"])
        answer = client.predict(request=predict, timeout=timeout_s, retry=None)
        predictions = json_format.MessageToDict(PredictResponse.pb(answer)).get("predictions", [])
        return json.dumps({"predictions": predictions}).encode()

    def _call_stream(
        self, name: str, body: bytes, content_type: str, timeout_s: float, accept: str
    ) -> Generator[bytes, None, None]:
        client = self._services.client_at("predictions", self._host(name))
        answers = client.stream_raw_predict(
            request={
                "endpoint": self._hosting.path(name),
                "http_body": _http_body(body, content_type),
            },
            timeout=timeout_s,
            retry=None,
            metadata=[("accept", accept)],
        )
        try:
            for piece in answers:
                if piece.data:
                    yield bytes(piece.data)
        finally:
            answers.cancel()

    def _check(self, name: str, body: bytes, variant: str | None) -> None:
        if variant is not None:
            seen = self._hosting.look(name)
            if seen is None or variant not in wire.holders(seen):
                what = "" if seen is None else f" has no variant {variant!r}"
                raise NotFound(f"endpoint {name}{what or ' is not here'}", target=self._target)
            raise Unsupported(
                f"endpoint {name}: {UNADDRESSED}",
                target=self._target,
                hint="leave the variant out",
            )
        most = self._capabilities.max_request_bytes
        if most is not None and len(body) > most:
            raise InvalidRequest(
                f"endpoint {name}: a request of {len(body)} bytes, {most} at most",
                target=self._target,
                hint="fewer instances a request"
                if self._settings.dedicated
                else "dedicated = true in the target's section takes 10 MB",
            )

    def _host(self, name: str) -> str | None:
        """Return the address of a dedicated endpoint; None for the location's own."""
        if self._settings.is_emulated:
            return None
        with self._lock:
            if name in self._hosts:
                return self._hosts[name]
        seen = self._hosting.look(name)
        if seen is None:
            raise self._missing(name)
        host = seen.dedicated_endpoint_dns or None
        with self._lock:
            self._hosts[name] = host
        return host

    def _host_of(self, seen: Any) -> str:
        return seen.dedicated_endpoint_dns or f"{self._settings.location}-aiplatform.googleapis.com"

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"no endpoint {name!r} is here", target=self._target)

    def _refused(self, name: str, last_words: LastWords) -> Any:
        return _Refused(self, name, last_words)

    def refusal(self, name: str, error: Any, last_words: LastWords) -> CloudregError:
        """Return what a refused prediction means: the model server's words are in it."""
        with self._lock:
            self._hosts.pop(name, None)  # an endpoint that was made anew has another address
        number = int(getattr(error, "code", None) or 500)
        status, words = status_of(error), _words(error)
        if status == "NOT_FOUND" and self._hosting.look(name) is None:
            return self._missing(name)
        if status in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            return PermissionDenied(f"endpoint {name}: {words}", target=self._target)
        if status == "FAILED_PRECONDITION" or number in (429, 503):
            kind = QuotaExceeded if "quota" in words.lower() else Unavailable
            return kind(f"endpoint {name}: {words}", target=self._target)
        if status == "DEADLINE_EXCEEDED":
            return OperationTimeout(f"endpoint {name}: {words}", target=self._target)
        if 400 <= number < 500:
            return InvalidRequest(
                f"endpoint {name} answered {number}: {words}", target=self._target
            )
        lines: list[str] = []
        with suppress(CloudregError):
            lines = last_words(name)
        return OperationFailed(
            f"endpoint {name} answered {number}: {words}", target=self._target, logs=lines
        )


def _pieces(answer: Any, name: str, target: str) -> Generator[bytes, None, None]:
    """Yield an answer's bytes as they come.

    Raises:
        OperationFailed: It broke off.
        OperationTimeout: The next piece did not come in time.
    """
    from urllib3 import exceptions

    try:
        for piece in answer.raw.stream(decode_content=True):
            if piece:
                yield bytes(piece)
    except (exceptions.ReadTimeoutError, TimeoutError) as error:
        raise OperationTimeout(f"endpoint {name}: the next piece is late", target=target) from error
    except (exceptions.HTTPError, OSError) as error:
        raise OperationFailed(
            f"endpoint {name}: the answer broke off: {error}", target=target
        ) from error


class _Refused:
    """Turns what the prediction client raises into our own errors."""

    def __init__(self, predictions: Predictions, name: str, last_words: LastWords) -> None:
        self._predictions = predictions
        self._name = name
        self._last_words = last_words

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, CloudregError) or not isinstance(error, Exception):
            return
        from google.api_core.exceptions import GoogleAPICallError

        if isinstance(error, GoogleAPICallError):
            raise self._predictions.refusal(self._name, error, self._last_words) from error
        with translated(f"endpoint {self._name}", target=self._predictions._target):
            raise error


def _value(plain: Any) -> Any:
    from google.protobuf import json_format, struct_pb2

    return json_format.ParseDict(plain, struct_pb2.Value())


def _http_body(body: bytes, content_type: str) -> Any:
    from google.api import httpbody_pb2

    return httpbody_pb2.HttpBody(data=body, content_type=content_type)


def _document(body: bytes, content_type: str) -> Mapping[str, Any] | None:
    """Return the document with instances that *body* is; None where it is something else."""
    if content_type.partition(";")[0].strip() != "application/json":
        return None
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        return None
    # Anything else in it would get lost on the way.
    return document if set(document) <= {"instances", "parameters"} else None


def _words(error: Any) -> str:
    """Return what the model server said, or Vertex AI."""
    response = getattr(error, "response", None)
    text = getattr(response, "text", None)
    message = str(getattr(error, "message", error))
    if text:
        try:
            said = json.loads(text)
            found = said["error"]
            message = str(found["message"] if isinstance(found, dict) else found)
        except (ValueError, KeyError, TypeError):
            message = str(text)
    return message.strip()[:MAX_SHOWN]
