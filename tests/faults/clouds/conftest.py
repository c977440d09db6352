"""Two emulated clouds, each a process of its own, of which one can be stopped and come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from cloudreg import Workspace, plugins
from cloudreg.errors import NotFound
from cloudreg.manifest import Lineage
from cloudreg.operations import SILENT
from cloudreg.testing.base import fresh
from cloudreg_sagemaker import PLUGIN as SAGEMAKER
from cloudreg_vertex import PLUGIN as VERTEX

HERE = Path(__file__).parent
CONFIGURATION = """
home = "{home}"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
prefix = "{model}"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
endpoint_url = "{aws}"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "their-models"
prefix = "{model}"
{transfer}
image = "us-central1-docker.pkg.dev/emulated-project/serve/stand-in:1"
endpoint_url = "{gcp}"
storage_url = "{gcp}"

[stages.dev]
[stages.prod]
targets = {targets}
commit = "{commit}"
{gates}

[endpoints.{model}-aws]
model = "{model}"
stage = "prod"
target = "aws"

[endpoints.{model}-gcp]
model = "{model}"
stage = "prod"
target = "gcp"
"""

DISK = """
[targets.disk]
provider = "local"
path = ".disk"
"""

PARITY = """
[[stages.prod.gates]]
kind = "parity"
path = "golden.jsonl"
"""


class Emulated:
    """One emulated cloud, which can be stopped."""

    def __init__(self, cloud: str, folder: Path, *options: str) -> None:
        self._cloud, self._folder, self._options = cloud, folder, options
        self._process: subprocess.Popen[str] | None = None
        self._port: str | None = None
        self.url = ""
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        """Start it, again at the same address."""
        command = [sys.executable, "-m", "cloudreg_emulator", "--cloud", self._cloud, "--json"]
        command += ["--quiet", "--scale", "0.01", *self._options]
        if self._port is not None:
            command += ["--google-port", self._port]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDREG_")}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        facts = json.loads(self._process.stdout.readline())
        self.url = facts["clouds"][0]["url"]
        self.environment = facts["environment"]
        self._port = self.url.rpartition(":")[2]

    def stop(self) -> None:
        """Stop it; nothing listens at its address any more."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def control(self, method: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the emulator about its faults."""
        body = json.dumps(document).encode() if document is not None else None
        request = Request(f"{self.url}/_emulator/faults", data=body, method=method)
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    def arm(self, **fault: Any) -> int:
        """Let something go wrong, and return its number."""
        return int(self.control("POST", fault)["number"])

    def struck(self, number: int) -> int:
        """Return how often a fault struck."""
        armed = self.control("GET")["faults"]
        return int(next(one["struck"] for one in armed if one["number"] == number))


class Project:
    """One model on both clouds; no other test shares it."""

    def __init__(
        self,
        root: Path,
        aws: Emulated,
        gcp: Emulated,
        *,
        home: str,
        commit: str,
        transfer: str = "",
        disk: bool = False,
        parity: bool = False,
    ) -> None:
        self.root, self.aws, self.gcp = root, aws, gcp
        self.model = fresh("two")
        root.mkdir(exist_ok=True)
        text = CONFIGURATION.format(
            home=home,
            commit=commit,
            model=self.model,
            aws=aws.url,
            gcp=gcp.url,
            transfer=transfer,
            targets=["aws", "gcp", *(["disk"] if disk else [])],
            gates=PARITY if parity else "gates = []",
        )
        if parity:
            rows = [{"instance": n, "expected": {"score": 2.0 * n}} for n in range(3)]
            (root / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (root / "cloudreg.toml").write_text(text + (DISK if disk else ""))

    def open(self, actor: str = "ada", **options: Any) -> Workspace:
        return Workspace.load(self.root, actor=actor, wait_s=60.0, timeout_s=60.0, **options)

    def register(self, ws: Workspace, number: int) -> None:
        folder = self.root / f"build{number}"
        folder.mkdir()
        (folder / "weights.txt").write_text(f"weights {number}")
        ws.register(self.model, folder, lineage=Lineage())

    def promoted(self, number: int) -> None:
        """Bring a new version to both clouds."""
        with self.open() as ws:
            self.register(ws, number)
            ws.promote(f"{self.model}:{number}", to="prod")

    def served(self, ws: Workspace, *clouds: str) -> list[int]:
        """Return what the endpoints of some clouds answer."""
        endpoints = [ws.endpoint(f"{self.model}-{cloud}") for cloud in clouds]
        return [int(json.loads(each.invoke(b"{}"))["number"]) for each in endpoints]

    def check(self, *, number: int) -> None:
        """One truth: both clouds show and serve it, the ledger and its copy are whole."""
        with self.open("eve") as ws:
            assert ws.fold(self.model).stages["prod"].number == number
            assert ws.verify(self.model).ok
            assert ws.fold(self.model).open is None
            assert ws.fold(self.model).behind == {}
            assert ws.drift(self.model) == []
            assert self.served(ws, "aws", "gcp") == [number, number]
            for cloud in ("aws", "gcp"):
                there = [each.spec for each in ws.targets[cloud].endpoints.endpoints()]
                ours = [spec for spec in there if spec.name.startswith(self.model)]
                # What was there for a comparison alone is gone.
                assert [spec.name for spec in ours] == [f"{self.model}-{cloud}"]
                assert len(ours[0].variants) == 1
            other = "gcp" if ws.settings.home == "aws" else "aws"
            # Nothing of it was edited; the next commit adds what happened since the last one.
            for problem in ws.verify_copy(self.model, target=other).problems:
                assert problem.endswith("behind")

    def clean(self) -> None:
        if not self.gcp.runs:
            self.gcp.start()
        with self.open() as ws:
            ws.settle(self.model)
            with suppress(NotFound):  # they may be down already
                ws.down(f"{self.model}-aws", f"{self.model}-gcp")


class Stopping:
    """Progress that stops a cloud once a step begins whose title has some words in it."""

    def __init__(self, cloud: Emulated, *words: str) -> None:
        self._cloud, self._words = cloud, words
        self.struck = False

    def task(self, title: str, *, total: float | None = None, unit: str = "") -> Any:
        if self._cloud.runs and all(word in title for word in self._words):
            self._cloud.stop()
            self.struck = True
        return SILENT.task(title, total=total, unit=unit)

    def say(self, text: str) -> None:
        pass


@pytest.fixture(scope="package")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Emulated, Emulated]]:
    """Yield an AWS that stays, and a Google Cloud that can be stopped and keeps what it has."""
    folder = tmp_path_factory.mktemp("clouds")
    tests = HERE.parents[1]
    python = f"{sys.executable} -I -S {HERE / 'scoring.py'}"
    aws = Emulated("aws", folder, "--image", f"*={python} {tests / 'sagemaker' / 'standin.py'}")
    aws.start()
    gcp = Emulated(
        "google",
        folder,
        *("--image", f"*={python} {tests / 'vertex' / 'standin.py'}"),
        *("--state", str(folder / "google")),
        *("--s3-url", aws.url),
    )
    before = dict(os.environ)
    try:
        gcp.start()
        os.environ.update(aws.environment)
        for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
            del os.environ[name]
        boto3.client("s3", endpoint_url=aws.url, region_name="us-east-1").create_bucket(
            Bucket="our-models"
        )
        client = storage.Client(
            project="emulated-project",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=gcp.url),  # type: ignore[no-untyped-call]
        )
        client.create_bucket("their-models", location="us-central1")
        for plugin in (SAGEMAKER, VERTEX):
            plugins.register(plugin)
        yield aws, gcp
    finally:
        os.environ.clear()
        os.environ.update(before)
        aws.stop()
        gcp.stop()


@pytest.fixture
def project(clouds: tuple[Emulated, Emulated], tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Return what makes a project; the clouds run again afterwards, and nothing of it is left."""
    made: list[Project] = []

    def make(*, home: str, commit: str = "all", **rest: Any) -> Project:
        made.append(Project(tmp_path / f"p{len(made)}", *clouds, home=home, commit=commit, **rest))
        return made[-1]

    yield make
    for each in made:
        each.clean()


@pytest.fixture(scope="package")
def forge(
    clouds: tuple[Emulated, Emulated], forged: Callable[[Path], Any]
) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Run cases in forked processes, which see both clouds."""
    assert clouds
    with forged(Path(__file__).with_name("forge.py")) as run:
        yield run


@pytest.fixture
def stopping() -> type[Stopping]:
    """Stop a cloud in the middle of something."""
    return Stopping
