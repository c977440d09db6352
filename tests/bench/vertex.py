"""An emulated Google Cloud in a process of its own, with a model served on an endpoint."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from race import command

BUCKET = "models"
LOCATION = "us-central1"
PROJECT = "emulated-project"
ENDPOINT = "churn"
CLOUDREG = str(Path(sys.executable).with_name("cloudreg"))
PATIENCE_S = 600

_CONFIG = """
home = "gcp"

[targets.gcp]
provider = "vertex"
project = "{project}"
location = "{location}"
bucket = "{bucket}"
image = "{location}-docker.pkg.dev/{project}/serve/cloudreg:1"
endpoint_url = "{url}"
storage_url = "{url}"

[stages.prod]
gates = []

[endpoints.{endpoint}]
model = "churn"
stage = "prod"
gpu = "L4"
env = {{ CLOUDREG_THREADS = "1", OMP_NUM_THREADS = "1" }}
"""

_BUCKETS = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
url, project, bucket, location = sys.argv[1:]
client = storage.Client(project=project, credentials=AnonymousCredentials(),
                        client_options={"api_endpoint": url})
client.create_bucket(bucket, location=location)
"""


def environment(folder: Path) -> dict[str, str]:
    """Return what processes find: their own byte code, as an installed program has it."""
    return {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "OMP_NUM_THREADS": "1",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """An emulated Google Cloud that answers.

    Attributes:
        url: Where.
        pid: Of its process.
    """

    url: str
    pid: int

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def server(self) -> tuple[int, str]:
        """Return port and path of the model server behind the endpoint, to ask it directly."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.pid and b"cloudreg.serving" in (path / "cmdline").read_bytes():
                    pairs = (path / "environ").read_bytes().decode().split("\0")
                    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
                    return int(given["AIP_HTTP_PORT"]), given["AIP_PREDICT_ROUTE"]
            except FileNotFoundError:
                continue  # it ended meanwhile
        raise SystemExit("no model server is behind the endpoint")


@contextmanager
def emulated(folder: Path) -> Iterator[Emulator]:
    """Yield an emulated Google Cloud."""
    serving = f"*={sys.executable} -P -m cloudreg.serving"
    argv = [
        *(sys.executable, "-m", "cloudreg_emulator", "--cloud", "google", "--json", "--quiet"),
        *("--scale", "0.01", "--image", serving),
    ]
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **environment(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            yield Emulator(url=_address(process), pid=process.pid)
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    # The first start compiles the SDK, which takes a minute of a core.
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    line = process.stdout.readline() if ready else b""
    if not line:
        raise SystemExit(f"the emulated Google Cloud does not start in {PATIENCE_S} s")
    address: str = json.loads(line)["environment"]["STORAGE_EMULATOR_HOST"]
    return address


def started_s(folder: Path) -> float:
    """Return how long an emulated Google Cloud takes until it says where it answers."""
    began = time.perf_counter()
    with emulated(folder):
        return time.perf_counter() - began


def make_bucket(url: str) -> None:
    """Make the bucket of the target."""
    command(sys.executable, "-c", _BUCKETS, url, PROJECT, BUCKET, LOCATION)


def save_model(folder: Path, sizes: tuple[int, ...]) -> None:
    """Write a perceptron in ONNX; *sizes* are those of its layers."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    random = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array((random.random(pair) / pair[0]).astype("float32"), f"w{number}")
        for number, pair in enumerate(pairwise(sizes))
    ]
    names = ["x", *(f"h{number}" for number in range(1, len(weights))), "y"]
    nodes = [
        helper.make_node("MatMul", [names[number], f"w{number}"], [names[number + 1]])
        for number in range(len(weights))
    ]
    tensor = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [tensor("x", shape=["batch", sizes[0]])],
        [tensor("y", shape=["batch", sizes[-1]])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 10
    onnx.save(made, str(folder / "model.onnx"))


def deploy(url: str, model: Path, folder: Path) -> None:
    """Register *model*, promote it, and serve it on an endpoint; *folder* gets the settings."""
    (folder / "cloudreg.toml").write_text(
        _CONFIG.format(
            project=PROJECT, location=LOCATION, bucket=BUCKET, url=url, endpoint=ENDPOINT
        )
    )
    make_bucket(url)
    for argv in (("register", "churn", str(model)), ("promote", "churn:1", "--to", "prod")):
        command(CLOUDREG, *argv, cwd=folder, env=environment(folder))
