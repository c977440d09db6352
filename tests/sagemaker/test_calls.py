"""How many requests a verb sends: one list where a list serves, and one look for each endpoint."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.ledger import Draft, Lease
from cloudreg.ledger.checkpoint import EVERY
from cloudreg.manifest import Lineage
from cloudreg.operations import wait
from cloudreg.plan import spec_json
from cloudreg.testing.base import fresh
from cloudreg.testing.serving import Server
from cloudreg_sagemaker import PLUGIN

MANY = 100
MOST_OF_A_PLAN = 110
AT_ONCE = 8
CONFIG = """
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
prefix = "{model}"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/idle:1"
health_check_timeout_s = 900
endpoint_url = "{url}"

[stages.dev]
[stages.prod]
gates = []
"""
ENDPOINT = """
[endpoints.{model}-{number}]
model = "{model}"
stage = "prod"
gpu = "A10G"
"""


class Counted:
    """A workspace, and what it sends."""

    def __init__(self, root: Path, cloud: Any) -> None:
        self.root, self.cloud = root, cloud
        self.model = fresh("calls")
        (root / "build").mkdir()
        (root / "build" / "weights.txt").write_text("weights 1")

    def configure(self, endpoints: int) -> None:
        text = CONFIG.format(model=self.model, url=self.cloud.server.url)
        text += "".join(ENDPOINT.format(model=self.model, number=n) for n in range(endpoints))
        (self.root / "cloudreg.toml").write_text(text)

    def open(self) -> Workspace:
        return Workspace.load(self.root, actor="ada", timeout_s=60.0)

    @contextmanager
    def counted(
        self, *, listener: Callable[[str, str], None] = lambda _service, _name: None
    ) -> Iterator[tuple[Workspace, Counter[str]]]:
        """Yield a new workspace and, afterwards complete, how often it sent which operation."""
        counts: Counter[str] = Counter()
        lock = threading.Lock()

        def heard(service: str, name: str) -> None:
            with lock:
                counts[f"{service} {name}"] += 1
            listener(service, name)

        begin = len(self.cloud.objects)
        with self.open() as ws:
            ws.targets["aws"].listen(heard)  # type: ignore[attr-defined] # the driver's own
            yield ws, counts
        counts.update(f"s3 {name}" for name, _ in self.cloud.objects[begin:])

    def serve(self) -> None:
        """Make what is configured, side by side, and write it down as an apply does."""
        with self.open() as ws:
            target = ws.targets["aws"]
            version = ws.version(f"{self.model}@prod")
            server = Server(target, lambda *_, **__: version, timeout_s=120.0, interval_s=0.1)
            specs = [e.spec(name, version, gpu="A10G") for name, e in ws.settings.endpoints.items()]

            def make(spec: Any) -> None:
                server.wait(target.endpoints.create(spec, artifacts={version.digest: version}))

            lease = Lease.claim(ws.registry.ledger(self.model), verb="apply", data={})
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(make, specs))
            made = {spec.name: {"target": "aws", "spec": spec_json(spec)} for spec in specs}
            lease.done({"endpoints": made})

    def end(self) -> None:
        """Remove what was made, side by side."""
        with self.open() as ws:
            endpoints = ws.targets["aws"].endpoints
            with ThreadPoolExecutor(8) as pool:
                begun = list(pool.map(endpoints.delete, ws.settings.endpoints))
                list(pool.map(lambda each: wait(each, timeout_s=120.0), begun))


@pytest.fixture(scope="module")
def counted(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    """Yield a model whose first version holds prod, and serves at many endpoints."""
    plugins.register(PLUGIN)
    made = Counted(tmp_path_factory.mktemp("calls"), cloud)
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
            environment.delenv(name)
        made.configure(0)
        with made.open() as ws:
            ws.register(made.model, made.root / "build", lineage=Lineage())
            ws.promote(f"{made.model}:1", to="prod")
        made.configure(MANY)
        made.serve()
        yield made
        made.end()


def test_plan_with_nothing_to_do(counted: Counted) -> None:
    """A first look at a hundred endpoints costs a describe each, and ten requests beside them."""
    with counted.counted() as (ws, sent):
        assert ws.plan().plan.empty

    assert sent["sagemaker DescribeEndpoint"] == MANY
    assert sent.total() <= MOST_OF_A_PLAN, sent


def test_plan_after_many_entries(counted: Counted) -> None:
    """However many entries the ledger has, one request brings the state before the newest."""
    with counted.open() as ws:
        ledger = ws.registry.ledger(counted.model)
        for number in range(EVERY + 2):
            note = Draft(kind="note", root="remark", data={"number": number})
            ledger.append(lambda _, note=note: note, op="remark")
    with counted.counted() as (ws, sent):
        assert ws.plan().plan.empty

    assert sent.total() <= MOST_OF_A_PLAN + 1, sent


def test_apply_with_nothing_to_do(counted: Counted) -> None:
    """It looks before it settles, plans and compares, and never once for each model."""
    with counted.counted() as (ws, sent):
        assert not ws.apply().changed

    assert sent["sagemaker DescribeEndpoint"] == 3 * MANY
    assert sent.total() <= 3 * MOST_OF_A_PLAN, sent


def test_status(counted: Counted) -> None:
    """Status asks as little, and lists the packages beside."""
    with counted.counted() as (ws, sent):
        rows = {row.stage: row for row in ws.status()}

    assert {state.status for state in rows["prod"].endpoints} == {"ready"}
    assert len(rows["prod"].endpoints) == sent["sagemaker DescribeEndpoint"] == MANY
    assert sent["sagemaker ListModelPackages"] == 1
    assert sent.total() <= MOST_OF_A_PLAN + 3, sent


def test_drift(counted: Counted) -> None:
    """Drift looks at all endpoints together, as a plan does."""
    with counted.counted() as (ws, sent):
        assert ws.drift(counted.model) == []

    assert sent["sagemaker DescribeEndpoint"] == MANY
    assert sent["application-autoscaling DescribeScalableTargets"] == 1
    assert sent.total() <= MOST_OF_A_PLAN + 3, sent


def test_endpoints_are_looked_at_side_by_side(counted: Counted) -> None:
    """Plan does not wait for one describe before it sends the next."""
    together = threading.Barrier(AT_ONCE)

    def meet(_service: str, name: str) -> None:
        if name == "DescribeEndpoint" and next(turn) < AT_ONCE:
            together.wait(timeout=60)

    turn = count()
    with counted.counted(listener=meet) as (ws, sent):
        assert ws.plan().plan.empty
    assert sent["sagemaker DescribeEndpoint"] == MANY
    assert not together.broken
