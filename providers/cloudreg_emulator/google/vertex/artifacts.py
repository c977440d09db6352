"""Whether a model's artifacts can be read: in the region's own bucket, and there at all."""

from __future__ import annotations

import re

from cloudreg_emulator.google.vertex.reasons import bucket_region
from cloudreg_emulator.google.vertex.refusals import invalid, precondition
from cloudreg_emulator.google.world import World

__all__ = ["check_artifacts"]

_URI = re.compile(r"gs://([^/]+)(?:/(.*))?", re.DOTALL)


def check_artifacts(world: World, uri: str, region: str, field: str) -> None:
    """Refuse artifacts that a model of *region* cannot have.

    Raises:
        Refused: INVALID_ARGUMENT for what is no directory of Cloud Storage, FAILED_PRECONDITION
            for a bucket elsewhere, and for a directory with nothing in it.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise invalid(field, f"{uri!r} is not a Cloud Storage URI.")  # unquoted
    bucket, prefix = found.group(1), (found.group(2) or "").rstrip("/")
    storage = world.storage
    with storage.lock:
        shelf = storage.shelves.get(bucket)
        if shelf is None:
            raise precondition(f"The Cloud Storage bucket of `{uri}` does not exist.")  # unquoted
        location = shelf.bucket.location
        if location.lower() != region:
            raise bucket_region(uri, location, region)
        under = f"{prefix}/" if prefix else ""
        if not any(name.startswith(under) for name in shelf.live):
            raise precondition(f"The directory `{uri}` has no files.")  # unquoted
