"""Fleets whose containers are real processes of a small script."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg_emulator.faults import Faults
from cloudreg_emulator.fleet import Fleet, Group, Launch

CONTAINER = str(Path(__file__).with_name("container.py"))


class Objects(dict[tuple[str, str], bytes]):
    """An object store of five lines: what a fleet reads model data from."""

    def read(self, bucket: str, key: str, kind: str) -> Iterator[tuple[str, bytes]]:
        for (held, name), content in list(self.items()):
            if held == bucket and kind == "prefix" and name.startswith(key):
                yield name[len(key) :], content
            elif held == bucket and kind == "object" and name == key:
                yield name.rpartition("/")[2], content


@pytest.fixture
def objects() -> Objects:
    """A bucket ``models`` with one model that doubles."""
    return Objects({("models", "double/model.json"): json.dumps({"scale": 2}).encode()})


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def written() -> list[tuple[str, str]]:
    """What containers wrote: log stream and line."""
    return []


@pytest.fixture
def make_fleet(
    objects: Objects, faults: Faults, written: list[tuple[str, str]]
) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets; each is closed at the end, and must leave no process."""
    fleets: list[Fleet] = []

    def make(**options: Any) -> Fleet:
        usual = {
            "images": {"*/test:*": [sys.executable, "-S", "-E", CONTAINER]},
            "scale": 0.01,
            "faults": faults,
            "log": lambda launch, name, line: written.append((f"{launch.variant}/{name}", line)),
        }
        fleets.append(Fleet(objects.read, **{**usual, **options}))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()
        assert fleet.pids == []


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet()


@pytest.fixture
def launch() -> Callable[..., Launch]:
    """Makes a launch of the doubling model; keywords replace its fields."""

    def make(**changes: Any) -> Launch:
        fields: dict[str, Any] = {
            "endpoint": "churn",
            "variant": "main",
            "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/test:1",
            "environment": {"MARK": "ours"},
            "bucket": "models",
            "key": "double/",
            "kind": "prefix",
            "compressed": False,
            "instance_type": "ml.g5.xlarge",
            "startup_timeout_s": 600.0,
            "download_timeout_s": 600.0,
        }
        return Launch(**{**fields, **changes})

    return make


@pytest.fixture
def started(fleet: Fleet, launch: Callable[..., Launch]) -> Callable[..., Group]:
    """Starts a group and waits until it is ready."""

    def start(count: int = 1, *, on: Fleet | None = None, **changes: Any) -> Group:
        group = (on or fleet).start(launch(**changes), count)
        assert group.wait(timeout_s=20), group.failure
        return group

    return start


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for a condition."""

    def wait(condition: Callable[[], object], *, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not become true"
            time.sleep(0.01)

    return wait
