"""The command line as a process: pipes, terminals, signals, and errors that nobody expected."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins

CLOUDREG = (sys.executable, "-m", "cloudreg")


def until(ask: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    while not ask():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_module(churn: Any) -> None:
    """``python -m cloudreg`` is the command."""
    done = subprocess.run([*CLOUDREG, "list", "--json"], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["total"] == 1
    # One line, so that programs can read it as one.
    assert done.stdout.count("\n") == 1


def without_reader(*words: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command whose stdout nobody reads."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            [*CLOUDREG, *words], stdout=write, stderr=stderr, text=True, check=False
        )
    finally:
        os.close(write)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("list churn", 0),
        ("list --json", 0),
        ("--help", 0),
        ("list --help", 0),
        ("promote churn:1 --to staging --dry-run", 2),
        ("show churn:9 --json", 1),
    ],
)
def test_no_reader(churn: Any, line: str, code: int) -> None:
    """Output that nobody reads is no error, and changes no exit code."""
    done = without_reader(*line.split())

    assert done.returncode == code
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_work_without_a_reader(churn: Any, cloudreg: Any) -> None:
    """What was asked for is done although nobody reads the answer."""
    assert cloudreg("promote", "churn:1", "--to", "staging", "--dry-run", "--out", "p").code == 2

    assert without_reader("apply", "p").returncode == 0

    assert cloudreg("list", "churn", "--json").json["stages"]["staging"] == 1


def test_work_without_any_reader(served: Any, cloudreg: Any) -> None:
    """A rollout goes on to its end although nobody reads the news of its steps either."""
    text = (served.root / "cloudreg.toml").read_text()
    steps = '[endpoints.churn-staging.rollout]\nstrategy = "canary"\nsteps = [50, 100]\n'
    (served.root / "cloudreg.toml").write_text(text + steps)
    try:
        done = without_reader("promote", "churn:2", "--to", "staging", stderr=subprocess.STDOUT)

        assert done.returncode == 0
        status = cloudreg("status", "--json").json
        assert (status["stages"][1]["number"], status["rollouts"]) == (2, [])
        # Nor does it make a failure or pending changes look like success.
        lines = {"promote churn:1 --to staging --dry-run": 2, "show churn:9": 1, "lst": 64}
        for line, code in lines.items():
            assert without_reader(*line.split(), stderr=subprocess.STDOUT).returncode == code
    finally:
        (served.root / "cloudreg.toml").write_text(text)
        assert cloudreg("promote", "churn:1", "--to", "staging").code == 0


def test_full_disk(churn: Any) -> None:
    """An answer that cannot be written is an error and no bug; news that cannot is lost."""
    with Path("/dev/full").open("w") as full:
        for words in (["list"], ["list", "--json"]):
            done = subprocess.run(
                [*CLOUDREG, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
            said = "" if "--json" in words else "error: the answer cannot be written: "
            assert done.returncode == 1
            assert done.stderr.startswith(said)
            assert "bug" not in done.stderr
            assert "Traceback" not in done.stderr
        done = subprocess.run([*CLOUDREG, "list"], stdout=subprocess.PIPE, stderr=full, check=False)
        assert (done.returncode, b"churn" in done.stdout) == (0, True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_descriptors(churn: Any, cloudreg: Any, closed: str) -> None:
    """A process without stdout or stderr, as a daemon starts one, does its work."""
    words = ["promote", "churn:1", "--to", "staging"]
    script = f'exec "$@" {closed}'
    done = subprocess.run(["sh", "-c", script, "sh", *CLOUDREG, *words], check=False)

    assert done.returncode == 0
    assert cloudreg("list", "churn", "--json").json["stages"]["staging"] == 1


def test_narrow_encoding(churn: Any, cloudreg: Any) -> None:
    """Text that the terminal's encoding does not have is escaped, and ends nothing."""
    assert cloudreg("register", "churn", "first", "--label", "team=Zürich").code == 0

    done = subprocess.run(
        [*CLOUDREG, "show", "churn:3"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )

    assert done.returncode == 0
    assert b"Z\\xfcrich" in done.stdout


class Terminal:
    """A process at a terminal, with a person in front of it."""

    def __init__(self, *words: str, stdout: int | None = None) -> None:
        self.leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [*CLOUDREG, *words],
            stdin=follower,
            stdout=stdout if stdout is not None else follower,
            stderr=follower,
        )
        os.close(follower)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        while text not in self.shown:
            self.shown += os.read(self.leader, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self.leader, text.encode())

    def end(self) -> int:
        try:
            while data := os.read(self.leader, 4096):
                self.shown += data.decode()
        except OSError:
            pass  # the process closed its side
        os.close(self.leader)
        return self.process.wait(20)


def test_question(served: Any, cloudreg: Any) -> None:
    """At a terminal a removal is shown and asked about; anything but yes changes nothing."""
    for answer in ("n\n", "\n", "\x04"):
        terminal = Terminal("down")
        terminal.wait_for("Remove 1 endpoint? [y/N] ")
        assert "- endpoint churn-staging on local (churn:1, 100 %)" in terminal.shown
        terminal.type(answer)
        assert terminal.end() == 1
        assert "nothing was done" in terminal.shown
    assert cloudreg("status", "--json").json["stages"][1]["endpoints"][0]["status"] == "ready"


def test_yes(served: Any, cloudreg: Any) -> None:
    """At a terminal a yes does what was shown."""
    text = (served.root / "cloudreg.toml").read_text()
    (served.root / "cloudreg.toml").write_text(text + "max_replicas = 2\n")
    terminal = Terminal("apply")
    terminal.wait_for("Do this? [y/N] ")
    assert "max_replicas: 1 -> 2" in terminal.shown
    terminal.type("y\n")

    assert terminal.end() == 0
    assert cloudreg("plan").code == 0
    (served.root / "cloudreg.toml").write_text(text)
    assert cloudreg("apply").code == 0


def test_question_beside_a_file(served: Any) -> None:
    """Whoever is asked sees what about, also where the answer goes into a file."""
    with Path("out.txt").open("w") as file:
        terminal = Terminal("down", stdout=file.fileno())
        terminal.wait_for("[y/N] ")
        assert "- endpoint churn-staging on local" in terminal.shown
        terminal.type("n\n")

        assert terminal.end() == 1


def test_interrupt(served: Any) -> None:
    """Ctrl-C ends a command with 130 and one line."""
    request = json.dumps({"log": "asked by a hurried one", "sleep_s": 30})
    process = subprocess.Popen(
        [*CLOUDREG, "predict", "churn-staging", request],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Workspace.load() as workspace:
        live = workspace.endpoint("churn-staging")
        until(lambda: any("hurried" in line for line in live.logs()))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")


@pytest.fixture
def moon(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose home is a stranger's provider that breaks when it is opened."""
    (tmp_path / "moonlight.py").write_text(
        "from pydantic import BaseModel\n"
        "from cloudreg.capabilities import Capabilities\n"
        "from cloudreg.provider import ProviderPlugin\n"
        "class Settings(BaseModel):\n    pass\n"
        "def broken(settings, context):\n    raise RuntimeError('no moon\\x1b[2J tonight')\n"
        "PLUGIN = ProviderPlugin(name='moon', summary='', settings=lambda: Settings,\n"
        "                        open=broken, capabilities=Capabilities)\n"
    )
    info = tmp_path / "moonlight-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moonlight\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nmoon = moonlight:PLUGIN\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (project.root / "cloudreg.toml").write_text(
        'home = "moon"\n[targets.moon]\nprovider = "moon"\n'
    )


def test_bug(moon: None, cloudreg: Any) -> None:
    """What nobody expected ends with 70, one line, and how to find out more."""
    said = cloudreg("list")

    assert (said.code, said.out) == (70, "")
    assert said.err == (
        "error: unexpected RuntimeError: no moon\\u001b[2J tonight\n"
        "  hint: this is a bug; CLOUDREG_TRACEBACK=1 shows where it happened\n"
    )


def test_bug_as_json(moon: None, cloudreg: Any) -> None:
    """With --json that too is JSON on stdout."""
    said = cloudreg("list", "--json")

    assert (said.code, said.err) == (70, "")
    assert said.json["error"] == "RuntimeError"
    assert said.json["exit_code"] == 70


def test_traceback(moon: None, cloudreg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable shows where it happened."""
    monkeypatch.setenv("CLOUDREG_TRACEBACK", "1")

    said = cloudreg("list")

    assert said.code == 70
    assert said.err.startswith("Traceback (most recent call last):\n")
    assert "moonlight.py" in said.err
