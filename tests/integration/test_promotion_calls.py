"""How many requests a promotion across two clouds sends, where the bytes are there already."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from cloudreg import Workspace, plugins
from cloudreg.manifest import Lineage
from cloudreg_emulator.aws import AwsServer
from cloudreg_emulator.google.emulator import google
from cloudreg_emulator.google.http import HttpServer, Request, Response
from cloudreg_sagemaker import PLUGIN as SAGEMAKER
from cloudreg_vertex import PLUGIN as VERTEX

MOST_OF_AWS, MOST_OF_GOOGLE = 30, 14
"""Requests; what each is for stands in tests/bench/README.md."""

CONFIG = """
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
endpoint_url = "{aws}"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "their-models"
image = "us-central1-docker.pkg.dev/emulated-project/serve/idle:1"
endpoint_url = "{gcp}"
storage_url = "{gcp}"

[stages.dev]
[stages.prod]
targets = ["aws", "gcp"]
gates = []
"""
Sent = tuple[Counter[str], Counter[str]]


def named(target: str, path: str) -> str:
    """Name a request well enough to tell which one there is too much of."""
    return target.rpartition(".")[2] or "/".join(path.split("/")[1:6])


@pytest.fixture
def promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Sent]]:
    """Return what promotes one of two versions, in a workspace of its own, and what was sent."""
    for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
        monkeypatch.delenv(name)
    sent: Sent = (Counter(), Counter())
    lock = threading.Lock()

    def count(cloud: int, method: str, name: str) -> None:
        with lock:
            sent[cloud][f"{method} {name}"] += 1

    with AwsServer() as aws, google() as behind:
        boto3.client("s3").create_bucket(Bucket="our-models")
        location = {"location": "US-CENTRAL1"}
        behind.storage.create_bucket("their-models", location, project="emulated-project")

        def handle(request: Request) -> Response:
            count(1, request.method, named("", request.path))
            return behind.handle(request)

        aws.watch(
            lambda environ: count(
                0,
                environ["REQUEST_METHOD"],
                named(environ.get("HTTP_X_AMZ_TARGET", ""), environ["PATH_INFO"]),
            )
        )
        server = HttpServer(handle)
        for plugin in (SAGEMAKER, VERTEX):
            plugins.register(plugin)
        (tmp_path / "cloudreg.toml").write_text(CONFIG.format(aws=aws.url, gcp=server.url))

        def promote(number: int) -> Sent:
            for counter in sent:
                counter.clear()
            with Workspace.load(tmp_path, actor="ada", timeout_s=60.0) as ws:
                ws.promote(f"churn:{number}", to="prod")
            return Counter(sent[0]), Counter(sent[1])

        try:
            with Workspace.load(tmp_path, actor="ada", timeout_s=60.0) as ws:
                for number in (1, 2):
                    build = tmp_path / f"build{number}"
                    build.mkdir()
                    (build / "weights.txt").write_text(f"weights {number}")
                    ws.register("churn", build, lineage=Lineage())
            yield promote
        finally:
            server.close()


@pytest.mark.slow
def test_bytes_that_are_there_are_not_copied(promoted: Callable[[int], Sent]) -> None:
    """A promotion back to a version that both clouds have sends few requests and no bytes."""
    promoted(1)
    promoted(2)

    aws, gcp = promoted(1)

    assert aws.total() <= MOST_OF_AWS, aws
    assert gcp.total() <= MOST_OF_GOOGLE, gcp
    assert not [name for name in gcp if "blobs" in name and not name.startswith("GET")], gcp
    assert aws["POST UpdateModelPackage"] == 2, aws
