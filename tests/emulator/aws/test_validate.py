"""Requests are checked against botocore's service model, in AWS's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from moto.core.utils import get_service_model

from cloudreg_emulator.aws.validate import complaints, message

MODEL = get_service_model("sagemaker")
NAME = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
"""EntityName, EndpointName and others in the service model."""


def found(operation: str, **request: Any) -> list[str]:
    return complaints(MODEL.operation_model(operation).input_shape, request)


def variant(**more: Any) -> dict[str, Any]:
    return {"VariantName": "main", "ModelName": "m", **more}


GROUP = "CreateModelPackageGroup"
CONFIG = "CreateEndpointConfig"
UPDATE = "UpdateEndpoint"
PACKAGE = "CreateModelPackage"
SATISFY = "failed to satisfy constraint: "
CAPTURE = {
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://b/x",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}
BLUE_GREEN = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}


def policy(**more: Any) -> dict[str, Any]:
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": BLUE_GREEN, **more}}


# Every bound is of the shape that the path names, in botocore's model; the frame of each message
# is quoted in https://github.com/aws/amazon-sagemaker-examples/issues/4843 and 2277.
REFUSED = [
    (GROUP, {"ModelPackageGroupName": "a_b"}, "modelPackageGroupName", f"pattern: {NAME}"),
    (GROUP, {"ModelPackageGroupName": "a.b"}, "modelPackageGroupName", f"pattern: {NAME}"),
    (GROUP, {"ModelPackageGroupName": "a-"}, "modelPackageGroupName", f"pattern: {NAME}"),
    (GROUP, {"ModelPackageGroupName": "-a"}, "modelPackageGroupName", f"pattern: {NAME}"),
    (GROUP, {"ModelPackageGroupName": "a" * 64}, "modelPackageGroupName", "or equal to 63"),
    (GROUP, {"ModelPackageGroupName": ""}, "modelPackageGroupName", "greater than or equal to 1"),
    (GROUP, {}, "modelPackageGroupName", "Member must not be null"),
    (
        GROUP,
        {"ModelPackageGroupName": "a", "ModelPackageGroupDescription": "x" * 1025},
        "modelPackageGroupDescription",
        "Member must have length less than or equal to 1024",
    ),
    (
        GROUP,
        {"ModelPackageGroupName": "a", "Tags": [{"Key": "k", "Value": "v"}] * 51},
        "tags",
        "Member must have length less than or equal to 50",
    ),
    (
        GROUP,
        {"ModelPackageGroupName": "a", "Tags": [{"Key": "k"}]},
        "tags.1.member.value",
        "Member must not be null",
    ),
    (
        GROUP,
        {"ModelPackageGroupName": "a", "Tags": [{"Key": "a,b", "Value": ""}]},
        "tags.1.member.key",
        "pattern: ([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)",
    ),
    (
        GROUP,
        {"ModelPackageGroupName": "a", "Tags": [{"Key": "k" * 129, "Value": ""}]},
        "tags.1.member.key",
        "or equal to 128",
    ),
    (
        PACKAGE,
        {"CustomerMetadataProperties": {"k": ""}},
        "customerMetadataProperties",
        "Map value must satisfy constraint: [Member must have length greater than or equal to 1]",
    ),
    (
        PACKAGE,
        {"CustomerMetadataProperties": {"k": '{"a": 1}'}},
        "customerMetadataProperties",
        "Map value must satisfy constraint: [Member must satisfy regular expression",
    ),
    (
        PACKAGE,
        {"CustomerMetadataProperties": {"k" * 129: "v"}},
        "customerMetadataProperties",
        "Map keys must satisfy constraint: [Member must have length less than or equal to 128]",
    ),
    (
        PACKAGE,
        {"CustomerMetadataProperties": {f"k{n}": "v" for n in range(51)}},
        "customerMetadataProperties",
        "Member must have length less than or equal to 50",
    ),
    (PACKAGE, {"CustomerMetadataProperties": {}}, "customerMetadataProperties", "or equal to 1"),
    (PACKAGE, {"ClientToken": "t" * 37}, "clientToken", "or equal to 36"),
    (PACKAGE, {"ClientToken": "a_b"}, "clientToken", "pattern: [a-zA-Z0-9-]+"),
    (
        PACKAGE,
        {"ModelApprovalStatus": "approved"},
        "modelApprovalStatus",
        "Member must satisfy enum value set: [Approved, Rejected, PendingManualApproval]",
    ),
    (
        PACKAGE,
        {"ModelLifeCycle": {"Stage": "prod"}},
        "modelLifeCycle.stageStatus",
        "Member must not be null",
    ),
    (
        PACKAGE,
        {"ModelLifeCycle": {"Stage": "pre prod", "StageStatus": "x"}},
        "modelLifeCycle.stage",
        f"pattern: {NAME}",
    ),
    (
        PACKAGE,
        {"ModelCard": {"ModelCardContent": "x" * 100_001}},
        "modelCard.modelCardContent",
        "or equal to 100000",
    ),
    (PACKAGE, {"ModelPackageDescription": "x" * 1025}, "modelPackageDescription", "to 1024"),
    (
        PACKAGE,
        {"MetadataProperties": {"CommitId": "x" * 1025}},
        "metadataProperties.commitId",
        "or equal to 1024",
    ),
    (
        PACKAGE,
        {"InferenceSpecification": {"Containers": []}},
        "inferenceSpecification.containers",
        "greater than or equal to 1",
    ),
    (
        PACKAGE,
        {"InferenceSpecification": {"Containers": [{"Image": "i"}] * 16}},
        "inferenceSpecification.containers",
        "less than or equal to 15",
    ),
    (
        PACKAGE,
        {"InferenceSpecification": {"Containers": [{"Image": "a b"}]}},
        "inferenceSpecification.containers.1.member.image",
        "pattern: [\\S]+",
    ),
    (
        PACKAGE,
        {"InferenceSpecification": {"Containers": [{"Image": "i" * 256}]}},
        "inferenceSpecification.containers.1.member.image",
        "or equal to 255",
    ),
    (
        PACKAGE,
        {"InferenceSpecification": {"Containers": [{"ModelDataUrl": "gs://b/k"}]}},
        "inferenceSpecification.containers.1.member.modelDataUrl",
        "pattern: (https|s3)://([^/]+)/?(.*)",
    ),
    (
        PACKAGE,
        {"InferenceSpecification": {"Containers": [{"FrameworkVersion": "v2"}]}},
        "inferenceSpecification.containers.1.member.frameworkVersion",
        "pattern: [0-9]\\.[A-Za-z0-9.-]+",
    ),
    (
        PACKAGE,
        {
            "InferenceSpecification": {
                "Containers": [{"Image": "i"}],
                "SupportedRealtimeInferenceInstanceTypes": ["ml.g99.xlarge"],
            }
        },
        "inferenceSpecification.supportedRealtimeInferenceInstanceTypes",
        "Member must satisfy constraint: [Member must satisfy enum value set: [ml.t2.medium",
    ),
    (
        "CreateModel",
        {"ModelName": "m", "PrimaryContainer": {"Environment": {"a-b": "1"}}},
        "primaryContainer.environment",
        "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: "
        "[a-zA-Z_][a-zA-Z0-9_]*]",
    ),
    (
        "CreateModel",
        {"ModelName": "m", "PrimaryContainer": {"Environment": {"A": "x" * 1025}}},
        "primaryContainer.environment",
        "Map value must satisfy constraint: [Member must have length less than or equal to 1024]",
    ),
    (
        "CreateModel",
        {"ModelName": "m", "PrimaryContainer": {"Environment": {f"A{n}": "" for n in range(101)}}},
        "primaryContainer.environment",
        "or equal to 100",
    ),
    (
        "CreateModel",
        {"ModelName": "m", "ExecutionRoleArn": "arn:aws:iam::1:role/hosting-of-models"},
        "executionRoleArn",
        "pattern: arn:aws[a-z\\-]*:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
    ),
    ("CreateModel", {"ModelName": "a_b"}, "modelName", "pattern: [a-zA-Z0-9]"),
    ("CreateModel", {"ModelName": "m" * 64}, "modelName", "or equal to 63"),
    (
        "CreateModel",
        {"ModelName": "m", "VpcConfig": {"SecurityGroupIds": [], "Subnets": ["s"]}},
        "vpcConfig.securityGroupIds",
        "greater than or equal to 1",
    ),
    (
        CONFIG,
        {"EndpointConfigName": "c", "ProductionVariants": [variant(InstanceType="ml.g99.xlarge")]},
        "productionVariants.1.member.instanceType",
        "Member must satisfy enum value set: [ml.t2.medium",
    ),
    (
        CONFIG,
        {"EndpointConfigName": "c", "ProductionVariants": []},
        "productionVariants",
        "greater than or equal to 1",
    ),
    (
        CONFIG,
        {"EndpointConfigName": "c", "ProductionVariants": [variant()] * 11},
        "productionVariants",
        "less than or equal to 10",
    ),
    (
        CONFIG,
        {"EndpointConfigName": "c", "ProductionVariants": [variant(InitialInstanceCount=0)]},
        "productionVariants.1.member.initialInstanceCount",
        "Member must have value greater than or equal to 1",
    ),
    (
        CONFIG,
        {"EndpointConfigName": "c", "ProductionVariants": [variant(InitialVariantWeight=-0.1)]},
        "productionVariants.1.member.initialVariantWeight",
        "Member must have value greater than or equal to 0",
    ),
    (
        CONFIG,
        {"EndpointConfigName": "c", "ProductionVariants": [variant(VolumeSizeInGB=513)]},
        "productionVariants.1.member.volumeSizeInGB",
        "Member must have value less than or equal to 512",
    ),
    (
        CONFIG,
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [variant(ModelDataDownloadTimeoutInSeconds=59)],
        },
        "productionVariants.1.member.modelDataDownloadTimeoutInSeconds",
        "greater than or equal to 60",
    ),
    (
        CONFIG,
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [variant(ContainerStartupHealthCheckTimeoutInSeconds=3601)],
        },
        "productionVariants.1.member.containerStartupHealthCheckTimeoutInSeconds",
        "less than or equal to 3600",
    ),
    (
        CONFIG,
        {"EndpointConfigName": "c", "ProductionVariants": [variant(InferenceAmiVersion="al3")]},
        "productionVariants.1.member.inferenceAmiVersion",
        "al2-ami-sagemaker-inference-gpu-2",
    ),
    (
        CONFIG,
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [
                variant(ServerlessConfig={"MemorySizeInMB": 512, "MaxConcurrency": 201})
            ],
        },
        "productionVariants.1.member.serverlessConfig.memorySizeInMB",
        "greater than or equal to 1024",
    ),
    (
        CONFIG,
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [variant()],
            "DataCaptureConfig": {**CAPTURE, "InitialSamplingPercentage": 101},
        },
        "dataCaptureConfig.initialSamplingPercentage",
        "less than or equal to 100",
    ),
    (
        CONFIG,
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [variant()],
            "DataCaptureConfig": {**CAPTURE, "CaptureOptions": []},
        },
        "dataCaptureConfig.captureOptions",
        "greater than or equal to 1",
    ),
    (
        CONFIG,
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [variant()],
            "DataCaptureConfig": {**CAPTURE, "DestinationS3Uri": "s3://b/" + "x" * 512},
        },
        "dataCaptureConfig.destinationS3Uri",
        "less than or equal to 512",
    ),
    ("CreateEndpoint", {"EndpointName": "e_1"}, "endpointName", f"pattern: {NAME}"),
    ("CreateEndpoint", {"EndpointName": "e"}, "endpointConfigName", "Member must not be null"),
    (
        UPDATE,
        {"DeploymentConfig": policy(TerminationWaitInSeconds=3601)},
        "deploymentConfig.blueGreenUpdatePolicy.terminationWaitInSeconds",
        "less than or equal to 3600",
    ),
    (
        UPDATE,
        {"DeploymentConfig": policy(MaximumExecutionTimeoutInSeconds=599)},
        "deploymentConfig.blueGreenUpdatePolicy.maximumExecutionTimeoutInSeconds",
        "greater than or equal to 600",
    ),
    (
        UPDATE,
        {
            "DeploymentConfig": {
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": str(n)} for n in range(11)]}
            }
        },
        "deploymentConfig.autoRollbackConfiguration.alarms",
        "less than or equal to 10",
    ),
    (
        UPDATE,
        {"ExcludeRetainedVariantProperties": [{"VariantPropertyType": "Weight"}]},
        "excludeRetainedVariantProperties.1.member.variantPropertyType",
        "enum value set: [DesiredInstanceCount, DesiredWeight, DataCaptureConfig]",
    ),
    ("ListModelPackages", {"MaxResults": 101}, "maxResults", "less than or equal to 100"),
    ("ListModelPackages", {"NameContains": "a_b"}, "nameContains", "pattern: [a-zA-Z0-9\\-]+"),
    ("BatchDescribeModelPackage", {"ModelPackageArnList": []}, "modelPackageArnList", "to 1"),
    (
        "BatchDescribeModelPackage",
        {"ModelPackageArnList": ["churn/1"]},
        "modelPackageArnList",
        "Member must satisfy constraint: [Member must satisfy regular expression pattern: arn:",
    ),
    (
        "DescribeModelPackage",
        {"ModelPackageName": "churn/1234567890"},
        "modelPackageName",
        "regular expression pattern",
    ),
    (
        "CreateInferenceComponent",
        {
            "InferenceComponentName": "c",
            "EndpointName": "e",
            "Specification": {"ComputeResourceRequirements": {"MinMemoryRequiredInMb": 127}},
        },
        "specification.computeResourceRequirements.minMemoryRequiredInMb",
        "greater than or equal to 128",
    ),
]


@pytest.mark.parametrize(("operation", "request_", "path", "rule"), REFUSED)
def test_a_broken_bound_is_named(
    operation: str, request_: dict[str, Any], path: str, rule: str
) -> None:
    """What breaks a bound of the service model is refused, with its path and the bound."""
    said = [one for one in found(operation, **request_) if f" at '{path}' {SATISFY}" in one]

    assert any(rule in one for one in said), found(operation, **request_)


ACCEPTED = [
    (GROUP, {"ModelPackageGroupName": "a" * 63}),
    (GROUP, {"ModelPackageGroupName": "a--b", "Tags": [{"Key": "Größe: 5 €"[:8], "Value": ""}]}),
    (GROUP, {"ModelPackageGroupName": "a", "Tags": []}),
    (PACKAGE, {"CustomerMetadataProperties": {"k/1": "sha256:ab+c=@d é"}}),
    (PACKAGE, {"ModelCard": {"ModelCardContent": '{\n  "a": 1\n}'}}),
    (PACKAGE, {"ModelPackageGroupName": "arn:aws:sagemaker:us-east-1:123456789012:x/churn"}),
    ("DescribeModelPackage", {"ModelPackageName": "churn/123456789"}),
    ("CreateModel", {"ModelName": "a--b", "PrimaryContainer": {"Environment": {"_A1": ""}}}),
    (
        CONFIG,
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [
                variant(InstanceType="ml.p5.48xlarge", InitialVariantWeight=0.0)
            ],
            "DataCaptureConfig": CAPTURE,
        },
    ),
    (
        UPDATE,
        {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": policy()},
    ),
]


@pytest.mark.parametrize(("operation", "request_"), ACCEPTED)
def test_what_the_model_allows_is_accepted(operation: str, request_: dict[str, Any]) -> None:
    """A request within its bounds has no complaint."""
    assert found(operation, **request_) == []


GPU_TYPES = [
    *("ml.g4dn.xlarge", "ml.g4dn.12xlarge", "ml.g5.xlarge", "ml.g5.48xlarge", "ml.g6.xlarge"),
    *("ml.g6.48xlarge", "ml.g6e.xlarge", "ml.g6e.48xlarge", "ml.p3.2xlarge", "ml.p4d.24xlarge"),
    *("ml.p4de.24xlarge", "ml.p5.4xlarge", "ml.p5.48xlarge", "ml.p5en.48xlarge"),
]


@pytest.mark.parametrize("instance_type", GPU_TYPES)
def test_gpu_types_are_known(instance_type: str) -> None:
    """Every GPU type of SageMaker is accepted; moto knows only 66 types, and none since g4dn."""
    request = {
        "EndpointConfigName": "c",
        "ProductionVariants": [variant(InstanceType=instance_type)],
    }

    assert found(CONFIG, **request) == []


def test_several_errors_are_counted() -> None:
    """One message names all errors and says how many there are."""
    said = found(GROUP, ModelPackageGroupName="a_b", ModelPackageGroupDescription="x" * 1025)

    assert message(said).startswith("2 validation errors detected: Value 'a_b' at ")
    assert message(said).count("; Value '") == 1
    assert message(said[:1]).startswith("1 validation error detected: ")


def test_the_service_says_it(raw: Any, refused: Callable[..., str]) -> None:
    """A client that checks nothing itself gets ValidationException with the message."""
    said = refused(
        raw.create_model_package_group,
        "ValidationException",
        "1 validation error detected: Value 'bad_name' at 'modelPackageGroupName' failed to "
        f"satisfy constraint: Member must satisfy regular expression pattern: {NAME}",
        ModelPackageGroupName="bad_name",
    )

    assert said.endswith(NAME)


def test_nothing_is_done_by_a_malformed_request(
    raw: Any, client: Any, refused: Callable[..., str]
) -> None:
    """A refused request leaves no trace."""
    refused(
        raw.create_model_package_group,
        "ValidationException",
        "tags.1.member.value",
        ModelPackageGroupName="churn",
        Tags=[{"Key": "k"}],
    )

    assert client.list_model_package_groups()["ModelPackageGroupSummaryList"] == []


def test_an_operation_that_is_not_emulated(client: Any, refused: Callable[..., str]) -> None:
    """What neither this emulator nor moto knows is a client error, which nobody retries."""
    refused(
        client.create_hub,
        "UnknownOperationException",
        "CreateHub is not emulated",
        HubName="h",
        HubDescription="d",
    )
