from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudreg.settings import load

HEAVY = {
    "aiohttp", "boto3", "botocore", "cloudreg_emulator", "flask", "google.api_core", "google.auth",
    "google.cloud.aiplatform", "google.protobuf", "grpc", "httpx", "moto", "numpy", "obstore",
    "onnx", "onnxruntime", "prometheus_client", "requests", "sklearn", "torch", "uvicorn", "uvloop",
    "yaml",
}  # fmt: skip
"""What only serving, training or a cloud needs; each costs more than a whole short command."""

DOOR = {"cloudreg.workspace", "msgspec", "pydantic", "pydantic_settings", "tenacity", "tqdm"}
"""What a verb needs to do its work, and its help does not."""

LIBRARY = {"asyncio", "dataclasses", "inspect", "pathlib", "subprocess", "tomllib"}
"""The standard library's heavier half."""

SCRIPT = """
import contextlib, io, json, sys
{code}
print(json.dumps(sorted(sys.modules)))
"""
CALL = """
from cloudreg.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
    code = main({words!r})
assert code == 0, said.getvalue()
"""


def imported(code: str, *, cwd: Path, **variables: str) -> set[str]:
    """Return the modules of a new process after *code*."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDREG_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(code=code)],
        cwd=cwd,
        env={**keep, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def called(*words: str, cwd: Path, **variables: str) -> set[str]:
    """Return the modules of a new process after one call of the command line."""
    return imported(CALL.format(words=list(words)), cwd=cwd, **variables)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one version of one model."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(b"0" * 1000)
    called("init", cwd=folder)
    called("register", "churn", "model", cwd=folder)
    return folder


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_imports_nothing(word: str, tmp_path: Path) -> None:
    """Help and version are answered by the standard library's light half."""
    found = called(word, cwd=tmp_path)
    assert "cloudreg.cli" in found
    assert found & (HEAVY | DOOR | LIBRARY) == set()


@pytest.mark.parametrize("verb", ["list", "plan", "promote", "register", "serve"])
def test_help_of_a_verb_imports_no_core(verb: str, tmp_path: Path) -> None:
    """What one verb can do is told without the core and what it stands on."""
    assert called(verb, "--help", cwd=tmp_path) & (HEAVY | DOOR) == set()


@pytest.mark.parametrize(
    "words", [("list",), ("list", "churn"), ("show", "churn:1"), ("history", "churn")]
)
def test_reading_the_ledger_imports_no_server_and_no_sdk(
    words: tuple[str, ...], workspace: Path
) -> None:
    """What is read from the ledger needs neither NumPy nor a web server nor an SDK."""
    found = called(*words, cwd=workspace)
    assert "cloudreg.workspace" in found
    assert found & HEAVY == set()


def test_settings_without_variables_need_no_settings_library(workspace: Path) -> None:
    """pydantic-settings is imported only where a variable is a setting."""
    assert "pydantic_settings" not in called("list", cwd=workspace, CLOUDREG_ACTOR="mia")
    assert "pydantic_settings" in called("list", cwd=workspace, CLOUDREG_HOME="local")


@pytest.mark.parametrize("module", ["cloudreg", "cloudreg_local", "cloudreg_sagemaker"])
def test_a_package_is_a_label(module: str, tmp_path: Path) -> None:
    """Importing the package, or a plug-in, loads nothing that it does not use yet."""
    found = imported(f"import {module}", cwd=tmp_path)
    assert found & HEAVY == set()
    assert "pydantic" not in found


FILES = (
    "",
    'home = "near"\n[targets.near]\nprovider = "local"\nroot = "store"\n',
    """
    [targets.local]
    provider = "local"
    [stages.dev]
    [stages.live]
    approvals = 2
    [[stages.live.gates]]
    kind = "metric"
    metric = "auc"
    at_least = 0.8
    [endpoints.churn]
    model = "churn"
    stage = "live"
    gpu = "T4:2"
    [endpoints.churn.env]
    Case = "kept"
    [endpoints.churn.rollout]
    strategy = "canary"
    """,
)


@pytest.mark.parametrize("text", FILES)
@pytest.mark.parametrize(
    "overrides",
    [{}, {"state": "elsewhere"}, {"endpoints": {"churn": {"max_replicas": 3}}}],
    ids=["none", "value", "nested"],
)
def test_both_ways_to_read_agree(
    text: str, overrides: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that repeats a default changes nothing but how the settings are read."""
    if "endpoints" in overrides and "endpoints" not in text:
        overrides = {"endpoints": {"churn": {"model": "churn", "stage": "prod", "min_replicas": 2}}}
    path = tmp_path / "cloudreg.toml"
    path.write_text(text)
    alone = load(path, overrides=overrides)
    monkeypatch.setenv("CLOUDREG_STATE", ".cloudreg/state")
    assert load(path, overrides=overrides).model_dump() == alone.model_dump()
