"""The model server beside LitServe, MLServer and a bare echo, with the same models.

All servers of a model are up at once, and all but the one that is measured are stopped by
SIGSTOP: short measurements can alternate, and whatever else the machine does hits all alike.
Every server is asked first, and has to give what bare torch gives.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from load import Load
from race import peer

SERVED = Path(__file__).with_name("served")
LOAD = Path(__file__).with_name("load.py")
CLIENTS = (1, 32)
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))
"""Of each measurement; many short ones alternate better than few long ones."""

ECHO, OWN, LIT, LIT_BATCHED, ML = (
    "uvicorn echo", "cloudreg", "LitServe", "LitServe, batches of 32", "MLServer, batches of 32",
)  # fmt: skip


Figures = dict[tuple[str, int], tuple[float, float]]
"""Requests per second, and microseconds of CPU for each, by server and clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """How a server is started, and how it is asked.

    Attributes:
        port: Where it listens.
        argv: The command.
        path: The route of the prediction.
        encode: From rows to a request.
        decode: From an answer to rows; None for the echo, which predicts nothing.
        env: More for its environment.
        cwd: Where it is started.
    """

    port: int
    argv: tuple[str, ...]
    path: str
    encode: Callable[[list[list[float]]], Any]
    decode: Callable[[Any], list[list[float]]] | None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


class Server:
    """A running server and all its processes.

    Attributes:
        start_s: From the command to the first right answer.
        pss_mib: Memory of all its processes, shared pages counted once.
    """

    def __init__(self, contestant: Contestant, rows: list[list[float]], *, bytecode: Path) -> None:
        """Start it, and wait for its first answer.

        Args:
            contestant: What is started.
            rows: What it is asked for.
            bytecode: Where Python keeps the compiled modules; an installed program has its own.
        """
        self.contestant = contestant
        self.body = json.dumps(contestant.encode(rows)).encode()
        self.start_s = self.pss_mib = 0.0
        began = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self._process = subprocess.Popen(
            contestant.argv,
            cwd=contestant.cwd,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(bytecode),
                **contestant.env,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self.end()
            raise
        self.start_s = time.perf_counter() - began

    def ask(self) -> Any:
        """Return the answer to the request that is measured."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.contestant.port}{self.contestant.path}",
            data=self.body,
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def press(self, clients: int) -> tuple[Load, float]:
        """Return what *clients* at once get, and the server's CPU seconds for each request."""
        before = self._cpu_s()
        with tempfile.NamedTemporaryFile() as body:
            body.write(self.body)
            body.flush()
            argv = [
                sys.executable,
                str(LOAD),
                str(self.contestant.port),
                self.contestant.path,
                body.name,
            ]
            done = subprocess.run(
                [*argv, str(clients), str(SECONDS)], capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SystemExit(f"{self.contestant.argv}: {done.stderr[-1000:]}")
        load = Load(**json.loads(done.stdout))
        self.pss_mib = max(self.pss_mib, self._pss_mib())
        return load, (self._cpu_s() - before) / load.requests

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        for process in self._processes():
            os.kill(process, number)

    def end(self) -> None:
        """End all its processes."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._errors.close()

    def _wait(self) -> None:
        end = time.monotonic() + 120
        last = "nothing answers"
        while self._process.poll() is None and time.monotonic() < end:
            try:
                self.ask()
            except urllib.error.HTTPError as error:
                last = f"{error}: {error.read()[:500]!r}"
            except OSError:
                pass
            else:
                return
            time.sleep(0.02)
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode(errors="replace")
        raise SystemExit(f"{' '.join(self.contestant.argv)} does not serve: {last}\n{said}")

    def _processes(self) -> list[int]:
        # Workers have other groups, and parents that have gone: the session is what they share.
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self._process.pid:
                found.append(int(stat.parent.name))
        return found

    def _cpu_s(self) -> float:
        ticks = 0
        for process in self._processes():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _pss_mib(self) -> float:
        total = 0
        for process in self._processes():
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024


def run() -> None:
    """Measure the tiny model, where a server is all overhead, and one that computes."""
    sys.path.insert(0, str(SERVED))
    figures = {}
    for model in ("tiny", "mid"):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            figures[model] = _measure(model, Path(folder), stack)
    _judge(figures)


def _measure(model: str, folder: Path, stack: ExitStack) -> Figures:
    import net
    import torch

    features = net.SIZES[model][0]
    rows = torch.linspace(-1.0, 1.0, features, dtype=torch.float32)[None].tolist()
    wanted = net.build(model)(torch.tensor(rows))
    servers: dict[str, Server] = {}
    for name, contestant in _contestants(model, folder):
        # The first start compiles what the second one imports.
        Server(contestant, rows, bytecode=folder / "bytecode").end()
        server = Server(contestant, rows, bytecode=folder / "bytecode")
        stack.callback(server.end)
        if contestant.decode is not None:
            # float32 sums in another order: 1e-5 of a value is far more than they differ by.
            found = torch.tensor(contestant.decode(server.ask()))
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        servers[name] = server
        server.signal(signal.SIGSTOP)
    seen: dict[tuple[str, int], list[tuple[Load, float]]] = {
        (name, clients): [] for name in servers for clients in CLIENTS
    }
    for _ in range(ROUNDS):
        for (name, clients), found in seen.items():
            with _awake(servers[name]):
                found.append(servers[name].press(clients))
    return _table(model, servers, seen)


@contextmanager
def _awake(server: Server) -> Iterator[None]:
    server.signal(signal.SIGCONT)
    yield
    server.signal(signal.SIGSTOP)


def _table(
    model: str,
    servers: Mapping[str, Server],
    seen: Mapping[tuple[str, int], Sequence[tuple[Load, float]]],
) -> Figures:
    figures = {}
    for clients in CLIENTS:
        print(f"\n{model} model, {clients} at once: medians of {ROUNDS} x {SECONDS:g} s")
        print(f"  {'server':<24} {'req/s':>7} {'ratio':>6} {'p50 ms':>7} {'p99 ms':>7}"
              f" {'CPU us':>7} {'errors':>6} {'load':>5}")  # fmt: skip
        own = statistics.median(load.rps for load, _ in seen[OWN, clients])
        for name in servers:
            loads = [load for load, _ in seen[name, clients]]
            middle = partial(_median, loads)
            rate = middle("rps")
            cpu_us = statistics.median(cpu for _, cpu in seen[name, clients]) * 1e6
            figures[name, clients] = rate, cpu_us
            print(f"  {name:<24} {rate:7.0f} {rate / own:6.2f} {middle('p50_ms'):7.2f}"
                  f" {middle('p99_ms'):7.2f} {cpu_us:7.0f} {sum(x.errors for x in loads):6d}"
                  f" {middle('busy'):5.2f}")  # fmt: skip
    print(f"\n{model} model: from the command to the first answer, and memory after the load")
    for name, server in servers.items():
        print(f"  {name:<24} {server.start_s:7.2f} s {server.pss_mib:7.0f} MiB")
    return figures


def _median(loads: Sequence[Load], name: str) -> float:
    return statistics.median(getattr(load, name) for load in loads)


def _judge(figures: Mapping[str, Figures]) -> None:
    print("\nthe server against what was wanted")
    for clients in CLIENTS:
        tiny, mid = figures["tiny"], figures["mid"]
        (own, own_us), (echo, echo_us) = tiny[OWN, clients], tiny[ECHO, clients]
        print(f"  tiny, {clients} at once: {own / echo:.2f} of the echo's requests, wanted 0.7;"
              f" the echo's CPU is {echo_us / own_us:.2f} of the server's")  # fmt: skip
        lit = max(mid.get((name, clients), (0.0, 0.0)) for name in (LIT, LIT_BATCHED))
        if lit[0]:
            times = mid[OWN, clients][0] / lit[0]
            print(f"  mid, {clients} at once: {times:.2f} x the better LitServe's, wanted 4")


def _contestants(model: str, folder: Path) -> Iterator[tuple[str, Contestant]]:
    """Yield the servers that are installed."""

    def rows_in(rows: list[list[float]]) -> Any:
        return {"instances": rows}

    def rows_out(answer: Any) -> list[list[float]]:
        rows: list[list[float]] = answer["predictions"]
        return rows

    def v2_in(rows: list[list[float]]) -> Any:
        flat = [value for row in rows for value in row]
        shape = [len(rows), len(rows[0])]
        return {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": flat}]}

    def v2_out(answer: Any) -> list[list[float]]:
        output = answer["outputs"][0]
        rows, size = output["shape"]
        return [output["data"][row * size : (row + 1) * size] for row in range(rows)]

    python, mlserver = peer("python"), peer("mlserver")
    digest = _version(model, folder / "version")
    port = _free_port()
    json_in_and_out = partial(Contestant, path="/invocations", encode=rows_in, decode=rows_out)
    yield ECHO, Contestant(
        port=port, argv=(sys.executable, str(SERVED / "echo.py"), str(port)), path="/",
        encode=rows_in, decode=None,
    )  # fmt: skip
    port = _free_port()
    yield (
        OWN,
        json_in_and_out(
            port=port,
            argv=(
                *(sys.executable, "-m", "cloudreg.serving", "--digest", digest, "--model", "bench"),
                *("--model-dir", str(folder / "version"), "--number", "1", "--threads", "1"),
                *("--port", str(port)),
            ),
        ),
    )
    if python and peer("litserve"):
        for name, rows in ((LIT, "1"), (LIT_BATCHED, "32")):
            port = _free_port()
            yield (
                name,
                json_in_and_out(
                    port=port, argv=(python, str(SERVED / "lit.py"), str(port), model, rows)
                ),
            )
    if mlserver:
        port = _free_port()
        yield ML, Contestant(
            port=port, argv=(mlserver, "start", str(_mlserver(folder / "mlserver", port))),
            path="/v2/models/bench/infer", encode=v2_in, decode=v2_out,
            env={"BENCH_MODEL": model, "PYTHONPATH": str(SERVED)},
        )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _version(model: str, folder: Path) -> str:
    """Write a version as a provider materialises it, and return its digest."""
    import net
    from safetensors.torch import save_file

    from cloudreg.manifest import MANIFEST_FILE, FileEntry, Manifest, Runtime, Signature, TensorSpec
    from cloudreg.names import sha256

    (folder / "code").mkdir(parents=True)
    (folder / "code" / "net.py").write_bytes((SERVED / "net.py").read_bytes())
    save_file(net.build(model).state_dict(), folder / "model.safetensors")
    sizes = net.SIZES[model]
    files = []
    for path in ("code/net.py", "model.safetensors"):
        data = (folder / path).read_bytes()
        files.append(FileEntry(path=path, size=len(data), sha256=sha256(data)[7:]))

    def tensor(name: str, size: int) -> TensorSpec:
        return TensorSpec(name=name, dtype="float32", shape=(-1, size))

    manifest = Manifest(
        files=tuple(files),
        runtime=Runtime(
            kind="torch", entrypoint="net:Net", arguments={"sizes": list(sizes)},
            weights="model.safetensors",
        ),
        signature=Signature(inputs=(tensor("x", sizes[0]),), outputs=(tensor("y", sizes[-1]),)),
    )  # fmt: skip
    record = folder / MANIFEST_FILE
    record.parent.mkdir(exist_ok=True)
    record.write_bytes(manifest.encode())
    return manifest.digest


def _mlserver(folder: Path, port: int) -> Path:
    folder.mkdir()
    settings = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": _free_port(),
        "metrics_port": _free_port(), "debug": False, "parallel_workers": 0,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "bench", "implementation": "ml.Model",
        "max_batch_size": 32, "max_batch_time": 0.002,
    }  # fmt: skip
    (folder / "model-settings.json").write_text(json.dumps(model))
    return folder


if __name__ == "__main__":
    run()
