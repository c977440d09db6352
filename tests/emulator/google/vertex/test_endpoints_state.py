"""Endpoints that outlive the emulator that they were made in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg_emulator.faults import Fault, Kind


@pytest.fixture(params=["rest", "grpc"])
def make(make_hosting: Callable[..., Any], request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Opens one emulator after the other over the same state."""
    return lambda **more: make_hosting(transport=request.param, state=tmp_path, **more)


def test_endpoints(make: Callable[..., Any], until: Callable[..., None]) -> None:
    """What is deployed is there in the next run: ids, split, artifacts, and new processes."""
    first = make()
    bucket = first.bucket("models", **{"a__weights.txt": b"old"})
    model = first.version("first", artifact_uri=f"gs://{bucket}/a")
    endpoint = first.endpoint("kept", labels={"a": "b"})
    blue = first.deploy(endpoint, model)
    green = first.deploy(endpoint, first.version("second"), split={"0": 0, blue: 100})
    gone = first.endpoint("gone")
    first.done(first.endpoints.delete_endpoint(name=gone))
    before = first.get(endpoint)
    pid = first.ask(endpoint)["pid"]
    first.emulator.close()

    second = make()

    assert [one.name for one in second.endpoints.list_endpoints(parent=second.parent)] == [endpoint]
    until(lambda: second.ready(endpoint) == 2)
    after = second.get(endpoint)
    assert (after.etag, dict(after.labels)) == (before.etag, {"a": "b"})
    assert second.split(endpoint) == {blue: 100, green: 0}
    said = second.ask(endpoint)
    assert (said["weights"], said["env"]["AIP_DEPLOYED_MODEL_ID"]) == ("old", blue)
    assert said["pid"] != pid
    assert (
        second.refused(lambda: second.models.delete_model_version(name=model))[0]
        == "FAILED_PRECONDITION"
    )


def test_a_deployment_goes_on(make: Callable[..., Any], until: Callable[..., None]) -> None:
    """A deployment that was running goes on in the next run, under its name."""
    first = make()
    endpoint = first.endpoint()
    first.faults.arm(Fault(kind=Kind.SLOW_START, service="fleet", seconds=100_000))
    begun = first.begin_deploy(endpoint, first.version("first")).operation
    assert not begun.done
    first.emulator.close()

    second = make()

    until(lambda: second.endpoints.get_operation({"name": begun.name}).done)
    assert second.endpoints.get_operation({"name": begun.name}).error.code == 0
    assert second.predict(endpoint, 1).predictions[0]["version"] == "first"
    assert len(second.get(endpoint).deployed_models) == 1


def test_closing_ends_all_processes(make: Callable[..., Any]) -> None:
    """An emulator that is closed leaves no process, those that are being started included."""
    hosting = make()
    endpoint = hosting.endpoint()
    hosting.deploy(endpoint, hosting.version())
    hosting.begin_deploy(endpoint, hosting.version(env=[{"name": "FAIL", "value": "deaf"}]))

    hosting.emulator.close()

    assert hosting.emulator.deployments.pids == []
