"""The GPU that a plan shows and prices is the one that Vertex AI is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1

from cloudreg import Workspace, plugins
from cloudreg.errors import GateFailed, Unsupported
from cloudreg.testing.base import fresh
from cloudreg_vertex import PLUGIN

CONFIG = """
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
[[stages.prod.gates]]
kind = "budget"
usd_per_month = 1500

[endpoints.{name}]
model = "{name}"
stage = "prod"
max_replicas = 2
gpu_utilization = 60
"""


@pytest.fixture
def configured(
    cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Workspace]]:
    """Return a workspace whose one endpoint is configured like that, with a version in dev."""
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    plugins.register(PLUGIN)
    names = {"name": fresh("gpus"), "prefix": fresh("home")}
    opened: list[Workspace] = []

    def make(more: str) -> Workspace:
        text = CONFIG.format(url=cloud.google.url, **names) + more
        (tmp_path / "cloudreg.toml").write_text(text)
        ws = Workspace.load(tmp_path / "cloudreg.toml")
        opened.append(ws)
        if not ws.models():
            folder = tmp_path / "model"
            folder.mkdir()
            (folder / "weights.txt").write_text("weights")
            ws.register(names["name"], folder)
        return ws

    yield make
    opened[-1].down()
    for ws in opened:
        ws.close()


def test_downgrade(cloud: Any, configured: Callable[[str], Workspace]) -> None:
    """An A10G is refused with what an L4 lacks, and becomes one where that is allowed."""
    refusing = configured('gpu = "A10G"\n')
    (model,) = [summary.model for summary in refusing.models()]
    with pytest.raises(Unsupported, match="the nearest, L4, is a downgrade"):
        refusing.promote(f"{model}:1", to="prod")
    assert "prod" not in refusing.fold(model).stages

    ws = configured('gpu = "A10G"\nallow_downgrade = true\n')
    plan = ws.promote(f"{model}:1", to="prod", dry_run=True).plan
    assert any("a downgrade that is allowed" in warning for warning in plan.warnings)
    (bill,) = plan.bills
    assert bill.after.machines == ("g2-standard-8",)
    assert bill.after.high_usd_per_hour == pytest.approx(2 * 0.98)

    ws.promote(f"{model}:1", to="prod")
    client = aiplatform_v1.EndpointServiceClient(
        credentials=AnonymousCredentials(),
        transport="rest",
        client_options={"api_endpoint": cloud.google.url},
    )
    deployed = [
        one.dedicated_resources.machine_spec
        for endpoint in client.list_endpoints(parent=cloud.google.parent)
        if endpoint.display_name == model
        for one in endpoint.deployed_models
    ]
    assert [(spec.machine_type, spec.accelerator_type.name) for spec in deployed] == [
        ("g2-standard-8", "NVIDIA_L4")
    ]
    assert ws.plan(model=model).plan.empty
    assert ws.drift(model) == []


def test_budget(configured: Callable[[str], Workspace]) -> None:
    """Two T4s are within the budget, an H100 is not, and an A100 has no price that is known."""
    ws = configured('gpu = "H100"\n')
    (model,) = [summary.model for summary in ws.models()]
    with pytest.raises(GateFailed) as dear:
        ws.promote(f"{model}:1", to="prod")
    assert [r.gate for r in dear.value.results if not r.passed] == ["budget"]
    with pytest.raises(GateFailed, match="budget"):
        configured('gpu = "A100"\n').promote(f"{model}:1", to="prod")

    plan = configured('gpu = "T4"\n').promote(f"{model}:1", to="prod", dry_run=True).plan
    assert plan.allowed
    (bill,) = plan.bills
    # The machine and the GPU that is joined with it are priced apart.
    assert bill.after.low_usd_per_hour == pytest.approx(0.438 + 0.402)
