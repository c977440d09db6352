"""The main job on Vertex AI: register, promote, deploy, canary, drift, roll back; real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from onnx import TensorProto, helper

from cloudreg import Workspace, plugins
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
image = "us-central1-docker.pkg.dev/emulated-project/serve/cloudreg-real:1"
endpoint_url = "{url}"
storage_url = "{url}"

[stages.dev]
[stages.prod]
gates = []

[endpoints.{endpoint}]
model = "{model}"
stage = "prod"
gpu = "L4"
max_replicas = 2
gpu_utilization = 60
env = {{ CLOUDREG_MAX_BATCH = "8" }}
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
    (tmp_path / "cloudreg.toml").write_text(CONFIG.format(url=cloud.google.url, **names))
    with Workspace.load(tmp_path / "cloudreg.toml") as made:
        yield made
        made.down()


def test_main_job(ws: Workspace, cloud: Any, names: dict[str, str], tmp_path: Path) -> None:
    """A version goes from a folder to production, another follows by canary, and back again."""
    model, endpoint = names["model"], names["endpoint"]
    client = aiplatform_v1.ModelServiceClient(
        credentials=AnonymousCredentials(),
        transport="rest",
        client_options={"api_endpoint": cloud.google.url},
    )
    parent = f"{cloud.google.parent}/models/{model}"

    def answer() -> list[float]:
        said = ws.endpoint(endpoint).predict({"instances": [[1.0, 2.0]]})
        return [float(value) for value in said["predictions"][0]]

    def console() -> dict[str, int]:
        """Return what somebody who opens the registry sees: alias to version."""
        listed = client.list_model_versions(name=parent)
        return {alias: int(one.version_id) for one in listed for alias in one.version_aliases}

    first = ws.register(model, save(tmp_path / "one", 2.0), metrics={"auc": 0.9})
    ws.promote(first, to="dev")
    ws.promote(first, to="prod")
    assert answer() == [2.0, 4.0]
    assert console() == {"default": 1, "v1": 1, "dev": 1, "prod": 1}
    (shown,) = client.list_model_evaluations(parent=f"{parent}@1")
    assert dict(shown.metrics) == {"auc": 0.9}
    assert ws.plan(model=model).plan.empty

    second = ws.register(model, save(tmp_path / "two", 3.0))
    ws.promote(second, to="dev")
    ws.promote(second, to="prod")
    assert answer() == [3.0, 6.0]
    assert console() == {"default": 1, "v1": 1, "dev": 2, "prod": 2, "v2": 2}
    assert ws.drift(model) == []

    ws.rollback(model, stage="prod")
    assert answer() == [2.0, 4.0]
    assert console()["prod"] == 1
    assert ws.plan(model=model).plan.empty

    client.merge_version_aliases(name=f"{parent}@2", version_aliases=["prod"])
    assert [str(d) for d in ws.drift(model)]
    ws.repair(model)
    assert ws.drift(model) == []
    assert console()["prod"] == 1
