"""Weights, numbers of instances and what an update keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity."
)

ROLLING = {
    "RollingUpdatePolicy": {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 60,
    }
}


CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 50,
    "DestinationS3Uri": "s3://b/capture",
    "KmsKeyId": "alias/k",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


def excluded(*names: str) -> list[dict[str, str]]:
    return [{"VariantPropertyType": name} for name in names]


@pytest.mark.parametrize(
    ("request_", "instances", "weight", "captured"),
    [
        ({}, 4, 1.0, False),
        ({"RetainAllVariantProperties": False}, 4, 1.0, False),
        ({"RetainAllVariantProperties": True}, 7, 0.5, True),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": excluded("DesiredInstanceCount"),
            },
            4,
            0.5,
            True,
        ),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": excluded("DesiredWeight", "DataCaptureConfig"),
            },
            7,
            1.0,
            False,
        ),
        ({"ExcludeRetainedVariantProperties": excluded("DesiredWeight")}, 4, 1.0, False),
        ({"RetainAllVariantProperties": True, "DeploymentConfig": ROLLING}, 7, 0.5, True),
    ],
)
def test_retained_properties(
    client: Any,
    make: Any,
    configs: None,
    cast: Any,
    request_: dict[str, Any],
    instances: int,
    weight: float,
    captured: bool,
) -> None:
    """Counts, weights and capture survive an update only where they are retained."""
    make.config("captured", make.variant(InitialInstanceCount=4), DataCaptureConfig=CAPTURE)
    make.endpoint(config="captured")
    client.update_endpoint_weights_and_capacities(
        **make.capacities({"VariantName": "main", "DesiredWeight": 0.5, "DesiredInstanceCount": 7})
    )
    make.settled()

    client.update_endpoint(**make.to(**request_))
    found = make.settled()

    [variant] = found["ProductionVariants"]
    assert (variant["DesiredInstanceCount"], variant["DesiredWeight"]) == (instances, weight)
    assert cast.running[0].desired == instances
    assert ("DataCaptureConfig" in found) == captured


def test_capture_is_described(
    client: Any, make: Any, configs: None, backend: SageMakerBackend
) -> None:
    """Capture is what the configuration says, and what it says later where it is sent again."""
    make.config("captured", make.variant(), DataCaptureConfig=CAPTURE)
    make.config("off", make.variant(), DataCaptureConfig={**CAPTURE, "EnableCapture": False})
    make.endpoint(config="captured")

    assert client.describe_endpoint(EndpointName="e")["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 50,
        "DestinationS3Uri": "s3://b/capture",
        "KmsKeyId": "alias/k",
    }
    assert backend.endpoint_state("e").capture == CAPTURE
    client.update_endpoint(**make.to("off"))
    assert make.settled()["DataCaptureConfig"]["CaptureStatus"] == "Stopped"


def test_weights_divide_the_traffic(
    client: Any, make: Any, configs: None, backend: SageMakerBackend
) -> None:
    """Weights divide the traffic, and new weights hold once the endpoint is in service."""
    make.config(
        "split",
        make.variant(InitialVariantWeight=3.0),
        make.variant(VariantName="b", ModelName="m2", InitialVariantWeight=1.0),
    )
    make.endpoint(config="split")
    assert make.shares(backend) == {"m1": 0.75, "m2": 0.25}

    client.update_endpoint_weights_and_capacities(
        **make.capacities({"VariantName": "main", "DesiredWeight": 0.0})
    )
    found = client.describe_endpoint(EndpointName="e")
    assert found["EndpointStatus"] == "Updating"
    assert found["ProductionVariants"][0]["CurrentWeight"] == 3.0
    assert found["ProductionVariants"][0]["DesiredWeight"] == 0.0
    assert make.shares(backend) == {"m1": 0.75, "m2": 0.25}

    found = make.settled()
    assert found["ProductionVariants"][0]["CurrentWeight"] == 0.0
    assert make.shares(backend) == {"m1": 0.0, "m2": 1.0}


def test_a_count_alone_keeps_the_weight(client: Any, make: Any, endpoint: str, cast: Any) -> None:
    """A new number of instances leaves the weight. moto wipes it."""
    client.update_endpoint_weights_and_capacities(
        **make.capacities({"VariantName": "main", "DesiredInstanceCount": 6})
    )

    [variant] = make.settled()["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (6, 1.0)
    assert cast.running[0].desired == 6


def test_a_failed_scaling_rolls_back(client: Any, make: Any, endpoint: str, cast: Any) -> None:
    """Instances that do not come: RollingBack, then InService with what there was."""
    cast.failing["m1:1"] = NO_CAPACITY
    client.update_endpoint_weights_and_capacities(
        **make.capacities({"VariantName": "main", "DesiredInstanceCount": 9, "DesiredWeight": 0.5})
    )
    states = [make.status() for _ in range(3)]
    cast.failing.clear()

    assert states == ["RollingBack", "InService", "InService"]
    found = client.describe_endpoint(EndpointName="e")
    assert found["FailureReason"] == NO_CAPACITY
    [variant] = found["ProductionVariants"]
    assert (variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]) == (4, 4)
    assert (variant["DesiredWeight"], variant["CurrentWeight"]) == (1.0, 1.0)


def test_an_asynchronous_endpoint_scales_to_zero(
    client: Any, make: Any, configs: None, cast: Any, backend: SageMakerBackend
) -> None:
    """An asynchronous endpoint may have no instance."""
    output = {"OutputConfig": {"S3OutputPath": "s3://b/out"}}
    make.config("async", make.variant(), AsyncInferenceConfig=output)
    make.endpoint(config="async")

    backend.rescale_variant("e", "main", 0)

    found = make.settled()
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 0
    assert found["AsyncInferenceConfig"] == output
    assert cast.running[0].desired == 0


def test_serverless(client: Any, make: Any, configs: None, cast: Any) -> None:
    """A serverless variant has concurrency in the place of instances."""
    make.endpoint(config="serverless")
    [variant] = client.describe_endpoint(EndpointName="e")["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    assert "CurrentInstanceCount" not in variant

    client.update_endpoint_weights_and_capacities(
        **make.capacities({"VariantName": "main", "ServerlessUpdateConfig": {"MaxConcurrency": 9}})
    )

    [variant] = make.settled()["ProductionVariants"]
    assert variant["CurrentServerlessConfig"]["MaxConcurrency"] == 9
    with pytest.raises(ClientError, match="DesiredInstanceCount cannot be specified"):
        client.update_endpoint_weights_and_capacities(
            **make.capacities({"VariantName": "main", "DesiredInstanceCount": 2})
        )


def register(other: Callable[[str], Any], variant: str = "main") -> None:
    other("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId=f"endpoint/e/variant/{variant}",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=4,
    )


def test_another_type_for_a_scaled_variant(
    client: Any, make: Any, endpoint: str, other: Callable[[str], Any], refused: Callable[..., str]
) -> None:
    """The instance type of a scaled variant cannot change until its target is deregistered."""
    make.config("bigger", make.variant(InstanceType="ml.g5.2xlarge"))
    register(other)

    refused(
        client.update_endpoint,
        "ValidationException",
        "The instance type of variant main cannot be changed",
        **make.to("bigger"),
    )
    client.update_endpoint(**make.to("c2"))
    make.settled()

    other("application-autoscaling").deregister_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/e/variant/main",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
    )
    client.update_endpoint(**make.to("bigger"))
    assert make.settled()["EndpointConfigName"] == "bigger"


def test_targets_go_with_their_endpoint(
    client: Any, endpoint: str, other: Callable[[str], Any]
) -> None:
    """Deleting an endpoint deregisters what scales it."""
    register(other)

    client.delete_endpoint(EndpointName="e")

    found = other("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
    assert found["ScalableTargets"] == []
