"""Requests are refused before they are sent, with field, value and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from cloudreg.errors import InvalidRequest
from cloudreg_sagemaker import checks

MODEL = {
    "ModelName": "churn-7",
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/r",
    "PrimaryContainer": {"Image": "repo/serve:1"},
}
VARIANT = {"VariantName": "primary", "ModelName": "churn-7", "InstanceType": "ml.g5.xlarge"}


@pytest.mark.parametrize(
    ("operation", "request_", "words"),
    [
        ("CreateModel", {}, "CreateModel: ModelName is missing"),
        ("CreateModel", {**MODEL, "ModelNam": 1}, "no field ModelNam"),
        ("CreateModel", {**MODEL, "ModelName": "a" * 64}, "0 to 63 characters"),
        ("CreateModel", {**MODEL, "ModelName": "a_b"}, r"CreateModel.ModelName: 'a_b' does not"),
        (
            "CreateModel",
            {**MODEL, "PrimaryContainer": {"Environment": {"A-B": "x"}}},
            "Environment key: 'A-B'",
        ),
        (
            "CreateModel",
            {**MODEL, "PrimaryContainer": {"Environment": {"A": "x" * 1025}}},
            r"Environment['A']: ",
        ),
        (
            "CreateModel",
            {**MODEL, "PrimaryContainer": {"Environment": {f"A{n}": "" for n in range(101)}}},
            "101 of them is not 0 to 100 entries",
        ),
        (
            "CreateEndpointConfig",
            {
                "EndpointConfigName": "c",
                "ProductionVariants": [{**VARIANT, "InstanceType": "ml.g5.large"}],
            },
            "ProductionVariants[0].InstanceType: 'ml.g5.large' is none of ml.g5.xlarge",
        ),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": []},
            "1 to 10 entries",
        ),
        (
            "CreateEndpointConfig",
            {
                "EndpointConfigName": "c",
                "ProductionVariants": [{**VARIANT, "InitialVariantWeight": -1.0}],
            },
            "-1.0 is not 0 or more",
        ),
        (
            "CreateEndpointConfig",
            {
                "EndpointConfigName": "c",
                "ProductionVariants": [
                    {**VARIANT, "ContainerStartupHealthCheckTimeoutInSeconds": 3601}
                ],
            },
            "3601 is not 60 to 3600",
        ),
    ],
)
def test_refusals(operation: str, request_: dict[str, Any], words: str) -> None:
    """A field that SageMaker would refuse is named, with its value and the rule."""
    with pytest.raises(InvalidRequest) as caught:
        checks.check_request("sagemaker", operation, request_)

    assert words in caught.value.message


def test_accepted() -> None:
    """What SageMaker takes is taken."""
    checks.check_request("sagemaker", "CreateModel", MODEL)
    checks.check_request(
        "sagemaker",
        "CreateEndpointConfig",
        {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]},
    )


@pytest.mark.parametrize("service", ["sagemaker", "application-autoscaling"])
def test_every_pattern_can_be_read(service: str) -> None:
    """Each pattern of a service that is checked is a regular expression, or free text."""
    model = checks.service_model(service)
    patterns = {
        shape.metadata["pattern"]
        for shape in (model.shape_for(name) for name in model.shape_names)
        if "pattern" in shape.metadata
    }
    free = {text for text in patterns if checks._compiled(text) is None}

    assert patterns - free
    assert all(r"\p{" in text or r"\uD800" in text for text in free)


def test_clients_are_watched(desk: Any) -> None:
    """A request that could only be refused is not sent."""
    client = desk.provider.clients["sagemaker"]
    with desk.cloud.noted() as calls, pytest.raises(InvalidRequest, match="EndpointName"):
        client.describe_endpoint(EndpointName="not_a_name")

    assert calls == []
