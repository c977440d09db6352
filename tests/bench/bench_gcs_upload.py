"""Uploading 1 GB to a Cloud Storage that keeps nothing: whole processes, over TLS, near and far.

``BENCH_BYTES`` is another size, for a look at whether it all runs.
"""

from __future__ import annotations

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
SIZE = int(os.environ.get("BENCH_BYTES", sinks.GB))

DISTANCES: dict[str, tuple[str, ...]] = {
    "as it is": ("0", "0"),
    "30 ms and 80 MB/s a connection": ("30", "80"),
}

CLOUDREG = """
import sys
from pathlib import Path
from cloudreg.artifacts import upload
from cloudreg.importers.directory import walk
from cloudreg_vertex.settings import VertexSettings
from cloudreg_vertex.store import GcsObjects
folder, url, prefix = sys.argv[1:]
settings = VertexSettings(project="our-project", location="us-central1", bucket="bucket",
                          prefix=prefix, project_number=1,
                          image="us-central1-docker.pkg.dev/our-project/r/i:1",
                          storage_url=url)
upload(list(walk(Path(folder))), GcsObjects(settings, target="gcp"))
"""

OBSTORE = """
import json, os, sys, obstore
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from obstore.store import GCSStore
folder, url, prefix = sys.argv[1:]
key = {"gcs_base_url": url, "disable_oauth": True,
       "client_email": "", "private_key": "", "private_key_id": ""}
store = GCSStore("bucket", config={"service_account_key": json.dumps(key)},
                 client_options={"root_certificate": Path(os.environ["CERTIFICATE"]).read_bytes()})
def put(path):
    obstore.put(store, f"{prefix}/{path.name}", path, chunk_size=8 << 20)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(put, Path(folder).iterdir()))
"""

_STORAGE = """
import sys
from pathlib import Path
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
folder, url, prefix = sys.argv[1:]
client = storage.Client(project="our-project", credentials=AnonymousCredentials())
bucket = client.bucket("bucket")
paths = sorted(Path(folder).iterdir())
"""

FROM_FILENAME = (
    _STORAGE
    + """
for path in paths:
    bucket.blob(f"{prefix}/{path.name}").upload_from_filename(str(path))
"""
)

TRANSFERS = (
    _STORAGE
    + """
from google.cloud.storage import transfer_manager
if len(paths) == 1:
    transfer_manager.upload_chunks_concurrently(
        str(paths[0]), bucket.blob(f"{prefix}/{paths[0].name}"),
        worker_type=transfer_manager.THREAD)
else:
    done = transfer_manager.upload_many_from_filenames(
        bucket, [path.name for path in paths], source_directory=folder,
        blob_name_prefix=f"{prefix}/", worker_type=transfer_manager.THREAD, raise_exception=True)
"""
)

VERTEX_SDK = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
folder, url, prefix = sys.argv[1:]
aiplatform.init(project="our-project", location="us-central1", staging_bucket=f"gs://bucket/{prefix}",
                credentials=AnonymousCredentials(), api_transport="rest", api_endpoint=url)
aiplatform.Model.upload(display_name="m", artifact_uri=folder,
                        serving_container_image_uri="us-central1-docker.pkg.dev/our-project/r/i:1")
"""


def run() -> None:
    """One file, then two hundred, near and far."""
    if shutil.which("g++") is None:
        print("gcs_upload: not measured, there is no g++ to build the sink with")
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sink, certificate, key = work / "sink", work / "certificate.pem", work / "key.pem"
        source = Path(__file__).with_name("sink.cpp")
        command("g++", "-O2", "-std=c++17", str(source), "-o", str(sink), *sinks._LIBRARIES)
        sinks._certify(certificate, key)
        for count in (1, 200):
            label = f"{count} {'file' if count == 1 else 'files'} of {SIZE // count / 1e6:g} MB"
            model = work / f"model-{count}"
            sinks._fill(model, count, size=SIZE)
            for distance, options in DISTANCES.items():
                argv = [str(sink), str(certificate), str(key), *options, "google"]
                with sinks._served(argv) as url:
                    _compare(f"upload {label} to GCS, {distance}", model, url, certificate, work)
            shutil.rmtree(model)


def _compare(title: str, model: Path, url: str, certificate: Path, work: Path) -> None:
    environment = {
        "STORAGE_EMULATOR_HOST": url,
        "CERTIFICATE": str(certificate),
        "REQUESTS_CA_BUNDLE": str(certificate),
        # An installed program has its byte code, a checkout need not.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
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
        "obstore, with a digest": partial(python, OBSTORE + sinks.DIGEST),
        "upload_from_filename": partial(python, FROM_FILENAME),
        "transfer_manager": partial(python, TRANSFERS),
        "aiplatform.Model.upload": partial(python, VERTEX_SDK),
    }
    cpu: dict[str, float] = {}
    seconds = race(contestants, rounds=ROUNDS, cpu=cpu)
    peak = sinks._peak_mib(CLOUDREG, [str(model), url, "peak"], work, environment)
    faster = seconds["aiplatform.Model.upload"] / seconds["cloudreg"]
    table(
        title,
        seconds,
        base="obstore alone",
        cpu=cpu,
        notes=f"peak memory of cloudreg: {peak:.0f} MiB, wanted under 300; "
        f"{faster:.1f} times as fast as the Vertex SDK, wanted at least 8 where it is far; "
        "only cloudreg and the second obstore hash the files",
    )


if __name__ == "__main__":
    run()
