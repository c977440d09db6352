"""One command promotes the exact bytes from SageMaker to Vertex AI; offline, on emulated clouds.

$ python examples/multi_cloud_promotion/run.py

Against the real clouds the same `cloudreg.toml` is used, with other names and no emulator.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import cloudreg
from cloudreg.importers.torch import save

HERE = Path(__file__).resolve().parent
INSIDE = "MULTI_CLOUD_INSIDE"
"""Set where the emulated clouds are there already."""

TOLERANCE = 1e-6
"""Largest difference allowed between the two clouds' answers: float32 sums of four products."""

SHAPE = {"in_features": 4, "out_features": 2}
SAMPLES = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]]


def main() -> int:
    """Run everything inside both clouds, in a folder that is gone afterwards."""
    if INSIDE not in os.environ:
        words = [sys.executable, "-m", "cloudreg", "emulate", "--scale", "0.02"]
        inside = {**os.environ, INSIDE: "1"}
        return subprocess.call([*words, "--", sys.executable, *sys.argv], env=inside)
    with tempfile.TemporaryDirectory(prefix="multi-cloud-") as folder:
        shutil.copy(HERE / "cloudreg.toml", folder)
        os.chdir(folder)
        make_buckets()
        with cloudreg.Workspace.load() as ws:
            try:
                promote(ws)
            finally:
                ws.down()
    return 0


def make_buckets() -> None:
    """Make what somebody else provisions in real life."""
    import boto3
    from google.cloud import storage

    boto3.client("s3").create_bucket(Bucket="our-models")
    storage.Client(project="emulated-project").create_bucket("their-models", location="us-central1")


def promote(ws: cloudreg.Workspace) -> None:
    """Register a model, try it on SageMaker, and bring the same bytes to Vertex AI.

    Raises:
        SystemExit: The clouds do not answer alike, or one of them shows something else.
    """
    torch.manual_seed(7)
    module = torch.nn.Linear(**SHAPE)
    save(
        module,
        "build/model",
        sample=torch.rand(8, 4),
        factory="torch.nn:Linear",
        arguments=SHAPE,
    )
    version = ws.register("moons", "build/model", metrics={"val_accuracy": 0.97})
    ws.promote(version, to="staging")
    print(f"{version.ref} is in staging on SageMaker: {version.digest[:19]}")

    plan = ws.promote("moons@staging", to="prod", dry_run=True)
    print(f"\n{plan}\n")
    live = plan.apply()

    here = ws.endpoint("moons-staging").predict(SAMPLES)
    there = live.endpoint("gcp").predict(SAMPLES)
    worst = max(
        abs(a - b)
        for row, other in zip(here, there, strict=True)
        for a, b in zip(row, other, strict=True)
    )
    print(f"SageMaker answers {here}")
    print(f"Vertex AI answers {there}")
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    if worst > TOLERANCE:
        raise SystemExit("the clouds do not answer alike")

    for row in ws.status("moons"):
        shown = ", ".join(f"{one.target} {list(one.numbers)}" for one in row.shown)
        print(f"{row.stage}: moons:{row.number}; the registries show {shown}")
    differences = ws.drift("moons")
    if differences:
        raise SystemExit(f"the clouds differ from the ledger: {differences}")
    print("no drift: both clouds show what the ledger says")


if __name__ == "__main__":
    sys.exit(main())
