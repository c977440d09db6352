"""A model server in the foreground: real weights, a real process, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from cloudreg.importers.torch import save


@pytest.fixture(scope="session")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that doubles two numbers."""
    shape = ["batch", 2]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = tmp_path_factory.mktemp("models") / "doubler"
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    return folder


@contextmanager
def serving(temporary: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Run ``cloudreg serve``; yield the process and what it said once it was ready."""
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudreg", "serve", *words, "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def ask(url: str, path: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(
        url + path, data, {"Content-Type": "application/json"} if data else {}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    end = time.monotonic() + 10.0
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not is_running(pid)


def test_version(project: Any, cloudreg: Any, doubler: Path) -> None:
    """A version is served by its digest, ends on SIGTERM with 0, and leaves no file and process."""
    digest = cloudreg("register", "doubler", str(doubler), "--json").json["digest"]

    with serving(project.root / "tmp", "doubler@dev", "--threads", "1") as (process, said):
        assert said["digest"] == ask(said["url"], "/cloudreg")["digest"] == digest
        assert ask(said["url"], "/cloudreg")["number"] == said["number"] == 1
        answer = ask(said["url"], "/invocations", {"instances": [[1.5, 2]]})
        assert answer == {"predictions": [[3.0, 4.0]]}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    assert gone(said["pid"])
    assert list((project.root / "tmp").glob("cloudreg*")) == []


def test_folder(tmp_path: Path, doubler: Path) -> None:
    """A folder that was never registered is served without any configuration, until Ctrl-C."""
    with serving(tmp_path / "tmp", str(doubler), "--deterministic") as (process, said):
        assert said["model"] == "doubler"
        assert said["number"] is None
        assert ask(said["url"], "/invocations", {"instances": [[1, 0]]}) == {
            "predictions": [[2.0, 0.0]]
        }
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    assert gone(said["pid"])
    assert list((tmp_path / "tmp").glob("cloudreg*")) == []
    # Nothing is written into a folder that somebody only wanted to see served.
    assert [path.name for path in doubler.iterdir()] == ["model.onnx"]


def test_saved_folder(tmp_path: Path) -> None:
    """A folder is served as it was saved; its description and what tools left do no harm."""
    model = torch.nn.Linear(2, 1)
    folder = save(
        model,
        tmp_path / "linear",
        sample=torch.rand(2, 2),
        factory="torch.nn:Linear",
        arguments={"in_features": 2, "out_features": 1},
    )
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    with serving(tmp_path / "tmp", str(folder)) as (_, said):
        answer = ask(said["url"], "/invocations", {"instances": [[1, 2]]})

    wanted = model(torch.tensor([[1.0, 2.0]])).detach().numpy()
    # Float32 in another order of sums.
    assert answer["predictions"] == pytest.approx(wanted, abs=1e-6)


def test_file(tmp_path: Path, doubler: Path) -> None:
    """A lone file is served, whatever lies beside it."""
    shutil.copy(doubler / "model.onnx", tmp_path / "model.onnx")
    (tmp_path / "notes.txt").write_text("not of the model")
    with serving(tmp_path / "tmp", str(tmp_path / "model.onnx")) as (_, said):
        assert ask(said["url"], "/invocations", {"instances": [[1, 2]]}) == {
            "predictions": [[2.0, 4.0]]
        }


def test_killed(tmp_path: Path, doubler: Path) -> None:
    """A command that is killed takes its server with it."""
    with serving(tmp_path / "tmp", str(doubler)) as (process, said):
        process.kill()
        process.wait(20)

        assert gone(said["pid"])


def test_news(tmp_path: Path, doubler: Path) -> None:
    """People are told the address and what to type, and that it is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudreg", "serve", str(doubler), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    news = ""
    while "/metrics" not in news:
        news += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert process.returncode == 0
    assert f"{doubler} answers at http://127.0.0.1:" in line
    assert """-d '{"instances": [[0, 0]]}'""" in news
    assert err.endswith(f"{doubler} is not served any more\n")
    assert out == ""


def test_taken_port(tmp_path: Path, doubler: Path, cloudreg: Any) -> None:
    """A port that is taken is refused like any option that cannot be."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = cloudreg("serve", str(doubler), "--port", str(port))

    assert (said.code, said.out) == (64, "")
    assert "the model server refuses its options" in said.err


def test_broken_weights(project: Any, cloudreg: Any, doubler: Path) -> None:
    """Files of which no model comes end with 1."""
    folder = project.root / "broken"
    folder.mkdir()
    data = (doubler / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data.replace(b"Add", b"Odd"))

    said = cloudreg("serve", str(folder), "--port", "0")

    assert (said.code, said.out) == (1, "")
    assert "ended with exit code 4" in said.err


@pytest.mark.parametrize(
    ("what", "code", "reason"),
    [
        ("churn:1", 1, "churn:1 cannot be served here: its runtime is not stated"),
        ("first", 1, "first cannot be served here: its runtime is not stated"),
        ("nowhere", 1, "'nowhere' is neither a reference to a version nor a folder"),
        ("churn:9", 1, "no version churn:9"),
        ("churn:x", 64, "a version number is a whole number"),
    ],
)
def test_nothing_to_serve(churn: Any, cloudreg: Any, what: str, code: int, reason: str) -> None:
    """What cannot be served is refused before anything is fetched or started."""
    said = cloudreg("serve", what)

    assert (said.code, said.out) == (code, "")
    assert reason in said.err
