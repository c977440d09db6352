"""Endpoints that scale to zero: inference components whose processes really end and come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import InvalidRequest, NotFound, Unavailable, Unsupported
from cloudreg.testing.serving import spec, variant
from cloudreg.types import (
    EndpointSpec,
    EndpointStatus,
    OperationState,
    Resources,
    Scaling,
    ScalingMetric,
    ScalingStep,
)

LASTING = Scaling(min_replicas=0, max_replicas=2, scale_in_cooldown_s=86_400.0)
"""Whose copies stay for the length of a test."""

RESTING = replace(LASTING, scale_in_cooldown_s=0.0)


def resting(desk: Any, scaling: Scaling = LASTING, *, number: int = 1, **more: Any) -> EndpointSpec:
    return spec(
        desk.server.name(), variant("primary", desk.server.version(number), scaling=scaling, **more)
    )


def at(asked: EndpointSpec, **changes: Any) -> EndpointSpec:
    return replace(asked, variants=(replace(asked.variants[0], **changes),))


def to(desk: Any, asked: EndpointSpec, number: int, *, broken: bool = False) -> EndpointSpec:
    version = desk.server.version(number, broken=broken)
    return at(asked, number=number, digest=version.digest)


def component(desk: Any, name: str) -> dict[str, Any]:
    return dict(desk.client.describe_inference_component(InferenceComponentName=name))


def alarms(desk: Any, name: str) -> list[dict[str, Any]]:
    found = desk.cloud.client("cloudwatch").describe_alarms(AlarmNames=[f"cloudreg-wake/{name}"])
    return list(found["MetricAlarms"])


def models(desk: Any) -> set[str]:
    pages = desk.client.get_paginator("list_models").paginate()
    return {model["ModelName"] for page in pages for model in page["Models"]}


def test_shape(desk: Any) -> None:
    """Instances without a model may all go; the component has model, needs and wake-up call."""
    asked = desk.start(resting(desk, resources=Resources.parse("T4:4")))
    config = desk.client.describe_endpoint_config(
        EndpointConfigName=desk.describe(asked.name)["EndpointConfigName"]
    )
    (host,) = config["ProductionVariants"]
    (alarm,) = alarms(desk, asked.name)

    assert config["ExecutionRoleArn"].endswith("role/model-servers")
    assert "ModelName" not in host
    assert host["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    needs = component(desk, asked.name)["Specification"]["ComputeResourceRequirements"]
    assert needs["NumberOfAcceleratorDevicesRequired"] == 4
    assert alarm["MetricName"] == "NoCapacityInvocationFailures"
    seen = desk.endpoints.endpoint(asked.name)
    assert (seen.spec, seen.status) == (asked, EndpointStatus.READY)
    assert seen.variants[0].digest == asked.variants[0].digest
    assert asked in [endpoint.spec for endpoint in desk.endpoints.endpoints()]


def test_to_zero_and_back(desk: Any) -> None:
    """Without requests no process is left; a request is refused, and brings a replica back."""
    asked = desk.start(resting(desk, RESTING))
    seen = desk.server.seen(
        asked.name,
        lambda e: e.variants[0].ready_replicas == 0 and e.status is EndpointStatus.READY,
        timeout_s=90.0,
    )
    assert seen.spec == asked
    assert seen.variants[0].digest == asked.variants[0].digest

    with pytest.raises(Unavailable, match="has no replica at this moment") as refused:
        desk.ask(asked.name)
    assert "again in some minutes" in str(refused.value.hint)
    desk.server.seen(asked.name, lambda e: e.variants[0].ready_replicas >= 1, timeout_s=90.0)


def test_predictions(desk: Any) -> None:
    """Requests reach the component, whatever variant is named; another variant is not there."""
    asked = desk.start(resting(desk))

    assert desk.ask(asked.name)["number"] == 1
    assert desk.ask(asked.name, variant="primary")["number"] == 1
    with pytest.raises(NotFound, match="no variant 'canary'"):
        desk.ask(asked.name, variant="canary")
    assert desk.endpoints.metrics(asked.name, window_s=60.0)["primary"].requests >= 2


def test_a_name_that_changes_its_shape(desk: Any) -> None:
    """Who asked a component before reaches the instances of the same name, and the reverse."""
    asked = desk.start(resting(desk))
    assert desk.ask(asked.name)["number"] == 1
    desk.server.delete(asked.name)
    awake = desk.start(at(asked, scaling=Scaling()))
    assert desk.ask(asked.name)["number"] == 1
    desk.server.delete(awake.name)
    desk.start(asked)

    assert desk.ask(asked.name)["number"] == 1


def test_another_version(desk: Any) -> None:
    """Another version replaces the copies, is verified by its digest, and leaves no model."""
    asked = desk.start(resting(desk))
    before = component(desk, asked.name)["Specification"]["ModelName"]
    wanted = to(desk, asked, 2)
    assert desk.server.update(wanted).state is OperationState.SUCCEEDED

    seen = desk.endpoints.endpoint(asked.name)
    assert (seen.spec, seen.variants[0].digest) == (wanted, wanted.variants[0].digest)
    assert desk.ask(asked.name)["number"] == 2
    assert before not in models(desk)


def test_a_broken_version(desk: Any) -> None:
    """A version that does not start is a failure with its last words; the one before serves."""
    asked = desk.start(resting(desk))
    status = desk.server.update(to(desk, asked, 3, broken=True))

    assert status.state is OperationState.FAILED
    assert "went back to" in status.message
    assert desk.endpoints.endpoint(asked.name).spec == asked
    assert desk.ask(asked.name)["number"] == 1


def test_a_broken_beginning(desk: Any) -> None:
    """A component that never started is made anew by the next change."""
    asked = resting(desk)
    assert desk.server.create(to(desk, asked, 3, broken=True)).state is OperationState.FAILED
    assert desk.endpoints.endpoint(asked.name).status is EndpointStatus.FAILED

    assert desk.server.update(asked).state is OperationState.SUCCEEDED
    assert desk.ask(asked.name)["number"] == 1


def test_scaling_changes_in_place(desk: Any) -> None:
    """Other bounds and another target touch no copy, and are shown."""
    asked = desk.start(resting(desk))
    other = replace(LASTING, max_replicas=3, metric=ScalingMetric.REQUESTS_PER_MINUTE, target=300.0)
    wanted = at(asked, scaling=other)
    with desk.cloud.noted() as calls:
        assert desk.server.update(wanted).state is OperationState.SUCCEEDED

    assert not [name for name in calls if name.startswith(("Create", "UpdateInference"))]
    assert desk.endpoints.endpoint(asked.name).spec == wanted


def test_nothing_changes_twice(desk: Any) -> None:
    """An update to what is there sends nothing that changes anything."""
    asked = desk.start(resting(desk))
    with desk.cloud.noted() as calls:
        assert desk.server.update(asked).state is OperationState.SUCCEEDED
        assert desk.server.create(asked).state is OperationState.SUCCEEDED

    assert {name for name in calls if not name.startswith(("Describe", "List", "Get"))} <= {
        "HeadObject"
    }


def test_nothing_is_left(desk: Any) -> None:
    """After a removal there is no component, instance, model, configuration or alarm."""
    asked = desk.start(resting(desk))
    model = component(desk, asked.name)["Specification"]["ModelName"]
    config = desk.describe(asked.name)["EndpointConfigName"]
    assert desk.server.delete(asked.name).state is OperationState.SUCCEEDED

    assert model not in models(desk)
    assert alarms(desk, asked.name) == []
    assert desk.endpoints._records.of(asked.name) == []
    for call, name in (
        (desk.client.describe_inference_component, {"InferenceComponentName": asked.name}),
        (desk.client.describe_endpoint, {"EndpointName": asked.name}),
        (desk.client.describe_endpoint_config, {"EndpointConfigName": config}),
    ):
        with pytest.raises(desk.client.exceptions.ClientError, match="Could not find"):
            call(**name)


def test_alarm_that_is_gone(desk: Any) -> None:
    """Without its alarm nothing would wake it: that is shown, and an update puts it right."""
    asked = desk.start(resting(desk))
    desk.cloud.client("cloudwatch").delete_alarms(AlarmNames=[f"cloudreg-wake/{asked.name}"])
    seen = desk.endpoints.endpoint(asked.name)
    assert (seen.status, seen.message) == (
        EndpointStatus.DEGRADED,
        "nothing brings it back from zero",
    )

    assert desk.server.update(asked).state is OperationState.SUCCEEDED
    assert desk.endpoints.endpoint(asked.name).status is EndpointStatus.READY


def test_component_that_is_gone(desk: Any) -> None:
    """A component that somebody removed is shown as missing, and comes back with an update."""
    asked = desk.start(resting(desk))
    desk.client.delete_inference_component(InferenceComponentName=asked.name)
    seen = desk.server.seen(asked.name, lambda e: e.message == "it has no component")
    assert seen.status is EndpointStatus.DEGRADED

    assert desk.server.update(asked).state is OperationState.SUCCEEDED
    assert desk.ask(asked.name)["number"] == 1


@pytest.mark.parametrize("way", ["to zero", "from zero", "machine"])
def test_shapes_do_not_change_alive(desk: Any, way: str) -> None:
    """What AWS cannot change without losing requests is refused, and nothing is touched."""
    begin, end = {
        "to zero": ({"scaling": Scaling()}, {"scaling": LASTING}),
        "from zero": ({"scaling": LASTING}, {"scaling": Scaling()}),
        "machine": ({"scaling": LASTING}, {"resources": Resources.parse("T4")}),
    }[way]
    asked = desk.start(at(resting(desk), **begin))
    with desk.cloud.noted() as calls, pytest.raises(Unsupported, match="cannot") as refused:
        desk.server.update(at(asked, **end))

    assert "another endpoint beside it" in str(refused.value.hint)
    assert not [name for name in calls if name.startswith(("Create", "Update", "Delete"))]
    assert desk.ask(asked.name)["number"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": ScalingMetric.CPU_UTILIZATION, "target": 50.0}, "no value while nothing runs"),
        ({"steps": (ScalingStep(at=9.0, add=1),)}, "the one step policy"),
    ],
)
def test_scaling_that_zero_has_not(desk: Any, changes: dict[str, Any], words: str) -> None:
    """Metrics of machines, and steps, mean nothing where nothing runs."""
    with pytest.raises(Unsupported, match=words):
        desk.server.create(resting(desk, replace(LASTING, **changes)))


def test_no_split_at_zero(desk: Any) -> None:
    """Traffic is not split between components, which callers ask by name."""
    one, two = desk.server.version(1), desk.server.version(2)
    wanted = spec(
        desk.server.name(),
        variant("primary", one, 50, scaling=LASTING),
        variant("canary", two, 50, scaling=LASTING),
    )
    with pytest.raises(Unsupported, match="cannot be split"):
        desk.server.create(wanted)


def test_model_server_refuses(desk: Any) -> None:
    """What the model server refuses is said in its words, through a component too."""
    asked = desk.start(resting(desk))
    with pytest.raises(InvalidRequest):
        desk.ask(asked.name, b"this is no JSON")
