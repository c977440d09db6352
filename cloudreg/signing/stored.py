"""Where signatures stand: in a target's store, and in a folder that was downloaded.

Keys in an object store::

    signatures/<sha256 of the manifest>/<id of the key>     a bundle
"""

from __future__ import annotations

from collections.abc import Mapping

from cloudreg.errors import AlreadyExists, IntegrityError, NotFound
from cloudreg.manifest import Manifest
from cloudreg.provider import ObjectStore
from cloudreg.signing.bundle import BUNDLE_FILE, MAX_BUNDLE

FOLDER = ".cloudreg/signatures"
"""Where a downloaded folder keeps all signatures; the first is `BUNDLE_FILE` beside the files."""


def bundle_key(digest: str, key: str) -> str:
    """Return where the signature of a version by a key stands in a store."""
    return f"signatures/{digest.removeprefix('sha256:')}/{key}"


def get_bundle(digest: str, key: str, store: ObjectStore) -> bytes:
    """Return the signature of a version by a key.

    Raises:
        NotFound: The store does not have it.
        IntegrityError: What stands there is too large to be one.
    """
    with store.open(bundle_key(digest, key), length=MAX_BUNDLE + 1) as reader:
        data: bytes = reader.read()
    if len(data) > MAX_BUNDLE:
        raise IntegrityError(f"{bundle_key(digest, key)} is too large for a signature")
    return data


def put_bundle(bundle: bytes, digest: str, key: str, store: ObjectStore) -> None:
    """Store the signature of a version by a key, over others that stand in its place."""
    try:
        store.put(bundle, bundle_key(digest, key), if_absent=True)
    except AlreadyExists:
        try:
            same = get_bundle(digest, key, store) == bundle
        except (NotFound, IntegrityError):
            same = False
        if not same:
            store.put(bundle, bundle_key(digest, key))


def beside(bundles: Mapping[str, bytes], manifest: Manifest) -> dict[str, bytes]:
    """Return the files that carry signatures into a folder: path to content.

    Args:
        bundles: Key to bundle, the first one first.
        manifest: Of the version; a file of its own is never written over.
    """
    found = {f"{FOLDER}/{key}.sig": bundle for key, bundle in bundles.items()}
    if bundles and BUNDLE_FILE not in {file.path for file in manifest.files}:
        found[BUNDLE_FILE] = next(iter(bundles.values()))
    return found
