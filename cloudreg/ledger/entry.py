"""One entry of a ledger: its fields, its bytes, its place in the chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cloudreg.errors import CloudregError, IntegrityError
from cloudreg.names import canonical_json, sha256

FORMAT = 1
GENESIS = "sha256:" + "0" * 64
"""What the first entry names as its predecessor."""

KINDS = (
    "register",  # a version got its number
    "approve",   # somebody agreed that a version may enter a stage
    "waive",     # somebody answers for files that a stage would refuse, for some time
    "sign",      # somebody signed a version with a key
    "intent",    # an operation holds the model from here on
    "step",      # it is still at work, and how far
    "takeover",  # its holder was gone; another process holds it now
    "done",      # it ended well: stages and endpoints are as the entry says
    "abort",     # it ended without effect
    "adopt",     # what was found on a target was taken as the truth
    "note",      # a remark, or a request to whoever holds the model
)  # fmt: skip

SHARD = 1000
"""Entries per folder: a disk lists a folder of a thousand as fast as S3 a page of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry.

    Attributes:
        model: Whose ledger it stands in.
        seq: Its place, from 0, without gaps.
        prev: sha256 of the bytes of the entry before it.
        id: Idempotency key: an append whose answer was lost finds its entry by it.
        root: The operation that it belongs to.
        op: The process that wrote it; differs from the root's first after a takeover.
        kind: One of `KINDS`.
        actor: Who asked for it.
        at: When, ISO 8601 in UTC, by the writer's clock.
        tool: The cloudreg version that wrote it.
        data: What the kind needs.
        checkpoint: Digest of the checkpoint of all entries before this one, where one was due.
    """

    model: str
    seq: int
    prev: str
    id: str
    root: str
    op: str
    kind: str
    actor: str
    at: str
    tool: str
    data: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None

    def encode(self) -> bytes:
        """Return the canonical bytes, the ones that are hashed."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.checkpoint is None:
            del document["checkpoint"]
        return canonical_json({"format": FORMAT, **document})

    @classmethod
    def decode(cls, data: bytes, *, model: str, seq: int, prev: str | None) -> Entry:
        """Read an entry, if it is the one that belongs in this place.

        Raises:
            IntegrityError: Edited, reordered, forked, or not written by cloudreg.
        """
        where = f"ledger of {model}, entry {seq}"
        try:
            document = msgspec.json.decode(data, type=dict[str, Any])
            if document.pop("format", None) != FORMAT:
                raise IntegrityError(f"{where} has an unknown format", hint="upgrade cloudreg")
            entry = msgspec.convert(document, cls)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors too
            raise IntegrityError(f"{where} cannot be read: {error}") from error
        if entry.model != model or entry.seq != seq:
            raise IntegrityError(f"{where} says it is entry {entry.seq} of {entry.model}")
        if prev is not None and entry.prev != prev:
            raise IntegrityError(
                f"{where} follows {entry.prev}, but the entry before it is {prev}: "
                "one of them was changed after it was written"
            )
        if entry.kind not in KINDS:
            raise IntegrityError(f"{where} is of the unknown kind {entry.kind!r}")
        try:
            canonical = entry.encode()
        except CloudregError as error:
            raise IntegrityError(f"{where} cannot be read: {error}") from error
        if canonical != data:
            raise IntegrityError(f"{where} is not in canonical form: it was rewritten")
        return entry

    @property
    def hash(self) -> str:
        """Return what the next entry names as its predecessor."""
        return sha256(self.encode())


def entry_key(model: str, seq: int) -> str:
    """Return where entry *seq* stands."""
    return f"ledger/{model}/{seq // SHARD:05d}/{seq:08d}.json"


def seq_of(key: str) -> int:
    """Return the place that *key* stands for.

    Raises:
        IntegrityError: The key was not made by cloudreg.
    """
    name = key.rpartition("/")[2].removesuffix(".json")
    if not (name.isascii() and name.isdigit()):
        raise IntegrityError(f"foreign object {key!r} in the ledger")
    return int(name)
