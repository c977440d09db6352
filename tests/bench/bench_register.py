"""Registering 1 GB on the local provider: whole processes, digest included."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from race import command, peak_mib, peer, race, table

CLOUDREG = str(Path(sys.executable).with_name("cloudreg"))
GB = 1_000_000_000

MLFLOW = """
import sys, mlflow
from mlflow import MlflowClient
mlflow.set_tracking_uri(sys.argv[2])
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[1], "model")
client = MlflowClient()
client.create_registered_model("churn")
client.create_model_version("churn", f"{run.info.artifact_uri}/model", run.info.run_id)
"""


def run() -> None:
    """One file, then two hundred."""
    for label, count in (("one file of 1 GB", 1), ("200 files of 5 MB", 200)):
        with tempfile.TemporaryDirectory() as name:
            _compare(label, Path(name), count)


def _compare(label: str, folder: Path, count: int) -> None:
    model = folder / "model"
    model.mkdir()
    for number in range(count):
        with (model / f"part-{number:03d}.bin").open("wb") as writer:
            left = GB // count
            while left:
                writer.write(os.urandom(min(left, 8_000_000)))
                left -= min(left, 8_000_000)
    work = folder / "work"

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        command(CLOUDREG, "init", cwd=work)
        os.sync()  # what an earlier run left to write must not slow the next one

    contestants: dict[str, Callable[[], object]] = {
        "cloudreg register": partial(command, CLOUDREG, "register", "churn", str(model), cwd=work),
        "cp -r, then sha256sum": partial(
            command, "sh", "-c", f"cp -r '{model}' copy && sync && sha256sum copy/*", cwd=work
        ),
        # OpenSSL has SHA instructions where coreutils often has none: the harder opponent.
        "cp -r, then openssl dgst": partial(
            command,
            *("sh", "-c", f"cp -r '{model}' copy && sync && openssl dgst -sha256 copy/*"),
            cwd=work,
        ),
    }
    python, dvc = peer("python"), peer("dvc")
    if peer("mlflow") and python:
        contestants["mlflow log_artifacts + create_model_version"] = partial(
            command, python, "-c", MLFLOW, str(model), "sqlite:///mlflow.db", cwd=work
        )
    if dvc:
        script = f"cp -r '{model}' model && git init -q && '{dvc}' init -q && '{dvc}' add -q model"
        contestants["dvc add (after a copy)"] = partial(command, "sh", "-c", script, cwd=work)
    cpu: dict[str, float] = {}
    seconds = race(contestants, rounds=3, before=fresh, cpu=cpu)
    table(f"register {label}", seconds, base="cloudreg register", cpu=cpu)
    fresh()
    peak = peak_mib((CLOUDREG, "register", "churn", str(model)), cwd=work)
    again = race(
        {
            "the same bytes again": partial(
                command, CLOUDREG, "register", "churn", str(model), cwd=work
            ),
            "sha256sum alone": partial(command, "sh", "-c", f"sha256sum '{model}'/*", cwd=work),
            "openssl dgst alone": partial(
                command, "sh", "-c", f"openssl dgst -sha256 '{model}'/*", cwd=work
            ),
        },
        rounds=3,
        cpu=cpu,
    )
    table(
        f"register {label} again",
        again,
        base="sha256sum alone",
        cpu=cpu,
        notes=f"peak memory of the first registration: {peak:.0f} MiB, wanted under 200",
    )
