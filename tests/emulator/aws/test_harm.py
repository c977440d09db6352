"""Credentials that end, rights that are missing, bytes that change, changes that stand still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    ResponseStreamingError,
)

from cloudreg_emulator.aws import AwsServer, aws
from cloudreg_emulator.aws.environment import applied
from cloudreg_emulator.faults import Fault, Faults, Kind

ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})
WORDS = {
    "s3": {
        Kind.EXPIRED: (400, "ExpiredToken", "expired"),
        Kind.DENIED: (403, "AccessDenied", "Access Denied"),
    },
    "sagemaker": {
        Kind.EXPIRED: (403, "ExpiredTokenException", "expired"),
        Kind.DENIED: (403, "AccessDeniedException", "perform: sagemaker:ListModels because"),
    },
    "application-autoscaling": {
        Kind.EXPIRED: (403, "ExpiredTokenException", "expired"),
        Kind.DENIED: (
            403,
            "AccessDeniedException",
            "perform: application-autoscaling:DescribeScalableTargets because",
        ),
    },
    "sagemaker-runtime": {
        Kind.EXPIRED: (403, "ExpiredTokenException", "expired"),
        Kind.DENIED: (403, "AccessDeniedException", "perform: sagemaker:InvokeEndpoint because"),
    },
}
ASKED: dict[str, Callable[[Any], Any]] = {
    "s3": lambda client: client.list_objects_v2(Bucket="bucket"),
    "sagemaker": lambda client: client.list_models(),
    "application-autoscaling": lambda client: client.describe_scalable_targets(
        ServiceNamespace="sagemaker"
    ),
    "sagemaker-runtime": lambda client: client.invoke_endpoint(EndpointName="e", Body=b"{}"),
}


class Place:
    """Where boto3 is answered."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.s3 = boto3.client("s3", config=ONCE)
        self.s3.create_bucket(Bucket="bucket")

    def put(self, body: bytes, **options: Any) -> None:
        self.s3.put_object(Bucket="bucket", Key="k", Body=body, **options)

    def get(self) -> bytes:
        return bytes(self.s3.get_object(Bucket="bucket", Key="k")["Body"].read())


@pytest.fixture(params=["in process", "server"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Yield S3 with a bucket, called directly or over HTTP."""
    if request.param == "in process":
        with aws() as emulator:
            yield Place(emulator.faults)
    else:
        with AwsServer() as server, applied(server.environment()):
            yield Place(server.faults)


@pytest.mark.parametrize("kind", [Kind.EXPIRED, Kind.DENIED])
def test_words(kind: Kind, place: Place) -> None:
    """Each service says in its own words that credentials have ended, or rights are missing."""
    for service, words in WORDS.items():
        armed = place.faults.arm(Fault(kind=kind, service=service))
        with pytest.raises(ClientError) as caught:
            # Not an error that a client asks again for.
            ASKED[service](boto3.client(service))

        said = caught.value.response
        status, code, sentence = words[kind]
        assert armed.struck == 1
        assert (said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"]) == (status, code)
        assert sentence in said["Error"]["Message"]


def test_garbled_on_the_way_down(place: Place) -> None:
    """boto3 notices bytes that are not those of the checksum."""
    place.put(b"right")
    armed = place.faults.arm(Fault(kind=Kind.GARBLED, service="s3", operation="GetObject"))
    with pytest.raises(FlexibleChecksumError):
        place.get()

    assert armed.struck == 1
    assert place.get() == b"right"


def test_garbled_on_the_way_up(place: Place) -> None:
    """Bytes that changed on their way are refused by their checksum, and nothing is kept."""
    armed = place.faults.arm(Fault(kind=Kind.GARBLED, service="s3", operation="PutObject"))
    with pytest.raises(ClientError) as caught:
        place.put(b"right", ChecksumAlgorithm="SHA256")

    assert armed.struck == 1
    assert caught.value.response["Error"]["Code"] in ("BadDigest", "XAmzContentSHA256Mismatch")
    assert "Contents" not in place.s3.list_objects_v2(Bucket="bucket")


def test_truncated(place: Place) -> None:
    """Half of the bytes come, and then the connection ends; a HEAD has nothing to break."""
    place.put(b"x" * 100_000)
    armed = place.faults.arm(Fault(kind=Kind.TRUNCATED, service="s3", operation="GetObject"))
    place.s3.head_object(Bucket="bucket", Key="k")
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        place.get()

    assert armed.struck == 1
    assert len(place.get()) == 100_000


@pytest.mark.parametrize("world", [{"scale": 0.01}], indirect=True)
def test_stuck(client: Any, make: Any, faults: Faults) -> None:
    """A change that is stuck goes on being under way for its seconds, and then comes to its end."""
    make.model()
    make.config()
    armed = faults.arm(Fault(kind=Kind.STUCK, operation="CreateEndpoint", seconds=30))
    began = time.monotonic()
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")

    assert armed.struck == 1
    assert [make.status() for _ in range(5)] == ["Creating"] * 5
    make.settled(limit=1_000_000)
    assert time.monotonic() - began >= 0.3
    assert make.status() == "InService"


@pytest.mark.parametrize("world", [{"scale": 0.01}], indirect=True)
def test_stuck_removal(client: Any, make: Any, faults: Faults) -> None:
    """An endpoint whose removal is stuck is shown as being deleted."""
    make.model()
    make.config()
    make.endpoint()
    faults.arm(Fault(kind=Kind.STUCK, operation="DeleteEndpoint", seconds=3600))
    client.delete_endpoint(EndpointName="e")

    assert [make.status() for _ in range(5)] == ["Deleting"] * 5
