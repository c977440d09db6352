"""The newest entries together in one object: one request for all, where requests take time.

It is derived and can be thrown away. Every entry names the hash of the one before it, so that the
newest entry, which is always read where it stands, proves all that are taken from here. An entry
that may have been written again since is read where it stands as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from cloudreg.errors import CloudregError, NotFound
from cloudreg.provider import ObjectStore, StoredObject

MOST_BYTES = 1024 * 1024
"""The older ones are left out where all together would be more."""


class _Place(msgspec.Struct):
    seq: int


def gathered_key(model: str) -> str:
    """Return where a model's newest entries stand together."""
    return f"recent/{model}.jsonl"


def read(store: ObjectStore, model: str) -> dict[int, bytes]:
    """Return the bytes of the newest entries by their place, without gaps and unproved.

    Nothing comes back where there is no such object, or one that cannot be read.
    """
    with suppress(NotFound), store.open(gathered_key(model)) as reader:
        lines = reader.read().splitlines()
        try:
            places = [msgspec.json.decode(line, type=_Place).seq for line in lines]
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors too
            return {}
        if places and places == list(range(places[0], places[0] + len(places))):
            return dict(zip(places, lines, strict=True))
    return {}


def write(store: ObjectStore, model: str, entries: Mapping[int, bytes]) -> None:
    """Put the newest of *entries* together; if that is lost, it costs time and nothing else."""
    chosen: list[bytes] = []
    size = 0
    for seq in sorted(entries, reverse=True):
        size += len(entries[seq]) + 1
        if chosen and size > MOST_BYTES:
            break
        chosen.append(entries[seq])
    with suppress(CloudregError):
        store.put(b"\n".join(reversed(chosen)), gathered_key(model))


def is_as_it_was(data: bytes, stored: StoredObject | None, following: StoredObject | None) -> bool:
    """Whether an entry in the listing is certainly the one whose bytes are *data*.

    An entry is written before the one that follows it: whatever is younger was written again.

    Args:
        data: What was gathered.
        stored: The entry in the listing; None where the listing lacks it.
        following: The next one in the listing; None behind the newest.
    """
    if stored is None or following is None:
        return False
    return stored.size == len(data) and stored.modified_at <= following.modified_at
