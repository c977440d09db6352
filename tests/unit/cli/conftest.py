"""A folder with a configuration, and the command line called in this process."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloudreg.cli import main

STANDIN = Path(__file__).parents[1] / "local" / "standin.py"

CONFIG = """\
home = "local"

[targets.local]
provider = "local"
server_command = [{python}, "-I", {standin}]

[stages.dev]
[stages.staging]
[stages.prod]
gates = []
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a call printed, and what it ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


class Project:
    """A user's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def configure(self, more: str = "") -> None:
        text = CONFIG.format(python=json.dumps(sys.executable), standin=json.dumps(str(STANDIN)))
        (self.root / "cloudreg.toml").write_text(text + more)

    def model(self, text: str, name: str = "") -> str:
        """Make a folder with one file, and return its name."""
        folder = self.root / (name or f"build-{abs(hash(text))}")
        folder.mkdir(exist_ok=True)
        (folder / "weights.txt").write_text(text)
        return folder.name

    def files(self) -> dict[str, int]:
        """Return everything that is there with its time, to see that nothing was written."""
        return {str(p): p.stat().st_mtime_ns for p in sorted(self.root.rglob("*")) if p.is_file()}


@contextmanager
def inside(root: Path) -> Iterator[pytest.MonkeyPatch]:
    """Work in *root* as alice, and let no variable of this machine configure anything."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
            patch.delenv(name)
        patch.setenv("CLOUDREG_ACTOR", "alice")
        patch.chdir(root)
        yield patch


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A configured folder without endpoints."""
    with inside(tmp_path):
        made = Project(tmp_path)
        made.configure()
        yield made


@pytest.fixture
def cloudreg(capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line, as a function of its words."""

    def call(*words: str) -> Said:
        capsys.readouterr()
        code = main(list(words))
        out, err = capsys.readouterr()
        return Said(code=code, out=out, err=err)

    return call


@pytest.fixture(scope="session")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two registered versions of a model, to be copied."""
    root = tmp_path_factory.mktemp("two-versions")
    with inside(root):
        made = Project(root)
        made.configure()
        for text, name, auc, rate in (("one", "first", 0.9, 0.1), ("two", "second", 0.95, 0.2)):
            folder = made.model(text, name)
            words = ["--metric", f"auc={auc}", "--param", f"rate={rate}", "--quiet"]
            assert main(["register", "churn", folder, *words]) == 0
    return root


@pytest.fixture
def churn(project: Project, two_versions: Path) -> Project:
    """A project with two versions of a model."""
    shutil.copytree(two_versions, project.root, dirs_exist_ok=True)
    return project


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with three versions and an endpoint that serves the first; tests share it."""
    root = tmp_path_factory.mktemp("served")
    with inside(root):
        made = Project(root)
        made.configure('[endpoints.churn-staging]\nmodel = "churn"\nstage = "staging"\n')
        try:
            for number in (1, 2, 3):
                folder = made.model(f"version {number}", f"v{number}")
                assert main(["register", "churn", folder, "--quiet"]) == 0
            assert main(["promote", "churn:1", "--to", "staging", "--quiet"]) == 0
            yield made
        finally:
            assert main(["down", "--yes", "--quiet"]) == 0
