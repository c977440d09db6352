"""How many requests a verb sends: what is listed once costs no request for each endpoint."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.ledger import Lease
from cloudreg.manifest import Lineage
from cloudreg.operations import wait
from cloudreg.plan import spec_json
from cloudreg.testing.base import fresh
from cloudreg.testing.serving import Server
from cloudreg_emulator.google.http import HttpServer, Request, Response
from cloudreg_vertex import PLUGIN, labels

FEW, MORE, MANY = 2, 5, 100
MOST = 22
"""Requests, of which Vertex AI gets three: 110 would be allowed."""
CONFIG = """
home = "gcp"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "our-models"
prefix = "{model}"
image = "us-central1-docker.pkg.dev/emulated-project/serve/{image}:1"
endpoint_url = "{url}"
storage_url = "{url}"

[stages.dev]
[stages.prod]
gates = []
"""
ENDPOINT = """
[endpoints.{model}-{number}]
model = "{model}"
stage = "prod"
gpu = "L4"
"""


def called(request: Request) -> str:
    """Name a request by its service, its method and what it is about."""
    if "/locations/" not in request.path:
        return f"storage {request.method}"
    path, _, verb = request.path.partition(":")
    place = path.partition("/locations/")[2].split("/")[1:]
    what = "/".join(place[::2])
    return f"vertex {request.method} {what}{':' + verb if verb else ''}"


class Counted:
    """A workspace, and what it sends, noted where it arrives."""

    def __init__(self, root: Path, cloud: Any) -> None:
        self.root, self.cloud = root, cloud
        self.model = fresh("calls")
        self.sent: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.server = HttpServer(self._handle)
        (root / "build").mkdir()
        (root / "build" / "weights.txt").write_text("weights 1")

    def _handle(self, request: Request) -> Response:
        with self._lock:
            self.sent[called(request)] += 1
        answer: Response = self.cloud.google.handle(request)
        return answer

    def configure(self, endpoints: int, image: str = "stand-in") -> None:
        text = CONFIG.format(model=self.model, url=self.server.url, image=image)
        text += "".join(ENDPOINT.format(model=self.model, number=n) for n in range(endpoints))
        (self.root / "cloudreg.toml").write_text(text)

    def open(self) -> Workspace:
        return Workspace.load(self.root, actor="ada", timeout_s=60.0)

    @contextmanager
    def counted(self) -> Iterator[tuple[Workspace, Counter[str]]]:
        """Yield a new workspace and, complete at the end, what it sent."""
        found: Counter[str] = Counter()
        with self.open() as ws:
            self.sent.clear()
            yield ws, found
            found.update(self.sent)


@pytest.fixture
def counted(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """Yield a model whose first version holds prod, without endpoints."""
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    plugins.register(PLUGIN)
    made = Counted(tmp_path, cloud)
    made.configure(0)
    with made.open() as ws:
        ws.register(made.model, tmp_path / "build", lineage=Lineage())
        ws.promote(f"{made.model}:1", to="prod")
    yield made
    with made.open() as ws:
        ws.down()
    made.server.close()


def serve(counted: Counted, endpoints: int) -> None:
    counted.configure(endpoints)
    with counted.open() as ws:
        ws.apply()


def serve_idly(counted: Counted, endpoints: int) -> None:
    """Make many endpoints that are asked nothing, side by side, and write them down as applied."""
    counted.configure(endpoints, image="idle")
    with counted.open() as ws:
        target = ws.targets["gcp"]
        version = ws.version(f"{counted.model}@prod")
        server = Server(target, lambda *_, **__: version, timeout_s=120.0, interval_s=0.1)
        specs = [e.spec(name, version, gpu="L4") for name, e in ws.settings.endpoints.items()]

        def make(spec: Any) -> None:
            server.wait(target.endpoints.create(spec, artifacts={version.digest: version}))

        lease = Lease.claim(ws.registry.ledger(counted.model), verb="apply", data={})
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, specs))
        made = {spec.name: {"target": "gcp", "spec": spec_json(spec)} for spec in specs}
        lease.done({"endpoints": made})


def end(counted: Counted) -> None:
    """Remove what was made, side by side."""
    with counted.open() as ws, ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(ws.targets["gcp"].endpoints.delete, ws.settings.endpoints))
        list(pool.map(lambda each: wait(each, timeout_s=120.0), begun))


def of_vertex(sent: Counter[str]) -> Counter[str]:
    return Counter({name: count for name, count in sent.items() if name.startswith("vertex")})


def test_plan_does_not_grow_with_endpoints(counted: Counted) -> None:
    """A plan with nothing to do asks Vertex AI the same few questions, however much it serves."""
    plans = []
    for endpoints in (FEW, MORE):
        serve(counted, endpoints)
        with counted.counted() as (ws, sent):
            assert ws.plan().plan.empty
        plans.append(sent)
    few, more = plans

    assert of_vertex(more) == of_vertex(few)
    assert of_vertex(more)["vertex GET endpoints"] == 1
    assert of_vertex(more).total() <= 5
    # The second apply wrote two entries into the ledger, an intent and its end.
    assert more["storage GET"] - few["storage GET"] <= 2


def test_status_does_not_grow_with_endpoints(counted: Counted) -> None:
    """Status of many endpoints is one listing of them, one of operations, one of versions."""
    serve(counted, MORE)
    with counted.counted() as (ws, sent):
        (row,) = [row for row in ws.status(counted.model) if row.stage == "prod"]
    assert {endpoint.status for endpoint in row.endpoints} == {"ready"}

    assert of_vertex(sent) == Counter(
        {"vertex GET endpoints": 1, "vertex GET operations": 1, "vertex GET models:listVersions": 1}
    )


@pytest.mark.slow
def test_a_hundred_endpoints(counted: Counted) -> None:
    """Plan, status and drift of a hundred endpoints cost a dozen requests each."""
    serve_idly(counted, MANY)
    with counted.counted() as (ws, planned):
        assert ws.plan().plan.empty
    with counted.counted() as (ws, shown):
        rows = {row.stage: row for row in ws.status(counted.model)}
    with counted.counted() as (ws, compared):
        assert ws.drift(counted.model) == []
    end(counted)

    assert len(rows["prod"].endpoints) == MANY
    assert {endpoint.status for endpoint in rows["prod"].endpoints} == {"ready"}
    for sent in (planned, shown, compared):
        assert sent["vertex GET endpoints"] == 1, sent
        assert sent.total() <= MOST, sent


def test_prediction_is_one_request(counted: Counted) -> None:
    """A prediction is one request: nothing is looked up before it."""
    serve(counted, 1)
    with counted.counted() as (ws, sent):
        assert ws.endpoint(f"{counted.model}-0").predict({"instances": [1]})

    assert sent == Counter({"vertex POST endpoints:predict": 1})


def test_many_endpoints_are_one_page(counted: Counted) -> None:
    """A hundred endpoints are read with as many requests as none; empty shells are none of ours."""
    with counted.counted() as (ws, none):
        before = len(list(ws.targets["gcp"].endpoints.endpoints()))
    services = counted.cloud.open().services
    names = [f"{counted.model}-{number}" for number in range(MANY - before)]
    for name in names:
        endpoint = {"display_name": name, "labels": {labels.MODEL: counted.model}}
        request = {"parent": services.parent, "endpoint_id": name, "endpoint": endpoint}
        services.call("endpoints", "create_endpoint", request, what=name)
    services.settle(services.parent, what="endpoints")
    try:
        with counted.counted() as (ws, many):
            assert len(list(ws.targets["gcp"].endpoints.endpoints())) == before
        request = {"parent": services.parent}
        listed = list(services.pages("endpoints", "list_endpoints", request, what="endpoints"))
        assert len(listed) == MANY
    finally:
        for name in names:
            path = {"name": f"{services.parent}/endpoints/{name}"}
            services.call("endpoints", "delete_endpoint", path, what=name)
        services.settle(services.parent, what="endpoints")

    assert many == none
