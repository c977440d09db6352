"""Rollouts on Vertex AI: judged by Cloud Monitoring, with the endpoint's etag at every change."""

from __future__ import annotations

import datetime
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.protobuf import field_mask_pb2

from cloudreg import Workspace, plugins
from cloudreg.errors import RolloutAborted, RolloutPaused, Unsupported
from cloudreg.manifest import Lineage
from cloudreg.operations import poll_until
from cloudreg.testing.base import fresh
from cloudreg.testing.traffic import SteadyTraffic
from cloudreg_vertex import PLUGIN

HEAD = """
home = "gcp"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "our-models"
prefix = "{prefix}"
image = "us-central1-docker.pkg.dev/emulated-project/serve/stand-in:1"
endpoint_url = "{url}"
storage_url = "{url}"

[stages.dev]
[stages.staging]
gates = []
[stages.prod]
gates = []

[endpoints.{endpoint}]
model = "{model}"
stage = "prod"
"""

DRIFT = """
[[endpoints.{endpoint}.rollout.metrics]]
name = "drift"
source = "cloud_monitoring"
metric = "custom.googleapis.com/{model}/drift"
filter = 'metric.labels.version="{{number}}"'
aligner = "ALIGN_MAX"
max = 0.5
"""

CANARY = """
[endpoints.{endpoint}.rollout]
strategy = "canary"
steps = [50, 100]
bake_s = 0.5
min_requests = 0
"""


class House:
    """A ``cloudreg.toml`` and its workspaces."""

    def __init__(self, cloud: Any, root: Path) -> None:
        self.cloud, self.root = cloud, root
        self.names = {"model": fresh("kit"), "endpoint": fresh("kit"), "prefix": fresh("home")}
        self._open: list[Workspace] = []

    @property
    def endpoint(self) -> str:
        return self.names["endpoint"]

    @property
    def model(self) -> str:
        return self.names["model"]

    def open(self, text: str | None = None, *, actor: str = "ada", **how: Any) -> Workspace:
        if text is not None:
            known = {**self.names, "url": self.cloud.google.url}
            (self.root / "cloudreg.toml").write_text((HEAD + text).format(**known))
        made = Workspace.load(self.root, actor=actor, wait_s=60.0, timeout_s=120.0, **how)
        self._open.append(made)
        return made

    def register(self, ws: Workspace, count: int) -> None:
        for number in range(1, count + 1):
            folder = self.root / "build" / str(number)
            folder.mkdir(parents=True)
            (folder / "weights.txt").write_text(f"weights of {number}")
            version = ws.register(self.model, folder, lineage=Lineage())
            ws.promote(version, to="staging")

    def promote(self, ws: Workspace, number: int) -> None:
        ws.promote(f"{self.model}:{number}", to="prod")

    def asked(self, ws: Workspace, body: bytes = b"{}") -> int:
        return int(json.loads(ws.endpoint(self.endpoint).invoke(body))["number"])

    def drifts(self, number: int, value: float) -> None:
        """Write a number of a version, as its users do: ``timeSeries.create`` over plain HTTP."""
        series = {
            "metric": {
                "type": f"custom.googleapis.com/{self.model}/drift",
                "labels": {"version": str(number)},
            },
            "resource": {"type": "global", "labels": {"project_id": "emulated-project"}},
            "points": [
                {
                    "interval": {"endTime": datetime.datetime.now(datetime.UTC).isoformat()},
                    "value": {"doubleValue": value},
                }
            ],
        }
        request = urllib.request.Request(
            f"{self.cloud.google.url}/v3/projects/emulated-project/timeSeries",
            data=json.dumps({"timeSeries": [series]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer) == {}

    @contextmanager
    def drifting(self, number: int, value: float) -> Iterator[None]:
        """Write it again and again, as those who watch a model do."""
        over = threading.Event()

        def write() -> None:
            while not over.wait(0.1):
                self.drifts(number, value)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                yield
            finally:
                over.set()
            writing.result(30)

    @property
    def client(self) -> Any:
        return aiplatform_v1.EndpointServiceClient(
            credentials=AnonymousCredentials(),
            transport="rest",
            client_options={"api_endpoint": self.cloud.google.url},
        )

    @property
    def name(self) -> str:
        return f"{self.cloud.google.parent}/endpoints/{self.endpoint}"

    def close(self) -> None:
        for ws in self._open[:1]:
            intent = ws.fold(self.model).open
            if intent is not None:
                ws.abort(self.model)
            ws.down()
        for ws in self._open:
            ws.close()


@pytest.fixture
def house(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    plugins.register(PLUGIN)
    made = House(cloud, tmp_path)
    yield made
    made.close()


def test_judged_by_cloud_monitoring(house: House) -> None:
    """A time series of the user's decides: none pauses, a good one passes, a bad one undoes."""
    ws = house.open(CANARY + DRIFT)
    house.register(ws, 3)
    house.promote(ws, 1)
    with pytest.raises(RolloutPaused, match=r"no data of drift \(cloud_monitoring\)"):
        house.promote(ws, 2)
    with house.drifting(2, 0.5):
        ws.resume(house.model)
    assert house.asked(ws) == 2
    with (
        house.drifting(3, 0.75),
        pytest.raises(RolloutAborted, match=r"measured drift 0\.75, wanted at most 0\.5"),
    ):
        house.promote(ws, 3)

    assert house.asked(ws) == 2
    assert ws.drift(house.model) == []


def test_edit_between_look_and_change(house: House) -> None:
    """Each change of the traffic carries the etag: an edit in between is seen, and stays."""
    ws = house.open(CANARY)
    house.register(ws, 2)
    house.promote(ws, 1)
    client, name = house.client, house.name
    edits: list[str] = []
    sent: list[str] = []

    def edit(service: str, method: str) -> None:
        if "update_endpoint" not in method.lower().replace("updateendpoint", "update_endpoint"):
            return
        sent.append(method)
        if len(edits) < 3:
            # Called before the request leaves: what was read for it is stale from now on.
            edits.append(f"edited {len(edits)} times")
            client.update_endpoint(
                endpoint=aiplatform_v1.Endpoint(name=name, description=edits[-1]),
                update_mask=field_mask_pb2.FieldMask(paths=["description"]),
            )

    ws.targets["gcp"].services.listen(edit)  # type: ignore[attr-defined]
    house.promote(ws, 2)

    assert len(edits) == 3
    # Canary, all, primary: three changes, and each of the edits made one of them look again.
    assert len(sent) == 6
    assert client.get_endpoint(name=name).description == edits[-1]
    assert house.asked(ws) == 2
    assert ws.drift(house.model) == []


class Watching:
    """Looks at the endpoint whenever a step is told."""

    def __init__(self, house: House, steps: list[dict[str, int]]) -> None:
        from cloudreg.operations import SILENT

        self.task = SILENT.task
        self._house, self._steps = house, steps

    def say(self, text: str) -> None:
        if "of the traffic" in text:
            self._steps.append(counts(self._house.open(actor="bob"), self._house))


def counts(ws: Workspace, house: House) -> dict[str, int]:
    seen = ws.endpoint(house.endpoint).describe().variants
    return {variant.name: variant.desired_replicas for variant in seen}


GROWS = """max_replicas = 2
requests_per_minute = 1
"""


def test_autoscaled_count_survives(house: House) -> None:
    """What load brought is there at every step: the newcomer begins with its share of it."""
    ws = house.open(GROWS + CANARY.replace("0.5\n", "0\n"))
    house.register(ws, 2)
    house.promote(ws, 1)
    steps: list[dict[str, int]] = []
    with SteadyTraffic(lambda: house.asked(ws), threads=2) as traffic:
        assert poll_until(
            lambda: counts(ws, house),
            lambda found: found == {"primary": 2},
            timeout_s=60.0,
        )
        house.promote(house.open(actor="eve", progress=Watching(house, steps)), 2)
        assert counts(ws, house) == {"primary": 2}

    assert traffic.failures == []
    assert [step["primary"] for step in steps] == [2, 2]
    # Half of two is one, which the load itself may have made two by now; all of two are two.
    assert steps[0]["canary"] >= 1
    assert steps[1]["canary"] == 2
    assert ws.drift(house.model) == []


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("[endpoints.{endpoint}.shadow]\nversion = 1\n", "copies no requests", "leave shadow out"),
        (
            '[endpoints.{endpoint}.rollout]\nstrategy = "canary"\ndriver = "native"\n',
            "watches nothing",
            'driver = "cloudreg"',
        ),
        (
            (CANARY + DRIFT).replace("cloud_monitoring", "server"),
            "no source 'server'",
            "source = 'cloud_monitoring'",
        ),
    ],
)
def test_what_vertex_cannot_do(house: House, text: str, words: str, hint: str) -> None:
    """What Vertex AI has no way to is refused when it is planned, with what there is instead."""
    ws = house.open(text)
    house.register(ws, 1)
    with pytest.raises(Unsupported, match=words) as refused:
        house.promote(ws, 1)
    assert hint in str(refused.value.hint)


def test_keys(house: House) -> None:
    """Vertex AI asks no single variant: a request with a key is refused with the reason."""
    ws = house.open("")
    house.register(ws, 1)
    house.promote(ws, 1)
    with pytest.raises(Unsupported, match="routes by weights alone"):
        ws.endpoint(house.endpoint).invoke(b"{}", key="user")
