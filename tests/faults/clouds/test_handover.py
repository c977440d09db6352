"""Versions too large for this machine: a service copies them from one cloud to the other."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from cloudreg.errors import IntegrityError, OperationFailed, Unsupported
from cloudreg.manifest import Lineage

ROLE = "reader"
TRANSFER = f"""transfer_above = "4B"
transfer_role = "arn:aws:iam::123456789012:role/{ROLE}"
"""
STAGE = """[stages.dev]
targets = ["aws", "gcp"]
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Federated": "accounts.google.com"},
            "Action": "sts:AssumeRoleWithWebIdentity",
        }
    ],
}
PROMOTE = """
import sys
from cloudreg import Workspace, plugins
from cloudreg_sagemaker import PLUGIN as SAGEMAKER
from cloudreg_vertex import PLUGIN as VERTEX
for plugin in (SAGEMAKER, VERTEX):
    plugins.register(plugin)
class Telling:
    def task(self, title, **how):
        from cloudreg.operations import SILENT
        return SILENT.task(title, **how)
    def say(self, text):
        if "Storage Transfer Service copies" in text:
            print("handed over", flush=True)
with Workspace.load(sys.argv[1], actor="ada", wait_s=60.0, timeout_s=60.0,
                    progress=Telling()) as ws:
    ws.promote(sys.argv[2], to="prod")
"""


@pytest.fixture
def role(clouds: Any) -> None:
    iam = boto3.client("iam", endpoint_url=clouds[0].url, region_name="us-east-1")
    if ROLE not in {one["RoleName"] for one in iam.list_roles()["Roles"]}:
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST))


def arm(here: Any, **fault: Any) -> None:
    request = urllib.request.Request(
        f"{here.gcp.url}/_emulator/faults",
        data=json.dumps({"service": "storagetransfer", **fault}).encode(),
        method="POST",
    )
    urllib.request.urlopen(request, timeout=10).close()


def disarm(here: Any) -> None:
    request = urllib.request.Request(f"{here.gcp.url}/_emulator/faults", method="DELETE")
    urllib.request.urlopen(request, timeout=10).close()


def statuses(here: Any) -> list[str]:
    """Return how the service's jobs into the model's folder stand."""
    query = urllib.parse.urlencode({"filter": json.dumps({"projectId": "emulated-project"})})
    with urllib.request.urlopen(f"{here.gcp.url}/v1/transferJobs?{query}", timeout=10) as answer:
        jobs = json.load(answer).get("transferJobs", [])
    return [
        job["status"]
        for job in jobs
        if job["transferSpec"]["gcsDataSink"]["path"] == f"{here.model}/"
    ]


@pytest.mark.usefixtures("role")
def test_promotion_past_this_machine(project: Callable[..., Any]) -> None:
    """The plan says who copies; the bytes are hashed on the target all the same, and served."""
    here = project(home="aws", transfer=TRANSFER)
    with here.open() as ws:
        here.register(ws, 1)
        planned = ws.promote(f"{here.model}:1", to="prod", dry_run=True)
        (copy,) = [change for change in planned.plan.changes if change.kind == "copy"]
        assert copy.note.startswith("by Storage Transfer Service, past this machine; egress ")
        assert statuses(here) == []
        ws.promote(f"{here.model}:1", to="prod")
    assert statuses(here) == ["DELETED"]
    here.check(number=1)


@pytest.mark.slow
@pytest.mark.usefixtures("role")
def test_deployment_past_this_machine(project: Callable[..., Any]) -> None:
    """An endpoint that is deployed anew has its bytes brought by the same service."""
    here = project(home="aws", transfer=TRANSFER)
    with here.open() as ws:
        here.register(ws, 1)
        ws.promote(f"{here.model}:1", to="prod")
        ws.down(f"{here.model}-gcp")
        (blob,) = ws.targets["gcp"].store.list("blobs/")
        ws.targets["gcp"].store.delete(blob.key)
    with here.open() as ws:
        ws.apply()
    assert statuses(here) == ["DELETED", "DELETED"]
    here.check(number=1)


@pytest.mark.slow
@pytest.mark.usefixtures("role")
def test_registration_past_this_machine(project: Callable[..., Any]) -> None:
    """A first stage on both clouds gets its bytes by the service, and what lies there is hashed."""
    here = project(home="aws", transfer=TRANSFER)
    path = here.root / "cloudreg.toml"
    path.write_text(path.read_text().replace("[stages.dev]", STAGE))
    with here.open() as ws:
        here.register(ws, 1)
        assert statuses(here) == ["DELETED"]
        ws.promote(f"{here.model}:1", to="prod")
        # Somebody died after the service was done, and before anybody looked at what it brought.
        text = b"weights 2"
        key = f"blobs/{len(text)}/{hashlib.sha256(text).hexdigest()}"
        ws.targets["gcp"].store.put(text[::-1], key)
        with pytest.raises(IntegrityError):
            here.register(ws, 2)
        ws.register(here.model, here.root / "build2", lineage=Lineage())
        with ws.targets["gcp"].store.open(key) as reader:
            assert reader.read() == text
        assert statuses(here) == ["DELETED", "DELETED"]
    here.check(number=1)


@pytest.mark.slow
def test_no_role(project: Callable[..., Any]) -> None:
    """Without a role that reads S3 a plan is refused, with the setting that is missing."""
    here = project(home="aws", transfer='transfer_above = "4B"')
    with here.open() as ws:
        here.register(ws, 1)
        with pytest.raises(Unsupported, match=r"from s3://our-models/.*transfer_role ="):
            ws.promote(f"{here.model}:1", to="prod", dry_run=True)
    path = here.root / "cloudreg.toml"
    path.write_text(path.read_text().replace('transfer_above = "4B"', ""))
    with here.open() as ws:
        ws.promote(f"{here.model}:1", to="prod")
    assert statuses(here) == []
    here.check(number=1)


@pytest.mark.usefixtures("role")
def test_wrong_bytes_are_not_trusted(project: Callable[..., Any]) -> None:
    """What the service brought is read again: other bytes are refused, and nothing is shown."""
    here = project(home="aws", transfer=TRANSFER)
    s3 = boto3.client("s3", endpoint_url=here.aws.url, region_name="us-east-1")
    with here.open() as ws:
        here.register(ws, 1)
        (blob,) = [o.key for o in ws.targets["aws"].store.list("blobs/")]
        key = f"{here.model}/{blob}"
        right = s3.get_object(Bucket="our-models", Key=key)["Body"].read()
        s3.put_object(Bucket="our-models", Key=key, Body=right[::-1])
        with pytest.raises(IntegrityError):
            ws.promote(f"{here.model}:1", to="prod")
        assert "prod" not in ws.fold(here.model).stages
        assert list(ws.targets["gcp"].registry.published(here.model)) == []
        assert list(ws.targets["gcp"].store.list("blobs/")) == []
        assert list(ws.targets["gcp"].store.list("manifests/")) == []
        s3.put_object(Bucket="our-models", Key=key, Body=right)
        ws.promote(f"{here.model}:1", to="prod")
    here.check(number=1)


@pytest.mark.slow
@pytest.mark.usefixtures("role")
def test_service_gives_up(project: Callable[..., Any]) -> None:
    """A transfer that fails leaves the stage as it was; the next try goes through."""
    here = project(home="aws", transfer=TRANSFER)
    with here.open() as ws:
        here.register(ws, 1)
        arm(here, kind="failed", reason="internal")
        try:
            with pytest.raises(OperationFailed, match="Storage Transfer Service"):
                ws.promote(f"{here.model}:1", to="prod")
        finally:
            disarm(here)
        assert "prod" not in ws.fold(here.model).stages
        ws.promote(f"{here.model}:1", to="prod")
    here.check(number=1)


@pytest.mark.slow
@pytest.mark.usefixtures("role")
@pytest.mark.timeout(120)
def test_killed_while_it_waits(project: Callable[..., Any]) -> None:
    """Who is killed while the service copies leaves it at work; a re-run waits for the same."""
    here = project(home="aws", transfer=TRANSFER)
    with here.open() as ws:
        here.register(ws, 1)
    # At the emulators' pace, a hundredth of the real one, that is two seconds.
    arm(here, kind="stuck", seconds=200.0)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", PROMOTE, str(here.root), f"{here.model}:1"],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "handed over\n"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
        with here.open() as ws:
            ws.promote(f"{here.model}:1", to="prod")
    finally:
        disarm(here)
    assert statuses(here) == ["DELETED"]
    here.check(number=1)
