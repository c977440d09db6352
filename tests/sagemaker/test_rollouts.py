"""Rollouts on SageMaker: judged by CloudWatch, made by SageMaker itself, with a shadow beside."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.errors import RolloutAborted, RolloutPaused, Unsupported
from cloudreg.manifest import Lineage
from cloudreg.operations import poll_until
from cloudreg.testing.base import fresh
from cloudreg.types import Driver, Rollout, RolloutStrategy
from cloudreg_sagemaker import PLUGIN
from cloudreg_sagemaker.guards import PREFIX, deployment_for
from cloudreg_sagemaker.settings import DeploymentSettings

HEAD = """
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
prefix = "{prefix}"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/stand-in:1"
endpoint_url = "{url}"

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
source = "cloudwatch"
namespace = "Team/{model}"
metric = "Drift"
statistic = "Maximum"
dimensions = {{ Version = "{{number}}" }}
max = 0.5
"""

CANARY = """
[endpoints.{endpoint}.rollout]
strategy = "canary"
steps = [50, 100]
bake_s = 0.5
min_requests = 0
"""

NATIVE = """
[endpoints.{endpoint}.rollout]
driver = "native"
strategy = "canary"
steps = [20, 100]
bake_s = {bake_s}
min_requests = 0
max_error_rate = 0.5
max_p95_ms = 60000
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

    def open(self, text: str | None = None, *, actor: str = "ada", **said: Any) -> Workspace:
        if text is not None:
            known = {**self.names, "url": self.cloud.server.url, "bake_s": 60, **said}
            (self.root / "cloudreg.toml").write_text((HEAD + text).format(**known))
        self._open.append(Workspace.load(self.root, actor=actor, wait_s=60.0, timeout_s=120.0))
        return self._open[-1]

    def register(self, ws: Workspace, count: int) -> None:
        for number in range(1, count + 1):
            folder = self.root / "build" / str(number)
            folder.mkdir(parents=True)
            (folder / "weights.txt").write_text(f"weights of {number}")
            version = ws.register(self.model, folder, lineage=Lineage())
            ws.promote(version, to="staging")

    def promote(self, ws: Workspace, number: int) -> None:
        ws.promote(f"{self.model}:{number}", to="prod")

    def asked(self, ws: Workspace, **how: Any) -> int:
        return int(json.loads(ws.endpoint(self.endpoint).invoke(b"{}", **how))["number"])

    def drifts(self, number: int, value: float) -> None:
        """Publish a number of a version, as its users do."""
        self.cloud.client("cloudwatch").put_metric_data(
            Namespace=f"Team/{self.model}",
            MetricData=[
                {
                    "MetricName": "Drift",
                    "Dimensions": [{"Name": "Version", "Value": str(number)}],
                    "Value": value,
                }
            ],
        )

    def described(self) -> dict[str, Any]:
        client = self.cloud.client("sagemaker")
        return dict(client.describe_endpoint(EndpointName=self.endpoint))

    def alarms(self) -> list[str]:
        found = self.cloud.client("cloudwatch").describe_alarms(
            AlarmNamePrefix=f"{PREFIX}{self.endpoint}/"
        )
        return sorted(alarm["AlarmName"].removeprefix(PREFIX) for alarm in found["MetricAlarms"])

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


def until(ask: Callable[[], Any]) -> Any:
    found = poll_until(ask, bool, timeout_s=60.0, interval_s=0.02, max_interval_s=0.2)
    assert found
    return found


def test_judged_by_cloudwatch(house: House) -> None:
    """A metric of the user's decides: none pauses, a good one passes, a bad one undoes."""
    ws = house.open(CANARY + DRIFT)
    house.register(ws, 3)
    house.promote(ws, 1)
    with pytest.raises(RolloutPaused, match=r"no data of drift \(cloudwatch\)"):
        house.promote(ws, 2)
    house.drifts(2, 0.25)
    house.drifts(2, 0.5)
    ws.resume(house.model)
    assert house.asked(ws) == 2
    house.drifts(3, 0.75)
    with pytest.raises(RolloutAborted, match=r"measured drift 0\.75, wanted at most 0\.5"):
        house.promote(ws, 3)

    assert house.asked(ws) == 2
    assert ws.drift(house.model) == []


def test_made_by_sagemaker(house: House) -> None:
    """SageMaker takes the steps, with alarms for the limits; nothing of them is left."""
    ws = house.open(NATIVE + DRIFT)
    house.register(ws, 2)
    house.promote(ws, 1)
    house.promote(ws, 2)

    used = house.described()["LastDeploymentConfig"]
    assert used["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 60,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 20},
    }
    alarms = used["AutoRollbackConfiguration"]["Alarms"]
    assert sorted(a["AlarmName"].removeprefix(f"{PREFIX}{house.endpoint}/") for a in alarms) == [
        "drift/max",
        "errors",
        "p95",
    ]
    assert house.alarms() == []
    assert house.asked(ws) == 2
    assert ws.drift(house.model) == []


def test_linear_update() -> None:
    """Equal steps are a linear update, within the time and the waits of the target's section."""
    rollout = Rollout(
        strategy=RolloutStrategy.LINEAR, steps=(25, 50, 75, 100), bake_s=30.0, driver=Driver.NATIVE
    )
    settings = DeploymentSettings(termination_wait_s=60, max_s=3600)
    assert deployment_for(rollout, ("ours",), settings) == {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "LINEAR",
                "WaitIntervalInSeconds": 30,
                "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
            },
            "TerminationWaitInSeconds": 60,
            "MaximumExecutionTimeoutInSeconds": 3600,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "ours"}]},
    }


def test_undone_by_sagemaker(house: House) -> None:
    """What an alarm undoes is an aborted rollout, with SageMaker's reason, and the ledger's."""
    ws = house.open(NATIVE + DRIFT, bake_s=600)
    house.register(ws, 2)
    house.promote(ws, 1)
    over = threading.Event()

    def publish() -> None:
        while not over.wait(0.2):
            house.drifts(2, 9.0)

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        try:
            with pytest.raises(RolloutAborted, match=r"undone by the target.*went into ALARM"):
                house.promote(ws, 2)
        finally:
            over.set()
        publishing.result(30)

    assert house.asked(ws) == 1
    assert house.alarms() == []
    assert ws.fold(house.model).stages["prod"].number == 1
    assert ws.drift(house.model) == []


@pytest.mark.slow
def test_told_to_pause(house: House) -> None:
    """A rollout that SageMaker makes cannot be paused, and says so; it can be undone."""
    ws = house.open(NATIVE, bake_s=300)
    house.register(ws, 2)
    house.promote(ws, 1)
    other = house.open(actor="bob")
    with ThreadPoolExecutor(1) as pool:
        rolling = pool.submit(house.promote, ws, 2)
        until(lambda: house.described()["EndpointStatus"] == "Updating")
        with pytest.raises(Unsupported, match="cannot be told to pause") as refused:
            other.pause(house.model)
        assert refused.value.hint == f"cloudreg rollout abort {house.model}"
        other.abort(house.model)
        with pytest.raises(RolloutAborted, match="somebody asked for it"):
            rolling.result(90)

    assert house.asked(ws) == 1
    assert house.alarms() == []
    assert ws.drift(house.model) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NATIVE.replace("[20, 100]", "[20, 60, 100]"), "a native canary is one step"),
        (NATIVE.replace("min_requests = 0", ""), "cannot pause"),
    ],
)
def test_what_sagemaker_cannot_do(house: House, text: str, words: str) -> None:
    """What SageMaker would do otherwise is refused when it is planned."""
    ws = house.open(text)
    house.register(ws, 1)
    with pytest.raises(Unsupported, match=words):
        house.promote(ws, 1)


GROWS = """gpu = "A10G"
max_replicas = 3
gpu_utilization = 60
"""


@contextmanager
def watched(house: House, ws: Workspace) -> Iterator[list[dict[str, int]]]:
    """Yield what each variant's number of instances was at each step that was told."""
    steps: list[dict[str, int]] = []
    deployer = ws._rooms.deployer
    silent = deployer._progress

    class Watching:
        def task(self, *args: Any, **named: Any) -> Any:
            return silent.task(*args, **named)

        def say(self, text: str) -> None:
            if "of the traffic" in text:
                steps.append(counts(house))

    deployer._progress = Watching()
    yield steps
    deployer._progress = silent


def counts(house: House) -> dict[str, int]:
    variants = house.described()["ProductionVariants"]
    return {v["VariantName"]: v["DesiredInstanceCount"] for v in variants}


@pytest.mark.parametrize("rollout", [CANARY, NATIVE])
def test_autoscaled_count_survives(house: House, rollout: str) -> None:
    """What load brought is there at every step, whoever takes the steps."""
    ws = house.open(GROWS + rollout)
    house.register(ws, 2)
    house.promote(ws, 1)
    house.cloud.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName=house.endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "primary", "DesiredInstanceCount": 3}],
    )
    until(lambda: house.described()["EndpointStatus"] == "InService")
    with watched(house, ws) as steps:
        house.promote(ws, 2)

    if rollout == CANARY:
        assert steps == [{"primary": 3, "canary": 2}, {"primary": 3, "canary": 3}]
    assert counts(house) == {"primary": 3}
    assert house.asked(ws) == 2
    assert ws.drift(house.model) == []


def test_shadow(house: House) -> None:
    """SageMaker copies a part of the requests; its answers are dropped, and counted."""
    text = '[endpoints.{endpoint}.shadow]\nstage = "staging"\npercent = 50\n'
    ws = house.open(text + CANARY)
    house.register(ws, 2)
    house.promote(ws, 1)
    (shadow,) = house.described()["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["CurrentWeight"]) == ("shadow", 50.0)
    assert [house.asked(ws) for _ in range(20)] == [1] * 20
    until(lambda: ws.endpoint(house.endpoint).metrics(window_s=600.0)["shadow"].requests == 10)
    assert ws.endpoint(house.endpoint).mirror is None
    assert {each.variant: each.number for each in ws.online(house.model)} == {
        "primary": 1,
        "shadow": 2,
    }
    assert ws.drift(house.model) == []
    # The version that was the shadow becomes the one that answers, by steps without a shadow.
    house.promote(ws, 2)
    assert house.asked(ws) == 2
    assert ws.drift(house.model) == []
    ws.down()
    left = house.cloud.client("sagemaker").list_models(NameContains=house.model)["Models"]
    assert left == []


@pytest.mark.slow
def test_keys(house: House) -> None:
    """The same key meets the same variant; when it is gone, the request goes to who is there."""
    ws = house.open(CANARY.replace("min_requests = 0", "max_error_rate = 0.5"))
    house.register(ws, 2)
    house.promote(ws, 1)
    with pytest.raises(RolloutPaused):
        house.promote(ws, 2)
    keys = [f"user-{number}" for number in range(24)]
    first = {key: house.asked(ws, key=key) for key in keys}
    assert {key: house.asked(house.open(actor="bob"), key=key) for key in keys} == first
    assert set(Counter(first.values())) == {1, 2}
    house.open(actor="bob").abort(house.model)
    assert {house.asked(ws, key=key) for key in keys} == {1}
