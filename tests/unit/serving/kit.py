"""Versions of small models on a disk, and model servers as real processes.

Loaded by path from both folders of tests, since no folder of tests is a package.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from cloudreg.manifest import MANIFEST_FILE, FileEntry, Manifest, Runtime, Signature, TensorSpec
from cloudreg.names import sha256

CODE = '''
"""The models that the tests serve."""

import sys
import time

import torch


class Line(torch.nn.Module):
    """y = x W + b; commands hide in the first value of a row."""

    def __init__(self, features: int = 3, classes: int = 2, load_s: float = 0.0) -> None:
        super().__init__()
        time.sleep(load_s)
        self.linear = torch.nn.Linear(features, classes)

    def forward(self, x):
        first = x[:, 0]
        if (first == 666.0).any():
            raise ValueError("the number of the beast")
        if (first == 777.0).any():
            time.sleep(float(x[:, 1].max()))
        if (first == 888.0).any():
            sys.exit(9)
        if (first == 911.0).any():
            raise torch.AcceleratorError("an illegal memory access was encountered")
        answer = self.linear(x)
        return torch.where(first[:, None] == 999.0, torch.inf, answer)

    def stream(self, x):
        for step in range(int(x[0, 1])):
            if x[0, 0] == 777.0:
                time.sleep(0.05)
            if x[0, 0] == 666.0 and step == 2:
                raise ValueError("the number of the beast")
            yield self.linear(x) + step


class Pair(torch.nn.Module):
    """Two inputs, two outputs, and names that differ from the signature's."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(2))

    def forward(self, left, right):
        return {"total": left * self.scale + right[:, None], "even": right % 2 == 0}


class Plain(torch.nn.Module):
    """As `Line`, without the commands: what is compared with bare torch."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(features, 64), torch.nn.GELU(), torch.nn.Linear(64, classes)
        )

    def forward(self, features):
        return torch.softmax(self.net(features), -1)


def none():
    return None
'''


def tensor(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


LINE = Signature(inputs=(tensor("x", "float32", -1, 3),), outputs=(tensor("y", "float32", -1, 2),))
PAIR = Signature(
    inputs=(tensor("left", "float32", -1, 2), tensor("right", "int64", -1)),
    outputs=(tensor("total", "float32", -1, 2), tensor("even", "bool", -1)),
)


def factory(name: str) -> Callable[..., torch.nn.Module]:
    """Return a class of `CODE`, as bare torch uses it."""
    space: dict[str, Any] = {"__name__": "bare"}
    exec(CODE, space)  # the same source that the server imports
    found: Callable[..., torch.nn.Module] = space[name]
    return found


class Version:
    """A version's folder, as a provider materialises it."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.digest = manifest.digest

    def argv(self, *more: str) -> list[str]:
        return [
            *("--model-dir", str(self.folder), "--digest", self.digest),
            *("--model", "churn", "--number", "7", "--port", "0"),
            *more,
        ]


def write(
    folder: Path,
    *,
    files: Mapping[str, bytes],
    runtime: Runtime | None,
    signature: Signature | None,
) -> Version:
    """Write *files* and their manifest."""
    entries = []
    for path, data in sorted(files.items()):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        entries.append(FileEntry(path=path, size=len(data), sha256=sha256(data)[7:]))
    manifest = Manifest(files=tuple(entries), runtime=runtime, signature=signature)
    record = folder / MANIFEST_FILE
    record.parent.mkdir(exist_ok=True)
    record.write_bytes(manifest.encode())
    return Version(folder, manifest)


def torch_version(
    folder: Path,
    name: str = "Line",
    *,
    signature: Signature = LINE,
    arguments: Mapping[str, Any] | None = None,
    warmup: Any = None,
    code: str = CODE,
    entrypoint: str | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
    more: Mapping[str, bytes] | None = None,
) -> Version:
    """Write a version whose weights are random, and the same each time."""
    arguments = dict(arguments or {})
    if state is None:
        torch.manual_seed(0)
        built = {k: v for k, v in arguments.items() if k != "load_s"}
        state = factory(name)(**built).state_dict()
    weights = folder.parent / f"{folder.name}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), weights)
    files = {
        "code/shapes.py": code.encode(),
        "model.safetensors": weights.read_bytes(),
        **(more or {}),
    }
    weights.unlink()
    if warmup is not None:
        files["warmup.json"] = json.dumps(warmup).encode()
    return write(
        folder,
        files=files,
        runtime=Runtime(
            kind="torch",
            entrypoint=entrypoint or f"shapes:{name}",
            arguments=arguments,
            weights="model.safetensors",
        ),
        signature=signature,
    )


def graph(*, batch: Any = "n", names: str = "xy") -> bytes:
    """Return y = x W + b as an ONNX model."""
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", [names[0], "w", "b"], [names[1]])],
            "line",
            [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [batch, 3])],
            [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [batch, 2])],
            [
                numpy_helper.from_array(weight, "w"),
                numpy_helper.from_array(np.array([1, -1], np.float32), "b"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    data: bytes = model.SerializeToString()
    return data


def onnx_version(folder: Path, data: bytes | None = None) -> Version:
    """Write a version of `graph`; its server starts in a third of torch's time."""
    return write(
        folder,
        files={"model.onnx": graph() if data is None else data},
        runtime=Runtime(kind="onnx", weights="model.onnx"),
        signature=LINE,
    )


class Served:
    """A model server process."""

    def __init__(self, argv: list[str], *, env: Mapping[str, str] | None = None) -> None:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("CLOUDREG_", "AIP_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cloudreg.serving", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**keep, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        self.port = 0

    def listening(self) -> dict[str, Any]:
        """Wait for the one line, and return it."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 30.0)
        line = self.process.stdout.readline() if ready else b""
        assert line, self.logs()
        said: dict[str, Any] = json.loads(line)
        self.port = said["port"]
        return said

    def ready(self) -> Served:
        """Wait until it is."""
        if not self.port:
            self.listening()
        self.until(lambda: self.get("/ping")[0] == 200)
        return self

    def until(self, ask: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
        end = time.monotonic() + timeout_s
        while not (answer := ask()):
            assert self.process.poll() is None, self.logs()
            assert time.monotonic() < end, f"still {answer!r} after {timeout_s:g} s"
            time.sleep(0.01)
        return answer

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30.0)
        try:
            names = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, path, body=body, headers=names)
            answer = connection.getresponse()
            found = {k.lower(): v for k, v in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Any]:
        status, _, data = self.request("GET", path)
        return status, json.loads(data)

    def post(self, path: str, document: Any, **headers: str) -> tuple[int, Any]:
        headers.setdefault("Content_Type", "application/json")
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, _, data = self.request("POST", path, body, **headers)
        return status, json.loads(data)

    def predict(self, instances: Any) -> Any:
        status, answer = self.post("/invocations", {"instances": instances})
        assert status == 200, answer
        return answer["predictions"]

    def raw(self, data: bytes) -> bytes:
        """Send bytes that need not be HTTP, and return what comes until the end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10.0) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            found = b""
            try:
                while chunk := connection.recv(65536):
                    found += chunk
            except OSError:
                pass
            return found

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def term(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, *, timeout_s: float = 30.0) -> int:
        return self.process.wait(timeout=timeout_s)

    def logs(self) -> str:
        """End the process, and return what it wrote on stderr."""
        self.end()
        return self.errors

    errors = ""

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stderr is not None and not self.process.stderr.closed:
            _, errors = self.process.communicate()
            self.errors = errors.decode(errors="replace")


def close(found: Any, wanted: Any, *, rtol: float = 1e-5, atol: float = 1e-6) -> bool:
    """Whether two answers differ only by float32 sums that were added in another order.

    A float32 has 24 bits, 6e-8 of a value; a sum of some hundred products in another order (batch
    or row, one library or another) loses a few of them. 1e-5 is far above that, and far below
    what a wrong weight or a lost row does.
    """
    return np.allclose(np.array(found), np.array(wanted), rtol=rtol, atol=atol)
