"""A project on an emulated Google Cloud that is a process of its own: it outlives who is killed."""

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

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1

from cloudreg import Workspace, artifacts, plugins
from cloudreg.errors import Unavailable
from cloudreg.manifest import Lineage
from cloudreg.operations import poll_until
from cloudreg.testing.base import fresh
from cloudreg.testing.faults import Call, Fault, recorded
from cloudreg_vertex import PLUGIN

STANDIN = Path(__file__).parents[2] / "vertex" / "standin.py"
BUCKET = "our-models"
PARENT = "projects/emulated-project/locations/us-central1"
CONFIGURATION = """
home = "gcp"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "our-models"
prefix = "{model}"
image = "us-central1-docker.pkg.dev/emulated-project/serve/stand-in:1"
deployment_timeout_s = 600
endpoint_url = "{url}"
storage_url = "{url}"
grpc_address = "http://{grpc}"
{way}

[stages.dev]
[stages.prod]
gates = []
"""
ENDPOINT = """
[endpoints.{model}]
model = "{model}"
stage = "prod"
gpu = "L4"
min_replicas = {least}
max_replicas = 2
gpu_utilization = 60
env = {{ KIT_MARK = "its own" }}
rollout = {{ strategy = "canary", steps = [50, 100] }}
"""

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "REST": ("Google Cloud", {}),
    "gRPC": ("Google Cloud over gRPC", {"transport": "grpc"}),
    "to zero": ("Google Cloud, replicas that rest", {"preview": True}),
}
"""How targets speak, what their figures are called, and what their section says more."""


class Cloud:
    """The emulator's process, seen from outside, with clients that know nothing of ours."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.url = facts["clouds"][0]["url"]
        self.grpc = facts["clouds"][0]["grpc"]
        options: dict[str, Any] = {
            "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
            "transport": "rest",
            "client_options": {"api_endpoint": self.url},
        }
        self.models = aiplatform_v1.ModelServiceClient(**options)
        self.endpoints = aiplatform_v1.EndpointServiceClient(**options)

    def control(self, method: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the emulator about its faults."""
        return dict(self.send(method, "_emulator/faults", document))

    def arm(self, **fault: Any) -> int:
        """Let something go wrong, and return its number."""
        return int(self.control("POST", fault)["number"])

    def struck(self, number: int) -> int:
        """Return how often a fault struck."""
        armed = self.control("GET")["faults"]
        return int(next(one["struck"] for one in armed if one["number"] == number))

    def send(self, method: str, path: str, document: dict[str, Any] | None = None) -> Any:
        """Send a request, and return the answer's document."""
        body = json.dumps(document).encode() if document is not None else None
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.url}/{path}", data=body, method=method, headers=headers)
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def versions(self, model: str) -> list[Any]:
        """Return what the registry shows of a model."""
        return list(self.models.list_model_versions(name=f"{PARENT}/models/{model}"))

    def endpoint(self, name: str) -> Any:
        """Return an endpoint as the service describes it."""
        return self.endpoints.get_endpoint(name=f"{PARENT}/endpoints/{name}")

    def under_way(self, model: str) -> list[str]:
        """Return the operations that are not done, each asked once more: they go on by polls."""
        answer = self.endpoints.list_operations(request={"name": PARENT, "filter": "done=false"})
        running = [one.name for one in answer.operations if f"/{model}" in one.name]
        asked = [self.endpoints.get_operation({"name": name}) for name in running]
        return [one.name for one in asked if not one.done]

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

    def remains(self, model: str) -> dict[str, list[Any]]:
        """Return what of a model's endpoint runs, or could: what other cases left is not counted.

        That is endpoints, models that were made for endpoints, operations and model servers.
        """
        endpoints = self.endpoints.list_endpoints(parent=PARENT)
        own = self.models.list_models(
            request={"parent": PARENT, "filter": f"labels.cloudreg-endpoint={model}"}
        )
        return {
            "endpoints": [one.display_name for one in endpoints if one.display_name == model],
            "models": [one.name.rpartition("/")[2] for one in own],
            "operations": self.under_way(model),
            "servers": self.servers(model),
        }

    def begun(self, name: str, kind: str) -> int:
        """Return how many operations of a kind, such as ``DeployModel``, an endpoint has seen."""
        answer = self.endpoints.list_operations(request={"name": f"{PARENT}/endpoints/{name}"})
        told = [one.metadata.type_url for one in answer.operations]
        return sum(url.endswith(f".{kind}OperationMetadata") for url in told)

    def point(self, model: str, number: int, stage: str) -> None:
        """Move a stage's alias, as somebody does in a console."""
        (version,) = [v for v in self.versions(model) if f"v{number}" in v.version_aliases]
        self.models.merge_version_aliases(
            name=f"{PARENT}/models/{model}@{version.version_id}", version_aliases=[stage]
        )


class Project:
    """One model with its bucket's prefix and its endpoint; no other case shares them."""

    def __init__(
        self, root: Path, cloud: Cloud, forge: Callable[[dict[str, Any]], Any], *, way: str
    ) -> None:
        self.root, self.cloud = root, cloud
        self.model = fresh("crash")
        self.family, self._section = WAYS[way]
        self.log = root / "forge.log"
        self._forge = forge
        self._record = root / "calls.jsonl"
        self.configure(endpoint=False)

    def configure(self, *, endpoint: bool) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        text = CONFIGURATION + (ENDPOINT if endpoint else "")
        section = "\n".join(f"{key} = {json.dumps(said)}" for key, said in self._section.items())
        text = text.format(
            model=self.model,
            url=self.cloud.url,
            grpc=self.cloud.grpc,
            way=section,
            least=0 if "preview" in self._section else 1,
        )
        (self.root / "cloudreg.toml").write_text(text)

    def open(self, actor: str = "bea") -> Workspace:
        return Workspace.load(self.root, actor=actor, wait_s=60.0, timeout_s=60.0)

    def build(self, number: int) -> Path:
        """Return the folder with the files of a version."""
        folder = self.root / str(number)
        folder.mkdir(exist_ok=True)
        (folder / "weights.txt").write_text(f"weights {number}")
        return folder

    def register(self, number: int) -> None:
        with self.open("ada") as ws:
            ws.register(self.model, self.build(number), lineage=Lineage())

    def promote(self, number: int) -> None:
        with self.open("ada") as ws:
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
        # What was begun ends: what a killed process left may come late, and must not matter.
        assert self.quiet()
        verification = ws.verify(self.model)
        assert verification.ok, verification.problems
        fold = ws.fold(self.model)
        assert fold.open is None
        assert {s: h.number for s, h in fold.stages.items()} == {"dev": dev, "prod": prod}
        assert ws.drift(self.model) == []
        artifacts.sweep(ws.registry.store, now=time.time() + 2 * artifacts.ABANDONED_S)
        assert list(ws.registry.store.list("uploads/")) == []
        numbers = [version.number for version in ws.versions(self.model)]
        assert sorted(numbers) == list(range(1, dev + 1))
        for number in numbers:
            back = self.root / f"back{number}"
            ws.download(f"{self.model}:{number}", back)
            built = self.root / str(number) / "weights.txt"
            if built.exists():
                assert (back / "weights.txt").read_bytes() == built.read_bytes()
        shown = sorted(v.labels["cloudreg-number"] for v in self.cloud.versions(self.model))
        assert shown == sorted(map(str, numbers)), "one version of each digest, and no other"
        if serves is not None:
            assert self.served(ws) == serves
            (deployed,) = self.cloud.endpoint(self.model).deployed_models
            assert deployed.display_name.startswith(f"{self.model}-{serves}-")
        self.check_empty(ws)

    def served(self, ws: Workspace) -> int:
        """Return which version answers; the first request wakes a replica that rests."""

        def asked() -> bytes | None:
            try:
                return ws.endpoint(self.model).invoke(b"{}")
            except Unavailable:
                if "preview" in self._section:
                    return None
                raise

        said = poll_until(asked, bool, timeout_s=30.0, max_interval_s=0.2)
        return int(json.loads(said or b"{}")["number"])

    def quiet(self) -> bool:
        """Return whether what was begun ended."""
        left = poll_until(
            lambda: self.cloud.under_way(self.model), lambda names: not names, timeout_s=20.0
        )
        return left == []

    def check_empty(self, ws: Workspace) -> None:
        """Once the endpoint is let go, nothing of it runs, or could."""
        # A tidying that failed leaves what the next change finds: nothing may be out of its reach.
        ws.down()
        nothing: dict[str, list[Any]]
        nothing = {"endpoints": [], "models": [], "operations": [], "servers": []}
        # Models are deleted, and processes end, in their own time.
        look = partial(self.cloud.remains, self.model)
        poll_until(look, nothing.__eq__, timeout_s=10.0, max_interval_s=0.2)
        assert look() == nothing

    def clean(self) -> None:
        """Let the endpoint go; what is left then belongs to nobody."""
        self.cloud.control("DELETE")
        with self.open() as ws:
            ws.settle(self.model)
            ws.down()


@pytest.fixture(scope="package")
def cloud() -> Iterator[Cloud]:
    """Yield a Google Cloud in a process of its own that takes a hundredth of the time."""
    command = [sys.executable, "-m", "cloudreg_emulator", "--cloud", "google", "--json", "--quiet"]
    command += ["--scale", "0.01", "--image", f"*={sys.executable} -I -S {STANDIN}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDREG_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            made = Cloud(json.loads(process.stdout.readline()))
            bucket = {"name": BUCKET, "location": "US-CENTRAL1"}
            made.send("POST", "storage/v1/b?project=emulated-project", bucket)
            plugins.register(PLUGIN)
            yield made
        finally:
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
) -> Iterator[Callable[..., Project]]:
    """Return new projects, one after the other; the one before has left nothing."""
    made: list[Project] = []

    def make(way: str = "REST") -> Project:
        if made:
            made[-1].clean()
        made.append(Project(tmp_path / f"p{len(made)}", cloud, forge, way=way))
        return made[-1]

    yield make
    if made:
        made[-1].clean()
