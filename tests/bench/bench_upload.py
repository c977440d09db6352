"""Uploading 1 GB to an S3 that keeps nothing: whole processes, over TLS, near and far."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from race import command, peer, race, table

GB = 1_000_000_000
SIZE = int(os.environ.get("BENCH_BYTES", GB))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))

DISTANCES: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "30 ms and 80 MB/s a connection": ("30", "80"),
}

CLOUDREG = """
import sys, boto3
from pathlib import Path
from cloudreg.artifacts import upload
from cloudreg.importers.directory import walk
from cloudreg_sagemaker.store import S3Objects
folder, url, prefix = sys.argv[1:]
store = S3Objects(boto3.Session(), bucket="bucket", prefix=prefix, region="us-east-1",
                  target="aws", account="123456789012", endpoint_url=url)
upload(list(walk(Path(folder))), store)
"""

OBSTORE = """
import os, sys, obstore
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from obstore.store import S3Store
folder, url, prefix = sys.argv[1:]
store = S3Store("bucket", endpoint=url, region="us-east-1", checksum_algorithm="CRC64NVME",
                unsigned_payload=True,
                client_options={"root_certificate": Path(os.environ["AWS_CA_BUNDLE"]).read_bytes()})
def put(path):
    obstore.put(store, f"{prefix}/{path.name}", path, chunk_size=8 << 20)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(put, Path(folder).iterdir()))
"""

DIGEST = """
import hashlib
def digest(path):
    with path.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()
with ThreadPoolExecutor(8) as pool:
    list(pool.map(digest, Path(folder).iterdir()))
"""

BOTO3 = """
import sys, boto3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from botocore.config import Config
folder, url, prefix = sys.argv[1:]
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1",
                      config=Config(max_pool_connections=80))
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda path: client.upload_file(str(path), "bucket", f"{prefix}/{path.name}"),
                  Path(folder).iterdir()))
"""


CRT = """
import sys, boto3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from boto3.s3.transfer import TransferConfig
folder, url, prefix = sys.argv[1:]
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
config = TransferConfig(preferred_transfer_client="crt")
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda path: client.upload_file(str(path), "bucket", f"{prefix}/{path.name}",
                                                  Config=config), Path(folder).iterdir()))
"""

S3_UPLOADER = """
import sys, boto3
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.s3 import S3Uploader
folder, url, prefix = sys.argv[1:]
S3Uploader.upload(folder, f"s3://bucket/{prefix}", sagemaker_session=Session(boto3.Session()))
"""

SDK = Path(os.environ.get("SAGEMAKER_SDK") or "-", "bin", "python")
"""Of the environment that has the SageMaker SDK."""


def _not_measured() -> Iterator[str]:
    """Yield the peers that are not here, and what would bring them."""
    if not peer("aws"):
        yield "aws s3 cp (make bench-peers)"
    if not SDK.exists():
        yield "the SageMaker SDK's S3Uploader (make sdk)"
    if _crt() is None:
        yield "boto3 with its CRT transfers (pip install 'boto3[crt]' beside the peers)"


def _crt() -> str | None:
    """Return the Python of the peers, if it has boto3 with CRT."""
    python = peer("python")
    if python is None:
        return None
    done = subprocess.run([python, "-c", "import awscrt, boto3"], capture_output=True, check=False)
    return python if done.returncode == 0 else None


def run() -> None:
    """One file, then two hundred, near and far."""
    if shutil.which("g++") is None:
        print("upload: not measured, there is no g++ to build the sink with")
        return
    for absent in _not_measured():
        print(f"upload: not measured: {absent}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sink, certificate, key = work / "sink", work / "certificate.pem", work / "key.pem"
        source = Path(__file__).with_name("sink.cpp")
        command("g++", "-O2", "-std=c++17", str(source), "-o", str(sink), *_LIBRARIES)
        _certify(certificate, key)
        for label, count in (("one file", 1), ("200 files", 200)):
            model = work / f"model-{count}"
            _fill(model, count, size=SIZE)
            for distance, options in DISTANCES.items():
                with _served([str(sink), str(certificate), str(key), *options]) as url:
                    _compare(
                        f"upload of {SIZE / GB:g} GB, {label}, {distance}",
                        model,
                        url,
                        certificate,
                        work,
                    )
            shutil.rmtree(model)


_LIBRARIES = ("-lssl", "-lcrypto", "-lpthread")


def _compare(title: str, model: Path, url: str, certificate: Path, work: Path) -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CA_BUNDLE": str(certificate),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    runs = iter(range(10**6))

    def python(script: str) -> None:
        # A prefix of its own: what an earlier run sent is not there.
        command(
            *(sys.executable, "-c", script, str(model), url, f"run-{next(runs)}"),
            cwd=work,
            env=environment,
        )

    contestants: dict[str, Callable[[], object]] = {
        "cloudreg": partial(python, CLOUDREG),
        "obstore alone": partial(python, OBSTORE),
        "obstore, with a digest": partial(python, OBSTORE + DIGEST),
        "boto3 upload_file": partial(python, BOTO3),
    }
    crt = _crt()
    if crt:
        contestants["boto3 with CRT"] = lambda: command(
            *(crt, "-c", CRT, str(model), url, f"run-{next(runs)}"), cwd=work, env=environment
        )
    aws = peer("aws")
    if aws:
        contestants["aws s3 cp"] = lambda: command(
            *(aws, "s3", "cp", "--recursive", "--only-show-errors", "--endpoint-url", url),
            *(str(model), f"s3://bucket/run-{next(runs)}"),
            cwd=work,
            env=environment,
        )
    if SDK.exists():
        # It has no word for an endpoint; boto3 underneath has a variable.
        contestants["S3Uploader"] = lambda: command(
            *(str(SDK.absolute()), "-c", S3_UPLOADER, str(model), url, f"run-{next(runs)}"),
            cwd=work,
            env={**environment, "AWS_ENDPOINT_URL": url},
        )
    cpu: dict[str, float] = {}
    seconds = race(contestants, rounds=ROUNDS, cpu=cpu)
    peak = _peak_mib(CLOUDREG, [str(model), url, "peak"], work, environment)
    table(
        title,
        seconds,
        base="obstore alone",
        cpu=cpu,
        notes=f"peak memory of cloudreg: {peak:.0f} MiB, wanted under 300; only cloudreg and "
        "the second obstore hash the files; wanted: at most 1.15 x",
    )


def _peak_mib(script: str, arguments: list[str], work: Path, environment: dict[str, str]) -> float:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{script}\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)",
            *arguments,
        ],
        cwd=work,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(said.stdout) / 1024


@contextmanager
def _served(argv: list[str]) -> Iterator[str]:
    """Yield the address of the sink."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"https://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def _fill(model: Path, count: int, *, size: int = GB) -> None:
    model.mkdir()
    for number in range(count):
        with (model / f"part-{number:03d}.bin").open("wb") as writer:
            left = size // count
            while left:
                writer.write(os.urandom(min(left, 8_000_000)))
                left -= min(left, 8_000_000)


def _certify(certificate: Path, key: Path) -> None:
    """Write a certificate of the loopback that nobody else signed."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sink")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


if __name__ == "__main__":
    run()
