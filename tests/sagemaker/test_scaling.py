"""Replicas follow what was asked for: policies and alarms of AWS, made, read back and removed."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.testing.serving import spec, variant
from cloudreg.types import (
    EndpointSpec,
    OperationState,
    Resources,
    Scaling,
    ScalingMetric,
    ScalingStep,
)
from cloudreg_emulator.faults import Fault, Kind

STEPS = (ScalingStep(at=70.0, add=1), ScalingStep(at=90.0, add=2))
STEPPED = Scaling(
    max_replicas=4,
    metric=ScalingMetric.GPU_UTILIZATION,
    target=60.0,
    steps=STEPS,
    scale_out_cooldown_s=0.0,
)


def simple(desk: Any, scaling: Scaling, gpu: str | None = None, **more: Any) -> EndpointSpec:
    resources = Resources.parse(gpu, **more)
    return spec(
        desk.server.name(),
        variant("primary", desk.server.version(1), scaling=scaling, resources=resources),
    )


def scaled(asked: EndpointSpec, scaling: Scaling) -> EndpointSpec:
    return replace(asked, variants=(replace(asked.variants[0], scaling=scaling),))


def policies(desk: Any, name: str) -> dict[str, dict[str, Any]]:
    found = desk.cloud.client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{name}/variant/primary"
    )["ScalingPolicies"]
    return {policy["PolicyName"]: policy for policy in found}


def alarms(desk: Any, name: str) -> list[dict[str, Any]]:
    found = desk.cloud.client("cloudwatch").describe_alarms(
        AlarmNamePrefix=f"cloudreg-steps/{name}/"
    )
    return list(found["MetricAlarms"])


def shown(desk: Any, asked: EndpointSpec) -> EndpointSpec:
    return desk.endpoints.endpoint(asked.name).spec


@contextmanager
def measured(desk: Any, name: str, metric: str, value: float) -> Iterator[None]:
    """Publish a value of the instances, again and again, as SageMaker does each minute."""
    ending = threading.Event()
    client = desk.cloud.client("cloudwatch")

    def publish() -> None:
        while not ending.wait(0.05):
            client.put_metric_data(
                Namespace="/aws/sagemaker/Endpoints",
                MetricData=[
                    {
                        "MetricName": metric,
                        "Dimensions": [
                            {"Name": "EndpointName", "Value": name},
                            {"Name": "VariantName", "Value": "primary"},
                        ],
                        "Timestamp": datetime.datetime.now(datetime.UTC),
                        "Value": value,
                        "Unit": "Percent",
                    }
                ],
            )

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def test_requests_are_a_predefined_metric(desk: Any) -> None:
    """Requests a minute are what SageMaker itself counts by instance."""
    asked = desk.start(
        simple(
            desk, Scaling(max_replicas=2, metric=ScalingMetric.REQUESTS_PER_MINUTE, target=600.0)
        )
    )
    (policy,) = policies(desk, asked.name).values()
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]

    assert tracking["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    }
    assert (tracking["TargetValue"], tracking["ScaleOutCooldown"]) == (600.0, 60)


@pytest.mark.parametrize(
    ("metric", "gpu", "name", "value"),
    [
        (ScalingMetric.GPU_UTILIZATION, "T4:4", "GPUUtilization", 240.0),
        (ScalingMetric.CPU_UTILIZATION, None, "CPUUtilization", 240.0),
        (ScalingMetric.CPU_UTILIZATION, "T4:4", "CPUUtilization", 2880.0),
    ],
)
def test_utilization_is_of_each_device(
    desk: Any, metric: ScalingMetric, gpu: str | None, name: str, value: float
) -> None:
    """AWS adds the devices of a machine up, and a percentage that is asked for is of each."""
    asked = desk.start(simple(desk, Scaling(max_replicas=2, metric=metric, target=60.0), gpu))
    (policy,) = policies(desk, asked.name).values()
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]

    assert tracking["TargetValue"] == value
    assert tracking["CustomizedMetricSpecification"] == {
        "MetricName": name,
        "Namespace": "/aws/sagemaker/Endpoints",
        "Dimensions": [
            {"Name": "EndpointName", "Value": asked.name},
            {"Name": "VariantName", "Value": "primary"},
        ],
        "Statistic": "Average",
        "Unit": "Percent",
    }
    assert shown(desk, asked) == asked


def test_steps_have_an_alarm(desk: Any) -> None:
    """The alarm begins where the first step does, calls the policy, and is marked as ours."""
    asked = desk.start(simple(desk, STEPPED, "T4:4"))
    (alarm,) = alarms(desk, asked.name)
    policy = policies(desk, asked.name)["cloudreg-steps"]

    assert alarm["AlarmActions"] == [policy["PolicyARN"]]
    assert (alarm["MetricName"], alarm["Threshold"]) == ("GPUUtilization", 280.0)
    assert policy["StepScalingPolicyConfiguration"]["StepAdjustments"] == [
        {
            "MetricIntervalLowerBound": 0.0,
            "MetricIntervalUpperBound": 80.0,
            "ScalingAdjustment": 1,
        },
        {"MetricIntervalLowerBound": 80.0, "ScalingAdjustment": 2},
    ]
    assert shown(desk, asked) == asked
    assert asked in [endpoint.spec for endpoint in desk.endpoints.endpoints()]


def test_steps_really_add_instances(desk: Any) -> None:
    """A GPU that is busy beyond the second step brings two instances at once, and then more."""
    asked = desk.start(simple(desk, STEPPED, "T4"))
    with measured(desk, asked.name, "GPUUtilization", 95.0):
        desk.server.seen(asked.name, lambda e: e.variants[0].ready_replicas == 4, timeout_s=90.0)

    activities = desk.cloud.client("application-autoscaling").describe_scaling_activities(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{asked.name}/variant/primary"
    )["ScalingActivities"]
    assert any("triggered policy cloudreg-steps" in one["Cause"] for one in activities)
    assert activities[-1]["Description"] == "Setting desired instance count to 3."


@pytest.mark.slow
def test_utilization_really_scales(desk: Any) -> None:
    """Busy CPUs bring instances, and idle ones let them go."""
    scaling = Scaling(
        max_replicas=2,
        metric=ScalingMetric.CPU_UTILIZATION,
        target=50.0,
        scale_out_cooldown_s=0.0,
        scale_in_cooldown_s=0.0,
    )
    asked = desk.start(simple(desk, scaling))
    with measured(desk, asked.name, "CPUUtilization", 390.0):
        desk.server.seen(asked.name, lambda e: e.variants[0].ready_replicas == 2, timeout_s=90.0)
    with measured(desk, asked.name, "CPUUtilization", 4.0):
        desk.server.seen(asked.name, lambda e: e.variants[0].ready_replicas == 1, timeout_s=90.0)

    assert shown(desk, asked) == asked


def test_policies_change_in_place(desk: Any) -> None:
    """Another metric, other steps and none at all: no instance is replaced, nothing is left."""
    asked = desk.start(simple(desk, STEPPED, "T4"))
    config = desk.describe(asked.name)["EndpointConfigName"]
    for scaling, names in (
        (replace(STEPPED, steps=STEPS[:1]), {"cloudreg-target", "cloudreg-steps"}),
        (
            replace(STEPPED, metric=ScalingMetric.CPU_UTILIZATION),
            {"cloudreg-target", "cloudreg-steps"},
        ),
        (Scaling(max_replicas=4), {"cloudreg-target"}),
        (Scaling(), set()),
    ):
        wanted = scaled(asked, scaling)
        assert desk.server.update(wanted).state is OperationState.SUCCEEDED
        assert set(policies(desk, asked.name)) == names
        assert len(alarms(desk, asked.name)) == ("cloudreg-steps" in names)
        assert shown(desk, asked) == wanted

    assert desk.describe(asked.name)["EndpointConfigName"] == config


def test_nothing_of_steps_is_left(desk: Any) -> None:
    """With the endpoint its alarm goes, which would be paid for and call nobody."""
    asked = desk.start(simple(desk, STEPPED, "T4"))
    assert len(alarms(desk, asked.name)) == 1
    desk.server.delete(asked.name)

    assert alarms(desk, asked.name) == []
    assert policies(desk, asked.name) == {}


@pytest.mark.parametrize("what", ["policy", "alarm", "steps", "target"])
def test_changes_by_hand_are_seen(desk: Any, what: str) -> None:
    """What somebody removed or changed is shown as it is, and an update puts it right."""
    asked = desk.start(simple(desk, STEPPED, "T4"))
    scaling = desk.cloud.client("application-autoscaling")
    where = {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": f"endpoint/{asked.name}/variant/primary",
    }
    if what == "policy":
        scaling.delete_scaling_policy(**where, PolicyName="cloudreg-target")
        expected = replace(STEPPED, max_replicas=1)
    elif what == "steps":
        scaling.delete_scaling_policy(**where, PolicyName="cloudreg-steps")
        expected = replace(STEPPED, steps=())
    elif what == "alarm":
        (alarm,) = alarms(desk, asked.name)
        desk.cloud.client("cloudwatch").delete_alarms(AlarmNames=[alarm["AlarmName"]])
        expected = replace(STEPPED, steps=())
    else:
        policy = policies(desk, asked.name)["cloudreg-target"]
        tracking = policy["TargetTrackingScalingPolicyConfiguration"] | {"TargetValue": 30.0}
        scaling.put_scaling_policy(
            **where,
            PolicyName="cloudreg-target",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,
        )
        expected = replace(STEPPED, target=30.0)

    assert shown(desk, asked) == scaled(asked, expected)
    assert desk.server.update(asked).state is OperationState.SUCCEEDED
    assert shown(desk, asked) == asked
    assert len(alarms(desk, asked.name)) == 1


def test_steps_survive_another_machine(desk: Any) -> None:
    """Steps are there again after an instance type changed, counted for the new machine."""
    asked = desk.start(simple(desk, STEPPED, "T4"))
    resources = Resources.parse("T4:4")
    wanted = replace(asked, variants=(replace(asked.variants[0], resources=resources),))
    assert desk.server.update(wanted).state is OperationState.SUCCEEDED

    (alarm,) = alarms(desk, asked.name)
    assert alarm["Threshold"] == 280.0
    assert shown(desk, asked) == wanted


def test_burstable_machines_are_not_scaled(opened: Any) -> None:
    """A machine that AWS does not scale is refused before anything is made."""
    desk = opened(machines={"cpu": "ml.t2.medium"})
    with desk.cloud.noted() as calls, pytest.raises(Unsupported, match=r"ml\.t2\.medium"):
        desk.server.create(simple(desk, Scaling(max_replicas=2)))

    assert not [name for name in calls if name.startswith("Create")]


def test_fallback_is_a_list_of_machines(desk: Any) -> None:
    """Classes to fall back to are pools, in the order of the wish."""
    asked = desk.start(simple(desk, Scaling(), "L4", fallback=("A10G", "T4")))
    config = desk.client.describe_endpoint_config(
        EndpointConfigName=desk.describe(asked.name)["EndpointConfigName"]
    )
    (running,) = config["ProductionVariants"]

    assert "InstanceType" not in running
    assert running["InstancePools"] == [
        {"InstanceType": "ml.g6.xlarge", "Priority": 1},
        {"InstanceType": "ml.g5.xlarge", "Priority": 2},
        {"InstanceType": "ml.g4dn.xlarge", "Priority": 3},
    ]
    assert shown(desk, asked) == asked


def test_fallback_serves_where_there_is_no_capacity(desk: Any) -> None:
    """Where the first class has no capacity the next one serves, and the operation succeeds."""
    asked = simple(desk, Scaling(), "L4", fallback=("A10G", "T4"))
    armed = desk.cloud.faults.arm(
        Fault(kind=Kind.CAPACITY, service="*", operation=f"{asked.name}/*", count=1)
    )
    desk.start(asked)
    (running,) = desk.describe(asked.name)["ProductionVariants"]

    assert armed.struck == 1
    used = {p["InstanceType"] for p in running["InstancePools"] if p["CurrentInstanceCount"]}
    assert used == {"ml.g5.xlarge"}
    assert desk.ask(asked.name)["number"] == 1


def test_another_fallback_of_a_scaled_variant(desk: Any) -> None:
    """A change of the pools, which replaces machines, lets the scaling go before and back after."""
    asked = desk.start(simple(desk, Scaling(max_replicas=2), "L4", fallback=("A10G",)))
    other = Resources.parse("L4", fallback=("T4",))
    wanted = replace(asked, variants=(replace(asked.variants[0], resources=other),))
    with desk.cloud.noted() as calls:
        assert desk.server.update(wanted).state is OperationState.SUCCEEDED

    assert calls.index("DeregisterScalableTarget") < calls.index("UpdateEndpoint")
    assert shown(desk, asked) == wanted


@pytest.mark.parametrize(
    ("gpu", "fallback", "scaling", "words"),
    [
        ("A100", ("A100-40GB",), Scaling(), "A100-40GB comes on ml.p4d.24xlarge"),
        (
            "L4",
            ("H100",),
            Scaling(max_replicas=2, metric=ScalingMetric.CPU_UTILIZATION, target=50.0),
            "4 on ml.g6.xlarge, 16 on ml.p5.4xlarge",
        ),
        (
            "H100",
            ("A100",),
            Scaling(max_replicas=2, metric=ScalingMetric.GPU_UTILIZATION, target=50.0),
            "1 on ml.p5.4xlarge, 8 on ml.p4d.24xlarge",
        ),
    ],
)
def test_fallback_that_means_nothing(
    desk: Any, gpu: str, fallback: tuple[str, ...], scaling: Scaling, words: str
) -> None:
    """The same machine twice, and percentages that machines count differently, are refused."""
    with desk.cloud.noted() as calls, pytest.raises(Unsupported) as caught:
        desk.server.create(simple(desk, scaling, gpu, fallback=fallback))

    assert words in caught.value.message
    assert caught.value.hint
    assert not [name for name in calls if name.startswith("Create")]


def test_gpus_are_not_measured_on_the_cpu(desk: Any) -> None:
    """A variant on the CPU has no GPU to follow."""
    with pytest.raises(InvalidRequest, match="no GPU to measure"):
        simple(desk, STEPPED)
