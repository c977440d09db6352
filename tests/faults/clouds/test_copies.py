"""Copies between two clouds and a disk, in every direction, while something goes wrong.

A copy is struck at every change that it sends, and meets trouble of either cloud at what it reads
and at what it writes. Whatever it was: what stands under a digest has that digest, a manifest is
there only with all its files, and the same copy goes through once the trouble is over.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import boto3
import pytest

from cloudreg import Workspace, artifacts
from cloudreg.errors import CloudregError
from cloudreg.manifest import Lineage
from cloudreg.testing.faults import CRASHES, Fault, recorded
from cloudreg.types import ModelVersion

WAYS = list(permutations(("aws", "gcp", "disk"), 2))
KILLED = -9
MAX_CHANGES = 30
DAY_S = 24 * 3600.0
LARGE = 20 * 2**20
"""More than one request takes, on either cloud: three parts."""


class Copying:
    """A version of a small, an empty and a large file at one place, and what another gets of it."""

    def __init__(self, here: Any, source: str, dest: str) -> None:
        self.here, self.source, self.dest = here, source, dest
        folder = here.root / "build"
        folder.mkdir()
        (folder / "weights.bin").write_bytes(os.urandom(LARGE))
        (folder / "config.json").write_text(f'{{"of": "{here.model}"}}')
        (folder / "empty.txt").touch()
        with here.open() as ws:
            ws.register(here.model, folder, lineage=Lineage())

    def copy(self, ws: Workspace) -> None:
        """Copy, as nobody was before."""
        source, dest = (ws.targets[target].store for target in (self.source, self.dest))
        artifacts.replicate(self.version(ws), source, dest)

    def version(self, ws: Workspace) -> ModelVersion:
        return ws.version(f"{self.here.model}:1")

    def check_nothing_wrong(self, ws: Workspace) -> None:
        """Whatever stands there is what it is called, and a manifest is not alone."""
        store = ws.targets[self.dest].store
        for found in list(store.list("blobs/")):
            with store.open(found.key) as reader:
                content = reader.read()
            assert found.key == f"blobs/{len(content)}/{hashlib.sha256(content).hexdigest()}"
        version = self.version(ws)
        if list(store.list(artifacts.manifest_key(version.digest))):
            artifacts.check(version, store, target=self.dest)

    def check_whole(self, ws: Workspace) -> None:
        """All of it is there, at both ends; and in a day nothing else is."""
        version = self.version(ws)
        for target in (self.source, self.dest):
            artifacts.check(version, ws.targets[target].store, target=target)
        store = ws.targets[self.dest].store
        source = ws.targets[self.source].store
        assert artifacts.replicate(version, source, store) == 0
        artifacts.sweep(store, now=time.time() + 2 * DAY_S)
        assert list(store.list("uploads/")) == []
        assert len(list(store.list("blobs/"))) == 3
        if self.dest != "disk":
            assert self.unfinished() <= 1, "of what was begun, one may wait to be swept"

    def unfinished(self) -> int:
        """Return how many uploads to the bucket stay open."""
        if self.dest == "aws":
            client = boto3.client("s3", endpoint_url=self.here.aws.url, region_name="us-east-1")
            answer = client.list_multipart_uploads(
                Bucket="our-models", Prefix=f"{self.here.model}/"
            )
            return len(answer.get("Uploads", []))
        return 0


@pytest.fixture
def copying(project: Callable[..., Any]) -> Callable[[str, str], Copying]:
    """Return what makes a version at one place, for another to get."""

    def make(source: str, dest: str) -> Copying:
        return Copying(project(home=source, disk=True), source, dest)

    return make


def survive(
    way: tuple[str, str], kind: str, numbers: Iterator[int] | range, copying: Any, forge: Any,
    tally: Any,
) -> int:  # fmt: skip
    """Strike the changes of these numbers, check what is left each time, and return how many."""
    struck = 0
    family = f"copies, {kind}"
    for number in numbers:
        case = copying(*way)
        here = case.here
        record, log = here.root / "calls.jsonl", here.root / "forge.log"
        question = {
            "root": str(here.root),
            "verb": f"copy {way[0]} {way[1]}",
            "model": here.model,
            "faults": [Fault(call=number, **CRASHES[kind]).to_json()],
            "record": str(record),
            "log": str(log),
        }
        (code,) = forge({"cases": [question]})
        calls = recorded(record)
        if len(calls) < number:
            assert code == 0, log.read_text()
            break
        struck += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        if "killed" in kind:
            assert code == KILLED, log.read_text()
        try:
            with here.open("eve") as ws:
                case.check_nothing_wrong(ws)
                if number % 3 == 0:
                    # Two who do not know of each other.
                    again = {**question, "faults": []}
                    records = [str(here.root / f"again{i}.jsonl") for i in range(2)]
                    logs = [here.root / f"again{i}.log" for i in range(2)]
                    both = [
                        {**again, "record": record, "log": str(log)}
                        for record, log in zip(records, logs, strict=True)
                    ]
                    codes = forge({"cases": both})
                    assert codes == [0, 0], "".join(log.read_text() for log in logs)
                else:
                    case.copy(ws)
                case.check_whole(ws)
        except BaseException as error:
            hit = calls[number - 1]
            error.add_note(f"{kind} change {number}: {hit.verb} {hit.subject}")
            error.add_note(log.read_text())
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CHANGES
    return struck


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("way", "kind", "number"),
    [
        (("aws", "gcp"), "killed after", 3),
        (("gcp", "aws"), "lost answer", 4),
    ],
)
def test_sample(
    way: tuple[str, str], kind: str, number: int, copying: Any, forge: Any, tally: Any
) -> None:
    """A copy survives a fault at a change that it makes."""
    assert survive(way, kind, range(number, number + 1), copying, forge, tally) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", CRASHES)
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_every_change(
    way: tuple[str, str], kind: str, copying: Any, forge: Any, tally: Any
) -> None:
    """A copy in any direction survives each fault at every change that it makes."""
    assert survive(way, kind, range(1, MAX_CHANGES + 1), copying, forge, tally) >= 3


ALL = 1_000_000
"""Times that nobody outlasts."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One case.

    Attributes:
        way: From where, to where.
        cloud: Whose trouble it is.
        fault: What goes wrong, as the emulator is told.
        ends: Name of the error that the copy ends with; empty where it goes well all the same.
    """

    way: tuple[str, str]
    cloud: str
    fault: dict[str, Any] = field(default_factory=dict)
    ends: str = ""

    def __str__(self) -> str:
        shown = [str(v) for k, v in self.fault.items() if k != "service"]
        return f"{'-'.join(self.way)}-{'-'.join(shown)}"


SERVICE = {"aws": "s3", "gcp": "storage"}
READS = {"aws": "GetObject", "gcp": "objects.get"}
LISTS = {"aws": "ListObjectsV2", "gcp": "objects.list"}
WRITES = {
    "aws": ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
    "gcp": (
        "objects.insert", "multipart.begin", "multipart.part", "multipart.complete",
        "objects.rewrite",
    ),
}  # fmt: skip


def reading() -> Iterator[Trouble]:
    """Yield trouble with what is read, from wherever it goes."""
    for source, dest in WAYS:
        if source == "disk":
            continue
        here: dict[str, Any] = {"service": SERVICE[source], "operation": READS[source]}
        for fault in (
            {"kind": "throttle", "count": 3},
            {"kind": "error", "status": 500},
            {"kind": "error", "status": 503},
            {"kind": "error", "status": 0},
            *({"kind": "truncated", "after": after} for after in range(4)),
        ):
            yield Trouble(way=(source, dest), cloud=source, fault={**here, **fault})
        for after in range(4):
            garbled = {**here, "kind": "garbled", "after": after}
            yield Trouble(way=(source, dest), cloud=source, fault=garbled, ends="IntegrityError")
        for kind in ("denied", "expired"):
            for after in (0, 4):
                refused = {**here, "kind": kind, "after": after, "count": ALL}
                yield Trouble(
                    way=(source, dest), cloud=source, fault=refused, ends="PermissionDenied"
                )
        out = {**here, "kind": "error", "status": 503, "after": 3, "count": ALL}
        yield Trouble(way=(source, dest), cloud=source, fault=out, ends="Unavailable")


def writing() -> Iterator[Trouble]:
    """Yield trouble with what is written, and with the look for what is there."""
    for source, dest in WAYS:
        if dest == "disk":
            continue
        for operation in (*WRITES[dest], LISTS[dest]):
            here: dict[str, Any] = {"service": SERVICE[dest], "operation": operation}
            for fault in (
                {"kind": "throttle", "count": 2},
                {"kind": "error", "status": 500},
                {"kind": "error", "status": 0},
                {"kind": "lost", "status": 503},
                {"kind": "lost", "status": 0},
            ):
                yield Trouble(way=(source, dest), cloud=dest, fault={**here, **fault})
            for kind in ("denied", "expired"):
                refused = {**here, "kind": kind, "count": ALL}
                yield Trouble(
                    way=(source, dest), cloud=dest, fault=refused, ends="PermissionDenied"
                )
        if dest == "aws":
            for operation, times in (("PutObject", 2), ("UploadPart", 3)):
                for after in range(times):
                    garbled = {"operation": operation, "kind": "garbled", "after": after}
                    yield Trouble(
                        way=(source, dest),
                        cloud=dest,
                        fault={"service": SERVICE[dest], **garbled},
                        ends="IntegrityError",
                    )


TROUBLES = [*reading(), *writing()]
SAMPLE = ("aws-gcp-GetObject-truncated-1", "gcp-aws-UploadPart-garbled-1")


def meet(trouble: Trouble, copying: Any, tally: Any) -> None:
    """Copy while something goes wrong, and again when all is well."""
    family = "copies, trouble of a cloud"
    tally.tried[family] = tally.tried.get(family, 0) + 1
    case = copying(*trouble.way)
    cloud = getattr(case.here, trouble.cloud)
    ended, error = "", None
    with case.here.open() as ws:
        case.version(ws)
        number = cloud.arm(**trouble.fault)
        try:
            case.copy(ws)
        except CloudregError as raised:
            ended, error = type(raised).__name__, raised
        finally:
            struck = cloud.struck(number)
            cloud.control("DELETE")
    assert struck >= 1
    assert ended == trouble.ends, repr(error)
    with case.here.open("eve") as ws:
        case.check_nothing_wrong(ws)
        case.copy(ws)
        case.check_whole(ws)
    tally.survived[family] = tally.survived.get(family, 0) + 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trouble", [t for t in TROUBLES if str(t) in SAMPLE], ids=str)
def test_trouble_sample(trouble: Trouble, copying: Any, tally: Any) -> None:
    """A sample of the trouble is survived, or told by its name."""
    meet(trouble, copying, tally)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_every_trouble(trouble: Trouble, copying: Any, tally: Any) -> None:
    """Trouble is survived or told by its name; nothing is lost, and the next copy goes through."""
    meet(trouble, copying, tally)


BROKEN: dict[str, Callable[[Path], object]] = {
    "shorter": lambda blob: blob.write_bytes(blob.read_bytes()[:-1]),
    "longer": lambda blob: blob.write_bytes(blob.read_bytes() + b"!"),
    "other bytes": lambda blob: blob.write_bytes(b"!" + blob.read_bytes()[1:]),
    "gone": Path.unlink,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("harm", BROKEN)
@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("dest", ["aws", "gcp"])
def test_broken_disk(dest: str, size: str, harm: str, copying: Any, tally: Any) -> None:
    """What a disk has no more, or otherwise than it was registered, reaches no cloud."""
    family = "copies, a broken disk"
    tally.tried[family] = 1
    case = copying("disk", dest)
    with case.here.open() as ws:
        wanted = {e.path: e for e in case.version(ws).manifest.files}
        entry = wanted["weights.bin" if size == "large" else "config.json"]
        (blob,) = (case.here.root / ".disk").rglob(entry.sha256)
        content = blob.read_bytes()
        blob.chmod(0o600)
        BROKEN[harm](blob)
        with pytest.raises(CloudregError) as raised:
            case.copy(ws)
        assert type(raised.value).__name__ == "IntegrityError"
        assert entry.path in str(raised.value)
        case.check_nothing_wrong(ws)
        blob.write_bytes(content)
        case.copy(ws)
        case.check_whole(ws)
    tally.survived[family] = 1
