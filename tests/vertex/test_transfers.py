"""Copies that Storage Transfer Service makes: found again, exact, and gone when they are over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import OperationFailed, PermissionDenied, Unsupported
from cloudreg.manifest import Lineage
from cloudreg.operations import wait
from cloudreg.testing.base import fresh
from cloudreg.types import OperationState
from cloudreg_emulator.faults import Fault, Kind
from cloudreg_vertex import transfers as transfers_module
from cloudreg_vertex.policy import TRANSFER

SERVICE = "storagetransfer"
TARGET = """
[targets.{name}]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "{bucket}"
prefix = "{model}/{name}"
image = "us-central1-docker.pkg.dev/emulated-project/serve/stand-in:1"
endpoint_url = "{url}"
storage_url = "{url}"
"""
STAGES = """
[stages.dev]
[stages.prod]
targets = ["home", "gcp"]
gates = []
"""
COUNTED = {"bytesFoundFromSource": "16", "bytesFromSourceSkippedBySync": "1"}
SOURCE = "their-models"


@pytest.fixture(scope="module")
def source(cloud: Any) -> str:
    google = cloud.google
    google.storage.create_bucket(SOURCE, {"location": "US-CENTRAL1"}, project=google.place.project)
    return f"gs://{SOURCE}/home/"


class Desk:
    """A target, and another one whose store is the source."""

    def __init__(self, cloud: Any, source: str) -> None:
        self.cloud = cloud
        self.location = source
        self.there = cloud.open(bucket=SOURCE, prefix="home").store
        self.provider = cloud.open(prefix=fresh("to"))
        self.name = fresh("copy").replace("-", "")

    def put(self, *names: str) -> list[str]:
        keys = [f"blobs/{len(name)}/{self.name}{name}" for name in names]
        for key, name in zip(keys, names, strict=True):
            self.there.put(name.encode(), key)
        return keys

    def start(self, keys: list[str]) -> Any:
        return self.provider.transfers.start(self.name, self.location, keys)

    def copy(self, keys: list[str]) -> None:
        wait(self.start(keys), timeout_s=30.0)

    def held(self) -> dict[str, bytes]:
        store = self.provider.store
        found = {}
        for one in store.list("blobs/"):
            with store.open(one.key) as reader:
                found[one.key] = reader.read()
        return found

    def jobs(self) -> list[dict[str, Any]]:
        jobs = self.cloud.google.transfers._jobs
        return [job for name, job in jobs.items() if f"cloudreg-{self.name}-" in name]


@pytest.fixture
def desk(cloud: Any, source: str) -> Desk:
    cloud.faults.disarm()
    return Desk(cloud, source)


def test_copies_just_what_is_asked_for(desk: Desk) -> None:
    """The keys are the same in both stores, others stay where they are, and the job is gone."""
    one, _, three = desk.put("one", "two", "three")
    desk.copy([one, three])

    assert desk.held() == {one: b"one", three: b"three"}
    assert [job["status"] for job in desk.jobs()] == ["DELETED"]


def test_what_is_there_stays(desk: Desk) -> None:
    """An object that is there is not overwritten, whatever it holds."""
    (key,) = desk.put("one")
    desk.provider.store.put(b"else", key)
    desk.copy([key])
    assert desk.held() == {key: b"else"}


def test_found_again(desk: Desk) -> None:
    """Whoever repeats a copy that is under way waits for it, and begins no other."""
    keys = desk.put("one")
    first = desk.start(keys)
    second = Desk.start(desk, keys)
    wait(second, timeout_s=30.0)
    wait(first, timeout_s=30.0)

    (job,) = desk.jobs()
    assert job["status"] == "DELETED"
    assert len([o for o in desk.cloud.google.transfers._operations.values()
                if o.job == job["name"]]) == 1  # fmt: skip


def test_begun_and_not_run(desk: Desk) -> None:
    """A job of a process that died before it ran it is run."""
    keys = desk.put("one")
    desk.cloud.faults.arm(Fault(kind=Kind.DENIED, service=SERVICE, operation="transferJobs.run"))
    with pytest.raises(PermissionDenied):
        desk.start(keys)
    desk.copy(keys)
    assert len(desk.jobs()) == 1
    assert list(desk.held()) == keys


@pytest.mark.parametrize(
    "operation",
    ["transferJobs.create", "transferJobs.run", "transferOperations.get", "transferJobs.patch"],
)
@pytest.mark.parametrize("status", [503, 0])
def test_lost_answers(desk: Desk, operation: str, status: int) -> None:
    """An answer that is lost is asked for again; nothing is done twice."""
    keys = desk.put("one")
    armed = desk.cloud.faults.arm(
        Fault(kind=Kind.LOST, service=SERVICE, operation=operation, status=status)
    )
    desk.copy(keys)
    assert armed.struck == 1
    assert [job["status"] for job in desk.jobs()] == ["DELETED"]
    assert list(desk.held()) == keys


def test_failure_and_another_try(desk: Desk) -> None:
    """A copy that fails is told in the service's words, and the next one is a job of its own."""
    keys = desk.put("one")
    desk.cloud.faults.arm(Fault(kind=Kind.FAILED, service=SERVICE, reason="internal"))
    with pytest.raises(OperationFailed, match="transfer failed: internal"):
        desk.copy(keys)
    assert desk.held() == {}
    desk.copy(keys)
    assert list(desk.held()) == keys
    assert [job["status"] for job in desk.jobs()] == ["DELETED", "DELETED"]


def test_more_files_than_a_job_takes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into one job goes by several."""
    monkeypatch.setattr(transfers_module, "MAX_PREFIXES", 2)
    keys = desk.put("one", "two", "three", "four", "five")
    desk.copy(keys)
    assert sorted(desk.held()) == sorted(keys)
    assert len(desk.jobs()) == 3


def test_promotion_between_buckets(desk: Desk, tmp_path: Path) -> None:
    """Between two targets of Google's the service copies without a role, and the plan says so."""
    model, url = fresh("both"), desk.cloud.google.url
    targets = [
        TARGET.format(name=name, bucket=bucket, model=model, url=url)
        for name, bucket in (("home", SOURCE), ("gcp", "our-models"))
    ]
    text = "\n".join(['home = "home"', *targets, 'transfer_above = "4B"', STAGES])
    (tmp_path / "cloudreg.toml").write_text(text)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "weights.txt").write_text("weights")
    jobs = desk.cloud.google.transfers._jobs
    before = set(jobs)
    with Workspace.load(tmp_path, actor="ada", timeout_s=60.0) as ws:
        ws.register(model, tmp_path / "build", lineage=Lineage())
        planned = ws.promote(f"{model}:1", to="prod", dry_run=True)
        (copy,) = [change for change in planned.plan.changes if change.kind == "copy"]
        assert copy.note.startswith("by Storage Transfer Service, past this machine; ")
        ws.promote(f"{model}:1", to="prod")
        assert len(list(ws.targets["gcp"].store.list("manifests/"))) == 1
        assert ws.drift(model) == []
    (job,) = [jobs[name] for name in set(jobs) - before]
    assert job["status"] == "DELETED"
    assert "awsS3DataSource" not in job["transferSpec"]


def test_objects_that_failed() -> None:
    """A copy that lacks some objects has failed, and says which and why."""
    told = {
        "done": True,
        "metadata": {
            "status": "FAILED",
            "counters": {"objectsFromSourceFailed": "1", "bytesCopiedToSink": "3"},
            "errorBreakdowns": [
                {
                    "errorCode": "PERMISSION_DENIED",
                    "errorLogEntries": [{"url": "s3://b/k", "errorDetails": ["no access"]}],
                }
            ],
        },
    }
    ended: list[str] = []

    class Service:
        def operation(self, name: str) -> dict[str, Any]:
            return {"metadata": {"counters": COUNTED}} if name == "slow" else told

        def end(self, job: str) -> None:
            ended.append(job)

    service: Any = Service()
    running = transfers_module.Transfer(service, [("a", "quick"), ("b", "slow")], source="s3://b/")
    assert running.poll().progress == 0.25
    assert running.poll().message == "4 of 16 bytes"
    assert ended == []
    found = transfers_module.Transfer(service, [("a", "quick")], source="s3://b/").poll()
    assert found.state is OperationState.FAILED
    assert found.message == "it ended as FAILED"
    assert found.logs == ("PERMISSION_DENIED: s3://b/k: no access",)
    assert ended == ["a"]


def test_every_call_has_a_permission(desk: Desk) -> None:
    """The policy names what a copy asks of the service, and nothing else of it."""
    seen: set[str] = set()

    def note(answer: Any, **_: Any) -> None:
        verb = {"GET": "get", "PATCH": "update", "POST": "create"}[answer.request.method]
        kind = "operations" if "/transferOperations/" in answer.url else "jobs"
        verb = "run" if answer.url.endswith(":run") else verb
        seen.add(f"storagetransfer.{kind}.{verb}")

    desk.provider.transfers._session().hooks["response"].append(note)
    desk.copy(desk.put("one"))
    assert seen == set(TRANSFER)


def test_s3_needs_a_role(desk: Desk) -> None:
    """Without a role of AWS's nothing is begun, and the setting is named."""
    with pytest.raises(Unsupported) as refused:
        desk.provider.transfers.start(desk.name, "s3://bucket/", ["blobs/1/x"])
    assert "transfer_role" in str(refused.value.hint)
    able = desk.cloud.open(transfer_role="arn:aws:iam::123456789012:role/r").capabilities
    assert able.managed_transfer == {"gs", "s3"}
    assert desk.jobs() == []
