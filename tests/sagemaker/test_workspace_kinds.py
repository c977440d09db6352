"""Streams, queues and data sets on SageMaker, from the door; real model servers with real torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudreg import Workspace, plugins
from cloudreg.cli import main
from cloudreg.errors import Conflict, OperationFailed, Unsupported
from cloudreg.importers.torch import save
from cloudreg.operations import poll_until
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

[endpoints.{endpoint}]
model = "{model}"
stage = "dev"
"""

CODE = """
import time

import torch


class Countdown(torch.nn.Module):
    def forward(self, x):
        if (x == 13).any():
            raise ValueError("thirteen")
        return x.sum(1, keepdim=True)

    def stream(self, x):
        for step in range(int(x[0, 0])):
            yield self(x) - step
            if x[0, 1] == 7:
                time.sleep(0.2)
"""


class Door:
    """A project with a registered version, and an endpoint that can be configured."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.endpoint = fresh("count")
        self.model = fresh("count")
        self._names = {"model": self.model, "endpoint": self.endpoint, "prefix": fresh("home")}
        self._url = url
        self.opened: list[Workspace] = []

    def open(self, more: str = "") -> Workspace:
        path = self.folder / "cloudreg.toml"
        path.write_text(CONFIG.format(url=self._url, **self._names) + more)
        self.opened.append(Workspace.load(path))
        return self.opened[-1]


@pytest.fixture
def door(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "counting", raising=False)
    plugins.register(PLUGIN)
    (tmp_path / "counting.py").write_text(CODE)
    from counting import Countdown  # type: ignore[import-not-found]

    made = Door(tmp_path, cloud.server.url)
    save(
        Countdown(),
        tmp_path / "build",
        sample=torch.rand(4, 2),
        factory="counting:Countdown",
        code=[tmp_path / "counting.py"],
    )
    made.open().register(made.model, tmp_path / "build")
    yield made
    made.opened[-1].down()
    for ws in made.opened:
        ws.close()


@pytest.fixture
def cloudreg(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        return (code, *capsys.readouterr())

    return call


def test_stream(door: Door, cloudreg: Any) -> None:
    """A torch model that makes its answer step by step streams through SageMaker."""
    ws = door.open()
    ws.apply()
    live = ws.endpoint(door.endpoint)
    slow = live.stream([[100_000.0, 7.0]])

    assert next(slow) == [[100_007.0]]  # the rest would take hours
    slow.close()
    assert list(live.stream([[3.0, 1.0]])) == [[[4.0]], [[3.0]], [[2.0]]]
    code, out, err = cloudreg("predict", door.endpoint, '{"instances": [[2, 0]]}', "--stream")
    assert (code, out) == (0, '{"predictions": [[2.0]]}\n{"predictions": [[1.0]]}\n'), err
    with pytest.raises(OperationFailed, match="thirteen"):
        list(live.stream([[13.0, 0.0]]))


def test_queue(door: Door, cloudreg: Any) -> None:
    """An asynchronous endpoint is waited for, or asked again by whoever has the id."""
    ws = door.open('kind = "asynchronous"\n')
    ws.apply()
    live = ws.endpoint(door.endpoint)

    assert live.predict([[1.0, 2.0]]) == [[3.0]]
    assert live.predict({"instances": [[2.0, 2.0]]}) == {"predictions": [[4.0]]}
    code, request_id, err = cloudreg(
        "predict", door.endpoint, '{"instances": [[4, 5]]}', "--no-wait"
    )
    assert code == 0, err
    assert f"cloudreg predict {door.endpoint} --result {request_id.strip()}" in err
    code, out, err = cloudreg("predict", door.endpoint, "--result", request_id.strip())
    assert (code, json.loads(out)) == (0, {"predictions": [[9.0]]}), err
    code, _, err = cloudreg("predict", door.endpoint, "--result", "0" * 24)
    assert code == 1
    assert "was asked no request" in err
    with pytest.raises(OperationFailed, match="thirteen"):
        live.predict([[13.0, 0.0]])
    with pytest.raises(Unsupported, match="asynchronous"):
        live.predict([[1.0, 2.0]], variant="primary")


@pytest.mark.slow
def test_queue_at_rest(door: Door) -> None:
    """An endpoint that rests behind its queue is what was configured, and a question wakes it."""
    ws = door.open('kind = "asynchronous"\nmin_replicas = 0\nscale_in_cooldown_s = 0\n')
    ws.apply()

    def resting() -> bool:
        seen = ws.targets["aws"].endpoints.endpoint(door.endpoint)
        return seen is not None and seen.variants[0].ready_replicas == 0

    assert poll_until(resting, bool, timeout_s=90.0)
    assert ws.plan().plan.empty
    assert ws.drift(door.model) == []
    assert ws.endpoint(door.endpoint).predict([[1.0, 2.0]]) == [[3.0]]


def test_patience_is_planned(door: Door, cloud: Any) -> None:
    """A time to wait that the target has not is refused by the plan, before anything is made."""
    ws = door.open(
        f'kind = "asynchronous"\n[endpoints.{door.endpoint}.asynchronous]\nexpires_s = 59\n'
    )
    with pytest.raises(Unsupported, match="expires_s 59 is not 60 to 21600") as caught:
        ws.plan()

    assert caught.value.hint == "expires_s = 60"
    found = cloud.client("sagemaker").list_endpoint_configs(NameContains=door.endpoint)
    assert found["EndpointConfigs"] == []


def test_kind_of_a_living_endpoint(door: Door) -> None:
    """A living endpoint stays of its kind: the plan refuses, and nothing was touched."""
    ws = door.open()
    ws.apply()
    other = door.open('kind = "serverless"\n')

    with pytest.raises(Conflict, match="is configured as serverless") as caught:
        other.plan()
    assert f"cloudreg down {door.endpoint}" in (caught.value.hint or "")
    assert other.endpoint(door.endpoint).predict([[1.0, 2.0]]) == [[3.0]]
    other.down()
    other.apply()
    assert other.endpoint(door.endpoint).predict([[1.0, 2.0]]) == [[3.0]]
    assert other.plan().plan.empty
    assert other.drift(door.model) == []


def test_batch(door: Door, cloudreg: Any) -> None:
    """A data set is scored by a transform job, record by record, with two instances."""
    records = [[float(n), 1.0] for n in range(300)]
    lines = [*map(json.dumps, records), '"no numbers"']
    (door.folder / "data.jsonl").write_text("\n".join(lines))
    code, out, err = cloudreg(
        *("batch", f"{door.model}@dev", "--input", "data.jsonl", "--output", "out"),
        *("--replicas", "2", "--json"),
    )
    found = [
        json.loads(s) for s in (door.folder / "out/predictions.jsonl").read_text().splitlines()
    ]

    assert code == 1, err  # two records got no prediction, thirteen and the last
    facts = json.loads(out)
    assert (facts["records"], facts["failed"]) == (301, 2)
    assert "thirteen" in facts["first_error"]
    good = [one["prediction"] for one in found if "prediction" in one]
    assert good == [[n + 1.0] for n, _ in records if n != 13.0]
    assert "error" in found[13]
    assert "error" in found[300]
