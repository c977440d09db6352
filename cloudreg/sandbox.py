"""A version really served, for as long as somebody looks at it.

The same bytes, checked again, and the same model server as on an endpoint: what answers here is
what would answer there.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cloudreg import artifacts
from cloudreg.errors import InvalidRequest, OperationFailed, Unsupported
from cloudreg.operations import SILENT, Progress, poll_until
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion

# -P keeps the folder that it starts in off the import path.
COMMAND = (sys.executable, "-P", "-m", "cloudreg.serving")

HOST = "127.0.0.1"
SERVED = ("torch", "onnx")
"""Runtimes that the model server has; others bring an image of their own."""

PING_S = 5.0
END_S = 3.0
"""From SIGTERM to SIGKILL: nobody waits for an answer any more."""

LOG_LINES = 50
MAX_LINE = 2000


class Server:
    """A running model server.

    Attributes:
        timeout_s: Patience for the start, and for each answer.
    """

    def __init__(self, process: subprocess.Popen[bytes], *, ref: str, timeout_s: float) -> None:
        """Listen to what *process* says.

        Args:
            process: Started, with all its streams as pipes.
            ref: The version, for messages.
            timeout_s: Patience for the start, and for each answer.
        """
        self._process = process
        self._ref = ref
        self.timeout_s = timeout_s
        self._port: int | None = None
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        assert process.stdout is not None
        assert process.stderr is not None
        # Both streams are read to their end, or the server would stop at a full pipe.
        self._pumps = [
            threading.Thread(target=self._pump, args=(stream,), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for pump in self._pumps:
            pump.start()

    def wait_until_ready(self) -> None:
        """Return once the model is loaded.

        Raises:
            OperationFailed: The server ended, or was not ready in time; with its last words.
        """
        ready = poll_until(
            self._is_ready,
            bool,
            timeout_s=self.timeout_s,
            interval_s=0.02,
            max_interval_s=0.1,
        )
        if not ready:
            raise self._failed(f"was not ready after {self.timeout_s:g} s")

    def predict(self, instances: Sequence[Any]) -> list[Any]:
        """Return one prediction for each instance.

        Raises:
            InvalidRequest: The server refuses the instances; the message is its own.
            OperationFailed: It fails, ends, or does not answer in time; with its last words.
        """
        try:
            body = json.dumps({"instances": list(instances)}, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"instances are not plain JSON: {error}") from error
        try:
            status, answer = self._ask("POST", "/invocations", body, timeout_s=self.timeout_s)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(f"gave no answer ({type(error).__name__}: {error})") from error
        if 400 <= status < 500:
            raise InvalidRequest(f"the model server of {self._ref} refuses: {_reason(answer)}")
        if status != 200:
            raise self._failed(f"answered {status}: {_reason(answer)}")
        predictions = _predictions(answer)
        if predictions is None or len(predictions) != len(instances):
            raise self._failed(
                f"gave no list of {len(instances)} predictions: {_shortened(answer)}"
            )
        return predictions

    def end(self) -> None:
        """Make the process end, whatever it does."""
        process = self._process
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for pump in self._pumps:
            # A child of the server may keep the pipe open; the thread then ends with it.
            pump.join(1.0)

    def _is_ready(self) -> bool:
        code = self._process.poll()
        if code is not None:
            raise self._failed(f"ended {_how(code)} before it was ready")
        if self._port is None:
            return False
        try:
            status, _ = self._ask("GET", "/ping", None, timeout_s=PING_S)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def _ask(
        self, method: str, path: str, body: bytes | None, *, timeout_s: float
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=timeout_s)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _pump(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(1_000_000):
                if self._port is None and stream is self._process.stdout:
                    self._port = _port(line)
                    if self._port is not None:
                        continue
                self._lines.append(line.decode(errors="replace").rstrip()[:MAX_LINE])

    def _failed(self, what: str) -> OperationFailed:
        if self._process.poll() is not None:
            # Its last words matter most, and are on their way.
            for pump in self._pumps:
                pump.join(1.0)
        return OperationFailed(f"the model server of {self._ref} {what}", logs=tuple(self._lines))


@contextmanager
def serve(
    version: ModelVersion,
    store: ObjectStore,
    *,
    progress: Progress = SILENT,
    timeout_s: float = 120.0,
    command: Sequence[str] = COMMAND,
) -> Iterator[Server]:
    """Serve a version on this machine until the context ends.

    Args:
        version: What to serve.
        store: Where its files are.
        progress: Where it is shown.
        timeout_s: Patience for the start, and for each answer.
        command: The model server; its options are added.

    Raises:
        IntegrityError: The store has other bytes than were registered; nothing is started.
        Unsupported: The version has no runtime that the model server knows.
        OperationFailed: The server ended, or was not ready in time; with its last words.
    """
    runtime = version.manifest.runtime
    if tuple(command) == COMMAND and (runtime is None or runtime.kind not in SERVED):
        kind = runtime.kind if runtime is not None else "none"
        raise Unsupported(
            f"{version.ref} cannot be served here: its runtime is {kind}",
            hint=f"the model server runs {' and '.join(SERVED)}",
        )
    with tempfile.TemporaryDirectory(prefix="cloudreg-sandbox-") as folder:
        model = Path(folder) / "model"
        model.mkdir()
        artifacts.download(version, store, model, progress=progress)
        options = [
            "--model-dir", str(model),
            "--digest", version.digest,
            "--model", version.model,
            "--number", str(version.number),
            "--host", HOST,
            "--port", "0",
            "--exit-with-parent",
        ]  # fmt: skip
        with progress.task(f"starting {version.ref}"):
            server = _started(
                [*command, *options], cwd=folder, ref=version.ref, timeout_s=timeout_s
            )
        try:
            with progress.task(f"loading {version.ref}"):
                server.wait_until_ready()
            yield server
        finally:
            server.end()


def _started(command: list[str], *, cwd: str, ref: str, timeout_s: float) -> Server:
    # Settings of this process, or of a platform that it runs on, are not the server's.
    env = {name: text for name, text in os.environ.items() if not name.startswith("CLOUDREG_")}
    env["CLOUDREG_PROVIDER"] = "local"
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, env=env)
    except OSError as error:
        raise OperationFailed(f"the model server of {ref} cannot be started: {error}") from error
    return Server(process, ref=ref, timeout_s=timeout_s)


def _port(line: bytes) -> int | None:
    with suppress(ValueError, RecursionError):
        said = json.loads(line)
        if isinstance(said, dict) and said.get("event") == "listening":
            port = said.get("port")
            return port if isinstance(port, int) else None
    return None


def _predictions(answer: bytes) -> list[Any] | None:
    with suppress(ValueError, RecursionError):
        said = json.loads(answer, parse_constant=_refuse)
        found = said.get("predictions") if isinstance(said, dict) else None
        return found if isinstance(found, list) else None
    return None


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _reason(answer: bytes) -> str:
    """Return the error of an answer, with the field that it names."""
    with suppress(ValueError, RecursionError):
        said = json.loads(answer)
        if isinstance(said, dict) and isinstance(said.get("error"), str):
            where = said.get("field")
            named = isinstance(where, str) and where not in said["error"]
            return f"{where}: {said['error']}" if named else str(said["error"])
    return _shortened(answer)


def _shortened(answer: bytes) -> str:
    text = answer[:300].decode(errors="replace")
    return text + "…" if len(answer) > 300 else text or "nothing"


def _how(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"
