"""Artifacts as Google keeps them: copied at the upload, so that a version never changes.

Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
("copies the contents … to a different Cloud Storage bucket that Google manages")
"""

from __future__ import annotations

from dataclasses import replace

from cloudreg_emulator.google.storage.nouns import Bucket
from cloudreg_emulator.google.storage.shelf import Shelf
from cloudreg_emulator.google.world import World

__all__ = ["keep", "of"]

_PREFIX = "caip-tenant"


def of(world: World, model: str, version: str, region: str) -> str:
    """Return the ``gs://`` folder in which a version's artifacts are kept."""
    name = model.rpartition("/")[2]
    return f"gs://{_bucket(world, region)}/{name}/{version}/artifacts"


def keep(world: World, uri: str, model: str, version: str, region: str) -> None:
    """Copy the artifacts below *uri* to where they stay as they are; no byte is moved."""
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    under = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
    to = of(world, model, version, region).removeprefix(f"gs://{_bucket(world, region)}/")
    storage = world.storage
    with storage.lock:
        source = storage.shelves.get(bucket)
        if source is None:
            return
        shelf = storage.shelves.get(_bucket(world, region))
        if shelf is None:
            now = world.clock()
            kept = Bucket(
                name=_bucket(world, region),
                fields={"location": region.upper(), "storageClass": "STANDARD"},
                created=now,
                updated=now,
                policy={"bindings": [], "etag": "CAE=", "version": 1, "number": 1},
            )
            shelf = storage.shelves[kept.name] = Shelf(kept, world.clock)
        for name, found in list(source.live.items()):
            if name.startswith(under):
                shelf.put(replace(found, name=f"{to}/{name.removeprefix(under)}", fields={}))


def _bucket(world: World, region: str) -> str:
    return f"{_PREFIX}-{world.place.number}-{region}"
