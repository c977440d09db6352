"""The emulated Google Cloud: start-up, operations, and predictions beside the model server."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bench_emulator as aws
import vertex
from load import Load

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
CLIENTS = (1, 8)

MODELS = {"tiny": (4, 16, 3), "mid": (256, 2048, 2048, 64)}
"""Sizes of layers: a model that is all overhead, and one that computes."""

THROUGH, BEHIND = "through an endpoint", "the model server behind it"

OPERATIONS = f"""
import sys, time, uuid
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1, storage
url, seconds = sys.argv[1], float(sys.argv[2])
parent = "projects/{vertex.PROJECT}/locations/{vertex.LOCATION}"
bucket = storage.Client(project="{vertex.PROJECT}", credentials=AnonymousCredentials(),
                        client_options={{"api_endpoint": url}}).bucket("{vertex.BUCKET}")
options = dict(credentials=AnonymousCredentials(), transport="rest",
               client_options={{"api_endpoint": url}})
models = aiplatform_v1.ModelServiceClient(**options)
endpoints = aiplatform_v1.EndpointServiceClient(**options)
blob = bucket.blob(f"{{uuid.uuid4()}}/b")
vertex = (
    lambda: models.get_model(name=f"{{parent}}/models/churn"),
    lambda: list(models.list_model_versions(name=f"{{parent}}/models/churn")),
    lambda: list(endpoints.list_endpoints(parent=parent)),
    lambda: endpoints.get_endpoint(name=f"{{parent}}/endpoints/{vertex.ENDPOINT}"),
)
stored = (
    lambda: blob.upload_from_string(b"x" * 4096),
    lambda: blob.download_as_bytes(),
    lambda: blob.reload(),
    lambda: list(bucket.list_blobs(prefix=blob.name)),
)
for steps in (stored, vertex):
    for step in steps:
        step()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for step in steps:
            step()
        count += len(steps)
    print(count / (time.perf_counter() - began))
blob.delete()
"""


def run() -> None:
    """Start-up, operations, predictions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _print_starts(folder)
        for model, sizes in MODELS.items():
            place = folder / model
            place.mkdir()
            vertex.save_model(place / "model", sizes)
            with vertex.emulated(place) as cloud:
                vertex.deploy(cloud.url, place / "model", place)
                if model == "tiny":
                    _print_operations(cloud.url)
                _print_predictions(model, cloud, place, sizes[0])


def _print_starts(folder: Path) -> None:
    vertex.started_s(folder)  # compiles what the others import
    took = statistics.median(vertex.started_s(folder) for _ in range(ROUNDS))
    print(f"\nstart-up of the emulated Google Cloud: {took:.2f} s, median of {ROUNDS}")


def _print_operations(url: str) -> None:
    rates: list[list[float]] = []
    for _ in range(ROUNDS):
        done = subprocess.run(
            [sys.executable, "-c", OPERATIONS, url, str(SECONDS)],
            capture_output=True,
            text=True,
            check=True,
        )
        rates.append([float(line) for line in done.stdout.split()])
    print(f"\noperations a second of one client of Google's: medians of {ROUNDS} x {SECONDS:g} s")
    for label, found in zip(("Cloud Storage", "Vertex AI"), zip(*rates, strict=True), strict=True):
        print(f"  {label:<28} {statistics.median(found):9.0f} /s")


def _print_predictions(model: str, cloud: vertex.Emulator, folder: Path, width: int) -> None:
    body = folder / "body.json"
    body.write_text(json.dumps({"instances": [[0.1] * width]}))
    port, route = cloud.server()
    path = (
        f"/v1/projects/{vertex.PROJECT}/locations/{vertex.LOCATION}"
        f"/endpoints/{vertex.ENDPOINT}:predict"
    )
    asked: dict[str, Callable[[int], Load]] = {
        THROUGH: partial(aws._press, cloud.port, path, body),
        BEHIND: partial(aws._press, port, route, body),
    }
    for clients in CLIENTS:
        seen: dict[str, list[Load]] = {label: [] for label in asked}
        for _ in range(ROUNDS):
            for label, ask in asked.items():
                seen[label].append(ask(clients))
        print(
            f"\npredictions, {model} model, {clients} at once: medians of {ROUNDS} x {SECONDS:g} s"
        )
        rates = {
            label: statistics.median(one.rps for one in found) for label, found in seen.items()
        }
        for label, found in seen.items():
            errors = sum(one.errors for one in found)
            late = statistics.median(one.p99_ms for one in found)
            print(
                f"  {label:<28} {rates[label]:9.0f} /s {rates[label] / rates[BEHIND]:6.2f} x"
                f"  p99 {late:6.2f} ms  {errors} errors"
            )
    print("  wanted: at least 0.5 times the server's, for a model that computes")


if __name__ == "__main__":
    run()
