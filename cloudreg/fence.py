"""Backends that ask before every mutating call whether this process still holds the model.

A verb is one such call here and may be several on the wire: `cloudreg.holding` lets the provider
ask before each of those, and at each poll of what it began.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from cloudreg.holding import holding
from cloudreg.ledger import Lease
from cloudreg.provider import LINES, EndpointBackend, Operation, RegistryBackend
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointSpec,
    ModelVersion,
    OperationStatus,
    PublishedVersion,
    Rollout,
    VariantMetrics,
)


class FencedRegistry:
    """A registry backend behind a lease."""

    def __init__(self, backend: RegistryBackend, lease: Lease) -> None:
        """Guard *backend* with *lease*."""
        self._backend = backend
        self._lease = lease

    def publish(self, version: ModelVersion) -> PublishedVersion:
        """Check the lease, then publish."""
        self._lease.check()
        with holding(self._lease.check):
            return self._backend.publish(version)

    def published(self, model: str) -> Iterator[PublishedVersion]:
        """Look."""
        return self._backend.published(model)

    def point(self, model: str, stage: str, digest: str | None) -> None:
        """Check the lease, then point."""
        self._lease.check()
        with holding(self._lease.check):
            self._backend.point(model, stage, digest)

    def withdraw(self, model: str, digest: str) -> None:
        """Check the lease, then withdraw."""
        self._lease.check()
        with holding(self._lease.check):
            self._backend.withdraw(model, digest)

    def native(self, model: str, digest: str) -> Any:
        """Look."""
        return self._backend.native(model, digest)


class FencedOperation:
    """What a target does in its own time, behind a lease: a poll can send what was waiting."""

    def __init__(self, operation: Operation, lease: Lease) -> None:
        """Guard *operation* with *lease*."""
        self._operation = operation
        self._lease = lease

    @property
    def name(self) -> str:
        """Return what people see while they wait."""
        return self._operation.name

    def poll(self) -> OperationStatus:
        """Look how it stands; the lease is asked before anything is changed."""
        with holding(self._lease.check):
            return self._operation.poll()


class FencedEndpoints:
    """An endpoint backend behind a lease."""

    def __init__(self, backend: EndpointBackend, lease: Lease) -> None:
        """Guard *backend* with *lease*."""
        self._backend = backend
        self._lease = lease

    def endpoints(self) -> Iterator[Endpoint]:
        """Look."""
        return self._backend.endpoints()

    def endpoint(self, name: str) -> Endpoint | None:
        """Look."""
        return self._backend.endpoint(name)

    def create(self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]) -> Operation:
        """Check the lease, then create."""
        self._lease.check()
        with holding(self._lease.check):
            begun = self._backend.create(spec, artifacts=artifacts)
        return FencedOperation(begun, self._lease)

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> Operation:
        """Check the lease, then update."""
        self._lease.check()
        with holding(self._lease.check):
            begun = self._backend.update(spec, artifacts=artifacts, rollout=rollout)
        return FencedOperation(begun, self._lease)

    def delete(self, name: str) -> Operation:
        """Check the lease, then delete."""
        self._lease.check()
        with holding(self._lease.check):
            begun = self._backend.delete(name)
        return FencedOperation(begun, self._lease)

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        timeout_s: float,
        variant: str | None = None,
    ) -> bytes:
        """Ask the model."""
        return self._backend.invoke(
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
        """Ask the model."""
        return self._backend.stream(
            name,
            body,
            content_type=content_type,
            timeout_s=timeout_s,
            accept=accept,
            variant=variant,
        )

    def submit(self, name: str, body: bytes, *, content_type: str, timeout_s: float) -> str:
        """Ask the model."""
        return self._backend.submit(name, body, content_type=content_type, timeout_s=timeout_s)

    def result(self, name: str, request_id: str) -> bytes | None:
        """Look."""
        return self._backend.result(name, request_id)

    def metrics(
        self, name: str, *, window_s: float, custom: Sequence[CustomMetric] = ()
    ) -> Mapping[str, VariantMetrics]:
        """Look."""
        return self._backend.metrics(name, window_s=window_s, custom=custom)

    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        """Look."""
        return self._backend.logs(name, variant=variant, lines=lines)

    def native(self, name: str) -> Any:
        """Look."""
        return self._backend.native(name)
