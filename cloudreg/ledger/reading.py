"""The entries of a ledger as they stand in the store, in their order and without gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cloudreg.errors import IntegrityError, NotFound
from cloudreg.ledger import gathered
from cloudreg.ledger.entry import entry_key, seq_of
from cloudreg.provider import ObjectStore, StoredObject

PARALLEL_READS = 16

NOTHING: Mapping[int, bytes] = {}

T = TypeVar("T")
Listed = tuple[str, StoredObject | None]
"""The key of an entry, and how it is listed; None where it is missing there."""


class Entries:
    """The entries of one model; what is read here is not compared with each other."""

    def __init__(self, store: ObjectStore, model: str) -> None:
        """Use the home's store; nothing is read yet."""
        self.store = store
        self.model = model

    def behind(
        self, after: int, *, known: Mapping[int, bytes] = NOTHING
    ) -> Iterator[tuple[int, bytes]]:
        """Yield place and bytes of the entries behind *after*, without gaps and unchecked.

        Args:
            after: The place before the first.
            known: Bytes that were gathered. They are yielded where the listing shows that nothing
                was written since; the newest entry never is one of them, and proves the others.

        Raises:
            IntegrityError: An entry is missing, something else stands among them, or one is not
                as it was gathered.
        """
        pairs = _with_next(self._listed(after))
        for chunk in _chunks(pairs, PARALLEL_READS * 4):
            there: dict[str, bytes] = {}
            for (key, stored), following in chunk:
                data = known.get(seq_of(key))
                if data is not None and gathered.is_as_it_was(data, stored, following):
                    there[key] = data
            asked = [key for (key, _), _ in chunk if key not in there]
            there |= zip(asked, self.read(asked), strict=True)
            for (key, _), _ in chunk:
                seq, data = seq_of(key), there[key]
                if known.get(seq, data) != data:
                    raise IntegrityError(f"ledger of {self.model}: entry {seq} was changed")
                yield seq, data

    def _listed(self, after: int) -> Iterator[tuple[str, StoredObject | None]]:
        """Yield the key of each entry behind *after*, and how it is listed."""
        start = entry_key(self.model, after) if after >= 0 else ""
        expected = after + 1
        for stored in self.store.list(f"ledger/{self.model}/", after=start):
            seq = seq_of(stored.key)
            if stored.key != entry_key(self.model, seq):
                raise IntegrityError(f"foreign object {stored.key!r} in the ledger")
            # A folder that is listed while others write may show the later of two entries and not
            # the earlier. Whoever asks for the earlier by name gets it, if it is there at all.
            for missing in range(expected, seq):
                yield entry_key(self.model, missing), None
            yield stored.key, stored
            expected = seq + 1

    def read(self, keys: list[str]) -> list[bytes]:
        """Return the bytes of some entries, in the order of *keys*.

        Raises:
            IntegrityError: One is missing.
        """
        if len(keys) <= 2:
            return [self._bytes(key) for key in keys]
        with ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="ledger") as pool:
            return list(pool.map(self._bytes, keys))

    def _bytes(self, key: str) -> bytes:
        try:
            with self.store.open(key) as reader:
                return reader.read()
        except NotFound as error:
            raise IntegrityError(
                f"ledger of {self.model}: entry {seq_of(key)} is missing",
                hint=f"cloudreg history {self.model} --verify",
            ) from error


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _with_next(items: Iterator[Listed]) -> Iterator[tuple[Listed, StoredObject | None]]:
    """Yield each entry of a listing with the object behind it."""
    here = next(items, None)
    while here is not None:
        following = next(items, None)
        yield here, following[1] if following is not None else None
        here = following
