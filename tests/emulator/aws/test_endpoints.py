"""Endpoints come into service, are described and listed, and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.aws.sagemaker.errors import Refused
from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend
from cloudreg_emulator.aws.world import World, entered
from cloudreg_emulator.fleet import Launch

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity."
)
UNHEALTHY = "The primary container for production variant main did not pass the ping health check."


def test_an_endpoint_is_in_service_when_its_containers_are(
    client: Any, make: Any, configs: None, cast: Any, backend: SageMakerBackend
) -> None:
    """However often it is described, an endpoint is Creating until every instance is healthy."""
    cast.most = 3
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")

    assert [make.status() for _ in range(5)] == ["Creating"] * 5
    assert backend.routes("e") == []
    assert "ProductionVariants" not in client.describe_endpoint(EndpointName="e")

    cast.most = 4
    assert make.status() == "InService"
    found = client.describe_endpoint(EndpointName="e")
    [variant] = found["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (4, 4)
    assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 1.0)
    assert variant["DeployedImages"][0]["SpecifiedImage"] == "m1:1"
    assert variant["DeployedImages"][0]["ResolvedImage"].startswith("m1@sha256:")
    assert found["EndpointConfigName"] == "c1"
    assert make.shares(backend) == {"m1": 1.0}


def test_a_transition_is_seen(client: Any, make: Any, configs: None) -> None:
    """As many describes as the world asks for see an endpoint being created."""
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")

    assert [make.status() for _ in range(3)] == ["Creating", "InService", "InService"]


@pytest.mark.parametrize("world", [{"describes": n} for n in (0, 1, 3)], indirect=True)
def test_describes_count(client: Any, make: Any, configs: None, cast: Any, world: World) -> None:
    """A world says how many describes a transition takes."""
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")

    seen = [make.status() for _ in range(5)]

    wanted = ["Creating"] * world.describes + ["InService"] * 5
    assert seen == wanted[:5]


def test_a_failed_creation(
    client: Any,
    make: Any,
    configs: None,
    cast: Any,
    backend: SageMakerBackend,
    refused: Callable[..., str],
) -> None:
    """An endpoint whose containers never come up is Failed, and can only be deleted."""
    cast.failing["bad:1"] = UNHEALTHY
    client.create_endpoint(EndpointName="e", EndpointConfigName="broken")

    found = make.settled()

    assert (found["EndpointStatus"], found["FailureReason"]) == ("Failed", UNHEALTHY)
    assert cast.running == []
    assert backend.routes("e") == []
    for call, request in (
        (client.update_endpoint, make.to("c2")),
        (client.update_endpoint_weights_and_capacities, make.capacities({"VariantName": "main"})),
    ):
        refused(call, "ValidationException", "can only be deleted", **request)
    client.delete_endpoint(EndpointName="e")
    client.describe_endpoint(EndpointName="e")
    refused(
        client.describe_endpoint, "ValidationException", "Could not find endpoint", EndpointName="e"
    )


def test_deletion(
    make: Any,
    client: Any,
    endpoint: str,
    cast: Any,
    backend: SageMakerBackend,
    refused: Callable[..., str],
) -> None:
    """A deleted endpoint is Deleting, answers nobody, and is then gone with its tags."""
    client.add_tags(ResourceArn=endpoint, Tags=[{"Key": "k", "Value": "v"}])

    client.delete_endpoint(EndpointName="e")

    assert make.status() == "Deleting"
    assert cast.running == []
    assert backend.routes("e") == []
    words = f'Could not find endpoint "{PREFIX}:endpoint/e".'
    refused(client.describe_endpoint, "ValidationException", words, EndpointName="e")
    with pytest.raises(Refused, match="Could not find endpoint"):
        backend.routes("e")
    assert client.list_endpoints()["Endpoints"] == []
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")
    assert client.list_tags(ResourceArn=endpoint)["Tags"] == []


def test_deletion_that_nobody_watches(client: Any, endpoint: str, cast: Any) -> None:
    """A script that deletes and creates, and describes nothing, is refused only for a while."""
    client.delete_endpoint(EndpointName="e")
    refusals: set[str] = set()
    began = time.monotonic()
    while time.monotonic() - began < 20:
        try:
            client.create_endpoint(EndpointName="e", EndpointConfigName="c1")
            break
        except ClientError as error:
            refusals.add(error.response["Error"]["Message"])
            time.sleep(0.05)

    assert refusals == {f'Cannot create already existing endpoint "{PREFIX}:endpoint/e".'}
    assert len(cast.running) == 1


def test_waiters(client: Any, configs: None) -> None:
    """boto3's own waiters see an endpoint come and go."""
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")
    patience = {"Delay": 0, "MaxAttempts": 5}
    client.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig=patience)

    client.delete_endpoint(EndpointName="e")
    client.get_waiter("endpoint_deleted").wait(EndpointName="e", WaiterConfig=patience)


@pytest.mark.parametrize("phase", ["Creating", "Updating", "Deleting"])
def test_nothing_is_done_to_an_endpoint_in_progress(
    client: Any, make: Any, configs: None, refused: Callable[..., str], phase: str
) -> None:
    """While something is being done to an endpoint, update, scaling and deletion are refused."""
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")
    if phase != "Creating":
        make.settled()
        if phase == "Updating":
            client.update_endpoint(**make.to())
        else:
            client.delete_endpoint(EndpointName="e")
    words = f'Cannot update in-progress endpoint "{PREFIX}:endpoint/e".'

    for call, request in (
        (client.update_endpoint, make.to("renamed")),
        (client.update_endpoint_weights_and_capacities, make.capacities({"VariantName": "main"})),
        (client.delete_endpoint, {"EndpointName": "e"}),
    ):
        assert refused(call, "ValidationException", words, **request) == words
    assert make.status() == phase


def test_lists(client: Any, make: Any, configs: None, cast: Any) -> None:
    """Endpoints are listed by status, name and time, newest first."""
    make.endpoint("a")
    make.endpoint("b")
    cast.most = 0
    client.create_endpoint(EndpointName="c", EndpointConfigName="c1")

    def names(**request: Any) -> list[str]:
        return [one["EndpointName"] for one in client.list_endpoints(**request)["Endpoints"]]

    assert names() == ["c", "b", "a"]
    assert names(StatusEquals="InService", SortBy="Name", SortOrder="Ascending") == ["a", "b"]
    assert names(StatusEquals="Creating") == ["c"]
    assert names(SortBy="Status", SortOrder="Ascending") == ["c", "a", "b"]
    assert names(NameContains="b") == ["b"]


def test_a_launch_is_what_was_asked_for(client: Any, make: Any, cast: Any) -> None:
    """Image, environment, data, instance type and timeouts reach the container."""
    make.group()
    arn = make.package(
        ModelApprovalStatus="Approved",
        InferenceSpecification=make.specification(Environment={"A": "1"}),
    )
    make.model(PrimaryContainer={"ModelPackageName": arn})
    make.config(
        "c1",
        make.variant(
            InitialInstanceCount=3,
            ModelDataDownloadTimeoutInSeconds=61,
            ContainerStartupHealthCheckTimeoutInSeconds=62,
        ),
    )
    make.endpoint()

    [group] = cast.groups
    assert group.desired == 3
    assert group.launch == Launch(
        endpoint="e",
        variant="main",
        image=make.container()["Image"],
        environment={"A": "1"},
        bucket="models",
        key="churn/",
        kind="prefix",
        compressed=False,
        instance_type="ml.g5.xlarge",
        startup_timeout_s=62.0,
        download_timeout_s=61.0,
    )


def test_model_data_urls(make: Any, cast: Any) -> None:
    """A ModelDataUrl is one compressed object."""
    make.model(PrimaryContainer={"Image": "i", "ModelDataUrl": "s3://b/a/model.tar.gz"})
    make.config()
    make.endpoint()

    launch = cast.groups[0].launch
    assert (launch.bucket, launch.key) == ("b", "a/model.tar.gz")
    assert (launch.kind, launch.compressed) == ("object", True)


def test_pools_are_tried_in_their_order(client: Any, make: Any, configs: None, cast: Any) -> None:
    """Where one pool has no capacity, the next one is tried, with its own model."""
    pools = [
        {"InstanceType": "ml.g6.xlarge", "Priority": 2, "ModelNameOverride": "m2"},
        {"InstanceType": "ml.g5.xlarge", "Priority": 1},
    ]
    make.config("pooled", make.variant(InstanceType=None, InstancePools=pools))
    cast.failing["ml.g5.xlarge"] = NO_CAPACITY
    make.endpoint(config="pooled")

    assert [group.launch.instance_type for group in cast.groups] == ["ml.g5.xlarge", "ml.g6.xlarge"]
    [group] = cast.running
    assert group.launch.image == "m2:1"
    [variant] = client.describe_endpoint(EndpointName="e")["ProductionVariants"]
    counts = {one["InstanceType"]: one["CurrentInstanceCount"] for one in variant["InstancePools"]}
    assert counts == {"ml.g5.xlarge": 0, "ml.g6.xlarge": 1}


@pytest.mark.parametrize("reason", [NO_CAPACITY, UNHEALTHY])
def test_pools_that_do_not_help(
    client: Any, make: Any, configs: None, cast: Any, reason: str
) -> None:
    """The last pool's failure is the endpoint's; a broken container is not tried elsewhere."""
    pools = [
        {"InstanceType": one, "Priority": number}
        for number, one in enumerate(("ml.g5.xlarge", "ml.g6.xlarge"), start=1)
    ]
    make.config("pooled", make.variant(InstanceType=None, InstancePools=pools))
    cast.failing["m1:1"] = reason
    client.create_endpoint(EndpointName="e", EndpointConfigName="pooled")

    found = make.settled()

    assert (found["EndpointStatus"], found["FailureReason"]) == ("Failed", reason)
    assert len(cast.groups) == (2 if reason is NO_CAPACITY else 1)
    assert cast.running == []


def test_a_deleted_config_goes_on_serving(
    client: Any, make: Any, endpoint: str, backend: SageMakerBackend, refused: Callable[..., str]
) -> None:
    """A configuration in use can be deleted; then the endpoint serves, but cannot be updated."""
    client.delete_endpoint_config(EndpointConfigName="c1")
    client.delete_model(ModelName="m1")

    assert client.describe_endpoint(EndpointName="e")["EndpointConfigName"] == "c1"
    assert make.shares(backend) == {"m1": 1.0}
    refused(
        client.update_endpoint,
        "ValidationException",
        f'Could not find endpoint configuration "{PREFIX}:endpoint-config/c1".',
        **make.to(),
    )


def test_shadows(client: Any, make: Any, configs: None, backend: SageMakerBackend) -> None:
    """A shadow variant runs, is described apart, and has no part of the traffic."""
    make.endpoint(config="shadowed")

    found = client.describe_endpoint(EndpointName="e")
    assert [one["VariantName"] for one in found["ProductionVariants"]] == ["main"]
    assert [one["VariantName"] for one in found["ShadowProductionVariants"]] == ["shadow"]
    routes = {route.variant: (route.shadow, route.weight) for route in backend.routes("e")}
    assert routes == {"main": (False, 1.0), "shadow": (True, 0.0)}


@pytest.mark.parametrize("world", [{"describes": 0}], indirect=True)
def test_it_advances_by_itself(
    policy: Any, make: Any, client: Any, configs: None, backend: SageMakerBackend
) -> None:
    """Where no describe is asked for, a look from inside is enough."""
    client.create_endpoint(EndpointName="e", EndpointConfigName="c1")
    client.update_endpoint(**make.to(DeploymentConfig=policy("LINEAR")))

    backend.advance()

    assert backend.endpoint_state("e").config_name == "c2"


def test_one_update_wins(
    client: Any, make: Any, endpoint: str, refused: Callable[..., str]
) -> None:
    """Of many updates at once, one is taken and the others are refused as in progress."""
    outcomes: list[str] = []

    def ask() -> None:
        try:
            client.update_endpoint(**make.to())
            outcomes.append("taken")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Message"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("taken") == 1
    words = f'Cannot update in-progress endpoint "{PREFIX}:endpoint/e".'
    assert outcomes.count(words) == 7


def test_search_shows_endpoints(client: Any, endpoint: str) -> None:
    """Search finds endpoints by their configuration."""
    filters = [{"Name": "EndpointConfigName", "Value": "c1"}]
    found = client.search(Resource="Endpoint", SearchExpression={"Filters": filters})

    assert [one["Endpoint"]["EndpointName"] for one in found["Results"]] == ["e"]


def test_a_reset_stops_what_runs(endpoint: str, cast: Any, backend: SageMakerBackend) -> None:
    """moto's reset ends every container."""
    assert len(cast.running) == 1

    backend.reset()

    assert cast.running == []


def test_one_world_at_a_time(world: World) -> None:
    """The fixture's world is the one that requests are handled in."""
    with pytest.raises(RuntimeError, match="open in this process"), entered(world):
        pass
