"""The model registry: what is registered, changed and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend

REGION = "us-east-1"
ACCOUNT = "123456789012"
PREFIX = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
PACKAGE = f"{PREFIX}:model-package/churn"
SUMMARIES = "ModelPackageSummaryList"


def spec(**container: Any) -> dict[str, Any]:
    return {"Containers": [{"Image": "i", **container}]}


def version(**more: Any) -> dict[str, Any]:
    return {"ModelPackageGroupName": "churn", "InferenceSpecification": spec(), **more}


def _body(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def test_a_group_reads_back(client: Any, make: Any) -> None:
    """A group is found by its name and its ARN, with what was said of it."""
    arn = make.group(ModelPackageGroupDescription="Churn, monthly")

    for reference in ("churn", arn):
        found = client.describe_model_package_group(ModelPackageGroupName=reference)
        assert found["ModelPackageGroupArn"] == arn == f"{PREFIX}:model-package-group/churn"
        assert found["ModelPackageGroupDescription"] == "Churn, monthly"
        assert found["ModelPackageGroupStatus"] == "Completed"
    [listed] = client.list_model_package_groups()["ModelPackageGroupSummaryList"]
    assert listed["ModelPackageGroupArn"] == arn
    client.delete_model_package_group(ModelPackageGroupName=arn)
    assert client.list_model_package_groups()["ModelPackageGroupSummaryList"] == []


def test_a_policy_reads_back(client: Any, make: Any) -> None:
    """A group's resource policy is returned as it was put, until it is deleted."""
    make.group()
    policy = json.dumps({"Version": "2012-10-17", "Statement": []}, indent=1)

    client.put_model_package_group_policy(ModelPackageGroupName="churn", ResourcePolicy=policy)

    found = client.get_model_package_group_policy(ModelPackageGroupName="churn")
    assert found["ResourcePolicy"] == policy
    client.delete_model_package_group_policy(ModelPackageGroupName="churn")
    with pytest.raises(ClientError, match="Cannot find resource policy"):
        client.get_model_package_group_policy(ModelPackageGroupName="churn")


EVERYTHING = {
    "ModelPackageDescription": "churn:1",
    "ModelApprovalStatus": "Rejected",
    "ModelPackageRegistrationType": "Logged",
    "MetadataProperties": {"CommitId": "abc", "GeneratedBy": "cloudreg"},
    "ModelMetrics": {
        "ModelQuality": {
            "Statistics": {"ContentType": "application/json", "S3Uri": "s3://b/metrics.json"}
        }
    },
    "CustomerMetadataProperties": {"digest": "sha256:ab"},
    "DriftCheckBaselines": {
        "ModelQuality": {"Statistics": {"ContentType": "text/csv", "S3Uri": "s3://b/base.csv"}}
    },
    "SkipModelValidation": "All",
    "SecurityConfig": {"KmsKeyId": "alias/models"},
    "ModelCard": {"ModelCardContent": '{"a": 1}', "ModelCardStatus": "Draft"},
    "ModelLifeCycle": {"Stage": "Development", "StageStatus": "InProgress"},
    "Domain": "MACHINE_LEARNING",
    "Task": "CLASSIFICATION",
    "SamplePayloadUrl": "s3://b/sample.json",
}


def test_every_field_of_a_version_reads_back(client: Any, make: Any) -> None:
    """Nothing that was registered is dropped: moto drops half of it."""
    make.group()
    wanted = make.specification(Environment={"A": "1"})

    arn = make.package(InferenceSpecification=wanted, **EVERYTHING)

    found = client.describe_model_package(ModelPackageName=arn)
    assert {key: found[key] for key in EVERYTHING} == EVERYTHING
    assert found["InferenceSpecification"] == wanted
    assert found["ModelPackageStatus"] == "Completed"
    assert found["ModelPackageVersion"] == 1
    assert client.describe_model_package(ModelPackageName="churn/1")["ModelPackageArn"] == arn


def test_metadata_alone(client: Any, make: Any) -> None:
    """IncludedData=MetadataOnly leaves out what is heavy."""
    make.group()
    arn = make.package(**EVERYTHING)

    found = client.describe_model_package(ModelPackageName=arn, IncludedData="MetadataOnly")

    assert "InferenceSpecification" not in found
    assert found["CustomerMetadataProperties"] == {"digest": "sha256:ab"}


def test_a_new_version_waits_for_approval(client: Any, make: Any) -> None:
    """A version is PendingManualApproval where nobody says anything else."""
    make.group()

    found = client.describe_model_package(ModelPackageName=make.package())

    assert found["ModelApprovalStatus"] == "PendingManualApproval"
    assert found["ModelPackageRegistrationType"] == "Registered"


def test_numbers_are_never_given_twice(client: Any, make: Any) -> None:
    """A deleted version's number is not used again, nor is that of a deleted group."""
    make.group()
    make.package()
    last = make.package()
    client.delete_model_package(ModelPackageName=last)

    third = make.package()
    assert third == f"{PACKAGE}/3"

    client.delete_model_package(ModelPackageName=f"{PACKAGE}/1")
    client.delete_model_package(ModelPackageName=third)
    client.delete_model_package_group(ModelPackageGroupName="churn")
    make.group()
    assert make.package() == f"{PACKAGE}/4"


def test_a_token_makes_a_version_once(client: Any, make: Any) -> None:
    """The same token with the same request returns the version that there is."""
    make.group()
    first = make.package(ClientToken="t-1")

    assert make.package(ClientToken="t-1") == first
    assert make.package(ClientToken="t-2") == f"{PACKAGE}/2"
    assert len(client.list_model_packages(ModelPackageGroupName="churn")[SUMMARIES]) == 2


def test_a_token_with_another_request(client: Any, make: Any, refused: Callable[..., str]) -> None:
    """The same token with another request is a conflict, and makes no version."""
    make.group()
    make.package(ClientToken="t-1")

    refused(
        client.create_model_package,
        "ConflictException",
        "ClientToken t-1",
        ClientToken="t-1",
        **version(ModelPackageDescription="another"),
    )

    assert len(client.list_model_packages(ModelPackageGroupName="churn")[SUMMARIES]) == 1


def test_a_token_of_a_deleted_version(client: Any, make: Any) -> None:
    """A token whose version is deleted makes a new one."""
    make.group()
    client.delete_model_package(ModelPackageName=make.package(ClientToken="t-1"))

    assert make.package(ClientToken="t-1") == f"{PACKAGE}/2"


def test_a_group_by_its_arn(client: Any, make: Any) -> None:
    """A version can be registered into a group that is named by its ARN."""
    assert make.package(make.group()) == f"{PACKAGE}/1"


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"ModelApprovalStatus": "Approved"}, {"ModelApprovalStatus": "Approved"}),
        ({"ApprovalDescription": "by hand"}, {"ApprovalDescription": "by hand"}),
        (
            {"ModelPackageRegistrationType": "Registered"},
            {"ModelPackageRegistrationType": "Registered"},
        ),
        (
            {"ModelLifeCycle": {"Stage": "Production", "StageStatus": "Approved"}},
            {"ModelLifeCycle": {"Stage": "Production", "StageStatus": "Approved"}},
        ),
        ({"SourceUri": "git://repo"}, {"SourceUri": "git://repo"}),
        (
            {"CustomerMetadataProperties": {"n": "1"}},
            {"CustomerMetadataProperties": {"digest": "sha256:ab", "n": "1"}},
        ),
        (
            {"CustomerMetadataProperties": {"digest": "sha256:cd"}},
            {"CustomerMetadataProperties": {"digest": "sha256:cd"}},
        ),
        (
            {
                "CustomerMetadataProperties": {"n": "1"},
                "CustomerMetadataPropertiesToRemove": ["digest", "absent"],
            },
            {"CustomerMetadataProperties": {"n": "1"}},
        ),
        (
            {"ModelCard": {"ModelCardStatus": "Approved"}},
            {"ModelCard": {"ModelCardContent": '{"a": 1}', "ModelCardStatus": "Approved"}},
        ),
        ({"InferenceSpecification": spec()}, {"InferenceSpecification": spec()}),
        (
            {"AdditionalInferenceSpecificationsToAdd": [{"Name": "x", **spec()}]},
            {"AdditionalInferenceSpecifications": [{"Name": "x", **spec()}]},
        ),
    ],
    ids=lambda value: next(iter(value)),
)
def test_an_update_changes_what_it_names(
    client: Any, make: Any, change: dict[str, Any], changed: dict[str, Any]
) -> None:
    """An update merges: what it does not name stays as it was. moto wipes it."""
    make.group()
    arn = make.package(**EVERYTHING)
    before = _body(client.describe_model_package(ModelPackageName=arn))

    client.update_model_package(ModelPackageArn=arn, **change)

    after = _body(client.describe_model_package(ModelPackageName=arn))
    stamps = ("LastModifiedTime", "LastModifiedBy")
    assert {k: v for k, v in after.items() if k not in stamps} == {**before, **changed}
    assert after["LastModifiedTime"] >= before["CreationTime"]


def test_the_last_property_can_be_removed(client: Any, make: Any) -> None:
    """A version whose last property is removed has none, and not an empty map."""
    make.group()
    arn = make.package(CustomerMetadataProperties={"k": "v"})

    client.update_model_package(ModelPackageArn=arn, CustomerMetadataPropertiesToRemove=["k"])

    assert "CustomerMetadataProperties" not in client.describe_model_package(ModelPackageName=arn)


def test_a_version_is_cloned(client: Any, make: Any) -> None:
    """A SourceUri that is a package's ARN brings its specification."""
    make.group()
    source = make.package(InferenceSpecification=make.specification(Environment={"A": "1"}))

    arn = make.package(InferenceSpecification=None, SourceUri=source)

    found = client.describe_model_package(ModelPackageName=arn)
    assert found["InferenceSpecification"]["Containers"][0]["Environment"] == {"A": "1"}
    assert found["SourceUri"] == source


def test_a_version_of_a_model(client: Any, make: Any) -> None:
    """A SourceUri that is a model's ARN brings its containers."""
    make.group()
    arn = make.package(InferenceSpecification=None, SourceUri=make.model())

    found = client.describe_model_package(ModelPackageName=arn)
    assert found["InferenceSpecification"]["Containers"] == [make.container()]


def test_an_unversioned_package(client: Any, make: Any, refused: Callable[..., str]) -> None:
    """A package without a group has no number, takes tags, and is listed apart."""
    made = client.create_model_package(
        ModelPackageName="lone",
        InferenceSpecification=make.specification(),
        Tags=[{"Key": "k", "Value": "v"}],
    )
    arn = made["ModelPackageArn"]
    make.group()
    make.package()

    assert arn == f"{PREFIX}:model-package/lone"
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]
    listed = client.list_model_packages()[SUMMARIES]
    assert [one["ModelPackageArn"] for one in listed] == [arn]
    both = client.list_model_packages(ModelPackageType="Both")[SUMMARIES]
    assert len(both) == 2
    refused(
        client.create_model_package,
        "ValidationException",
        "Model Package already exists",
        ModelPackageName="lone",
        InferenceSpecification=make.specification(),
    )
    refused(
        client.update_model_package,
        "ValidationException",
        "not applicable to unversioned models",
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
    )


def test_a_reset_forgets(backend: SageMakerBackend, client: Any, make: Any) -> None:
    """moto's reset leaves nothing behind."""
    make.group()
    make.package()

    backend.reset()

    assert client.list_model_package_groups()["ModelPackageGroupSummaryList"] == []
    make.group()
    assert make.package() == f"{PACKAGE}/1"
