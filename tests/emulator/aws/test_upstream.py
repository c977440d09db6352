"""What moto still lacks: each test turns red once upstream closes the hole.

Then the mark goes, and what stands for it in ``cloudreg_emulator.aws`` may go too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

BUCKET = "bucket"

# One session for all: what it costs to make a client is mostly reading the service's model.
SESSION = boto3.session.Session(
    aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
)


def notyet(what: str, raises: type[BaseException] = pytest.fail.Exception) -> Any:
    """Mark what upstream must do, and how its lack shows: most often nothing is refused."""
    return pytest.mark.xfail(strict=True, reason=f"moto 5.2.5: {what}", raises=raises)


@pytest.fixture
def s3() -> Iterator[Any]:
    """The S3 of plain moto."""
    with mock_aws():
        config = Config(request_checksum_calculation="when_required")
        client = SESSION.client("s3", config=config)
        client.create_bucket(Bucket=BUCKET)
        yield client


def refused(act: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        act(Bucket=BUCKET, Key="k", **request)
    return str(caught.value.response["Error"]["Code"])


@notyet("several writers may win", AssertionError)
def test_conditional_race() -> None:
    """The check of a condition and the write are one step."""
    from moto.s3.models import S3Backend

    meeting = threading.Barrier(2)

    class Slow(S3Backend):
        """A backend whose writers meet between the check and the write."""

        def put_object(self, *args: Any, **kwargs: Any) -> Any:
            with suppress(threading.BrokenBarrierError):
                meeting.wait(0.5)
            return super().put_object(*args, **kwargs)

    from moto.s3.models import s3_backends

    s3_backends.backend = Slow
    won: list[int] = []
    try:
        with mock_aws():
            client = SESSION.client("s3")
            client.create_bucket(Bucket=BUCKET)

            def write(number: int) -> None:
                try:
                    client.put_object(Bucket=BUCKET, Key="k", Body=b"x", IfNoneMatch="*")
                except ClientError:
                    return
                won.append(number)

            threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        s3_backends.backend = S3Backend

    assert len(won) == 1


@notyet("checksums are stored unseen")
@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256"])
def test_wrong_checksum(s3: Any, algorithm: str) -> None:
    """A wrong checksum is refused."""
    wrong = base64.b64encode(hashlib.new(algorithm.lower(), b"wrong").digest()).decode()

    more = {f"Checksum{algorithm}": wrong}
    assert refused(s3.put_object, Body=b"right", **more) == "BadDigest"


@notyet("Content-MD5 is not looked at")
def test_wrong_md5(s3: Any) -> None:
    """A wrong Content-MD5 is refused."""
    wrong = base64.b64encode(hashlib.md5(b"wrong").digest()).decode()

    assert refused(s3.put_object, Body=b"right", ContentMD5=wrong) == "BadDigest"


@notyet("x-amz-expected-bucket-owner is not looked at")
def test_owner(s3: Any) -> None:
    """A bucket of somebody else's is refused."""
    stranger = "999999999999"

    assert refused(s3.put_object, Body=b"x", ExpectedBucketOwner=stranger) == "AccessDenied"


@notyet("CopyObject ignores conditions")
@pytest.mark.parametrize("more", [{"CopySourceIfMatch": "other"}, {"IfNoneMatch": "*"}])
def test_copy_conditions(s3: Any, more: dict[str, str]) -> None:
    """A copy whose condition does not hold is refused."""
    for key in ("source", "k"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    source = f"{BUCKET}/source"
    assert refused(s3.copy_object, CopySource=source, **more) == "PreconditionFailed"


@notyet("CompleteMultipartUpload answers without a checksum", KeyError)
def test_completed_checksum(s3: Any) -> None:
    """The end of an upload answers with the object's checksum."""
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm="SHA256")
    part = s3.upload_part(
        Bucket=BUCKET,
        Key="k",
        UploadId=begun["UploadId"],
        PartNumber=1,
        Body=b"x",
        ChecksumAlgorithm="SHA256",
    )

    done = s3.complete_multipart_upload(
        Bucket=BUCKET,
        Key="k",
        UploadId=begun["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )

    assert done["ChecksumSHA256"].endswith("-1")


@notyet("a part's number is compared with zero")
def test_order_of_parts(s3: Any) -> None:
    """Parts are listed in their order."""
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="k")
    parts = []
    for number, body in ((1, b"a" * (5 << 20)), (2, b"b" * (5 << 20))):
        part = s3.upload_part(
            Bucket=BUCKET, Key="k", UploadId=begun["UploadId"], PartNumber=number, Body=body
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})

    more = {"UploadId": begun["UploadId"], "MultipartUpload": {"Parts": parts[::-1]}}
    assert refused(s3.complete_multipart_upload, **more) == "InvalidPartOrder"


@notyet("an unknown upload is a KeyError", KeyError)
def test_unknown_upload(s3: Any) -> None:
    """A part of an unknown upload is refused."""
    more = {"UploadId": "none", "PartNumber": 1}

    assert refused(s3.upload_part, Body=b"x", **more) == "NoSuchUpload"


@notyet("FakeDeleteMarker has no dispose", AttributeError)
def test_delete_markers_can_be_removed(s3: Any) -> None:
    """A delete marker can be removed after versioning was suspended."""
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_object(Bucket=BUCKET, Key="k")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})

    s3.delete_object(Bucket=BUCKET, Key="k", VersionId="null")

    assert "Versions" not in s3.list_object_versions(Bucket=BUCKET)


@notyet("every statement of a bucket's policy holds", ClientError)
def test_conditions_of_policies(s3: Any) -> None:
    """A statement of a bucket's policy holds where its condition does."""
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
        "Condition": {"Null": {"s3:if-none-match": "true"}},
    }
    document = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(document))

    s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", IfNoneMatch="*")


@notyet("DescribeSubscribersForNotification is not known", NotImplementedError)
def test_who_is_told() -> None:
    """A budget tells whom it would tell."""
    account, name = "123456789012", "b"
    notification = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN"}
    with mock_aws():
        client = SESSION.client("budgets")
        limit = {"BudgetLimit": {"Amount": "1", "Unit": "USD"}}
        budget = {"BudgetName": name, "BudgetType": "COST", "TimeUnit": "MONTHLY", **limit}
        client.create_budget(AccountId=account, Budget=budget)
        client.describe_subscribers_for_notification(
            AccountId=account, BudgetName=name, Notification={**notification, "Threshold": 80.0}
        )


@notyet("every version is forgotten", AssertionError)
def test_suspended_versioning_keeps_versions(s3: Any) -> None:
    """A write to a suspended bucket keeps the versions that there are."""
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})

    s3.put_object(Bucket=BUCKET, Key="k", Body=b"2")

    assert len(s3.list_object_versions(Bucket=BUCKET)["Versions"]) == 2


@notyet("SimulatePrincipalPolicy is not known", NotImplementedError)
@mock_aws
def test_simulation() -> None:
    """A principal's policies can be asked what they allow."""
    iam = SESSION.client("iam")
    user = iam.create_user(UserName="u")["User"]["Arn"]
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=policy)

    answer = iam.simulate_principal_policy(PolicySourceArn=user, ActionNames=["s3:GetObject"])

    assert answer["EvaluationResults"][0]["EvalDecision"] == "allowed"


@notyet("66 instance types, among them no GPU younger than the T4", ClientError)
@mock_aws
def test_gpus() -> None:
    """GPUs of today can be asked for."""
    sagemaker = SESSION.client("sagemaker")
    variant = {
        "VariantName": "main",
        "ModelName": "m",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.g5.xlarge",
    }

    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])


@notyet("the list of model cards is taken for a resource", AttributeError)
@mock_aws
def test_tags_beside_a_model_card() -> None:
    """Tagged resources can be listed where a model card exists."""
    sagemaker = SESSION.client("sagemaker")
    sagemaker.create_model_card(ModelCardName="c", Content="{}", ModelCardStatus="Draft")

    SESSION.client("resourcegroupstaggingapi").get_resources()
