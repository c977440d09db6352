"""Backends that ask before every mutating call whether this process still holds the model."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from cloudreg.ledger import Lease
from cloudreg.provider import LINES, EndpointBackend, Operation, RegistryBackend
from cloudreg.types import (
    CustomMetric,
    Endpoint,
    EndpointSpec,
    ModelVersion,
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
        return self._backend.publish(version)

    def published(self, model: str) -> Iterator[PublishedVersion]:
        """Look."""
        return self._backend.published(model)

    def point(self, model: str, stage: str, digest: str | None) -> None:
        """Check the lease, then point."""
        self._lease.check()
        self._backend.point(model, stage, digest)

    def withdraw(self, model: str, digest: str) -> None:
        """Check the lease, then withdraw."""
        self._lease.check()
        self._backend.withdraw(model, digest)

    def native(self, model: str, digest: str) -> Any:
        """Look."""
        return self._backend.native(model, digest)


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
        return self._backend.create(spec, artifacts=artifacts)

    def update(
        self,
        spec: EndpointSpec,
        *,
        artifacts: Mapping[str, ModelVersion],
        rollout: Rollout | None = None,
    ) -> Operation:
        """Check the lease, then update."""
        self._lease.check()
        return self._backend.update(spec, artifacts=artifacts, rollout=rollout)

    def delete(self, name: str) -> Operation:
        """Check the lease, then delete."""
        self._lease.check()
        return self._backend.delete(name)

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
