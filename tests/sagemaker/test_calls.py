"""How many requests a verb sends: one list where a list serves, and one look for each endpoint."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.manifest import Lineage
from cloudreg.testing.base import fresh
from cloudreg_sagemaker import PLUGIN

FEW, MORE = 2, 5
CONFIG = """
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
        counts.update(f"s3 {name} (obstore)" for name, _ in self.cloud.objects[begin:])


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


def serve(counted: Counted, endpoints: int) -> None:
    counted.configure(endpoints)
    with counted.open() as ws:
        ws.apply()


def planned(counted: Counted) -> Counter[str]:
    """Count what a plan with nothing to do sends, in a new workspace."""
    with counted.counted() as (ws, sent):
        assert ws.plan().plan.empty
    return sent


def test_plan_grows_by_one_describe(counted: Counted) -> None:
    """Each further endpoint costs a plan with nothing to do one describe, and nothing else."""
    serve(counted, FEW)
    few = planned(counted)
    serve(counted, MORE)
    more = planned(counted)

    # The second apply wrote two entries into the ledger, an intent and its end.
    assert more - few == Counter(
        {"sagemaker DescribeEndpoint": MORE - FEW, "s3 GetObject (obstore)": 2}
    )
    assert more["sagemaker DescribeEndpoint"] == MORE


def test_endpoints_are_looked_at_side_by_side(counted: Counted) -> None:
    """Plan does not wait for one describe before it sends the next."""
    serve(counted, FEW)
    together = threading.Barrier(FEW)

    def meet(_service: str, name: str) -> None:
        if name == "DescribeEndpoint":
            together.wait(timeout=60)

    with counted.counted(listener=meet) as (ws, sent):
        assert ws.plan().plan.empty
    assert sent["sagemaker DescribeEndpoint"] == FEW
    assert not together.broken
