"""The runtime over the wire: the emulator as a server, asked by real boto3 over real HTTP."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from cloudreg_emulator.aws import AwsServer
from cloudreg_emulator.faults import Fault

CONTAINER = str(Path(__file__).parents[1] / "fleet" / "container.py")


@pytest.fixture(scope="module")
def server():
    """The emulator as a server, and a maker of clients; ``churn`` serves there."""
    images = {"*/test:*": [sys.executable, "-S", "-E", CONTAINER]}
    session = boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1"
    )
    with AwsServer(images=images, scale=0.001, describes=0) as server:

        def clients(name):
            config = Config(retries={"total_max_attempts": 1})
            return session.client(name, endpoint_url=server.url, config=config)

        clients("s3").create_bucket(Bucket="models")
        clients("s3").put_object(Bucket="models", Key="one/model.json", Body=b"{}")
        source = {
            "S3Uri": "s3://models/one/", "S3DataType": "S3Prefix", "CompressionType": "None"
        }  # fmt: skip
        sagemaker = clients("sagemaker")
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
        waiter.wait(EndpointName="churn", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        server.clients = clients
        fleet = server.fleet
        yield server
    assert fleet.pids == []


def test_server_predicts(server):
    """Over the wire an endpoint answers as in process."""
    answer = server.clients("sagemaker-runtime").invoke_endpoint(
        EndpointName="churn", Body=b'{"x": [1]}', ContentType="application/json"
    )

    assert json.loads(answer["Body"].read())["y"] == [1]
    assert answer["InvokedProductionVariant"] == "main"


def test_server_streams(server):
    """Over the wire pieces arrive as the container writes them."""
    answer = server.clients("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="churn", Body=b'{"stream": 3, "pause_s": 0.3}'
    )
    began = time.monotonic()
    events = iter(answer["Body"])
    first = next(events)["PayloadPart"]["Bytes"]
    took = time.monotonic() - began

    assert took < 0.3
    assert first + b"".join(e["PayloadPart"]["Bytes"] for e in events) == (
        b"piece 0;piece 1;piece 2;"
    )


def test_server_hangs_up(server):
    """Over the wire a lost answer is a connection that closes."""
    armed = server.faults.arm(Fault(kind="lost", service="sagemaker-runtime", status=0))
    with pytest.raises(ConnectionClosedError):
        server.clients("sagemaker-runtime").invoke_endpoint(EndpointName="churn", Body=b"{}")

    assert armed.struck == 1


def test_server_scales_by_itself(server, until):
    """A server ticks: raising the minimum is enough."""
    scaling = server.clients("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/churn/variant/main",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**target, MinCapacity=2, MaxCapacity=2)
    describe = server.clients("sagemaker").describe_endpoint

    def count():
        return describe(EndpointName="churn")["ProductionVariants"][0]["CurrentInstanceCount"]

    until(lambda: count() == 2)
    scaling.deregister_scalable_target(**target)
    assert len(server.fleet.pids) == 2
