"""Batch transform: a data set goes through real requests, and its answers lie beside it."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from cloudreg_emulator.aws.sagemaker.errors import Refused
from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend
from cloudreg_emulator.fleet import Answer

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
MODEL = "the service model of botocore"
OURS = "the emulator: what it accepts, it does"


def job(**more: Any) -> dict[str, Any]:
    source = more.pop("source", {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"})
    given = {"DataSource": {"S3DataSource": source}, **more.pop("input", {})}
    output = {"S3OutputPath": "s3://data/out", **more.pop("output", {})}
    return {
        "TransformJobName": "j",
        "ModelName": "m1",
        "TransformInput": given,
        "TransformOutput": output,
        "TransformResources": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
        **more,
    }


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request beside the job ``done``, which is completed."""

    id: str
    request: dict[str, Any]
    words: str
    source: str
    call: str = "create_transform_job"
    code: str = "ValidationException"


CASES = [
    Case(
        id="job twice",
        request=job(TransformJobName="done"),
        code="ResourceInUse",
        words="Transform job names must be unique within an AWS account and region",
        source="https://github.com/SuperCowPowers/workbench/issues/384",
    ),
    Case(
        id="no model",
        request=job(ModelName="none"),
        words=f'Could not find model "{PREFIX}:model/none".',
        source=MODEL,
    ),
    Case(
        id="uncompressed model data",
        request=job(ModelName="prefix"),
        words="Model with containers that use ModelDataSource is not supported for batch transform",
        source=MODEL,
    ),
    Case(
        id="payload beyond 100 MB",
        request=job(MaxPayloadInMB=101),
        words="MaxPayloadInMB 101 must be at most 100",
        source=MODEL,
    ),
    Case(
        id="payloads beyond 100 MB together",
        request=job(MaxConcurrentTransforms=17),
        words="MaxConcurrentTransforms 17 times MaxPayloadInMB must be at most 100",
        source=MODEL,
    ),
    Case(
        id="more than 100 instances",
        request=job(TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 101}),
        words="InstanceCount must be at most 100",
        source=MODEL,
    ),
    *(
        Case(id=f"job with {words}", request=request, words=words, source=OURS)
        for words, request in (
            ("DataProcessing", job(DataProcessing={"JoinSource": "Input"})),
            ("DataCaptureConfig", job(DataCaptureConfig={"DestinationS3Uri": "s3://b/c"})),
            ("SplitType", job(input={"SplitType": "RecordIO"})),
            (
                "S3DataType ManifestFile",
                job(source={"S3DataType": "ManifestFile", "S3Uri": "s3://b/m"}),
            ),
        )
    ),
    *(
        Case(
            id=f"{call} of no job",
            call=call,
            request={"TransformJobName": "none"},
            code="ResourceNotFound",
            words="Could not find transform job",
            source=MODEL,
        )
        for call in ("describe_transform_job", "stop_transform_job")
    ),
    Case(
        id="stop what is done",
        call="stop_transform_job",
        request={"TransformJobName": "done"},
        words="is in status Completed",
        source=MODEL,
    ),
]


class Doubler:
    """Containers that double every line; the world's fleet hands them out."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.asked: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200

    def __call__(self, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Answer:
        self.asked.append((body, dict(headers)))
        status = self.status
        if status == 503:
            self.status = 200
        doubled = b"".join(b"%d\n" % (2 * int(line)) for line in body.split() if status == 200)
        return Answer(status=status, headers={}, body=doubled or b"not a number", latency_s=0.0)


@pytest.fixture
def doubler(cast: Any) -> Doubler:
    """Every group that the cast starts answers with this one."""
    answers = Doubler(None)
    start = cast.start

    def starting(launch: Any, count: int) -> Any:
        group = start(launch, count)
        group.invoke = answers
        return group

    cast.start = starting
    return answers


@pytest.fixture
def bucket(make: Any, other: Callable[[str], Any]) -> Any:
    """A bucket with two inputs, and models to run."""
    s3 = other("s3")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="in/a.csv", Body=b"1\n2\n3\n")
    s3.put_object(Bucket="data", Key="in/deep/b.csv", Body=b"4\n")
    make.model(PrimaryContainer={"Image": "i", "Environment": {"A": "1"}})
    make.model("prefix")
    return s3


def outputs(s3: Any) -> dict[str, bytes]:
    found = s3.list_objects_v2(Bucket="data", Prefix="out").get("Contents", [])
    return {
        one["Key"]: s3.get_object(Bucket="data", Key=one["Key"])["Body"].read() for one in found
    }


def settled(client: Any, name: str = "j") -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        body: dict[str, Any] = client.describe_transform_job(TransformJobName=name)
        if body["TransformJobStatus"] not in ("InProgress", "Stopping"):
            return body
        time.sleep(0.005)
    raise AssertionError(body["TransformJobStatus"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refusals(
    case: Case,
    client: Any,
    bucket: Any,
    doubler: Doubler,
    cast: Any,
    refused: Callable[..., str],
) -> None:
    """What SageMaker refuses is refused with its code and words, and starts nothing."""
    client.create_transform_job(**job(TransformJobName="done"))
    settled(client, "done")

    refused(getattr(client, case.call), case.code, case.words, **case.request)

    assert case.source
    assert cast.running == []
    assert len(client.list_transform_jobs()["TransformJobSummaries"]) == 1


def test_a_data_set_is_scored(client: Any, bucket: Any, doubler: Doubler, cast: Any) -> None:
    """Each object is one request, and each answer lies under the same path with .out."""
    made = client.create_transform_job(
        **job(
            input={"ContentType": "text/csv"},
            output={"Accept": "text/csv"},
            Environment={"B": "2"},
            Tags=[{"Key": "k", "Value": "v"}],
        )
    )
    first = client.describe_transform_job(TransformJobName="j")
    found = settled(client)

    assert first["TransformJobStatus"] == "InProgress"
    assert found["TransformJobStatus"] == "Completed"
    assert found["TransformEndTime"] >= found["TransformStartTime"] >= found["CreationTime"]
    assert outputs(bucket) == {"out/a.csv.out": b"2\n4\n6\n", "out/deep/b.csv.out": b"8\n"}
    assert [body for body, _ in doubler.asked] == [b"1\n2\n3\n", b"4\n"]
    assert doubler.asked[0][1] == {"Content-Type": "text/csv", "Accept": "text/csv"}
    assert cast.groups[0].launch.environment == {"A": "1", "B": "2"}
    assert cast.running == []
    tags = client.list_tags(ResourceArn=made["TransformJobArn"])["Tags"]
    assert tags == [{"Key": "k", "Value": "v"}]


@pytest.mark.parametrize(
    ("more", "requests"),
    [
        ({"BatchStrategy": "SingleRecord"}, [b"1\n", b"2\n", b"3\n", b"4\n"]),
        ({"BatchStrategy": "MultiRecord"}, [b"1\n2\n3\n", b"4\n"]),
        ({}, [b"1\n2\n3\n", b"4\n"]),
    ],
)
def test_lines(
    client: Any, bucket: Any, doubler: Doubler, more: dict[str, Any], requests: list[bytes]
) -> None:
    """Lines are sent one by one or as many as fit, and are joined again."""
    client.create_transform_job(
        **job(input={"SplitType": "Line"}, output={"AssembleWith": "Line"}, **more)
    )

    assert settled(client)["TransformJobStatus"] == "Completed"
    assert [body for body, _ in doubler.asked] == requests
    assert outputs(bucket) == {"out/a.csv.out": b"2\n4\n6\n", "out/deep/b.csv.out": b"8\n"}


def test_compressed_input(client: Any, bucket: Any, doubler: Doubler) -> None:
    """Gzip is unpacked before it is sent."""
    bucket.put_object(Bucket="data", Key="gz/a.csv", Body=gzip.compress(b"5\n"))
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://data/gz/"}
    client.create_transform_job(**job(source=source, input={"CompressionType": "Gzip"}))

    assert settled(client)["TransformJobStatus"] == "Completed"
    assert outputs(bucket) == {"out/a.csv.out": b"10\n"}


def test_no_input(client: Any, bucket: Any, doubler: Doubler) -> None:
    """A prefix with nothing under it fails the job."""
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://data/none/"}
    client.create_transform_job(**job(source=source))

    found = settled(client)
    assert found["TransformJobStatus"] == "Failed"
    assert "No S3 objects found" in found["FailureReason"]


def test_a_model_that_refuses(client: Any, bucket: Any, doubler: Doubler, cast: Any) -> None:
    """An answer that is an error fails the job with its words, and nothing is stored."""
    doubler.status = 400
    client.create_transform_job(**job())

    found = settled(client)
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError")
    assert "not a number" in found["FailureReason"]
    assert outputs(bucket) == {}
    assert cast.running == []


@pytest.mark.parametrize(("retries", "status"), [(0, "Failed"), (1, "Completed")])
def test_retries(client: Any, bucket: Any, doubler: Doubler, retries: int, status: str) -> None:
    """A 5xx is tried again as often as ModelClientConfig says."""
    doubler.status = 503
    client.create_transform_job(**job(ModelClientConfig={"InvocationsMaxRetries": retries}))

    assert settled(client)["TransformJobStatus"] == status


def test_containers_that_do_not_come_up(
    client: Any, bucket: Any, doubler: Doubler, cast: Any
) -> None:
    """A job whose instances never come up is Failed with the reason."""
    cast.failing["i"] = "CapacityError"
    client.create_transform_job(**job())

    assert settled(client)["FailureReason"] == "CapacityError"


def test_a_stopped_job(client: Any, bucket: Any, doubler: Doubler, cast: Any) -> None:
    """A stopped job is Stopping, then Stopped, and stores nothing."""
    cast.most = 0
    client.create_transform_job(**job())
    client.stop_transform_job(TransformJobName="j")
    cast.most = 1

    found = client.describe_transform_job(TransformJobName="j")
    assert found["TransformJobStatus"] == "Stopping"
    assert settled(client)["TransformJobStatus"] == "Stopped"
    assert outputs(bucket) == {}
    assert cast.running == []


def test_lists(client: Any, bucket: Any, doubler: Doubler) -> None:
    """Jobs are listed newest first, and by status."""
    for name in ("a", "b"):
        client.create_transform_job(**job(TransformJobName=name))
    settled(client, "a")

    def names(**request: Any) -> list[str]:
        found = client.list_transform_jobs(**request)["TransformJobSummaries"]
        return [one["TransformJobName"] for one in found]

    assert names() == ["b", "a"]
    assert names(StatusEquals="Completed") == ["a"]


def test_a_reset_forgets(
    client: Any, bucket: Any, doubler: Doubler, backend: SageMakerBackend, cast: Any
) -> None:
    """moto's reset ends every job."""
    cast.most = 0
    client.create_transform_job(**job())

    backend.reset()

    assert cast.running == []
    with pytest.raises(Refused, match="Could not find transform job"):
        backend.transforms.get("j")
