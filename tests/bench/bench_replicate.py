"""Replicating 1 GB between an S3 and a Cloud Storage that keep nothing: over TLS, near and far."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bench_upload as sinks
from race import command, race, table

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SIZE = int(os.environ.get("BENCH_BYTES", str(sinks.GB)))

DISTANCES: dict[str, tuple[str, ...]] = {
    "as it is": ("0", "0"),
    "30 ms and 80 MB/s a connection": ("30", "80"),
}

_STORES = """
import json, os, sys
from pathlib import Path
facts = json.loads(Path(sys.argv[1]).read_text())
prefix, way = sys.argv[2], facts["way"]
"""

_OURS = (
    _STORES
    + """
import boto3
from cloudreg_sagemaker.store import S3Objects
from cloudreg_vertex.settings import VertexSettings
from cloudreg_vertex.store import GcsObjects
def s3(prefix):
    return S3Objects(boto3.Session(), bucket="bucket", prefix=prefix, region="us-east-1",
                     target="aws", account="123456789012", endpoint_url=facts["s3"])
def gcs(prefix):
    settings = VertexSettings(project="our-project", location="us-central1", bucket="bucket",
                              prefix=prefix, project_number=1,
                              image="us-central1-docker.pkg.dev/our-project/r/i:1",
                              storage_url=facts["gcs"])
    return GcsObjects(settings, target="gcp")
source, dest = (s3, gcs) if way == "S3 to GCS" else (gcs, s3)
"""
)

FILL = (
    _OURS
    + """
from cloudreg.artifacts import put_manifest, upload
from cloudreg.importers.directory import walk
from cloudreg.manifest import Manifest
store = source("source")
files = upload(list(walk(Path(facts["folder"]))), store).files
facts["digest"] = put_manifest(Manifest(files=files), store)
facts["keys"] = [[f"source/{entry.key}", entry.size] for entry in files]
Path(sys.argv[1]).write_text(json.dumps(facts))
"""
)

AS_A_COMMAND = """
from cloudreg.cli.memory import share_arenas
share_arenas()
"""

CLOUDREG = (
    _OURS
    + """
from cloudreg.artifacts import read_manifest, replicate
from cloudreg.types import ModelVersion
store = source("source")
version = ModelVersion(model="m", number=1, digest=facts["digest"],
                       manifest=read_manifest(facts["digest"], store),
                       author="a", created_at="2026-01-01T00:00:00Z")
replicate(version, store, dest(prefix))
"""
)

_OBSTORE = (
    _STORES
    + """
import obstore
from concurrent.futures import ThreadPoolExecutor
from obstore.store import GCSStore, S3Store
trusted = {"root_certificate": Path(os.environ["AWS_CA_BUNDLE"]).read_bytes()}
key = {"gcs_base_url": facts["gcs"], "disable_oauth": True,
       "client_email": "", "private_key": "", "private_key_id": ""}
gcs = GCSStore("bucket", config={"service_account_key": json.dumps(key)}, client_options=trusted)
s3 = S3Store("bucket", endpoint=facts["s3"], region="us-east-1", unsigned_payload=True,
             checksum_algorithm="CRC64NVME", client_options=trusted)
source, dest = (s3, gcs) if way == "S3 to GCS" else (gcs, s3)
def ranges(key, size):
    # One stream is what a connection can carry: eight ranges at once, as cloudreg asks for them.
    from collections import deque
    with ThreadPoolExecutor(8 if len(facts["keys"]) == 1 else 1) as pool:
        waiting = deque()
        for start in range(0, size, 8 << 20):
            waiting.append(pool.submit(obstore.get_range, source, key, start=start,
                                       end=min(start + (8 << 20), size)))
            if len(waiting) == 8:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
def each(one):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, facts["keys"]))
"""
)

GET = (
    _OBSTORE
    + """
def one(item):
    for _ in ranges(*item):
        pass
each(one)
"""
)

PUT = (
    _OBSTORE
    + """
folder = Path(facts["folder"])
sizes = {path.stat().st_size: path for path in folder.iterdir()}
each(lambda item: obstore.put(dest, f"{prefix}/{item[0]}", sizes[item[1]], chunk_size=8 << 20))
"""
)

BOTH = (
    _OBSTORE
    + """
def one(item):
    pieces = (bytes(piece) for piece in ranges(*item))
    obstore.put(dest, f"{prefix}/{item[0]}", pieces, chunk_size=8 << 20)
each(one)
"""
)

SDKS = (
    _STORES
    + """
import shutil, tempfile
import boto3
from botocore.config import Config
from concurrent.futures import ThreadPoolExecutor
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager
s3 = boto3.client("s3", endpoint_url=facts["s3"], region_name="us-east-1",
                  config=Config(max_pool_connections=80))
os.environ["STORAGE_EMULATOR_HOST"] = facts["gcs"]
bucket = storage.Client(project="our-project", credentials=AnonymousCredentials()).bucket("bucket")
names = [key for key, _ in facts["keys"]]
THREAD = transfer_manager.THREAD
def every(one):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, names))
with tempfile.TemporaryDirectory(dir=Path(sys.argv[1]).parent) as folder:
    def place(name):
        return str(Path(folder, name.replace("/", "-")))
    if way == "S3 to GCS":
        every(lambda name: s3.download_file("bucket", name, place(name)))
        if len(names) == 1:
            transfer_manager.upload_chunks_concurrently(
                place(names[0]), bucket.blob(f"{prefix}/{names[0]}"), worker_type=THREAD)
        else:
            transfer_manager.upload_many(
                [(place(name), bucket.blob(f"{prefix}/{name}")) for name in names],
                worker_type=THREAD, raise_exception=True)
    else:
        if len(names) == 1:
            transfer_manager.download_chunks_concurrently(
                bucket.blob(names[0]), place(names[0]), worker_type=THREAD, crc32c_checksum=False)
        else:
            transfer_manager.download_many(
                [(bucket.blob(name), place(name)) for name in names],
                worker_type=THREAD, raise_exception=True)
        every(lambda name: s3.upload_file(place(name), "bucket", f"{prefix}/{name}"))
"""
)


def run() -> None:
    """One file, then two hundred; there and back; near and far."""
    if shutil.which("g++") is None:
        print("replicate: not measured, there is no g++ to build the sink with")
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sink, certificate, key = work / "sink", work / "certificate.pem", work / "key.pem"
        source = Path(__file__).with_name("sink.cpp")
        command("g++", "-O2", "-std=c++17", str(source), "-o", str(sink), *sinks._LIBRARIES)
        sinks._certify(certificate, key)
        for count in (1, 200):
            model = work / f"model-{count}"
            _sparse(model, count)
            for distance, options in DISTANCES.items():
                argv = [str(sink), str(certificate), str(key), *options]
                for way in ("S3 to GCS", "GCS to S3"):
                    with sinks._served(argv) as s3, sinks._served([*argv, "google"]) as gcs:
                        facts = {"way": way, "s3": s3, "gcs": gcs, "folder": str(model)}
                        files = f"{count} file{'s' if count > 1 else ''}"
                        _compare(f"{SIZE / 1e9:g} GB in {files}, {way}, {distance}", facts, work)


def _sparse(model: Path, count: int) -> None:
    """Make files of zeros, as the sinks give them back; no two are of one length."""
    model.mkdir()
    for number in range(count):
        with (model / f"part-{number:03d}.bin").open("wb") as writer:
            writer.truncate(SIZE // count + number)


def _compare(title: str, facts: dict[str, str], work: Path) -> None:
    certificate = str(work / "certificate.pem")
    environment = {
        "AWS_CA_BUNDLE": certificate,
        "REQUESTS_CA_BUNDLE": certificate,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
    }
    told = work / "facts.json"
    told.write_text(json.dumps(facts))
    runs = iter(range(10**6))

    def python(script: str) -> None:
        # A prefix of its own: what an earlier run sent is not there.
        command(
            *(sys.executable, "-c", script, str(told), f"run-{next(runs)}"),
            cwd=work,
            env=environment,
        )

    python(FILL)
    contestants: dict[str, Callable[[], object]] = {
        "cloudreg": partial(python, CLOUDREG),
        "obstore get": partial(python, GET),
        "obstore put": partial(python, PUT),
        "obstore get and put": partial(python, BOTH),
        "download, then upload": partial(python, SDKS),
    }
    if shutil.which("rclone"):
        contestants["rclone"] = partial(_rclone, facts, told, work, environment, runs)
    cpu: dict[str, float] = {}
    seconds = race(contestants, rounds=ROUNDS, cpu=cpu)
    peak, typed = (
        sinks._peak_mib(script, [str(told), f"run-{next(runs)}"], work, environment)
        for script in (CLOUDREG, AS_A_COMMAND + CLOUDREG)
    )
    slower = max(seconds["obstore get"], seconds["obstore put"])
    table(
        title,
        seconds,
        base="obstore get and put",
        cpu=cpu,
        notes=f"cloudreg: peak memory {peak:.0f} MiB, {typed:.0f} as a command, wanted under 300; "
        f"{seconds['download, then upload'] / seconds['cloudreg']:.1f} times as fast as "
        f"download-then-upload, wanted at least 2; {seconds['cloudreg'] / slower:.2f} times the "
        "slower half of obstore, wanted at most 1.3; only cloudreg hashes what it copies",
    )


def _rclone(
    facts: dict[str, str], told: Path, work: Path, environment: dict[str, str], runs: object
) -> None:
    """Copy all keys with rclone, which speaks S3 to both ends."""
    number = next(runs)  # type: ignore[call-overload]
    remote = {
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ENDPOINT": facts["s3"],
        "RCLONE_CONFIG_S3_ENV_AUTH": "true",
        "RCLONE_CONFIG_GCS_TYPE": "google cloud storage",
        "RCLONE_CONFIG_GCS_ENDPOINT": facts["gcs"],
        "RCLONE_CONFIG_GCS_ANONYMOUS": "true",
        "RCLONE_CA_CERT": str(work / "certificate.pem"),
    }
    ends = ("s3", "gcs") if facts["way"] == "S3 to GCS" else ("gcs", "s3")
    command(
        *("rclone", "copy", f"{ends[0]}:bucket/source/blobs", f"{ends[1]}:bucket/rclone-{number}"),
        *("--transfers", "8"),
        cwd=work,
        env={**environment, **remote},
    )


if __name__ == "__main__":
    run()
