"""Manifests in a store: the bytes that a version's digest names."""

from __future__ import annotations

from contextlib import suppress

from cloudreg.artifacts.blobs import find
from cloudreg.errors import AlreadyExists, IntegrityError, NotFound
from cloudreg.manifest import Manifest
from cloudreg.names import sha256
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion


def manifest_key(digest: str) -> str:
    """Return where the manifest with *digest* stands."""
    return f"manifests/{digest.removeprefix('sha256:')}"


def put_manifest(manifest: Manifest, store: ObjectStore) -> str:
    """Store the manifest and return its digest."""
    data = manifest.encode()
    digest = sha256(data)
    put_record(data, digest, store)
    return digest


def put_record(data: bytes, digest: str, store: ObjectStore) -> None:
    """Store the encoded manifest *data*, and mend what stands in its place."""
    try:
        # Only these bytes can stand here; if others do, nobody can read the version any more.
        if _manifest_bytes(digest, store) != data:
            store.put(data, manifest_key(digest))
    except NotFound:
        with suppress(AlreadyExists):  # somebody else was faster, with the same bytes
            store.put(data, manifest_key(digest), if_absent=True)


def read_manifest(digest: str, store: ObjectStore) -> Manifest:
    """Return the manifest that *digest* names.

    Raises:
        NotFound: The store does not have it.
        IntegrityError: Its bytes are others.
    """
    return Manifest.decode(_manifest_bytes(digest, store), digest=digest)


def recorded(
    version: ModelVersion, store: ObjectStore, target: str | None
) -> tuple[Manifest, bytes]:
    """Return a version's manifest as the store has it, and its bytes.

    Raises:
        IntegrityError: It is missing, or its bytes are others.
    """
    try:
        record = _manifest_bytes(version.digest, store)
        return Manifest.decode(record, digest=version.digest), record
    except NotFound as error:
        raise IntegrityError(
            f"{version.ref}: its manifest is missing in the store", target=target
        ) from error
    except IntegrityError as error:
        raise IntegrityError(f"{version.ref}: {error.message}", target=target) from error


def is_present(version: ModelVersion, store: ObjectStore) -> bool:
    """Whether a store was given the version: the manifest is written last."""
    return find(store, manifest_key(version.digest)) is not None


def _manifest_bytes(digest: str, store: ObjectStore) -> bytes:
    with store.open(manifest_key(digest)) as reader:
        return reader.read()
