"""The state so far, kept so that the next reader need not start at entry 0.

A checkpoint is derived and can be thrown away. Its bytes follow from the entries alone, and the
entry after it carries its digest: whoever changes a checkpoint must change the chain too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from cloudreg.errors import AlreadyExists, CloudregError, IntegrityError, NotFound
from cloudreg.ledger.fold import Applied, Behind, Fold, Holder, OpenIntent, VersionIndex
from cloudreg.names import canonical_json, sha256
from cloudreg.provider import ObjectStore

EVERY = 128
"""Entries between two checkpoints: what a reader reads at most beside one of them."""

TRIES = 3
"""Checkpoints that are tried before all entries are read."""

FORMAT = 1


class _State(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    model: str
    seq: int
    head: str
    last_number: int
    closed: int
    stages: dict[str, Holder]
    open: OpenIntent | None
    applied: dict[str, Applied]
    pages: dict[str, str]
    behind: dict[str, dict[str, Behind]] = {}
    served: dict[str, str] = {}


def checkpoint_key(model: str, seq: int) -> str:
    """Return where the checkpoint after entry *seq* stands."""
    return f"checkpoints/{model}/{seq:08d}.json"


def encode(fold: Fold) -> tuple[bytes, dict[str, bytes], VersionIndex]:
    """Return the checkpoint's bytes, the pages it needs anew, and the index that begins there."""
    index, pages = fold.versions.flushed()
    state: dict[str, Any] = {
        "format": FORMAT,
        "model": fold.model,
        "seq": fold.seq,
        "head": fold.head,
        "last_number": fold.last_number,
        "closed": fold.closed,
        "stages": msgspec.to_builtins(fold.stages),
        "open": msgspec.to_builtins(fold.open),
        "applied": msgspec.to_builtins(fold.applied),
        "pages": {str(page): digest for page, digest in index.pages.items()},
    }
    if fold.behind:
        # Checkpoints that were written before anybody could be behind keep their bytes.
        state["behind"] = msgspec.to_builtins(fold.behind)
    if fold.served:
        state["served"] = fold.served
    return canonical_json(state), pages, index


def write(store: ObjectStore, fold: Fold) -> str:
    """Keep the state of *fold* and return the checkpoint's digest.

    Two writers make the same bytes, so that it does not matter who is first.
    """
    new = dict(fold.recent)
    data, pages, index = encode(fold)
    objects = [(page_key(fold.model, digest), page) for digest, page in pages.items()]
    objects += [
        (digest_key(fold.model, digest), str(number).encode()) for digest, number in new.items()
    ]

    def put(item: tuple[str, bytes]) -> None:
        with suppress(AlreadyExists):
            store.put(item[1], item[0], if_absent=True)

    with ThreadPoolExecutor(8, thread_name_prefix="checkpoint") as pool:
        list(pool.map(put, objects))
    # Last, so that a checkpoint that can be read has all its pages.
    store.put(data, checkpoint_key(fold.model, fold.seq))
    fold.versions = index
    fold.recent.clear()
    return sha256(data)


def read(
    store: ObjectStore, model: str, seq: int, *, rebuild: Callable[[int], Mapping[str, bytes]]
) -> tuple[Fold, str]:
    """Return the state that a checkpoint keeps, and the checkpoint's digest.

    Args:
        store: The home's.
        model: Whose.
        seq: The entry that it follows.
        rebuild: Makes the pages again from the entries up to a place, where one is missing.

    Raises:
        NotFound: No such checkpoint.
        IntegrityError: It cannot be read; the entries still can.
    """
    with store.open(checkpoint_key(model, seq)) as reader:
        data = reader.read()
    try:
        state = msgspec.json.decode(data, type=_State)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors too
        raise IntegrityError(f"checkpoint {seq} of {model} cannot be read: {error}") from error
    if state.format != FORMAT or state.model != model or state.seq != seq:
        raise IntegrityError(f"checkpoint {seq} of {model} is another one")

    def read_page(digest: str) -> bytes:
        with suppress(NotFound), store.open(page_key(model, digest)) as page:
            data: bytes = page.read()
            if sha256(data) == digest:
                return data
        again = rebuild(seq).get(digest)
        if again is None:
            raise IntegrityError(f"page {digest} does not follow from the ledger of {model}")
        return again

    fold = Fold(model)
    fold.seq, fold.head, fold.last_number = state.seq, state.head, state.last_number
    fold.closed = state.closed
    fold.stages, fold.open, fold.applied = state.stages, state.open, state.applied
    fold.behind = state.behind
    fold.served = state.served
    fold.versions = VersionIndex({int(p): d for p, d in state.pages.items()}, read_page)
    return fold, sha256(data)


def places(store: ObjectStore, model: str) -> Iterator[int]:
    """Yield the places of recent checkpoints: the hint's first, then those that are there."""
    hint = -1
    with (
        suppress(NotFound, ValueError, RecursionError),
        store.open(f"heads/{model}.json") as reader,
    ):
        hint = msgspec.json.decode(reader.read(), type=int)
    if hint >= 0:
        yield hint
    listed = (seq_in(stored.key) for stored in store.list(f"checkpoints/{model}/"))
    yield from sorted((seq for seq in listed if seq is not None), reverse=True)[:TRIES]


def seq_in(key: str) -> int | None:
    """Return the place that a checkpoint's key stands for; None for a foreign object."""
    name = key.rpartition("/")[2].removesuffix(".json")
    if not (name.isascii() and name.isdigit()):
        return None
    seq = int(name)
    return seq if key == checkpoint_key(key.split("/")[1], seq) else None


def announce(store: ObjectStore, model: str, seq: int) -> None:
    """Leave a hint at the checkpoint after entry *seq*; a lost hint costs time, nothing else."""
    with suppress(CloudregError):
        store.put(str(seq).encode(), f"heads/{model}.json")


def number_of(store: ObjectStore, model: str, digest: str) -> int | None:
    """Return the number that a digest had before the last checkpoint, or None."""
    try:
        with store.open(digest_key(model, digest)) as reader:
            text = reader.read()
    except NotFound:
        return None
    return int(text) if text.isdigit() and len(text) < 10 else None


def page_key(model: str, digest: str) -> str:
    """Return where the page with *digest* stands."""
    return f"pages/{model}/{digest.removeprefix('sha256:')}.json"


def digest_key(model: str, digest: str) -> str:
    """Return where the number of the version with *digest* stands."""
    return f"digests/{model}/{digest.removeprefix('sha256:')}"
