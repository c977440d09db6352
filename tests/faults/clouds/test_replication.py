"""Copies between two clouds and a disk that are killed half way, in every direction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg import artifacts
from cloudreg.importers.directory import walk
from cloudreg.manifest import Manifest
from cloudreg.plugins import provider_plugin
from cloudreg.provider import ProviderContext
from cloudreg.testing.base import fresh

pytestmark = [pytest.mark.timeout(300)]

MIB = 2**20
SIZE = 64 * MIB
STOP = 48 * MIB
"""Bytes of the source that are read when the process halts."""

WANTED = 32 * MIB
"""Bytes that have to have been sent by then: the others may be on their way."""

PROGRAM = Path(__file__).with_name("replicating.py")
Start = Callable[..., "subprocess.Popen[str]"]
WAYS = [(a, b) for a in ("aws", "gcp", "disk") for b in ("aws", "gcp", "disk") if a != b]


@pytest.fixture
def places(clouds: Any, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Return a place of this test alone in each cloud, and on the disk."""
    aws, gcp = clouds
    prefix, root = fresh("copy"), str(tmp_path)
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
    sagemaker = {
        "region": "us-east-1",
        "bucket": "our-models",
        "prefix": prefix,
        "role": "arn:aws:iam::123456789012:role/model-servers",
        "image": image,
        "endpoint_url": aws.url,
    }
    vertex = {
        "project": "emulated-project",
        "location": "us-central1",
        "bucket": "their-models",
        "prefix": prefix,
        "image": "us-central1-docker.pkg.dev/emulated-project/serve/stand-in:1",
        "endpoint_url": gcp.url,
        "storage_url": gcp.url,
    }
    return {
        "aws": {"provider": "sagemaker", "root": root, "section": sagemaker},
        "gcp": {"provider": "vertex", "root": root, "section": vertex},
        "disk": {"provider": "local", "root": root, "section": {"path": "disk"}},
    }


@pytest.fixture
def start() -> Iterator[Start]:
    """Replicate in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(case: dict[str, Any]) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        started.append(child)
        assert child.stdin is not None
        child.stdin.write(json.dumps(case) + "\n")
        child.stdin.flush()
        return child

    yield run
    for child in started:
        child.kill()
        child.communicate()


def registered(place: dict[str, Any], folder: Path) -> str:
    """Store one large file and a small one at a place, and return the version's digest."""
    folder.mkdir()
    (folder / "weights.bin").write_bytes(os.urandom(SIZE))
    (folder / "config.json").write_text("{}")
    plugin = provider_plugin(place["provider"])
    context = ProviderContext(target=place["provider"], root=Path(place["root"]))
    provider = plugin.open(plugin.settings()(**place["section"]), context)
    try:
        files = artifacts.upload(list(walk(folder)), provider.store).files
        return artifacts.put_manifest(Manifest(files=files), provider.store)
    finally:
        provider.close()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize(("source", "dest"), WAYS)
def test_killed_half_way(
    source: str, dest: str, places: Any, start: Start, tmp_path: Path, tally: Any
) -> None:
    """The second run sends what is missing alone, within a file too, and the bytes are right."""
    tally.tried["copies between clouds, killed"] = 1
    case = {
        "source": places[source],
        "dest": places[dest],
        "digest": registered(places[source], tmp_path / "model"),
        "stop": STOP,
        "wanted": WANTED,
    }
    first = start(case)
    assert said(first) == "half"
    first.kill()
    first.wait()

    second = start({**case, "stop": SIZE * 2})
    sent = int(said(second))
    assert second.wait(timeout=120) == 0
    assert sent < SIZE - WANTED + 16 * MIB, "two parts may have been on their way"

    third = start({**case, "stop": SIZE * 2})
    assert int(said(third)) < MIB, "nothing is sent where all is there"
    assert third.wait(timeout=120) == 0
    tally.survived["copies between clouds, killed"] = 1
