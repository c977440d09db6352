"""What another client sees of endpoints, and what happens when AWS does something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import (
    AlreadyExists,
    ConfigError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from cloudreg.testing.base import fresh
from cloudreg.testing.serving import spec, variant
from cloudreg.types import (
    EndpointSpec,
    EndpointStatus,
    OperationState,
    OperationStatus,
    Resources,
    Scaling,
)
from cloudreg_emulator.faults import Fault, Kind

FOLLOWING = Scaling(min_replicas=1, max_replicas=3, target=2.0, scale_in_cooldown_s=120.0)
MUTATING = ("Create", "Update", "Delete", "Register", "Deregister", "Put")


def named(desk: Any, *variants: Any, env: dict[str, str] | None = None) -> EndpointSpec:
    return spec(desk.server.name(), *variants, env=env)


def simple(desk: Any, number: int = 1, **options: Any) -> EndpointSpec:
    return named(desk, variant("primary", desk.server.version(number), **options))


def at(asked: EndpointSpec, *variants: Any) -> EndpointSpec:
    return replace(asked, variants=variants)


def configs(desk: Any, name: str) -> list[str]:
    found = desk.client.list_endpoint_configs(NameContains=name, MaxResults=100)
    return sorted(c["EndpointConfigName"] for c in found["EndpointConfigs"])


def models_of(desk: Any, config: str) -> list[str]:
    found = desk.client.describe_endpoint_config(EndpointConfigName=config)
    return [v["ModelName"] for v in found["ProductionVariants"]]


def targets(desk: Any, name: str) -> dict[str, tuple[int, int]]:
    found = desk.cloud.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker"
    )["ScalableTargets"]
    return {
        t["ResourceId"].rpartition("/")[2]: (t["MinCapacity"], t["MaxCapacity"])
        for t in found
        if t["ResourceId"].startswith(f"endpoint/{name}/")
    }


def succeeded(status: OperationStatus) -> bool:
    assert status.state is OperationState.SUCCEEDED, status
    return True


def test_marked(desk: Any) -> None:
    """Endpoint, configuration and models carry cloudreg's tags, for people and their bills."""
    asked = desk.start(simple(desk))
    seen = desk.describe(asked.name)
    config = desk.client.describe_endpoint_config(EndpointConfigName=seen["EndpointConfigName"])
    (model,) = models_of(desk, seen["EndpointConfigName"])
    arns = [
        seen["EndpointArn"],
        config["EndpointConfigArn"],
        desk.client.describe_model(ModelName=model)["ModelArn"],
    ]

    for arn in arns:
        tags = {t["Key"]: t["Value"] for t in desk.client.list_tags(ResourceArn=arn)["Tags"]}
        place = tags.pop("cloudreg:records", None)
        assert tags == {"cloudreg": asked.name, "cloudreg:model": "kit", "cloudreg:stage": "prod"}
        # Only the endpoint says who may find it again when nothing is written down of it.
        assert place == ("s3://our-models/team/churn/" if arn == seen["EndpointArn"] else None)


def test_environment_arrives(desk: Any) -> None:
    """The container has the user's variables and its version's identity."""
    version = desk.server.version(1)
    asked = desk.start(named(desk, variant("primary", version), env={"KIT_MARK": "here"}))

    said = desk.ask(asked.name)
    assert (said["mark"], said["digest"], said["number"]) == ("here", version.digest, 1)


def test_nothing_is_left(desk: Any) -> None:
    """After an update and after a removal nothing of before is left: it would be paid for."""
    asked = desk.start(simple(desk))
    first = desk.describe(asked.name)["EndpointConfigName"]
    old = models_of(desk, first)
    succeeded(desk.server.update(at(asked, variant("primary", desk.server.version(2)))))
    (second,) = configs(desk, asked.name)
    new = models_of(desk, second)

    assert second != first
    with pytest.raises(desk.client.exceptions.ClientError, match="Could not find model"):
        desk.client.describe_model(ModelName=old[0])
    succeeded(desk.server.delete(asked.name))
    assert configs(desk, asked.name) == []
    with pytest.raises(desk.client.exceptions.ClientError, match="Could not find model"):
        desk.client.describe_model(ModelName=new[0])


def test_silent_rollback(desk: Any) -> None:
    """An update that AWS undoes and calls InService is a failure, with what serves now."""
    asked = desk.start(simple(desk))
    armed = desk.cloud.faults.arm(
        Fault(kind=Kind.ROLLBACK, service="sagemaker", operation=asked.name)
    )
    config = desk.describe(asked.name)["EndpointConfigName"]
    status = desk.server.update(at(asked, variant("primary", desk.server.version(2))))

    assert armed.struck == 1
    assert desk.describe(asked.name)["EndpointStatus"] == "InService"
    assert status.state is OperationState.FAILED
    assert f"went back to {config}" in status.message
    assert desk.endpoints.endpoint(asked.name).spec == asked
    assert desk.ask(asked.name)["number"] == 1

    succeeded(desk.server.update(at(asked, variant("primary", desk.server.version(2)))))
    assert desk.ask(asked.name)["number"] == 2


def test_weights_move_in_place(desk: Any) -> None:
    """A change of weights alone starts no instance and makes nothing new."""
    one, two = desk.server.version(1), desk.server.version(2)
    asked = desk.start(named(desk, variant("primary", one, 90), variant("canary", two, 10)))
    before = desk.describe(asked.name)["EndpointConfigName"]
    moved = asked.weighted({"primary": 40, "canary": 60})
    with desk.cloud.noted() as calls:
        succeeded(desk.server.update(moved))
    made = [c for c in calls if c.startswith(MUTATING)]

    assert made == ["UpdateEndpointWeightsAndCapacities"]
    assert desk.describe(asked.name)["EndpointConfigName"] == before
    assert desk.endpoints.endpoint(asked.name).spec == moved


def test_weights_of_before_do_not_stay(desk: Any) -> None:
    """A later configuration begins with its own weights, not with those that were moved."""
    one, two, three = (desk.server.version(n) for n in (1, 2, 3))
    asked = desk.start(named(desk, variant("primary", one, 90), variant("canary", two, 10)))
    succeeded(desk.server.update(asked.weighted({"primary": 20, "canary": 80})))
    wanted = at(asked, variant("primary", two, 70), variant("canary", three, 30))
    succeeded(desk.server.update(wanted))

    assert desk.endpoints.endpoint(asked.name).spec == wanted


def test_autoscaling_is_registered(desk: Any) -> None:
    """Bounds, target and cooldown are those that were asked for, and go with the endpoint."""
    asked = desk.start(simple(desk, scaling=FOLLOWING))
    (policy,) = desk.cloud.client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{asked.name}/variant/primary"
    )["ScalingPolicies"]
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]

    assert targets(desk, asked.name) == {"primary": (1, 3)}
    assert (tracking["TargetValue"], tracking["ScaleInCooldown"]) == (2.0, 120)
    assert desk.endpoints.endpoint(asked.name).spec == asked
    succeeded(desk.server.delete(asked.name))
    assert targets(desk, asked.name) == {}


def test_autoscaling_changes_in_place(desk: Any) -> None:
    """Other bounds, another target, and a fixed number in the end: no instance is replaced."""
    asked = desk.start(simple(desk, scaling=FOLLOWING))
    config = desk.describe(asked.name)["EndpointConfigName"]
    for scaling, shown in (
        (replace(FOLLOWING, max_replicas=4), {"primary": (1, 4)}),
        (replace(FOLLOWING, max_replicas=4, target=5.0), {"primary": (1, 4)}),
        (Scaling(), {}),
    ):
        wanted = at(asked, replace(asked.variants[0], scaling=scaling))
        succeeded(desk.server.update(wanted))
        assert targets(desk, asked.name) == shown
        assert desk.endpoints.endpoint(asked.name).spec == wanted

    assert desk.describe(asked.name)["EndpointConfigName"] == config


def test_autoscaling_survives_another_machine(desk: Any) -> None:
    """Another instance type, which AWS refuses while the variant is scaled, is no obstacle."""
    asked = desk.start(simple(desk, scaling=FOLLOWING))
    wanted = at(asked, replace(asked.variants[0], resources=Resources.parse("A10G")))
    with desk.cloud.noted() as calls:
        succeeded(desk.server.update(wanted))

    assert calls.index("DeregisterScalableTarget") < calls.index("UpdateEndpoint")
    assert calls.index("UpdateEndpoint") < calls.index("RegisterScalableTarget")
    assert targets(desk, asked.name) == {"primary": (1, 3)}
    assert desk.endpoints.endpoint(asked.name).spec == wanted


def test_autoscaling_survives_a_failed_change(desk: Any) -> None:
    """After a change that was undone the old configuration follows the load again."""
    asked = desk.start(simple(desk, scaling=FOLLOWING))
    desk.cloud.faults.arm(Fault(kind=Kind.ROLLBACK, service="sagemaker", operation=asked.name))
    wanted = at(asked, replace(asked.variants[0], resources=Resources.parse("A10G")))
    status = desk.server.update(wanted)

    assert status.state is OperationState.FAILED
    assert targets(desk, asked.name) == {"primary": (1, 3)}
    assert desk.endpoints.endpoint(asked.name).spec == asked


def test_load_is_kept(desk: Any) -> None:
    """The instances that load had brought stay through an update to another version."""
    asked = desk.start(simple(desk, scaling=replace(FOLLOWING, scale_in_cooldown_s=86400.0)))
    desk.client.update_endpoint_weights_and_capacities(
        EndpointName=asked.name,
        DesiredWeightsAndCapacities=[{"VariantName": "primary", "DesiredInstanceCount": 3}],
    )
    desk.server.seen(asked.name, lambda e: e.variants[0].ready_replicas == 3)
    wanted = at(asked, replace(variant("primary", desk.server.version(2)), scaling=FOLLOWING))
    succeeded(desk.server.update(wanted))

    assert desk.describe(asked.name)["ProductionVariants"][0]["DesiredInstanceCount"] == 3
    assert desk.endpoints.endpoint(asked.name).spec == wanted


def test_data_capture_is_kept(opened: Callable[..., Any]) -> None:
    """An update does not lose data capture."""
    desk = opened(data_capture={"sample_percent": 100})
    asked = desk.start(simple(desk))
    for number in (2, 1):
        succeeded(desk.server.update(at(asked, variant("primary", desk.server.version(number)))))
        capture = desk.describe(asked.name)["DataCaptureConfig"]
        assert (capture["EnableCapture"], capture["CurrentSamplingPercentage"]) == (True, 100)


@pytest.mark.parametrize("strategy", ["canary", "linear", "rolling"])
def test_strategies(opened: Callable[..., Any], strategy: str) -> None:
    """Every strategy of AWS's brings the new version, with the policy that was asked for."""
    desk = opened(deployment={"strategy": strategy, "step_percent": 50, "wait_s": 1})
    asked = desk.start(simple(desk, scaling=Scaling(min_replicas=2, max_replicas=2)))
    wanted = at(asked, replace(asked.variants[0], **_identity(desk.server.version(2))))
    succeeded(desk.server.update(wanted))
    used = desk.describe(asked.name)["LastDeploymentConfig"]
    policy = used.get("RollingUpdatePolicy") or used["BlueGreenUpdatePolicy"]

    assert ("MaximumBatchSize" in policy) is (strategy == "rolling")
    if strategy != "rolling":
        assert policy["TrafficRoutingConfiguration"]["Type"] == strategy.upper()
    assert desk.endpoints.endpoint(asked.name).spec == wanted


def _identity(version: Any) -> dict[str, Any]:
    return {"number": version.number, "digest": version.digest}


def test_alarms_are_checked(opened: Callable[..., Any]) -> None:
    """An alarm that is missing or rings already is refused before anything changes."""
    alarm = fresh("p95")
    desk = opened(deployment={"alarms": [alarm]})
    asked = desk.start(simple(desk))
    wanted = at(asked, variant("primary", desk.server.version(2)))
    watch = desk.cloud.client("cloudwatch")
    with pytest.raises(ConfigError, match="there is no alarm"):
        desk.server.update(wanted)
    watch.put_metric_alarm(
        AlarmName=alarm,
        MetricName="ModelLatency",
        Namespace="AWS/SageMaker",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    watch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="test")
    with pytest.raises(ConfigError, match="in ALARM already"):
        desk.server.update(wanted)
    assert desk.endpoints.endpoint(asked.name).spec == asked

    watch.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="test")
    succeeded(desk.server.update(wanted))
    used = desk.describe(asked.name)["LastDeploymentConfig"]
    assert used["AutoRollbackConfiguration"]["Alarms"] == [{"AlarmName": alarm}]


def test_foreign_endpoint(desk: Any) -> None:
    """An endpoint of somebody else's is not seen, not taken over, and not removed."""
    mine = desk.start(simple(desk))
    config = desk.describe(mine.name)["EndpointConfigName"]
    name = fresh("theirs")
    desk.client.create_endpoint(EndpointName=name, EndpointConfigName=config)
    wanted = spec(name, variant("primary", desk.server.version(1)))

    assert desk.endpoints.endpoint(name) is None
    assert name not in {e.spec.name for e in desk.endpoints.endpoints()}
    with pytest.raises(AlreadyExists, match="did not make it"):
        desk.server.create(wanted)
    with pytest.raises(NotFound):
        desk.server.update(wanted)
    succeeded(desk.server.delete(name))
    assert desk.describe(name)["EndpointName"] == name
    desk.client.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    desk.client.delete_endpoint(EndpointName=name)


def test_made_anew_by_somebody_else(desk: Any) -> None:
    """An endpoint that somebody made again under our name is not removed."""
    asked = desk.start(simple(desk))
    config = desk.describe(asked.name)["EndpointConfigName"]
    desk.client.delete_endpoint(EndpointName=asked.name)
    desk.client.get_waiter("endpoint_deleted").wait(
        EndpointName=asked.name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert desk.endpoints.endpoint(asked.name) is None
    desk.client.create_endpoint(EndpointName=asked.name, EndpointConfigName=config)
    for verb in (desk.server.delete, lambda _: desk.server.update(asked)):
        with pytest.raises(Conflict, match="somebody else"):
            verb(asked.name)

    arn = desk.describe(asked.name)["EndpointArn"]
    desk.client.add_tags(ResourceArn=arn, Tags=[{"Key": "cloudreg", "Value": asked.name}])


def test_configuration_by_hand(desk: Any) -> None:
    """A configuration that somebody else gave an endpoint is seen, and an update puts ours back."""
    asked = desk.start(simple(desk))
    ours = desk.client.describe_endpoint_config(
        EndpointConfigName=desk.describe(asked.name)["EndpointConfigName"]
    )
    theirs = fresh("theirs")
    desk.client.create_endpoint_config(
        EndpointConfigName=theirs, ProductionVariants=ours["ProductionVariants"]
    )
    desk.client.update_endpoint(EndpointName=asked.name, EndpointConfigName=theirs)
    seen = desk.server.seen(asked.name, lambda e: e.status is EndpointStatus.DEGRADED)
    assert f"{theirs} was not made by cloudreg" in seen.message
    assert seen.spec != asked

    succeeded(desk.server.update(asked))
    assert desk.endpoints.endpoint(asked.name).spec == asked


def test_change_during_a_change(desk: Any) -> None:
    """A change that comes while another is under way is sent when the endpoint is free."""
    asked = desk.start(simple(desk))
    to_two = at(asked, variant("primary", desk.server.version(2)))
    first = desk.endpoints.update(to_two, artifacts=desk.server.artifacts)
    second = desk.endpoints.update(asked, artifacts=desk.server.artifacts)
    assert second.poll().state is OperationState.RUNNING

    succeeded(desk.wait(second))
    assert desk.ask(asked.name)["number"] == 1
    assert first.poll().state is not OperationState.SUCCEEDED


def test_removal_during_a_change(desk: Any) -> None:
    """A removal that comes while the endpoint is made is sent when AWS takes it."""
    asked = simple(desk)
    desk.endpoints.create(asked, artifacts=desk.server.artifacts)

    succeeded(desk.server.delete(asked.name))
    assert desk.endpoints.endpoint(asked.name) is None


def test_failed_endpoint_is_made_again(desk: Any) -> None:
    """An endpoint that failed, with which AWS can do nothing but remove it, is made again."""
    asked = named(desk, variant("primary", desk.server.version(3, broken=True)))
    status = desk.server.create(asked)
    assert (status.state, bool(status.logs)) == (OperationState.FAILED, True)
    assert "the weights make no sense" in "\n".join(status.logs)
    assert desk.endpoints.endpoint(asked.name).status is EndpointStatus.FAILED

    wanted = at(asked, variant("primary", desk.server.version(1)))
    succeeded(desk.server.update(wanted))
    assert desk.endpoints.endpoint(asked.name).spec == wanted
    assert desk.ask(asked.name)["number"] == 1


@pytest.mark.parametrize(
    "operation",
    ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"],
)
@pytest.mark.parametrize("status", [500, 0])
def test_lost_answers_of_a_create(desk: Any, operation: str, status: int) -> None:
    """Whatever answer is lost, there is one endpoint in the end, as it was asked for."""
    armed = desk.cloud.faults.arm(
        Fault(kind=Kind.LOST, service="sagemaker", operation=operation, status=status)
    )
    asked = desk.start(simple(desk))

    assert armed.struck == 1
    assert desk.endpoints.endpoint(asked.name).spec == asked
    assert len(configs(desk, asked.name)) == 1


@pytest.mark.parametrize("operation", ["UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"])
def test_lost_answers_of_an_update(desk: Any, operation: str) -> None:
    """A change whose answer is lost is made once, and found to be made."""
    one, two = desk.server.version(1), desk.server.version(2)
    asked = desk.start(named(desk, variant("primary", one, 90), variant("canary", two, 10)))
    wanted = (
        at(asked, variant("primary", two))
        if operation == "UpdateEndpoint"
        else asked.weighted({"primary": 40, "canary": 60})
    )
    armed = desk.cloud.faults.arm(Fault(kind=Kind.LOST, service="sagemaker", operation=operation))
    succeeded(desk.server.update(wanted))

    assert armed.struck == 1
    assert desk.endpoints.endpoint(asked.name).spec == wanted


def test_throttled(desk: Any) -> None:
    """What is throttled is asked again by the SDK, and nothing is done twice."""
    armed = desk.cloud.faults.arm(
        Fault(kind=Kind.THROTTLE, service="sagemaker", operation="*Endpoint*", count=2)
    )
    asked = desk.start(simple(desk))

    assert armed.struck == 2
    assert desk.endpoints.endpoint(asked.name).spec == asked


def test_no_capacity(desk: Any) -> None:
    """Instances that AWS does not have are a failure, with AWS's words."""
    asked = simple(desk)
    desk.cloud.faults.arm(
        Fault(kind=Kind.CAPACITY, service="*", operation=f"{asked.name}/*", count=100)
    )
    status = desk.server.create(asked)

    assert status.state is OperationState.FAILED
    assert "capacity" in status.message.lower()


def test_refused_before_anything_is_made(desk: Any) -> None:
    """A machine that SageMaker does not have is refused by name, and nothing is made."""
    resources = Resources(machine_type="ml.g5.huge")
    asked = simple(desk, resources=resources)
    with (
        desk.cloud.noted() as calls,
        pytest.raises(InvalidRequest, match=r"ml\.g5\.huge.*none of ml\.g5"),
    ):
        desk.server.create(asked)

    assert not [c for c in calls if c.startswith(MUTATING)]
    assert configs(desk, asked.name) == []


def test_calls_of_a_listing(desk: Any) -> None:
    """A look at many endpoints is one describe for each, and no more than four questions beside."""
    made = [simple(desk) for _ in range(3)]
    for operation in [desk.endpoints.create(s, artifacts=desk.server.artifacts) for s in made]:
        succeeded(desk.wait(operation))
    with desk.cloud.noted() as calls:
        found = list(desk.endpoints.endpoints())
    described = calls.count("DescribeEndpoint")

    assert {s.name for s in made} <= {e.spec.name for e in found}
    assert described == len(desk.endpoints._records.all())
    assert len(calls) - described <= 4
    assert not [c for c in calls if c.startswith(MUTATING)]


def test_update_to_what_is_there(desk: Any) -> None:
    """An update to what is there changes nothing, autoscaling included."""
    asked = desk.start(simple(desk, scaling=FOLLOWING))
    before = desk.endpoints.endpoint(asked.name)
    with desk.cloud.noted() as calls:
        succeeded(desk.server.update(asked))

    assert not [c for c in calls if c.startswith(MUTATING)]
    assert desk.endpoints.endpoint(asked.name) == before


def test_not_ready(desk: Any) -> None:
    """A prediction from an endpoint that is still being made is `Unavailable`, not unknown."""
    asked = simple(desk)
    operation = desk.endpoints.create(asked, artifacts=desk.server.artifacts)
    with pytest.raises(Unavailable, match="is Creating"):
        desk.ask(asked.name)

    succeeded(desk.wait(operation))


def test_end_before_the_endpoint(desk: Any) -> None:
    """What was made for an endpoint that never came to be goes with its removal."""
    asked = simple(desk)
    desk.cloud.faults.arm(
        Fault(kind=Kind.ERROR, service="sagemaker", operation="CreateEndpoint", count=100)
    )
    with pytest.raises(Unavailable):
        desk.server.create(asked)
    desk.cloud.faults.disarm()
    assert len(configs(desk, asked.name)) == 1
    assert desk.endpoints.endpoint(asked.name) is None

    succeeded(desk.server.delete(asked.name))
    assert configs(desk, asked.name) == []
    assert desk.endpoints._records.of(asked.name) == []


def test_native(desk: Any) -> None:
    """The vendor's own object is handed over as boto3 returns it."""
    asked = desk.start(simple(desk))

    native = desk.endpoints.native(asked.name)
    assert native["EndpointArn"] == desk.endpoints.endpoint(asked.name).native_id
    with pytest.raises(NotFound):
        desk.endpoints.native(fresh("nobody"))


def test_questions_about_nobody(desk: Any) -> None:
    """Metrics and logs of an endpoint that is not there are `NotFound`."""
    name = fresh("nobody")
    with pytest.raises(NotFound):
        desk.endpoints.metrics(name, window_s=60.0)
    with pytest.raises(NotFound):
        desk.endpoints.logs(name)
    with pytest.raises(InvalidRequest):
        desk.endpoints.metrics(name, window_s=-1.0)
    with pytest.raises(InvalidRequest):
        desk.endpoints.endpoint("Not_A_Name")
