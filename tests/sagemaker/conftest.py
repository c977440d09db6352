"""A SageMaker target against an emulated AWS, whose containers are a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from cloudreg.provider import Operation, ProviderContext
from cloudreg.testing.base import fresh, make_version
from cloudreg.testing.serving import Server
from cloudreg.types import EndpointSpec, ModelVersion
from cloudreg_emulator.aws import AwsServer
from cloudreg_emulator.aws.environment import applied
from cloudreg_emulator.aws.s3.operations import operation
from cloudreg_sagemaker import PLUGIN, actions
from cloudreg_sagemaker.provider import SageMakerProvider

STANDIN = Path(__file__).with_name("standin.py")
BUCKET = "our-models"
ACCOUNT = "123456789012"
SECTION: Mapping[str, Any] = {
    "region": "us-east-1",
    "bucket": BUCKET,
    "prefix": "team/churn",
    "account": ACCOUNT,
    "role": f"arn:aws:iam::{ACCOUNT}:role/model-servers",
    "image": f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/serve:1-cu124",
    "health_check_timeout_s": 900,
}


class Cloud:
    """One emulated AWS, and targets in it."""

    section = SECTION

    def __init__(self, server: AwsServer) -> None:
        self.server = server
        self.faults = server.faults
        self.calls: list[tuple[str, str]] = []
        self.objects: list[tuple[str, str]] = []
        """Operation of S3 and what it touches, of every request that obstore sent."""
        self.opened: list[SageMakerProvider] = []
        self._clients: dict[str, Any] = {}
        server.watch(self._watch)

    def _watch(self, environ: Mapping[str, Any]) -> None:
        """Note what obstore sends: it has no events that could be listened to."""
        if not environ.get("HTTP_USER_AGENT", "").startswith("object_store"):
            return
        bucket, _, key = environ["PATH_INFO"].removeprefix("/").partition("/")
        name = operation(
            environ["REQUEST_METHOD"],
            bucket=bucket,
            key=key,
            query=parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True),
            copies="HTTP_X_AMZ_COPY_SOURCE" in environ,
        )
        self.objects.append((name, f"{bucket}/{key}".rstrip("/")))

    def actions(self, calls: int = 0, objects: int = 0) -> set[str]:
        """Return the actions that a policy must allow for what was sent since a place."""
        sent = [*self.calls[calls:], *(("s3", name) for name, _ in self.objects[objects:])]
        return {action for call in sent for action in actions.actions_of(*call)}

    def open(self, **section: Any) -> SageMakerProvider:
        """Open a target; every call it makes through boto3 is noted."""
        settings = PLUGIN.settings()(**{**SECTION, "endpoint_url": self.server.url, **section})
        provider = PLUGIN.open(settings, ProviderContext(target="aws", root=Path()))
        assert isinstance(provider, SageMakerProvider)
        provider.listen(lambda service, name: self.calls.append((service, name)))
        self.opened.append(provider)
        return provider

    def client(self, service: str) -> Any:
        """Return a client that knows nothing of ours."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service, endpoint_url=self.server.url, region_name="us-east-1"
            )
        return self._clients[service]

    @contextmanager
    def noted(self) -> Iterator[list[str]]:
        """Yield a list that holds the names of the calls in the block afterwards."""
        begin = len(self.calls)
        names: list[str] = []
        yield names
        names += [name for _, name in self.calls[begin:]]


# Of one module: there can be only one in a process, and others have theirs.
@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """Yield an AWS that takes a fiftieth of the time."""
    images = {
        "*/cloudreg-real:*": [sys.executable, "-P", "-m", "cloudreg.serving"],
        "*": [sys.executable, "-I", "-S", str(STANDIN)],
    }
    with AwsServer(images=images, scale=0.02) as server, applied(server.environment()):
        made = Cloud(server)
        made.client("s3").create_bucket(Bucket=BUCKET)
        yield made
        for provider in made.opened:
            provider.close()


@pytest.fixture(autouse=True)
def permitted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that makes a call which the deployer's policy does not allow."""
    if "cloud" not in request.fixturenames:
        yield
        return
    cloud: Cloud = request.getfixturevalue("cloud")
    begin = len(cloud.calls), len(cloud.objects)
    yield
    missing = cloud.actions(*begin) - actions.ACTIONS
    assert missing == set(), "cloudreg_sagemaker/actions.py lacks them"


class Desk:
    """A target with shorthands."""

    def __init__(self, cloud: Cloud, provider: SageMakerProvider) -> None:
        self.cloud = cloud
        self.provider = provider
        self.endpoints = provider.endpoints
        self.registry = provider.registry
        self.client = cloud.client("sagemaker")
        self.server = Server(provider, self.version, timeout_s=60.0, interval_s=0.03)

    def version(self, number: int, *, broken: bool = False, model: str = "kit") -> ModelVersion:
        text = "crash 4" if broken else f"weights of {number}"
        return make_version(
            self.provider.store, number, model=model, **{"weights.txt": text.encode()}
        )

    def ask(self, name: str, body: bytes = b"{}", *, variant: str | None = None) -> Any:
        answer = self.endpoints.invoke(
            name, body, content_type="application/json", timeout_s=30.0, variant=variant
        )
        return json.loads(answer)

    def describe(self, name: str) -> dict[str, Any]:
        return dict(self.client.describe_endpoint(EndpointName=name))

    def wait(self, operation: Operation) -> Any:
        return self.server.wait(operation)

    def start(self, spec: EndpointSpec) -> EndpointSpec:
        return self.server.start(spec)


@pytest.fixture(scope="module")
def usual(cloud: Cloud) -> SageMakerProvider:
    """Return a target with the usual section; to open one takes longer than most tests."""
    return cloud.open()


@pytest.fixture
def opened(cloud: Cloud, usual: SageMakerProvider) -> Iterator[Callable[..., Desk]]:
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
