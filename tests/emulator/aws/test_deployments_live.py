"""Deployments with real containers: what callers see while an endpoint changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cloudreg_emulator.faults import Fault, Kind

ROLE = "arn:aws:iam::123456789012:role/hosting"


def deployment(kind: str, wait: int = 30, *alarms: str) -> dict[str, Any]:
    half = {"Type": "CAPACITY_PERCENT", "Value": 50}
    policy: dict[str, Any]
    if kind == "ROLLING":
        policy = {"RollingUpdatePolicy": {"MaximumBatchSize": half, "WaitIntervalInSeconds": wait}}
    else:
        key = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}[kind]
        routing = {"Type": kind, "WaitIntervalInSeconds": wait, key: half}
        policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    if alarms:
        named = [{"AlarmName": name} for name in alarms]
        policy["AutoRollbackConfiguration"] = {"Alarms": named}
    return policy


def change(live: Any, model: str, **request: Any) -> None:
    live.sagemaker.create_endpoint_config(
        EndpointConfigName=f"to-{model}", ProductionVariants=[live.variant("main", model, count=2)]
    )
    live.sagemaker.update_endpoint(
        EndpointName="churn", EndpointConfigName=f"to-{model}", **request
    )


def answers(live: Any) -> tuple[set[int], dict[str, Any]]:
    """Ask until nothing is being done to the endpoint; every request must be answered."""
    seen: set[int] = set()
    while True:
        body = live.sagemaker.describe_endpoint(EndpointName="churn")
        if body["EndpointStatus"] != "Updating":
            return seen, body
        seen.update(live.ask(asked={"x": [1]})["said"]["y"])


@pytest.mark.parametrize("kind", ["CANARY", "LINEAR", "ROLLING"])
def test_no_request_is_lost(live: Any, kind: str) -> None:
    """During a change both models answer, after it the new one alone, and none of it fails."""
    live.deploy("churn", live.variant("main", live.model("double", scale=2), count=2))
    change(live, live.model("triple", scale=3), DeploymentConfig=deployment(kind))

    seen, body = answers(live)

    assert seen == {2, 3}
    assert body["EndpointConfigName"] == "to-triple"
    assert {live.ask(asked={"x": [1]})["said"]["y"][0] for _ in range(4)} == {3}


def test_a_container_that_crashes(live: Any) -> None:
    """A model that cannot load never answers anybody, and the old one goes on."""
    live.deploy("churn", live.variant("main", live.model("double", scale=2), count=2))
    change(live, live.model("broken", crash=3))

    seen, body = answers(live)

    assert seen <= {2}
    assert body["EndpointConfigName"] == "churn-1"
    assert "did not pass the ping health check" in body["FailureReason"]
    assert live.ask(asked={"x": [1]})["said"]["y"] == [2]


def test_an_alarm_during_a_canary(live: Any) -> None:
    """An alarm gives all requests back to the old model."""
    live.client("cloudwatch").put_metric_alarm(
        AlarmName="errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    live.deploy("churn", live.variant("main", live.model("double", scale=2), count=2))
    triple = live.model("triple", scale=3)
    change(live, triple, DeploymentConfig=deployment("CANARY", 3600, "errors"))
    seen: set[int] = set()
    while 3 not in seen:
        live.sagemaker.describe_endpoint(EndpointName="churn")
        seen.update(live.ask(asked={"x": [1]})["said"]["y"])

    live.client("cloudwatch").set_alarm_state(
        AlarmName="errors", StateValue="ALARM", StateReason="test"
    )
    _, body = answers(live)

    assert body["EndpointConfigName"] == "churn-1"
    assert {live.ask(asked={"x": [1]})["said"]["y"][0] for _ in range(4)} == {2}


def test_model_data_that_is_not_there(live: Any) -> None:
    """A model whose data is missing fails the endpoint, and says so."""
    live.model("double", scale=2)
    live.client("s3").delete_object(Bucket="models", Key="double/model.json")
    live.sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[live.variant("main", "double")]
    )
    live.sagemaker.create_endpoint(EndpointName="churn", EndpointConfigName="c")

    body = live.settled("churn")

    assert body["EndpointStatus"] == "Failed"
    assert "s3://models/double/" in body["FailureReason"]


def test_a_pool_without_capacity(live: Any) -> None:
    """A fault of capacity on one instance type makes the next pool answer."""
    armed = live.emulator.faults.arm(Fault(kind=Kind.CAPACITY, operation="churn/main", count=1))
    pools = [
        {"InstanceType": "ml.g5.xlarge", "Priority": 1},
        {"InstanceType": "ml.g6.xlarge", "Priority": 2},
    ]
    variant = live.variant("main", live.model("double", scale=2))
    del variant["InstanceType"]
    live.deploy("churn", {**variant, "InstancePools": pools})

    assert armed.struck == 1
    body = live.sagemaker.describe_endpoint(EndpointName="churn")
    [shown] = body["ProductionVariants"]
    counts = {one["InstanceType"]: one["CurrentInstanceCount"] for one in shown["InstancePools"]}
    assert counts == {"ml.g5.xlarge": 0, "ml.g6.xlarge": 1}
    assert live.ask(asked={"x": [1]})["said"]["y"] == [2]


def test_a_batch_transform(live: Any, until: Callable[..., None]) -> None:
    """A data set is scored by the container that would answer requests."""
    s3 = live.client("s3")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="in/a.jsonl", Body=b'{"x": [1]}\n{"x": [2]}\n')
    live.sagemaker.create_model(
        ModelName="batch",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/test:1"},
    )
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}
    live.sagemaker.create_transform_job(
        TransformJobName="j",
        ModelName="batch",
        BatchStrategy="SingleRecord",
        TransformInput={"DataSource": {"S3DataSource": source}, "SplitType": "Line"},
        TransformOutput={"S3OutputPath": "s3://data/out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
    )

    def status() -> str:
        body = live.sagemaker.describe_transform_job(TransformJobName="j")
        return str(body["TransformJobStatus"])

    until(lambda: status() != "InProgress")

    assert status() == "Completed"
    written = s3.get_object(Bucket="data", Key="out/a.jsonl.out")["Body"].read()
    assert [json.loads(line)["y"] for line in written.splitlines()] == [[1], [2]]
