"""The main job on SageMaker: register, promote, deploy, canary, drift, roll back; real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

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
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudreg-real:1"
health_check_timeout_s = 3600
endpoint_url = "{url}"

[stages.dev]
[stages.prod]
gates = []

[endpoints.{endpoint}]
model = "{model}"
stage = "prod"
gpu = "A10G"
max_replicas = 2
rollout = {{ strategy = "canary", steps = [50, 100] }}
"""


def save(folder: Path, factor: float) -> Path:
    """Write a model that multiplies."""
    folder.mkdir()
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 10
    onnx.save(made, str(folder / "model.onnx"))
    return folder


@pytest.fixture
def names() -> dict[str, str]:
    return {"model": fresh("times"), "endpoint": fresh("times"), "prefix": fresh("home")}


@pytest.fixture
def ws(
    cloud: Any, names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    plugins.register(PLUGIN)
    (tmp_path / "cloudreg.toml").write_text(CONFIG.format(url=cloud.server.url, **names))
    with Workspace.load(tmp_path / "cloudreg.toml") as made:
        yield made
        made.down()


def test_main_job(ws: Workspace, cloud: Any, names: dict[str, str], tmp_path: Path) -> None:
    """A version goes from a folder to production, another follows by canary, and back again."""
    model, endpoint = names["model"], names["endpoint"]
    client = cloud.client("sagemaker")

    def answer() -> list[float]:
        said = ws.endpoint(endpoint).predict({"instances": [[1.0, 2.0]]})
        return [float(value) for value in said["predictions"][0]]

    def consoles() -> dict[int, str]:
        listed = client.list_model_packages(ModelPackageGroupName=model)
        return {
            int(p["ModelPackageDescription"].split(":")[1].split()[0]): p["ModelLifeCycle"]["Stage"]
            for p in listed["ModelPackageSummaryList"]
        }

    first = ws.register(model, save(tmp_path / "one", 2.0))
    assert ws.promote(first, to="dev") is not None
    ws.promote(first, to="prod")
    assert answer() == [2.0, 4.0]
    assert consoles() == {1: "Production"}
    assert ws.plan(model=model).plan.empty

    second = ws.register(model, save(tmp_path / "two", 3.0))
    ws.promote(second, to="dev")
    ws.promote(second, to="prod")
    assert answer() == [3.0, 6.0]
    assert consoles() == {1: "Archived", 2: "Production"}
    assert ws.drift(model) == []

    ws.rollback(model, stage="prod")
    assert answer() == [2.0, 4.0]
    assert consoles() == {1: "Production", 2: "Development"}
    assert ws.plan(model=model).plan.empty

    client.update_model_package(
        ModelPackageArn=_arn(client, model, 2),
        ModelApprovalStatus="Approved",
        ModelLifeCycle={"Stage": "Production", "StageStatus": "Approved"},
    )
    assert [str(d) for d in ws.drift(model)]
    ws.repair(model)
    assert ws.drift(model) == []
    assert consoles() == {1: "Production", 2: "Development"}


def _arn(client: Any, model: str, number: int) -> str:
    listed = client.list_model_packages(ModelPackageGroupName=model)["ModelPackageSummaryList"]
    return next(
        str(p["ModelPackageArn"]) for p in listed if f":{number} " in p["ModelPackageDescription"]
    )
