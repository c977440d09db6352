"""A promotion that asks all targets before traffic moves."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.errors import CloudregError, ConfigError, GateFailed
from cloudreg.manifest import Lineage
from cloudreg.operations import wait
from cloudreg.provider import ProviderPlugin
from cloudreg.types import ModelVersion
from cloudreg_local import PLUGIN

SERVER = Path(__file__).with_name("server.py")

CONFIG = """
home = "near"

[targets.near]
provider = "local"
path = ".near"
server_command = {near}

[targets.far]
provider = "{provider}"
path = ".far"
server_command = {far}

[stages.dev]

[stages.prod]
targets = ["near", "far"]

[[stages.prod.gates]]
kind = "parity"
path = "golden.jsonl"
batch_size = 2
{more}

[endpoints.churn-near]
model = "churn"
stage = "prod"

[endpoints.churn-far]
model = "churn"
stage = "prod"
target = "far"
"""

SHY = "it routes by weights alone"


class Shy:
    """A local target that asks no single variant."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        shown = {"variant_requests": False, "reasons": {"variant_requests": SHY}}
        self.capabilities = replace(provider.capabilities, **shown)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)


class House:
    """A folder with two targets, a golden data set, and what was started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rows = [{"instance": n, "expected": {"score": 2.0 * n}} for n in range(5)]
        (root / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def configure(self, more: str = "", *, provider: str = "local", without: str = "") -> None:
        near, far = (
            json.dumps([sys.executable, "-I", str(SERVER), str(skew)]) for skew in (0, 0.5)
        )
        text = CONFIG.format(near=near, far=far, more=more, provider=provider)
        (self.root / "cloudreg.toml").write_text(text.replace(without, "") if without else text)

    def open(self) -> Workspace:
        return Workspace.load(self.root, actor="ada", timeout_s=60.0)

    def register(self, ws: Workspace, text: str) -> ModelVersion:
        folder = self.root / f"build-{text.replace(' ', '-')}"
        folder.mkdir()
        (folder / "weights.txt").write_text(text)
        return ws.register("churn", folder, lineage=Lineage())

    def running(self, ws: Workspace) -> dict[str, list[tuple[str, int, int]]]:
        """Return endpoint to the name, number and weight of its variants, on all targets."""
        return {
            seen.spec.name: [(v.name, v.number, v.weight) for v in seen.spec.variants]
            for target in ("near", "far")
            for seen in ws.targets[target].endpoints.endpoints()
        }


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """The folder; whatever runs at the end is removed."""
    made = House(tmp_path)
    shy = replace_open(PLUGIN)
    plugins.register(shy)
    made.configure()
    yield made
    made.configure()
    ws = made.open()
    for target in ("near", "far"):
        backend = ws.targets[target].endpoints
        for seen in list(backend.endpoints()):
            wait(backend.delete(seen.spec.name), timeout_s=20.0)
    plugins._registered.pop("shy")


def replace_open(plugin: ProviderPlugin) -> ProviderPlugin:
    return ProviderPlugin(
        name="shy",
        summary="a local target that asks no single variant",
        settings=plugin.settings,
        open=lambda settings, context: Shy(plugin.open(settings, context)),  # type: ignore[arg-type,return-value]
        capabilities=plugin.capabilities,
    )


AS_BEFORE = {"churn-near": [("primary", 1, 100)], "churn-far": [("primary", 1, 100)]}
MOVED = {"churn-near": [("primary", 2, 100)], "churn-far": [("primary", 2, 100)]}


def served_first(house: House) -> Workspace:
    """Return a workspace whose endpoints serve a version that answers alike everywhere."""
    ws = house.open()
    ws.promote(house.register(ws, "plain"), to="prod")
    assert house.running(ws) == AS_BEFORE
    return ws


def test_alike(house: House) -> None:
    """Targets that answer alike let the version in, and the ledger keeps what they said."""
    ws = served_first(house)
    plan = ws.promote(house.register(ws, "plain too"), to="prod", dry_run=True)
    assert "far and near are asked before traffic moves" in str(plan)

    ws.promote("churn:2", to="prod")

    assert house.running(ws) == MOVED
    done = next(e for e in ws.history("churn") if e.kind == "done")
    (gate,) = [g for g in done.data["gates"] if g["gate"] == "parity"]
    assert gate["evidence"]["largest"] == {"far": 0.0, "near": 0.0}
    assert gate["evidence"]["samples"] == 5
    assert sum("parity" in e.data for e in ws.history("churn") if e.kind == "note") == 2
    assert ws.drift("churn") == []


def test_a_difference_moves_nothing(house: House) -> None:
    """Targets that differ keep the version out: no request reaches it, and all is as it was."""
    ws = served_first(house)
    house.register(ws, "skewed")
    numbers: set[int] = set()
    failures: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            for name in AS_BEFORE:
                try:
                    answer = ws.endpoint(name).invoke(b'{"instances": [1]}')
                    numbers.add(json.loads(answer)["number"])
                except CloudregError as error:
                    failures.append(str(error))

    traffic = threading.Thread(target=ask)
    traffic.start()
    try:
        with pytest.raises(GateFailed, match="do not answer alike") as caught:
            ws.promote("churn:2", to="prod")
    finally:
        over.set()
        traffic.join()

    (found,) = caught.value.results
    assert "far and near differ on 5 of 5 samples, by 0.5 at most" in found.reason
    assert found.evidence["largest"] == {"near": 0.5, "far": 0.5}
    assert (numbers, failures) == ({1}, [])
    assert house.running(ws) == AS_BEFORE
    fold = ws.fold("churn")
    assert (fold.stages["prod"].number, fold.open) == (1, None)
    assert next(e.kind for e in ws.history("churn")) == "abort"
    assert ws.drift("churn") == []


def test_within_a_tolerance(house: House) -> None:
    """A difference that the gate allows is told, and lets the version in."""
    house.configure("tolerances = { score = { atol = 0.6 } }")
    ws = served_first(house)

    ws.promote(house.register(ws, "skewed"), to="prod")

    assert house.running(ws) == MOVED
    done = next(e for e in ws.history("churn") if e.kind == "done")
    (gate,) = [g for g in done.data["gates"] if g["gate"] == "parity"]
    assert "largest difference on far 0.5, near 0.5" in gate["reason"]


def test_the_first_version(house: House) -> None:
    """A version that nothing serves yet is asked on its new endpoints, which go if it differs."""
    ws = house.open()
    house.register(ws, "skewed")

    with pytest.raises(GateFailed, match="do not answer alike"):
        ws.promote("churn:1", to="prod")

    assert house.running(ws) == {}
    assert ws.fold("churn").stages.get("prod") is None


@pytest.mark.parametrize("text", ["plain too", "skewed"])
def test_an_endpoint_beside(house: House, text: str) -> None:
    """A target that asks no single variant is asked beside its endpoint, and nothing stays."""
    house.configure(provider="shy")
    ws = served_first(house)
    preview = ws.promote(house.register(ws, text), to="prod", dry_run=True)
    assert f"endpoint churn-far-parity runs on far while answers are compared: {SHY}" in str(
        preview
    )

    if text == "skewed":
        with pytest.raises(GateFailed, match="do not answer alike"):
            ws.promote("churn:2", to="prod")
        assert house.running(ws) == AS_BEFORE
    else:
        ws.promote("churn:2", to="prod")
        assert house.running(ws) == MOVED

    # Whoever takes over from a dead process finds what it has to remove.
    intent = next(e for e in ws.history("churn") if e.kind == "intent")
    assert intent.data["endpoints"]["churn-far-parity"] == {"target": "far", "before": None}
    assert ws.drift("churn") == []


def test_no_answer(house: House) -> None:
    """A target whose model server fails keeps the version out, with its words."""
    ws = served_first(house)
    house.register(ws, "sick")

    with pytest.raises(GateFailed, match="far could not be asked") as caught:
        ws.promote("churn:2", to="prod")

    assert "the model is sick" in str(caught.value)
    assert house.running(ws) == AS_BEFORE


def test_nobody_to_compare_with(house: House) -> None:
    """A stage that one target serves has nothing to compare: that is told, and nothing touched."""
    house.configure(without='target = "far"\n')
    ws = house.open()
    house.register(ws, "plain")

    with pytest.raises(GateFailed, match="near alone serves churn in prod"):
        ws.promote("churn:1", to="prod")
    assert [e.kind for e in ws.history("churn")] == ["register"]

    (house.root / "golden.jsonl").unlink()
    with pytest.raises(GateFailed, match=r"there is no file golden\.jsonl"):
        ws.promote("churn:1", to="prod")


def test_break_glass(house: House) -> None:
    """Whoever breaks the glass does not wait for a comparison, and a rollback does not either."""
    ws = served_first(house)
    house.register(ws, "skewed")

    ws.promote("churn:2", to="prod", break_glass="the clouds differ, and that is known")
    assert house.running(ws) == MOVED

    ws.rollback("churn", stage="prod")
    assert house.running(ws) == AS_BEFORE
    assert sum("parity" in e.data for e in ws.history("churn") if e.kind == "note") == 1


@pytest.mark.parametrize("commit", ["any", "home-first"])
def test_all_targets_or_none(house: House, commit: str) -> None:
    """A stage that moves without some of its targets cannot compare all of them."""
    text = (house.root / "cloudreg.toml").read_text()
    changed = text.replace("[stages.prod]", f'[stages.prod]\ncommit = "{commit}"')
    (house.root / "cloudreg.toml").write_text(changed)

    with pytest.raises(ConfigError, match=r"stages\.prod\.commit: a parity gate compares all"):
        house.open()
    house.configure()
