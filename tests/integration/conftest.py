"""A ``cloudreg.toml`` on each provider, whose containers are stand-ins that start at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.manifest import Lineage
from cloudreg.testing.base import fresh

TESTS = Path(__file__).parents[1]
CONTAINERS = {
    "local": TESTS / "unit" / "local" / "standin.py",
    "sagemaker": TESTS / "sagemaker" / "standin.py",
    "vertex": TESTS / "vertex" / "standin.py",
}
BUCKET = "our-models"
SCALE = 0.02
"""Real seconds of an emulated second."""

REST = """
[stages.dev]
[stages.prod]
gates = []

[endpoints.{endpoint}]
model = "{model}"
stage = "prod"
"""

TARGETS = {
    "local": """
home = "here"
[targets.here]
provider = "local"
path = ".here"
server_command = {command}
""",
    "sagemaker": """
home = "aws"
[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/stand-in:1"
endpoint_url = "{url}"
""",
    "vertex": """
home = "gcp"
[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "our-models"
image = "us-central1-docker.pkg.dev/emulated-project/serve/stand-in:1"
endpoint_url = "{url}"
storage_url = "{url}"
""",
}


class Place:
    """One target, configured and running.

    Attributes:
        provider: Its provider's name.
        root: The folder with the file.
        model: A model's name.
        endpoint: Its endpoint's name.
        environment: What a process of its own needs to reach the target.
    """

    def __init__(
        self, provider: str, root: Path, *, url: str, environment: Mapping[str, str]
    ) -> None:
        self.provider, self.root = provider, root
        self.model, self.endpoint = fresh("kit"), fresh("kit")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDREG_")}
        self.environment = {**kept, **environment}
        self._url = url
        self._open: list[Workspace] = []

    def configure(self, text: str) -> None:
        """Write the file; *text* follows the endpoint's section."""
        command = json.dumps([sys.executable, "-I", "-S", str(CONTAINERS["local"])])
        head = TARGETS[self.provider].format(url=self._url, command=command)
        rest = REST.format(model=self.model, endpoint=self.endpoint)
        rollout = text.replace("ENDPOINT", self.endpoint)
        (self.root / "cloudreg.toml").write_text(head + rest + rollout)

    def open(self, actor: str = "ada") -> Workspace:
        """Return another workspace of the file."""
        made = Workspace.load(self.root, actor=actor, wait_s=90.0, timeout_s=150.0)
        self._open.append(made)
        return made

    def register(self, ws: Workspace, count: int) -> None:
        """Register so many versions."""
        for number in range(1, count + 1):
            folder = self.root / "build" / str(number)
            folder.mkdir(parents=True)
            (folder / "weights.txt").write_text(f"weights of {number}")
            ws.register(self.model, folder, lineage=Lineage())

    def asked(self, ws: Workspace, **how: Any) -> int:
        """Return the number of the version that answers."""
        return int(json.loads(ws.endpoint(self.endpoint).invoke(b"{}", **how))["number"])

    def close(self) -> None:
        """Undo what is open, remove the endpoint, and let go."""
        if self._open:
            ws = self._open[0]
            if ws.fold(self.model).open is not None:
                ws.abort(self.model)
            ws.down()
        for ws in self._open:
            ws.close()


Places = Callable[[str], Place]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Yield what makes a place on a provider; its emulated cloud ends with the test."""
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    with ExitStack() as stack:

        def make(provider: str) -> Place:
            url, environment = _cloud(provider, stack)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            made = Place(provider, tmp_path, url=url, environment=environment)
            stack.callback(made.close)
            return made

        yield make


def _cloud(provider: str, stack: ExitStack) -> tuple[str, Mapping[str, str]]:
    images = {"*": [sys.executable, "-I", "-S", str(CONTAINERS[provider])]}
    if provider == "sagemaker":
        import boto3

        from cloudreg_emulator.aws import AwsServer
        from cloudreg_emulator.aws.environment import applied

        server = stack.enter_context(AwsServer(images=images, scale=SCALE))
        environment = server.environment()
        stack.enter_context(applied(environment))
        client = boto3.client("s3", endpoint_url=server.url, region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        return server.url, environment
    if provider == "vertex":
        from cloudreg_emulator.google.emulator import Google

        google = stack.enter_context(Google(images=images, scale=SCALE, polls=1))
        project = google.place.project
        google.storage.create_bucket(BUCKET, {"location": "US-CENTRAL1"}, project=project)
        return google.url, {}
    return "", {}
