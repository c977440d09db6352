"""A version is really served, and whatever happens, no process and no file stays."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudreg import artifacts, sandbox
from cloudreg.errors import IntegrityError, InvalidRequest, OperationFailed, Unsupported
from cloudreg.gates import GateContext
from cloudreg.gates.golden import GoldenGate
from cloudreg.importers import Source, directory
from cloudreg.importers import torch as torch_importer
from cloudreg.types import Lineage, Manifest, ModelVersion, Runtime
from cloudreg_local.store import LocalStore

COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("sandbox_server.py")))

Serve = Callable[..., AbstractContextManager[sandbox.Server]]


def is_running(pid: int) -> bool:
    """Whether a process runs; who is dead and not yet mourned does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def stored(store: LocalStore, source: Source) -> ModelVersion:
    """Return the version that the files of *source* make, stored."""
    said = source.description
    manifest = Manifest(
        files=artifacts.upload(source.files, store).files,
        runtime=said.runtime,
        signature=said.signature,
        lineage=said.lineage or Lineage(),
    )
    return ModelVersion(
        model="churn",
        number=7,
        digest=artifacts.put_manifest(manifest, store),
        manifest=manifest,
        author="ann",
        created_at="2026-01-01T00:00:00Z",
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store in a folder."""
    return LocalStore(tmp_path / "store", target="laptop")


@pytest.fixture
def planned(tmp_path: Path, store: LocalStore) -> Callable[..., ModelVersion]:
    """Return a version whose server starts as it is told."""

    def make(start: str = "ok") -> ModelVersion:
        folder = tmp_path / "version"
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "x.py").write_text("")
        plan = {"start": start, "log": str(tmp_path / "log.json")}
        (folder / "plan.json").write_text(json.dumps(plan))
        return stored(store, directory.read(folder))

    return make


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Return what the server was started with."""
    return lambda: json.loads((tmp_path / "log.json").read_text())


@pytest.fixture
def serve(
    tmp_path: Path,
    store: LocalStore,
    log: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Serve]:
    """Serve with the stand-in; in the end its process is gone, and so are its files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def start(version: ModelVersion, **options: Any) -> AbstractContextManager[sandbox.Server]:
        return sandbox.serve(version, store, **{"command": COMMAND, "timeout_s": 20.0, **options})

    yield start
    assert list((tmp_path / "tmp").iterdir()) == []
    if (tmp_path / "log.json").exists():
        assert not is_running(log()["pid"])


def test_predictions(
    serve: Serve,
    planned: Callable[..., ModelVersion],
    log: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server is told what it serves, has the files, and answers until the context ends."""
    monkeypatch.setenv("CLOUDREG_DIGEST", "sha256:other")
    version = planned()

    with serve(version) as server:
        assert server.predict([1, 2]) == [2, 4]
        assert server.predict(["a"]) == ["aa"]
        assert is_running(log()["pid"])

    said = log()
    assert (said["digest"], said["model"], said["number"]) == (version.digest, "churn", "7")
    assert (said["host"], said["port"]) == ("127.0.0.1", 0)
    assert said["files"] == [".cloudreg", "code", "plan.json"]
    assert said["env"] == {"CLOUDREG_PROVIDER": "local"}
    assert not is_running(said["pid"])


def test_caller_that_fails(
    serve: Serve, planned: Callable[..., ModelVersion], log: Callable[[], dict[str, Any]]
) -> None:
    """The server ends when the caller fails, too."""
    with pytest.raises(ZeroDivisionError), serve(planned()):
        _ = 1 / 0

    assert not is_running(log()["pid"])


def test_server_that_ignores_the_end(
    serve: Serve,
    planned: Callable[..., ModelVersion],
    log: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that ignores SIGTERM is killed."""
    monkeypatch.setattr(sandbox, "END_S", 0.2)

    with serve(planned("stubborn")) as server:
        assert server.predict([1]) == [2]

    assert not is_running(log()["pid"])


def test_server_that_crashes(serve: Serve, planned: Callable[..., ModelVersion]) -> None:
    """A server that ends before it is ready is reported with its last words."""
    with (
        pytest.raises(
            OperationFailed, match="ended with exit code 4 before it was ready"
        ) as caught,
        serve(planned("crash")),
    ):
        pass

    assert caught.value.logs == ("no such tensor: w",)


@pytest.mark.parametrize("start", ["mute", "deaf"])
def test_server_that_is_never_ready(
    serve: Serve, planned: Callable[..., ModelVersion], start: str
) -> None:
    """Patience with a server that does not listen, or does not load, ends."""
    with (
        pytest.raises(OperationFailed, match=r"was not ready after 0\.5 s"),
        serve(planned(start), timeout_s=0.5),
    ):
        pass


def test_command_that_cannot_run(serve: Serve, planned: Callable[..., ModelVersion]) -> None:
    """A command that does not exist is a failure of ours, not a stack trace."""
    with (
        pytest.raises(OperationFailed, match="churn:7 cannot be started"),
        serve(planned(), command=["/nowhere/python"]),
    ):
        pass


@pytest.mark.parametrize(
    ("instance", "error", "reason"),
    [
        ("refuse", InvalidRequest, r"refuses: instances\[0\]\.x: an array of 3 is wanted"),
        ("fail", OperationFailed, "answered 500: oh no"),
        ("die", OperationFailed, "gave no answer"),
        ("hang", OperationFailed, "gave no answer .*timed out"),
        ("short", OperationFailed, r"gave no list of 1 predictions: {\"predictions\": \[\]}"),
        ("nan", OperationFailed, "gave no list of 1 predictions"),
        ("html", OperationFailed, "gave no list of 1 predictions: <html>"),
        (math.nan, InvalidRequest, "instances are not plain JSON"),
        (object(), InvalidRequest, "instances are not plain JSON"),
    ],
)
def test_bad_answers(
    serve: Serve,
    planned: Callable[..., ModelVersion],
    instance: Any,
    error: type[Exception],
    reason: str,
) -> None:
    """A refusal is the caller's error, all else is the server's; its words are kept."""
    with serve(planned()) as server:
        if instance == "hang":
            server.timeout_s = 0.3
        with pytest.raises(error, match=reason) as caught:
            server.predict([instance])

    if instance == "die":
        assert "out of memory" in str(caught.value)
    if instance == "fail":
        assert "kernel panic on device 0" in server._failed("x").logs


def test_chatty_server(serve: Serve, planned: Callable[..., ModelVersion]) -> None:
    """A server that writes more than a pipe holds is not held up."""
    with serve(planned()) as server:
        assert server.predict(["chatty"]) == [1]


def test_child_that_holds_the_streams(serve: Serve, planned: Callable[..., ModelVersion]) -> None:
    """A process that the server leaves behind does not keep the caller waiting for ever."""
    with serve(planned("parent")) as server:
        assert server.predict([1]) == [2]


def test_changed_bytes(
    serve: Serve, planned: Callable[..., ModelVersion], store: LocalStore, tmp_path: Path
) -> None:
    """Bytes that are not those that were registered are never served."""
    version = planned()
    entry = next(f for f in version.manifest.files if f.path == "plan.json")
    store.delete(entry.key)
    store.put(b"x" * entry.size, entry.key)

    with pytest.raises(IntegrityError, match=r"plan\.json"), serve(version):
        pass

    assert not (tmp_path / "log.json").exists()


@pytest.mark.parametrize("runtime", [None, Runtime(kind="custom", image="i@sha256:1")])
def test_versions_that_bring_no_runtime(
    store: LocalStore, planned: Callable[..., ModelVersion], runtime: Runtime | None
) -> None:
    """A version that the model server cannot run is refused before anything is fetched."""
    version = planned()
    manifest = Manifest(files=version.manifest.files, runtime=runtime)
    version = ModelVersion(
        model="churn",
        number=7,
        digest=manifest.digest,
        manifest=manifest,
        author="ann",
        created_at="2026-01-01T00:00:00Z",
    )

    with (
        pytest.raises(Unsupported, match="churn:7 cannot be served"),
        sandbox.serve(version, store),
    ):
        pass


def test_golden_data_of_a_real_model(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torch module, saved, stored and served by the real server, answers as torch does."""
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    sample = torch.randn(40, 3)
    folder = torch_importer.save(
        module,
        tmp_path / "model",
        sample=sample,
        factory="torch.nn:Linear",
        arguments={"in_features": 3, "out_features": 2},
    )
    version = stored(store, directory.read(folder))
    rows = [
        {"instance": x.tolist(), "expected": y.tolist()}
        for x, y in zip(sample, module(sample).detach(), strict=True)
    ]
    (tmp_path / "right.json").write_text(json.dumps(rows))
    rows[3]["expected"][1] = 9.0
    (tmp_path / "wrong.json").write_text(json.dumps(rows))

    with sandbox.serve(version, store) as server:
        context = GateContext(
            version=version,
            stage="prod",
            order=("dev", "prod"),
            held=frozenset(),
            holder=None,
            root=tmp_path,
            # Two starts would take twice the time, and show nothing more.
            serve=lambda _: nullcontext(server),
            read=lambda file, offset, length: b"",
            waivers=(),
            today="2026-01-01",
        )
        right = GoldenGate(path="right.json").check(context)
        wrong = GoldenGate(path="wrong.json").check(context)

    assert (right.passed, right.reason) == (True, "40 of 40 samples agree (100 %)")
    assert not wrong.passed
    assert "sample 3: output[1] is" in wrong.reason
