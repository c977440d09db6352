"""The short way to the runtime answers as moto's way does, and what is slow is imported late."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cloudreg_emulator.aws import AwsServer
from cloudreg_emulator.faults import Fault, Kind

CONTAINER = str(Path(__file__).parents[1] / "fleet" / "container.py")
SCOPE = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/sagemaker/aws4_request, Signature=0"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    """Yield a server with the endpoint ``churn``."""
    images = {"*/test:*": [sys.executable, "-S", "-E", CONTAINER]}
    with AwsServer(images=images, scale=0.001, describes=0) as made:
        s3, sagemaker = (boto3.client(name, endpoint_url=made.url) for name in ("s3", "sagemaker"))
        s3.create_bucket(Bucket="models")
        s3.put_object(Bucket="models", Key="one/model.json", Body=b"{}")
        source = {
            "S3Uri": "s3://models/one/", "S3DataType": "S3Prefix", "CompressionType": "None"
        }  # fmt: skip
        sagemaker.create_model(
            ModelName="one",
            ExecutionRoleArn="arn:aws:iam::123456789012:role/hosting",
            PrimaryContainer={
                "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/test:1",
                "ModelDataSource": {"S3DataSource": source},
            },
        )
        variant = {
            "VariantName": "main", "ModelName": "one", "InitialInstanceCount": 1,
            "InstanceType": "ml.g5.xlarge",
        }  # fmt: skip
        sagemaker.create_endpoint_config(EndpointConfigName="one", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="churn", EndpointConfigName="one")
        waiter = sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName="churn", WaiterConfig={"Delay": 0.05, "MaxAttempts": 1200})
        yield made


def asked(
    server: AwsServer, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Return the whole answer, without what differs each time."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", path, body, {"Authorization": SCOPE, **headers})
        answer = connection.getresponse()
        content = answer.read()
        said = {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()
    # The last two are what a browser's Origin adds.
    for name in ("date", "server", "x-amzn-requestid", "access-control-allow-origin", "vary"):
        said.pop(name, None)
    return answer.status, said, content


CASES: dict[str, tuple[str, bytes, dict[str, str], int]] = {
    "answer": ("churn/invocations", b'{"x": [1]}', JSON, 200),
    "a form": (
        "churn/invocations",
        b'{"x": [1]}',
        {"Content-Type": "application/x-www-form-urlencoded"},
        200,
    ),
    "attributes": (
        "churn/invocations",
        b'{"x": [1]}',
        {**JSON, "X-Amzn-SageMaker-Custom-Attributes": "trace=1"},
        200,
    ),
    "the container's error": ("churn/invocations", b'{"status": 418}', JSON, 424),
    "no such endpoint": ("nothing/invocations", b"{}", JSON, 400),
    "no such variant": (
        "churn/invocations",
        b"{}",
        {**JSON, "X-Amzn-SageMaker-Target-Variant": "other"},
        400,
    ),
    "malformed": (
        "churn/invocations",
        b"{}",
        {**JSON, "X-Amzn-SageMaker-Target-Variant": "-no-name-"},
        400,
    ),
    "too large": ("churn/invocations", bytes(25 * 2**20 + 1), JSON, 413),
    "not asynchronous": (
        "churn/async-invocations",
        b"",
        {"X-Amzn-SageMaker-InputLocation": "s3://models/in"},
        400,
    ),
    "a stream": ("churn/invocations-response-stream", b'{"stream": 3}', JSON, 200),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_answer_alike(server: AwsServer, case: str) -> None:
    """Status, headers and body are the same whichever way a request takes."""
    path, body, headers, status = CASES[case]
    short = asked(server, f"/endpoints/{path}", body, headers)
    # Browsers are moto's to answer.
    motos = asked(server, f"/endpoints/{path}", body, {**headers, "Origin": "http://localhost"})

    assert short[0] == status
    assert short == motos


def test_faults_strike_on_the_short_way(server: AwsServer) -> None:
    """Armed faults spoil invocations on the short way, closed connections included."""
    for fault, status in (
        (Fault(kind=Kind.THROTTLE, service="sagemaker-runtime"), 400),
        (Fault(kind=Kind.ERROR, service="sagemaker-runtime", status=500), 500),
    ):
        armed = server.faults.arm(fault)
        assert asked(server, "/endpoints/churn/invocations", b"{}", JSON)[0] == status
        assert armed.struck == 1
    armed = server.faults.arm(Fault(kind=Kind.LOST, service="sagemaker-runtime", status=0))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        asked(server, "/endpoints/churn/invocations", b"{}", JSON)
    assert armed.struck == 1
    server.faults.disarm()


LATE = """
import sys, boto3
from cloudreg_emulator.aws import AwsServer
from cloudreg_emulator.aws.autoscaling.ticking import tick

def client(name: str):
    return boto3.client(name, endpoint_url=server.url, region_name="us-east-1")

with AwsServer(scale=0.001) as server:
    client("s3").list_buckets()
    client("sagemaker").list_endpoints()
    tick()
    assert not [name for name in sys.modules if name.startswith(("moto.ec2", "moto.ecs"))]
    scaling = client("application-autoscaling")
    try:
        scaling.register_scalable_target(
            ServiceNamespace="sagemaker", ResourceId="endpoint/none/variant/main",
            ScalableDimension="sagemaker:variant:DesiredInstanceCount",
            MinCapacity=1, MaxCapacity=2,
        )
    except scaling.exceptions.ValidationException as error:
        said = str(error)
    from moto.applicationautoscaling.models import applicationautoscaling_backends as backends
    from cloudreg_emulator.aws.autoscaling.models import ScalingBackend
    assert backends.backend is ScalingBackend
    tick()
assert backends.backend is not ScalingBackend
print(said)
"""


def test_scaling_is_imported_with_its_first_request(server: AwsServer) -> None:
    """A server starts without EC2, and still answers scaling with our backend, strictly."""
    environment: dict[str, Any] = server.process_environment()
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
