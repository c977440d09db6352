"""Endpoints that somebody else changes between two looks, and what comes too late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cloudreg.testing.serving import spec, variant
from cloudreg.types import EndpointSpec, OperationState


def during(desk: Any, call: str, act: Callable[[], object]) -> list[str]:
    """Let *act* happen once, right before a provider sends *call*; return what is heard."""
    heard: list[str] = []
    lock = threading.Lock()

    def listen(_: str, name: str) -> None:
        with lock:
            first = name == call and call not in heard
            heard.append(name)
        if first:
            act()

    desk.provider.listen(listen)
    return heard


def moved(other: Any, asked: EndpointSpec, number: int) -> Callable[[], object]:
    """Return what moves an endpoint to another version, and waits until that is done."""
    version = other.server.version(number)

    def move() -> None:
        status = other.server.update(replace(asked, variants=(variant("primary", version),)))
        assert status.state is OperationState.SUCCEEDED, status

    return move


def test_one_that_moves_is_known(opened: Callable[..., Any]) -> None:
    """An endpoint that somebody moves between two looks is shown as it is, not as a stranger's."""
    other, desk = opened(), opened(health_check_timeout_s=901)
    asked = other.start(spec(other.server.name(), variant("primary", other.server.version(1))))
    heard = during(desk, "DescribeEndpoint", moved(other, asked, 2))
    found = desk.endpoints.endpoint(asked.name)

    assert heard.count("DescribeEndpoint") >= 2
    assert [v.number for v in found.spec.variants] == [2]
    assert "not made by cloudreg" not in found.message


def test_one_of_many_that_moves_is_known(opened: Callable[..., Any]) -> None:
    """So is one among all."""
    other, desk = opened(), opened(health_check_timeout_s=901)
    asked = other.start(spec(other.server.name(), variant("primary", other.server.version(1))))
    during(desk, "DescribeEndpoint", moved(other, asked, 2))
    (found,) = [one for one in desk.endpoints.endpoints() if one.spec.name == asked.name]

    assert [v.number for v in found.spec.variants] == [2]
    assert "not made by cloudreg" not in found.message


def latecomers(desk: Any, asked: EndpointSpec, *, tag: str) -> tuple[str, str]:
    """Make a configuration and its model as a request does that slept; return their names."""
    client = desk.client
    config = client.describe_endpoint_config(
        EndpointConfigName=desk.describe(asked.name)["EndpointConfigName"]
    )
    (running,) = config["ProductionVariants"]
    model = client.describe_model(ModelName=running["ModelName"])
    tags = [{"Key": "cloudreg", "Value": tag}]
    name = f"{running['ModelName'][:-2]}zz"
    client.create_model(
        ModelName=name,
        PrimaryContainer=model["PrimaryContainer"],
        ExecutionRoleArn=model["ExecutionRoleArn"],
        Tags=tags,
    )
    late = f"{config['EndpointConfigName'][:-8]}00000000"
    client.create_endpoint_config(
        EndpointConfigName=late,
        ProductionVariants=[{**running, "ModelName": name}],
        Tags=tags,
    )
    return late, name


def left(desk: Any, config: str, model: str) -> list[str]:
    """Return which of the two are there."""
    configs = desk.client.list_endpoint_configs(NameContains=config)["EndpointConfigs"]
    models = desk.client.list_models(NameContains=model)["Models"]
    names = [one["EndpointConfigName"] for one in configs]
    return [*names, *(one["ModelName"] for one in models)]


def test_what_came_too_late_is_swept(desk: Any) -> None:
    """What a process that slept made for an endpoint goes with the next change of what runs."""
    asked = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))
    late = latecomers(desk, asked, tag=asked.name)
    moved(desk, asked, 2)()

    assert left(desk, *late) == []
    late = latecomers(desk, asked, tag=asked.name)
    status = desk.server.delete(asked.name)
    assert status.state is OperationState.SUCCEEDED
    assert left(desk, *late) == []


def test_others_are_not_swept(desk: Any) -> None:
    """What has a name of the kind and is another endpoint's stays."""
    asked = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))
    late = latecomers(desk, asked, tag="somebody-else")
    moved(desk, asked, 2)()
    desk.server.delete(asked.name)

    assert left(desk, *late) == list(late)
    desk.client.delete_endpoint_config(EndpointConfigName=late[0])
    desk.client.delete_model(ModelName=late[1])
