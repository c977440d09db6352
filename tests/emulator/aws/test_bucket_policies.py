"""Policies of buckets that speak of everybody, and who is told by a budget."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.aws import aws

BUCKET = "ours"


@pytest.fixture
def s3() -> Iterator[Any]:
    with aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client


def put(s3: Any, *statements: dict[str, Any]) -> None:
    usual = {"Effect": "Deny", "Principal": "*", "Resource": f"arn:aws:s3:::{BUCKET}/ledger/*"}
    document = {"Version": "2012-10-17", "Statement": [{**usual, **one} for one in statements]}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(document))


def refused(call: Any, **arguments: Any) -> bool:
    try:
        call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return True
    return False


def test_written_once(s3: Any) -> None:
    """Where writes must be conditional, others are refused; parts are not asked for a condition."""
    put(
        s3,
        {
            "Action": "s3:PutObject",
            "Condition": {
                "Null": {"s3:if-none-match": "true"},
                "Bool": {"s3:ObjectCreationOperation": "true"},
            },
        },
    )

    assert refused(s3.put_object, Key="ledger/1", Body=b"a")
    assert not refused(s3.put_object, Key="ledger/1", Body=b"a", IfNoneMatch="*")
    assert not refused(s3.put_object, Key="other", Body=b"a")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="ledger/2")["UploadId"]
    of = {"Key": "ledger/2", "UploadId": upload}
    etag = s3.upload_part(Bucket=BUCKET, **of, PartNumber=1, Body=b"a")["ETag"]
    parts = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}}
    assert refused(s3.complete_multipart_upload, **of, **parts)
    assert not refused(s3.complete_multipart_upload, **of, **parts, IfNoneMatch="*")


def test_kept(s3: Any) -> None:
    """Nobody deletes what everybody is forbidden to, alone or among others; reads go on."""
    s3.put_object(Bucket=BUCKET, Key="ledger/1", Body=b"a")
    put(s3, {"Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"]})

    assert refused(s3.delete_object, Key="ledger/1")
    said = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "ledger/1"}]})
    assert [error["Code"] for error in said["Errors"]] == ["AccessDenied"]
    assert s3.get_object(Bucket=BUCKET, Key="ledger/1")["Body"].read() == b"a"


def test_statements_that_do_not_hold(s3: Any) -> None:
    """TLS is there, somebody is nobody here, and a condition that is not understood is left out."""
    put(
        s3,
        {"Action": "s3:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        {"Action": "s3:*", "Principal": {"AWS": "arn:aws:iam::123456789012:role/x"}},
        {"Action": "s3:*", "Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
    )

    assert not refused(s3.put_object, Key="ledger/1", Body=b"a")


def test_told_by_a_budget() -> None:
    """A budget keeps whom it tells, by notification, and its tags."""
    budget = {
        "BudgetName": "models",
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": "10", "Unit": "USD"},
    }
    notification = {
        "NotificationType": "ACTUAL",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": 80.0,
        "ThresholdType": "PERCENTAGE",
    }
    told = [{"SubscriptionType": "EMAIL", "Address": "boss@example.com"}]
    account = {"AccountId": "123456789012"}
    with aws():
        client = boto3.client("budgets", region_name="us-east-1")
        client.create_budget(
            **account,
            Budget=budget,
            NotificationsWithSubscribers=[{"Notification": notification, "Subscribers": told}],
            ResourceTags=[{"Key": "team", "Value": "risk"}],
        )
        asked = {**account, "BudgetName": "models"}
        said = client.describe_subscribers_for_notification(**asked, Notification=notification)
        assert said["Subscribers"] == told
        other = {**notification, "Threshold": 90.0}
        with pytest.raises(client.exceptions.NotFoundException):
            client.describe_subscribers_for_notification(**asked, Notification=other)

        arn = "arn:aws:budgets::123456789012:budget/models"
        client.tag_resource(ResourceARN=arn, ResourceTags=[{"Key": "a", "Value": "b"}])
        client.untag_resource(ResourceARN=arn, ResourceTagKeys=["team"])
        tags = client.list_tags_for_resource(ResourceARN=arn)["ResourceTags"]
        assert tags == [{"Key": "a", "Value": "b"}]
