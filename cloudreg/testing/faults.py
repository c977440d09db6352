"""A provider whose n-th change fails, is done without an answer, or takes the process with it.

Only calls that change something are counted. A fault names the call by its number among those
that match; what happened can be read afterwards, so that a test asserts that its fault struck::

    faults = Faults([Fault(verb="store.put", subject="ledger/", call=2, when=When.LOST)])
    plugins.register(faulty(PLUGIN, faults))
    ...
    assert faults.struck

In another process `cloudreg.testing.run` does the same, from arguments or from the environment.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from cloudreg.capabilities import Capabilities
from cloudreg.errors import InvalidRequest, Unavailable
from cloudreg.provider import (
    LINES,
    BatchBackend,
    EndpointBackend,
    ObjectStore,
    Operation,
    Provider,
    ProviderContext,
    ProviderPlugin,
    RegistryBackend,
    StoredObject,
    TransferBackend,
)
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointSpec,
    ModelVersion,
    PublishedVersion,
    Rollout,
    VariantMetrics,
)

T = TypeVar("T")

VERBS = (
    "store.put", "store.copy", "store.delete",
    "registry.publish", "registry.point", "registry.withdraw",
    "endpoints.create", "endpoints.update", "endpoints.delete",
)  # fmt: skip
"""Every call of the contract that changes something."""


class When(StrEnum):
    """Where in a call a fault strikes."""

    BEFORE = "before"
    """Nothing was done."""

    AFTER = "after"
    """It was done or refused; the caller does not learn it."""

    LOST = "lost"
    """It was done or refused, and the caller hears `Unavailable`: nobody told him which."""


class Action(StrEnum):
    """What a fault does."""

    RAISE = "raise"
    """Raise the fault's error."""

    KILL = "kill"
    """End this process with SIGKILL: no handler, no finally."""

    STOP = "stop"
    """Halt this process with SIGSTOP; after SIGCONT the call goes on as if nothing had been."""


CRASHES: dict[str, dict[str, Any]] = {
    "killed before": {"when": When.BEFORE, "action": Action.KILL},
    "killed after": {"when": When.AFTER, "action": Action.KILL},
    "lost answer": {"when": When.LOST},
}
"""What every change of a verb is struck by: name to the arguments of a `Fault`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that changes something.

    Attributes:
        number: Counted from 1, over all targets that share the faults.
        target: The target's name.
        verb: One of `VERBS`.
        subject: The key that is written, or ``model``, ``model/stage`` or the endpoint's name.
    """

    number: int
    target: str
    verb: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Which call is hit, and how.

    Attributes:
        call: Its number among those that match, from 1.
        verb: One of `VERBS`, or its first half such as ``store``; None for every call.
        subject: What the call's subject starts with.
        target: Only calls to this target; None for all.
        when: Where in the call.
        action: What happens; a lost answer is always an error.
        error: What is raised; None for `Unavailable`.
    """

    call: int = 1
    verb: str | None = None
    subject: str = ""
    target: str | None = None
    when: When = When.BEFORE
    action: Action = Action.RAISE
    error: Exception | None = None

    def __post_init__(self) -> None:
        """Refuse a fault that could never strike, or whose parts contradict each other."""
        if self.call < 1:
            raise InvalidRequest(f"fault at call {self.call}: calls are counted from 1")
        known = {*VERBS, *(verb.partition(".")[0] for verb in VERBS)}
        if self.verb is not None and self.verb not in known:
            raise InvalidRequest(f"fault at {self.verb!r}: none of {', '.join(sorted(known))}")
        if self.when is When.LOST and (self.action is not Action.RAISE or self.error):
            raise InvalidRequest("a lost answer is Unavailable: it has no action and no error")
        if self.action is not Action.RAISE and self.error:
            raise InvalidRequest(f"a fault that is to {self.action} raises nothing")

    def matches(self, call: Call) -> bool:
        """Whether *call* is one of those that are counted."""
        return (
            self.target in (None, call.target)
            and (
                self.verb is None or call.verb == self.verb or call.verb.startswith(f"{self.verb}.")
            )
            and call.subject.startswith(self.subject)
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, for another process.

        Raises:
            InvalidRequest: It raises an error of its own, which has no JSON.
        """
        if self.error is not None:
            raise InvalidRequest("a fault with an error of its own cannot go to another process")
        return {name: value for name, value in asdict(self).items() if name != "error"}

    @classmethod
    def from_json(cls, document: object) -> Fault:
        """Read what `to_json` returned; what is left out has its default.

        Raises:
            InvalidRequest: Anything else, an unknown key included.
        """
        known = {field.name for field in fields(cls)} - {"error"}
        if not isinstance(document, dict) or not set(document) <= known:
            raise InvalidRequest(f"fault {document!r}: an object with {', '.join(sorted(known))}")
        try:
            made = cls(**document)
            return replace(made, when=When(made.when), action=Action(made.action))
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"fault {document!r}: {error}") from error


class Faults:
    """Counts the calls of any number of providers, and strikes.

    Attributes:
        calls: All calls so far that change something, in the order in which they began.
        struck: Those that a fault hit, each with its fault.
    """

    def __init__(self, faults: Sequence[Fault] = (), *, record: Path | None = None) -> None:
        """Prepare.

        Args:
            faults: What shall go wrong; none only records.
            record: A file that gets a line for each call before it begins, so that somebody
                else can read what a process did until it was killed.
        """
        self.calls: list[Call] = []
        self.struck: list[tuple[Call, Fault]] = []
        self._faults = tuple(faults)
        self._seen = [0] * len(self._faults)
        self._record = record
        self._lock = threading.Lock()

    def around(self, target: str, verb: str, subject: str, act: Callable[[], T]) -> T:
        """Do *act*, unless a fault strikes before it; strike after it where one has to.

        Also after a refusal: its answer can be lost like any other.
        """
        call, due = self._begin(target, verb, subject)
        early = [fault for fault in due if fault.when is When.BEFORE]
        late = [fault for fault in due if fault.when is not When.BEFORE]
        self._strike(call, early, "not done")
        try:
            answer = act()
        except Exception:
            self._strike(call, late, "refused")
            raise
        self._strike(call, late, "done")
        return answer

    def _begin(self, target: str, verb: str, subject: str) -> tuple[Call, list[Fault]]:
        with self._lock:
            call = Call(number=len(self.calls) + 1, target=target, verb=verb, subject=subject)
            self.calls.append(call)
            due = []
            for index, fault in enumerate(self._faults):
                if fault.matches(call):
                    self._seen[index] += 1
                    if self._seen[index] == fault.call:
                        due.append(fault)
            if self._record is not None:
                with self._record.open("a", encoding="utf-8") as writer:
                    writer.write(json.dumps(asdict(call)) + "\n")
        return call, due

    def _strike(self, call: Call, due: Sequence[Fault], outcome: str) -> None:
        for fault in due:
            with self._lock:
                self.struck.append((call, fault))
            if fault.action is Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault.action is Action.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                raise fault.error or Unavailable(
                    f"injected at call {call.number}: {call.verb} {call.subject} ({outcome})",
                    target=call.target,
                )


def recorded(record: Path) -> list[Call]:
    """Return the calls that `Faults` wrote to *record*; none where the file is missing."""
    if not record.exists():
        return []
    return [Call(**json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]


def faulty(plugin: ProviderPlugin, faults: Faults) -> ProviderPlugin:
    """Return *plugin* under the same name, opening providers that *faults* strikes."""

    def open_faulty(settings: Any, context: ProviderContext) -> Provider:
        return FaultyProvider(plugin.open(settings, context), faults, target=context.target)

    return replace(plugin, open=open_faulty)


class FaultyProvider:
    """A provider whose changes are counted and hit; looks pass untouched."""

    def __init__(self, provider: Provider, faults: Faults, *, target: str) -> None:
        """Wrap *provider*."""
        self._provider = provider
        self.store: ObjectStore = _Store(provider.store, faults, target)
        self.registry: RegistryBackend = _Registry(provider.registry, faults, target)
        self.endpoints: EndpointBackend = _Endpoints(provider.endpoints, faults, target)

    @property
    def capabilities(self) -> Capabilities:
        """What the wrapped provider can do."""
        return self._provider.capabilities

    @property
    def batch(self) -> BatchBackend:
        """The wrapped provider's; its jobs are not hit."""
        return self._provider.batch

    @property
    def location(self) -> str:
        """Where the wrapped provider's store is."""
        return self._provider.location

    @property
    def transfers(self) -> TransferBackend:
        """The wrapped provider's; its copies are not hit."""
        return self._provider.transfers

    def close(self) -> None:
        """Close the wrapped provider."""
        self._provider.close()


class _Store:
    def __init__(self, store: ObjectStore, faults: Faults, target: str) -> None:
        self._store = store
        self._faults = faults
        self._target = target

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        return self._faults.around(
            self._target,
            "store.put",
            key,
            lambda: self._store.put(source, key, if_absent=if_absent, resume=resume),
        )

    def get(self, key: str, dest: Path) -> None:
        self._store.get(key, dest)

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        return self._store.open(key, offset=offset, length=length)

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        return self._faults.around(
            self._target,
            "store.copy",
            to,
            lambda: self._store.copy(key, to, if_absent=if_absent),
        )

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        return self._store.list(prefix, after=after)

    def delete(self, key: str) -> None:
        self._faults.around(self._target, "store.delete", key, lambda: self._store.delete(key))


class _Registry:
    def __init__(self, registry: RegistryBackend, faults: Faults, target: str) -> None:
        self._registry = registry
        self._faults = faults
        self._target = target

    def publish(self, version: ModelVersion) -> PublishedVersion:
        return self._faults.around(
            self._target,
            "registry.publish",
            version.model,
            lambda: self._registry.publish(version),
        )

    def published(self, model: str) -> Iterator[PublishedVersion]:
        return self._registry.published(model)

    def point(self, model: str, stage: str, digest: str | None) -> None:
        self._faults.around(
            self._target,
            "registry.point",
            f"{model}/{stage}",
            lambda: self._registry.point(model, stage, digest),
        )

    def withdraw(self, model: str, digest: str) -> None:
        self._faults.around(
            self._target,
            "registry.withdraw",
            model,
            lambda: self._registry.withdraw(model, digest),
        )

    def native(self, model: str, digest: str) -> Any:
        return self._registry.native(model, digest)


class _Endpoints:
    def __init__(self, endpoints: EndpointBackend, faults: Faults, target: str) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._target = target

    def endpoints(self) -> Iterator[Endpoint]:
        return self._endpoints.endpoints()

    def endpoint(self, name: str) -> Endpoint | None:
        return self._endpoints.endpoint(name)

    def create(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        return self._faults.around(
            self._target,
            "endpoints.create",
            spec.name,
            lambda: self._endpoints.create(spec, artifacts=artifacts),
        )

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> Operation:
        return self._faults.around(
            self._target,
            "endpoints.update",
            spec.name,
            lambda: self._endpoints.update(spec, artifacts=artifacts, rollout=rollout),
        )

    def delete(self, name: str) -> Operation:
        return self._faults.around(
            self._target, "endpoints.delete", name, lambda: self._endpoints.delete(name)
        )

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None = None,
    ) -> bytes:
        return self._endpoints.invoke(
            name, body, content_type=content_type, timeout_s=timeout_s, variant=variant
        )

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
        return self._endpoints.stream(
            name,
            body,
            content_type=content_type,
            timeout_s=timeout_s,
            accept=accept,
            variant=variant,
        )

    def submit(self, name: str, body: bytes, *, content_type: str, timeout_s: float) -> str:
        return self._endpoints.submit(name, body, content_type=content_type, timeout_s=timeout_s)

    def result(self, name: str, request_id: str) -> bytes | None:
        return self._endpoints.result(name, request_id)

    def metrics(
        self, name: str, *, window_s: float, custom: Sequence[CustomMetric] = ()
    ) -> Mapping[str, VariantMetrics]:
        return self._endpoints.metrics(name, window_s=window_s, custom=custom)

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        return self._endpoints.logs(name, variant=variant, lines=lines)

    def native(self, name: str) -> Any:
        return self._endpoints.native(name)
