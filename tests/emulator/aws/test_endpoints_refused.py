"""What SageMaker refuses to do to endpoints, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
MODEL = "the service model of botocore"
OPERATOR = "https://github.com/aws/amazon-sagemaker-operator-for-k8s clientwrapper"
EXISTING = "https://github.com/aws/sagemaker-python-sdk/issues/101"
IN_USE = "quoted by users of UpdateEndpoint"
MOTO = "https://github.com/getmoto/moto/pull/5082"
GUARDRAILS = "https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html"
ZERO = "https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request beside the endpoint ``e`` in service on ``c1``, which has two variants' models."""

    id: str
    call: str
    words: str
    source: str
    policy: tuple[Any, ...] | None = None
    request: dict[str, Any] = field(default_factory=dict)


def blue_green(kind: str, **more: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": 60, **more}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}


ALL_AT_ONCE = blue_green("ALL_AT_ONCE")
BATCHES = {
    "RollingUpdatePolicy": {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 60,
    }
}


def update(config: str = "c2", **more: Any) -> dict[str, Any]:
    return {"EndpointName": "e", "EndpointConfigName": config, **more}


def capacities(*wanted: dict[str, Any]) -> dict[str, Any]:
    return {"EndpointName": "e", "DesiredWeightsAndCapacities": list(wanted)}


CASES = [
    Case(
        id="endpoint twice",
        call="create_endpoint",
        request=update("c1"),
        words=f'Cannot create already existing endpoint "{PREFIX}:endpoint/e".',
        source=EXISTING,
    ),
    Case(
        id="endpoint of no config",
        call="create_endpoint",
        request={"EndpointName": "f", "EndpointConfigName": "none"},
        words=f'Could not find endpoint configuration "{PREFIX}:endpoint-config/none".',
        source=OPERATOR,
    ),
    *(
        Case(
            id=f"{call} of no endpoint",
            call=call,
            request={"EndpointName": "none", **more},
            words=f'Could not find endpoint "{PREFIX}:endpoint/none".',
            source=OPERATOR,
        )
        for call, more in (
            ("describe_endpoint", {}),
            ("delete_endpoint", {}),
            ("update_endpoint", {"EndpointConfigName": "c2"}),
            (
                "update_endpoint_weights_and_capacities",
                {"DesiredWeightsAndCapacities": [{"VariantName": "main", "DesiredWeight": 1.0}]},
            ),
        )
    ),
    Case(
        id="update to no config",
        call="update_endpoint",
        request=update("none"),
        words=f'Could not find endpoint configuration "{PREFIX}:endpoint-config/none".',
        source=OPERATOR,
    ),
    Case(
        id="update to its own config",
        call="update_endpoint",
        request=update("c1"),
        words="Cannot update endpoint with the currently in use endpoint configuration",
        source=IN_USE,
    ),
    Case(
        id="two policies",
        call="update_endpoint",
        request=update(DeploymentConfig={**ALL_AT_ONCE, **BATCHES}),
        words="either BlueGreenUpdatePolicy or RollingUpdatePolicy",
        source=MODEL,
    ),
    *(
        Case(
            id=f"canary of {value} {kind}",
            call="update_endpoint",
            policy=("CANARY", value, kind),
            request=update(),
            words=words,
            source=MODEL,
        )
        for value, kind, words in (
            (51, "CAPACITY_PERCENT", "CanarySize 51 must be between 1 and 50 percent"),
            (100, "CAPACITY_PERCENT", "CanarySize 100 must be between 1 and 50 percent"),
            (3, "INSTANCE_COUNT", "CanarySize 3 must be at most 50 percent"),
        )
    ),
    *(
        Case(
            id=f"steps of {value} {kind}",
            call="update_endpoint",
            policy=("LINEAR", value, kind),
            request=update(),
            words=words,
            source=MODEL,
        )
        for value, kind, words in (
            (9, "CAPACITY_PERCENT", "LinearStepSize 9 must be between 10 and 50 percent"),
            (51, "CAPACITY_PERCENT", "LinearStepSize 51 must be between 10 and 50 percent"),
            (3, "INSTANCE_COUNT", "LinearStepSize 3 must be at most 50 percent"),
        )
    ),
    *(
        Case(
            id=f"batches of {value} {kind}",
            call="update_endpoint",
            policy=("ROLLING", value, kind),
            request=update(),
            words=words,
            source=MODEL,
        )
        for value, kind, words in (
            (4, "CAPACITY_PERCENT", "MaximumBatchSize 4 must be between 5 and 50 percent"),
            (51, "CAPACITY_PERCENT", "MaximumBatchSize 51 must be between 5 and 50 percent"),
            (3, "INSTANCE_COUNT", "MaximumBatchSize 3 must be at most 50 percent"),
        )
    ),
    Case(
        id="rollback batches of 101 percent",
        call="update_endpoint",
        request=update(
            DeploymentConfig={
                "RollingUpdatePolicy": {
                    **BATCHES["RollingUpdatePolicy"],
                    "RollbackMaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 101},
                }
            }
        ),
        words="RollbackMaximumBatchSize 101 must be between 5 and 100 percent",
        source=MODEL,
    ),
    *(
        Case(
            id=f"{kind} without {wanted}",
            call="update_endpoint",
            request=update(DeploymentConfig=blue_green(kind)),
            words=f"{wanted} must be specified for traffic routing of type {kind}",
            source=MODEL,
        )
        for kind, wanted in (("CANARY", "CanarySize"), ("LINEAR", "LinearStepSize"))
    ),
    Case(
        id="all at once with a canary",
        call="update_endpoint",
        request=update(
            DeploymentConfig=blue_green(
                "ALL_AT_ONCE", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 50}
            )
        ),
        words="CanarySize cannot be specified for traffic routing of type ALL_AT_ONCE",
        source=MODEL,
    ),
    *(
        Case(
            id=f"{kind} to another variant",
            call="update_endpoint",
            policy=(kind,),
            request=update("renamed"),
            words="requires the variants of the endpoint: ['main']; the new endpoint configuration "
            "has ['other']",
            source=GUARDRAILS,
        )
        for kind in ("CANARY", "LINEAR", "ROLLING")
    ),
    Case(
        id="rolling to two variants",
        call="update_endpoint",
        policy=("ROLLING",),
        request=update("two"),
        words="RollingUpdatePolicy is not supported for multiple production variants",
        source=GUARDRAILS,
    ),
    Case(
        id="rolling to serverless",
        call="update_endpoint",
        policy=("ROLLING",),
        request=update("serverless"),
        words="RollingUpdatePolicy is not supported for serverless variants",
        source=GUARDRAILS,
    ),
    Case(
        id="instances to serverless",
        call="update_endpoint",
        request=update("serverless"),
        words="Updating an instance-based endpoint to a serverless one is not supported.",
        source="https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html",
    ),
    Case(
        id="rolling with a shadow",
        call="update_endpoint",
        policy=("ROLLING",),
        request=update("shadowed"),
        words="RollingUpdatePolicy is not supported for shadow production variants",
        source=GUARDRAILS,
    ),
    Case(
        id="create with a broken policy",
        call="create_endpoint",
        policy=("CANARY", 51),
        request={"EndpointName": "f", "EndpointConfigName": "c1"},
        words="CanarySize 51",
        source=MODEL,
    ),
    Case(
        id="capacity of no variant",
        call="update_endpoint_weights_and_capacities",
        request=capacities({"VariantName": "none", "DesiredWeight": 1.0}),
        words='The variant name(s) "none" is/are not present within endpoint configuration "c1".',
        source=MOTO,
    ),
    Case(
        id="capacity of a variant twice",
        call="update_endpoint_weights_and_capacities",
        request=capacities({"VariantName": "main"}, {"VariantName": "main"}),
        words="must be unique",
        source=MODEL,
    ),
    Case(
        id="capacity of none",
        call="update_endpoint_weights_and_capacities",
        request=capacities({"VariantName": "main", "DesiredInstanceCount": 0}),
        words="DesiredInstanceCount of variant main must be at least 1",
        source=ZERO,
    ),
    Case(
        id="serverless capacity of instances",
        call="update_endpoint_weights_and_capacities",
        request=capacities(
            {"VariantName": "main", "ServerlessUpdateConfig": {"MaxConcurrency": 5}}
        ),
        words="ServerlessUpdateConfig requires a serverless variant",
        source=MODEL,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refusals(
    case: Case,
    client: Any,
    endpoint: str,
    cast: Any,
    policy: Callable[..., dict[str, Any]],
    refused: Callable[..., str],
) -> None:
    """What SageMaker refuses is refused with its words, and the endpoint stays as it was."""
    before = _body(client.describe_endpoint(EndpointName="e"))
    groups = len(cast.running)

    request = dict(case.request)
    if case.policy:
        request["DeploymentConfig"] = policy(*case.policy)

    refused(getattr(client, case.call), "ValidationException", case.words, **request)

    assert case.source
    assert _body(client.describe_endpoint(EndpointName="e")) == before
    assert len(cast.running) == groups
    assert len(client.list_endpoints()["Endpoints"]) == 1


def _body(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}
