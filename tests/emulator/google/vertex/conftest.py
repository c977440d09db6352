"""An emulated Google Cloud, and Google's own clients of it over REST and gRPC."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import google.auth.credentials
import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from google.api_core import exceptions, retry
from google.api_core.future.polling import _OperationNotComplete
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.cloud.aiplatform_v1.services.model_service.transports import (
    ModelServiceGrpcTransport,
)
from google.cloud.aiplatform_v1beta1.services.model_service.transports import (
    ModelServiceGrpcTransport as BetaModelServiceGrpcTransport,
)
from google.protobuf import json_format, struct_pb2

from cloudreg_emulator.google.emulator import Google

IMAGE = "us-central1-docker.pkg.dev/project/images/server:1"
CONTAINER = [sys.executable, "-S", "-E", str(Path(__file__).with_name("container.py"))]
POLLING = retry.Retry(
    initial=0.02, maximum=0.1, timeout=60, predicate=retry.if_exception_type(_OperationNotComplete)
)
_ids = itertools.count(1)


class Cloud:
    """An emulator with a bucket, clients of it, and shortcuts."""

    def __init__(self, emulator: Google, transport: str) -> None:
        self.emulator = emulator
        self.parent = emulator.parent
        self.canonical = self.parent.replace(emulator.place.project, str(emulator.place.number), 1)
        self.models: Any = model_client(emulator, transport)
        self.http = httpx.Client(base_url=emulator.url, timeout=30)

    @staticmethod
    def refused(act: Callable[[], Any]) -> tuple[str, str]:
        """Return the true code and the message of the refusal that *act* meets."""
        with pytest.raises(exceptions.GoogleAPICallError) as caught:
            act()
        error = caught.value
        if error.response is not None and hasattr(error.response, "json"):
            # The class blurs the code over REST, and the message has the URL before it.
            said = error.response.json()["error"]
            return said["status"], said["message"]
        assert error.grpc_status_code is not None, error
        return error.grpc_status_code.name, str(error.message)

    def refuses(self, act: Callable[[], Any], code: str, *said: str) -> None:
        """Check that *act* is refused with a code, in words that say why."""
        found, message = self.refused(act)
        assert found == code, message
        assert [word for word in said if word not in message] == [], message

    @property
    def faults(self) -> Any:
        return self.emulator.faults

    def client(self, transport: str) -> Any:
        """Return another client of ModelService."""
        return model_client(self.emulator, transport)

    def bucket(self, name: str, *, location: str = "us-central1", **objects: bytes) -> str:
        """Make a bucket with *objects*."""
        answer = self.http.post(
            "/storage/v1/b",
            params={"project": self.emulator.place.project},
            json={"name": name, "location": location},
        )
        assert answer.status_code == 200, answer.text
        for key, data in objects.items():
            made = self.http.post(
                f"/upload/storage/v1/b/{name}/o",
                params={"uploadType": "media", "name": key.replace("__", "/")},
                content=data,
            )
            assert made.status_code == 200, made.text
        return name

    def model(self, **fields: Any) -> Any:
        """Return a model that can be uploaded."""
        usual = {"display_name": "churn", "container_spec": {"image_uri": IMAGE}}
        return {**usual, **fields}

    def begin(self, model_id: str | None = None, **fields: Any) -> Any:
        """Begin to upload a model or, with ``parent_model``, a version; return the operation."""
        more = {name: fields.pop(name) for name in ("parent_model",) if name in fields}
        if model_id is not None:
            more["model_id"] = model_id
        request = {"parent": self.parent, "model": self.model(**fields), **more}
        return self.models.upload_model(request)

    def upload(self, model_id: str | None = None, **fields: Any) -> str:
        """Upload a model or a version, and return the model's name."""
        if model_id is None and "parent_model" not in fields:
            model_id = f"model-{next(_ids)}"
        made: str = self.begin(model_id, **fields).result(timeout=20, polling=POLLING).model
        return made

    def aliases(self, name: str) -> dict[str, set[str]]:
        """Return the aliases of each version."""
        return {
            version.version_id: set(version.version_aliases)
            for version in self.models.list_model_versions(name=name)
        }


class Hosting(Cloud):
    """An emulator whose models are deployed as processes, and clients of its endpoints.

    Attributes:
        endpoints: Google's client of EndpointService.
        predictions: Google's client of PredictionService.
    """

    def __init__(self, emulator: Google, transport: str) -> None:
        super().__init__(emulator, transport)
        self.transport = transport
        self.endpoints: Any = service_client(emulator, transport, "EndpointService")
        self.predictions: Any = service_client(emulator, transport, "PredictionService")

    def beta(self) -> Hosting:
        """Return the same through v1beta1."""
        return Hosting(self.emulator, f"{self.transport}-v1beta1")

    def done(self, operation: Any) -> Any:
        """Return an operation's answer, once there is one."""
        return operation.result(timeout=60, polling=POLLING)

    def endpoint(self, endpoint_id: str = "", **fields: Any) -> str:
        """Make an endpoint, and return its name."""
        request = {
            "parent": self.parent,
            "endpoint_id": endpoint_id,
            "endpoint": {"display_name": "churn", **fields},
        }
        made: str = self.done(self.endpoints.create_endpoint(request)).name
        return made

    def version(self, mark: str = "", *, parent: str = "", **container: Any) -> str:
        """Upload a version whose predictions carry *mark*; return its name, with the number."""
        env = [{"name": "MARK", "value": mark}, *container.pop("env", ())]
        more = {"parent_model": parent} if parent else {"model_id": f"hosted-{next(_ids)}"}
        fields = {name: container.pop(name) for name in ("artifact_uri",) if name in container}
        spec = {"image_uri": IMAGE, "env": env, **container}
        made = self.done(self.begin(container_spec=spec, **fields, **more))
        return f"{made.model}@{made.model_version_id}"

    @staticmethod
    def deployed(model: str, **fields: Any) -> dict[str, Any]:
        """Return a deployed model that can be: one CPU machine."""
        machine = {"machine_type": "n1-standard-2"}
        usual = {"machine_spec": machine, "min_replica_count": 1, "max_replica_count": 1}
        resources = {**usual, **fields.pop("dedicated_resources", {})}
        return {"model": model, "dedicated_resources": resources, **fields}

    def begin_deploy(
        self, endpoint: str, model: str, *, split: dict[str, int] | None = None, **fields: Any
    ) -> Any:
        """Begin to deploy a model, by default with all of the traffic."""
        return self.endpoints.deploy_model(
            endpoint=endpoint,
            deployed_model=self.deployed(model, **fields),
            traffic_split={"0": 100} if split is None else split,
        )

    def deploy(self, endpoint: str, model: str, **more: Any) -> str:
        """Deploy a model, and return the deployed model's id."""
        made: str = self.done(self.begin_deploy(endpoint, model, **more)).deployed_model.id
        return made

    def get(self, endpoint: str) -> Any:
        """Return an endpoint as the service has it."""
        return self.endpoints.get_endpoint(name=endpoint)

    def split(self, endpoint: str) -> dict[str, int]:
        """Return who gets the traffic."""
        return dict(self.get(endpoint).traffic_split)

    def raw(self, endpoint: str, body: bytes, content_type: str = "application/json") -> Any:
        """Hand a body to a model, and return its answer as an ``HttpBody``."""
        if self.transport.startswith("grpc"):
            http_body = {"data": body, "content_type": content_type}
            request = {"endpoint": endpoint, "http_body": http_body}
            return self.predictions.raw_predict(request=request)
        # Google's REST client puts the body into JSON, and reads the answer as JSON: nobody can
        # use it for this. Its documentation has curl.
        headers = {"Content-Type": content_type}
        said = self.http.post(f"/v1/{endpoint}:rawPredict", content=body, headers=headers)
        if said.status_code >= 400:
            raise exceptions.from_http_response(said)
        return httpbody_pb2.HttpBody(content_type=said.headers["content-type"], data=said.content)

    def ask(self, endpoint: str, **asked: Any) -> Any:
        """Ask the container something, and return what its JSON says."""
        return json.loads(self.raw(endpoint, json.dumps(asked).encode()).data)

    def predict(self, endpoint: str, *instances: Any, **more: Any) -> Any:
        """Return the service's answer to instances."""
        return self.predictions.predict(
            endpoint=endpoint, instances=[value(one) for one in instances], **more
        )

    def ready(self, endpoint: str) -> int:
        """Return how many replicas of an endpoint are ready."""
        return sum(one.status.available_replica_count for one in self.get(endpoint).deployed_models)

    def clear(self) -> None:
        """Undeploy and delete everything."""
        for endpoint in self.endpoints.list_endpoints(parent=self.parent):
            begun = self.http.get(
                f"/v1/{endpoint.name}/operations", params={"filter": "done=false"}
            )
            for one in begun.json().get("operations", ()):
                self.endpoints.cancel_operation({"name": one["name"]})
            left = [one.id for one in endpoint.deployed_models]
            if endpoint.traffic_split:
                mask = {"paths": ["traffic_split"]}
                emptied = {"name": endpoint.name, "display_name": endpoint.display_name}
                self.endpoints.update_endpoint(endpoint=emptied, update_mask=mask)
            for one in left:
                self.done(
                    self.endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=one)
                )
            self.done(self.endpoints.delete_endpoint(name=endpoint.name))


class Standing:
    """An endpoint with one deployed model, to which nothing that is refused does anything."""

    def __init__(self, hosting: Hosting) -> None:
        self.hosting = hosting
        self.version = hosting.version("first")
        self.model = self.version.partition("@")[0]
        self.name = hosting.endpoint()
        self.deployed = hosting.deploy(self.name, self.version)
        self.before = hosting.get(self.name)

    def unchanged(self) -> bool:
        return bool(self.hosting.get(self.name) == self.before)

    def deploy(self, *, split: dict[str, int] | None = None, **fields: Any) -> Any:
        return self.hosting.begin_deploy(self.name, self.version, split=split, **fields)

    def mutate(self, *paths: str, **resources: Any) -> Any:
        return self.hosting.endpoints.mutate_deployed_model(
            endpoint=self.name,
            deployed_model={"id": self.deployed, "dedicated_resources": resources},
            update_mask={"paths": list(paths)},
        )


def value(plain: Any) -> struct_pb2.Value:
    """Return JSON as a message."""
    made = struct_pb2.Value()
    json_format.ParseDict(plain, made)
    return made


def service_client(emulator: Google, transport: str, service: str) -> Any:
    """Return Google's client of a service: ``rest``, ``grpc``, or either of v1beta1."""
    beta = transport.endswith("-v1beta1")
    client = getattr(aiplatform_v1beta1 if beta else aiplatform_v1, f"{service}Client")
    if transport.startswith("rest"):
        return client(
            credentials=google.auth.credentials.AnonymousCredentials(),
            transport="rest",
            client_options={"api_endpoint": emulator.url},
        )
    wire = client.get_transport_class("grpc")
    # As Google's own channel: answers of any size.
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    channel = grpc.insecure_channel(emulator.grpc_address, options=options)
    return client(transport=wire(channel=channel, host=emulator.grpc_address))


def model_client(emulator: Google, transport: str) -> Any:
    """Return Google's client of ModelService: ``rest``, ``grpc``, or either of v1beta1."""
    beta = transport.endswith("-v1beta1")
    api = aiplatform_v1beta1 if beta else aiplatform_v1
    if transport.startswith("rest"):
        return api.ModelServiceClient(
            credentials=google.auth.credentials.AnonymousCredentials(),
            transport="rest",
            client_options={"api_endpoint": emulator.url},
        )
    wire = BetaModelServiceGrpcTransport if beta else ModelServiceGrpcTransport
    channel = grpc.insecure_channel(emulator.grpc_address)
    return api.ModelServiceClient(transport=wire(channel=channel, host=emulator.grpc_address))


@pytest.fixture
def make_cloud() -> Iterator[Callable[..., Cloud]]:
    """Opens an emulator; keywords are those of `Google`, and ``transport``."""
    with ExitStack() as stack:

        def make(*, transport: str = "rest", **options: Any) -> Cloud:
            usual: dict[str, Any] = {"polls": 0, "scale": 0.0}
            emulator = stack.enter_context(Google(**{**usual, **options}))
            cloud = Cloud(emulator, transport)
            stack.callback(cloud.http.close)
            return cloud

        yield make


@pytest.fixture(scope="module")
def shared() -> Iterator[Google]:
    """One emulator for a module, whose tests name what they make after nobody else."""
    with Google(polls=0, scale=0.0, regions=("us-central1", "europe-west4")) as emulator:
        yield emulator


@pytest.fixture(params=["rest", "grpc"])
def cloud(shared: Google, request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """The module's emulator, once over REST and once over gRPC."""
    cloud = Cloud(shared, request.param)
    yield cloud
    cloud.http.close()
    assert [armed for armed in shared.faults.armed if not armed.spent] == []
    shared.faults.disarm()


@pytest.fixture
def rest(shared: Google) -> Iterator[httpx.Client]:
    """Plain HTTP to the module's emulator."""
    with httpx.Client(base_url=shared.url, timeout=30) as client:
        yield client


@pytest.fixture
def make_hosting() -> Iterator[Callable[..., Hosting]]:
    """Opens an emulator that must leave no process; keywords are those of `Google`."""
    emulators: list[Google] = []
    with ExitStack() as stack:

        def make(*, transport: str = "rest", **options: Any) -> Hosting:
            usual: dict[str, Any] = {"polls": 0, "scale": 0.002, "images": {"*": CONTAINER}}
            emulator = stack.enter_context(Google(**{**usual, **options}))
            emulators.append(emulator)
            hosting = Hosting(emulator, transport)
            stack.callback(hosting.http.close)
            return hosting

        yield make
    assert [emulator.deployments.pids for emulator in emulators] == [[] for _ in emulators]


@pytest.fixture(scope="module")
def hosted() -> Iterator[Google]:
    """One emulator for a module, whose models are processes; 500 of its seconds pass in one."""
    regions = ("us-central1", "europe-west4")
    with Google(polls=0, scale=0.002, images={"*": CONTAINER}, regions=regions) as emulator:
        yield emulator
    assert emulator.deployments.pids == []


@pytest.fixture(params=["rest", "grpc"])
def hosting(hosted: Google, request: pytest.FixtureRequest) -> Iterator[Hosting]:
    """The module's emulator, once over REST and once over gRPC; its endpoints go afterwards."""
    hosting = Hosting(hosted, request.param)
    yield hosting
    hosted.faults.disarm()
    hosting.clear()
    hosting.http.close()


@pytest.fixture
def standing(hosting: Hosting) -> Iterator[Standing]:
    """An endpoint with a deployed model, the same before and after."""
    made = Standing(hosting)
    yield made
    assert made.unchanged()


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for a condition."""

    def wait(condition: Callable[[], object], *, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not become true"
            time.sleep(0.03)

    return wait
