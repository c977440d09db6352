"""The registry while things go wrong: counted, and with nothing done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from cloudreg_emulator.faults import Fault, Faults, Kind

REGION = "us-east-1"
ACCOUNT = "123456789012"
PREFIX = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
PACKAGE = f"{PREFIX}:model-package/churn"
SUMMARIES = "ModelPackageSummaryList"


def version(**more: Any) -> dict[str, Any]:
    return {"ModelPackageGroupName": "churn", "InferenceSpecification": spec(), **more}


def spec(**container: Any) -> dict[str, Any]:
    return {"Containers": [{"Image": "i", **container}]}


def listed(client: Any, **request: Any) -> list[int]:
    found = client.list_model_packages(ModelPackageGroupName="churn", **request)
    return [one["ModelPackageVersion"] for one in found[SUMMARIES]]


def test_throttling(client: Any, make: Any, faults: Faults, refused: Callable[..., str]) -> None:
    """A throttled request does nothing, and is counted."""
    make.group()
    armed = faults.arm(
        Fault(kind=Kind.THROTTLE, service="sagemaker", operation="CreateModelPackage", count=1)
    )

    refused(client.create_model_package, "ThrottlingException", "Rate exceeded", **version())

    assert armed.struck == 1
    assert listed(client) == []
    assert make.package() == f"{PACKAGE}/1"


@pytest.mark.parametrize(
    ("status", "code"), [(503, "ServiceUnavailable"), (500, "InternalFailure")]
)
def test_server_errors(
    client: Any, faults: Faults, refused: Callable[..., str], status: int, code: str
) -> None:
    """A 5xx does nothing."""
    armed = faults.arm(Fault(kind=Kind.ERROR, operation="CreateModelPackageGroup", status=status))

    refused(client.create_model_package_group, code, "try again", ModelPackageGroupName="churn")

    assert armed.struck == 1
    assert client.list_model_package_groups()["ModelPackageGroupSummaryList"] == []


def test_a_lost_answer(client: Any, make: Any, faults: Faults) -> None:
    """A version whose answer was lost is there, and the same token finds it."""
    make.group()
    armed = faults.arm(Fault(kind=Kind.LOST, operation="CreateModelPackage", status=0))

    with pytest.raises(ConnectionClosedError):
        client.create_model_package(ClientToken="t-1", **version())

    assert armed.struck == 1
    assert listed(client) == [1]
    again = client.create_model_package(ClientToken="t-1", **version())
    assert again["ModelPackageArn"] == f"{PACKAGE}/1"


def test_stale_lists(client: Any, make: Any, faults: Faults) -> None:
    """A stale list shows what was: neither the new version nor the new stage. Describe does."""
    make.group()
    arn = make.package()
    faults.arm(Fault(kind=Kind.STALE, operation="ListModelPackages", seconds=3600))

    assert listed(client) == []

    client.update_model_package(
        ModelPackageArn=arn, ModelLifeCycle={"Stage": "Production", "StageStatus": "Approved"}
    )
    assert listed(client) == [1]
    found = client.describe_model_package(ModelPackageName=arn)
    assert found["ModelLifeCycle"]["Stage"] == "Production"
