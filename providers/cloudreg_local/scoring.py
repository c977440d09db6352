"""The process of a job: model servers, and the lines of a data set in their order."""

from __future__ import annotations

import http.client
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from cloudreg.errors import CloudregError, OperationFailed
from cloudreg.jobs import BatchSpec
from cloudreg.operations import poll_until
from cloudreg.provider import LINES
from cloudreg.types import OperationState, OperationStatus
from cloudreg_local import models
from cloudreg_local.batches import Job, JobFolder
from cloudreg_local.replica import END_S, START_S, _port
from cloudreg_local.store import LocalStore

CHUNK_BYTES = 256 * 1024
"""Lines that are sent together."""

ANSWER_S = 3600.0
AHEAD = 4
"""Chunks that wait for each server: it is never idle, and memory stays bounded."""


class _Stopped(Exception):
    pass


class Server:
    """A model server of the job's own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Watch what *process* says on stdout for its port."""
        self._process = process
        self._port: int | None = None
        assert process.stdout is not None
        threading.Thread(target=self._pump, args=(process.stdout,), daemon=True).start()

    def wait(self) -> None:
        """Return once it is ready.

        Raises:
            OperationFailed: It will not be.
        """
        if not poll_until(self._is_ready, bool, timeout_s=START_S, max_interval_s=0.2):
            raise OperationFailed(f"a model server was not ready after {START_S:g} s")

    def ask(self, body: bytes) -> bytes:
        """Return the answer to some lines.

        Raises:
            OperationFailed: There is none.
        """
        try:
            status, answer = self._send("POST", "/invocations", body, ANSWER_S)
        except (OSError, http.client.HTTPException) as error:
            raise OperationFailed(f"a model server gave no answer: {error}") from error
        if status != 200:
            said = answer[:500].decode(errors="replace")
            raise OperationFailed(f"a model server answered {status}: {said}")
        return answer

    def _is_ready(self) -> bool:
        code = self._process.poll()
        if code is not None:
            raise OperationFailed(f"a model server ended with exit code {code}")
        if self._port is None:
            return False
        with suppress(OSError, http.client.HTTPException):
            return self._send("GET", "/ping", None, 10.0)[0] == 200
        return False

    def _send(
        self, method: str, path: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"Content-Type": LINES, "Accept": LINES})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _pump(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._port = self._port or _port(line)


def main() -> None:
    """Do the job in the folder that is named; what becomes of it is written there."""
    folder = JobFolder(Path(sys.argv[1]))
    try:
        _score(folder, folder.job())
        said = OperationStatus(state=OperationState.SUCCEEDED, progress=1.0)
    except _Stopped:
        said = OperationStatus(state=OperationState.FAILED, message="it was stopped")
    except CloudregError as error:
        said = OperationStatus(
            state=OperationState.FAILED, message=error.message, logs=folder.last_words()
        )
    # The answers are in the store; nothing needs the files any more.
    models.forget(folder.models, keep=())
    folder.say(said)


def _score(folder: JobFolder, job: Job) -> None:
    spec, store = job.spec, LocalStore(Path(job.store), target="local")
    models.materialise(spec.digest, store, _made(folder.models))
    objects = list(store.list(spec.input))
    total = sum(one.size for one in objects) or 1
    with ExitStack() as stack:
        servers: queue.SimpleQueue[Server] = queue.SimpleQueue()
        started = [stack.enter_context(_server(folder, job)) for _ in range(spec.replicas)]
        for server in started:
            server.wait()
            servers.put(server)
        pool = stack.enter_context(ThreadPoolExecutor(spec.replicas))
        done = 0

        def ask(body: bytes) -> bytes:
            server = servers.get()
            try:
                return server.ask(body)
            finally:
                servers.put(server)

        def tell(size: int) -> None:
            nonlocal done
            done += size
            if folder.stopping:
                raise _Stopped
            folder.say(
                OperationStatus(
                    state=OperationState.RUNNING, message="scoring", progress=done / total
                )
            )

        for one in objects:
            source = store.path(one.key)
            key = f"{spec.output}{one.key.removeprefix(spec.input)}.out"
            store.put(_answers(source, pool, ask, tell, spec), key)


def _answers(
    source: Path,
    pool: ThreadPoolExecutor,
    ask: Callable[[bytes], bytes],
    tell: Callable[[int], None],
    spec: BatchSpec,
) -> Iterator[bytes]:
    """Yield the answers to an object, in order; a few chunks are asked ahead."""
    ahead: deque[tuple[int, Future[bytes]]] = deque()
    try:
        for chunk in _chunks(source):
            ahead.append((len(chunk), pool.submit(ask, chunk)))
            if len(ahead) >= AHEAD * spec.replicas:
                size, answer = ahead.popleft()
                yield answer.result()
                tell(size)
        while ahead:
            size, answer = ahead.popleft()
            yield answer.result()
            tell(size)
    finally:
        for _, answer in ahead:
            answer.cancel()


def _chunks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as reader:
        while lines := reader.readlines(CHUNK_BYTES):
            yield b"".join(lines)


@contextmanager
def _server(folder: JobFolder, job: Job) -> Iterator[Server]:
    spec = job.spec
    files = folder.models / spec.digest.removeprefix("sha256:")
    options = [
        *("--model-dir", str(files), "--digest", spec.digest),
        *("--model", spec.model, "--number", str(spec.number)),
        *("--host", "127.0.0.1", "--port", "0", "--exit-with-parent"),
    ]
    process = subprocess.Popen(
        [*job.command, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder.path,
        env=_environment(spec),
    )
    try:
        yield Server(process)
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(spec: BatchSpec) -> dict[str, str]:
    # Settings of whoever asked are not the server's.
    own = {name: text for name, text in os.environ.items() if not name.startswith("CLOUDREG_")}
    return {**own, "CLOUDREG_PROVIDER": "local", **spec.env}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
