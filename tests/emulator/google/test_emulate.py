"""``python -m cloudreg_emulator`` and the fixture, for Google Cloud."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

EMULATOR = [sys.executable, "-m", "cloudreg_emulator"]
CONTAINER = Path(__file__).parent / "vertex" / "container.py"
IMAGE = "us-central1-docker.pkg.dev/emulated-project/images/server:1"

INSIDE = """\
import os, sys

import httpx
from google.cloud import storage

print(sorted(name for name, value in os.environ.items() if value == "elsewhere"))
storage.Client().create_bucket("bucket")
parent = "projects/{GOOGLE_CLOUD_PROJECT}/locations/{GOOGLE_CLOUD_LOCATION}".format(**os.environ)
answer = httpx.get(f"{os.environ['VERTEX_EMULATOR_HOST']}/v1/{parent}/endpoints")
print(parent, answer.status_code)
raise SystemExit(7)
"""


def test_command_runs_inside() -> None:
    """A command reaches both services, and no credentials of its surroundings."""
    leading_away = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_API_KEY", "GCLOUD_PROJECT")
    env = {**os.environ, **dict.fromkeys(leading_away, "elsewhere"), "MINE": "elsewhere"}

    done = subprocess.run(
        [
            *(*EMULATOR, "--cloud", "google", "--project", "p-1"),
            *("--google-region", "europe-west4", "--", sys.executable, "-c", INSIDE),
        ],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == ["['MINE']", "projects/p-1/locations/europe-west4 200"]
    assert done.stderr == ""


def test_foreground(tmp_path: Path) -> None:
    """In the foreground it tells its facts, keeps its state, and ends with no process left."""
    words = ["--cloud", "google", "--json", "--state", str(tmp_path)]
    found = []
    for _ in range(2):
        process = subprocess.Popen(
            [*EMULATOR, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            (cloud,) = facts["clouds"]
            script = (
                "import httpx, os; "
                "url = os.environ['STORAGE_EMULATOR_HOST'] "
                "+ '/storage/v1/b?project=emulated-project'; "
                "print(httpx.post(url, json={'name': 'kept'}).status_code)"
            )
            env = {**os.environ, **facts["environment"]}
            done = subprocess.run(
                [sys.executable, "-c", script],
                env=env,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            found.append(int(done.stdout))
            assert cloud["cloud"] == "google"
            assert facts["environment"]["VERTEX_EMULATOR_HOST"] == cloud["url"]
            assert facts["environment"]["VERTEX_EMULATOR_GRPC_HOST"] == cloud["grpc"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0
    assert found == [200, 409]


def test_port_is_taken() -> None:
    """A port that cannot be had is an error of one line."""
    words = ["--cloud", "google", "--json"]
    with subprocess.Popen([*EMULATOR, *words], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            url = json.loads(first.stdout.readline())["clouds"][0]["url"]
            port = url.rpartition(":")[2]
            done = subprocess.run(
                [*EMULATOR, "--cloud", "google", "--google-port", port, "--", "true"],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        finally:
            first.terminate()

    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_fixture(tmp_path: Path) -> None:
    """The fixture of the plug-in gives a test endpoints with predictions of real processes."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cloudreg_emulator.pytest_plugin"]\n')
    test = f"""
        import sys
        import pytest
        from google.cloud import aiplatform
        from cloudreg.testing.vertex import vertex_client_options

        @pytest.fixture
        def emulated_images():
            return {{"*/server:*": [sys.executable, {str(CONTAINER)!r}]}}

        def test_script(google_server):
            aiplatform.init(**vertex_client_options())
            model = aiplatform.Model.upload(
                display_name="m", serving_container_image_uri={IMAGE!r}
            )
            endpoint = model.deploy(machine_type="n1-standard-2")
            assert endpoint.predict(instances=[1]).predictions[0]["read"] == "1.0"
    """
    (tmp_path / "test_script.py").write_text(textwrap.dedent(test))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )

    assert done.returncode == 0, done.stdout
