"""The driver contract: what a provider implements, and all that the core ever calls.

A driver translates. It has no policy, no sleeping and no retry loop of its own, and knows only
`cloudreg.errors`, `cloudreg.types` (with the manifest and names beneath them),
`cloudreg.capabilities`, this module and `cloudreg.operations`. `cloudreg.testing` judges it.

Every verb may be called twice. Deleting what is absent is fine. Creating what exists with equal
content returns it; with other content it raises `AlreadyExists`. Write the new before clearing
the old, so that a crash leaves two, never none.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, runtime_checkable

from cloudreg.capabilities import Capabilities
from cloudreg.errors import Unsupported
from cloudreg.jobs import BatchSpec
from cloudreg.machines import Machine
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointSpec,
    ModelVersion,
    OperationStatus,
    PublishedVersion,
    Resources,
    Rollout,
    VariantMetrics,
)

if TYPE_CHECKING:
    # pydantic costs more start-up time than all of the core: only settings need it.
    from pydantic import BaseModel


LINES = "application/jsonlines"
"""One JSON document a line: what a streamed answer and a data set consist of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object in a store.

    Attributes:
        key: Its name, with forward slashes.
        size: Bytes.
        modified_at: When it was written, seconds since 1970.
    """

    key: str
    size: int
    modified_at: float


class ObjectStore(Protocol):
    """Bytes by key: artifacts, and at the home the ledger.

    A key is a relative path of 1 to 1024 bytes with forward slashes. One that is absolute, or has
    empty parts, ``.``, ``..``, NUL or a backslash, is `InvalidRequest` for every verb.
    """

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        """Store *source* under *key*, whole or not at all, and return once it is durable.

        An iterable is consumed once, chunk by chunk, with bounded memory; an exception that it
        raises leaves nothing under *key*.

        Args:
            source: The content.
            key: Its name.
            if_absent: Refuse a key that is taken.
            resume: Names an upload to *key*, in any text. What an earlier put of that name had
                stored when it broke is not sent again, as far as it equals the beginning of
                *source*, which is read from its beginning all the same; other bytes are dropped.
                Nothing of it is seen under *key* before it is whole. Of two puts of one name at
                once, one goes on and the other goes alone. What nobody takes up again is swept
                a day later. A store that keeps nothing starts anew.

        Raises:
            AlreadyExists: With *if_absent*, when the key is taken, whatever it holds; exactly
                one of several writers wins.
            Unavailable: No answer: the object may be there or not.
        """
        ...

    def get(self, key: str, dest: Path) -> None:
        """Write the object to *dest*, which must not exist yet.

        Raises:
            NotFound: No such key; *dest* is not made.
            AlreadyExists: *dest* is there; it stays as it is.
        """
        ...

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Return a reader of a range; the caller closes it. Beyond the end there is nothing.

        Raises:
            NotFound: No such key.
            InvalidRequest: A negative offset or length.
        """
        ...

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        """Copy inside the store, without moving the bytes through this process.

        Raises:
            NotFound: No such key.
            AlreadyExists: With *if_absent*, when *to* is taken.
        """
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose key starts with *prefix* and sorts behind *after*, in order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; absent is fine."""
        ...


class RegistryBackend(Protocol):
    """The target's own registry: a projection of the ledger, for its console and its policies."""

    def publish(self, version: ModelVersion) -> PublishedVersion:
        """Show *version*; the same digest again returns what is there.

        Raises:
            AlreadyExists: The number is taken by another digest.
        """
        ...

    def published(self, model: str) -> Iterator[PublishedVersion]:
        """Yield what a console user sees, highest number first; none for an unknown model."""
        ...

    def point(self, model: str, stage: str, digest: str | None) -> None:
        """Make *stage* show *digest*, or nothing; clearing a clear stage is fine.

        Raises:
            NotFound: *digest* is not published there.
        """
        ...

    def withdraw(self, model: str, digest: str) -> None:
        """Stop showing a version; absent is fine.

        Raises:
            Conflict: A stage still points to it.
        """
        ...

    def native(self, model: str, digest: str) -> Any:
        """Return the target's own object of a version, for what cloudreg has no word for.

        What the vendor's client answered, neither translated nor kept: a mapping, or an object
        that the vendor's SDK documents.

        Raises:
            NotFound: *digest* is not published there.
        """
        ...


class EndpointBackend(Protocol):
    """Endpoints of the target, as far as cloudreg made them."""

    def endpoints(self) -> Iterator[Endpoint]:
        """Yield every endpoint that cloudreg made here, by name."""
        ...

    def endpoint(self, name: str) -> Endpoint | None:
        """Return one endpoint as it is now, or None."""
        ...

    def create(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        """Start making an endpoint.

        Args:
            spec: What it should be.
            artifacts: The version of each digest that *spec* names.

        Raises:
            AlreadyExists: An endpoint of that name exists with another spec.
            NotFound: A file of a version is not in this target's store.
        """
        ...

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> Operation:
        """Start changing an endpoint; requests are served all the while.

        A variant whose digest, resources and environment stay the same keeps its running
        replicas, whatever it is called, and its autoscaled count.

        Args:
            spec: What it should be.
            artifacts: The version of each digest that *spec* names.
            rollout: How the target itself shall move the traffic, where it can
                (`Capabilities.native_rollouts`); it goes back by itself where a limit is broken,
                and the operation fails. None for its plainest way.

        Raises:
            NotFound: No such endpoint, or a file of a version is missing.
        """
        ...

    def delete(self, name: str) -> Operation:
        """Start removing an endpoint; absent is fine."""
        ...

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None = None,
    ) -> bytes:
        """Send one request to the model server, and return its answer.

        Raises:
            NotFound: No such endpoint, or no such variant.
            Unsupported: A variant is named, and the target asks none by name
                (`Capabilities.variant_requests`).
            InvalidRequest: The model server answered 4xx, and the message is its own; or the body
                is larger than the target takes.
            OperationFailed: The model server answered 5xx; ``logs`` holds its last lines.
            Unavailable: No replica is ready.
            OperationTimeout: No answer in time.
        """
        ...

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
        """Send one request, and yield its answer's bytes as the model server writes them.

        Nothing is sent before the first piece is asked for. To close it early lets go of the
        connection, and so of the model server.

        Args:
            name: The endpoint.
            body: The request.
            content_type: Of the request.
            timeout_s: Patience for each piece.
            accept: Form of the answer, which tells a model server to stream.
            variant: Asks one variant, whatever the weights are.

        Raises:
            Unsupported: The target does not stream (`Capabilities.streaming`).
            OperationFailed: As for `invoke`; or the answer broke off, and what was yielded is a
                part of it.
            OperationTimeout: The next piece did not come in time.
            CloudregError: As for `invoke`, before the first piece.
        """
        ...

    def submit(self, name: str, body: bytes, *, content_type: str, timeout_s: float) -> str:
        """Queue one request of an asynchronous endpoint, and return its id at once.

        Each call is a request of its own. Any process finds the answer by the id, with `result`.

        Args:
            name: The endpoint.
            body: The request, of any size that the target's queue takes.
            content_type: Of the request.
            timeout_s: What the model server has for its answer, once it is its turn.

        Raises:
            NotFound: No such endpoint.
            Unsupported: It is of another kind.
            InvalidRequest: The request, or the time for it, is larger than the target takes.
        """
        ...

    def result(self, name: str, request_id: str) -> bytes | None:
        """Return the answer to a queued request; None while there is none yet.

        Raises:
            NotFound: Nobody queued a request of that id there.
            OperationFailed: The model server failed, or refused, in its words; or the request
                waited too long.
        """
        ...

    def metrics(
        self, name: str, *, window_s: float, custom: Sequence[CustomMetric] = ()
    ) -> Mapping[str, VariantMetrics]:
        """Return what each variant answered in the last *window_s* seconds, by its name.

        Args:
            name: The endpoint.
            window_s: How far back.
            custom: What else is looked up for each variant, of sources that the target has
                (`Capabilities.custom_metrics`). What has no data is left out of the answer.

        Raises:
            NotFound: No such endpoint.
            InvalidRequest: A custom metric cannot be looked up like that.
            Unsupported: The target does not know (`Capabilities.variant_metrics`).
        """
        ...

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        """Return the last log lines of the model servers, oldest first."""
        ...

    def native(self, name: str) -> Any:
        """Return the target's own object of an endpoint, as `RegistryBackend.native` does.

        Raises:
            NotFound: No such endpoint.
        """
        ...


@runtime_checkable
class Operation(Protocol):
    """Something a target does in its own time."""

    @property
    def name(self) -> str:
        """What people see while they wait."""
        ...

    def poll(self) -> OperationStatus:
        """Ask once how it stands; never sleep."""
        ...


class TransferBackend(Protocol):
    """Copies into the target's store that a service of the cloud makes, past this machine."""

    @property
    def service(self) -> str:
        """What the cloud calls the service, for plans; "" where there is none."""
        ...

    def start(self, name: str, source: str, keys: Sequence[str]) -> Operation:
        """Begin to copy objects, or go on watching what was begun before under that name.

        Objects that are there stay as they are, whatever they hold: nobody trusts the copies
        before their bytes are hashed. Nothing of the service is left once the operation is done.

        Args:
            name: The same for the same copy, whoever asks for it: lower-case letters and digits.
            source: Where the other store is, as `Provider.location` says.
            keys: Of the objects, the same in both stores.

        Raises:
            Unsupported: No service reads that source (`Capabilities.managed_transfer`).
            ConfigError: The service lacks something that it needs to read the source.
        """
        ...


class NoTransfer:
    """The transfers of a target that has no such service."""

    service = ""

    def __init__(self, reason: str, *, target: str) -> None:
        """Refuse for *reason*."""
        self._reason = reason
        self._target = target

    def start(self, name: str, source: str, keys: Sequence[str]) -> Operation:
        """Refuse."""
        raise Unsupported(f"no service copies {source} there: {self._reason}", target=self._target)


class BatchBackend(Protocol):
    """Data sets that are scored, by jobs that end; `cloudreg.jobs.BatchSpec` says how."""

    def start(self, spec: BatchSpec, *, version: ModelVersion) -> Operation:
        """Begin a job; one of that name that was begun before is returned as it is.

        A job that is over leaves its answers in the store, and nothing else that costs money.

        Args:
            spec: What it does.
            version: The version of *spec*.

        Raises:
            NotFound: A file of the version is not in this target's store.
            Unsupported: No such machine, or not as many.
        """
        ...

    def find(self, name: str) -> Operation | None:
        """Return a job that was begun, whatever became of it; None where there is none."""
        ...

    def stop(self, name: str) -> None:
        """Ask a job to end without its answers; one that is over or absent is fine."""
        ...


class NoBatch:
    """The jobs of a target that has none (`Capabilities.batch`)."""

    def __init__(self, reason: str, *, target: str) -> None:
        """Refuse for *reason*."""
        self._reason = reason
        self._target = target

    def start(self, spec: BatchSpec, *, version: ModelVersion) -> Operation:
        """Refuse."""
        raise Unsupported(
            f"batch {spec.name}: no batch jobs on this provider ({self._reason})",
            target=self._target,
            hint="--target names another one",
        )

    def find(self, name: str) -> Operation | None:
        """Return None."""
        return None

    def stop(self, name: str) -> None:
        """Do nothing: there is none."""


class Provider(Protocol):
    """One target, opened."""

    @property
    def capabilities(self) -> Capabilities:
        """What this target can do; no request is made."""
        ...

    @property
    def store(self) -> ObjectStore:
        """Bytes."""
        ...

    @property
    def registry(self) -> RegistryBackend:
        """The target's own registry."""
        ...

    @property
    def endpoints(self) -> EndpointBackend:
        """Endpoints."""
        ...

    @property
    def batch(self) -> BatchBackend:
        """Batch jobs; `NoBatch` where there are none."""
        ...

    @property
    def location(self) -> str:
        """Where services of clouds find the store, such as ``s3://bucket/prefix/``; "" nowhere."""
        ...

    @property
    def transfers(self) -> TransferBackend:
        """Copies that a service makes; `NoTransfer` where there is none."""
        ...

    def close(self) -> None:
        """Let go of clients; endpoints stay."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext:
    """What a provider is told beside its own settings.

    Attributes:
        target: The target's name in ``cloudreg.toml``, for messages.
        root: The folder that relative paths in settings start from.
    """

    target: str
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What somebody deploys, for the policy that lets them.

    Attributes:
        models: Their names; none for any.
        endpoints: Their names, and those of their pools; none for any.
        stages: Those that a version may be moved to, in their order.
        others: Stages that it may not be moved to.
        by_service: Whether a service copies what is too large (``transfer_above`` of the target).
    """

    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    by_service: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Importable:
    """Something on a target that Terraform may take over, or had better not.

    Attributes:
        type: The resource type of the cloud's own Terraform provider.
        name: What the resource is called in a root, as far as Terraform takes it.
        id: As that provider's documentation of the import wants it.
        kept: Why Terraform must not own it; empty where it may.
    """

    type: str
    name: str
    id: str
    kept: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """A change in a plan of Terraform's.

    Attributes:
        address: Of the resource.
        type: Of the resource.
        actions: What Terraform would do, in its order and its words.
        before: The attributes as they are; empty for a new resource.
        after: As they would be, as far as they are known; empty for a removal.
    """

    address: str
    type: str
    actions: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def removes(self) -> bool:
        """Whether what is there would be gone, for ever or for a moment."""
        return "delete" in self.actions

    def any(self, attribute: str) -> set[str]:
        """Return the texts that an attribute has before and after."""
        values = (side.get(attribute) for side in (self.before, self.after))
        return {value for value in values if isinstance(value, str) and value}


class TerraformSide(Protocol):
    """What a provider knows of the cloud's own Terraform provider."""

    def existing(self, provider: Any, settings: Any, models: Iterable[str]) -> Iterator[Importable]:
        """Yield what is on a target: its bucket, what the registry keeps of *models*, endpoints.

        Args:
            provider: The target, opened by the same plug-in.
            settings: Its section.
            models: Their names.
        """
        ...

    def claim(self, settings: Any, deployed: Deployed, change: PlannedChange) -> str | None:
        """Return why *change* touches what cloudreg owns on a target; None where it does not.

        Args:
            settings: The target's section.
            deployed: What is configured there.
            change: Of a plan.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPlugin:
    """What an entry point in the group ``cloudreg.providers`` names.

    Attributes:
        name: As ``provider = "…"`` in a target's section.
        summary: One line for tables.
        settings: Returns the pydantic model of the section's remaining keys; unknown keys are
            errors there. A function, so that loading the plug-in does not import pydantic.
        open: Connects; the SDK is imported here and not before.
        capabilities: Returns what the provider can do before any settings are known.
        extra: The extra that brings its SDK, such as ``sagemaker``; None where none is needed.
        policy: Returns what a deployer must be permitted to do with a target of these settings,
            as the cloud's own document; no request is made. None where nobody asks for permission.
        terraform: Returns what is known of the cloud's own Terraform provider; None for nothing.
        machines: Returns what a replica with those resources comes on, on a target of these
            settings and that name: the first choice, then what stands in for it; with its price
            in the target's region. No request is made. None where nobody knows.
        remote: Whether each look into its store is a request that takes its time; what is read
            together is then kept together.
    """

    name: str
    summary: str
    settings: Callable[[], type[BaseModel]]
    open: Callable[[Any, ProviderContext], Provider]
    capabilities: Callable[[], Capabilities]
    extra: str | None = None
    policy: Callable[[Any, Deployed], Mapping[str, Any]] | None = None
    terraform: Callable[[], TerraformSide] | None = None
    machines: Callable[[Any, Resources, str], tuple[Machine, ...]] | None = None
    remote: bool = True
