"""Endpoints: a folder says what each should be, and a supervisor process makes it so.

The process that asks may end: the supervisor goes on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    InvalidRequest,
    NotFound,
    ProviderNotInstalled,
    Unavailable,
    Unsupported,
)
from cloudreg.names import check_endpoint
from cloudreg.provider import LINES, Operation
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointSpec,
    ModelVersion,
    OperationState,
    OperationStatus,
    Rollout,
    VariantMetrics,
    named,
)
from cloudreg_local import logs, wire
from cloudreg_local.calls import Caller
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

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> Operation:
        if rollout is not None:
            self._capabilities.require_rollout(rollout, spec, target=self._target)
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
        caller = self._caller(name)
        with caller.asked(
            "POST", "/invocations", body, content_type=content_type, timeout_s=timeout_s,
            variant=variant,
        ) as answer:  # fmt: skip
            return answer.whole()

    def stream(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        accept: str = LINES,
        variant: str | None = None,
    ) -> Generator[bytes, None, None]:
        caller = self._caller(name)
        with caller.asked(
            "POST", "/invocations", body, content_type=content_type, timeout_s=timeout_s,
            variant=variant, accept=accept,
        ) as answer:  # fmt: skip
            yield from answer.pieces()

    def submit(self, name: str, body: bytes, *, content_type: str, timeout_s: float) -> str:
        raise self._queues_nothing(name)

    def result(self, name: str, request_id: str) -> bytes | None:
        raise self._queues_nothing(name)

    def metrics(
        self, name: str, *, window_s: float, custom: Sequence[CustomMetric] = ()
    ) -> Mapping[str, VariantMetrics]:
        if not window_s >= 0:
            raise InvalidRequest(f"window_s {window_s} is not 0 or more", target=self._target)
        self._capabilities.require_metrics(custom, name=name, target=self._target)
        caller = self._caller(name)
        path = f"/-/metrics?window_s={window_s!r}"
        with caller.asked("GET", path, None, timeout_s=10.0) as answer:
            counted = wire.metrics_from(answer.whole())
        if not custom:
            return counted
        with caller.asked("GET", "/-/scrape", None, timeout_s=10.0) as answer:
            scraped = answer.whole()
        desired, observed, _ = self._look(name)
        spec = observed.current if observed is not None else None
        if spec is None:
            spec = desired.spec if desired is not None else None
        known = {v: named(spec, v) for v in counted} if spec is not None else {}
        from cloudreg_local import scraping  # asyncio, which a listing needs not

        return scraping.with_custom(counted, scraped, custom, known)

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

    def native(self, name: str) -> dict[str, Any]:
        """Return the endpoint's files as they are, and whether its supervisor lives."""
        desired, observed, alive = self._look(name)
        if desired is None:
            raise self._missing(name)
        return {
            "desired": json.loads(wire.encode(desired)),
            "observed": json.loads(wire.encode(observed)) if observed is not None else None,
            "alive": alive,
            "path": str(self._folder(name).path),
        }

    def _caller(self, name: str) -> Caller:
        """Return what talks to the endpoint's router."""
        desired, observed, alive = self._look(name)
        if desired is None:
            raise self._missing(name)
        seen = wire.endpoint_from(desired, observed, alive=alive)
        if seen.url is None or not alive:
            raise Unavailable(
                f"endpoint {name} is {seen.status}: {seen.message}", target=self._target
            )
        return Caller(
            name, seen.url, target=self._target, last_words=partial(self.logs, name, lines=20)
        )

    def _check(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        """Refuse what could not be started, before anything is touched."""
        if importlib.util.find_spec("aiohttp") is None:
            raise ProviderNotInstalled(
                "endpoints on this machine need aiohttp",
                target=self._target,
                hint="pip install 'cloudreg[local]'",
            )
        self._capabilities.require(spec, target=self._target)
        for variant in spec.served:
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
            devices=self._settings.devices,
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

    def _queues_nothing(self, name: str) -> CloudregError:
        if self._look(name)[0] is None:
            return self._missing(name)
        return Unsupported(
            f"endpoint {name} queues nothing: it answers at once",
            target=self._target,
            hint=f"cloudreg predict {name}, which waits for the answer",
        )

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
