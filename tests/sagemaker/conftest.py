"""A SageMaker target against an emulated AWS, whose containers are a stand-in."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from cloudreg.provider import Deployed, Operation, ProviderContext
from cloudreg.testing.base import fresh, make_version
from cloudreg.testing.serving import Server
from cloudreg.types import EndpointSpec, ModelVersion
from cloudreg_emulator.aws import AwsServer, aws
from cloudreg_emulator.aws.environment import applied
from cloudreg_emulator.aws.iam.policies import ALLOWED, Policy, decide
from cloudreg_emulator.aws.s3.operations import operation
from cloudreg_emulator.faults import Faults
from cloudreg_sagemaker import PLUGIN, actions
from cloudreg_sagemaker import provider as provider_module
from cloudreg_sagemaker.provider import SageMakerProvider
from cloudreg_sagemaker.settings import SageMakerSettings

STANDIN = Path(__file__).with_name("standin.py")

_SPEC = importlib.util.spec_from_file_location("needed", Path(__file__).with_name("needed.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
needed = importlib.util.module_from_spec(_SPEC)
sys.modules["needed"] = needed  # dataclasses look their module up
_SPEC.loader.exec_module(needed)

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


IMAGES = {
    "*/cloudreg-real:*": [sys.executable, "-P", "-m", "cloudreg.serving"],
    "*/idle:*": [sys.executable, "-I", "-S", str(Path(__file__).parents[1] / "idle.py")],
    "*": [sys.executable, "-I", "-S", str(STANDIN)],
}
SCALE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What an AWS in this process has of a server: no address, and nobody who watches."""

    faults: Faults
    url: None = None

    def watch(self, _watcher: object) -> None:
        """Show nothing: boto3's calls are noted where they are made."""


class Cloud:
    """One emulated AWS, and targets in it."""

    section = SECTION

    def __init__(self, server: AwsServer | Inside) -> None:
        self.server = server
        self.faults = server.faults
        self.calls: list[tuple[str, str]] = []
        self.objects: list[tuple[str, str]] = []
        """Operation of S3 and what it touches, of every request that obstore sent."""
        self.needs: list[Any] = []
        """What IAM checks of every request that boto3 sent: see `needed`."""
        self.sections: list[SageMakerSettings] = []
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
        self.needs.extend(needed.objects(name, f"{bucket}/{key}".rstrip("/")))

    def actions(self, calls: int = 0, objects: int = 0) -> set[str]:
        """Return the actions that a policy must allow for what was sent since a place."""
        sent = [*self.calls[calls:], *(("s3", name) for name, _ in self.objects[objects:])]
        return {action for call in sent for action in actions.actions_of(*call)}

    def observe(self, provider: SageMakerProvider, settings: SageMakerSettings) -> None:
        """Note what a target needs from now on, and whose policy should allow it."""
        self.sections.append(settings)
        provider.observe(lambda *call: self.needs.extend(needed.needs(*call)))

    def refused(self, needs: Iterable[Any], deployed: Deployed) -> list[Any]:
        """Return what the policies of all targets that were opened do not allow."""
        made = {json.dumps(PLUGIN.policy(settings, deployed)) for settings in self.sections}
        policies = [Policy(name="deployer", kind="role", document=text) for text in sorted(made)]
        return [
            need
            for need in dict.fromkeys(needs)
            if decide(policies, need.action, need.resource, need.given).outcome != ALLOWED
        ]

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


def observed(cloud: Cloud) -> type[SageMakerProvider]:
    """Return a provider that is noted, whoever opens it: workspaces open theirs by themselves."""

    class Observed(SageMakerProvider):
        def __init__(self, settings: SageMakerSettings, context: ProviderContext) -> None:
            super().__init__(settings, context)
            cloud.observe(self, settings)

    return Observed


@pytest.fixture(scope="module")
def in_process(request: pytest.FixtureRequest) -> bool:
    """Whether boto3 is answered in this process, without a server; a parameter says so."""
    return bool(getattr(request, "param", False))


# Of one module: there can be only one in a process, and others have theirs.
@pytest.fixture(scope="module")
def cloud(*, in_process: bool) -> Iterator[Cloud]:
    """Yield an AWS that takes a fiftieth of the time."""
    with ExitStack() as stack:
        if in_process:
            inside = stack.enter_context(aws(images=IMAGES, scale=SCALE, loopback=True))
            made = Cloud(Inside(faults=inside.faults))
        else:
            server = stack.enter_context(AwsServer(images=IMAGES, scale=SCALE))
            stack.enter_context(applied(server.environment()))
            made = Cloud(server)
        made.client("s3").create_bucket(Bucket=BUCKET)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(provider_module, "SageMakerProvider", observed(made))
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
    begin, needs = (len(cloud.calls), len(cloud.objects)), len(cloud.needs)
    yield
    missing = cloud.actions(*begin) - actions.ACTIONS
    assert missing == set(), "cloudreg_sagemaker/actions.py lacks them"
    assert cloud.refused(cloud.needs[needs:], Deployed()) == [], "cloudreg_sagemaker/policy.py"


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
