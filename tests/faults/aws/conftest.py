"""A project on an emulated AWS that is a process of its own, so that it outlives who is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest

from cloudreg import Workspace, artifacts, plugins
from cloudreg.manifest import Lineage
from cloudreg.testing.base import fresh
from cloudreg.testing.faults import Call, Fault, recorded
from cloudreg_sagemaker import PLUGIN

STANDIN = Path(__file__).parents[2] / "sagemaker" / "standin.py"
BUCKET = "our-models"
CONFIGURATION = """
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
prefix = "{model}"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
health_check_timeout_s = 900
endpoint_url = "{url}"

[stages.dev]
[stages.prod]
gates = []
"""
ENDPOINT = """
[endpoints.{model}]
model = "{model}"
stage = "prod"
gpu = "A10G"
max_replicas = 2
rollout = {{ strategy = "canary", steps = [50, 100] }}
"""


class Cloud:
    """The emulator's process, seen from outside."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.url = environment["AWS_ENDPOINT_URL"]
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return a client that knows nothing of ours."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service, endpoint_url=self.url, region_name="us-east-1"
            )
        return self._clients[service]

    def control(self, method: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the emulator about its faults."""
        body = json.dumps(document).encode() if document is not None else None
        request = Request(f"{self.url}/_emulator/faults", data=body, method=method)
        with urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    def remains(self) -> dict[str, set[str]]:
        """Return what runs, or could, in the whole account."""
        sagemaker = self.client("sagemaker")
        scaling = self.client("application-autoscaling")
        names = {
            kind: {
                one[f"{kind}Name"]
                for page in sagemaker.get_paginator(verb).paginate()
                for one in page[f"{kind}s"]
            }
            for kind, verb in (
                ("Endpoint", "list_endpoints"),
                ("EndpointConfig", "list_endpoint_configs"),
                ("Model", "list_models"),
            )
        }
        targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")
        return {**names, "Target": {one["ResourceId"] for one in targets["ScalableTargets"]}}


class Project:
    """One model with its bucket's prefix and its endpoint; no other case shares them."""

    def __init__(self, root: Path, cloud: Cloud, forge: Callable[[dict[str, Any]], int]) -> None:
        self.root, self.cloud = root, cloud
        self.model = fresh("crash")
        self.log = root / "forge.log"
        self._forge = forge
        self._record = root / "calls.jsonl"
        for number in (1, 2):
            folder = root / str(number)
            folder.mkdir(parents=True)
            (folder / "weights.txt").write_text(f"weights {number}")
        self.configure(endpoint=False)

    def configure(self, *, endpoint: bool) -> None:
        text = CONFIGURATION + (ENDPOINT if endpoint else "")
        (self.root / "cloudreg.toml").write_text(text.format(model=self.model, url=self.cloud.url))

    def open(self, actor: str = "bea") -> Workspace:
        return Workspace.load(self.root, actor=actor, wait_s=30.0, timeout_s=60.0)

    def register(self, number: int) -> None:
        with self.open("ada") as ws:
            ws.register(self.model, self.root / str(number), lineage=Lineage())

    def promote(self, number: int) -> None:
        with self.open("ada") as ws:
            ws.promote(f"{self.model}:{number}", to="prod")

    def crash(self, verb: str, *faults: Fault) -> int:
        """Do a verb in another process with faults, and return its exit code."""
        self._record.unlink(missing_ok=True)
        return self._forge(
            {
                "root": str(self.root),
                "verb": verb,
                "model": self.model,
                "faults": [fault.to_json() for fault in faults],
                "record": str(self._record),
                "log": str(self.log),
            }
        )

    def calls(self) -> list[Call]:
        return recorded(self._record)

    def check(self, ws: Workspace, *, prod: int, dev: int, serves: int | None) -> None:
        """One truth in the ledger; the cloud equals it, bytes are whole, nothing is left over."""
        verification = ws.verify(self.model)
        assert verification.ok, verification.problems
        fold = ws.fold(self.model)
        assert fold.open is None
        assert {s: h.number for s, h in fold.stages.items()} == {"dev": dev, "prod": prod}
        assert ws.drift(self.model) == []
        artifacts.sweep(ws.registry.store, now=time.time() + 2 * artifacts.ABANDONED_S)
        assert list(ws.registry.store.list("uploads/")) == []
        for number in range(1, dev + 1):
            back = self.root / f"back{number}"
            ws.download(f"{self.model}:{number}", back)
            assert (back / "weights.txt").read_text() == f"weights {number}"
        if serves is not None:
            assert json.loads(ws.endpoint(self.model).invoke(b"{}"))["number"] == serves
        # A tidying that failed leaves what the next change finds: nothing may be out of its reach.
        ws.down()
        remains = self.cloud.remains()
        assert remains == {kind: set() for kind in remains}

    def clean(self) -> None:
        """Let the endpoint go; what is left then belongs to nobody."""
        self.cloud.control("DELETE")
        with self.open() as ws:
            ws.settle(self.model)
            ws.down()


# Of this folder alone: the names in its environment would lead other tests astray.
@pytest.fixture(scope="package")
def cloud() -> Iterator[Cloud]:
    """Yield an AWS in a process of its own that takes a hundredth of the time."""
    command = [sys.executable, "-m", "cloudreg_emulator", "--json", "--quiet", "--scale", "0.01"]
    command += ["--image", f"*={sys.executable} -I -S {STANDIN}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        before = dict(os.environ)
        try:
            environment = json.loads(process.stdout.readline())["environment"]
            os.environ.update(environment)
            plugins.register(PLUGIN)
            made = Cloud(environment)
            made.client("s3").create_bucket(Bucket=BUCKET)
            yield made
        finally:
            os.environ.clear()
            os.environ.update(before)
            process.terminate()


@pytest.fixture(scope="package")
def forge(cloud: Cloud) -> Iterator[Callable[[dict[str, Any]], int]]:
    """Run a case in a forked process."""
    script = Path(__file__).with_name("forge.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def run(case: dict[str, Any]) -> int:
            asked.write(json.dumps(case) + "\n")
            asked.flush()
            return int(answers.readline())

        yield run
        asked.close()


@pytest.fixture
def project(
    cloud: Cloud, tmp_path: Path, forge: Callable[..., int]
) -> Iterator[Callable[[], Project]]:
    """Return new projects, one after the other; the one before has left nothing."""
    made: list[Project] = []

    def make() -> Project:
        if made:
            made[-1].clean()
        made.append(Project(tmp_path / f"p{len(made)}", cloud, forge))
        return made[-1]

    yield make
    if made:
        made[-1].clean()
