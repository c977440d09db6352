"""What goes wrong with requests on demand: one vocabulary with the other cloud's, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions, retry
from google.auth.exceptions import InvalidOperation

from cloudreg.operations import poll_until
from cloudreg_emulator.faults import CONTROL_PATH, Fault, Kind

NO_RETRY: Any = None


@pytest.fixture(params=["rest", "grpc"])
def one(make_cloud: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """A cloud with one model."""
    cloud = make_cloud(transport=request.param)
    cloud.upload("churn")
    return cloud


def merge(cloud: Any) -> Any:
    return cloud.models.merge_version_aliases(
        name=f"{cloud.parent}/models/churn@1", version_aliases=["prod"], retry=NO_RETRY
    )


def aliases(cloud: Any) -> set[str]:
    return cloud.aliases(f"{cloud.parent}/models/churn")["1"]


def arm(cloud: Any, kind: Kind, operation: str = "MergeVersionAliases", **more: Any) -> Any:
    return cloud.faults.arm(Fault(kind=kind, service="aiplatform", operation=operation, **more))


def test_throttled(one: Any) -> None:
    """A throttled request is refused with the quota's name, and not done."""
    armed = arm(one, Kind.THROTTLE)

    code, message = one.refused(lambda: merge(one))

    assert code == "RESOURCE_EXHAUSTED"
    # https://cloud.google.com/docs/quotas/troubleshoot
    assert "service 'aiplatform.googleapis.com' for consumer 'project_number:123456789012'" in (
        message
    )
    assert (armed.struck, aliases(one)) == (1, {"default"})
    merge(one)
    assert aliases(one) == {"default", "prod"}


@pytest.mark.parametrize(
    ("status", "code"), [(503, "UNAVAILABLE"), (500, "INTERNAL"), (504, "DEADLINE_EXCEEDED")]
)
def test_error(one: Any, status: int, code: str) -> None:
    """A request that fails on the other side is not done."""
    armed = arm(one, Kind.ERROR, status=status)

    assert one.refused(lambda: merge(one))[0] == code
    assert (armed.struck, aliases(one)) == (1, {"default"})


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.EXPIRED, "UNAUTHENTICATED"), (Kind.DENIED, "PERMISSION_DENIED")]
)
def test_not_allowed(one: Any, kind: Kind, code: str) -> None:
    """A request whose credentials ended, or who may not do that, is refused and not done."""
    armed = arm(one, kind)
    try:
        assert one.refused(lambda: merge(one))[0] == code
    except InvalidOperation:
        # Over REST the client asks for new credentials at once, and these have none.
        assert kind is Kind.EXPIRED

    assert (armed.struck, aliases(one)) == (1, {"default"})
    merge(one)
    assert aliases(one) == {"default", "prod"}


@pytest.mark.parametrize("transport", ["rest", pytest.param("grpc", marks=pytest.mark.slow)])
def test_stuck(make_cloud: Callable[..., Any], transport: str) -> None:
    """An operation that stands still does nothing until its time is over, however often asked."""
    one = make_cloud(transport=transport, scale=0.1)
    armed = arm(one, Kind.STUCK, operation="UploadModel", seconds=20.0)
    operation = one.begin("late").operation
    for _ in range(5):
        assert not one.models.get_operation({"name": operation.name}).done
    assert f"{one.canonical}/models/late" not in {
        model.name for model in one.models.list_models(parent=one.parent)
    }

    def done() -> bool:
        return bool(one.models.get_operation({"name": operation.name}).done)

    assert poll_until(done, bool, timeout_s=30.0)
    assert armed.struck == 1
    assert one.aliases(f"{one.parent}/models/late") == {"1": {"default"}}


def test_lost(one: Any) -> None:
    """A lost answer looks like an error, and everything was done."""
    armed = arm(one, Kind.LOST)

    assert one.refused(lambda: merge(one))[0] == "UNAVAILABLE"
    assert (armed.struck, aliases(one)) == (1, {"default", "prod"})


def test_closed_connection(one: Any) -> None:
    """A connection that is closed without a word is what clients make of it."""
    arm(one, Kind.LOST, status=0)

    # Over REST the error of requests leaks through the client.
    with pytest.raises((ConnectionError, OSError, exceptions.ServiceUnavailable)):
        merge(one)

    assert aliases(one) == {"default", "prod"}


def test_the_client_asks_again(one: Any) -> None:
    """Google's own retry lives through what is over soon."""
    armed = arm(one, Kind.ERROR, operation="GetModel", count=2)
    again = retry.Retry(
        initial=0.01,
        maximum=0.02,
        timeout=20,
        predicate=retry.if_exception_type(exceptions.ServiceUnavailable),
    )

    model = one.models.get_model(name=f"{one.parent}/models/churn", retry=again)

    assert (armed.struck, model.version_id) == (2, "1")


def test_stale_lists(one: Any) -> None:
    """A stale list shows what was some seconds ago: nothing, or other aliases."""
    merge(one)
    one.upload("second")
    armed = arm(one, Kind.STALE, operation="List*", seconds=60.0, count=2)

    models = list(one.models.list_models(parent=one.parent))
    versions = list(one.models.list_model_versions(name=f"{one.parent}/models/churn"))

    assert (models, versions, armed.struck) == ([], [], 2)
    assert len(list(one.models.list_models(parent=one.parent))) == 2
    assert aliases(one) == {"default", "prod"}


def test_armed_over_http(one: Any) -> None:
    """Other processes arm and count faults over HTTP."""
    fault = {"kind": "failed", "operation": "UploadModel", "reason": "quota"}
    armed = one.http.post(CONTROL_PATH, json=fault)

    assert armed.status_code == 201
    with pytest.raises(exceptions.ResourceExhausted):
        one.upload("second")
    assert one.http.get(CONTROL_PATH).json()["faults"][0]["struck"] == 1


@pytest.mark.parametrize(
    "fault",
    [{"kind": "failed"}, {"kind": "failed", "reason": "mood"}, {"kind": "lost", "reason": "quota"}],
)
def test_no_such_fault(one: Any, fault: dict[str, Any]) -> None:
    """A failure has one of the known reasons, and nothing else has one."""
    answer = one.http.post(CONTROL_PATH, json=fault)

    assert (answer.status_code, "reason" in answer.json()["error"]) == (400, True)
