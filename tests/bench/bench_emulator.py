"""The emulated AWS beside plain moto, and its endpoints beside the model server behind them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import bench_server
from load import Load

LOAD = Path(__file__).with_name("load.py")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
CLIENTS = (1, 8)
REGION = "us-east-1"
ACCOUNT = "123456789012"
BUCKET = "models"

ROWS = {"tiny": [0.1, 0.2, 0.3, 0.4], "mid": [0.1] * 256}
"""One row for each model: one that is all overhead, and one that computes."""

WANTED = {
    "tiny": "at least 0.5 times the bare server's; this model is all overhead",
    "mid": "at least 0.5 times the bare server's",
}

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "emulated",
    "AWS_SECRET_ACCESS_KEY": "emulated",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

OPERATIONS = """
import sys, time, boto3, uuid
url, seconds = sys.argv[1], float(sys.argv[2])
s3, sagemaker, iam = (boto3.client(name, endpoint_url=url) for name in ("s3", "sagemaker", "iam"))
bucket, group = (f"bench-{uuid.uuid4()}" for _ in range(2))
s3.create_bucket(Bucket=bucket)
sagemaker.create_model_package_group(ModelPackageGroupName=group)
steps = (
    lambda: s3.put_object(Bucket=bucket, Key="a/b", Body=b"x" * 4096),
    lambda: s3.get_object(Bucket=bucket, Key="a/b")["Body"].read(),
    lambda: s3.head_object(Bucket=bucket, Key="a/b"),
    lambda: s3.list_objects_v2(Bucket=bucket, Prefix="a/"),
    lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=group),
    lambda: sagemaker.list_model_package_groups(NameContains=group),
    lambda: iam.list_roles(),
)
for step in steps:
    step()
count, began = 0, time.perf_counter()
while time.perf_counter() - began < seconds:
    for step in steps:
        step()
    count += len(steps)
print(count / (time.perf_counter() - began))
s3.delete_object(Bucket=bucket, Key="a/b")
s3.delete_bucket(Bucket=bucket)
"""


def run() -> None:
    """Start-up, operations, predictions."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        servers = {
            # Its Google Cloud is beside the point: moto has none.
            "cloudreg emulate": (
                *("-m", "cloudreg_emulator", "--cloud", "aws"),
                *("--quiet", "--scale", "0.01", "--port"),
            ),
            "plain moto_server": ("-m", "moto.server", "-H", "127.0.0.1", "-p"),
        }
        _print_starts(servers, folder)
        urls = {
            label: stack.enter_context(_started(argv, folder)) for label, argv in servers.items()
        }
        _print_operations(urls)
        sys.path.insert(0, str(bench_server.SERVED))
        for model, row in ROWS.items():
            own = folder / model
            own.mkdir()
            _print_predictions(urls["cloudreg emulate"], own, model, row)


def _print_starts(servers: Mapping[str, tuple[str, ...]], folder: Path) -> None:
    times: dict[str, list[float]] = {label: [] for label in servers}
    for number in range(ROUNDS + 1):
        for label, argv in servers.items():
            began = time.perf_counter()
            with _started(argv, folder):
                took = time.perf_counter() - began
            # The first start compiles what the others import.
            if number:
                times[label].append(took)
    print(f"\nstart-up, to the first answer of S3: medians of {ROUNDS}")
    _print_ratios({label: statistics.median(took) for label, took in times.items()}, "s")


def _print_operations(urls: Mapping[str, str]) -> None:
    rates: dict[str, list[float]] = {label: [] for label in urls}
    for _ in range(ROUNDS):
        for label, url in urls.items():
            done = subprocess.run(
                [sys.executable, "-c", OPERATIONS, url, str(SECONDS)],
                env={**os.environ, **CREDENTIALS},
                capture_output=True,
                text=True,
                check=True,
            )
            rates[label].append(float(done.stdout))
    print(f"\noperations a second of one boto3 client: medians of {ROUNDS} x {SECONDS:g} s")
    _print_ratios({label: statistics.median(found) for label, found in rates.items()}, "/s")
    print("  wanted: at least 0.8 times plain moto's")


def _print_ratios(figures: Mapping[str, float], unit: str) -> None:
    base = figures["plain moto_server"]
    for label, figure in figures.items():
        print(f"  {label:<24} {figure:9.2f} {unit:<3} {figure / base:6.2f} x")


def _print_predictions(url: str, folder: Path, model: str, row: list[float]) -> None:
    digest = bench_server._version(model, folder / "version")
    body = folder / "body.json"
    body.write_text(json.dumps({"instances": [row]}))
    path = _deployed(url, folder / "version", digest, name=model)
    with _served(folder, digest) as bare:
        _compare(url, bare, path, body, model)


def _compare(url: str, bare: int, path: str, body: Path, model: str) -> None:
    asked: dict[str, Callable[[int], Load]] = {
        "through an endpoint": lambda clients: _press(
            _port(url), path, body, clients, f"authorization: {_scope('sagemaker')}"
        ),
        "the bare model server": lambda clients: _press(bare, "/invocations", body, clients),
    }
    for clients in CLIENTS:
        seen: dict[str, list[Load]] = {label: [] for label in asked}
        for _ in range(ROUNDS):
            for label, ask in asked.items():
                seen[label].append(ask(clients))
        print(
            f"\npredictions, {model} model, {clients} at once: medians of {ROUNDS} x {SECONDS:g} s"
        )
        rates = {label: bench_server._median(loads, "rps") for label, loads in seen.items()}
        for label, loads in seen.items():
            errors = sum(load.errors for load in loads)
            print(
                f"  {label:<24} {rates[label]:9.0f} /s {rates[label] / rates[_BARE]:6.2f} x"
                f"  p99 {bench_server._median(loads, 'p99_ms'):6.2f} ms  {errors} errors"
            )
    print(f"  wanted: {WANTED[model]}")


_BARE = "the bare model server"


def _press(port: int, path: str, body: Path, clients: int, *headers: str) -> Load:
    done = subprocess.run(
        [
            *(sys.executable, str(LOAD), str(port), path, str(body)),
            *(str(clients), str(SECONDS), *headers),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{path}: {done.stderr[-1000:]}")
    return Load(**json.loads(done.stdout))


@contextmanager
def _started(argv: tuple[str, ...], folder: Path) -> Iterator[str]:
    """Yield the address of a server that answers S3."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with _process((sys.executable, *argv, str(port)), folder) as process:
        request = urllib.request.Request(f"{url}/", headers={"authorization": _scope("s3")})
        _wait(process, request)
        yield url


@contextmanager
def _served(folder: Path, digest: str) -> Iterator[int]:
    """Yield the port of a model server without an emulator before it."""
    port = _free_port()
    argv = (
        *(sys.executable, "-m", "cloudreg.serving", "--digest", digest, "--model", "bench"),
        *("--model-dir", str(folder / "version"), "--number", "1", "--threads", "1"),
        *("--port", str(port)),
    )
    with _process(argv, folder) as process:
        _wait(process, urllib.request.Request(f"http://127.0.0.1:{port}/ping"))
        yield port


@contextmanager
def _process(argv: tuple[str, ...], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        **CREDENTIALS,
        "OMP_NUM_THREADS": "1",
        # An installed program has its byte code, a checkout need not.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen[bytes], request: urllib.request.Request) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)
        else:
            return
    raise SystemExit(f"{process.args!r} does not answer")


def _deployed(url: str, version: Path, digest: str, *, name: str) -> str:
    """Serve *version* on an emulated endpoint, and return the path of its predictions."""
    import boto3

    def client(name: str) -> Any:
        return boto3.client(
            name,
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="emulated",
            aws_secret_access_key="emulated",
        )

    s3, sagemaker = client("s3"), client("sagemaker")
    # In us-east-1 a bucket that one has already is created once more.
    s3.create_bucket(Bucket=BUCKET)
    for path in version.rglob("*"):
        if path.is_file():
            key = f"{name}/{path.relative_to(version).as_posix()}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    source = {
        "S3Uri": f"s3://{BUCKET}/{name}/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/hosting",
        PrimaryContainer={
            "Image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/cloudreg:1",
            "ModelDataSource": {"S3DataSource": source},
            "Environment": {
                "CLOUDREG_DIGEST": digest,
                "CLOUDREG_MODEL": "bench",
                "CLOUDREG_NUMBER": "1",
                "CLOUDREG_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        },
    )
    variant = {
        "VariantName": "main",
        "ModelName": name,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.g5.xlarge",
    }
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
    return f"/endpoints/{name}/invocations"


def _scope(service: str) -> str:
    """Return what tells an emulator service and region; neither of the two checks signatures."""
    return (
        f"AWS4-HMAC-SHA256 Credential=emulated/20260101/{REGION}/{service}/aws4_request,"
        " SignedHeaders=host, Signature=0"
    )


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    run()
