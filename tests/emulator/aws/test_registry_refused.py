"""What the model registry refuses, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

REGION = "us-east-1"
ACCOUNT = "123456789012"
PREFIX = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
PACKAGE = f"{PREFIX}:model-package/churn"
MODEL = "the service model of botocore"
SDK = "https://github.com/aws/sagemaker-python-sdk (model_registry.py)"
MOTO = "https://github.com/getmoto/moto/pull/7165"
DATA = "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3ModelDataSource.html"
TERRAFORM = "https://github.com/hashicorp/terraform-provider-aws internal/service/sagemaker"
TAGS = "https://docs.aws.amazon.com/general/latest/gr/aws_tagging.html"
FILTER = "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Filter.html"
SUMMARIES = "ModelPackageSummaryList"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request to a registry with the group ``churn``, its version 1, and the model ``m1``."""

    id: str
    call: str
    code: str = "ValidationException"
    words: str
    source: str
    request: dict[str, Any] = field(default_factory=dict)


def data(uri: str, kind: str, compression: str) -> dict[str, Any]:
    source = {"S3Uri": uri, "S3DataType": kind, "CompressionType": compression}
    return {"ModelDataSource": {"S3DataSource": source}}


def spec(**container: Any) -> dict[str, Any]:
    return {"Containers": [{"Image": "i", **container}]}


def version(**more: Any) -> dict[str, Any]:
    return {"ModelPackageGroupName": "churn", "InferenceSpecification": spec(), **more}


def named(count: int) -> list[dict[str, Any]]:
    return [{"Name": f"n{number}", **spec()} for number in range(count)]


CASES = [
    Case(
        id="group twice",
        call="create_model_package_group",
        request={"ModelPackageGroupName": "churn"},
        words=f"Model Package Group already exists: {PREFIX}:model-package-group/churn",
        source=SDK,
    ),
    Case(
        id="group with a reserved tag",
        call="create_model_package_group",
        request={"ModelPackageGroupName": "g", "Tags": [{"Key": "aws:x", "Value": ""}]},
        words="aws:",
        source=TAGS,
    ),
    *(
        Case(
            id=f"{call} of no group",
            call=call,
            request={"ModelPackageGroupName": "none", **more},
            words=f"ModelPackageGroup {PREFIX}:model-package-group/none does not exist.",
            source=TERRAFORM,
        )
        for call, more in (
            ("describe_model_package_group", {}),
            ("delete_model_package_group", {}),
            ("put_model_package_group_policy", {"ResourcePolicy": "{}"}),
            ("get_model_package_group_policy", {}),
            ("delete_model_package_group_policy", {}),
            ("list_model_packages", {}),
            ("create_model_package", {"InferenceSpecification": spec()}),
        )
    ),
    Case(
        id="group of another account",
        call="describe_model_package_group",
        request={
            "ModelPackageGroupName": (
                f"arn:aws:sagemaker:{REGION}:999999999999:model-package-group/churn"
            )
        },
        words=":999999999999:model-package-group/churn does not exist.",
        source=MODEL,
    ),
    Case(
        id="group with versions is not deleted",
        call="delete_model_package_group",
        request={"ModelPackageGroupName": "churn"},
        code="ConflictException",
        words="has Model Packages",
        source=MODEL,
    ),
    Case(
        id="no policy",
        call="get_model_package_group_policy",
        request={"ModelPackageGroupName": "churn"},
        words=f"Cannot find resource policy for: {PREFIX}:model-package-group/churn",
        source=TERRAFORM,
    ),
    Case(
        id="no policy to delete",
        call="delete_model_package_group_policy",
        request={"ModelPackageGroupName": "churn"},
        words="Cannot find resource policy for",
        source=TERRAFORM,
    ),
    *(
        Case(
            id=f"policy {policy}",
            call="put_model_package_group_policy",
            request={"ModelPackageGroupName": "churn", "ResourcePolicy": policy},
            words="not valid JSON",
            source=MODEL,
        )
        for policy in ("nonsense", "[]", '{"Statement":')
    ),
    Case(
        id="package and group",
        call="create_model_package",
        request=version(ModelPackageName="p"),
        words="Both ModelPackageName and ModelPackageGroupName are provided in the input. "
        "Cannot determine which one to use.",
        source=MOTO,
    ),
    Case(
        id="neither package nor group",
        call="create_model_package",
        request={"InferenceSpecification": spec()},
        words="Missing ARN.",
        source=MOTO,
    ),
    Case(
        id="tags on a version",
        call="create_model_package",
        request=version(Tags=[{"Key": "k", "Value": "v"}]),
        words="Tags cannot be supplied for a versioned model package",
        source=MODEL,
    ),
    Case(
        id="source beside a specification",
        call="create_model_package",
        request=version(SourceUri="git://repo"),
        words="SourceUri and InferenceSpecification cannot be specified together",
        source=SDK,
    ),
    Case(
        id="source is no package",
        call="create_model_package",
        request={"ModelPackageGroupName": "churn", "SourceUri": f"{PACKAGE}/99"},
        words=f"ModelPackage {PACKAGE}/99 does not exist.",
        source=MODEL,
    ),
    Case(
        id="source is no model",
        call="create_model_package",
        request={"ModelPackageGroupName": "churn", "SourceUri": f"{PREFIX}:model/none"},
        words=f'Could not find model "{PREFIX}:model/none".',
        source=MODEL,
    ),
    Case(
        id="prefix without a slash",
        call="create_model_package",
        request=version(InferenceSpecification=spec(**data("s3://b/k", "S3Prefix", "None"))),
        words="S3Uri s3://b/k must end with a forward slash (/) when S3DataType is S3Prefix",
        source=DATA,
    ),
    Case(
        id="compressed prefix",
        call="create_model_package",
        request=version(InferenceSpecification=spec(**data("s3://b/k/", "S3Prefix", "Gzip"))),
        words="Gzip requires S3DataType S3Object",
        source=DATA,
    ),
    Case(
        id="object that is a prefix",
        call="create_model_package",
        request=version(InferenceSpecification=spec(**data("s3://b/k/", "S3Object", "None"))),
        words="must not end with a forward slash",
        source=DATA,
    ),
    Case(
        id="two kinds of data",
        call="create_model_package",
        request=version(
            InferenceSpecification=spec(
                ModelDataUrl="s3://b/m.tar.gz", **data("s3://b/k/", "S3Prefix", "None")
            )
        ),
        words="ModelDataUrl or ModelDataSource",
        source=DATA,
    ),
    *(
        Case(
            id=f"model card {content!r}",
            call="create_model_package",
            request=version(ModelCard={"ModelCardContent": content, "ModelCardStatus": "Draft"}),
            words="not a valid model card",
            source=MODEL,
        )
        for content in ("nonsense", "[1]")
    ),
    Case(
        id="unversioned package with an approval",
        call="create_model_package",
        request={
            "ModelPackageName": "p",
            "InferenceSpecification": spec(),
            "ModelApprovalStatus": "Approved",
        },
        words="not applicable to unversioned models",
        source=MODEL,
    ),
    *(
        Case(
            id=f"{call} of no package",
            call=call,
            request={key: f"{PACKAGE}/99"},
            words=f"ModelPackage {PACKAGE}/99 does not exist.",
            source="quoted by users of DescribeModelPackage",
        )
        for call, key in (
            ("describe_model_package", "ModelPackageName"),
            ("delete_model_package", "ModelPackageName"),
            ("update_model_package", "ModelPackageArn"),
        )
    ),
    Case(
        id="metadata beyond 50 in all",
        call="update_model_package",
        request={
            "ModelPackageArn": f"{PACKAGE}/1",
            "CustomerMetadataProperties": {f"k{number}": "v" for number in range(50)},
        },
        words="at most 50 customer metadata properties; there would be 51",
        source=MODEL,
    ),
    Case(
        id="additional specifications beyond 15 in all",
        call="update_model_package",
        request={
            "ModelPackageArn": f"{PACKAGE}/1",
            "AdditionalInferenceSpecificationsToAdd": [*named(14), {"Name": "last", **spec()}],
        },
        words="can not exceed 15; there would be 16",
        source=MODEL,
    ),
    Case(
        id="additional specification twice",
        call="update_model_package",
        request={
            "ModelPackageArn": f"{PACKAGE}/1",
            "AdditionalInferenceSpecificationsToAdd": [{"Name": "base", **spec()}],
        },
        words="must be unique",
        source=MODEL,
    ),
    Case(
        id="additional specification with broken data",
        call="update_model_package",
        request={
            "ModelPackageArn": f"{PACKAGE}/1",
            "AdditionalInferenceSpecificationsToAdd": [
                {"Name": "x", **spec(**data("s3://b/k", "S3Prefix", "None"))}
            ],
        },
        words="must end with a forward slash",
        source=DATA,
    ),
    Case(
        id="update with a broken card",
        call="update_model_package",
        request={
            "ModelPackageArn": f"{PACKAGE}/1",
            "ModelCard": {"ModelCardContent": "x", "ModelCardStatus": "Draft"},
        },
        words="not a valid model card",
        source=MODEL,
    ),
    Case(
        id="tags on a version later",
        call="add_tags",
        request={"ResourceArn": f"{PACKAGE}/1", "Tags": [{"Key": "k", "Value": "v"}]},
        words="not supported for versioned model packages",
        source=MODEL,
    ),
    Case(
        id="tags of a version",
        call="list_tags",
        request={"ResourceArn": f"{PACKAGE}/1"},
        words="not supported for versioned model packages",
        source=MODEL,
    ),
    Case(
        id="tags of no group",
        call="add_tags",
        request={
            "ResourceArn": f"{PREFIX}:model-package-group/none",
            "Tags": [{"Key": "k", "Value": "v"}],
        },
        words="does not exist",
        source=MODEL,
    ),
    Case(
        id="tags of no endpoint",
        call="list_tags",
        request={"ResourceArn": f"{PREFIX}:endpoint/none"},
        words="Could not find endpoint",
        source=MODEL,
    ),
    Case(
        id="tags of a group elsewhere",
        call="list_tags",
        request={"ResourceArn": f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:model-package-group/churn"},
        words="Could not find resource",
        source=MODEL,
    ),
    Case(
        id="tags beyond 50 in all",
        call="add_tags",
        request={
            "ResourceArn": f"{PREFIX}:model-package-group/churn",
            "Tags": [{"Key": f"k{number}", "Value": ""} for number in range(50)],
        },
        words="at most 50 tags; there would be 51",
        source=TAGS,
    ),
    Case(
        id="token that is none",
        call="list_model_packages",
        request={"ModelPackageGroupName": "churn", "NextToken": "nonsense"},
        words="Invalid NextToken",
        source=MODEL,
    ),
    Case(
        id="search for what is not comparable",
        call="search",
        request={
            "Resource": "ModelPackage",
            "SearchExpression": {
                "Filters": [
                    {"Name": "ModelPackageVersion", "Operator": "GreaterThan", "Value": "x"}
                ]
            },
        },
        words="cannot be compared",
        source=FILTER,
    ),
    Case(
        id="search that exists with a value",
        call="search",
        request={
            "Resource": "ModelPackage",
            "SearchExpression": {
                "Filters": [{"Name": "ModelCard", "Operator": "Exists", "Value": "x"}]
            },
        },
        words="Value must not be specified with the operator Exists",
        source=FILTER,
    ),
    Case(
        id="search that equals nothing",
        call="search",
        request={
            "Resource": "ModelPackage",
            "SearchExpression": {"Filters": [{"Name": "ModelPackageArn", "Operator": "Equals"}]},
        },
        words="Value must be specified with the operator Equals",
        source=FILTER,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refusals(case: Case, client: Any, make: Any, refused: Callable[..., str]) -> None:
    """What SageMaker refuses is refused with its code and words, and changes nothing."""
    make.group(Tags=[{"Key": "team", "Value": "risk"}])
    make.model()
    arn = make.package(
        CustomerMetadataProperties={"sha256": "ab"},
        AdditionalInferenceSpecifications=[{"Name": "base", **spec()}],
    )
    before = client.describe_model_package(ModelPackageName=arn)

    refused(getattr(client, case.call), case.code, case.words, **case.request)

    assert case.source
    after = client.describe_model_package(ModelPackageName=arn)
    assert _body(after) == _body(before)
    assert client.list_tags(ResourceArn=f"{PREFIX}:model-package-group/churn")["Tags"] == [
        {"Key": "team", "Value": "risk"}
    ]
    assert len(client.list_model_packages(ModelPackageGroupName="churn")[SUMMARIES]) == 1


def _body(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}
