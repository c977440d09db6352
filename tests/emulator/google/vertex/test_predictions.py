"""Predictions: in Vertex AI's one form, as bytes, and in pieces; and what goes wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.api import httpbody_pb2
from google.api_core import exceptions
from google.protobuf import struct_pb2

SHARED, DEDICATED = 3 << 19, 10 << 20


@pytest.fixture
def serving(hosting: Any) -> Any:
    """A cloud with one endpoint, ``serving.name``, to which a model is deployed."""
    hosting.name = hosting.endpoint("serving")
    hosting.deployed_id = hosting.deploy(hosting.name, hosting.version("first"))
    return hosting


def test_predict(serving: Any) -> None:
    """An answer carries the predictions, and which version of which model made them."""
    said = serving.predict(serving.name, {"a": [1, "x", None, True]})

    assert [dict(one) for one in said.predictions] == [
        {"read": '{"a": [1.0, "x", null, true]}', "version": "first"}
    ]
    (deployed,) = serving.get(serving.name).deployed_models
    assert (said.deployed_model_id, said.model, said.model_version_id) == (
        deployed.id,
        deployed.model,
        "1",
    )
    assert said.model_display_name == "churn"


def test_numbers_are_doubles(serving: Any) -> None:
    """Every number goes through a double: what needs more than 53 bits is another number.

    Source: google/protobuf/struct.proto
    """
    said = serving.predict(serving.name, 3, 2**53 + 1)

    assert [one["read"] for one in said.predictions] == ["3.0", "9007199254740992.0"]


def test_numbers_of_answers_are_doubles(serving: Any) -> None:
    """Whole numbers in an answer come back as doubles."""
    said = serving.predict(serving.name, {"answer": '{"predictions": [1, [2]]}'})

    assert list(said.predictions) == [1.0, [2.0]]
    assert isinstance(said.predictions[0], float)


def test_parameters(serving: Any) -> None:
    """Parameters go along, and without any there is no such word."""
    parameters = struct_pb2.Value(struct_value={"fields": {"k": {"number_value": 2}}})

    serving.predict(serving.name, 1, parameters=parameters)
    asked = json.dumps({"instances": [1]}).encode()

    raw = json.loads(serving.raw(serving.name, asked).data)
    assert raw["parameters"] is None
    plain = serving.http.post(
        f"/v1/{serving.name}:predict", json={"instances": [1], "parameters": {"k": 2}}
    )
    assert plain.json()["predictions"] == [{"read": "1.0", "version": "first"}]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number(serving: Any, number: float) -> None:
    """What is no number cannot be asked over gRPC, and is no JSON.

    Source: google/protobuf/struct.proto
    """
    if serving.transport == "grpc":
        instance = struct_pb2.Value(number_value=number)
        serving.refuses(
            lambda: serving.predictions.predict(endpoint=serving.name, instances=[instance]),
            "INVALID_ARGUMENT",
            "instances[0]",
        )
        return
    body = json.dumps({"instances": [number]})
    said = serving.http.post(f"/v1/{serving.name}:predict", content=body)
    assert (said.status_code, said.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "answer",
    [
        '{"predictions": [NaN]}',
        '{"predictions": [Infinity]}',
        '{"predictions": [1e999]}',
        '{"predictions": {"a": 1}}',
        '{"predictions": null}',
        '{"outputs": [1]}',
        "[1]",
        "not JSON",
        "",
    ],
)
def test_no_predictions(serving: Any, answer: str) -> None:
    """An answer of the model server in another form is an error, and not passed on.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    """
    serving.refuses(lambda: serving.predict(serving.name, {"answer": answer}), "INTERNAL")


def test_no_instances(serving: Any) -> None:
    """A request of plain HTTP that is no PredictRequest is refused before any model sees it."""
    for body in (b"", b"{", b"[]", b'{"instances": 1}', b'{"instance": [1]}'):
        said = serving.http.post(f"/v1/{serving.name}:predict", content=body)
        if body == b"":
            continue
        assert (said.status_code, said.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_raw(serving: Any) -> None:
    """A raw request's bytes and type reach the model as they are, and so does its answer back."""
    data = bytes(range(256))

    said = serving.raw(serving.name, data, "application/x-mine")

    assert (said.data, said.content_type) == (data, "application/x-mine")
    headers = serving.ask(serving.name)["headers"]
    assert headers["content-type"] == "application/json"


def test_raw_numbers_stay(serving: Any) -> None:
    """A raw request skips the round trip of `predict`: whole numbers stay whole."""
    said = serving.raw(serving.name, b'{"instances": [3, 9007199254740993]}')

    read = [one["read"] for one in json.loads(said.data)["predictions"]]
    assert read == ["3", "9007199254740993"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (404, "NOT_FOUND"),
        (418, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
    ],
)
def test_errors_of_the_model(serving: Any, status: int, code: str) -> None:
    """An error of the model server is the client's, with its words."""
    found, message = serving.refused(lambda: serving.ask(serving.name, status=status))

    assert (found, '"argv"' in message) == (code, True)


def test_no_split(serving: Any) -> None:
    """An endpoint without a split predicts nothing, whatever is deployed to it.

    Source: https://github.com/GoogleCloudPlatform/explainable_ai_sdk/issues/3
    """
    mask = {"paths": ["traffic_split"]}
    serving.endpoints.update_endpoint(endpoint={"name": serving.name}, update_mask=mask)

    for act in (
        lambda: serving.predict(serving.name, 1),
        lambda: serving.raw(serving.name, b"{}"),
    ):
        serving.refuses(act, "FAILED_PRECONDITION", "doesn't have traffic_split.")


@pytest.mark.parametrize(("dedicated", "most"), [(False, SHARED), (True, DEDICATED)])
def test_too_large(hosting: Any, dedicated: bool, most: int) -> None:
    """A shared endpoint takes 1.5 MB in a request and in an answer, a dedicated one 10 MB.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/choose-endpoint-type, in the words
    of https://github.com/ageron/handson-ml2/issues/205 and
    https://github.com/googleapis/python-aiplatform/issues/190
    """
    name = hosting.endpoint(dedicated_endpoint_enabled=dedicated)
    hosting.deploy(name, hosting.version())
    kind = "application/octet-stream"

    # What the container echoes is an answer of the same size.
    assert hosting.raw(name, b"\xff" * most, kind).data == b"\xff" * most
    hosting.refuses(
        lambda: hosting.raw(name, b"\xff" * (most + 1), kind),
        "INVALID_ARGUMENT",
        f"Request payload size exceeds the limit: {most} bytes.",
    )
    hosting.refuses(
        lambda: hosting.predict(name, "x" * most), "INVALID_ARGUMENT", "exceeds the limit"
    )
    hosting.refuses(
        lambda: hosting.ask(name, size=most),
        "INVALID_ARGUMENT",
        "Response size too large.",
        f"max is {most}",
    )


def test_timeout(hosting: Any) -> None:
    """A dedicated endpoint's own timeout ends a request that takes longer.

    Source: ClientConnectionConfig.inference_timeout
    """
    name = hosting.endpoint(
        dedicated_endpoint_enabled=True,
        client_connection_config={"inference_timeout": {"seconds": 1}},
    )
    hosting.deploy(name, hosting.version())

    hosting.refuses(lambda: hosting.ask(name, sleep_s=20), "DEADLINE_EXCEEDED")
    assert hosting.ask(name)["pid"]


def test_shared_domain(hosting: Any) -> None:
    """A dedicated endpoint is not to be had on the domain that the others share.

    Source: Endpoint.dedicated_endpoint_enabled
    """
    name = hosting.endpoint("own", dedicated_endpoint_enabled=True)
    hosting.deploy(name, hosting.version())
    shared = {"Host": "us-central1-aiplatform.googleapis.com"}

    said = hosting.http.post(f"/v1/{name}:predict", json={"instances": [1]}, headers=shared)

    assert (said.status_code, said.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")
    assert "own.us-central1-" in said.json()["error"]["message"]
    own = {"Host": hosting.get(name).dedicated_endpoint_dns}
    said = hosting.http.post(f"/v1/{name}:predict", json={"instances": [1]}, headers=own)
    assert said.status_code == 200


def streamed(serving: Any, **asked: Any) -> list[bytes]:
    """Return the pieces of a stream as Google's gRPC client, or plain HTTP, has them."""
    body = json.dumps(asked).encode()
    if serving.transport == "grpc":
        http_body = httpbody_pb2.HttpBody(data=body, content_type="application/json")
        request = {"endpoint": serving.name, "http_body": http_body}
        return [one.data for one in serving.predictions.stream_raw_predict(request=request)]
    with serving.http.stream(
        "POST", f"/v1/{serving.name}:streamRawPredict", content=body
    ) as answer:
        if answer.status_code >= 400:
            answer.read()
            raise exceptions.from_http_response(answer)
        return list(answer.iter_raw())


def test_stream(serving: Any) -> None:
    """A streamed answer comes in pieces, whole and in order."""
    pieces = streamed(serving, stream=5)

    assert b"".join(pieces) == b"".join(b"piece %d;" % n for n in range(5))
    assert len(pieces) > 1


def test_stream_type(serving: Any) -> None:
    """The type of a streamed answer is the model's."""
    body = json.dumps({"stream": 1}).encode()
    with serving.http.stream(
        "POST", f"/v1/{serving.name}:streamRawPredict", content=body
    ) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.read() == b"piece 0;"


def test_stream_refused(serving: Any) -> None:
    """An error of the model server is no stream, but the client's error."""
    serving.refuses(
        lambda: streamed(serving, stream=2, status=429), "RESOURCE_EXHAUSTED", "piece 0;piece 1;"
    )


def test_stream_breaks_off(serving: Any) -> None:
    """A stream that breaks off is not taken for a whole one, and counts as an error."""
    with pytest.raises(Exception, match=r"peer closed|connection|Connection"):
        streamed(serving, stream=2, cut=True)

    (deployment,) = [d for _, d in serving.emulator.deployments.items()]
    assert [one.code for one in deployment.traffic.between(0, math.inf)] == [500]


def test_nobody_is_ready(serving: Any, until: Any) -> None:
    """While no replica is ready the service is unavailable."""
    serving.refuses(lambda: serving.ask(serving.name, die=True), "INTERNAL")

    def unavailable() -> bool:
        try:
            serving.ask(serving.name)
        except exceptions.ServiceUnavailable:
            return True
        except exceptions.GoogleAPICallError:
            return False
        return False

    serving.faults.arm(slow())
    with pytest.raises(exceptions.GoogleAPICallError):
        serving.ask(serving.name, die=True)
    until(unavailable)
    until(lambda: serving.ready(serving.name) == 1)


def slow() -> Any:
    from cloudreg_emulator.faults import Fault, Kind

    return Fault(kind=Kind.SLOW_START, service="fleet", seconds=500)


def test_requests_are_logged(hosting: Any) -> None:
    """An endpoint keeps the requests that it samples, and their answers.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/online-prediction-logging
    """
    config = {"enabled": True, "sampling_rate": 1.0}
    kept = hosting.endpoint(predict_request_response_logging_config=config)
    other = hosting.endpoint(predict_request_response_logging_config={**config, "enabled": False})
    version = hosting.version()
    deployed = hosting.deploy(kept, version)
    hosting.deploy(other, version)
    rows = hosting.emulator.predictions.log.rows
    rows.clear()

    hosting.predict(kept, 1)
    hosting.predict(other, 2)

    (row,) = rows
    assert row["endpoint"] == kept.rpartition("/")[2]
    assert row["deployed_model_id"] == deployed
    assert json.loads(row["request_payload"][0]) == {"instances": [1.0]}
    assert json.loads(row["response_payload"][0])["predictions"]
