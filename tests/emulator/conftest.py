"""An emulated AWS in this process whose endpoints are real processes of a small script."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from cloudreg_emulator.aws import Emulator, aws

CONTAINER = str(Path(__file__).with_name("fleet") / "container.py")
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/test:1"
ROLE = "arn:aws:iam::123456789012:role/hosting"


class Live:
    """An emulator with a bucket, and what makes endpoints in it."""

    def __init__(self, emulator: Emulator, make: Callable[[str, str], Any]) -> None:
        self.emulator = emulator
        self.region = "us-east-1"
        self._make = make
        self.client("s3").create_bucket(Bucket="models")

    def client(self, name: str) -> Any:
        return self._make(name, self.region)

    @property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    def model(self, name: str, **said: Any) -> str:
        """Create a model whose ``model.json`` is *said*."""
        body = json.dumps(said).encode()
        self.client("s3").put_object(Bucket="models", Key=f"{name}/model.json", Body=body)
        source = {"S3Uri": f"s3://models/{name}/", "S3DataType": "S3Prefix"}
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "Environment": {"MODEL": name},
                "ModelDataSource": {"S3DataSource": {**source, "CompressionType": "None"}},
            },
        )
        return name

    @staticmethod
    def variant(name: str, model: str, *, weight: float = 1.0, count: int = 1) -> dict[str, Any]:
        return {
            "VariantName": name,
            "ModelName": model,
            "InitialInstanceCount": count,
            "InstanceType": "ml.m5.large",
            "InitialVariantWeight": weight,
        }

    def deploy(self, endpoint: str, *variants: dict[str, Any], **config: Any) -> str:
        """Create an endpoint of *variants*, and return once it is in service."""
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=f"{endpoint}-1", ProductionVariants=list(variants), **config
        )
        self.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=f"{endpoint}-1")
        assert self.settled(endpoint)["EndpointStatus"] == "InService"
        return endpoint

    def settled(self, endpoint: str) -> dict[str, Any]:
        """Return the endpoint once nothing is being done to it."""
        deadline = time.monotonic() + 30
        while True:
            body: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=endpoint)
            if body["EndpointStatus"] not in ("Creating", "Updating", "RollingBack"):
                return body
            assert time.monotonic() < deadline, body
            time.sleep(0.02)

    def doubling(self, endpoint: str = "churn", **config: Any) -> str:
        """Deploy a model that doubles."""
        return self.deploy(endpoint, self.variant("main", self.model("double", scale=2)), **config)

    def ask(self, endpoint: str = "churn", *, asked: Any = None, **more: Any) -> Any:
        """Invoke an endpoint with JSON, and return boto3's answer with the JSON in ``said``."""
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint,
            ContentType="application/json",
            Body=json.dumps(asked or {}),
            **more,
        )
        return {**answer, "said": json.loads(answer["Body"].read())}


@pytest.fixture(scope="session")
def real_client() -> Callable[[str, str], Any]:
    """Makes clients that ask once; one of each kind is enough, for they hold nothing."""
    session = boto3.session.Session(aws_access_key_id="testing", aws_secret_access_key="testing")
    config = Config(retries={"total_max_attempts": 1})

    @functools.cache
    def make(name: str, region: str) -> Any:
        return session.client(name, region_name=region, config=config)

    return make


@pytest.fixture
def make_live(real_client: Callable[[str, str], Any]) -> Iterator[Callable[..., Live]]:
    """Opens an emulated AWS, which must leave no process; keywords are those of `aws`."""
    with ExitStack() as stack:

        def make(**options: Any) -> Live:
            images = {"*/test:*": [sys.executable, "-S", "-E", CONTAINER]}
            usual = {"images": images, "scale": 0.01, "describes": 0}
            emulator = stack.enter_context(aws(**{**usual, **options}))
            fleets.append(emulator.fleet)
            return Live(emulator, real_client)

        fleets: list[Any] = []
        yield make
    assert [fleet.pids for fleet in fleets] == [[] for _ in fleets]


@pytest.fixture
def live(make_live: Callable[..., Live]) -> Live:
    """An emulated AWS; a hundred of its seconds pass in one."""
    return make_live()


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for a condition."""

    def wait(condition: Callable[[], object], *, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not become true"
            time.sleep(0.02)

    return wait
