"""Endpoints that share machines: components of one pool, each with its own name and life."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import AlreadyExists, NotFound, Unsupported
from cloudreg.testing.serving import spec, variant
from cloudreg.types import EndpointSpec, EndpointStatus, OperationState, Resources, Scaling

SHARE = replace(Resources.parse("T4:4"), accelerator_count=2, memory_mib=4096, cpus=2.0)
"""Half of the machine with four T4s."""


def packed(desk: Any, pool: str, number: int = 1, **more: Any) -> EndpointSpec:
    more.setdefault("resources", SHARE)
    made = variant("primary", desk.server.version(number), **more)
    return spec(desk.server.name(), made, pool=pool)


def at(asked: EndpointSpec, **changes: Any) -> EndpointSpec:
    return replace(asked, variants=(replace(asked.variants[0], **changes),))


def native(desk: Any) -> set[str]:
    found = desk.client.get_paginator("list_endpoints").paginate()
    return {one["EndpointName"] for page in found for one in page["Endpoints"]}


def test_two_models_on_one_machine(desk: Any) -> None:
    """Two endpoints of one pool are one endpoint of SageMaker, with one instance for both."""
    pool = desk.server.name()
    one, two = packed(desk, pool), packed(desk, pool, 2)
    for asked in (one, two):
        desk.start(asked)

    assert [desk.ask(asked.name)["number"] for asked in (one, two)] == [1, 2]
    (host,) = desk.describe(pool)["ProductionVariants"]
    assert host["DesiredInstanceCount"] == 1
    assert not {one.name, two.name} & native(desk)
    for asked in (one, two):
        body = desk.client.describe_inference_component(InferenceComponentName=asked.name)
        needs = body["Specification"]["ComputeResourceRequirements"]
        assert needs["NumberOfAcceleratorDevicesRequired"] == 2
        assert (needs["MinMemoryRequiredInMb"], needs["NumberOfCpuCoresRequired"]) == (4096, 2)
    seen = {e.spec.name: e for e in desk.endpoints.endpoints()}
    assert [seen[asked.name].spec for asked in (one, two)] == [one, two]
    assert seen[one.name].status is EndpointStatus.READY


def test_metrics_are_of_each(desk: Any) -> None:
    """What one endpoint of a pool answered is not counted for the other."""
    pool = desk.server.name()
    one, two = packed(desk, pool), packed(desk, pool, 2)
    for asked in (one, two):
        desk.start(asked)
    for _ in range(3):
        desk.ask(one.name)
    desk.ask(two.name)

    counted = [
        desk.endpoints.metrics(e.name, window_s=60.0)["primary"].requests for e in (one, two)
    ]
    assert counted == [3, 1]


def test_the_last_one_removes_the_machines(desk: Any) -> None:
    """One that goes leaves the other alone; with the last one the machines go, and all else."""
    pool = desk.server.name()
    one, two = packed(desk, pool), packed(desk, pool, 2)
    for asked in (one, two):
        desk.start(asked)
    config = desk.describe(pool)["EndpointConfigName"]
    assert desk.server.delete(one.name).state is OperationState.SUCCEEDED
    assert desk.endpoints.endpoint(one.name) is None
    with pytest.raises(NotFound):
        desk.ask(one.name)
    assert desk.ask(two.name)["number"] == 2

    assert desk.server.delete(two.name).state is OperationState.SUCCEEDED
    assert pool not in native(desk)
    with pytest.raises(desk.client.exceptions.ClientError, match="Could not find"):
        desk.client.describe_endpoint_config(EndpointConfigName=config)
    assert [desk.endpoints._records.of(e.name) for e in (one, two)] == [[], []]


def test_two_at_once(desk: Any) -> None:
    """Two that begin a pool at the same time make one, and neither is lost."""
    pool = desk.server.name()
    both = [packed(desk, pool), packed(desk, pool, 2)]
    states: list[OperationState] = []

    def add(asked: EndpointSpec) -> None:
        operation = desk.endpoints.create(asked, artifacts=desk.server.artifacts)
        states.append(desk.wait(operation).state)

    threads = [threading.Thread(target=add, args=(asked,)) for asked in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert states == [OperationState.SUCCEEDED] * 2
    assert [desk.ask(asked.name)["number"] for asked in both] == [1, 2]
    assert [desk.endpoints.endpoint(asked.name).spec for asked in both] == both


def test_changes_are_of_one(desk: Any) -> None:
    """Another version, more copies and another share of one endpoint leave the other as it is."""
    pool = desk.server.name()
    one, two = packed(desk, pool), packed(desk, pool, 2)
    for asked in (one, two):
        desk.start(asked)
    version = desk.server.version(3)
    for changes in (
        {"number": 3, "digest": version.digest},
        {"scaling": Scaling(min_replicas=2, max_replicas=2)},
        {"resources": replace(SHARE, memory_mib=2048)},
        {"scaling": Scaling(min_replicas=1, max_replicas=3)},
    ):
        one = at(one, **changes)
        assert desk.server.update(one).state is OperationState.SUCCEEDED
        assert desk.endpoints.endpoint(one.name).spec == one

    assert desk.ask(one.name)["number"] == 3
    assert desk.endpoints.endpoint(two.name).spec == two
    assert desk.ask(two.name)["number"] == 2


def test_logs_and_native(desk: Any) -> None:
    """The vendor's object of a packed endpoint is that of the machines that carry it."""
    pool = desk.server.name()
    asked = desk.start(packed(desk, pool))

    assert desk.endpoints.native(asked.name)["EndpointName"] == pool
    lines = desk.endpoints.logs(asked.name)
    assert any(line.startswith("serving ") for line in lines)
    assert desk.endpoints.logs(asked.name, variant="primary") == lines


def test_other_machines_are_refused(desk: Any) -> None:
    """All of a pool have the same machines: another one is refused, and nothing is made."""
    pool = desk.server.name()
    desk.start(packed(desk, pool))
    other = packed(desk, pool, resources=replace(Resources.parse("L4"), memory_mib=1024))
    with pytest.raises(Unsupported, match="machines of") as refused:
        desk.server.create(other)

    assert "another pool" in str(refused.value.hint)
    assert desk.endpoints.endpoint(other.name) is None


def test_no_move_between_pools(desk: Any) -> None:
    """A live endpoint does not move to another pool, and not out of one."""
    asked = desk.start(packed(desk, desk.server.name()))
    elsewhere = replace(asked, pool=desk.server.name())
    with pytest.raises(Unsupported, match="cannot be moved"):
        desk.server.update(elsewhere)

    assert desk.ask(asked.name)["number"] == 1


def test_a_stranger_with_the_name_of_the_pool(desk: Any) -> None:
    """An endpoint that somebody else made is no pool of ours."""
    pool = desk.server.name()
    other = desk.start(packed(desk, desk.server.name()))
    config = desk.describe(str(other.pool))["EndpointConfigName"]
    desk.client.create_endpoint(EndpointName=pool, EndpointConfigName=config)
    with pytest.raises(AlreadyExists, match="did not make it"):
        desk.server.create(packed(desk, pool))
    desk.client.get_waiter("endpoint_in_service").wait(
        EndpointName=pool, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    desk.client.delete_endpoint(EndpointName=pool)
