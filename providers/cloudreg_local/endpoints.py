"""Endpoints: a folder says what each should be, and a supervisor process makes it so.

The process that asks may end: the supervisor goes on.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    ProviderNotInstalled,
    Unavailable,
)
from cloudreg.names import check_endpoint
from cloudreg.provider import Operation
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    ModelVersion,
    OperationState,
    OperationStatus,
    VariantMetrics,
)
from cloudreg_local import logs, wire
from cloudreg_local.disk import make_folder
from cloudreg_local.errors import translated
from cloudreg_local.folder import EndpointFolder, now
from cloudreg_local.store import LocalStore

if TYPE_CHECKING:
    from cloudreg_local.settings import LocalSettings

SERVER = (sys.executable, "-P", "-m", "cloudreg.serving")
"""The model server; ``-P`` because the folder it starts in must not offer modules."""


class LocalEndpoints:
    """Endpoints of a local target."""

    def __init__(
        self,
        root: Path,
        store: LocalStore,
        settings: LocalSettings,
        capabilities: Capabilities,
        *,
        target: str,
    ) -> None:
        """Use *root*; it is made with the first endpoint."""
        self._root = root
        self._store = store
        self._settings = settings
        self._capabilities = capabilities
        self._target = target
        self._started: list[int] = []

    def endpoints(self) -> Iterator[Endpoint]:
        with self._translated("endpoints"):
            names = sorted(path.parent.name for path in self._root.glob("*/desired.json"))
        for name in names:
            found = self.endpoint(name)
            if found is not None:
                yield found

    def endpoint(self, name: str) -> Endpoint | None:
        desired, observed, alive = self._look(name)
        return wire.endpoint_from(desired, observed, alive=alive) if desired else None

    def create(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        self._check(spec, artifacts)
        with self._changing(spec.name) as folder:
            desired, observed = folder.desired(), folder.observed()
            if desired is None or desired.deleted:
                return self._start(folder, spec, desired)
            seen = wire.endpoint_from(desired, observed, alive=True)
            if spec not in (seen.spec, desired.spec):
                raise AlreadyExists(
                    f"endpoint {spec.name} exists with another configuration",
                    target=self._target,
                )
            return self._change(folder, spec, desired, observed)

    def update(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        self._check(spec, artifacts)
        with self._changing(spec.name) as folder:
            desired, observed = folder.desired(), folder.observed()
            if desired is None or desired.deleted:
                raise self._missing(spec.name)
            return self._change(folder, spec, desired, observed)

    def delete(self, name: str) -> Operation:
        with self._changing(name) as folder:
            desired = folder.desired()
            if not folder.alive():
                folder.remove()  # also what a crash left behind
            elif desired is not None and not desired.deleted:
                folder.ask(replace(desired, generation=desired.generation + 1, deleted=True))
            return Removal(self, name, desired.instance if desired else "")

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None = None,
    ) -> bytes:
        headers = {"Content-Type": content_type}
        if variant is not None:
            headers[wire.VARIANT_HEADER] = variant
        status, problem, answer = self._ask(
            name, "POST", "/invocations", body, headers=headers, timeout_s=timeout_s
        )
        said = answer.decode(errors="replace").strip()[:2000]
        if problem == "no-variant":
            raise NotFound(
                f"endpoint {name} has no variant {variant!r}",
                target=self._target,
                hint="cloudreg status shows its variants",
            )
        if problem == "unavailable":
            raise Unavailable(f"endpoint {name}: {said}", target=self._target)
        if 400 <= status < 500:
            raise InvalidRequest(f"endpoint {name} answered {status}: {said}", target=self._target)
        if status >= 500:
            raise OperationFailed(
                f"endpoint {name} answered {status}: {said}",
                target=self._target,
                logs=self.logs(name, variant=variant, lines=20),
            )
        return answer

    def metrics(self, name: str, *, window_s: float) -> Mapping[str, VariantMetrics]:
        if not window_s >= 0:
            raise InvalidRequest(f"window_s {window_s} is not 0 or more", target=self._target)
        path = f"/-/metrics?window_s={window_s!r}"
        _, _, answer = self._ask(name, "GET", path, None, headers={}, timeout_s=10.0)
        return wire.metrics_from(answer)

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        desired, observed, _ = self._look(name)
        if desired is None:
            raise self._missing(name)
        names = None
        if variant is not None:
            names = {
                file
                for seen in (observed.variants if observed else ())
                if seen.status.name == variant
                for file in seen.logs
            }
        with self._translated(name):
            return logs.tail(self._folder(name).logs, lines=lines, names=names)

    def _ask(
        self,
        name: str,
        method: str,
        path: str,
        body: bytes | None,
        *,
        headers: dict[str, str],
        timeout_s: float,
    ) -> tuple[int, str | None, bytes]:
        """Send one request to the endpoint's router; return status, its own problem and body."""
        desired, observed, alive = self._look(name)
        if desired is None:
            raise self._missing(name)
        seen = wire.endpoint_from(desired, observed, alive=alive)
        if seen.url is None or not alive:
            raise Unavailable(
                f"endpoint {name} is {seen.status}: {seen.message}", target=self._target
            )
        address = urlsplit(seen.url)
        connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=timeout_s
        )
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers.get(wire.ERROR_HEADER), response.read()
        except TimeoutError as error:
            raise OperationTimeout(
                f"endpoint {name} did not answer in {timeout_s:g} s", target=self._target
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"endpoint {name}: {error}", target=self._target) from error
        finally:
            connection.close()

    def _check(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        """Refuse what could not be started, before anything is touched."""
        if importlib.util.find_spec("aiohttp") is None:
            raise ProviderNotInstalled(
                "endpoints on this machine need aiohttp",
                target=self._target,
                hint="pip install 'cloudreg[local]'",
            )
        self._capabilities.require(spec, target=self._target)
        for variant in spec.variants:
            version = artifacts.get(variant.digest)
            if version is None:
                raise InvalidRequest(
                    f"variant {variant.name}: no version is given for {variant.digest}",
                    target=self._target,
                )
            wanted = [wire.manifest_key(variant.digest)]
            wanted += [entry.key for entry in version.manifest.files]
            for key in wanted:
                if not self._store.has(key):
                    raise NotFound(
                        f"{variant.model}:{variant.number}: {key} is not in the store",
                        target=self._target,
                    )

    def _start(
        self, folder: EndpointFolder, spec: EndpointSpec, before: wire.Desired | None
    ) -> Operation:
        """Make an endpoint that is not there, or whose end is being prepared."""
        if before is not None and folder.alive():
            # Its supervisor is about to end: it looks once more before it does.
            return self._ask_for(folder, spec, before)
        folder.remove()
        make_folder(folder.path)
        fresh = wire.Desired(
            instance=uuid.uuid4().hex,
            generation=0,
            spec=spec,
            asked_at=now(),
            command=(),
        )
        return self._ask_for(folder, spec, fresh)

    def _change(
        self,
        folder: EndpointFolder,
        spec: EndpointSpec,
        desired: wire.Desired,
        observed: wire.Observed | None,
    ) -> Operation:
        failed = (
            observed is not None
            and observed.instance == desired.instance
            and observed.generation == desired.generation
            and observed.state is OperationState.FAILED
        )
        if spec == desired.spec and folder.alive() and not failed:
            return Change(self, spec.name, desired.instance, desired.generation)
        return self._ask_for(folder, spec, desired)

    def _ask_for(
        self, folder: EndpointFolder, spec: EndpointSpec, before: wire.Desired
    ) -> Operation:
        desired = wire.Desired(
            instance=before.instance,
            generation=before.generation + 1,
            spec=spec,
            asked_at=now(),
            command=self._settings.server_command or SERVER,
            host=self._settings.host,
            ports=self._settings.port_range,
        )
        folder.ask(desired)
        started = folder.supervise()
        if started is not None:
            self._started.append(started)
        return Change(self, spec.name, desired.instance, desired.generation)

    def _look(self, name: str) -> tuple[wire.Desired | None, wire.Observed | None, bool]:
        """Return what was asked, what there is, and whether the supervisor lives.

        In that order of importance: who is dead before we read has written his last.
        """
        folder = self._folder(name)
        self._reap()
        with self._translated(name):
            if not folder.exists():
                return None, None, False
            with folder.held(shared=True):
                alive = folder.alive()
                return folder.desired(), folder.observed(), alive

    def _reap(self) -> None:
        """Take leave of supervisors that this process started and that have ended."""
        for pid in list(self._started):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            with suppress(ValueError):
                self._started.remove(pid)

    @contextmanager
    def _changing(self, name: str) -> Iterator[EndpointFolder]:
        folder = self._folder(name)
        with self._translated(name):
            make_folder(self._root / ".locks")
            with folder.held():
                yield folder

    def _folder(self, name: str) -> EndpointFolder:
        return EndpointFolder(self._root / check_endpoint(name))

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"no endpoint {name!r} is here", target=self._target)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        with translated(f"endpoint {name}", target=self._target):
            yield


class Change:
    """A create or an update."""

    def __init__(self, backend: LocalEndpoints, name: str, instance: str, generation: int) -> None:
        """Remember which request it was."""
        self._backend = backend
        self._endpoint = name
        self._instance = instance
        self._generation = generation

    @property
    def name(self) -> str:
        return f"endpoint {self._endpoint}"

    def poll(self) -> OperationStatus:
        desired, observed, alive = self._backend._look(self._endpoint)
        return wire.change_status(
            self._generation,
            self._instance,
            desired,
            observed,
            alive=alive,
            last_words=self._backend._folder(self._endpoint).last_words(),
        )


class Removal:
    """A delete."""

    def __init__(self, backend: LocalEndpoints, name: str, instance: str) -> None:
        """Remember which endpoint it was."""
        self._backend = backend
        self._endpoint = name
        self._instance = instance

    @property
    def name(self) -> str:
        return f"removal of endpoint {self._endpoint}"

    def poll(self) -> OperationStatus:
        desired, _, alive = self._backend._look(self._endpoint)
        if desired is None or desired.instance != self._instance or not desired.deleted:
            return OperationStatus(state=OperationState.SUCCEEDED, progress=1.0)
        if not alive:
            return OperationStatus(
                state=OperationState.FAILED, message="its supervisor died; delete it again"
            )
        return OperationStatus(state=OperationState.RUNNING, message="waiting for open requests")
