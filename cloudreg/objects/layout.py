"""The files of a version as a model server reads them: plain objects below one prefix.

The store keeps content under its digest, once, whatever versions have it. Managed endpoints are
given a prefix whose objects are the files as they are. So each version that is shown or served
gets a prefix of its own, ``versions/<sha256>/``, made of copies inside the store: no byte passes
through this machine. The manifest is copied last, so that a prefix with a manifest is whole; the
model server checks every byte against it before it serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from cloudreg.errors import IntegrityError, NotFound
from cloudreg.manifest import MANIFEST_FILE
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion

PARALLEL_COPIES = 8


def files_prefix(digest: str) -> str:
    """Return where the files of a version stand in the store."""
    return f"versions/{digest.removeprefix('sha256:')}/"


def manifest_key(digest: str) -> str:
    """Return where a store keeps the manifest with *digest*."""
    return f"manifests/{digest.removeprefix('sha256:')}"


def lay_out(version: ModelVersion, store: ObjectStore, *, target: str) -> str:
    """Return the prefix with the files of *version*, made where it is missing.

    Raises:
        NotFound: A file is not in the store.
        IntegrityError: Something else stands below the prefix.
    """
    prefix = files_prefix(version.digest)
    there = _sizes(store, prefix)
    wanted = {entry.path: entry for entry in version.manifest.files}
    missing = [entry for path, entry in wanted.items() if there.get(path) != entry.size]
    if missing or MANIFEST_FILE not in there:
        with ThreadPoolExecutor(PARALLEL_COPIES, thread_name_prefix="lay-out") as pool:
            list(
                pool.map(
                    lambda entry: _copy(
                        version, store, entry.key, prefix + entry.path, target=target
                    ),
                    missing,
                )
            )
        manifest = manifest_key(version.digest)
        _copy(version, store, manifest, prefix + MANIFEST_FILE, target=target)
        there = _sizes(store, prefix)
    for path, entry in wanted.items():
        if there.get(path) != entry.size:
            raise IntegrityError(
                f"{version.ref}: {prefix}{path} has {there.get(path, 'no')} bytes, "
                f"{entry.size} were registered",
                target=target,
            )
    strange = sorted(there.keys() - wanted.keys() - {MANIFEST_FILE})
    if strange:
        raise IntegrityError(
            f"{version.ref}: {prefix}{strange[0]} is no file of it, and would be served with it",
            target=target,
            hint="delete that object, then try again",
        )
    return prefix


def _sizes(store: ObjectStore, prefix: str) -> Mapping[str, int]:
    return {found.key.removeprefix(prefix): found.size for found in store.list(prefix)}


def _copy(version: ModelVersion, store: ObjectStore, key: str, to: str, *, target: str) -> None:
    try:
        store.copy(key, to)
    except NotFound as error:
        raise NotFound(
            f"{version.ref}: {key} is not in the store",
            target=target,
            hint=f"register the same files again: cloudreg register {version.model} DIR",
        ) from error
