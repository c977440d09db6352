"""Batch transform jobs as AWS sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import ConfigError, InvalidRequest, Unsupported
from cloudreg.testing.batches import job
from cloudreg.types import OperationState, Resources
from cloudreg_sagemaker import checks
from cloudreg_sagemaker.machines import GPUS


def begun(desk: Any, number: int = 1, *, broken: bool = False, **more: Any) -> Any:
    version = desk.server.version(number, broken=broken)
    asked = replace(job(version), **more)
    desk.provider.store.put(b"{}\n", f"{asked.input}0.jsonl")
    return asked, desk.provider.batch.start(asked, version=version)


def test_job_as_aws_sees_it(desk: Any) -> None:
    """A job has one archive, lines in and lines out, cloudreg's tags, and its machines."""
    asked, operation = begun(desk, replicas=2, resources=Resources.parse("L4"))
    seen = desk.client.describe_transform_job(TransformJobName=asked.name)
    tags = desk.client.list_tags(ResourceArn=seen["TransformJobArn"])["Tags"]

    assert {t["Key"]: t["Value"] for t in tags} == {"cloudreg": asked.name, "cloudreg:model": "kit"}
    assert seen["TransformResources"] == {"InstanceType": "ml.g6.xlarge", "InstanceCount": 2}
    assert seen["BatchStrategy"] == "MultiRecord"
    assert seen["TransformInput"]["SplitType"] == "Line"
    assert seen["TransformOutput"]["AssembleWith"] == "Line"
    assert seen["MaxConcurrentTransforms"] * seen["MaxPayloadInMB"] <= 100
    model = desk.client.describe_model(ModelName=seen["ModelName"])["PrimaryContainer"]
    assert model["ModelDataUrl"].endswith(".tar.gz")
    assert model["Environment"]["CLOUDREG_DIGEST"] == asked.digest
    assert desk.wait(operation).state is OperationState.SUCCEEDED


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_is_left(desk: Any, broken: bool) -> None:
    """The model of a job that is over is gone, whatever became of the job."""
    asked, operation = begun(desk, 7 if broken else 1, broken=broken)
    desk.wait(operation)

    with pytest.raises(desk.client.exceptions.ClientError, match="Could not find model"):
        desk.client.describe_model(ModelName=asked.name)


def test_failure_has_the_last_words(desk: Any) -> None:
    """A job that fails tells why, with what its containers wrote last."""
    _, operation = begun(desk, 7, broken=True)
    status = desk.wait(operation)

    assert status.state is OperationState.FAILED
    assert "the weights make no sense" in status.logs


def test_machines_that_transform_jobs_have_not(desk: Any) -> None:
    """A GPU class without transform jobs is refused before any call, with one that has them."""
    missing = {
        m.accelerator for m in GPUS if m.name not in checks.values_of("TransformInstanceType")
    }
    assert "H100" in missing
    version = desk.server.version(1)
    asked = replace(job(version), resources=Resources.parse("H100"))
    with desk.cloud.noted() as calls, pytest.raises(Unsupported, match="no transform jobs on"):
        desk.provider.batch.start(asked, version=version)

    assert calls == []


def test_more_replicas_than_there_are(desk: Any) -> None:
    """More than a hundred instances are refused before any call."""
    with pytest.raises(Unsupported) as caught:
        begun(desk, replicas=101)

    assert caught.value.hint == "--replicas 100"


def test_credentials_do_not_pass(desk: Any) -> None:
    """Credentials in the environment of a job are refused."""
    with pytest.raises(InvalidRequest, match="AWS_ACCESS_KEY_ID"):
        begun(desk, env={"AWS_ACCESS_KEY_ID": "AKIA"})


def test_target_without_a_role(opened: Any) -> None:
    """A target that names no role cannot score, and says what to write."""
    with pytest.raises(ConfigError, match="names no role") as caught:
        begun(opened(role=None))

    assert "role = " in (caught.value.hint or "")
