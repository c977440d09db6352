"""REST as it is on the wire: what is malformed, errors, enums, versions of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import resourcemanager_v3
from google.cloud.aiplatform_v1 import ModelServiceClient
from google.cloud.aiplatform_v1.services.model_service.transports import (
    ModelServiceGrpcTransport,
)
from google.rpc import error_details_pb2

from cloudreg_emulator.google.emulator import Google

PLACE = "/v1/projects/emulated-project/locations/us-central1"
BETA = PLACE.replace("/v1/", "/v1beta1/")
IMAGE = {"imageUri": "us-central1-docker.pkg.dev/project/images/server:1"}
MODEL: dict[str, Any] = {"displayName": "churn", "containerSpec": IMAGE}


def upload(rest: httpx.Client, model: Any, **more: Any) -> httpx.Response:
    return rest.post(f"{PLACE}/models:upload", json={"model": model, **more})


def error(answer: httpx.Response) -> tuple[int, str, str]:
    said = answer.json()["error"]
    assert said["code"] == answer.status_code
    return answer.status_code, said["status"], said["message"]


# https://github.com/googleapis/python-aiplatform/issues/4333 and
# https://github.com/mnfst/llm-gateway/issues/1858
UNKNOWN = "Invalid JSON payload received. Unknown name"
MALFORMED = [
    ({"nonsense": 1}, f"{UNKNOWN} \"nonsense\" at 'model': Cannot find field."),
    (
        {"containerSpec": {"healthProbe": {"httpGet": {"url": "/"}}}},
        f"{UNKNOWN} \"url\" at 'model.container_spec.health_probe.http_get': Cannot find field.",
    ),
    (
        {"containerSpec": {"env": [{"name": "A"}, {"key": "A"}]}},
        f"{UNKNOWN} \"key\" at 'model.container_spec.env[1]': Cannot find field.",
    ),
    (
        {"containerSpec": {"healthProbe": {"exec_": {}}}},
        f"{UNKNOWN} \"exec_\" at 'model.container_spec.health_probe': Cannot find field.",
    ),
    ({"displayName": 5}, "Invalid value at 'model.display_name' (TYPE_STRING), 5"),
    (
        {"containerSpec": {"sharedMemorySizeMb": "lots"}},
        "Invalid value at 'model.container_spec.shared_memory_size_mb' (TYPE_INT64), \"lots\"",
    ),
    (
        {"containerSpec": {"deploymentTimeout": "soon"}},
        "Invalid value at 'model.container_spec.deployment_timeout' "
        '(type.googleapis.com/google.protobuf.Duration), "soon"',
    ),
    (
        {"supportedDeploymentResourcesTypes": ["HUGE"]},
        "Invalid value at 'model.supported_deployment_resources_types' "
        "(type.googleapis.com/google.cloud.aiplatform.v1.Model.DeploymentResourcesType), "
        '["HUGE"]',
    ),
    ({"labels": ["a"]}, "Invalid value at 'model.labels'"),
    ({"containerSpec": "image"}, "Invalid value at 'model.container_spec'"),
]


@pytest.mark.parametrize(("model", "words"), MALFORMED, ids=lambda _: "")
def test_malformed(rest: httpx.Client, model: Any, words: str) -> None:
    """A name or a value that no message has is told with its path, and nothing is done."""
    answer = upload(rest, {**MODEL, **model})

    status, code, message = error(answer)
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert words in message
    detail = answer.json()["error"]["details"][0]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert words in detail["fieldViolations"][0]["description"]


def test_all_at_once(rest: httpx.Client) -> None:
    """Everything that is wrong is told in one answer."""
    answer = upload(rest, {**MODEL, "one": 1, "containerSpec": {"two": 2}}, three=3)

    names = {line.split('"')[1] for line in error(answer)[2].splitlines()}
    assert names == {"one", "two", "three"}


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b'{"model": {"displayName": "a"'])
def test_no_json(rest: httpx.Client, body: bytes) -> None:
    """A body is one JSON object."""
    status, code, message = error(rest.post(f"{PLACE}/models:upload", content=body))

    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert message.startswith("Invalid JSON payload received.")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("pagesize=1", "Cannot bind query parameter. Field 'pagesize' could not be found"),
        ("pageSize=one", "Invalid value at 'pageSize' (TYPE_INT32), \"one\""),
        ("readMask.paths.x=1", "Cannot bind query parameter."),
        ("order=displayName", "Cannot bind query parameter."),
    ],
)
def test_no_such_parameter(rest: httpx.Client, query: str, words: str) -> None:
    """A query has the request's own fields and no others."""
    status, code, message = error(rest.get(f"{PLACE}/models?{query}"))

    assert (status, code, words in message) == (400, "INVALID_ARGUMENT", True)


def test_body_where_there_is_none(rest: httpx.Client) -> None:
    """A request whose fields are all in its path takes no body."""
    answer = rest.request("DELETE", f"{PLACE}/models/nobody", json={"force": True})

    assert error(answer)[:2] == (400, "INVALID_ARGUMENT")


def test_fields_of_one_version_of_the_api(rest: httpx.Client) -> None:
    """Each version of the API knows its own fields: v1beta1 lists models in no order."""
    wanted = {"orderBy": "displayName"}

    assert rest.get(f"{PLACE}/models", params=wanted).status_code == 200
    status, code, message = error(rest.get(f"{BETA}/models", params=wanted))
    assert (status, code, "orderBy" in message) == (400, "INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nonsense"),
        ("GET", f"{PLACE}/nonsense"),
        ("PUT", f"{PLACE}/models/churn"),
        ("POST", f"{PLACE}/models/churn:nonsense"),
        ("GET", f"{PLACE}/models/churn/"),
    ],
)
def test_no_such_method(rest: httpx.Client, method: str, path: str) -> None:
    """What no API has is a page of 404, as Google's front end answers."""
    answer = rest.request(method, path)

    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404, "text/html")


def test_another_service(rest: httpx.Client) -> None:
    """A service of Vertex AI that is not emulated says so by name."""
    status, code, message = error(rest.get(f"{PLACE}/featurestores"))

    assert (status, code) == (501, "UNIMPLEMENTED")
    assert "FeaturestoreService.ListFeaturestores" in message


def test_partial_answers(rest: httpx.Client) -> None:
    """The system parameter fields would hide what is asked for: it is not passed over."""
    assert error(rest.get(f"{PLACE}/models?fields=models.name"))[:2] == (501, "UNIMPLEMENTED")


def test_spellings(rest: httpx.Client) -> None:
    """JSON may be spelt as protos are, and at signs be encoded."""
    made = rest.post(
        f"{PLACE}/models:upload",
        json={
            "model_id": "spelt",
            "model": {"display_name": "a", "container_spec": {"image_uri": "i"}},
        },
    )

    assert made.json()["done"] is True
    for name in ("spelt@1", "spelt%401"):
        assert rest.get(f"{PLACE}/models/{name}").json()["versionId"] == "1"


def test_enums(rest: httpx.Client) -> None:
    """Enums are answered by name, and by number to who asks for it as the SDK does."""
    upload(rest, MODEL, modelId="enums")

    by_name = rest.get(f"{PLACE}/models/enums").json()
    by_number = rest.get(f"{PLACE}/models/enums", params={"$alt": "json;enum-encoding=int"}).json()

    assert by_name["supportedDeploymentResourcesTypes"] == ["DEDICATED_RESOURCES"]
    assert by_number["supportedDeploymentResourcesTypes"] == [1]


def test_region_of_the_host(rest: httpx.Client) -> None:
    """A region's own name answers for that region alone (#1684)."""
    host = {"Host": "europe-west4-aiplatform.googleapis.com"}

    status, _, message = error(rest.get(f"{PLACE}/models", headers=host))

    assert (status, "`europe-west4`" in message) == (400, True)
    there = PLACE.replace("us-central1", "europe-west4")
    assert rest.get(f"{there}/models", headers=host).status_code == 200


def test_locations(rest: httpx.Client) -> None:
    """Locations are listed and read under /v1 and under /ui, where the SDK asks."""
    for base in ("/v1", "/ui"):
        listed = rest.get(f"{base}/projects/emulated-project/locations").json()["locations"]
        assert [one["locationId"] for one in listed] == ["us-central1", "europe-west4"]
        read = rest.get(f"{base}/projects/emulated-project/locations/us-central1").json()
        assert read == listed[0]
    missing = rest.get("/v1/projects/emulated-project/locations/mars1")
    assert error(missing)[:2] == (400, "INVALID_ARGUMENT")


def test_project(rest: httpx.Client) -> None:
    """Resource Manager knows the project by its id and by its number (projects.get)."""
    by_id = rest.get("/v3/projects/emulated-project").json()

    assert (by_id["name"], by_id["projectId"]) == ("projects/123456789012", "emulated-project")
    assert rest.get("/v3/projects/123456789012").json() == by_id
    assert error(rest.get("/v3/projects/other"))[:2] == (403, "PERMISSION_DENIED")
    assert error(rest.delete("/v3/projects/emulated-project"))[:2] == (501, "UNIMPLEMENTED")


@pytest.fixture(params=["rest", "grpc"])
def resource_manager(shared: Google, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Google's own client of Resource Manager."""
    if request.param == "rest":
        yield resourcemanager_v3.ProjectsClient(
            credentials=AnonymousCredentials(),
            transport="rest",
            client_options={"api_endpoint": shared.url},
        )
        return
    transport = resourcemanager_v3.ProjectsClient.get_transport_class("grpc")
    with grpc.insecure_channel(shared.grpc_address) as channel:
        yield resourcemanager_v3.ProjectsClient(transport=transport(channel=channel))


def test_resource_manager(resource_manager: Any) -> None:
    """Google's own client of Resource Manager finds the project."""
    project = resource_manager.get_project(name="projects/emulated-project")

    assert (project.name, project.state.name) == ("projects/123456789012", "ACTIVE")
    with pytest.raises(
        exceptions.PermissionDenied if _is_grpc(resource_manager) else exceptions.Forbidden
    ):
        resource_manager.get_project(name="projects/other")


def _is_grpc(client: Any) -> bool:
    return bool(client.transport.kind == "grpc")


def test_details_over_grpc(shared: Google) -> None:
    """The details of an error come over gRPC as they do over REST."""
    with grpc.insecure_channel(shared.grpc_address) as channel:
        client = ModelServiceClient(transport=ModelServiceGrpcTransport(channel=channel))
        with pytest.raises(exceptions.InvalidArgument) as caught:
            client.list_models(parent="projects/emulated-project/locations/mars1")

    (detail,) = caught.value.details
    assert isinstance(detail, error_details_pb2.BadRequest)
    assert detail.field_violations[0].field == "parent"


@pytest.mark.parametrize(
    "name", ["nonsense", "projects/emulated-project/models/churn", "", "projects/p/locations/l/x/y"]
)
def test_names_over_grpc(shared: Google, name: str) -> None:
    """A name that no route would take is refused over gRPC too."""
    with grpc.insecure_channel(shared.grpc_address) as channel:
        client = ModelServiceClient(transport=ModelServiceGrpcTransport(channel=channel))
        with pytest.raises(exceptions.InvalidArgument):
            client.get_model(name=name)


def test_no_such_method_over_grpc(shared: Google) -> None:
    """A method of no API is unimplemented, as gRPC has it."""
    with grpc.insecure_channel(shared.grpc_address) as channel:
        call = channel.unary_unary("/google.cloud.aiplatform.v1.ModelService/Nonsense")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
