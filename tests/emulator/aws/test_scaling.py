"""Autoscaling that scales: alarms follow the traffic, and processes start and stop."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.aws.autoscaling.ticking import Ticker, tick
from cloudreg_emulator.faults import Fault

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/churn/variant/main",
    "ScalableDimension": INSTANCES,
}
COMPONENT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "inference-component/churn",
    "ScalableDimension": COPIES,
}


@pytest.fixture
def live(make_live):
    """An emulated AWS in which a minute takes 60 milliseconds."""
    return make_live(scale=0.001)


@pytest.fixture
def scaling(live):
    return live.client("application-autoscaling")


@pytest.fixture
def register(live, scaling):
    """Registers the variant of a new endpoint, and puts one policy where one is given."""

    def run(low=1, high=3, *, count=1, tracking=None, steps=None, **config):
        variant = live.variant("main", live.model("double", scale=2), count=count)
        live.deploy("churn", variant, **config)
        scaling.register_scalable_target(**TARGET, MinCapacity=low, MaxCapacity=high)
        if tracking is not None:
            put(scaling, "tracking", **tracking)
        if steps is not None:
            return put_steps(scaling, steps)
        return None

    return run


def put(scaling, name, *, target=2.0, metric="SageMakerVariantInvocationsPerInstance", **more):
    usual = {
        "TargetValue": target,
        "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
        "ScaleInCooldown": 0,
        "ScaleOutCooldown": 0,
    }
    config = {**usual, **more}
    if "CustomizedMetricSpecification" in config:
        del config["PredefinedMetricSpecification"]
    return scaling.put_scaling_policy(
        PolicyName=name,
        PolicyType="TargetTrackingScaling",
        **TARGET,
        TargetTrackingScalingPolicyConfiguration=config,
    )


def put_steps(scaling, steps, *, target=TARGET, cooldown=0):
    return scaling.put_scaling_policy(
        PolicyName="steps",
        PolicyType="StepScaling",
        **target,
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": steps,
            "Cooldown": cooldown,
        },
    )["PolicyARN"]


@pytest.fixture
def traffic(live):
    """Asks an endpoint again and again, from four threads, until the block ends."""

    class Traffic:
        def __enter__(self):
            self.ending, self.failures = threading.Event(), []
            self.threads = [threading.Thread(target=self.run) for _ in range(4)]
            for thread in self.threads:
                thread.start()
            return self

        def run(self):
            while not self.ending.is_set():
                try:
                    live.ask(asked={"sleep_s": 0.005})
                except ClientError as error:
                    self.failures.append(error)

        def __exit__(self, *_):
            self.ending.set()
            for thread in self.threads:
                thread.join()

    return Traffic()


def instances(live):
    (variant,) = live.sagemaker.describe_endpoint(EndpointName="churn")["ProductionVariants"]
    return variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]


def ticking(condition):
    """Return a condition that ticks before it asks."""

    def check():
        tick()
        return condition()

    return check


def activities(scaling, **asked):
    found = scaling.describe_scaling_activities(ServiceNamespace="sagemaker", **asked)
    return found["ScalingActivities"]


def test_out_and_in(live, scaling, register, traffic, until):
    """Traffic brings instances up to the maximum, and silence brings them back to the minimum."""
    register(1, 3, tracking={})
    with traffic:
        until(ticking(lambda: instances(live) == (3, 3)))
        assert len(live.emulator.fleet.pids) == 3
    until(ticking(lambda: instances(live) == (1, 1)))
    until(lambda: len(live.emulator.fleet.pids) == 1)
    tick()

    assert traffic.failures == []
    first = activities(scaling)[-1]
    assert first["Description"].startswith("Setting desired instance count to ")
    assert "AlarmHigh" in first["Cause"]
    assert first["Cause"].endswith("in state ALARM triggered policy tracking")
    assert {activity["StatusCode"] for activity in activities(scaling)} == {"Successful"}
    assert "AlarmLow" in activities(scaling)[0]["Cause"]


def test_concurrency(live, register, traffic, until):
    """Requests at once are a metric, too: four at once, two for each instance, need two."""
    register(1, 2, tracking={
        "metric": "SageMakerVariantConcurrentRequestsPerModelHighResolution", "target": 1.5
    })  # fmt: skip
    with traffic:
        until(ticking(lambda: instances(live) == (2, 2)))


def test_custom_metric(live, register, until):
    """A metric that the user publishes scales: GPU utilisation, say."""
    custom = {
        "MetricName": "GPUUtilization",
        "Namespace": "/aws/sagemaker/Endpoints",
        "Dimensions": [{"Name": "EndpointName", "Value": "churn"}],
        "Statistic": "Average",
    }
    register(1, 4, tracking={"CustomizedMetricSpecification": custom, "target": 50.0})

    def publish():
        live.client("cloudwatch").put_metric_data(
            Namespace="/aws/sagemaker/Endpoints",
            MetricData=[
                {"MetricName": "GPUUtilization", "Dimensions": custom["Dimensions"],
                 "Value": 95.0, "Timestamp": datetime.now(UTC)}
            ],
        )  # fmt: skip
        return instances(live)[0] >= 2

    until(ticking(publish))


def test_bounds(live, scaling, register, until):
    """Raising the minimum starts instances, and lowering the maximum ends them, without traffic."""
    register(1, 3)
    scaling.register_scalable_target(**TARGET, MinCapacity=2)
    until(ticking(lambda: instances(live) == (2, 2)))
    assert activities(scaling)[0]["Cause"] == "minimum capacity was set to 2"
    scaling.register_scalable_target(**TARGET, MinCapacity=1, MaxCapacity=1)
    until(ticking(lambda: instances(live) == (1, 1)))

    assert activities(scaling)[0]["Cause"] == "maximum capacity was set to 1"


@pytest.mark.parametrize(
    "why", [{"suspended": "DynamicScalingOutSuspended"}, {"maximum": 1}], ids=str
)
def test_not_out(live, scaling, register, traffic, until, why):
    """Suspended, or at its maximum, nothing is started although the alarm rings."""
    register(1, why.get("maximum", 3), tracking={})
    if "suspended" in why:
        scaling.register_scalable_target(**TARGET, SuspendedState={why["suspended"]: True})
    cloudwatch = live.client("cloudwatch")

    def rings():
        alarms = cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"]
        return any("-AlarmHigh-" in alarm["AlarmName"] for alarm in alarms)

    with traffic:
        until(ticking(rings))
        for _ in range(5):
            tick()

    assert instances(live) == (1, 1)
    assert activities(scaling) == []


@pytest.mark.parametrize("how", ["DisableScaleIn", "DynamicScalingInSuspended"])
def test_not_in(live, scaling, register, until, how):
    """Where scaling in is off, silence ends nothing."""
    register(1, 3, count=2, tracking={"DisableScaleIn": True} if how == "DisableScaleIn" else {})
    if how != "DisableScaleIn":
        scaling.register_scalable_target(**TARGET, SuspendedState={how: True})
    cloudwatch = live.client("cloudwatch")
    deadline = time.monotonic() + 1.3  # fifteen periods of 60 milliseconds, and some

    def silence():
        alarms = cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"]
        # Without scale-in there is no such alarm to wait for.
        rings = any("-AlarmLow-" in alarm["AlarmName"] for alarm in alarms)
        return rings if how != "DisableScaleIn" else time.monotonic() > deadline

    until(ticking(silence))
    for _ in range(5):
        tick()

    assert instances(live) == (2, 2)


def test_step_policy(live, scaling, register, until):
    """A step policy acts when an alarm of the user's names it; cooldowns are kept."""
    arn = register(1, 3, steps=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}])
    cloudwatch = live.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="busy", MetricName="queue", Namespace="mine", Statistic="Average", Period=60,
        EvaluationPeriods=1, Threshold=10.0, ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[arn],
    )  # fmt: skip
    put_steps(scaling, [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}], cooldown=100_000)
    cloudwatch.set_alarm_state(AlarmName="busy", StateValue="ALARM", StateReason="by hand")
    until(ticking(lambda: instances(live) == (2, 2)))
    for _ in range(5):
        tick()

    assert instances(live) == (2, 2)
    assert "monitor alarm busy in state ALARM" in activities(scaling)[0]["Cause"]
    put_steps(scaling, [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}])
    until(ticking(lambda: instances(live) == (3, 3)))


def test_alarms_of_the_user(live, register, until):
    """An alarm on errors rings by itself; without data it keeps what somebody set."""
    register()
    cloudwatch = live.client("cloudwatch")
    usual = {
        "Namespace": "AWS/SageMaker",
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 0.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "Dimensions": [
            {"Name": "EndpointName", "Value": "churn"},
            {"Name": "VariantName", "Value": "main"},
        ],
    }
    cloudwatch.put_metric_alarm(AlarmName="errors", MetricName="Invocation5XXErrors", **usual)
    cloudwatch.put_metric_alarm(AlarmName="quiet", MetricName="Nothing", **usual)
    cloudwatch.set_alarm_state(AlarmName="quiet", StateValue="ALARM", StateReason="by hand")

    def state(name):
        (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return alarm["StateValue"]

    def fail():
        with pytest.raises(ClientError):
            live.ask(asked={"status": 500})
        return state("errors") == "ALARM"

    until(ticking(fail))

    def succeed():
        live.ask()
        return state("errors") == "OK"

    until(ticking(succeed))
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="by hand")
    live.ask()
    tick()
    # A state that is set by hand holds for a moment, for a rollout to see it.
    assert (state("errors"), state("quiet")) == ("ALARM", "ALARM")


def test_no_capacity(live, scaling, register, until):
    """Where no instance can be had the activity fails, and what ran goes on."""
    register(1, 3)
    live.emulator.faults.arm(
        Fault(kind="capacity", service="fleet", operation="churn/main", count=1)
    )
    scaling.register_scalable_target(**TARGET, MinCapacity=2)
    until(
        ticking(lambda: [a for a in activities(scaling) if a["StatusCode"] == "Failed"]),
    )

    assert live.ask(asked={"x": [1]})["said"]["y"] == [2]
    # The next try finds one.
    until(ticking(lambda: instances(live) == (2, 2)))


def test_asynchronous_endpoint_to_zero(live, scaling, register, until):
    """An asynchronous endpoint rests without any process, and its queue waits for one."""
    config = {"OutputConfig": {"S3OutputPath": "s3://models/out"}}
    register(0, 1, AsyncInferenceConfig=config)
    scaling.register_scalable_target(**TARGET, MaxCapacity=0)
    until(ticking(lambda: instances(live) == (0, 0)))
    ticket = live.runtime.invoke_endpoint_async(EndpointName="churn", Body=b'{"x": [1]}')
    bucket, _, key = ticket["OutputLocation"].removeprefix("s3://").partition("/")
    scaling.register_scalable_target(**TARGET, MinCapacity=1, MaxCapacity=1)
    tick()

    def answer():
        try:
            return live.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError:
            return None

    until(lambda: instances(live) == (1, 1) and answer())
    assert json.loads(answer())["y"] == [2]


@pytest.fixture
def component(live, until):
    """An endpoint without a model, and a component ``churn`` on it."""
    live.model("double", scale=2)
    host = {
        "VariantName": "main",
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
    }
    live.deploy("churn", host, ExecutionRoleArn="arn:aws:iam::123456789012:role/hosting")
    live.sagemaker.create_inference_component(
        InferenceComponentName="churn",
        EndpointName="churn",
        VariantName="main",
        Specification={
            "ModelName": "double",
            "ComputeResourceRequirements": {
                "NumberOfAcceleratorDevicesRequired": 1, "MinMemoryRequiredInMb": 1024
            },
        },
        RuntimeConfig={"CopyCount": 1},
    )  # fmt: skip
    describe = live.sagemaker.describe_inference_component

    def copies():
        body = describe(InferenceComponentName="churn")
        return body["InferenceComponentStatus"], body["RuntimeConfig"]["CurrentCopyCount"]

    until(lambda: copies() == ("InService", 1))
    return copies


def test_component(live, component):
    """A component answers who names it; without its name the endpoint has nothing to offer."""
    assert live.ask(asked={"x": [1]}, InferenceComponentName="churn")["said"]["y"] == [2]
    for name, words in ((None, "Inference Component Name header is required"), ("ghost", "ghost")):
        with pytest.raises(ClientError) as caught:
            live.ask(**({"InferenceComponentName": name} if name else {}))
        assert words in caught.value.response["Error"]["Message"]


def test_component_to_zero_and_back(live, scaling, component, until):
    """A component rests without a process; requests that fail for that bring it back.

    Source: endpoint-auto-scaling-zero-instances.html: a step policy on an alarm on
    NoCapacityInvocationFailures.
    """
    scaling.register_scalable_target(**COMPONENT, MinCapacity=0, MaxCapacity=1)
    steps = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]
    arn = put_steps(scaling, steps, target=COMPONENT)
    live.client("cloudwatch").put_metric_alarm(
        AlarmName="asked", MetricName="NoCapacityInvocationFailures", Namespace="AWS/SageMaker",
        Statistic="Maximum", Period=60, EvaluationPeriods=1, Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold", TreatMissingData="missing",
        Dimensions=[{"Name": "InferenceComponentName", "Value": "churn"}], AlarmActions=[arn],
    )  # fmt: skip
    live.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="churn", DesiredRuntimeConfig={"CopyCount": 0}
    )
    until(lambda: component() == ("InService", 0) and live.emulator.fleet.pids == [])

    def ask():
        with pytest.raises(ClientError) as caught:
            live.ask(InferenceComponentName="churn")
        assert "Inference Component has no capacity" in str(caught.value)
        tick()
        return component()[0] == "Updating"

    until(ask)
    until(ticking(lambda: component() == ("InService", 1)))
    assert live.ask(asked={"x": [1]}, InferenceComponentName="churn")["said"]["y"] == [2]


def test_component_metrics(live, component):
    """A component's traffic is counted under its own name."""
    live.ask(InferenceComponentName="churn")
    now = datetime.now(UTC)
    (point,) = live.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker", MetricName="InvocationsPerCopy", Statistics=["Sum"], Period=120,
        Dimensions=[{"Name": "InferenceComponentName", "Value": "churn"}],
        StartTime=now - timedelta(seconds=60), EndTime=now + timedelta(seconds=60),
    )["Datapoints"]  # fmt: skip

    assert point["Sum"] == 1


def test_ticker(live, scaling, register, until):
    """A server's thread ticks by itself, and ends with its block."""
    register(1, 3)
    before = threading.active_count()
    with Ticker(scale=0.001):
        scaling.register_scalable_target(**TARGET, MinCapacity=2)
        until(lambda: instances(live) == (2, 2))

    assert threading.active_count() <= before + 2  # the second instance has two threads


def test_activities_are_filtered(live, scaling, register, until):
    """Activities are those of one resource, the newest first, in pages."""
    register(1, 3)
    for low in (2, 3):
        scaling.register_scalable_target(**TARGET, MinCapacity=low)
        until(ticking(lambda low=low: instances(live) == (low, low)))
    page = scaling.describe_scaling_activities(ServiceNamespace="sagemaker", MaxResults=1)
    rest = scaling.describe_scaling_activities(
        ServiceNamespace="sagemaker", NextToken=page["NextToken"]
    )

    assert [a["Description"] for a in (*page["ScalingActivities"], *rest["ScalingActivities"])] == [
        "Setting desired instance count to 3.",
        "Setting desired instance count to 2.",
    ]
    assert activities(scaling, ResourceId="endpoint/other/variant/main") == []
