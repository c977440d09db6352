"""The GPU that a plan shows and prices is the one that SageMaker is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.testing.base import fresh
from cloudreg_sagemaker import PLUGIN

CONFIG = """
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
prefix = "{prefix}"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1-cu124"
endpoint_url = "{url}"

[stages.dev]
[stages.prod]
gates = []

[endpoints.{name}]
model = "{name}"
stage = "prod"
gpu = {{ min_memory_gib = 24, min_compute_capability = "8.0" }}
gpu_fallback = ["L40S"]
max_replicas = 2
"""


@pytest.fixture
def ws(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    plugins.register(PLUGIN)
    text = CONFIG.format(url=cloud.server.url, name=fresh("gpus"), prefix=fresh("home"))
    (tmp_path / "cloudreg.toml").write_text(text)
    with Workspace.load(tmp_path / "cloudreg.toml") as made:
        yield made
        made.down()


def test_smallest_that_will_do(ws: Workspace, cloud: Any, tmp_path: Path) -> None:
    """An A10G has what is asked for, an L40S stands in; the price is between the two machines."""
    (name,) = ws.settings.endpoints
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.txt").write_text("weights")
    version = ws.register(name, folder)
    plan = ws.promote(version, to="prod", dry_run=True).plan

    (note,) = plan.warnings
    assert f"endpoint {name}: gpu A10G:1: the smallest on aws with at least 24 GB" in note
    (bill,) = plan.bills
    assert bill.after.machines == ("ml.g5.xlarge", "ml.g6e.xlarge")
    assert bill.after.low_usd_per_hour == pytest.approx(1.408)
    assert bill.after.high_usd_per_hour == pytest.approx(2 * 2.61)

    ws.promote(version, to="prod")
    client = cloud.client("sagemaker")
    config = client.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    (variant,) = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    pools = [pool["InstanceType"] for pool in variant["InstancePools"]]
    assert tuple(pools) == bill.after.machines
    assert ws.plan(model=name).plan.empty
    assert ws.drift(name) == []
