"""Reading and appending: the only writer of ``ledger/``."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cloudreg.errors import AlreadyExists, Conflict, IntegrityError, NotFound, Unavailable
from cloudreg.ledger import checkpoint
from cloudreg.ledger.entry import Entry, entry_key, seq_of
from cloudreg.ledger.fold import Fold, VersionSummary
from cloudreg.ledger.witness import Witness
from cloudreg.names import check_model
from cloudreg.provider import ObjectStore

MAX_ATTEMPTS = 1000
"""Lost races before giving up; each one means that somebody else got an entry in."""

PARALLEL_READS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry before it has a place.

    Attributes:
        kind: See `cloudreg.ledger.entry.KINDS`.
        root: The operation that it belongs to.
        data: What the kind needs; plain JSON.
        actor: Who asked, where that is somebody else than the ledger's user.
    """

    kind: str
    root: str
    data: Mapping[str, Any] = field(default_factory=dict)
    actor: str | None = None


def ledger_models(store: ObjectStore) -> list[str]:
    """Return the models that have a ledger in *store*, sorted."""
    return [stored.key.removeprefix("models/") for stored in store.list("models/")]


class Ledger:
    """The ledger of one model."""

    def __init__(
        self,
        store: ObjectStore,
        model: str,
        *,
        actor: str,
        tool: str,
        witness: Witness | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open a ledger; nothing is read yet.

        Args:
            store: The home's.
            model: Whose ledger.
            actor: Who is asking; recorded in every entry.
            tool: Name and version of the program that writes.
            witness: What this machine has seen of the ledger.
            clock: Seconds since 1970.
        """
        self.store = store
        self.model = check_model(model)
        self.actor = actor
        self.tool = tool
        self.clock = clock
        self._witness = witness
        self._fold: Fold | None = None

    def twin(self) -> Ledger:
        """Return the same ledger for another thread; one object serves one thread."""
        return Ledger(self.store, self.model, actor=self.actor, tool=self.tool, clock=self.clock)

    def read(self) -> Fold:
        """Return the state after the newest entry.

        Raises:
            IntegrityError: What is read does not hang together, or is older than what this
                machine has seen before.
        """
        if self._witness is not None:
            # Before the entries: what others on this machine see meanwhile is no proof of loss.
            self._witness.newest(self.model)
        if self._fold is None:
            self._fold = self._start()
        self._follow(self._fold)
        return self._fold

    def exists(self) -> bool:
        """Whether the model has any entry."""
        return self.read().seq >= 0

    def entry(self, seq: int) -> Entry:
        """Return one entry; its place in the chain is checked by `verify` only.

        Raises:
            NotFound: There is no such entry.
        """
        with self.store.open(entry_key(self.model, seq)) as reader:
            return Entry.decode(reader.read(), model=self.model, seq=seq, prev=None)

    def entries(self, *, newest_first: bool = False) -> Iterator[Entry]:
        """Yield all entries, checked against each other."""
        last = self.read().seq
        if newest_first:
            following: Entry | None = None
            for seq in range(last, -1, -1):
                entry = self.entry(seq)
                if following is not None and following.prev != entry.hash:
                    raise IntegrityError(f"ledger of {self.model}: entry {seq} was changed")
                following = entry
                yield entry
            return
        fold = Fold(self.model)
        for entry in self._tail(fold):
            fold.seq, fold.head = entry.seq, entry.hash
            yield entry

    def find(self, digest: str) -> VersionSummary | None:
        """Return the version with exactly this digest, if it was registered."""
        fold = self.read()
        number = fold.recent.get(digest)
        if number is None:
            number = checkpoint.number_of(self.store, self.model, digest)
        summary = fold.version(number) if number is not None else None
        return summary if summary is not None and summary.digest == digest else None

    def append(
        self, draft: Callable[[Fold], Draft | None], *, op: str, id: str | None = None
    ) -> Entry | None:
        """Append one entry that is right at the moment when it lands.

        Args:
            draft: Called with the newest state, again after every lost race. It returns what to
                append or None for nothing, or raises to refuse.
            op: The process that writes.
            id: Idempotency key; made here where the caller has no use for it.

        Returns:
            The entry as it stands in the ledger, or None if *draft* had nothing to append.

        Raises:
            Conflict: Too many others were faster.
        """
        id = id or uuid.uuid4().hex
        for _ in range(MAX_ATTEMPTS):
            fold = self.read()
            wanted = draft(fold)
            if wanted is None:
                return None
            entry = Entry(
                model=self.model,
                seq=fold.seq + 1,
                prev=fold.head,
                id=id,
                root=wanted.root,
                op=op,
                kind=wanted.kind,
                actor=wanted.actor or self.actor,
                at=timestamp(self.clock()),
                tool=self.tool,
                data=wanted.data,
                checkpoint=self._checkpoint(fold),
            )
            # Whoever could not be understood later must not get in.
            _trial(fold, entry)
            if fold.seq < 0:
                with suppress(AlreadyExists):
                    self.store.put(b"", f"models/{self.model}", if_absent=True)
            try:
                self.store.put(entry.encode(), entry_key(self.model, entry.seq), if_absent=True)
            except (AlreadyExists, Unavailable) as error:
                # Lost the race, or lost the answer: only reading tells. A retry on the wire
                # can also meet its own first attempt and be told that the key is taken.
                landed = self._landed(entry)
                if landed is not None:
                    return landed
                if isinstance(error, Unavailable):
                    raise
                continue
            self.read()
            if entry.checkpoint is not None:
                checkpoint.announce(self.store, self.model, entry.seq - 1)
            return entry
        raise Conflict(f"{self.model}: {MAX_ATTEMPTS} other writers were faster")

    def _landed(self, entry: Entry) -> Entry | None:
        try:
            there = self.entry(entry.seq)
        except NotFound:
            return None
        self.read()
        return there if there.id == entry.id else None

    def _checkpoint(self, fold: Fold) -> str | None:
        if fold.seq < 0 or (fold.seq + 1) % checkpoint.EVERY:
            return None
        return checkpoint.write(self.store, fold)

    def _start(self) -> Fold:
        seq = checkpoint.newest(self.store, self.model)
        if seq is None:
            return Fold(self.model)
        try:
            fold, digest = checkpoint.read(self.store, self.model, seq)
            anchor = self.entry(seq + 1)
            if anchor.checkpoint == digest and anchor.prev == fold.head:
                return fold
        except (NotFound, IntegrityError):
            pass
        # A derived object is missing or was changed: the entries themselves are the truth, and
        # `verify` says what is wrong with the rest.
        return Fold(self.model)

    def _follow(self, fold: Fold) -> None:
        for entry in self._tail(fold):
            fold.apply(entry)
            if self._witness is not None:
                self._witness.compare(self.model, entry.seq, fold.head)
        if self._witness is not None:
            self._witness.saw(self.model, fold.seq, fold.head)

    def _tail(self, fold: Fold) -> Iterator[Entry]:
        """Yield the entries behind *fold*; the caller moves it along."""
        after = entry_key(self.model, fold.seq) if fold.seq >= 0 else ""
        keys = (stored.key for stored in self.store.list(f"ledger/{self.model}/", after=after))
        for chunk in _chunks(keys, PARALLEL_READS * 4):
            for key, data in zip(chunk, self._read_all(chunk), strict=True):
                seq = seq_of(key)
                if seq != fold.seq + 1 or key != entry_key(self.model, seq):
                    raise IntegrityError(
                        f"ledger of {self.model}: entry {seq} stands where entry "
                        f"{fold.seq + 1} belongs: entries are missing",
                        hint=f"cloudreg history {self.model} --verify",
                    )
                yield Entry.decode(data, model=self.model, seq=seq, prev=fold.head)

    def _read_all(self, keys: list[str]) -> list[bytes]:
        if len(keys) <= 2:
            return [self._bytes(key) for key in keys]
        with ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="ledger") as pool:
            return list(pool.map(self._bytes, keys))

    def _bytes(self, key: str) -> bytes:
        with self.store.open(key) as reader:
            return reader.read()


def _trial(fold: Fold, entry: Entry) -> None:
    """Refuse an entry that the fold would not take; only the open intent can be in the way."""
    trial = Fold(fold.model)
    trial.seq, trial.head, trial.last_number = fold.seq, fold.head, fold.last_number
    trial.open, trial.versions = fold.open, _ReadOnly(fold)  # type: ignore[assignment]  # same face
    trial.apply(Entry.decode(entry.encode(), model=entry.model, seq=entry.seq, prev=entry.prev))


class _ReadOnly:
    """A version index that forgets what is put into it."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._new: dict[int, VersionSummary] = {}

    def get(self, number: int) -> VersionSummary | None:
        return self._new.get(number) or self._fold.versions.get(number)

    def put(self, summary: VersionSummary) -> None:
        self._new[summary.number] = summary


def _chunks(keys: Iterator[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for key in keys:
        chunk.append(key)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def timestamp(seconds: float) -> str:
    """Return ISO 8601 in UTC with microseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
