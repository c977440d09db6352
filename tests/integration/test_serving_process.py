"""The model server as a process: its start, its health, its end."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location(
    "serving_kit", Path(__file__).parents[1] / "unit" / "serving" / "kit.py"
)
assert _spec is not None
assert _spec.loader is not None
kit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kit)

Start = Callable[..., Any]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers that end with the test."""
    made = []

    def begin(version: Any, *argv: str, **env: str) -> Any:
        made.append(kit.Served(version.argv(*argv), env=env))
        return made[-1]

    yield begin
    for server in made:
        server.end()


def test_the_socket_opens_before_the_weights(start: Start, tmp_path: Path) -> None:
    """While a slow model loads, the server lives and says that it is not ready."""
    server = start(kit.torch_version(tmp_path / "v", arguments={"load_s": 1.0}))
    said = server.listening()
    assert said == {"event": "listening", "port": server.port, "pid": server.process.pid}
    assert server.get("/ping") == (503, {"status": "loading"})
    assert server.get("/v2/health/live")[0] == 200
    assert server.get("/v2/health/ready")[0] == 503
    status, headers, body = server.request("POST", "/invocations", b'{"instances":[[1,2,3]]}')
    assert (status, headers["retry-after"]) == (503, "1"), body
    assert server.get("/cloudreg")[1]["ready"] is False
    server.ready()
    status, identity = server.get("/cloudreg")
    assert (identity["ready"], identity["model"], identity["number"]) == (True, "churn", 7)
    assert identity["runtime"] == "torch"
    assert identity["signature"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 3]}]
    server.term()
    assert server.wait() == 0
    assert server.process.stdout.read() == b""


def test_a_signal_while_it_loads(start: Start, tmp_path: Path) -> None:
    """A server that nobody was promised ends at once."""
    server = start(kit.torch_version(tmp_path / "v", arguments={"load_s": 60.0}))
    server.listening()
    server.until(lambda: server.get("/ping")[0] == 503)
    server.term()
    assert server.wait(timeout_s=5.0) == 0


def spoil(version: Any) -> None:
    path = version.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")


def hang(version: Any) -> None:
    version.digest = "sha256:" + "0" * 64


@pytest.mark.parametrize("harm", [spoil, hang])
def test_files_that_are_not_the_registered_ones(start: Start, tmp_path: Path, harm: Any) -> None:
    """One changed byte, or another digest, ends the server with exit code 3 before it serves."""
    version = kit.torch_version(tmp_path / "v")
    harm(version)
    server = start(version)
    assert server.wait() == 3
    assert "not what was registered" in server.logs()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": "raise RuntimeError('no licence')"}, "no licence"),
        ({"code": "import sys\nsys.exit(0)"}, "SystemExit"),
    ],
)
def test_models_that_do_not_load(
    start: Start, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """A model that does not come up ends the server with exit code 4, and the log says why."""
    server = start(kit.torch_version(tmp_path / "v", **changes))
    assert server.wait() == 4
    assert said in server.logs()


def test_options_that_make_no_sense(start: Start, tmp_path: Path) -> None:
    """A bad option, or a port that is taken, ends the server with a line and no traceback."""
    version = kit.torch_version(tmp_path / "v")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for argv, said in ((["--max-batch", "0"], "--max-batch"), (["--port", port], "in use")):
            server = start(version, *argv)
            assert server.wait() == 64
            logs = server.logs()
            assert said in logs
            assert "Traceback" not in logs


def test_prints_of_the_model_are_log_lines(start: Start, tmp_path: Path) -> None:
    """Serving writes to standard output the one line, and into the version's folder nothing."""
    code = f"print('hello from the model', flush=True)\n{kit.CODE}"
    version = kit.torch_version(tmp_path / "v", code=code)
    before = sorted(os.walk(version.folder))
    server = start(version).ready()
    assert sorted(os.walk(version.folder)) == before
    server.term()
    assert server.wait() == 0
    assert server.process.stdout.read() == b""
    assert "hello from the model" in server.logs()


def test_it_ends_with_its_parent(start: Start, tmp_path: Path) -> None:
    """Once standard input is closed, the process is gone."""
    server = start(kit.onnx_version(tmp_path / "v"), "--exit-with-parent")
    server.listening()
    server.process.stdin.close()
    server.process.stdin = None
    assert server.wait(timeout_s=5.0) == 0


def test_a_lost_device_ends_the_process(start: Start, tmp_path: Path) -> None:
    """When only a new process can help, this one makes room for it."""
    server = start(kit.torch_version(tmp_path / "v")).ready()
    status, answer = server.post("/invocations", {"instances": [[911, 2, 3]]})
    assert status == 500
    assert "illegal memory access" in answer["error"]
    assert server.wait() == 5


def test_a_drain_loses_no_request(start: Start, tmp_path: Path) -> None:
    """After SIGTERM health is refused at once, and every request that still comes is answered."""
    server = start(kit.torch_version(tmp_path / "v"), "--drain-s", "3").ready()
    balanced = threading.Event()
    balanced.set()
    answered: list[int] = []

    def client() -> None:
        connection = None
        while balanced.is_set():
            connection = connection or http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("POST", "/invocations", b'{"instances":[[1,2,3]]}')
            answer = connection.getresponse()
            answer.read()
            answered.append(answer.status)
            if answer.getheader("connection") == "close":
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(7)]
        server.until(lambda: len(answered) > 50)
        slow = pool.submit(server.post, "/invocations", {"instances": [[777, 0.3, 3]]})
        server.term()
        # What a load balancer does: it asks, and sends no more once health is refused.
        server.until(lambda: server.get("/ping") == (503, {"status": "draining"}), timeout_s=2.5)
        before = len(answered)
        server.until(lambda: len(answered) > before + 20, timeout_s=2.5)
        balanced.clear()
        for one in clients:
            one.result()
        assert slow.result()[0] == 200
    assert set(answered) == {200}
    assert server.wait() == 0


def test_requests_under_way_outlive_the_drain(start: Start, tmp_path: Path) -> None:
    """A request that takes longer than the drain is answered before the process ends."""
    server = start(kit.torch_version(tmp_path / "v"), "--drain-s", "0").ready()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.post, "/invocations", {"instances": [[777, 0.3, 3]]})
        server.until(lambda: "cloudreg_queue_seconds_count 1.0" in scrape(server))
        server.term()
        assert slow.result()[0] == 200
    assert server.wait() == 0


def scrape(server: Any) -> str:
    text: str = server.request("GET", "/metrics")[2].decode()
    return text


def test_overload_is_refused_not_queued(start: Start, tmp_path: Path) -> None:
    """A full queue answers 503 with the time to come again, and is counted."""
    server = start(
        kit.torch_version(tmp_path / "v"), "--max-batch", "1", "--max-queue", "1"
    ).ready()
    body = json.dumps({"instances": [[777, 0.3, 3]]}).encode()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.request("POST", "/invocations", body), range(8)))
    refused = [headers for status, headers, _ in answers if status == 503]
    assert {status for status, _, _ in answers} == {200, 503}
    assert all(headers["retry-after"] == "1" for headers in refused)
    assert f"cloudreg_shed_total {len(refused)}.0" in scrape(server)
    assert server.predict([[1, 2, 3]])


def test_a_stuck_device_fails_health(start: Start, tmp_path: Path) -> None:
    """While one batch takes longer than anybody waits, health is refused; then it recovers."""
    server = start(kit.torch_version(tmp_path / "v"), "--request-timeout-s", "0.1").ready()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.post, "/invocations", {"instances": [[777, 2, 3]]})
        server.until(lambda: server.get("/ping")[0] == 503)
        assert slow.result()[0] in (200, 504)
    server.until(lambda: server.get("/ping")[0] == 200)


def test_sagemaker(start: Start, tmp_path: Path) -> None:
    """In SageMaker's container the folder, the port and the word serve are enough."""
    (tmp_path / "ml").mkdir()
    version = kit.onnx_version(tmp_path / "ml" / "model")
    env = {"CLOUDREG_DIGEST": version.digest, "CLOUDREG_MODEL": "churn", "CLOUDREG_NUMBER": "7"}
    server = kit.Served(
        ["serve", "--port", "0", "--host", "127.0.0.1"],
        env={"SAGEMAKER_BASE_DIR": str(tmp_path / "ml"), **env},
    )
    try:
        server.ready()
        assert server.get("/cloudreg")[1]["platform"] == "sagemaker"
        assert len(server.predict([[1, 2, 3]])) == 1
    finally:
        server.end()


def test_vertex(start: Start, tmp_path: Path) -> None:
    """On Vertex AI the routes are its own, the colon included, and the usual ones stay."""
    server = start(
        kit.onnx_version(tmp_path / "v"),
        *("--host", "127.0.0.1"),
        AIP_MODE="PREDICTION",
        AIP_HEALTH_ROUTE="/v1/endpoints/1/deployedModels/2",
        AIP_PREDICT_ROUTE="/v1/endpoints/1/deployedModels/2:predict",
    ).ready()
    assert server.get("/v1/endpoints/1/deployedModels/2")[0] == 200
    request = {"instances": [[1.0, 2.0, 3.0]], "parameters": {}}
    status, answer = server.post("/v1/endpoints/1/deployedModels/2:predict", request)
    assert (status, answer) == server.post("/invocations", request)
    assert status == 200
    # W is 0 to 5 row by row, b is 1 and -1: every product is exact in float32.
    assert answer == {"predictions": [[17.0, 21.0]]}
    server.term()
    server.until(lambda: server.get("/v1/endpoints/1/deployedModels/2")[0] == 503)


def test_deterministic_answers(start: Start, tmp_path: Path) -> None:
    """With --deterministic, the same request has the same bytes however busy the server is."""
    version = kit.onnx_version(tmp_path / "v")
    server = start(version, "--deterministic", "--threads", "1").ready()
    body = json.dumps({"instances": [[0.1, 0.2, 0.3]]}).encode()
    with ThreadPoolExecutor(8) as pool:
        answers = set(
            pool.map(lambda _: server.request("POST", "/invocations", body)[2], range(64))
        )
    assert len(answers) == 1
    assert 'cloudreg_batch_rows_bucket{le="1.0"} 64.0' in scrape(server)
