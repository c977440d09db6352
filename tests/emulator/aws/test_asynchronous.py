"""The queue of an asynchronous endpoint: what CloudWatch hears of it, and what follows it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.aws.autoscaling.ticking import tick
from cloudreg_emulator.aws.runtime import asynchronous

CONFIG = {"OutputConfig": {"S3OutputPath": "s3://models/out", "S3FailurePath": "s3://models/bad"}}
ONE_BY_ONE = {**CONFIG, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1}}
TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/churn/variant/main",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
QUEUE = [{"Name": "EndpointName", "Value": "churn"}]
VARIANT = [*QUEUE, {"Name": "VariantName", "Value": "main"}]


@pytest.fixture
def live(make_live):
    """An emulated AWS in which a minute takes 60 milliseconds."""
    return make_live(scale=0.001)


def submit(live, asked, **more):
    return live.runtime.invoke_endpoint_async(
        EndpointName="churn",
        Body=json.dumps(asked).encode(),
        ContentType="application/json",
        **more,
    )


def there(live, uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        return live.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError:
        return None


def instances(live):
    (variant,) = live.sagemaker.describe_endpoint(EndpointName="churn")["ProductionVariants"]
    return variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]


def resize(live, count):
    live.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="churn",
        DesiredWeightsAndCapacities=[{"VariantName": "main", "DesiredInstanceCount": count}],
    )
    live.settled("churn")


def measured(live, name, statistic, dimensions=QUEUE):
    """Return a statistic of everything that was published; None where nothing was."""
    found = live.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=name,
        Dimensions=dimensions,
        StartTime=datetime.now(UTC) - timedelta(hours=1),
        EndTime=datetime.now(UTC) + timedelta(hours=1),
        Period=86_400,
        Statistics=[statistic],
    )["Datapoints"]
    return found[0][statistic] if found else None


def put_policies(live, target=4.0):
    """Put the two policies of the page on autoscaling, and the alarm that calls the second."""
    scaling = live.client("application-autoscaling")
    scaling.put_scaling_policy(
        PolicyName="backlog",
        PolicyType="TargetTrackingScaling",
        **TARGET,
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": target,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": QUEUE,
                "Statistic": "Average",
            },
            "ScaleInCooldown": 0,
            "ScaleOutCooldown": 0,
        },
    )
    woken = scaling.put_scaling_policy(
        PolicyName="wake",
        PolicyType="StepScaling",
        **TARGET,
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 300,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    live.client("cloudwatch").put_metric_alarm(
        AlarmName="wake",
        MetricName="HasBacklogWithoutCapacity",
        Namespace="AWS/SageMaker",
        Statistic="Average",
        Dimensions=QUEUE,
        EvaluationPeriods=2,
        DatapointsToAlarm=2,
        Period=60,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        AlarmActions=[woken["PolicyARN"]],
    )


def test_a_queue_without_instances(live, until):
    """Requests that find no instance wait, are counted, and are told as a lack of capacity."""
    live.doubling(AsyncInferenceConfig=CONFIG)
    resize(live, 0)
    tickets = [submit(live, {"x": [number]}) for number in (1, 2, 3)]

    assert measured(live, "ApproximateBacklogSize", "Maximum") == 3
    assert measured(live, "ApproximateBacklogSizePerInstance", "Maximum") == 3
    assert measured(live, "HasBacklogWithoutCapacity", "Minimum") == 1
    resize(live, 1)
    until(lambda: all(there(live, ticket["OutputLocation"]) for ticket in tickets))
    until(lambda: measured(live, "ApproximateBacklogSize", "Minimum") == 0)
    assert measured(live, "HasBacklogWithoutCapacity", "Minimum") == 0
    assert measured(live, "ApproximateAgeOfOldestRequest", "Maximum") > 0


def test_metrics_of_queued_requests(live, until):
    """A queued request is counted as processed; metrics of callers who wait have no value."""
    live.doubling(AsyncInferenceConfig=CONFIG)
    good = submit(live, {"x": [1]})
    bad = submit(live, {"status": 500})
    until(lambda: there(live, good["OutputLocation"]) and there(live, bad["FailureLocation"]))

    assert measured(live, "InvocationsProcessed", "Sum", VARIANT) == 2
    assert measured(live, "InvocationFailures", "Sum", VARIANT) == 1
    assert measured(live, "Invocation5XXErrors", "Sum", VARIANT) == 1
    assert measured(live, "TimeInBacklog", "Maximum", VARIANT) > 0
    for unpublished in ("Invocations", "InvocationsPerInstance", "OverheadLatency"):
        assert measured(live, unpublished, "Sum", VARIANT) is None


def test_failures_that_no_instance_saw(live, until):
    """Input that cannot be read is a failure of its own kind."""
    live.doubling(AsyncInferenceConfig=CONFIG)
    ticket = live.runtime.invoke_endpoint_async(
        EndpointName="churn", InputLocation="s3://models/missing"
    )
    until(lambda: there(live, ticket["FailureLocation"]))

    assert measured(live, "RequestDownloadFailures", "Sum", VARIANT) == 1
    assert measured(live, "InvocationsProcessed", "Sum", VARIANT) is None


def test_a_request_expires(live, until, monkeypatch):
    """A request that finds no instance in the time that it was given fails."""
    monkeypatch.setattr(asynchronous, "LEAST_TTL_S", 0.0)
    live.doubling(AsyncInferenceConfig=CONFIG)
    resize(live, 0)
    ticket = submit(live, {"x": [1]}, RequestTTLSeconds=60)
    until(lambda: there(live, ticket["FailureLocation"]))

    assert b"expired" in there(live, ticket["FailureLocation"])
    assert measured(live, "ExpiredRequests", "Sum", VARIANT) == 1


def test_each_instance_has_its_limit(live, until):
    """An instance gets as many requests at once as the configuration says, in their order."""
    live.doubling(AsyncInferenceConfig=ONE_BY_ONE)
    began = time.monotonic()
    tickets = [submit(live, {"sleep_s": 0.3}) for _ in range(3)]
    order = []

    def answered():
        for ticket in tickets:
            if ticket["InferenceId"] not in order and there(live, ticket["OutputLocation"]):
                order.append(ticket["InferenceId"])
        return len(order) == 3

    until(answered)
    assert time.monotonic() - began >= 0.9
    assert order == [ticket["InferenceId"] for ticket in tickets]


def test_the_queue_wakes_and_idleness_ends(live, until):
    """From no process at all one request brings one back; when the queue is empty it goes."""
    live.doubling(AsyncInferenceConfig=CONFIG)
    scaling = live.client("application-autoscaling")
    scaling.register_scalable_target(**TARGET, MinCapacity=0, MaxCapacity=2)
    put_policies(live)

    def ticking(condition):
        tick()
        return condition()

    for number in (1, 2):
        until(lambda: ticking(lambda: instances(live) == (0, 0)))
        until(lambda: live.emulator.fleet.pids == [])
        ticket = submit(live, {"x": [number]})
        until(lambda t=ticket: ticking(lambda: there(live, t["OutputLocation"])))

    causes = [
        activity["Cause"]
        for activity in scaling.describe_scaling_activities(ServiceNamespace="sagemaker")[
            "ScalingActivities"
        ]
    ]
    assert sum("triggered policy wake" in cause for cause in causes) == 2
    assert sum("AlarmLow" in cause for cause in causes) >= 2


def test_a_long_queue_brings_more(live, until):
    """More requests for each instance than the target bring instances, up to the maximum."""
    live.doubling(AsyncInferenceConfig=ONE_BY_ONE)
    live.client("application-autoscaling").register_scalable_target(
        **TARGET, MinCapacity=1, MaxCapacity=2
    )
    put_policies(live, target=1.0)
    tickets = [submit(live, {"sleep_s": 0.5}) for _ in range(12)]

    def grown():
        tick()
        return instances(live) == (2, 2)

    until(grown)
    until(lambda: all(there(live, ticket["OutputLocation"]) for ticket in tickets))
