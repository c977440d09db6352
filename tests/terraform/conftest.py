"""Terraform on the modules: with AWS's real provider, and with the schemas of Google's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "terraform" / "modules"
TERRAFORM = shutil.which("terraform") or shutil.which("tofu")
PLUGINS = os.environ.get("TERRAFORM_PLUGIN_DIR", "")
ADDRESS = "registry.terraform.io/hashicorp"
PLATFORM = "linux_amd64"

VERSIONS = {"6": "6.50.0", "7": "7.46.1", "8": "8.7.0"}
"""Of the google provider, by the names of the files in ``google/schemas``."""

CLOUDREG = {
    "models": ["churn"],
    "stages": ["dev", "staging", "prod"],
    "endpoints": {
        "churn-prod": {
            "model": "churn",
            "stage": "prod",
            "target": "TARGET",
            "max_error_rate": 0.01,
            "max_p95_ms": 250,
        }
    },
    "targets": {},
}
"""The variable as ``cloudreg tf vars`` writes it."""


class Root:
    """A folder in which terraform is run."""

    def __init__(self, folder: Path, plugins: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self._plugins = plugins
        self._env = {
            **{key: value for key, value in env.items() if not key.startswith("TF_")},
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *words: str, code: int | None = 0) -> str:
        """Run terraform, and return what it printed."""
        assert TERRAFORM is not None
        done = subprocess.run(
            [TERRAFORM, *words],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        said = done.stdout + done.stderr
        assert code is None or done.returncode == code, said
        return done.stdout if code == 0 else said

    def init(self, *words: str, code: int = 0) -> str:
        return self.run("init", f"-plugin-dir={self._plugins}", "-no-color", *words, code=code)

    def outputs(self) -> Any:
        return json.loads(self.run("output", "-json"))


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of providers: AWS's real one where it is, and our stand-in for Google's."""
    if TERRAFORM is None:
        pytest.skip("NOT TESTED WITH TERRAFORM: neither terraform nor tofu is on PATH")
    folder = tmp_path_factory.mktemp("plugins")
    for major, version in VERSIONS.items():
        place = folder / ADDRESS / "google" / version / PLATFORM
        place.mkdir(parents=True)
        script = place / f"terraform-provider-google_v{version}"
        plugin = HERE / "google" / "plugin.py"
        command = f'GOOGLE_SCHEMAS={major} exec "{sys.executable}" "{plugin}"'
        script.write_text(f"#!/bin/sh\n{command}\n")
        script.chmod(0o755)
    real = Path(PLUGINS) / ADDRESS / "aws"
    if PLUGINS and real.is_dir():
        for version in real.iterdir():
            place = folder / ADDRESS / "aws" / version.name
            place.mkdir(parents=True)
            (place / PLATFORM).symlink_to(version / PLATFORM)
    return folder


@pytest.fixture
def root(plugins: Path, tmp_path: Path) -> Callable[..., Root]:
    """Return what makes a root in a folder of its own."""

    def make(text: str, *, env: Mapping[str, str] | None = None, name: str = "root") -> Root:
        folder = tmp_path / name
        folder.mkdir()
        made = Root(folder, plugins, os.environ if env is None else env)
        made.write("main.tf", text)
        return made

    return make


@pytest.fixture(scope="session")
def aws_provider(plugins: Path) -> Path:
    """Return the folder of providers, where AWS's real one is in it."""
    if not (plugins / ADDRESS / "aws").is_dir():
        pytest.skip(
            "NOT TESTED WITH AWS'S PROVIDER: TERRAFORM_PLUGIN_DIR names no folder that holds "
            f"{ADDRESS}/aws"
        )
    return plugins


@pytest.fixture
def given() -> Callable[[str], dict[str, Any]]:
    """Return the variable for a module, by its target's name."""

    def make(target: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(json.dumps(CLOUDREG).replace("TARGET", target))
        return document

    return make
