"""How long a person waits for a verb on Vertex AI, and what of it is the SDK's import."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import vertex
from race import command, race, table

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
BARE = "python -c pass"
CLIENTS = "import google.cloud.aiplatform_v1"

_PLACE = f"projects/{vertex.PROJECT}/locations/{vertex.LOCATION}"

JSON_LIST = f"""
import sys
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
session = AuthorizedSession(AnonymousCredentials())
answer = session.get(sys.argv[1] + "/v1/{_PLACE}/endpoints")
assert len(answer.json()["endpoints"]) == 1
"""

SDK_LIST = f"""
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
aiplatform.init(project="{vertex.PROJECT}", location="{vertex.LOCATION}", api_transport="rest",
                credentials=AnonymousCredentials(), api_endpoint=sys.argv[1])
assert len(aiplatform.Endpoint.list()) == 1
"""

# The high-level class would ask the endpoint's own name, which only Google resolves.
SDK_PREDICT = f"""
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.protobuf import json_format, struct_pb2
client = aiplatform_v1.PredictionServiceClient(
    credentials=AnonymousCredentials(), transport="rest",
    client_options={{"api_endpoint": sys.argv[1]}})
row = json_format.ParseDict([1.0, 2.0, 3.0, 4.0], struct_pb2.Value())
answer = client.predict(endpoint="{_PLACE}/endpoints/{vertex.ENDPOINT}", instances=[row])
assert len(answer.predictions) == 1
"""


def run() -> None:
    """Status, plan and predict, beside the high-level SDK and JSON over google-auth."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vertex.save_model(folder / "model", (4, 16, 3))
        (folder / "request.json").write_text('{"instances": [[1, 2, 3, 4]]}')
        with vertex.emulated(folder) as cloud:
            vertex.deploy(cloud.url, folder / "model", folder)
            _print_times(cloud.url, folder)


def _print_times(url: str, folder: Path) -> None:
    env = vertex.environment(folder)

    def python(script: str) -> tuple[str, ...]:
        return sys.executable, "-c", script, url

    verbs = {
        BARE: python("pass"),
        CLIENTS: python(CLIENTS),
        "cloudreg list": (vertex.CLOUDREG, "list"),
        "cloudreg status": (vertex.CLOUDREG, "status"),
        "cloudreg plan": (vertex.CLOUDREG, "plan"),
        "cloudreg predict": (vertex.CLOUDREG, "predict", vertex.ENDPOINT, "@request.json"),
        "JSON over google-auth: list": python(JSON_LIST),
        "aiplatform: list": python(SDK_LIST),
        "aiplatform_v1: predict": python(SDK_PREDICT),
    }
    runs = {label: partial(command, *argv, cwd=folder, env=env) for label, argv in verbs.items()}
    race(runs, rounds=1)  # writes the byte code
    cpu: dict[str, float] = {}
    seconds = race(runs, rounds=ROUNDS, cpu=cpu)
    table("start-up on Vertex AI, emulated", seconds, base=BARE, cpu=cpu)
    for verb in ("status", "plan"):
        share = (cpu[CLIENTS] - cpu[BARE]) / cpu[f"cloudreg {verb}"]
        print(f"  cloudreg {verb}: {share:.0%} of its CPU is the import of the generated clients")
    for verb in ("status", "plan", "predict"):
        ratio = cpu[f"cloudreg {verb}"] / cpu["aiplatform: list"]
        print(f"  cloudreg {verb}: {ratio:.2f} x the CPU of aiplatform: list, wanted below 1")


if __name__ == "__main__":
    run()
