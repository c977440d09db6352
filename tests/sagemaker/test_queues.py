"""Asynchronous endpoints follow their queue: policies, alarms, and processes that come and go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import Unsupported
from cloudreg.operations import poll_until
from cloudreg.testing.serving import spec, variant
from cloudreg.types import (
    Asynchronous,
    EndpointKind,
    EndpointSpec,
    EndpointStatus,
    OperationState,
    Resources,
    Scaling,
    ScalingMetric,
    ScalingStep,
)

ASLEEP = Scaling(min_replicas=0, max_replicas=2, scale_in_cooldown_s=0.0)
LASTING = Scaling(min_replicas=0, max_replicas=2, scale_in_cooldown_s=86_400.0)
"""Whose instances stay for the length of a test, once one went."""

QUICK = Scaling(max_replicas=2, target=1.0, scale_out_cooldown_s=0.0)


def queued(desk: Any, scaling: Scaling, *, number: int = 1, **part: Any) -> EndpointSpec:
    plain = spec(
        desk.server.name(), variant("primary", desk.server.version(number), scaling=scaling)
    )
    return replace(plain, kind=EndpointKind.ASYNCHRONOUS, asynchronous=Asynchronous(**part))


def changed(asked: EndpointSpec, **changes: Any) -> EndpointSpec:
    return replace(asked, variants=(replace(asked.variants[0], **changes),))


def where(name: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": f"endpoint/{name}/variant/primary",
    }


def policies(desk: Any, name: str) -> dict[str, dict[str, Any]]:
    found = desk.cloud.client("application-autoscaling").describe_scaling_policies(**where(name))
    return {policy["PolicyName"]: policy for policy in found["ScalingPolicies"]}


def alarms(desk: Any, name: str) -> dict[str, dict[str, Any]]:
    """Return the alarms that are ours, by the first part of their names."""
    client = desk.cloud.client("cloudwatch")
    found = [
        alarm
        for kind in ("cloudreg-wake", "cloudreg-steps")
        for alarm in client.describe_alarms(AlarmNamePrefix=f"{kind}/{name}/")["MetricAlarms"]
    ]
    return {alarm["AlarmName"].partition("/")[0]: alarm for alarm in found}


def submit(desk: Any, name: str, body: bytes = b"{}") -> str:
    said: str = desk.endpoints.submit(name, body, content_type="application/json", timeout_s=30.0)
    return said


def answered(desk: Any, name: str, request_id: str) -> bool:
    found = poll_until(lambda: desk.endpoints.result(name, request_id), bool, timeout_s=90.0)
    return bool(found)


def with_replicas(desk: Any, name: str, count: int) -> Any:
    """Return the endpoint once so many instances are ready, and nothing is being done to it."""
    return desk.server.seen(
        name,
        lambda e: e.variants[0].ready_replicas == count and e.status is EndpointStatus.READY,
        timeout_s=90.0,
    )


def test_the_backlog_is_tracked(desk: Any) -> None:
    """What is tracked is the queue of the endpoint, for each instance; nothing wakes who stays."""
    asked = desk.start(queued(desk, Scaling(max_replicas=3, target=5.0)))
    found = policies(desk, asked.name)
    tracking = found["cloudreg-target"]["TargetTrackingScalingPolicyConfiguration"]

    assert set(found) == {"cloudreg-target"}
    assert tracking["TargetValue"] == 5.0
    assert tracking["CustomizedMetricSpecification"] == {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": asked.name}],
        "Statistic": "Average",
    }
    assert alarms(desk, asked.name) == {}
    assert desk.endpoints.endpoint(asked.name).spec == asked
    assert asked in [endpoint.spec for endpoint in desk.endpoints.endpoints()]


def test_an_alarm_wakes_it(desk: Any) -> None:
    """Where none has to stay, requests that wait for nobody call the policy that brings one."""
    asked = desk.start(queued(desk, LASTING))
    alarm = alarms(desk, asked.name)["cloudreg-wake"]
    waking = policies(desk, asked.name)["cloudreg-wake"]

    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    assert alarm["Dimensions"] == [{"Name": "EndpointName", "Value": asked.name}]
    assert alarm["AlarmActions"] == [waking["PolicyARN"]]
    assert waking["StepScalingPolicyConfiguration"]["StepAdjustments"] == [
        {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}
    ]
    assert desk.endpoints.endpoint(asked.name).spec == asked
    assert asked in [endpoint.spec for endpoint in desk.endpoints.endpoints()]


@pytest.mark.slow
def test_to_zero_and_back(desk: Any) -> None:
    """An idle endpoint has no instance and is well; a queued request wakes it, and is answered."""
    asked = desk.start(queued(desk, ASLEEP))
    resting = with_replicas(desk, asked.name, 0)
    assert (resting.spec, resting.variants[0].desired_replicas) == (asked, 0)

    request_id = submit(desk, asked.name)
    assert answered(desk, asked.name, request_id)
    with_replicas(desk, asked.name, 0)


def test_a_queue_brings_instances(desk: Any) -> None:
    """More requests than the target, waiting or in work, bring another instance."""
    asked = desk.start(queued(desk, QUICK, max_concurrent_per_replica=1))
    waiting = [submit(desk, asked.name, b'{"sleep_s": 1.0}') for _ in range(10)]
    desk.server.seen(asked.name, lambda e: e.variants[0].ready_replicas == 2, timeout_s=90.0)

    assert all(answered(desk, asked.name, request_id) for request_id in waiting)
    assert desk.endpoints.endpoint(asked.name).spec == asked


def test_scaling_changes_in_place(desk: Any) -> None:
    """Bounds, steps and none at all: no instance is replaced, and nothing is left behind."""
    asked = desk.start(queued(desk, LASTING))
    config = desk.describe(asked.name)["EndpointConfigName"]
    stepped = replace(LASTING, steps=(ScalingStep(at=20.0, add=2),))
    for scaling, names in (
        (stepped, {"cloudreg-wake", "cloudreg-steps"}),
        (replace(stepped, min_replicas=1), {"cloudreg-steps"}),
        (LASTING, {"cloudreg-wake"}),
        (Scaling(), set()),
    ):
        wanted = changed(asked, scaling=scaling)
        assert desk.server.update(wanted).state is OperationState.SUCCEEDED
        assert set(alarms(desk, asked.name)) == names
        assert set(policies(desk, asked.name)) - {"cloudreg-target"} == names
        assert desk.endpoints.endpoint(asked.name).spec == wanted

    assert desk.describe(asked.name)["EndpointConfigName"] == config


def test_steps_of_the_backlog(desk: Any) -> None:
    """Steps begin at a length of the queue, too."""
    scaling = Scaling(max_replicas=4, target=5.0, steps=(ScalingStep(at=20.0, add=2),))
    asked = desk.start(queued(desk, scaling))
    alarm = alarms(desk, asked.name)["cloudreg-steps"]

    assert (alarm["MetricName"], alarm["Threshold"]) == ("ApproximateBacklogSizePerInstance", 20.0)
    assert desk.endpoints.endpoint(asked.name).spec == asked


@pytest.mark.slow
def test_a_change_at_rest_is_proved(desk: Any) -> None:
    """Another version of a resting endpoint is started once, before it is said to be there."""
    asked = desk.start(queued(desk, ASLEEP))
    with_replicas(desk, asked.name, 0)
    broken = changed(asked, digest=desk.server.version(2, broken=True).digest, number=2)
    assert desk.server.update(broken).state is OperationState.FAILED
    with_replicas(desk, asked.name, 0)

    good = changed(asked, digest=desk.server.version(3).digest, number=3)
    assert desk.server.update(good).state is OperationState.SUCCEEDED
    resting = with_replicas(desk, asked.name, 0)
    assert (resting.spec, resting.variants[0].digest) == (good, good.variants[0].digest)


@pytest.mark.slow
def test_scaling_of_a_resting_endpoint_starts_nothing(desk: Any) -> None:
    """Other bounds of an endpoint without instances are set, and it sleeps on."""
    asked = desk.start(queued(desk, ASLEEP))
    with_replicas(desk, asked.name, 0)
    wanted = changed(asked, scaling=replace(ASLEEP, max_replicas=3))
    with desk.cloud.noted() as calls:
        assert desk.server.update(wanted).state is OperationState.SUCCEEDED

    assert not [name for name in calls if name.startswith("UpdateEndpoint")]
    assert desk.endpoints.endpoint(asked.name).spec == wanted


def test_another_machine(desk: Any) -> None:
    """Another instance type lets all of the scaling go before, and has it back after."""
    asked = desk.start(queued(desk, LASTING))
    wanted = changed(asked, resources=Resources.parse("T4"))
    with desk.cloud.noted() as calls:
        assert desk.server.update(wanted).state is OperationState.SUCCEEDED

    assert calls.index("DeregisterScalableTarget") < calls.index("UpdateEndpoint")
    assert set(alarms(desk, asked.name)) == {"cloudreg-wake"}
    assert desk.endpoints.endpoint(asked.name).spec == wanted


def test_nothing_is_left(desk: Any) -> None:
    """With the endpoint its policies and its alarm go."""
    asked = desk.start(queued(desk, LASTING))
    desk.server.delete(asked.name)

    assert alarms(desk, asked.name) == {}
    assert policies(desk, asked.name) == {}


@pytest.mark.parametrize("what", ["alarm", "policy"])
def test_nobody_wakes_it(desk: Any, what: str) -> None:
    """Without its alarm or its policy nothing wakes it: that is shown, and an update repairs it."""
    asked = desk.start(queued(desk, LASTING))
    if what == "alarm":
        name = f"cloudreg-wake/{asked.name}/primary"
        desk.cloud.client("cloudwatch").delete_alarms(AlarmNames=[name])
    else:
        desk.cloud.client("application-autoscaling").delete_scaling_policy(
            **where(asked.name), PolicyName="cloudreg-wake"
        )
    seen = desk.endpoints.endpoint(asked.name)
    assert seen.status is EndpointStatus.DEGRADED
    assert seen.message == "primary: nothing brings it back from zero"

    assert desk.server.update(asked).state is OperationState.SUCCEEDED
    assert desk.endpoints.endpoint(asked.name).status is EndpointStatus.READY


def test_a_policy_for_callers_who_wait(desk: Any) -> None:
    """A policy on requests in flight moves nothing behind a queue: that is no policy of ours."""
    asked = desk.start(queued(desk, Scaling(max_replicas=3)))
    desk.cloud.client("application-autoscaling").put_scaling_policy(
        **where(asked.name),
        PolicyName="cloudreg-target",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 4.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
            },
            "ScaleInCooldown": 300,
            "ScaleOutCooldown": 60,
        },
    )
    assert desk.endpoints.endpoint(asked.name).spec == changed(asked, scaling=Scaling())

    assert desk.server.update(asked).state is OperationState.SUCCEEDED
    assert desk.endpoints.endpoint(asked.name).spec == asked


def test_queued_requests_are_counted(desk: Any) -> None:
    """A rollout sees what queued requests came to, good and bad."""
    asked = desk.start(queued(desk, Scaling()))
    good, bad = submit(desk, asked.name), submit(desk, asked.name, b'{"status": 500}')
    assert answered(desk, asked.name, good)

    def counted() -> Any:
        return desk.endpoints.metrics(asked.name, window_s=60.0)["primary"]

    found = poll_until(counted, lambda m: (m.requests, m.errors) == (2, 1), timeout_s=30.0)
    assert found is not None, (counted(), bad)
    assert found.p95_ms is not None


def split(asked: EndpointSpec, scaling: Scaling) -> EndpointSpec:
    first = replace(asked.variants[0], scaling=scaling)
    return replace(
        asked,
        variants=(replace(first, weight=50), replace(first, name="canary", weight=50)),
    )


def test_what_a_queue_does_not_tell(desk: Any) -> None:
    """Devices and calls are nothing to follow here, and no variant wakes beside another."""
    asked = queued(desk, Scaling())
    able = desk.provider.capabilities
    busy = Scaling(max_replicas=2, metric=ScalingMetric.CPU_UTILIZATION, target=60.0)
    with pytest.raises(Unsupported, match="cannot follow cpu_utilization behind a queue") as caught:
        able.require(changed(asked, scaling=busy), target="aws")
    assert caught.value.hint == "concurrency instead of cpu_utilization"
    able.require(split(asked, Scaling(max_replicas=2)), target="aws")
    with pytest.raises(Unsupported, match="a queue wakes no variant"):
        able.require(split(asked, LASTING), target="aws")
