"""An emulated Google Cloud, and Google's own clients of it over REST and gRPC."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import google.auth.credentials
import grpc
import httpx
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.cloud.aiplatform_v1.services.model_service.transports import (
    ModelServiceGrpcTransport,
)
from google.cloud.aiplatform_v1beta1.services.model_service.transports import (
    ModelServiceGrpcTransport as BetaModelServiceGrpcTransport,
)

from cloudreg_emulator.google.emulator import Google

IMAGE = "us-central1-docker.pkg.dev/project/images/server:1"
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
        made: str = self.begin(model_id, **fields).result(timeout=20).model
        return made

    def aliases(self, name: str) -> dict[str, set[str]]:
        """Return the aliases of each version."""
        return {
            version.version_id: set(version.version_aliases)
            for version in self.models.list_model_versions(name=name)
        }


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
