"""``cloudreg emulate`` and ``python -m cloudreg_emulator``, as people and CI call them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest

from cloudreg.cli import main
from cloudreg_emulator.__main__ import main as emulator

EMULATE = [sys.executable, "-m", "cloudreg", "emulate"]


def call(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EMULATE, *words], capture_output=True, text=True, check=False, timeout=60, **more
    )


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return False


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start an emulator in the foreground; it is ended whatever happens."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*EMULATE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


INSIDE = """\
import os, sys
import boto3

print(sys.argv[1:])
print(sorted(name for name, value in os.environ.items() if value == "elsewhere"))
s3 = boto3.client("s3")
s3.create_bucket(Bucket="bucket")
print(s3.list_buckets()["Buckets"][0]["Name"])
raise SystemExit(7)
"""


def test_command_runs_inside() -> None:
    """A command keeps its words, reaches the emulator and nothing else, and ends as it ends."""
    leading_away = ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_REGION")
    env = {**os.environ, **dict.fromkeys(leading_away, "elsewhere"), "MINE": "elsewhere"}

    done = call(
        *("--scale", "0.1", "--", sys.executable, "-c", INSIDE),
        *("--json", "--", "a b", "--port"),
        env=env,
    )

    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == ["['--json', '--', 'a b', '--port']", "['MINE']", "bucket"]
    assert done.stderr == ""


def test_command_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    """A command that cannot be run ends with the shell's codes."""
    assert emulator(["--", "no-such-command-here"]) == 127
    assert capfd.readouterr().err == "error: no-such-command-here: command not found\n"
    assert emulator(["--", "/"]) == 126
    assert capfd.readouterr().err == "error: /: Permission denied\n"


def test_command_that_is_killed(capfd: pytest.CaptureFixture[str]) -> None:
    """A command that dies of a signal ends with 128 and the signal."""
    assert emulator(["--", "sh", "-c", "kill -9 $$"]) == 137
    assert capfd.readouterr().err == "sh was ended by SIGKILL\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(started: Any, number: signal.Signals) -> None:
    """The command gets the signal and decides; nobody is left behind."""
    script = (
        "import os, signal, sys\n"
        "def end(number, frame): print('told', number, flush=True); sys.exit(9)\n"
        "for n in (1, 2, 15): signal.signal(n, end)\n"
        "print(os.getpid(), flush=True)\n"
        "while True: signal.pause()\n"
    )
    process = started("--", sys.executable, "-c", script)
    child = int(process.stdout.readline())

    process.send_signal(number)
    out, _ = process.communicate(timeout=30)

    assert (process.returncode, out) == (9, f"told {int(number)}\n")
    assert gone(child)


def test_foreground(started: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """In the foreground it prints the environment, answers, and ends when it is told to."""
    process = started("--json")
    facts = json.loads(process.stdout.readline())

    assert facts["pid"] == process.pid
    aws, google = facts["clouds"]
    assert aws["url"] == facts["environment"]["AWS_ENDPOINT_URL"]
    assert google["url"] == facts["environment"]["STORAGE_EMULATOR_HOST"]
    client = boto3.client(
        "s3",
        endpoint_url=aws["url"],
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    client.create_bucket(Bucket="bucket")
    client.close()

    port = aws["url"].rsplit(":", 1)[1]
    assert emulator(["--port", port]) == 1
    refused = capfd.readouterr().err
    assert refused.startswith(f"error: cannot listen on 127.0.0.1 port {port}: ")
    assert refused.count("\n") == 1

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_lines_for_a_shell(started: Any) -> None:
    """What is printed can be evaluated by a shell."""
    process = started()
    said = process.stderr.readline()
    assert "Ctrl-C ends it" in said
    process.send_signal(signal.SIGINT)
    text = process.stdout.read()
    assert process.wait(30) == 0

    done = subprocess.run(
        ["sh", "-c", f"{text}\necho $AWS_ENDPOINT_URL $AWS_REGION"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split()[0] in said
    assert done.stdout.split()[1] == "us-east-1"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--cloud", "mars"), "invalid choice: 'mars'"),
        (("--port", "x"), "'x' is not a whole number"),
        (("--",), "no command behind --"),
        (("pytest",), "unrecognized arguments: pytest"),
        (("--config", "cloudreg.toml"), "an emulator has no configuration"),
    ],
)
def test_usage(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str) -> None:
    """Words that can never be right end with 64 and start nothing."""
    assert main(["emulate", *words]) == 64
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--port", "70000"), "'70000' is not a port"),
        (("--image", "x"), "PATTERN=COMMAND is wanted"),
        (("--image", "x='"), "No closing quotation"),
        (("--scale", "-1"), "'-1' is not a number from 0"),
        (("--describes", "many"), "'many' is not a whole number from 0"),
    ],
)
def test_usage_of_the_module(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    """What only the emulator understands, it refuses itself, with the same exit code."""
    with pytest.raises(SystemExit) as ended:
        emulator(words)

    assert ended.value.code == 64
    assert reason in capsys.readouterr().err


def test_missing_extra(tmp_path: Path) -> None:
    """Without the extra the hint is what to install."""
    script = (
        "import sys; sys.modules['moto'] = None\n"
        "from importlib.machinery import PathFinder\n"
        "found = PathFinder.find_spec\n"
        "class Without:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        return None if name == 'moto' else found(name, path, target)\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [Without]\n"
        "del sys.modules['moto']\n"
        "from cloudreg.cli import main\n"
        "sys.exit(main(['emulate']))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert done.returncode == 64
    assert "moto is missing" in done.stderr
    assert "pip install 'cloudreg[emulator]'" in done.stderr


def test_fixtures(tmp_path: Path) -> None:
    """A user's own tests get an emulated AWS by naming the plug-in."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cloudreg_emulator.pytest_plugin"]\n')
    (tmp_path / "test_deploy.py").write_text(
        "import subprocess, sys, boto3\n"
        'SCRIPT = \'import boto3; boto3.client("s3").create_bucket(Bucket="bucket")\'\n'
        "def test_in_process(emulated_aws):\n"
        "    boto3.client('s3').create_bucket(Bucket='bucket')\n"
        "    assert emulated_aws.fleet.pids == []\n"
        "def test_a_script(aws_server):\n"
        "    subprocess.run([sys.executable, '-c', SCRIPT], check=True)\n"
        "    client = boto3.client('s3')\n"
        "    assert client.list_buckets()['Buckets'][0]['Name'] == 'bucket'\n"
        "    assert aws_server.faults.armed == []\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr
