"""Faults and deployments with real processes and real traffic: what a rollout must survive."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.faults import Fault


@pytest.fixture
def two(live):
    """An endpoint that serves ``a``; its second configuration serves ``b``."""
    live.deploy("churn", live.variant("main", live.model("a", mark="a")))
    live.sagemaker.create_endpoint_config(
        EndpointConfigName="churn-2",
        ProductionVariants=[live.variant("main", live.model("b", mark="b"))],
    )
    return live


def shifting(kind, alarm=None, **size):
    config = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": kind, "WaitIntervalInSeconds": 60, **size},
            "TerminationWaitInSeconds": 0,
        }
    }
    if alarm:
        config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm}]}
    return config


@pytest.fixture
def asking(two):
    """Asks from three threads until the block ends, and counts which model answered."""

    class Asking:
        def __enter__(self):
            self.ending, self.marks, self.failures = threading.Event(), Counter(), []
            self.threads = [threading.Thread(target=self.run) for _ in range(3)]
            for thread in self.threads:
                thread.start()
            return self

        def run(self):
            while not self.ending.is_set():
                try:
                    self.marks[two.ask()["said"]["mark"]] += 1
                except ClientError as error:
                    self.failures.append(error)

        def __exit__(self, *_):
            self.ending.set()
            for thread in self.threads:
                thread.join()

    return Asking()


CANARY = {"CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50}}


def update(live, **more):
    live.sagemaker.update_endpoint(EndpointName="churn", EndpointConfigName="churn-2", **more)


def test_canary_loses_nothing(two, asking, until):
    """Both models answer while the canary bakes, then the new one alone; no request is lost."""
    with asking:
        update(two, DeploymentConfig=shifting("CANARY", **CANARY))
        until(lambda: asking.marks["b"] > 5)
        before = asking.marks["a"]
        assert two.settled("churn")["EndpointConfigName"] == "churn-2"

    assert before > 0
    assert asking.failures == []
    assert {two.ask()["said"]["mark"] for _ in range(5)} == {"b"}
    until(lambda: len(two.emulator.fleet.pids) == 1)


def test_update_overtakes_a_request(two):
    """A request whose instances are taken away before it is sent goes to the new ones."""
    (blue,) = two.emulator.fleet.groups
    send = blue.invoke

    def late(*args, **more):
        update(two)
        two.settled("churn")
        return send(*args, **more)

    blue.invoke = late
    assert two.ask()["said"]["mark"] == "b"


def test_alarm_rolls_back(two, asking, until):
    """An alarm in the bake brings the old model back; the status alone does not tell."""
    cloudwatch = two.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors", MetricName="none", Namespace="mine", Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=1.0, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    with asking:
        slow = shifting("CANARY", "errors", **CANARY)
        slow["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 3600
        update(two, DeploymentConfig=slow)
        until(lambda: asking.marks["b"] > 5)
        cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="by hand")
        body = two.settled("churn")

    assert (body["EndpointStatus"], body["EndpointConfigName"]) == ("InService", "churn-1")
    assert asking.failures == []
    assert {two.ask()["said"]["mark"] for _ in range(5)} == {"a"}
    until(lambda: len(two.emulator.fleet.pids) == 1)


def test_silent_rollback(two, until):
    """The fault that looks like a success: in service, without a reason, and the old model."""
    armed = two.emulator.faults.arm(Fault(kind="rollback", service="sagemaker"))
    update(two)
    body = two.settled("churn")

    assert armed.struck == 1
    assert (body["EndpointStatus"], body["EndpointConfigName"]) == ("InService", "churn-1")
    assert not body.get("FailureReason")
    assert two.ask()["said"]["mark"] == "a"
    until(lambda: len(two.emulator.fleet.pids) == 1)


@pytest.mark.parametrize(
    ("said", "reason"),
    [({"crash": 1}, "did not pass the ping health check"), (None, "Failed to download model data")],
    ids=["crash", "missing"],
)
def test_update_that_cannot_start(live, until, said, reason):
    """A container that does not come up leaves the old one serving, and nothing behind."""
    live.deploy("churn", live.variant("main", live.model("a", mark="a")))
    live.model("bad", **(said or {}))
    if said is None:
        live.client("s3").delete_object(Bucket="models", Key="bad/model.json")
    live.sagemaker.create_endpoint_config(
        EndpointConfigName="churn-2", ProductionVariants=[live.variant("main", "bad")]
    )
    update(live)
    body = live.settled("churn")

    assert (body["EndpointStatus"], body["EndpointConfigName"]) == ("InService", "churn-1")
    assert reason in body["FailureReason"]
    assert live.ask()["said"]["mark"] == "a"
    until(lambda: len(live.emulator.fleet.pids) == 1)


def test_create_without_capacity(live, until):
    """No instance to be had: the endpoint fails in AWS's words, and leaves no process."""
    armed = live.emulator.faults.arm(Fault(kind="capacity", service="fleet"))
    live.sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[live.variant("main", live.model("a"), count=2)]
    )
    live.sagemaker.create_endpoint(EndpointName="churn", EndpointConfigName="c")
    body = live.settled("churn")

    assert armed.struck == 1
    assert body["EndpointStatus"] == "Failed"
    assert "InsufficientInstanceCapacity" in body["FailureReason"]
    until(lambda: live.emulator.fleet.pids == [])
    with pytest.raises(ClientError, match="not found"):
        live.ask()


def test_slow_start(live):
    """An endpoint is not in service before its slow instance is."""
    live.emulator.faults.arm(Fault(kind="slow_start", service="fleet", seconds=60))
    live.sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[live.variant("main", live.model("a"))]
    )
    live.sagemaker.create_endpoint(EndpointName="churn", EndpointConfigName="c")
    seen = [
        live.sagemaker.describe_endpoint(EndpointName="churn")["EndpointStatus"] for _ in range(5)
    ]

    assert set(seen) == {"Creating"}
    with pytest.raises(ClientError, match="not found"):
        live.ask()
    assert live.settled("churn")["EndpointStatus"] == "InService"


def test_delete_ends_everything(live, until):
    """A deleted endpoint answers nobody and leaves no process."""
    live.deploy("churn", live.variant("main", live.model("a"), count=2))
    live.sagemaker.delete_endpoint(EndpointName="churn")
    until(lambda: live.emulator.fleet.pids == [])

    with pytest.raises(ClientError, match="not found"):
        live.ask()


def test_weights_change_at_once(live):
    """Other weights move the traffic, and no process."""
    live.deploy(
        "churn",
        live.variant("main", live.model("a", mark="a"), weight=1),
        live.variant("canary", live.model("b", mark="b"), weight=0),
    )
    before = live.emulator.fleet.pids
    live.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="churn",
        DesiredWeightsAndCapacities=[
            {"VariantName": "main", "DesiredWeight": 0.0},
            {"VariantName": "canary", "DesiredWeight": 1.0},
        ],
    )
    live.settled("churn")

    assert {live.ask()["said"]["mark"] for _ in range(5)} == {"b"}
    assert live.emulator.fleet.pids == before
