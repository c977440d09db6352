"""A project on two local targets, copied for each case, and the process that is crashed in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, artifacts
from cloudreg.errors import CloudregError
from cloudreg.manifest import Lineage
from cloudreg.operations import wait
from cloudreg.testing.faults import Call, Fault, recorded

STANDIN = Path(__file__).parents[1] / "unit" / "local" / "standin.py"
SCORING = Path(__file__).parents[1] / "unit" / "parity" / "server.py"
"""The stand-in, with predictions that can be compared."""

PARITY = """
[[stages.prod.gates]]
kind = "parity"
path = "golden.jsonl"
"""

CONFIGURATION = """
home = "local"

[targets.local]
provider = "local"
path = ".local"
server_command = {command}

[targets.other]
provider = "local"
path = ".other"
server_command = {command}

[stages.dev]
[stages.staging]
targets = ["local", "other"]
gates = []
[stages.prod]
targets = ["local", "other"]
gates = []

[endpoints.churn-prod]
model = "churn"
stage = "prod"
env = {{ STANDIN_MARK = "{mark}" }}

[endpoints.churn-prod.rollout]
strategy = "canary"
steps = [20, 100]

[endpoints.churn-other]
model = "churn"
stage = "prod"
target = "other"
"""


@dataclass
class Tally:
    """Cases that were tried and survived, by family."""

    tried: dict[str, int] = field(default_factory=dict)
    survived: dict[str, int] = field(default_factory=dict)


class Project:
    """One copy of the project."""

    def __init__(self, root: Path, forge: Callable[[dict[str, object]], int]) -> None:
        self.root = root
        self.log = root / "forge.log"
        self._forge = forge
        self._record = root / "calls.jsonl"

    def configure(self, *, mark: str = "old", parity: bool = False) -> None:
        """Write the file; with *parity* both targets are asked before traffic moves."""
        server = [str(SCORING), "0"] if parity else [str(STANDIN)]
        command = json.dumps([sys.executable, "-I", *server])
        text = CONFIGURATION.format(command=command, mark=mark)
        if parity:
            rows = [{"instance": n, "expected": {"score": 2.0 * n}} for n in range(3)]
            (self.root / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
            head, _, rest = text.partition("[stages.prod]")
            text = f"{head}[stages.prod]{rest.replace('gates = []', PARITY, 1)}"
        (self.root / "cloudreg.toml").write_text(text)

    def open(self, actor: str = "bea") -> Workspace:
        return Workspace.load(self.root, actor=actor, wait_s=20.0, timeout_s=30.0)

    def crash(self, verb: str, *faults: Fault) -> int:
        """Do a verb in another process with faults, and return its exit code."""
        self._record.unlink(missing_ok=True)
        return self._forge(
            {
                "root": str(self.root),
                "verb": verb,
                "actor": "cleo" if verb == "approve" else "ada",
                "faults": [fault.to_json() for fault in faults],
                "record": str(self._record),
                "log": str(self.log),
            }
        )

    def calls(self) -> list[Call]:
        return recorded(self._record)

    def check(self, ws: Workspace) -> None:
        """The chain is whole, nothing is open, all targets show and run what the ledger says."""
        verification = ws.verify("churn")
        assert verification.ok, verification.problems
        fold = ws.fold("churn")
        assert fold.open is None
        assert ws.drift("churn") == []
        # What a killed upload left is swept a day later.
        artifacts.sweep(ws.registry.store, now=time.time() + 2 * artifacts.ABANDONED_S)
        assert list(ws.registry.store.list("uploads/")) == []

    def served(self, ws: Workspace, name: str) -> int:
        return int(json.loads(ws.endpoint(name).invoke(b"{}"))["number"])

    def clean(self) -> None:
        with suppress(FileNotFoundError), self.open() as ws:
            for target in ws.targets:
                endpoints = ws.targets[target].endpoints
                for path in self.root.glob(f".{target}/endpoints/*/desired.json"):
                    name = path.parent.name
                    try:
                        wait(endpoints.delete(name), timeout_s=20.0)
                    except CloudregError:
                        observed = json.loads((path.parent / "observed.json").read_bytes())
                        os.kill(observed["pid"], signal.SIGKILL)
                        raise


Run = Callable[[dict[str, Any]], Any]


@contextmanager
def _forged(script: Path) -> Iterator[Run]:
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def run(question: dict[str, Any]) -> Any:
            asked.write(json.dumps(question) + "\n")
            asked.flush()
            return json.loads(answers.readline())

        yield run
        asked.close()


@pytest.fixture(scope="session")
def forged() -> Callable[[Path], AbstractContextManager[Run]]:
    """Return what starts a forge, which runs each case that it is asked in a forked process."""
    return _forged


@pytest.fixture(scope="session")
def forge(forged: Callable[[Path], AbstractContextManager[Run]]) -> Iterator[Run]:
    """Run a case in a forked process."""
    with forged(Path(__file__).with_name("forge.py")) as run:
        yield run


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, forge: Callable[..., int]) -> Path:
    """Two versions; the first holds staging and prod; no endpoint runs."""
    project = Project(tmp_path_factory.mktemp("template"), forge)
    project.configure()
    for number in (1, 2):
        folder = project.root / "build" / str(number)
        folder.mkdir(parents=True)
        (folder / "weights.txt").write_text(f"weights {number}")
    new = project.root / "build" / "new"
    new.mkdir()
    (new / "weights.txt").write_text("weights 3")
    (new / "large.bin").write_bytes(b"x" * 1_500_000)
    with project.open("ada") as ws:
        for number in (1, 2):
            ws.register("churn", project.root / "build" / str(number), lineage=Lineage())
        ws.promote("churn:1", to="staging")
        # The endpoints come with the cases that need them: a process cannot be copied.
        text = (project.root / "cloudreg.toml").read_text()
        (project.root / "cloudreg.toml").write_text(text.partition("[endpoints")[0])
    with project.open("ada") as ws:
        ws.promote("churn:1", to="prod")
    (project.root / "cloudreg.toml").write_text(text)
    return project.root


@pytest.fixture
def project(
    template: Path, tmp_path: Path, forge: Callable[..., int]
) -> Iterator[Callable[[], Project]]:
    """Return fresh copies of the project, one after the other."""
    made: list[Project] = []

    def make() -> Project:
        if made:
            made[-1].clean()
            # A supervisor may still be removing its own folder.
            shutil.rmtree(made[-1].root, ignore_errors=True)
        root = tmp_path / f"p{len(made)}"
        shutil.copytree(template, root)
        made.append(Project(root, forge))
        return made[-1]

    yield make
    if made:
        made[-1].clean()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts for the summary; they travel with the report, also from another process."""
    counts = Tally()
    yield counts
    request.node.user_properties.append(("faults", [counts.tried, counts.survived]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults were tried."""
    total = Tally()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "teardown":
                continue
            for name, counts in report.user_properties:
                if name == "faults":
                    for into, found in zip((total.tried, total.survived), counts, strict=True):
                        for family, number in found.items():
                            into[family] = into.get(family, 0) + number
    for family, tried in sorted(total.tried.items()):
        survived = total.survived.get(family, 0)
        terminalreporter.write_line(f"faults, {family}: {tried} tried, {survived} survived")
