"""Storage Transfer Service: what it takes, what it refuses, and what it copies.

Sources: https://cloud.google.com/storage-transfer/docs/reference/rest/v1/transferJobs,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/TransferSpec,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/ObjectConditions
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest

from cloudreg_emulator.aws.server import AwsServer
from cloudreg_emulator.faults import Fault, Kind
from cloudreg_emulator.google.emulator import Google

PROJECT = "emulated-project"
ROLE = "arn:aws:iam::123456789012:role/reader"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Federated": "accounts.google.com"},
            "Action": "sts:AssumeRoleWithWebIdentity",
        }
    ],
}


class Desk:
    """An emulated Google Cloud beside an emulated S3."""

    def __init__(self, google: Google, aws: AwsServer) -> None:
        self.google, self.aws = google, aws
        self.http = httpx.Client(base_url=f"{google.url}/v1")
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "s", "region_name": "us-east-1"}
        self.s3 = boto3.client("s3", endpoint_url=aws.url, **keys)
        self.iam = boto3.client("iam", endpoint_url=aws.url, **keys)
        self.s3.create_bucket(Bucket="theirs")
        self.iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(TRUST))
        self.iam.create_role(
            RoleName="stranger", AssumeRolePolicyDocument=json.dumps({**TRUST, "Statement": []})
        )
        for name in ("source", "sink"):
            google.storage.create_bucket(name, {"location": "US-CENTRAL1"}, project=PROJECT)

    def close(self) -> None:
        for client in (self.http, self.s3, self.iam):
            client.close()

    def list(self, kind: str, **asked: Any) -> httpx.Response:
        """List jobs or operations, by a filter."""
        return self.http.get(kind, params={"filter": json.dumps({"projectId": PROJECT, **asked})})

    def create(self, **change: Any) -> httpx.Response:
        return self.http.post("transferJobs", json={**job(), **change})

    def begin(self, **change: Any) -> str:
        """Create a job and run it, and return the operation's name."""
        made = self.create(**change)
        assert made.status_code == 200, made.text
        return self.run(made.json()["name"])

    def run(self, name: str) -> str:
        answer = self.http.post(f"{name}:run", json={"projectId": PROJECT})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["name"])

    def ended(self, operation: str) -> dict[str, Any]:
        for _ in range(10):
            found: dict[str, Any] = self.http.get(operation).json()
            if found.get("done"):
                return found
        raise AssertionError(found)

    def put(self, bucket: str, name: str, data: bytes) -> None:
        answer = self.http.post(
            f"{self.google.url}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": name},
            content=data,
        )
        assert answer.status_code == 200, answer.text

    def read(self, bucket: str, name: str) -> bytes | None:
        answer = self.http.get(f"{self.google.url}/{bucket}/{name}")
        return answer.content if answer.status_code == 200 else None


def job(**spec: Any) -> dict[str, Any]:
    """Return a job from one bucket to the other."""
    return {
        "projectId": PROJECT,
        "status": "ENABLED",
        "transferSpec": {
            "gcsDataSource": {"bucketName": "source", "path": "a/"},
            "gcsDataSink": {"bucketName": "sink", "path": "b/"},
            **spec,
        },
    }


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with AwsServer() as aws, Google(polls=1, s3=aws.url) as google:
        made = Desk(google, aws)
        yield made
        made.close()


def refused(answer: httpx.Response, code: str) -> str:
    error = answer.json()["error"]
    assert error["status"] == code, error
    return str(error["message"])


def test_copies_what_is_included(desk: Desk) -> None:
    """Of the source's folder the prefixes go to the sink's, and nothing else; counters tell."""
    for name in ("a/x/1", "a/x/2", "a/y/1", "z/x/1"):
        desk.put("source", name, name.encode())
    operation = desk.begin(**job(objectConditions={"includePrefixes": ["x/"]}))
    first = desk.http.get(operation).json()
    assert first["metadata"]["status"] == "IN_PROGRESS"
    assert "done" not in first
    found = desk.ended(operation)

    assert found["metadata"]["status"] == "SUCCESS"
    assert found["metadata"]["counters"]["objectsCopiedToSink"] == "2"
    assert found["metadata"]["counters"]["bytesCopiedToSink"] == "10"
    assert desk.read("sink", "b/x/1") == b"a/x/1"
    assert desk.read("sink", "b/y/1") is None


@pytest.mark.parametrize(
    ("when", "wanted"),
    [(None, b"new"), ("DIFFERENT", b"new"), ("NEVER", b"old"), ("ALWAYS", b"new")],
)
def test_what_is_there(desk: Desk, when: str | None, wanted: bytes) -> None:
    """What is there and differs is overwritten, unless the job says never."""
    desk.put("source", "a/there", b"new")
    desk.put("sink", "b/there", b"old")
    options = {"transferOptions": {"overwriteWhen": when}} if when else {}
    found = desk.ended(
        desk.begin(**job(objectConditions={"includePrefixes": ["there"]}, **options))
    )

    assert desk.read("sink", "b/there") == wanted
    skipped = found["metadata"]["counters"].get("objectsFromSourceSkippedBySync", "0")
    assert skipped == ("1" if wanted == b"old" else "0")


def test_from_s3(desk: Desk) -> None:
    """S3 is read by a role that trusts Google; another one is an error of the operation."""
    desk.s3.put_object(Bucket="theirs", Key="models/blobs/1", Body=b"weights")
    spec = {
        "awsS3DataSource": {"bucketName": "theirs", "path": "models/", "roleArn": ROLE},
        "gcsDataSink": {"bucketName": "sink", "path": "s3/"},
        "objectConditions": {"includePrefixes": ["blobs/1"]},
    }
    assert desk.ended(desk.begin(transferSpec=spec))["metadata"]["status"] == "SUCCESS"
    assert desk.read("sink", "s3/blobs/1") == b"weights"
    for role in ("stranger", "nobody"):
        spec["awsS3DataSource"]["roleArn"] = ROLE.replace("reader", role)
        found = desk.ended(desk.begin(transferSpec=spec))
        assert found["metadata"]["status"] == "FAILED"
        assert found["error"]["code"] == 7


def test_one_operation_at_a_time(desk: Desk) -> None:
    """A job that runs is not run again; its latest operation is told; then it may."""
    made = desk.create().json()
    operation = desk.run(made["name"])
    again = desk.http.post(f"{made['name']}:run", json={"projectId": PROJECT})
    refused(again, "FAILED_PRECONDITION")
    shown = desk.http.get(made["name"], params={"projectId": PROJECT}).json()
    assert shown["latestOperationName"] == operation
    desk.ended(operation)
    assert desk.run(made["name"]) != operation


def test_names(desk: Desk) -> None:
    """A name is taken once, deleted or not; without one the service gives one."""
    named = desk.create(name="transferJobs/mine-0")
    assert named.json()["name"] == "transferJobs/mine-0"
    refused(desk.create(name="transferJobs/mine-0"), "ALREADY_EXISTS")
    deleted = desk.http.patch(
        "transferJobs/mine-0",
        json={
            "projectId": PROJECT,
            "transferJob": {"status": "DELETED"},
            "updateTransferJobFieldMask": "status",
        },
    )
    assert deleted.json()["status"] == "DELETED"
    refused(desk.create(name="transferJobs/mine-0"), "ALREADY_EXISTS")
    run = desk.http.post("transferJobs/mine-0:run", json={"projectId": PROJECT})
    refused(run, "FAILED_PRECONDITION")
    assert desk.create().json()["name"].startswith("transferJobs/")


def test_lists(desk: Desk) -> None:
    """Jobs and operations are listed by a filter that names the project, page by page."""
    names = [f"transferJobs/listed-{number}" for number in range(3)]
    for name in names:
        desk.create(name=name)
    operation = desk.run(names[1])
    (running,) = desk.list("transferOperations", jobNames=names).json()["operations"]
    assert running["name"] == operation
    desk.ended(operation)
    assert desk.list(
        "transferOperations", jobNames=names, transferStatuses=["IN_PROGRESS"]
    ).json() == {}  # fmt: skip

    asked = {"filter": json.dumps({"projectId": PROJECT, "jobNames": names}), "pageSize": 2}
    first = desk.http.get("transferJobs", params=asked).json()
    rest = desk.http.get(
        "transferJobs", params={**asked, "pageToken": first["nextPageToken"]}
    ).json()
    assert [job["name"] for job in first["transferJobs"] + rest["transferJobs"]] == names
    assert "nextPageToken" not in rest
    assert desk.list("transferJobs", jobNames=names, jobStatuses=["deleted"]).json() == {}
    for params in ({}, {"filter": "x"}, {"filter": "{}"}, {**asked, "pageSize": 257}, {"a": "b"}):
        refused(desk.http.get("transferJobs", params=params), "INVALID_ARGUMENT")
    refused(desk.list("transferJobs", operationNames=[]), "INVALID_ARGUMENT")
    refused(desk.list("transferOperations", jobNames="one"), "INVALID_ARGUMENT")


def test_cancelled(desk: Desk) -> None:
    """An operation that is cancelled copies nothing; one that is over stays what it was."""
    desk.put("source", "a/cancelled", b"never")
    operation = desk.begin(**job(objectConditions={"includePrefixes": ["cancelled"]}))
    assert desk.http.post(f"{operation}:cancel").json() == {}
    found = desk.ended(operation)
    assert found["metadata"]["status"] == "ABORTED"
    assert found["error"]["code"] == 1
    assert desk.read("sink", "b/cancelled") is None
    over = desk.begin()
    before = desk.ended(over)
    assert desk.http.post(f"{over}:cancel").status_code == 200
    assert desk.http.get(over).json() == before


def test_objects_that_are_not_given_out(desk: Desk) -> None:
    """An object that S3 refuses fails alone; the operation says which, and why."""
    for name in ("one", "two"):
        desk.s3.put_object(Bucket="theirs", Key=f"partly/{name}", Body=name.encode())
    desk.aws.faults.arm(Fault(kind=Kind.DENIED, service="s3", operation="GetObject"))
    found = desk.ended(
        desk.begin(
            transferSpec={
                "awsS3DataSource": {"bucketName": "theirs", "path": "partly/", "roleArn": ROLE},
                "gcsDataSink": {"bucketName": "sink", "path": "partly/"},
            }
        )
    )
    assert found["metadata"]["status"] == "FAILED"
    assert found["metadata"]["counters"]["objectsFromSourceFailed"] == "1"
    (entry,) = found["metadata"]["errorBreakdowns"][0]["errorLogEntries"]
    assert entry["url"] == "s3://theirs/partly/one"
    assert "AccessDenied" in entry["errorDetails"][0]
    assert desk.read("sink", "partly/two") == b"two"


MANY = [f"p{number}" for number in range(1001)]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"colour": "red"}, "INVALID_ARGUMENT", "colour"),
        ({"projectId": ""}, "INVALID_ARGUMENT", "project_id is required"),
        ({"projectId": "another-project"}, "PERMISSION_DENIED", "another-project"),
        ({"status": None}, "INVALID_ARGUMENT", "status must be specified"),
        ({"name": "jobs/mine"}, "INVALID_ARGUMENT", "job name"),
        ({"name": "transferJobs/OPI1"}, "INVALID_ARGUMENT", "job name"),
        ({"name": "transferJobs/" + "x" * 120}, "INVALID_ARGUMENT", "job name"),
        ({"transferSpec": None}, "INVALID_ARGUMENT", "transferSpec is required"),
        (job(gcsDataSink={"bucketName": "sink", "colour": 1}), "INVALID_ARGUMENT", "colour"),
        (job(gcsDataSink={}), "INVALID_ARGUMENT", "bucketName is required"),
        (job(gcsDataSink={"bucketName": "sink", "path": "b"}), "INVALID_ARGUMENT", "end with '/'"),
        (job(gcsDataSource={"bucketName": "source", "path": "/a/"}), "INVALID_ARGUMENT", "path"),
        (
            job(awsS3DataSource={"bucketName": "theirs", "roleArn": ROLE}),
            "INVALID_ARGUMENT",
            "one source",
        ),
        (job(objectConditions={"includePrefixes": MANY}), "INVALID_ARGUMENT", "1000 at most"),
        (job(objectConditions={"includePrefixes": [""]}), "INVALID_ARGUMENT", "invalid"),
        (job(objectConditions={"includePrefixes": ["/x"]}), "INVALID_ARGUMENT", "leading slash"),
        (job(objectConditions={"includePrefixes": ["x", "x/y"]}), "INVALID_ARGUMENT", "prefix of"),
        (job(objectConditions={"includePrefixes": ["x" * 1025]}), "INVALID_ARGUMENT", "invalid"),
        (job(transferOptions={"overwriteWhen": "OFTEN"}), "INVALID_ARGUMENT", "overwriteWhen"),
    ],
)
def test_refused(desk: Desk, change: dict[str, Any], code: str, words: str) -> None:
    """What the service refuses is refused, and no job is made."""
    before = len(desk.google.transfers._jobs)
    assert words in refused(desk.create(**change), code)
    assert len(desk.google.transfers._jobs) == before


def test_nothing_is_there(desk: Desk) -> None:
    """Jobs and operations that are not there are NOT_FOUND; other methods are not emulated."""
    refused(desk.http.get("transferJobs/none", params={"projectId": PROJECT}), "NOT_FOUND")
    refused(desk.http.get("transferOperations/none"), "NOT_FOUND")
    refused(desk.http.delete("transferJobs/none"), "UNIMPLEMENTED")
    account = desk.http.get(f"googleServiceAccounts/{PROJECT}").json()
    assert account["accountEmail"].endswith("@storage-transfer-service.iam.gserviceaccount.com")
    assert account["subjectId"].isdigit()


@pytest.mark.parametrize(
    ("kind", "status"), [(Kind.THROTTLE, 429), (Kind.EXPIRED, 401), (Kind.DENIED, 403)]
)
def test_faults(desk: Desk, kind: Kind, status: int) -> None:
    """Faults strike by the service's own name, are counted, and do nothing."""
    before = len(desk.google.transfers._jobs)
    armed = desk.google.faults.arm(
        Fault(kind=kind, service="storagetransfer", operation="transferJobs.create")
    )
    assert desk.create().status_code == status
    assert armed.struck == 1
    assert len(desk.google.transfers._jobs) == before


def test_operations_that_fail_or_stand_still(desk: Desk) -> None:
    """An operation fails for a reason, or takes longer than it should."""
    desk.google.faults.arm(Fault(kind=Kind.FAILED, service="storagetransfer", reason="internal"))
    found = desk.ended(desk.begin())
    assert found["error"]["code"] == 13
    desk.google.faults.arm(Fault(kind=Kind.STUCK, service="storagetransfer", seconds=3600.0))
    operation = desk.begin()
    for _ in range(5):
        assert "done" not in desk.http.get(operation).json()
