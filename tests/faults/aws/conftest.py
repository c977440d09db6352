"""A project on an emulated AWS that is a process of its own, so that it outlives who is killed."""

from __future__ import annotations

import functools
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
from botocore import loaders

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
max_replicas = {most}
rollout = {{ strategy = "canary", steps = [50, 100] }}
"""


Remains = dict[str, set[str]]
NOTHING: Remains = {"Endpoint": set(), "EndpointConfig": set(), "Model": set(), "Target": set()}


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

    def arm(self, **fault: Any) -> int:
        """Let something go wrong, and return its number."""
        return int(self.control("POST", fault)["number"])

    def armed(self, number: int) -> dict[str, Any]:
        """Return what the emulator says of a fault: how often it was seen, and struck."""
        return next(one for one in self.control("GET")["faults"] if one["number"] == number)

    def remains(self, model: str) -> Remains:
        """Return what runs, or could, of one model: what others left is not counted."""
        sagemaker = self.client("sagemaker")
        scaling = self.client("application-autoscaling")
        names = {
            kind: {
                one[f"{kind}Name"]
                for page in sagemaker.get_paginator(verb).paginate(NameContains=model)
                for one in page[f"{kind}s"]
            }
            for kind, verb in (
                ("Endpoint", "list_endpoints"),
                ("EndpointConfig", "list_endpoint_configs"),
                ("Model", "list_models"),
            )
        }
        targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")
        found = {one["ResourceId"] for one in targets["ScalableTargets"]}
        return {**names, "Target": {name for name in found if model in name}}

    def used(self, model: str) -> Remains:
        """Return what the live endpoint of a model needs, as SageMaker tells it."""
        sagemaker = self.client("sagemaker")
        config = sagemaker.describe_endpoint(EndpointName=model)["EndpointConfigName"]
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)
        return {
            "Endpoint": {model},
            "EndpointConfig": {config},
            "Model": {one["ModelName"] for one in variants["ProductionVariants"]},
            "Target": {
                f"endpoint/{model}/variant/{one['VariantName']}"
                for one in variants["ProductionVariants"]
            },
        }


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

    def configure(self, *, endpoint: bool, most: int = 2) -> None:
        text = CONFIGURATION + (ENDPOINT if endpoint else "")
        text = text.format(model=self.model, url=self.cloud.url, most=most)
        (self.root / "cloudreg.toml").write_text(text)

    def open(self, actor: str = "bea") -> Workspace:
        return Workspace.load(self.root, actor=actor, wait_s=30.0, timeout_s=60.0)

    def register(self, ws: Workspace, number: int) -> None:
        ws.register(self.model, self.root / str(number), lineage=Lineage())

    def promote(self, ws: Workspace, number: int) -> None:
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
        if serves is None:
            assert self.cloud.remains(self.model) == NOTHING
        else:
            assert json.loads(ws.endpoint(self.model).invoke(b"{}"))["number"] == serves

    def check_tidy(self) -> None:
        """Nothing is left over beside what the endpoint uses, at the latest after another change.

        A tidying that did not come to its end is done by the next change, whichever it is.
        """
        if self.cloud.remains(self.model) != self.cloud.used(self.model):
            self.configure(endpoint=True, most=3)
            with self.open() as ws:
                assert ws.apply()
        assert self.cloud.remains(self.model) == self.cloud.used(self.model)

    def clean(self) -> None:
        """Let the endpoint go, and see that nothing is out of reach."""
        self.cloud.control("DELETE")
        if self.cloud.remains(self.model) == NOTHING:
            return
        with self.open() as ws:
            ws.settle(self.model)
            ws.down()
        assert self.cloud.remains(self.model) == NOTHING


@pytest.fixture(autouse=True, scope="package")
def _descriptions() -> Iterator[None]:
    """Read botocore's descriptions of services once, and not for each workspace anew."""
    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(loaders.JSONFileLoader.load_file)
        patch.setattr(loaders.JSONFileLoader, "load_file", load)
        yield


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
