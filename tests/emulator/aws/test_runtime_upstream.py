"""What moto's runtime, scaling and metrics still lack: each turns red once upstream closes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/ghost/variant/main",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


def notyet(what: str, raises: type[BaseException] = pytest.fail.Exception) -> Any:
    """Mark what upstream must do, and how its lack shows: most often nothing is refused."""
    return pytest.mark.xfail(strict=True, reason=f"moto 5.2.5: {what}", raises=raises)


@pytest.fixture
def plain() -> Iterator[Callable[[str], Any]]:
    """Clients of plain moto."""
    with mock_aws():
        yield lambda name: boto3.client(name, region_name="us-east-1")


@notyet("any endpoint answers")
def test_unknown_endpoint(plain: Callable[[str], Any]) -> None:
    """An endpoint that is not there is not found."""
    with pytest.raises(ClientError):
        plain("sagemaker-runtime").invoke_endpoint(EndpointName="ghost", Body=b"")


@notyet("there is no response stream", ClientError)
def test_response_stream(plain: Callable[[str], Any]) -> None:
    """The streaming operation has an address."""
    plain("sagemaker-runtime").invoke_endpoint_with_response_stream(EndpointName="ghost", Body=b"")


@notyet("unknown endpoints are registered")
def test_unknown_target(plain: Callable[[str], Any]) -> None:
    """What is not there cannot be scaled."""
    with pytest.raises(ClientError):
        plain("application-autoscaling").register_scalable_target(
            **TARGET, MinCapacity=1, MaxCapacity=2
        )


@notyet("a minimum above the maximum is registered")
def test_bounds(plain: Callable[[str], Any]) -> None:
    """Bounds are in order."""
    with pytest.raises(ClientError):
        plain("application-autoscaling").register_scalable_target(
            **TARGET, MinCapacity=3, MaxCapacity=2
        )


@notyet("a policy needs no target")
def test_policy_without_target(plain: Callable[[str], Any]) -> None:
    """A policy without a target is refused."""
    with pytest.raises(ClientError):
        put(plain)


@notyet("target tracking makes no alarms", AssertionError)
def test_alarms(plain: Callable[[str], Any]) -> None:
    """Target tracking brings its alarms."""
    plain("application-autoscaling").register_scalable_target(
        **TARGET, MinCapacity=1, MaxCapacity=2
    )
    put(plain)

    assert plain("cloudwatch").describe_alarms()["MetricAlarms"]


@notyet("percentiles are None, which cannot be sent", TypeError)
def test_percentiles(plain: Callable[[str], Any]) -> None:
    """A percentile has a value."""
    cloudwatch, now = plain("cloudwatch"), datetime.now(UTC)
    cloudwatch.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])
    stat = {"Metric": {"Namespace": "n", "MetricName": "m"}, "Period": 120, "Stat": "p95"}
    (result,) = cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "q", "MetricStat": stat}],
        StartTime=now - timedelta(seconds=60),
        EndTime=now + timedelta(seconds=60),
    )["MetricDataResults"]

    assert result["Values"] == [1.0]


@notyet("ExtendedStatistics are dropped", KeyError)
def test_extended_statistics(plain: Callable[[str], Any]) -> None:
    """Percentiles that are asked for are answered."""
    cloudwatch, now = plain("cloudwatch"), datetime.now(UTC)
    cloudwatch.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])
    (point,) = cloudwatch.get_metric_statistics(
        Namespace="n", MetricName="m", ExtendedStatistics=["p95"], Period=120,
        StartTime=now - timedelta(seconds=60), EndTime=now + timedelta(seconds=60),
    )["Datapoints"]  # fmt: skip

    assert point["ExtendedStatistics"]["p95"] == 1.0


def put(plain: Callable[[str], Any]) -> Any:
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    return plain("application-autoscaling").put_scaling_policy(
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        **TARGET,
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 1.0, "PredefinedMetricSpecification": metric
        },
    )  # fmt: skip
