"""SageMaker in this process behind real boto3; containers are scripted, and come up when told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.sagemaker.models import sagemaker_backends

from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend
from cloudreg_emulator.aws.world import World, entered
from cloudreg_emulator.faults import Faults
from cloudreg_emulator.fleet import Launch

REGION = "us-east-1"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/hosting"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/cloudreg:1"


class Troupe:
    """A group that is ready when its cast lets it be."""

    def __init__(self, cast: Cast, launch: Launch, count: int) -> None:
        self.cast = cast
        self.launch = launch
        self.desired = count
        self.stopped = False
        self.sizes = [count]

    @property
    def ready(self) -> int:
        if self.stopped or self.failure is not None:
            return 0
        return min(self.desired, self.cast.most)

    @property
    def failure(self) -> str | None:
        for pattern, words in self.cast.failing.items():
            if fnmatchcase(self.launch.image, pattern) or self.launch.instance_type == pattern:
                return words
        return None

    def resize(self, count: int) -> None:
        self.desired = count
        self.sizes.append(count)

    def stop(self) -> None:
        self.stopped = True
        self.desired = 0


class Cast:
    """A fleet of five lines: no process, and nothing happens by itself.

    Attributes:
        groups: All that were started.
        most: How many instances of each group come up.
        failing: Why instances fail, by a pattern of their image or by their type.
    """

    def __init__(self) -> None:
        self.groups: list[Troupe] = []
        self.most = 1000
        self.failing: dict[str, str] = {}

    def start(self, launch: Launch, count: int) -> Troupe:
        self.groups.append(Troupe(self, launch, count))
        return self.groups[-1]

    @property
    def running(self) -> list[Troupe]:
        return [group for group in self.groups if not group.stopped]


class Maker:
    """Requests that SageMaker accepts; a test changes the one thing that it is about."""

    def __init__(self, client: Any) -> None:
        self.client = client

    @staticmethod
    def container(**more: Any) -> dict[str, Any]:
        source = {
            "S3Uri": "s3://models/churn/",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
        return {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}, **more}

    def specification(self, **container: Any) -> dict[str, Any]:
        return {
            "Containers": [self.container(**container)],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        }

    def group(self, name: str = "churn", **more: Any) -> str:
        made = self.client.create_model_package_group(ModelPackageGroupName=name, **more)
        return str(made["ModelPackageGroupArn"])

    def package(self, group: str = "churn", **more: Any) -> str:
        asked = {"InferenceSpecification": self.specification(), **more}
        asked = {key: value for key, value in asked.items() if value is not None}
        made = self.client.create_model_package(ModelPackageGroupName=group, **asked)
        return str(made["ModelPackageArn"])

    def model(self, name: str = "m1", **more: Any) -> str:
        asked = {"PrimaryContainer": self.container(), "ExecutionRoleArn": ROLE, **more}
        asked = {key: value for key, value in asked.items() if value is not None}
        return str(self.client.create_model(ModelName=name, **asked)["ModelArn"])

    @staticmethod
    def variant(**more: Any) -> dict[str, Any]:
        usual = {
            "VariantName": "main",
            "ModelName": "m1",
            "InitialInstanceCount": 1,
            "InstanceType": "ml.g5.xlarge",
        }
        return {key: value for key, value in {**usual, **more}.items() if value is not None}

    def config(self, name: str = "c1", *variants: dict[str, Any], **more: Any) -> str:
        made = self.client.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=list(variants) or [self.variant()],
            **more,
        )
        return str(made["EndpointConfigArn"])

    def endpoint(self, name: str = "e", config: str = "c1", **more: Any) -> str:
        """Create an endpoint and see it come into service."""
        made = self.client.create_endpoint(EndpointName=name, EndpointConfigName=config, **more)
        self.settled(name)
        return str(made["EndpointArn"])

    def status(self, name: str = "e") -> str:
        return str(self.client.describe_endpoint(EndpointName=name)["EndpointStatus"])

    @staticmethod
    def to(config: str = "c2", **more: Any) -> dict[str, Any]:
        """A request that moves the endpoint ``e`` to a configuration."""
        return {"EndpointName": "e", "EndpointConfigName": config, **more}

    @staticmethod
    def capacities(*wanted: dict[str, Any]) -> dict[str, Any]:
        return {"EndpointName": "e", "DesiredWeightsAndCapacities": list(wanted)}

    @staticmethod
    def shares(backend: SageMakerBackend, name: str = "e") -> dict[str | None, float]:
        """The part of the traffic that each model gets."""
        found: dict[str | None, float] = {}
        for route in backend.routes(name):
            found[route.model_name] = found.get(route.model_name, 0.0) + round(route.weight, 3)
        return found

    def steps(self, backend: SageMakerBackend) -> list[float]:
        """The share of the model ``m2``, each time that it changes, until all is done."""
        seen = [self.shares(backend).get("m2", 0.0)]
        for _ in range(60):
            if self.status() != "Updating":
                break
            share = self.shares(backend).get("m2", 0.0)
            if share != seen[-1]:
                seen.append(share)
        return [*seen, self.shares(backend).get("m2", 0.0)]

    def settled(self, name: str = "e", *, limit: int = 60) -> dict[str, Any]:
        """Describe an endpoint until nothing is being done to it."""
        for _ in range(limit):
            body: dict[str, Any] = self.client.describe_endpoint(EndpointName=name)
            if body["EndpointStatus"] not in ("Creating", "Updating", "RollingBack", "Deleting"):
                return body
        raise AssertionError(f"still {body['EndpointStatus']} after {limit} describes")


@pytest.fixture(scope="session")
def _clients() -> dict[str, Any]:
    """Clients cost a tenth of a second each; one of each kind is enough, for they hold nothing."""
    session = boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    )
    plain = Config(retries={"max_attempts": 0})
    raw = Config(retries={"max_attempts": 0}, parameter_validation=False)
    return {
        "sagemaker": session.client("sagemaker", config=plain),
        "raw": session.client("sagemaker", config=raw),
        "cloudwatch": session.client("cloudwatch", config=plain),
        "s3": session.client("s3", config=plain),
        "application-autoscaling": session.client("application-autoscaling", config=plain),
        "tagging": session.client("resourcegroupstaggingapi", config=plain),
    }


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def cast() -> Cast:
    return Cast()


@pytest.fixture
def world(request: pytest.FixtureRequest, cast: Cast, faults: Faults) -> Iterator[World]:
    """An emulated SageMaker whose transitions take one describe and no time, if unsaid."""
    pace = {"describes": 1, "scale": 0.0, **getattr(request, "param", {})}
    made = World(faults=faults, fleet=cast, **pace)  # type: ignore[arg-type]
    before = sagemaker_backends.backend
    with entered(made), mock_aws(config={"core": {"mock_credentials": False}}):
        sagemaker_backends.backend = SageMakerBackend
        sagemaker_backends.clear()
        try:
            yield made
        finally:
            sagemaker_backends.clear()
            sagemaker_backends.backend = before


@pytest.fixture
def client(world: World, _clients: dict[str, Any]) -> Any:
    """A boto3 client of SageMaker."""
    return _clients["sagemaker"]


@pytest.fixture
def raw(world: World, _clients: dict[str, Any]) -> Any:
    """A client that checks nothing itself, like other languages' clients."""
    return _clients["raw"]


@pytest.fixture
def other(world: World, _clients: dict[str, Any]) -> Callable[[str], Any]:
    """Clients of the services beside SageMaker."""
    return _clients.__getitem__


@pytest.fixture
def backend(world: World) -> SageMakerBackend:
    """The backend itself, which the runtime and autoscaling ask."""
    found = sagemaker_backends[ACCOUNT][REGION]
    assert isinstance(found, SageMakerBackend)
    return found


@pytest.fixture
def make(client: Any) -> Maker:
    return Maker(client)


@pytest.fixture
def refused() -> Callable[..., str]:
    """``refused(call, code, words, **request)``: it is refused with the code, in these words."""

    def check(call: Callable[..., Any], code: str, words: str, /, **request: Any) -> str:
        with pytest.raises(ClientError) as caught:
            call(**request)
        error: Mapping[str, str] = caught.value.response["Error"]
        assert (error["Code"], words in error["Message"]) == (code, True), error
        return error["Message"]

    return check


@pytest.fixture
def policy() -> Callable[..., dict[str, Any]]:
    """``policy(kind, value, unit)``: a DeploymentConfig; 50 % and a bake of a minute if unsaid."""

    def made(
        kind: str,
        value: int = 50,
        unit: str = "CAPACITY_PERCENT",
        *,
        wait: int = 60,
        alarms: tuple[str, ...] = (),
        **more: Any,
    ) -> dict[str, Any]:
        size = {"Type": unit, "Value": value}
        found: dict[str, Any]
        if kind == "ROLLING":
            batches = {"MaximumBatchSize": size, "WaitIntervalInSeconds": wait}
            found = {"RollingUpdatePolicy": {**batches, **more}}
        else:
            routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": wait}
            sizes = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
            if kind in sizes:
                routing[sizes[kind]] = size
            found = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **more}}
        if alarms:
            named = [{"AlarmName": alarm} for alarm in alarms]
            found["AutoRollbackConfiguration"] = {"Alarms": named}
        return found

    return made


@pytest.fixture
def configs(make: Maker) -> None:
    """Configurations with four instances each; c1 and c2 differ by their models."""
    for name in ("m1", "m2", "bad", "plain"):
        make.model(name, PrimaryContainer={"Image": f"{name}:1"})
    for name, model in (("c1", "m1"), ("c2", "m2"), ("broken", "bad")):
        make.config(name, make.variant(ModelName=model, InitialInstanceCount=4))
    make.config("renamed", make.variant(VariantName="other", InitialInstanceCount=4))
    make.config("two", make.variant(InitialInstanceCount=4), make.variant(VariantName="b"))
    sizes = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    make.config(
        "serverless",
        make.variant(
            ModelName="plain", InitialInstanceCount=None, InstanceType=None, ServerlessConfig=sizes
        ),
    )
    make.config(
        "shadowed",
        make.variant(InitialInstanceCount=4),
        ShadowProductionVariants=[make.variant(VariantName="shadow", ModelName="m2")],
    )


@pytest.fixture
def endpoint(make: Maker, configs: None) -> str:
    """The endpoint ``e``, in service on ``c1``."""
    return make.endpoint()
