"""A folder with a ``cloudreg.toml`` whose local targets run a stand-in for the model server."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.errors import CloudregError, Unavailable
from cloudreg.manifest import Lineage
from cloudreg.operations import wait
from cloudreg.provider import ProviderContext, ProviderPlugin
from cloudreg.types import ModelVersion
from cloudreg_local import PLUGIN

SERVER = Path(__file__).with_name("server.py")
WORKER = Path(__file__).with_name("worker.py")

ENDPOINT = """
[endpoints.churn-prod]
model = "churn"
stage = "prod"
"""

Call = Callable[[], Any]
Script = Callable[[str, str, tuple[Any, ...], Call], Any]
"""Gets target, verb, arguments and the real call; returns what the caller gets."""


def until(ask: Callable[[], Any], *, timeout_s: float = 20.0) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < end, f"still {answer!r} after {timeout_s:g} s"
        time.sleep(0.01)
    return answer


class Scripted:
    """A backend some of whose verbs go through a script."""

    VERBS = frozenset(
        {"create", "update", "delete", "publish", "point", "withdraw", "put", "open", "metrics"}
    )

    def __init__(
        self,
        backend: Any,
        target: str,
        script: Callable[[], Script | None],
        silent: Callable[[], set[str]],
    ) -> None:
        self._backend, self._target, self._script = backend, target, script
        self._silent = silent

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._backend, verb)
        if self._target in self._silent():
            return self._refuse
        script = self._script()
        if verb not in self.VERBS or script is None:
            return real
        return lambda *args, **named: script(self._target, verb, args, lambda: real(*args, **named))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise Unavailable(f"{self._target} does not answer", target=self._target)


class ScriptedProvider:
    """A local target whose backends are scripted."""

    def __init__(
        self,
        provider: Any,
        target: str,
        script: Callable[[], Script | None],
        silent: Callable[[], set[str]],
    ) -> None:
        self.capabilities = provider.capabilities
        self.store = Scripted(provider.store, target, script, silent)
        self.registry = Scripted(provider.registry, target, script, silent)
        self.endpoints = Scripted(provider.endpoints, target, script, silent)
        self.location = provider.location

    def close(self) -> None:
        pass


class Traffic:
    """Requests that are sent steadily while the block runs, each on a connection of its own."""

    def __init__(self, ws: Workspace, name: str, question: Callable[[], Mapping[str, Any]]) -> None:
        self.answers: list[int] = []
        self.failures: list[str] = []
        self._endpoint = ws.endpoint(name)
        self._question = question
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while not self._over.is_set():
            try:
                answer = self._endpoint.invoke(json.dumps(self._question()).encode())
                self.answers.append(json.loads(answer)["number"])
            except CloudregError as error:
                self.failures.append(str(error))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()


class House:
    """A ``cloudreg.toml``, the workspaces that read it, and what they started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.script: Script | None = None
        self.silent: set[str] = set()
        """Scripted targets of which nothing answers."""
        self._open: list[Workspace] = []

    def configure(
        self,
        text: str = "",
        *,
        stages: Mapping[str, str] | None = None,
        targets: Mapping[str, str] | None = None,
        provider: str = "local",
    ) -> None:
        """Write the file: stages without gates, and *text*.

        Args:
            text: The rest of the file.
            stages: Stage to what its section says, in place of ``gates = []``.
            targets: Target to what its section says more; one called ``local`` without.
            provider: Of all targets.
        """
        command = json.dumps([sys.executable, "-I", str(SERVER)])
        lines = []
        for name, more in (targets or {"local": ""}).items():
            lines += [f"[targets.{name}]", f'provider = "{provider}"']
            lines += [f'path = ".{name}"', f"server_command = {command}", more]
        sections = {"dev": "", "staging": "", "prod": "", **(stages or {})}
        for name, section in sections.items():
            lines += [f"[stages.{name}]", section or "gates = []"]
        (self.root / "cloudreg.toml").write_text("\n".join([*lines, text, ""]))

    def open(self, actor: str = "ada", **options: Any) -> Workspace:
        """Return another workspace of the file, as another process would have it."""
        options.setdefault("wait_s", 20.0)
        options.setdefault("timeout_s", 30.0)
        ws = Workspace.load(self.root, actor=actor, **options)
        self._open.append(ws)
        return ws

    def register(
        self, ws: Workspace, text: str = "", *, model: str = "churn", **said: Any
    ) -> ModelVersion:
        """Register a version whose one file holds *text*."""
        count = sum(1 for _ in (self.root / "build").glob("*"))
        folder = self.root / "build" / str(count)
        folder.mkdir(parents=True)
        (folder / "weights.txt").write_text(text or f"weights {count}")
        return ws.register(model, folder, lineage=Lineage(), **said)

    def served(self, ws: Workspace, name: str = "churn-prod", **question: Any) -> int:
        """Return the number of the version that answers."""
        answer = json.loads(ws.endpoint(name).invoke(json.dumps(question).encode()))
        return int(answer["number"])

    def observed(self, name: str, *, target: str = "local") -> dict[str, Any]:
        """Return what an endpoint's supervisor wrote last."""
        path = self.root / f".{target}" / "endpoints" / name / "observed.json"
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def kinds(self, ws: Workspace, model: str = "churn") -> list[str]:
        """Return the kinds of the ledger's entries, oldest first, without those of progress."""
        entries = ws.history(model, newest_first=False)
        return [entry.kind for entry in entries if entry.kind != "step"]

    def check_truth(self, ws: Workspace, model: str = "churn") -> None:
        """Check that the ledger is whole, nothing is open, and all targets show what it says."""
        assert ws.verify(model).problems == ()
        assert ws.fold(model).open is None
        assert ws.drift(model) == []

    def opened(self, settings: Any, context: ProviderContext) -> Any:
        """Open a scripted target."""
        return ScriptedProvider(
            PLUGIN.open(settings, context),
            context.target,
            lambda: self.script,
            lambda: self.silent,
        )

    def clean(self) -> None:
        """Remove all endpoints; kill, by its id, whatever does not go."""
        self.script = None
        self.silent.clear()
        for folder in self.root.glob(".*/endpoints"):
            settings = PLUGIN.settings()(path=folder.parent.name)
            context = ProviderContext(target="cleaning", root=self.root)
            backend = PLUGIN.open(settings, context).endpoints
            for name in [path.parent.name for path in folder.glob("*/desired.json")]:
                pid = 0
                with suppress(FileNotFoundError):
                    pid = self.observed(name, target=folder.parent.name[1:])["pid"]
                try:
                    wait(backend.delete(name), timeout_s=20.0)
                except CloudregError:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    raise
        for ws in self._open:
            ws.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A folder with the plainest configuration; tests write their own over it."""
    made = House(tmp_path)
    made.configure()
    plugins.register(
        ProviderPlugin(
            name="scripted",
            summary="a local target that does what a test says",
            settings=PLUGIN.settings,
            open=made.opened,
            capabilities=PLUGIN.capabilities,
        )
    )
    yield made
    made.clean()
    plugins._registered.pop("scripted")


@pytest.fixture
def ws(house: House) -> Workspace:
    """A workspace of the plainest configuration."""
    return house.open()


@pytest.fixture
def live(house: House) -> Callable[..., Workspace]:
    """Return a workspace with one endpoint, whose stage holds version 1 of what is registered."""

    def make(text: str = ENDPOINT, *, versions: int = 2, **configured: Any) -> Workspace:
        house.configure(text, **configured)
        ws = house.open()
        for _ in range(versions):
            house.register(ws)
        ws.promote("churn:1", to="staging")
        ws.promote("churn:1", to="prod")
        return ws

    return make


@pytest.fixture
def traffic() -> type[Traffic]:
    """Requests in the background."""
    return Traffic


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Do something in a thread, and return its future."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Ask until the answer is true."""
    return until


@pytest.fixture
def worker() -> Path:
    """A program that does something with a workspace in a process of its own."""
    return WORKER
