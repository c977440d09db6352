"""An update moves an endpoint to another configuration, and its traffic in steps."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend


def test_an_update_moves_to_the_new_config(
    client: Any, make: Any, endpoint: str, cast: Any, backend: SageMakerBackend
) -> None:
    """An update serves the old configuration until the new one is healthy, then that alone."""
    cast.most = 3
    client.update_endpoint(**make.to())

    found = client.describe_endpoint(EndpointName="e")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", "c1")
    pending = found["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "c2"
    assert pending["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Creating"
    assert make.shares(backend) == {"m1": 1.0}

    cast.most = 4
    found = make.settled()
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "c2")
    assert "PendingDeploymentSummary" not in found
    assert make.shares(backend) == {"m2": 1.0}
    assert [group.launch.image for group in cast.running] == ["m2:1"]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (("ALL_AT_ONCE",), [0.0, 1.0, 1.0]),
        (("CANARY", 25), [0.0, 0.25, 1.0, 1.0]),
        (("CANARY", 1, "INSTANCE_COUNT"), [0.0, 0.25, 1.0, 1.0]),
        (("LINEAR", 25), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]),
        (("LINEAR", 2, "INSTANCE_COUNT"), [0.0, 0.5, 1.0, 1.0]),
        (("LINEAR", 30), [0.0, 0.3, 0.6, 0.9, 1.0, 1.0]),
        (("ROLLING", 25), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]),
        (("ROLLING", 1, "INSTANCE_COUNT"), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]),
    ],
    ids=["all", "canary", "canary-1", "linear", "linear-2", "linear-30", "rolling", "rolling-1"],
)
def test_traffic_moves_in_steps(
    make: Any,
    client: Any,
    endpoint: str,
    backend: SageMakerBackend,
    policy: Any,
    asked: tuple[Any, ...],
    wanted: list[float],
) -> None:
    """Each policy moves the traffic in its own steps, and each bake is seen."""
    deployment = policy(*asked)
    client.update_endpoint(**make.to(DeploymentConfig=deployment))

    assert make.steps(backend) == wanted
    found = client.describe_endpoint(EndpointName="e")
    assert found["LastDeploymentConfig"] == deployment
    assert found["EndpointConfigName"] == "c2"


def test_traffic_is_whole_at_every_step(
    policy: Any, make: Any, client: Any, endpoint: str, backend: SageMakerBackend
) -> None:
    """The parts of old and new always make one."""
    client.update_endpoint(**make.to(DeploymentConfig=policy("LINEAR", 10)))

    while make.status() == "Updating":
        assert sum(make.shares(backend).values()) == pytest.approx(1.0, abs=0.002)


def test_a_bake_is_named(
    policy: Any, make: Any, client: Any, endpoint: str, backend: SageMakerBackend
) -> None:
    """While alarms are watched, the new variant is Baking."""
    client.update_endpoint(**make.to(DeploymentConfig=policy("CANARY")))
    seen = []
    while (found := client.describe_endpoint(EndpointName="e"))["EndpointStatus"] == "Updating":
        [variant] = found["PendingDeploymentSummary"]["ProductionVariants"]
        seen.append(variant["VariantStatus"][0]["Status"])

    assert seen == ["Creating", "Baking", "Baking"]


def test_the_old_fleet_is_kept_for_a_while(
    policy: Any, client: Any, make: Any, endpoint: str, cast: Any, backend: SageMakerBackend
) -> None:
    """TerminationWait keeps the old instances, without traffic, before they go."""
    client.update_endpoint(
        **make.to(DeploymentConfig=policy("ALL_AT_ONCE", wait=0, TerminationWaitInSeconds=60))
    )
    make.status()
    make.status()

    assert make.shares(backend) == {"m2": 1.0}
    assert len(cast.running) == 2
    make.settled()
    assert len(cast.running) == 1


def test_a_rolling_update_never_pays_twice(
    policy: Any, client: Any, make: Any, endpoint: str, cast: Any
) -> None:
    """A rolling update moves capacity in batches: no more than one batch beside the old fleet."""
    client.update_endpoint(**make.to(DeploymentConfig=policy("ROLLING", 25)))
    most = 0
    while make.status() == "Updating":
        most = max(most, sum(group.desired for group in cast.running))

    assert most == 5
    [group] = cast.running
    assert (group.launch.image, group.desired) == ("m2:1", 4)


def test_a_blue_green_update_pays_twice(
    policy: Any, client: Any, make: Any, endpoint: str, cast: Any
) -> None:
    """A blue/green update starts the whole new fleet before the old one goes."""
    client.update_endpoint(**make.to(DeploymentConfig=policy("CANARY")))
    make.status()

    assert sum(group.desired for group in cast.running) == 8


def test_the_last_policy_is_reused(
    policy: Any, client: Any, make: Any, endpoint: str, backend: SageMakerBackend
) -> None:
    """RetainDeploymentConfig deploys as the last time; without it, all at once."""
    client.update_endpoint(**make.to(DeploymentConfig=policy("LINEAR", 25)))
    make.settled()
    client.update_endpoint(**make.to("c1", RetainDeploymentConfig=True))
    seen = set()
    while make.status() == "Updating":
        seen.add(make.shares(backend).get("m1", 0.0))
    assert {0.25, 0.5, 0.75} <= seen

    client.update_endpoint(**make.to("c2"))
    assert make.steps(backend) == [0.0, 1.0]
    assert client.describe_endpoint(EndpointName="e")["LastDeploymentConfig"] == policy(
        "LINEAR", 25
    )


@pytest.mark.parametrize("world", [{"describes": 0, "scale": 0.001}], indirect=True)
def test_waits_take_their_time(
    policy: Any, client: Any, make: Any, endpoint: str, backend: SageMakerBackend
) -> None:
    """With a scale, each bake lasts its seconds, however often it is described."""
    began = time.monotonic()
    client.update_endpoint(**make.to(DeploymentConfig=policy("CANARY", wait=100)))
    while make.status() == "Updating":
        pass

    assert time.monotonic() - began >= 0.2
    assert make.shares(backend) == {"m2": 1.0}
