"""The state so far, kept so that the next reader need not start at entry 0.

A checkpoint is derived and can be thrown away. Its bytes follow from the entries alone, and the
entry after it carries its digest: whoever changes a checkpoint must change the chain too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from cloudreg.errors import AlreadyExists, CloudregError, IntegrityError, NotFound
from cloudreg.ledger.fold import Applied, Fold, Holder, OpenIntent, VersionIndex
from cloudreg.names import canonical_json, sha256
from cloudreg.provider import ObjectStore

EVERY = 128
"""Entries between two checkpoints: what a reader reads at most beside one of them."""

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


def checkpoint_key(model: str, seq: int) -> str:
    """Return where the checkpoint after entry *seq* stands."""
    return f"checkpoints/{model}/{seq:08d}.json"


def encode(fold: Fold) -> tuple[bytes, dict[str, bytes]]:
    """Return the checkpoint's bytes and the pages that it needs anew, by sha256."""
    pages = fold.versions.flush()
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
        "pages": {str(page): digest for page, digest in fold.versions.pages.items()},
    }
    return canonical_json(state), pages


def write(store: ObjectStore, fold: Fold) -> str:
    """Keep the state of *fold* and return the checkpoint's digest.

    Two writers make the same bytes, so that it does not matter who is first.
    """
    new = dict(fold.recent)
    data, pages = encode(fold)
    objects = [(f"pages/{fold.model}/{hexadecimal(d)}.json", page) for d, page in pages.items()]
    objects += [
        (f"digests/{fold.model}/{hexadecimal(digest)}", str(number).encode())
        for digest, number in new.items()
    ]

    def put(item: tuple[str, bytes]) -> None:
        with suppress(AlreadyExists):
            store.put(item[1], item[0], if_absent=True)

    with ThreadPoolExecutor(8, thread_name_prefix="checkpoint") as pool:
        list(pool.map(put, objects))
    # Last, so that a checkpoint that can be read has all its pages.
    store.put(data, checkpoint_key(fold.model, fold.seq))
    fold.recent.clear()
    return sha256(data)


def read(store: ObjectStore, model: str, seq: int) -> tuple[Fold, str]:
    """Return the state that a checkpoint keeps, and the checkpoint's digest.

    Raises:
        NotFound: No such checkpoint.
        IntegrityError: It cannot be read; the entries still can.
    """
    with store.open(checkpoint_key(model, seq)) as reader:
        data = reader.read()
    try:
        state = msgspec.json.decode(data, type=_State)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"checkpoint {seq} of {model} cannot be read: {error}") from error
    if state.format != FORMAT or state.model != model or state.seq != seq:
        raise IntegrityError(f"checkpoint {seq} of {model} is another one")

    def read_page(digest: str) -> bytes:
        with store.open(f"pages/{model}/{hexadecimal(digest)}.json") as page:
            return page.read()

    fold = Fold(model)
    fold.seq, fold.head, fold.last_number = state.seq, state.head, state.last_number
    fold.closed = state.closed
    fold.stages, fold.open, fold.applied = state.stages, state.open, state.applied
    fold.versions = VersionIndex({int(p): d for p, d in state.pages.items()}, read_page)
    return fold, sha256(data)


def newest(store: ObjectStore, model: str) -> int | None:
    """Return the place of a recent checkpoint, or None."""
    try:
        with store.open(f"heads/{model}.json") as reader:
            hint = msgspec.json.decode(reader.read(), type=int)
    except NotFound:
        hint = None
    except msgspec.MsgspecError:
        hint = None
    if hint is None:
        keys = [stored.key for stored in store.list(f"checkpoints/{model}/")]
        numbers = [k.rpartition("/")[2].removesuffix(".json") for k in keys]
        return max((int(n) for n in numbers if n.isdecimal()), default=None)
    return hint


def announce(store: ObjectStore, model: str, seq: int) -> None:
    """Leave a hint at the checkpoint after entry *seq*; a lost hint costs time, nothing else."""
    with suppress(CloudregError):
        store.put(str(seq).encode(), f"heads/{model}.json")


def number_of(store: ObjectStore, model: str, digest: str) -> int | None:
    """Return the number that a digest had before the last checkpoint, or None."""
    try:
        with store.open(f"digests/{model}/{hexadecimal(digest)}") as reader:
            text = reader.read()
    except NotFound:
        return None
    return int(text) if text.isdigit() else None


def hexadecimal(digest: str) -> str:
    """Return *digest* without its algorithm."""
    return digest.removeprefix("sha256:")
