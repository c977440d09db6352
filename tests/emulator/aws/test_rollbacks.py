"""What goes wrong during an update leaves the old configuration in service."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend
from cloudreg_emulator.aws.world import World
from cloudreg_emulator.faults import Fault, Faults, Kind

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity."
)
UNHEALTHY = "The primary container for production variant main did not pass the ping health check."


@pytest.mark.parametrize("kind", ["ALL_AT_ONCE", "CANARY", "LINEAR", "ROLLING"])
def test_containers_that_do_not_come_up(
    client: Any,
    make: Any,
    endpoint: str,
    cast: Any,
    backend: SageMakerBackend,
    policy: Any,
    kind: str,
) -> None:
    """A failed update ends InService on the old configuration, with its reason."""
    cast.failing["bad:1"] = UNHEALTHY
    client.update_endpoint(**make.to("broken", DeploymentConfig=policy(kind)))

    found = make.settled()

    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "c1")
    assert found["FailureReason"] == UNHEALTHY
    assert "PendingDeploymentSummary" not in found
    assert make.shares(backend) == {"m1": 1.0}
    [group] = cast.running
    assert (group.launch.image, group.desired) == ("m1:1", 4)
    client.update_endpoint(**make.to("c2"))
    assert "FailureReason" not in make.settled()


@pytest.fixture
def alarm(other: Callable[[str], Any]) -> Callable[[str], None]:
    """Sets the state of the alarm ``errors``."""
    cloudwatch = other("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )

    def become(state: str) -> None:
        cloudwatch.set_alarm_state(AlarmName="errors", StateValue=state, StateReason="test")

    return become


@pytest.mark.parametrize("kind", ["CANARY", "LINEAR", "ROLLING"])
def test_an_alarm_rolls_back(
    client: Any,
    make: Any,
    endpoint: str,
    cast: Any,
    backend: SageMakerBackend,
    alarm: Callable[[str], None],
    policy: Any,
    kind: str,
) -> None:
    """An alarm that rings during a bake gives all traffic back to the old configuration."""
    client.update_endpoint(**make.to(DeploymentConfig=policy(kind, alarms=("errors",))))
    make.status()
    make.status()
    assert make.shares(backend) == {"m1": 0.5, "m2": 0.5}

    alarm("ALARM")
    seen = {make.status()}
    found = make.settled()

    assert seen == {"Updating"}
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "c1")
    assert "errors" in found["FailureReason"]
    assert make.shares(backend) == {"m1": 1.0}
    [group] = cast.running
    assert (group.launch.image, group.desired) == ("m1:1", 4)


@pytest.mark.parametrize("world", [{"describes": 0, "scale": 1.0}], indirect=True)
@pytest.mark.parametrize(("value", "config"), [(2.0, "c1"), (0.5, "c2")])
def test_an_alarm_reads_its_metric(
    client: Any,
    make: Any,
    endpoint: str,
    other: Callable[[str], Any],
    alarm: Callable[[str], None],
    policy: Any,
    value: float,
    config: str,
) -> None:
    """Nobody sets the alarm by hand: during a bake its metric brings it into ALARM, or does not.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-configuration.html
    """
    other("cloudwatch").put_metric_data(
        Namespace="AWS/SageMaker",
        MetricData=[{"MetricName": "Invocation5XXErrors", "Value": value}],
    )
    slowly = policy("CANARY", alarms=("errors",), wait=1)
    client.update_endpoint(**make.to(DeploymentConfig=slowly))
    while make.status() == "Updating":
        time.sleep(0.05)
    found = client.describe_endpoint(EndpointName="e")

    assert found["EndpointConfigName"] == config
    assert ("errors" in found.get("FailureReason", "")) == (config == "c1")


def test_an_alarm_that_rings_already(
    policy: Any,
    client: Any,
    make: Any,
    endpoint: str,
    backend: SageMakerBackend,
    alarm: Callable[[str], None],
) -> None:
    """An alarm in ALARM from the beginning lets no traffic move at all."""
    alarm("ALARM")
    client.update_endpoint(**make.to(DeploymentConfig=policy("CANARY", alarms=("errors",))))

    assert make.steps(backend) == [0.0, 0.0]
    assert client.describe_endpoint(EndpointName="e")["EndpointConfigName"] == "c1"


@pytest.mark.parametrize("state", ["OK", "INSUFFICIENT_DATA"])
def test_an_alarm_that_does_not_ring(
    policy: Any, client: Any, make: Any, endpoint: str, alarm: Callable[[str], None], state: str
) -> None:
    """OK and INSUFFICIENT_DATA let a deployment pass, and so does an alarm that is not there."""
    alarm(state)
    client.update_endpoint(
        **make.to(
            DeploymentConfig=policy(
                "CANARY",
                alarms=(
                    "errors",
                    "absent",
                ),
            )
        )
    )

    assert make.settled()["EndpointConfigName"] == "c2"


def test_an_alarm_nobody_named(
    policy: Any, client: Any, make: Any, endpoint: str, alarm: Callable[[str], None]
) -> None:
    """An alarm that the deployment does not name rolls nothing back."""
    alarm("ALARM")
    client.update_endpoint(**make.to(DeploymentConfig=policy("CANARY")))

    assert make.settled()["EndpointConfigName"] == "c2"


def test_a_silent_rollback(
    policy: Any, client: Any, make: Any, endpoint: str, faults: Faults, backend: SageMakerBackend
) -> None:
    """A change can end InService on the old configuration with no reason at all, once."""
    armed = faults.arm(Fault(kind=Kind.ROLLBACK, service="sagemaker", operation="e"))
    client.update_endpoint(**make.to(DeploymentConfig=policy("CANARY")))

    found = make.settled()

    assert armed.struck == 1
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "c1")
    assert "FailureReason" not in found
    assert make.shares(backend) == {"m1": 1.0}
    client.update_endpoint(**make.to())
    assert make.settled()["EndpointConfigName"] == "c2"


def test_a_rollback_in_batches(
    policy: Any,
    client: Any,
    make: Any,
    endpoint: str,
    cast: Any,
    backend: SageMakerBackend,
    alarm: Callable[[str], None],
) -> None:
    """RollbackMaximumBatchSize brings the old fleet back in its own batches."""
    back = {"Type": "CAPACITY_PERCENT", "Value": 75}
    deployment = policy("ROLLING", RollbackMaximumBatchSize=back, alarms=("errors",))
    client.update_endpoint(**make.to(DeploymentConfig=deployment))
    for _ in range(4):
        make.status()
    assert make.shares(backend)["m2"] == 1.0
    old = next(group for group in cast.groups if group.launch.image == "m1:1")
    assert old.desired == 2
    alarm("ALARM")

    found = make.settled()

    assert old.sizes[-2:] == [3, 4]
    assert found["EndpointConfigName"] == "c1"
    assert make.shares(backend) == {"m1": 1.0}


def test_a_rollback_that_fails(
    policy: Any,
    client: Any,
    make: Any,
    endpoint: str,
    cast: Any,
    backend: SageMakerBackend,
    alarm: Callable[[str], None],
    world: World,
) -> None:
    """Where the old fleet cannot come back, both serve: UpdateRollbackFailed."""
    client.update_endpoint(**make.to(DeploymentConfig=policy("ROLLING", 50, alarms=("errors",))))
    for _ in range(3):
        make.status()
    old = next(group for group in cast.groups if group.launch.image == "m1:1")
    new = next(group for group in cast.groups if group.launch.image == "m2:1")
    cast.failing["m1:1"] = NO_CAPACITY
    alarm("ALARM")

    found = make.settled()

    assert found["EndpointStatus"] == "UpdateRollbackFailed"
    assert found["FailureReason"] == NO_CAPACITY
    assert not old.stopped
    assert not new.stopped
    cast.failing.clear()
    client.delete_endpoint(EndpointName="e")
    assert cast.running == []


def test_no_capacity_for_an_update(
    client: Any, make: Any, endpoint: str, cast: Any, backend: SageMakerBackend
) -> None:
    """A GPU type that cannot be had leaves the old configuration in service."""
    make.config("bigger", make.variant(ModelName="m2", InstanceType="ml.p5.48xlarge"))
    cast.failing["ml.p5.48xlarge"] = NO_CAPACITY
    client.update_endpoint(**make.to("bigger"))

    found = make.settled()

    assert (found["EndpointConfigName"], found["FailureReason"]) == ("c1", NO_CAPACITY)
    assert make.shares(backend) == {"m1": 1.0}


@pytest.mark.parametrize("world", [{"scale": 0.0001}], indirect=True)
def test_a_deployment_takes_too_long(
    policy: Any, client: Any, make: Any, cast: Any, endpoint: str
) -> None:
    """A deployment beyond its own limit rolls back."""
    cast.most = 3
    client.update_endpoint(
        **make.to(DeploymentConfig=policy("ALL_AT_ONCE", MaximumExecutionTimeoutInSeconds=600))
    )
    time.sleep(0.07)
    cast.most = 1000

    found = make.settled()
    assert found["EndpointConfigName"] == "c1"
    assert "MaximumExecutionTimeoutInSeconds" in found["FailureReason"]
