"""A project on an emulated AWS that is a process of its own, so that it outlives who is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore import loaders

from cloudreg import Workspace, artifacts, plugins
from cloudreg.manifest import Lineage
from cloudreg.operations import poll_until
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
env = {{ KIT_MARK = "{mark}" }}
rollout = {{ strategy = "canary", steps = [50, 100] }}
"""


BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack")
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

    def servers(self, model: str) -> list[int]:
        """Return the processes of the model servers that run."""
        mark = f"CLOUDREG_MODEL={model}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            # It may end between two looks, and others' are not ours to read.
            with suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def packages(self, model: str) -> list[dict[str, Any]]:
        """Return what the registry lists of a model."""
        pages = self.client("sagemaker").get_paginator("list_model_packages")
        return [
            one
            for page in pages.paginate(ModelPackageGroupName=model)
            for one in page["ModelPackageSummaryList"]
        ]

    def package(self, model: str, number: int) -> str:
        """Return the ARN of a version's package."""
        return next(
            str(one["ModelPackageArn"])
            for one in self.packages(model)
            if f":{number} " in one["ModelPackageDescription"]
        )

    def endpoint(self, name: str) -> dict[str, Any]:
        """Return an endpoint as the service describes it."""
        return dict(self.client("sagemaker").describe_endpoint(EndpointName=name))

    def settled(self, name: str) -> dict[str, Any]:
        """Return an endpoint that nothing is being done to: it is described until it is so."""
        look = partial(self.endpoint, name)
        poll_until(look, lambda seen: seen["EndpointStatus"] not in BUSY, timeout_s=60.0)
        return look()

    def at_rest(self, name: str) -> None:
        """Return once nothing is being done to an endpoint, which may be none."""

        def busy() -> bool:
            try:
                return self.endpoint(name)["EndpointStatus"] in (*BUSY, "Deleting")
            except self.client("sagemaker").exceptions.ClientError:
                return False

        poll_until(busy, lambda is_busy: not is_busy, timeout_s=60.0)
        assert not busy()

    def used(self, model: str) -> Remains:
        """Return what the live endpoint of a model needs, as SageMaker tells it; it may be none."""
        sagemaker = self.client("sagemaker")
        if not sagemaker.list_endpoints(NameContains=model)["Endpoints"]:
            return NOTHING
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

    def __init__(self, root: Path, cloud: Cloud, forge: Callable[[dict[str, Any]], Any]) -> None:
        self.root, self.cloud = root, cloud
        self.model = fresh("crash")
        self.log = root / "forge.log"
        self._forge = forge
        self._record = root / "calls.jsonl"
        root.mkdir(parents=True)
        self.configure(endpoint=False)

    def configure(self, *, endpoint: bool, mark: str = "its own") -> None:
        text = CONFIGURATION + (ENDPOINT if endpoint else "")
        text = text.format(model=self.model, url=self.cloud.url, mark=mark)
        (self.root / "cloudreg.toml").write_text(text)

    def open(self, actor: str = "bea", **patience: float) -> Workspace:
        usual = {"wait_s": 60.0, "timeout_s": 60.0}
        return Workspace.load(self.root, actor=actor, **{**usual, **patience})

    def build(self, number: int) -> Path:
        """Return the folder with the files of a version."""
        folder = self.root / str(number)
        folder.mkdir(exist_ok=True)
        (folder / "weights.txt").write_text(f"weights {number}")
        return folder

    def register(self, ws: Workspace, number: int) -> None:
        ws.register(self.model, self.build(number), lineage=Lineage())

    def promote(self, ws: Workspace, number: int) -> None:
        ws.promote(f"{self.model}:{number}", to="prod")

    def case(self, verb: str, *faults: Fault, **more: Any) -> dict[str, Any]:
        """Describe a verb in another process, with its faults."""
        self._record.unlink(missing_ok=True)
        return {
            "root": str(self.root),
            "verb": verb,
            "model": self.model,
            "faults": [fault.to_json() for fault in faults],
            "record": str(self._record),
            "log": str(self.log),
            **more,
        }

    def crash(self, verb: str, *faults: Fault, **more: Any) -> Any:
        """Do a verb in another process with faults, and return how it ended."""
        return self._forge({"cases": [self.case(verb, *faults, **more)]})[0]

    def together(self, *cases: dict[str, Any]) -> list[int]:
        """Do several verbs at once, each in a process of its own, and return the exit codes."""
        return list(self._forge({"cases": list(cases)}))

    def wake(self, pid: int) -> int:
        """Let a stopped process go on to its end, and return its exit code."""
        return int(self._forge({"wake": pid})[0])

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
        numbers = list(range(1, dev + 1))
        assert sorted(version.number for version in ws.versions(self.model)) == numbers
        for number in numbers:
            back = self.root / f"back{number}"
            ws.download(f"{self.model}:{number}", back)
            built = self.root / str(number) / "weights.txt"
            if built.exists():
                assert (back / "weights.txt").read_bytes() == built.read_bytes()
        self.check_registry(numbers, prod=prod)
        if serves is None:
            assert self.cloud.remains(self.model) == NOTHING
        else:
            assert json.loads(ws.endpoint(self.model).invoke(b"{}"))["number"] == serves

    def check_registry(self, numbers: list[int], *, prod: int) -> None:
        """The console shows one package of each version, and one in production, which is approved.

        This asks with boto3 alone: `Workspace.drift` could have an error in common with the rest.
        """
        shown = {
            int(one["ModelPackageDescription"].split(":")[1].split()[0]): (
                one["ModelLifeCycle"]["Stage"] == "Production",
                one["ModelLifeCycle"]["Stage"] == "Production"
                and one["ModelApprovalStatus"] == "Approved",
            )
            for one in self.cloud.packages(self.model)
        }
        assert len(self.cloud.packages(self.model)) == len(numbers)
        assert shown == {number: (number == prod,) * 2 for number in numbers}

    def check_tidy(self) -> None:
        """Nothing is left over beside what the endpoint uses, at the latest after another change.

        A tidying that did not come to its end is done by the next change, whichever it is.
        """
        if self.cloud.remains(self.model) != self.cloud.used(self.model):
            self.configure(endpoint=True, mark="another")
            with self.open() as ws:
                assert ws.apply()
        assert self.cloud.remains(self.model) == self.cloud.used(self.model)

    def check_bounds(self) -> None:
        """One variant has all of the traffic, and grows as far as it is configured to."""
        seen = self.cloud.endpoint(self.model)
        # Weights are shares of their sum: of one variant any weight is all.
        assert [one["CurrentWeight"] > 0 for one in seen["ProductionVariants"]] == [True]
        scaling = self.cloud.client("application-autoscaling")
        (target,) = scaling.describe_scalable_targets(
            ServiceNamespace="sagemaker",
            ResourceIds=[
                f"endpoint/{self.model}/variant/{one['VariantName']}"
                for one in seen["ProductionVariants"]
            ],
        )["ScalableTargets"]
        assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 2)

    def clean(self) -> None:
        """Let the endpoint go, and see that nothing is out of reach."""
        self.cloud.control("DELETE")
        if self.cloud.remains(self.model) != NOTHING:
            with self.open() as ws:
                ws.settle(self.model)
                ws.down()
        assert self.cloud.remains(self.model) == NOTHING
        # Processes end in their own time.
        look = partial(self.cloud.servers, self.model)
        poll_until(look, lambda running: not running, timeout_s=20.0, max_interval_s=0.2)
        assert look() == []


@pytest.fixture(autouse=True, scope="package")
def _descriptions() -> Iterator[None]:
    """Read botocore's descriptions of services once, and not for each workspace anew."""
    plain = loaders.JSONFileLoader.load_file
    # By path alone: each session has a loader of its own.
    known: dict[str, Any] = {}

    def load(self: Any, path: str) -> Any:
        if path not in known:
            known[path] = plain(self, path)
        return known[path]

    with pytest.MonkeyPatch.context() as patch:
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
def forge(cloud: Cloud, forged: Callable[[Path], Any]) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Run cases in forked processes."""
    assert cloud
    with forged(Path(__file__).with_name("forge.py")) as run:
        yield run


@pytest.fixture
def project(
    cloud: Cloud, tmp_path: Path, forge: Callable[..., Any]
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
