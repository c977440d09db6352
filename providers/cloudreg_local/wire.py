"""Nouns to JSON on disk, and back; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from cloudreg.errors import IntegrityError
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    ModelVersion,
    OperationState,
    OperationStatus,
    PublishedVersion,
    VariantMetrics,
    VariantStatus,
)

T = TypeVar("T")

VARIANT_HEADER = "X-Cloudreg-Variant"
"""On a request: which variant has to answer. On an answer: which one did."""

DIGEST_HEADER = "X-Cloudreg-Digest"
ERROR_HEADER = "X-Cloudreg-Error"
"""On answers of the router itself: a word for programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What an endpoint should be: ``desired.json``, written by whoever asks.

    Attributes:
        instance: Another one each time that an endpoint is made.
        generation: Counts the requests for a change.
        spec: What was asked for.
        asked_at: When, ISO 8601 in UTC.
        command: Starts a model server.
        host: Address to listen on.
        ports: First and last port; None for any.
        devices: GPUs for its model servers; None for what the machine shows.
        deleted: Whether it should go.
    """

    instance: str
    generation: int
    spec: EndpointSpec
    asked_at: str
    command: tuple[str, ...]
    host: str = "127.0.0.1"
    ports: tuple[int, int] | None = None
    devices: tuple[str, ...] | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the supervisor sees of a variant.

    Attributes:
        status: What callers are told.
        trouble: Why replicas are missing.
        logs: Names of its log files.
        pids: Its processes.
        devices: Of its replicas, where they have any.
    """

    status: VariantStatus
    trouble: str = ""
    logs: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What an endpoint is: ``observed.json``, written by its supervisor.

    Attributes:
        instance: Of the `Desired` that it speaks of.
        generation: Of the request that it works on, or has done.
        state: How that request stands.
        message: Why it failed, or what goes on.
        progress: 0 to 1.
        logs: Last lines of the model server that failed.
        current: The spec in force; None before the first.
        since: When that came into force.
        origin: ``http://host:port``.
        pid: The supervisor.
        variants: Of the spec in force.
    """

    instance: str
    generation: int
    state: OperationState
    pid: int
    message: str = ""
    progress: float = 0.0
    logs: tuple[str, ...] = ()
    current: EndpointSpec | None = None
    since: str | None = None
    origin: str | None = None
    variants: tuple[Seen, ...] = ()


def encode(noun: object) -> bytes:
    """Return JSON for people who look into the folder."""
    return msgspec.json.format(msgspec.json.encode(noun), indent=2) + b"\n"


def decode(data: bytes, kind: type[T]) -> T:
    """Read what `encode` wrote.

    Raises:
        IntegrityError: It is something else.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise IntegrityError(f"{kind.__name__.lower()} cannot be read: {error}") from error


def record_from_version(version: ModelVersion) -> bytes:
    """Return the registry's file for a version."""
    return encode(
        {
            "model": version.model,
            "number": version.number,
            "digest": version.digest,
            "author": version.author,
            "created_at": version.created_at,
            "files": len(version.manifest.files),
            "size": version.manifest.size,
            "metrics": dict(version.manifest.metrics),
        }
    )


def published_from_record(record: bytes) -> PublishedVersion:
    """Read the registry's file for a version."""
    shown = decode(record, PublishedVersion)
    return replace(shown, native_id=f"{shown.model}/{shown.number}.json")


def with_stages(version: PublishedVersion, stages: Mapping[str, str]) -> PublishedVersion:
    """Return *version* with those of the pointers that show it."""
    names = tuple(sorted(name for name, digest in stages.items() if digest == version.digest))
    return replace(version, stages=names)


def endpoint_from(desired: Desired, observed: Observed | None, *, alive: bool) -> Endpoint:
    """Return what callers are told of an endpoint.

    Args:
        desired: What was asked for.
        observed: What its supervisor wrote last.
        alive: Whether that supervisor runs.
    """
    if observed is not None and observed.instance != desired.instance:
        observed = None
    current = observed.current if observed else None
    variants = tuple(seen.status for seen in observed.variants) if observed else ()
    if not alive:
        # What it wrote last is history: nobody answers.
        variants = tuple(replace(status, ready_replicas=0, digest="") for status in variants)
    status, message = _status(desired, observed, alive=alive)
    return Endpoint(
        spec=current or desired.spec,
        status=status,
        variants=variants,
        url=f"{observed.origin}/invocations" if observed and observed.origin else None,
        message=message,
        since=observed.since if observed and current else desired.asked_at,
        native_id=desired.spec.name,
    )


def _status(
    desired: Desired, observed: Observed | None, *, alive: bool
) -> tuple[EndpointStatus, str]:
    failed = (
        observed is not None
        and observed.generation == desired.generation
        and observed.state is OperationState.FAILED
    )
    if desired.deleted:
        return EndpointStatus.DELETING, "" if alive else "its supervisor died meanwhile"
    if failed and observed is not None and observed.current is None:
        return EndpointStatus.FAILED, observed.message
    if not alive:
        return (
            EndpointStatus.DEGRADED,
            "its supervisor is not running, so nobody answers; apply the same configuration "
            "again to start it",
        )
    if observed is None or observed.current is None:
        return EndpointStatus.CREATING, observed.message if observed else ""
    if observed.generation < desired.generation or observed.state is OperationState.RUNNING:
        return EndpointStatus.UPDATING, observed.message
    missing = [
        f"{seen.status.name}: {seen.status.ready_replicas} of {seen.status.desired_replicas} "
        f"replicas ready{f' ({seen.trouble})' if seen.trouble else ''}"
        for seen in observed.variants
        if seen.status.ready_replicas < _wanted(observed.current, seen)
    ]
    words = [*missing, observed.message] if observed.message else missing
    status = EndpointStatus.DEGRADED if missing else EndpointStatus.READY
    return status, "; ".join(words)


def _wanted(spec: EndpointSpec, seen: Seen) -> int:
    variant = spec.variant(seen.status.name)
    least = variant.scaling.min_replicas if variant else 0
    # Who sleeps is well; who does not wake is not.
    return max(least, 1) if seen.trouble else least


def change_status(
    generation: int,
    instance: str,
    desired: Desired | None,
    observed: Observed | None,
    *,
    alive: bool,
    last_words: Sequence[str],
) -> OperationStatus:
    """Return how a create or update stands.

    Args:
        generation: Of the request.
        instance: Of the endpoint that it was made of.
        desired: What is asked for now; None when the endpoint is gone.
        observed: What the supervisor wrote last.
        alive: Whether the supervisor ran before *observed* was read.
        last_words: What it wrote before it died.
    """
    if desired is None or desired.instance != instance or desired.deleted:
        return OperationStatus(state=OperationState.FAILED, message="the endpoint was deleted")
    if observed is not None and observed.instance == instance:
        if observed.generation > generation:
            return OperationStatus(
                state=OperationState.FAILED, message="a later change took its place"
            )
        if observed.generation == generation and (
            alive or observed.state is not OperationState.RUNNING
        ):
            return OperationStatus(
                state=observed.state,
                message=observed.message,
                progress=observed.progress,
                logs=observed.logs,
            )
    if not alive:
        return OperationStatus(
            state=OperationState.FAILED,
            message="its supervisor died",
            logs=tuple(last_words),
        )
    return OperationStatus(state=OperationState.RUNNING, message="waiting for its supervisor")


def metrics_from(document: bytes) -> dict[str, VariantMetrics]:
    """Read what the router says about its variants."""
    return decode(document, dict[str, VariantMetrics])


def manifest_key(digest: str) -> str:
    """Return where a store keeps the manifest with *digest*."""
    return f"manifests/{digest.removeprefix('sha256:')}"
