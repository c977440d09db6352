"""A Vertex AI target against an emulated Google Cloud, whose containers are a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cloudreg.provider import Operation, ProviderContext
from cloudreg.testing.base import fresh, make_version
from cloudreg.testing.serving import Server
from cloudreg.types import EndpointSpec, ModelVersion
from cloudreg_emulator.google.emulator import Google
from cloudreg_vertex import PLUGIN
from cloudreg_vertex import provider as provider_module
from cloudreg_vertex.policy import PERMISSIONS
from cloudreg_vertex.provider import VertexProvider
from cloudreg_vertex.settings import VertexSettings

STANDIN = Path(__file__).with_name("standin.py")
BUCKET = "our-models"
REGION = "us-central1"
SECTION: Mapping[str, Any] = {
    "location": REGION,
    "bucket": BUCKET,
    "prefix": "team/churn",
    "image": f"{REGION}-docker.pkg.dev/emulated-project/serve/stand-in:1",
}


class Cloud:
    """One emulated Google Cloud, and targets in it."""

    def __init__(self, google: Google) -> None:
        self.google = google
        self.faults = google.faults
        self.calls: list[tuple[str, str]] = []
        self.opened: list[VertexProvider] = []

    def open(self, **section: Any) -> VertexProvider:
        """Open a target; every call it makes to Vertex AI is noted."""
        settings = PLUGIN.settings()(
            **{
                **SECTION,
                "project": self.google.place.project,
                "endpoint_url": self.google.url,
                "storage_url": self.google.url,
                "grpc_address": f"http://{self.google.grpc_address}",
                **section,
            }
        )
        provider = PLUGIN.open(settings, ProviderContext(target="gcp", root=Path()))
        assert isinstance(provider, VertexProvider)
        self.opened.append(provider)
        return provider


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """Yield a Google Cloud that takes a fiftieth of the time."""
    images = {
        "*/cloudreg-real:*": [sys.executable, "-P", "-m", "cloudreg.serving"],
        "*/idle:*": [sys.executable, "-I", "-S", str(Path(__file__).parents[1] / "idle.py")],
        "*": [sys.executable, "-I", "-S", str(STANDIN)],
    }
    with Google(images=images, scale=0.01, polls=1) as google:
        google.storage.create_bucket(
            BUCKET, {"location": REGION.upper()}, project=google.place.project
        )
        made = Cloud(google)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(provider_module, "VertexProvider", observed(made))
            yield made
        for provider in made.opened:
            provider.close()


def observed(cloud: Cloud) -> type[VertexProvider]:
    """Return a provider whose calls are noted, whoever opens it: workspaces open theirs."""

    class Observed(VertexProvider):
        def __init__(self, settings: VertexSettings, context: ProviderContext) -> None:
            super().__init__(settings, context)
            self.services.listen(lambda service, name: cloud.calls.append((service, name)))

    return Observed


@pytest.fixture(autouse=True)
def permitted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that makes a call which the deployer's role does not allow."""
    if "cloud" not in request.fixturenames:
        yield
        return
    cloud: Cloud = request.getfixturevalue("cloud")
    begin = len(cloud.calls)
    yield
    assert set(cloud.calls[begin:]) - set(PERMISSIONS) == set(), "cloudreg_vertex/policy.py"


class Desk:
    """A target with shorthands."""

    def __init__(self, cloud: Cloud, provider: VertexProvider) -> None:
        self.cloud = cloud
        self.provider = provider
        self.endpoints = provider.endpoints
        self.registry = provider.registry
        self.server = Server(provider, self.version, timeout_s=60.0, interval_s=0.03)

    def version(self, number: int, *, broken: bool = False, model: str = "kit") -> ModelVersion:
        text = "crash 4" if broken else f"weights of {number}"
        return make_version(
            self.provider.store, number, model=model, **{"weights.txt": text.encode()}
        )

    def ask(self, name: str, body: bytes = b"{}") -> Any:
        answer = self.endpoints.invoke(name, body, content_type="application/json", timeout_s=30.0)
        return json.loads(answer)

    def wait(self, operation: Operation) -> Any:
        return self.server.wait(operation)

    def start(self, spec: EndpointSpec) -> EndpointSpec:
        return self.server.start(spec)


@pytest.fixture(scope="module")
def usual(cloud: Cloud) -> VertexProvider:
    """Return a target with the usual section; to open one takes longer than most tests."""
    return cloud.open()


@pytest.fixture
def opened(cloud: Cloud, usual: VertexProvider) -> Iterator[Callable[..., Desk]]:
    """Yield what opens a target; its endpoints are gone afterwards, and no fault is left."""
    desks: list[Desk] = []

    def make(**section: Any) -> Desk:
        desks.append(Desk(cloud, cloud.open(**section) if section else usual))
        return desks[-1]

    yield make
    cloud.faults.disarm()
    for desk in desks:
        desk.server.clean()


@pytest.fixture
def desk(opened: Callable[..., Desk]) -> Desk:
    """Return a target whose endpoints are of this test alone."""
    return opened()


@pytest.fixture
def model() -> str:
    """Return the name of a model that no other test uses."""
    return fresh("kit")
