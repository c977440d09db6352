"""Models and endpoint configurations: what is accepted, what is refused and in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/hosting"

MODEL = "the service model of botocore"
OPERATOR = "https://github.com/aws/amazon-sagemaker-operator-for-k8s clientwrapper"
SERVERLESS = "https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html"
MANAGED = "https://github.com/hashicorp/terraform-provider-aws/pull/45926"
COMPONENTS = "https://github.com/stdapi-ai/stdapi.ai/issues/43"
ENVIRONMENT = "https://github.com/aws/sagemaker-python-sdk/pull/3301"
EXISTING = "https://github.com/aws/sagemaker-python-sdk/issues/101"
EITHER = "quoted by users of CreateModel"
VARIANT = "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request beside the model ``m1``, the config ``c1``, and versions 1 and 2 of ``churn``.

    Version 1 waits for approval; version 2 is approved and has an environment.
    """

    id: str
    call: str
    code: str = "ValidationException"
    words: str
    source: str
    request: dict[str, Any] = field(default_factory=dict)


def model(**more: Any) -> dict[str, Any]:
    return {"ModelName": "m2", "ExecutionRoleArn": ROLE, **more}


def variant(**more: Any) -> dict[str, Any]:
    usual = {
        "VariantName": "main",
        "ModelName": "m1",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.g5.xlarge",
    }
    return {key: value for key, value in {**usual, **more}.items() if value is not None}


def config(*variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"EndpointConfigName": "c2", "ProductionVariants": list(variants), **more}


def serverless(memory: int = 2048, concurrency: int = 5, **more: Any) -> dict[str, Any]:
    sizes = {"MemorySizeInMB": memory, "MaxConcurrency": concurrency}
    options = {"InitialInstanceCount": None, "InstanceType": None, "ModelName": "plain", **more}
    provisioned = options.pop("ProvisionedConcurrency", None)
    if provisioned:
        sizes["ProvisionedConcurrency"] = provisioned
    return variant(ServerlessConfig=sizes, **options)


def host(**more: Any) -> dict[str, Any]:
    return variant(ModelName=None, **more)


CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 50,
    "DestinationS3Uri": "s3://b/capture",
    "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
}
POOLS = [
    {"InstanceType": "ml.g5.xlarge", "Priority": 1},
    {"InstanceType": "ml.g6.xlarge", "Priority": 2},
]
PACKAGE = f"{PREFIX}:model-package/churn"

CASES = [
    Case(
        id="model twice",
        call="create_model",
        request=model(ModelName="m1", PrimaryContainer={"Image": "i"}),
        words=f'Cannot create already existing model "{PREFIX}:model/m1".',
        source=EXISTING,
    ),
    Case(
        id="model without a container",
        call="create_model",
        request=model(),
        words="either PrimaryContainer or Containers",
        source=MODEL,
    ),
    Case(
        id="model with both kinds of containers",
        call="create_model",
        request=model(PrimaryContainer={"Image": "i"}, Containers=[{"Image": "i"}]),
        words="either PrimaryContainer or Containers",
        source=MODEL,
    ),
    *(
        Case(
            id=f"container with {', '.join(container) or 'nothing'}",
            call="create_model",
            request=model(PrimaryContainer=container),
            words="Specify one of either Image and Model Data URL or ModelPackageName in container "
            "definition.",
            source=EITHER,
        )
        for container in (
            {},
            {"ModelDataUrl": "s3://b/m.tar.gz"},
            {"Image": "i", "ModelPackageName": f"{PACKAGE}/2"},
            {"ModelDataUrl": "s3://b/m.tar.gz", "ModelPackageName": f"{PACKAGE}/2"},
        )
    ),
    Case(
        id="model of an unapproved version",
        call="create_model",
        request=model(PrimaryContainer={"ModelPackageName": f"{PACKAGE}/1"}),
        words="its ModelApprovalStatus is PendingManualApproval",
        source=MODEL,
    ),
    Case(
        id="model of no version",
        call="create_model",
        request=model(PrimaryContainer={"ModelPackageName": f"{PACKAGE}/99"}),
        words=f"ModelPackage {PACKAGE}/99 does not exist.",
        source=MODEL,
    ),
    Case(
        id="model of a version without a specification",
        call="create_model",
        request=model(PrimaryContainer={"ModelPackageName": f"{PACKAGE}/3"}),
        words="has no InferenceSpecification",
        source=MODEL,
    ),
    Case(
        id="two environments",
        call="create_model",
        request=model(
            PrimaryContainer={"ModelPackageName": f"{PACKAGE}/2", "Environment": {"B": "2"}}
        ),
        words="Environment variable map cannot be specified both at Model Package {A=1} and Model "
        "{B=2}",
        source=ENVIRONMENT,
    ),
    Case(
        id="second container is broken",
        call="create_model",
        request=model(Containers=[{"Image": "i"}, {}]),
        words="Specify one of either Image",
        source=EITHER,
    ),
    Case(
        id="model data that is no prefix",
        call="create_model",
        request=model(
            PrimaryContainer={
                "Image": "i",
                "ModelDataSource": {
                    "S3DataSource": {
                        "S3Uri": "s3://b/k",
                        "S3DataType": "S3Prefix",
                        "CompressionType": "None",
                    }
                },
            }
        ),
        words="must end with a forward slash",
        source="https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3ModelDataSource.html",
    ),
    *(
        Case(
            id=f"{call} of no model",
            call=call,
            request={"ModelName": "none"},
            words=f'Could not find model "{PREFIX}:model/none".',
            source=OPERATOR,
        )
        for call in ("describe_model", "delete_model")
    ),
    Case(
        id="config twice",
        call="create_endpoint_config",
        request=config(variant(), EndpointConfigName="c1"),
        words="Cannot create already existing endpoint configuration "
        f'"{PREFIX}:endpoint-config/c1".',
        source="https://github.com/aws/sagemaker-python-sdk/issues/2739",
    ),
    Case(
        id="config of no model",
        call="create_endpoint_config",
        request=config(variant(ModelName="none")),
        words=f'Could not find model "{PREFIX}:model/none".',
        source=OPERATOR,
    ),
    Case(
        id="config whose pool has no model",
        call="create_endpoint_config",
        request=config(
            variant(
                InstanceType=None,
                InstancePools=[
                    {"InstanceType": "ml.g5.xlarge", "Priority": 1, "ModelNameOverride": "none"}
                ],
            )
        ),
        words=f'Could not find model "{PREFIX}:model/none".',
        source=OPERATOR,
    ),
    *(
        Case(
            id=f"{call} of no config",
            call=call,
            request={"EndpointConfigName": "none"},
            words=f'Could not find endpoint configuration "{PREFIX}:endpoint-config/none".',
            source=OPERATOR,
        )
        for call in ("describe_endpoint_config", "delete_endpoint_config")
    ),
    Case(
        id="variant twice",
        call="create_endpoint_config",
        request=config(variant(), variant()),
        words="Variant names must be unique",
        source=VARIANT,
    ),
    Case(
        id="shadow of the same name",
        call="create_endpoint_config",
        request=config(variant(), ShadowProductionVariants=[variant()]),
        words="Variant names must be unique",
        source=VARIANT,
    ),
    Case(
        id="two shadows",
        call="create_endpoint_config",
        request=config(
            variant(),
            ShadowProductionVariants=[variant(VariantName="a"), variant(VariantName="b")],
        ),
        words="Only one production variant and one shadow production variant",
        source=MODEL,
    ),
    Case(
        id="a shadow of two",
        call="create_endpoint_config",
        request=config(
            variant(),
            variant(VariantName="b"),
            ShadowProductionVariants=[variant(VariantName="a")],
        ),
        words="Only one production variant and one shadow production variant",
        source=MODEL,
    ),
    Case(
        id="no instance type",
        call="create_endpoint_config",
        request=config(variant(InstanceType=None)),
        words="Specify one of InstanceType, InstancePools and ServerlessConfig for production "
        "variant main; none given",
        source=VARIANT,
    ),
    Case(
        id="type and pools",
        call="create_endpoint_config",
        request=config(variant(InstancePools=POOLS)),
        words="InstanceType and InstancePools given",
        source=VARIANT,
    ),
    Case(
        id="no instance count",
        call="create_endpoint_config",
        request=config(variant(InitialInstanceCount=None)),
        words="InitialInstanceCount must be specified for production variant main",
        source=VARIANT,
    ),
    *(
        Case(
            id=f"pools with equal {key}",
            call="create_endpoint_config",
            request=config(
                variant(InstanceType=None, InstancePools=[POOLS[0], {**POOLS[1], key: same}])
            ),
            words=f"{key} must be unique in the InstancePools of variant main",
            source=VARIANT,
        )
        for key, same in (("Priority", 1), ("InstanceType", "ml.g5.xlarge"))
    ),
    Case(
        id="managed scaling with a model",
        call="create_endpoint_config",
        request=config(
            variant(
                ManagedInstanceScaling={
                    "Status": "ENABLED",
                    "MinInstanceCount": 1,
                    "MaxInstanceCount": 2,
                }
            )
        ),
        words="ManagedInstanceScaling is only supported for inference component endpoints.",
        source=MANAGED,
    ),
    Case(
        id="component host without a role",
        call="create_endpoint_config",
        request=config(host()),
        words="ExecutionRoleArn must be specified",
        source=COMPONENTS,
    ),
    Case(
        id="component host with more least than most",
        call="create_endpoint_config",
        request=config(
            host(ManagedInstanceScaling={"MinInstanceCount": 3, "MaxInstanceCount": 2}),
            ExecutionRoleArn=ROLE,
        ),
        words="MinInstanceCount 3 must not be greater than MaxInstanceCount 2",
        source=MODEL,
    ),
    Case(
        id="component host that is asynchronous",
        call="create_endpoint_config",
        request=config(
            host(),
            ExecutionRoleArn=ROLE,
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://b/out"}},
        ),
        words="AsyncInferenceConfig is not supported for inference component endpoints",
        source=MODEL,
    ),
    Case(
        id="model beside none",
        call="create_endpoint_config",
        request=config(variant(), host(VariantName="b"), ExecutionRoleArn=ROLE),
        words="for all production variants or for none",
        source=VARIANT,
    ),
    Case(
        id="asynchronous without an output",
        call="create_endpoint_config",
        request=config(variant(), AsyncInferenceConfig={"OutputConfig": {}}),
        words="S3OutputPath must be specified",
        source="https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html",
    ),
    Case(
        id="serverless memory between sizes",
        call="create_endpoint_config",
        request=config(serverless(1536)),
        words="MemorySizeInMB 1536 is not a multiple of 1024",
        source=MODEL,
    ),
    Case(
        id="serverless with too much provisioned",
        call="create_endpoint_config",
        request=config(serverless(ProvisionedConcurrency=6)),
        words="ProvisionedConcurrency must be less than or equal to MaxConcurrency",
        source=MODEL,
    ),
    Case(
        id="serverless with instances",
        call="create_endpoint_config",
        request=config(serverless(InitialInstanceCount=1)),
        words="InitialInstanceCount cannot be specified for serverless variant main",
        source=VARIANT,
    ),
    Case(
        id="serverless beside another",
        call="create_endpoint_config",
        request=config(serverless(), variant(VariantName="b")),
        words="Serverless endpoints do not support multiple production variants",
        source=SERVERLESS,
    ),
    *(
        Case(
            id=f"serverless with {key}",
            call="create_endpoint_config",
            request=config(serverless(), **{key: value}),
            words=f"Serverless endpoints do not support {key}",
            source=SERVERLESS,
        )
        for key, value in (
            ("DataCaptureConfig", CAPTURE),
            ("AsyncInferenceConfig", {"OutputConfig": {"S3OutputPath": "s3://b/out"}}),
            ("VpcConfig", {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}),
            ("EnableNetworkIsolation", True),
        )
    ),
    Case(
        id="serverless with an isolated model",
        call="create_endpoint_config",
        request=config(serverless(ModelName="isolated")),
        words="Serverless endpoints do not support models with EnableNetworkIsolation",
        source=SERVERLESS,
    ),
    Case(
        id="serverless with uncompressed data",
        call="create_endpoint_config",
        request=config(serverless(ModelName="m1")),
        words="Model with containers that use ModelDataSource",
        source=MODEL,
    ),
    Case(
        id="serverless without a model",
        call="create_endpoint_config",
        request=config(serverless(ModelName=None), ExecutionRoleArn=ROLE),
        words="ModelName must be specified for serverless variant main",
        source=SERVERLESS,
    ),
    *(
        Case(
            id=f"endpoint with {key}",
            call="create_endpoint",
            request={"EndpointName": "e", "EndpointConfigName": name},
            words=f"The emulator does not run endpoints with {key}",
            source="the emulator: what it accepts, it does",
        )
        for key, name in (
            ("ExplainerConfig", "explained"),
            ("CrossRegionTrafficConfig", "abroad"),
        )
    ),
    *(
        Case(
            id=f"endpoint of {name}",
            call="create_endpoint",
            request={"EndpointName": "e", "EndpointConfigName": name},
            words=f"The emulator does not run {words}",
            source="the emulator: what it accepts, it does",
        )
        for name, words in (
            ("pipeline", "containers in a row"),
            ("many", "MultiModel mode"),
            ("adapters", "AdditionalModelDataSources"),
        )
    ),
]


@pytest.fixture
def surroundings(client: Any, make: Any) -> None:
    """What the cases are about, and what they stumble over."""
    make.group()
    make.package()
    make.package(
        ModelApprovalStatus="Approved",
        InferenceSpecification=make.specification(Environment={"A": "1"}),
    )
    make.package(
        ModelApprovalStatus="Approved", InferenceSpecification=None, SourceUri="git://repo"
    )
    make.model()
    make.model("plain", PrimaryContainer={"Image": "i"})
    make.model("isolated", PrimaryContainer={"Image": "i"}, EnableNetworkIsolation=True)
    extra = make.container()["ModelDataSource"]["S3DataSource"]
    odd = {
        "pipeline": {"PrimaryContainer": None, "Containers": [{"Image": "i"}, {"Image": "j"}]},
        "many": {"PrimaryContainer": {"Image": "i", "Mode": "MultiModel"}},
        "adapters": {
            "PrimaryContainer": {
                "Image": "i",
                "AdditionalModelDataSources": [{"ChannelName": "a", "S3DataSource": extra}],
            }
        },
    }
    for name, request in odd.items():
        make.model(name, **request)
        make.config(name, make.variant(ModelName=name))
    make.config()
    shap = {"ShapBaselineConfig": {"ShapBaseline": "1"}}
    make.config("explained", ExplainerConfig={"ClarifyExplainerConfig": {"ShapConfig": shap}})
    limits = {"MaxInvocationsPerSecondPerInstance": 1, "MaxCrossRegionPercentPerEndpoint": 1}
    make.config("abroad", CrossRegionTrafficConfig=limits)


def state(client: Any) -> Any:
    """Everything that a refused request must leave as it is."""
    return (
        [one["ModelName"] for one in client.list_models(MaxResults=100)["Models"]],
        [
            one["EndpointConfigName"]
            for one in client.list_endpoint_configs(MaxResults=100)["EndpointConfigs"]
        ],
        client.list_endpoints()["Endpoints"],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refusals(
    case: Case, client: Any, surroundings: None, cast: Any, refused: Callable[..., str]
) -> None:
    """What SageMaker refuses is refused with its code and words, and changes nothing."""
    before = state(client)

    refused(getattr(client, case.call), case.code, case.words, **case.request)

    assert case.source
    assert state(client) == before
    assert cast.running == []


ACCEPTED = [
    config(variant()),
    config(variant(), variant(VariantName="b", InitialVariantWeight=0.0)),
    config(variant(InstanceType=None, InstancePools=POOLS)),
    config(variant(), ShadowProductionVariants=[variant(VariantName="b")]),
    config(serverless()),
    config(serverless(6144, 200, ProvisionedConcurrency=200)),
    config(host(), ExecutionRoleArn=ROLE),
    config(
        host(
            ManagedInstanceScaling={
                "Status": "ENABLED",
                "MinInstanceCount": 0,
                "MaxInstanceCount": 2,
            },
            RoutingConfig={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        ),
        ExecutionRoleArn=ROLE,
        EnableNetworkIsolation=True,
        VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    ),
    config(variant(), DataCaptureConfig=CAPTURE),
    # KmsKeyId in the service model: it "does not encrypt instance local storage".
    config(variant(), KmsKeyId="alias/models"),
    config(
        variant(
            ContainerStartupHealthCheckTimeoutInSeconds=3600,
            ModelDataDownloadTimeoutInSeconds=3600,
            InferenceAmiVersion="al2023-ami-sagemaker-inference-gpu-4-1",
            VolumeSizeInGB=512,
        ),
        MetricsConfig={"EnableDetailedObservability": True},
    ),
    config(
        variant(),
        AsyncInferenceConfig={
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
            "OutputConfig": {"S3OutputPath": "s3://b/out", "S3FailurePath": "s3://b/failed"},
        },
    ),
]


@pytest.mark.parametrize("request_", ACCEPTED, ids=lambda request: ",".join(request)[:60])
def test_a_config_reads_back(client: Any, surroundings: None, request_: dict[str, Any]) -> None:
    """What an endpoint configuration was made of is what describes return, and nothing else."""
    client.create_endpoint_config(**request_)

    found = client.describe_endpoint_config(EndpointConfigName="c2")
    for key in ("ResponseMetadata", "CreationTime"):
        del found[key]
    assert found.pop("EndpointConfigArn") == f"{PREFIX}:endpoint-config/c2"
    wanted = {
        key: [{"InitialVariantWeight": 1.0, **one} for one in value] if "Variants" in key else value
        for key, value in request_.items()
    }
    assert found == wanted


def test_a_model_reads_back(client: Any, make: Any) -> None:
    """What a model was made of is what describes return; no empty VpcConfig, as moto's."""
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    make.model(EnableNetworkIsolation=True, VpcConfig=vpc, Tags=[{"Key": "k", "Value": "v"}])
    make.model("m2")

    found = client.describe_model(ModelName="m1")
    assert found["PrimaryContainer"] == make.container()
    assert found["ExecutionRoleArn"] == ROLE
    assert found["EnableNetworkIsolation"] is True
    assert found["VpcConfig"] == vpc
    assert "Tags" not in found
    assert client.list_tags(ResourceArn=found["ModelArn"])["Tags"] == [{"Key": "k", "Value": "v"}]
    plain = client.describe_model(ModelName="m2")
    assert "VpcConfig" not in plain
    assert plain["EnableNetworkIsolation"] is False


def test_a_model_of_an_approved_version(client: Any, make: Any) -> None:
    """A model may be made of a version once it is approved, by its ARN or its number."""
    make.group()
    arn = make.package()
    client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")

    make.model("a", PrimaryContainer={"ModelPackageName": arn})
    make.model("b", PrimaryContainer={"ModelPackageName": "churn/1", "Environment": {"B": "2"}})

    found = client.describe_model(ModelName="b")
    assert found["PrimaryContainer"] == {"ModelPackageName": "churn/1", "Environment": {"B": "2"}}


def test_model_data_is_not_looked_for(make: Any) -> None:
    """A model may be made before its data is there."""
    assert make.model().endswith(":model/m1")


def test_deletion(client: Any, make: Any, refused: Callable[..., str]) -> None:
    """What is deleted is gone, may be made again, and has none of its former tags."""
    make.model(Tags=[{"Key": "k", "Value": "v"}])
    make.config()
    client.delete_endpoint_config(EndpointConfigName="c1")
    client.delete_model(ModelName="m1")

    refused(client.describe_model, "ValidationException", "Could not find model", ModelName="m1")
    assert state(client) == ([], [], [])
    assert client.list_tags(ResourceArn=make.model())["Tags"] == []


def test_lists(client: Any, make: Any) -> None:
    """Models and configurations are listed newest first, ten a page, by a part of their name."""
    for number in range(12):
        make.model(f"m{number}")
        make.config(f"c{number}", make.variant(ModelName=f"m{number}"))

    newest = [f"m{number}" for number in range(11, 1, -1)]
    assert [one["ModelName"] for one in client.list_models()["Models"]] == newest
    found = client.list_models(SortBy="Name", SortOrder="Ascending", MaxResults=2)
    assert [one["ModelName"] for one in found["Models"]] == ["m0", "m1"]
    rest = client.list_models(
        SortBy="Name", SortOrder="Ascending", MaxResults=2, NextToken=found["NextToken"]
    )
    assert [one["ModelName"] for one in rest["Models"]] == ["m10", "m11"]
    some = client.list_endpoint_configs(NameContains="C1", SortOrder="Ascending")
    assert [one["EndpointConfigName"] for one in some["EndpointConfigs"]] == ["c1", "c10", "c11"]
    pages = client.get_paginator("list_endpoint_configs").paginate()
    assert sum(len(page["EndpointConfigs"]) for page in pages) == 12
