"""PredictionService: requests on their way to a replica, and answers on their way back.

Sources: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements (forms
of requests and answers), https://cloud.google.com/vertex-ai/docs/predictions/choose-endpoint-type
(limits), and https://github.com/GoogleCloudPlatform/explainable_ai_sdk/issues/3 (no split).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from google.api import httpbody_pb2

from cloudreg_emulator.fleet import Answer, Broken, NoInstance, TimedOut
from cloudreg_emulator.google.vertex import protos, values
from cloudreg_emulator.google.vertex.deployments import Deployment
from cloudreg_emulator.google.vertex.endpoints import Endpoints
from cloudreg_emulator.google.vertex.refusals import Refused, invalid, precondition
from cloudreg_emulator.google.vertex.requestlog import RequestLog
from cloudreg_emulator.google.vertex.services import Call, Service, unlocked
from cloudreg_emulator.google.vertex.splits import choose

__all__ = ["Predictions"]

SHARED_BYTES = 3 << 19
DEDICATED_BYTES = 10 << 20
"""Of a request, and of an answer: 1.5 and 10 MB, which Google counts in powers of two.

Source: the 1572864 bytes of https://github.com/ageron/handson-ml2/issues/205
"""

TIMEOUT_S = 60.0
DEDICATED_TIMEOUT_S = 600.0

_JSON = "application/json"
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Predictions(Service):
    """Predictions of all endpoints.

    Attributes:
        log: Requests and answers that endpoints keep.
    """

    service = "PredictionService"

    def __init__(self, endpoints: Endpoints) -> None:
        """Ask what is deployed to *endpoints*."""
        super().__init__(endpoints.world)
        self._endpoints = endpoints
        self.log = RequestLog(endpoints.world)

    @unlocked
    def predict(self, request: Any, call: Call) -> Any:
        """Ask for the predictions of instances, in the one form that Vertex AI has for them."""
        document: dict[str, Any] = {
            "instances": [
                _plain(one, f"instances[{number}]") for number, one in enumerate(request.instances)
            ]
        }
        if request.HasField("parameters"):
            document["parameters"] = _plain(request.parameters, "parameters")
        body = json.dumps(document).encode()
        endpoint, deployment = self._route(request.endpoint, len(body), call)
        answer = self._ask(endpoint, deployment, body, _JSON)
        predictions = _predictions(_whole(answer.body, endpoint, deployment))
        deployed = deployment.deployed
        response = protos.new(
            "PredictResponse",
            deployed_model_id=deployed.id,
            model=deployed.model,
            model_version_id=deployed.model_version_id,
            model_display_name=self._display_name(deployed),
        )
        for one in predictions:
            _add(response, one)
        return response

    @unlocked
    def raw_predict(self, request: Any, call: Call) -> Any:
        """Hand a body to a replica as it is, and its answer back as it is."""
        body = request.http_body
        endpoint, deployment = self._route(request.endpoint, len(body.data), call)
        answer = self._ask(endpoint, deployment, body.data, body.content_type, call=call)
        return httpbody_pb2.HttpBody(
            content_type=answer.headers.get("content-type", ""),
            data=_whole(answer.body, endpoint, deployment),
        )

    def stream_raw_predict(self, request: Any, call: Call) -> Iterator[Any]:
        """Hand a body to a replica as it is, and its answer back piece by piece."""
        body = request.http_body
        endpoint, deployment = self._route(request.endpoint, len(body.data), call)
        began = time.monotonic()
        deployment.traffic.touch()
        headers = self._headers(body.content_type, call)
        code = 500
        try:
            code, said, pieces = deployment.group.stream(
                body.data, headers, timeout_s=_timeout_s(endpoint)
            )
            content_type = said.get("content-type", "")
            if code >= 400:
                raise _failed(code, b"".join(pieces))
            first = True
            for piece in pieces:
                yield httpbody_pb2.HttpBody(content_type=content_type if first else "", data=piece)
                first = False
        except NoInstance as error:
            code = 503
            raise _not_ready(deployment) from error
        except TimedOut as error:
            code = 504
            raise Refused("DEADLINE_EXCEEDED", "Deadline exceeded.") from error
        except Broken as error:
            code = 500
            raise Refused("INTERNAL", "The model server closed the connection.") from error
        finally:
            deployment.traffic.note(code, time.monotonic() - began)

    def _route(self, name: str, size: int, call: Call) -> tuple[Any, Deployment]:
        """Return the endpoint, and who gets the request by the split."""
        with self.world.lock:
            kept = self._endpoints.find(name)
            endpoint = type(kept)()
            endpoint.CopyFrom(kept)
        if endpoint.dedicated_endpoint_enabled and "-aiplatform." in call.host:
            # Endpoint.dedicated_endpoint_enabled: it has no place on the shared domain.
            raise precondition(  # unquoted
                "Dedicated Endpoint cannot be accessed through the shared Vertex AI domain "
                f"{call.host}. Its dedicated DNS name is {endpoint.dedicated_endpoint_dns}."
            )
        most = _most_bytes(endpoint)
        if size > most:
            # https://github.com/ageron/handson-ml2/issues/205
            raise Refused(
                "INVALID_ARGUMENT", f"Request payload size exceeds the limit: {most} bytes."
            )
        chosen = choose(dict(endpoint.traffic_split))
        if chosen is None:
            raise precondition(f"Endpoint {endpoint.name} doesn't have traffic_split.")
        deployment = self._endpoints.deployments.get(endpoint.name, chosen)
        if deployment is None:
            raise precondition(f"Endpoint {endpoint.name} doesn't have traffic_split.")
        if not deployment.predicts:
            # ModelContainerSpec.invoke_route_prefix: only one of the two kinds of route.
            raise precondition("The model has no predict route: it is to be invoked.")  # unquoted
        return endpoint, deployment

    def _ask(
        self,
        endpoint: Any,
        deployment: Deployment,
        body: bytes,
        content_type: str,
        *,
        call: Call | None = None,
    ) -> Answer:
        began = time.monotonic()
        deployment.traffic.touch()
        code = 500
        try:
            answer = deployment.group.invoke(
                body, self._headers(content_type, call), timeout_s=_timeout_s(endpoint)
            )
            code = answer.status
        except NoInstance as error:
            code = 503
            raise _not_ready(deployment) from error
        except TimedOut as error:
            code = 504
            raise Refused("DEADLINE_EXCEEDED", "Deadline exceeded.") from error
        except Broken as error:
            raise Refused("INTERNAL", "The model server closed the connection.") from error
        finally:
            deployment.traffic.note(code, time.monotonic() - began)
        self.log.note(endpoint, deployment.deployed, body, answer.body)
        if answer.status >= 400:
            raise _failed(answer.status, answer.body)
        return answer

    def _headers(self, content_type: str, call: Call | None) -> dict[str, str]:
        headers = {"Content-Type": content_type or _JSON}
        accept = call.headers.get("accept") if call is not None else None
        if accept and accept != "*/*":
            headers["Accept"] = accept
        return headers

    def _display_name(self, deployed: Any) -> str:
        with self.world.lock:
            kept = self._endpoints.registry.models.get(deployed.model)
            return str(kept.display_name) if kept is not None else ""


def _predictions(body: bytes) -> list[Any]:
    try:
        found = json.loads(body, parse_constant=_no_number)["predictions"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, list):
        raise Refused(
            "INTERNAL",
            "The response of the model server is not in the required form: "  # unquoted
            f"{body[:500].decode(errors='replace')!r}",
        )
    return found


def _plain(value: Any, field: str) -> Any:
    """Return a value as JSON that a container gets: every number is a double on the way."""
    try:
        return values.plain(value)
    except ValueError as error:
        # struct.proto: NaN and Infinity are no numbers of a Value.
        raise invalid(field, f"Invalid value: {error}") from error


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _most_bytes(endpoint: Any) -> int:
    return DEDICATED_BYTES if endpoint.dedicated_endpoint_enabled else SHARED_BYTES


def _whole(body: bytes, endpoint: Any, deployment: Deployment) -> bytes:
    """Return an answer of the model server that is not too large."""
    most = _most_bytes(endpoint)
    if len(body) > most:
        # https://github.com/googleapis/python-aiplatform/issues/190
        endpoint_id = endpoint.name.rpartition("/")[2]
        raise Refused(
            "INVALID_ARGUMENT",
            f"Failed to handle request. endpoint_id: {endpoint_id}, deployed_model_id: "
            f"{deployment.deployed.id} with error: `Response size too large. Received at least "
            f"{len(body)} bytes; max is {most}.`",
        )
    return body


def _timeout_s(endpoint: Any) -> float:
    if not endpoint.dedicated_endpoint_enabled:
        return TIMEOUT_S
    config = endpoint.client_connection_config
    if config.HasField("inference_timeout"):
        return float(config.inference_timeout.ToTimedelta().total_seconds())
    return DEDICATED_TIMEOUT_S


def _not_ready(deployment: Deployment) -> Refused:
    if not deployment.group.desired:
        # https://cloud.google.com/vertex-ai/docs/predictions/autoscaling (scale to zero)
        return Refused(
            "RESOURCE_EXHAUSTED",
            "Model is not yet ready for inference. Please wait and then try your request again.",
        )
    return Refused("UNAVAILABLE", "The service is currently unavailable.")


def _failed(status: int, body: bytes) -> Refused:
    """Return what a client is told of an error of the model server: its own words."""
    code = _STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return Refused(code, body[:4000].decode(errors="replace"), http=status)


def _add(response: Any, said: Any) -> None:
    """Add a prediction as it goes through protobuf: every number is a double on the way."""
    try:
        values.fill(response.predictions.add(), said)
    except ValueError as error:
        raise Refused("INTERNAL", f"Invalid prediction: {error}") from error
