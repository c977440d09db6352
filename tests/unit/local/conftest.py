"""A local target whose model server is a stand-in, and the end of every process it started."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cloudreg.errors import AlreadyExists, CloudregError
from cloudreg.names import sha256
from cloudreg.provider import Operation, ProviderContext
from cloudreg.types import (
    EndpointSpec,
    FileEntry,
    Manifest,
    ModelVersion,
    OperationState,
    OperationStatus,
    Resources,
    Scaling,
    ScalingMetric,
    Variant,
)
from cloudreg_local import PLUGIN
from cloudreg_local.provider import LocalProvider

STANDIN = Path(__file__).with_name("standin.py")


def until(ask: Callable[[], Any], *, timeout_s: float = 20.0) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < end, f"still {answer!r} after {timeout_s:g} s"
        time.sleep(0.01)
    return answer


def is_running(pid: int) -> bool:
    """Whether a process runs; who is dead and not yet mourned does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Bench:
    """A local target at a folder, with shorthands."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        settings.setdefault("server_command", [sys.executable, "-I", str(STANDIN)])
        self.settings = settings
        self.provider = self.open()
        self.versions: dict[str, ModelVersion] = {}

    def open(self) -> LocalProvider:
        settings = PLUGIN.settings()(**self.settings)
        provider = PLUGIN.open(settings, ProviderContext(target="laptop", root=self.root))
        assert isinstance(provider, LocalProvider)
        return provider

    def version(self, number: int, text: str = "") -> ModelVersion:
        """Store and return a version whose one file holds *text*."""
        data = (text or f"weights of {number}").encode()
        entry = FileEntry(path="weights.txt", size=len(data), sha256=sha256(data)[7:])
        manifest = Manifest(files=(entry,), labels={"number": str(number)})
        for key, content in (
            (entry.key, data),
            (f"manifests/{manifest.digest[7:]}", manifest.encode()),
        ):
            with suppress(AlreadyExists):
                self.provider.store.put(content, key, if_absent=True)
        version = ModelVersion(
            model="churn",
            number=number,
            digest=manifest.digest,
            manifest=manifest,
            author="tests",
            created_at="2026-01-01T00:00:00Z",
        )
        self.versions[version.digest] = version
        return version

    def spec(
        self,
        name: str,
        *variants: tuple[str, ModelVersion, int],
        replicas: tuple[int, int] = (1, 1),
        metric: ScalingMetric = ScalingMetric.CONCURRENCY,
        concurrency: float = 4.0,
        grow_s: float | None = None,
        cooldown_s: float = 300.0,
        gpu: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> EndpointSpec:
        scaling = Scaling(
            min_replicas=replicas[0],
            max_replicas=replicas[1],
            metric=metric,
            target=concurrency,
            scale_out_cooldown_s=grow_s,
            scale_in_cooldown_s=cooldown_s,
        )
        return EndpointSpec(
            name=name,
            stage="prod",
            env=env or {},
            variants=tuple(
                Variant(
                    name=label,
                    model=version.model,
                    number=version.number,
                    digest=version.digest,
                    weight=weight,
                    resources=Resources.parse(gpu),
                    scaling=scaling,
                )
                for label, version, weight in variants
            ),
        )

    def create(self, spec: EndpointSpec) -> OperationStatus:
        return self.wait(self.provider.endpoints.create(spec, artifacts=self.versions))

    def update(self, spec: EndpointSpec) -> OperationStatus:
        return self.wait(self.provider.endpoints.update(spec, artifacts=self.versions))

    def delete(self, name: str) -> OperationStatus:
        return self.wait(self.provider.endpoints.delete(name))

    def wait(self, operation: Operation) -> OperationStatus:
        return until(
            lambda: (s := operation.poll()).state is not OperationState.RUNNING and s,
            timeout_s=30.0,
        )

    def ask(self, name: str, *, variant: str | None = None, **question: Any) -> dict[str, Any]:
        answer = self.provider.endpoints.invoke(
            name,
            json.dumps(question).encode(),
            content_type="application/json",
            timeout_s=20.0,
            variant=variant,
        )
        found: dict[str, Any] = json.loads(answer)
        return found

    def observed(self, name: str) -> dict[str, Any]:
        folder = self.root / ".cloudreg" / "endpoints" / name
        found: dict[str, Any] = json.loads((folder / "observed.json").read_bytes())
        return found

    def replicas(self, name: str) -> list[int]:
        """Process ids of the model servers."""
        return [pid for seen in self.observed(name)["variants"] for pid in seen["pids"]]

    def supervisor(self, name: str) -> int:
        pid = self.observed(name)["pid"]
        assert isinstance(pid, int)
        return pid

    def url(self, name: str, path: str = "/invocations") -> str:
        found = self.provider.endpoints.endpoint(name)
        assert found is not None
        assert found.url is not None
        return found.url.removesuffix("/invocations") + path

    def request(
        self, name: str, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the endpoint as any client would; ``X_Name`` is the header ``X-Name``."""
        with self.connection(name) as connection:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.headers.items()}
            return answer.status, found, answer.read()

    @contextmanager
    def connection(self, name: str) -> Iterator[http.client.HTTPConnection]:
        address = urlsplit(self.url(name))
        made = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        try:
            yield made
        finally:
            made.close()

    def processes(self, name: str = "") -> list[int]:
        """Ids of the processes of this target, or of one endpoint, by their command lines."""
        folder = str(self.root / ".cloudreg" / "endpoints" / name).encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                # A script's own text may name the folder too: arguments start with it.
                if any(word == folder or word.startswith(folder + b"/") for word in words):
                    found.append(int(path.name))
        return found

    def clean(self) -> None:
        """Delete all endpoints; kill, by its id, whoever does not go, and complain."""
        folder = self.root / ".cloudreg" / "endpoints"
        try:
            for path in folder.glob("*/supervisor.lock"):
                with suppress(CloudregError):
                    self.delete(path.parent.name)
            until(lambda: not self.processes(), timeout_s=10.0)
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class Load:
    """Threads that ask all the time, and what they were told."""

    def __init__(self, bench: Bench, name: str, *, threads: int = 3, **question: Any) -> None:
        self.statuses: Counter[int] = Counter()
        self.numbers: Counter[int] = Counter()
        self.pids: Counter[int] = Counter()
        self.problems: list[str] = []
        self._body = json.dumps(question)
        self._address = urlsplit(bench.url(name))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    @property
    def count(self) -> int:
        return self.statuses.total() + len(self.problems)

    def more(self, count: int) -> None:
        """Wait for so many answers more."""
        wanted = self.count + count
        until(lambda: self.count >= wanted)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        made = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=20
        )
        while not self._over.is_set():
            try:
                made.request("POST", "/invocations", body=self._body)
                answer = made.getresponse()
                said = json.loads(answer.read())
                self.statuses[answer.status] += 1
                self.numbers[said.get("number", 0)] += 1
                self.pids[said.get("pid", 0)] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.problems.append(repr(error))
                made.close()
        made.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A target that the tests of a module share; each uses endpoints of its own."""
    made = Bench(tmp_path_factory.mktemp("local"))
    yield made
    made.clean()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Return targets of this test alone."""
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(tmp_path / str(len(made)), **settings))
        return made[-1]

    yield make
    with ExitStack() as stack:
        for one in made:
            stack.callback(one.clean)


@pytest.fixture
def load() -> type[Load]:
    return Load
