"""Requests to the cloud, by verb: counted where they arrive, on both emulated clouds."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

ENDPOINTS = int(os.environ.get("BENCH_ENDPOINTS", "100"))
BUCKET = "models"
PROJECT, LOCATION = "emulated-project", "us-central1"
IMAGES = {"*": [sys.executable, "-I", "-S", str(Path(__file__).parents[1] / "idle.py")]}
"""A container that is well, and is asked nothing: a hundred of them run at once."""

SCALE = 0.005
MOST_OF_A_PLAN = 110
SHOWN = 7
"""Names in a row; the others are counted together."""

_AWS = """
home = "cloud"

[targets.cloud]
provider = "sagemaker"
region = "us-east-1"
bucket = "{bucket}"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
health_check_timeout_s = 3600
endpoint_url = "{url}"
"""
_GOOGLE = """
home = "cloud"

[targets.cloud]
provider = "vertex"
project = "{project}"
location = "{location}"
bucket = "{bucket}"
image = "{location}-docker.pkg.dev/{project}/serve/idle:1"
endpoint_url = "{url}"
storage_url = "{url}"
"""
_STAGES = """
[stages.dev]
[stages.prod]
gates = []
"""
_ENDPOINT = """
[endpoints.churn-{number}]
model = "churn"
stage = "prod"
gpu = "L4"
"""


@dataclass(kw_only=True)
class Cloud:
    """An emulated cloud that counts.

    Attributes:
        name: For the titles.
        config: The first part of a ``cloudreg.toml``.
        sent: How often each request came.
    """

    name: str
    config: str
    sent: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        """Count a request; in any thread."""
        with self._lock:
            self.sent[name] += 1


@contextmanager
def aws() -> Iterator[Cloud]:
    """Yield an emulated AWS with a bucket."""
    import boto3

    from cloudreg_emulator.aws import AwsServer

    with AwsServer(images=IMAGES, scale=SCALE) as server:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        cloud = Cloud(name="SageMaker", config=_AWS.format(bucket=BUCKET, url=server.url))
        server.watch(lambda environ: cloud.count(_called_aws(environ)))
        yield cloud


@contextmanager
def google() -> Iterator[Cloud]:
    """Yield an emulated Google Cloud with a bucket; a server before it counts."""
    from cloudreg_emulator.google.emulator import google as emulated
    from cloudreg_emulator.google.http import HttpServer, Request, Response

    with emulated(images=IMAGES, scale=SCALE) as behind:
        behind.storage.create_bucket(BUCKET, {"location": LOCATION.upper()}, project=PROJECT)
        cloud = Cloud(name="Vertex AI", config="")

        def handle(request: Request) -> Response:
            cloud.count(_called_google(request.method, request.path))
            return behind.handle(request)

        server = HttpServer(handle)
        cloud.config = _GOOGLE.format(
            project=PROJECT, location=LOCATION, bucket=BUCKET, url=server.url
        )
        try:
            yield cloud
        finally:
            server.close()


def _called_aws(environ: Mapping[str, Any]) -> str:
    """Name a request by the service that it is signed for, and its operation."""
    from cloudreg_emulator.aws.s3.operations import operation

    signed = re.search(r"/([a-z0-9-]+)/aws4_request", environ.get("HTTP_AUTHORIZATION", ""))
    service = signed[1] if signed else "unsigned"
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        return f"{service} {target.rpartition('.')[2]}"
    if service != "s3":
        return f"{service} {environ['REQUEST_METHOD']}"
    bucket, _, key = environ["PATH_INFO"].removeprefix("/").partition("/")
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    copies = "HTTP_X_AMZ_COPY_SOURCE" in environ
    name = operation(environ["REQUEST_METHOD"], bucket=bucket, key=key, query=query, copies=copies)
    return f"s3 {name}"


def _called_google(method: str, path: str) -> str:
    """Name a request by its service, its method and what it is about."""
    if "/locations/" not in path:
        return f"storage {method}" if "/projects/" not in path else f"projects {method}"
    path, _, verb = path.partition(":")
    nouns = path.partition("/locations/")[2].split("/")[1::2]
    return f"vertex {method} {'/'.join(nouns)}{':' + verb if verb else ''}"


class Verbs:
    """A workspace of one model, and what each verb sends."""

    def __init__(self, root: Path, cloud: Cloud) -> None:
        """Begin with a model's folder, and nothing registered."""
        self.root, self.cloud = root, cloud
        (root / "build").mkdir()
        self.configure(0)

    def configure(self, endpoints: int) -> None:
        """Ask for that many endpoints."""
        text = self.cloud.config + _STAGES
        text += "".join(_ENDPOINT.format(number=number) for number in range(endpoints))
        (self.root / "cloudreg.toml").write_text(text)

    def write(self, number: int) -> None:
        """Change the bytes of the model."""
        (self.root / "build" / "weights.txt").write_text(f"weights {number}")

    def counted(self, verb: Callable[[Any], object]) -> Counter[str]:
        """Return what a verb sends, as the only one of its process: nothing is known before it."""
        from cloudreg import Workspace

        with Workspace.load(self.root, actor="ada", timeout_s=600.0) as ws:
            self.cloud.sent.clear()
            verb(ws)
            return Counter(self.cloud.sent)

    def rows(self) -> Iterator[tuple[str, Counter[str]]]:
        """Do the main job, and yield each verb with what it sent."""
        from cloudreg.manifest import Lineage

        def register(ws: Any) -> None:
            ws.register("churn", self.root / "build", lineage=Lineage())

        self.write(1)
        yield "register, the first version", self.counted(register)
        yield "promote, no endpoint", self.counted(lambda ws: ws.promote("churn:1", to="prod"))
        self.configure(1)
        yield "apply, one new endpoint", self.counted(lambda ws: ws.apply())
        self.write(2)
        yield "register, the next version", self.counted(register)
        yield "promote, one endpoint", self.counted(lambda ws: ws.promote("churn:2", to="prod"))
        self.configure(ENDPOINTS)
        yield f"apply, {ENDPOINTS - 1} new endpoints", self.counted(lambda ws: ws.apply())
        yield f"plan, nothing to do, {ENDPOINTS} endpoints", self.counted(lambda ws: ws.plan())
        yield f"apply, nothing to do, {ENDPOINTS} endpoints", self.counted(lambda ws: ws.apply())
        yield f"status, {ENDPOINTS} endpoints", self.counted(lambda ws: ws.status())
        yield f"drift, {ENDPOINTS} endpoints", self.counted(lambda ws: ws.drift("churn"))
        self.counted(lambda ws: ws.down())


def run() -> None:
    """Count on each cloud, and print a table."""
    for opened in (aws, google):
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            cloud = stack.enter_context(opened())
            _print(cloud.name, dict(Verbs(root, cloud).rows()))


def _print(cloud: str, rows: Mapping[str, Counter[str]]) -> None:
    print(f"\nrequests to {cloud}, by verb; those that ask whether something is ready among them")
    width = max(len(verb) for verb in rows)
    for verb, sent in rows.items():
        services = Counter[str]()
        for name, count in sent.items():
            services[name.partition(" ")[0]] += count
        by_service = ", ".join(f"{count} {name}" for name, count in services.most_common())
        print(f"  {verb:<{width}}  {sent.total():6d}  {by_service}")
        most = sent.most_common(SHOWN)
        rest = sent.total() - sum(count for _, count in most)
        names = [f"{name} {count}" for name, count in most] + ([f"others {rest}"] if rest else [])
        print(f"  {'':<{width}}          {', '.join(names)}")
    print(f"  wanted: a plan with nothing to do on 100 endpoints in at most {MOST_OF_A_PLAN}")


if __name__ == "__main__":
    run()
