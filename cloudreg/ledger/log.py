"""Reading and appending: the only writer of ``ledger/``."""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    Conflict,
    IntegrityError,
    NotFound,
    Unavailable,
)
from cloudreg.ledger import checkpoint, gathered
from cloudreg.ledger.entry import Entry, entry_key
from cloudreg.ledger.fold import Fold, VersionSummary
from cloudreg.ledger.reading import NOTHING, Entries
from cloudreg.ledger.witness import Witness, check_length, check_seen
from cloudreg.names import check_model
from cloudreg.provider import ObjectStore

RECENT = 256
"""Newest entries among which an idempotency key is looked for."""

MAX_ATTEMPTS = 1000
"""Lost races before giving up; each one means that somebody else got an entry in."""


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
    """The ledger of one model; safe with threads, who all see the one state that it follows."""

    def __init__(
        self,
        store: ObjectStore,
        model: str,
        *,
        actor: str,
        tool: str,
        witness: Witness | None = None,
        clock: Callable[[], float] = time.time,
        gathers: bool = False,
        ended: Callable[[Ledger, Entry], None] = lambda _, __: None,
    ) -> None:
        """Open a ledger; nothing is read yet.

        Args:
            store: The home's.
            model: Whose ledger.
            actor: Who is asking; recorded in every entry.
            tool: Name and version of the program that writes.
            witness: What this machine has seen of the ledger.
            clock: Seconds since 1970.
            gathers: Whether the newest entries are also kept together, because each look into
                the store is a request that takes its time.
            ended: Told of each entry that ends an operation, once it is written.
        """
        self.store = store
        self.model = check_model(model)
        self.actor = actor
        self.tool = tool
        self.clock = clock
        self._witness = witness
        self._fold: Fold | None = None
        self._lock = threading.RLock()
        self._pages: dict[int, Mapping[str, bytes]] = {}
        self._gathers = gathers
        self._ended = ended
        self._recent: dict[int, bytes] = {}
        """The entries since the last checkpoint, as far as they were read or written here."""
        self._gathered: dict[int, bytes] = {}
        """What stood together when reading began, until it is proved."""

    def twin(self) -> Ledger:
        """Return the same ledger for a thread that must not wait for this one."""
        return Ledger(self.store, self.model, actor=self.actor, tool=self.tool, clock=self.clock)

    def read(self) -> Fold:
        """Return the state after the newest entry; it moves on with the next call.

        Raises:
            IntegrityError: What is read does not hang together, or is older than what this
                machine has seen before.
        """
        with self._lock:
            try:
                return self._read()
            except IntegrityError:
                if not self._gathered:
                    raise
            # Perhaps what stood together was wrong: the entries decide.
            self._fold, self._gathered, self._recent = None, {}, {}
            return self._read(gathers=False)

    def known(self) -> Fold:
        """Return the state as it was read last; it is read now where it never was."""
        with self._lock:
            return self.read() if self._fold is None else self._fold

    def _read(self, *, gathers: bool | None = None) -> Fold:
        # Before the ledger: others may write and be seen between the two.
        seen = self._witness.newest(self.model) if self._witness is not None else None
        if self._fold is None:
            if self._gathers if gathers is None else gathers:
                self._gathered = gathered.read(self.store, self.model)
            self._fold = self._start(seen)
        for seq, data in self.raw(after=self._fold.seq, known=self._gathered):
            entry = Entry.decode(data, model=self.model, seq=seq, prev=self._fold.head)
            self._fold.apply(entry)
            self._keep(entry, data)
            check_seen(self.model, seen, entry.seq, self._fold.head)
        if self._fold.seq < max(self._gathered, default=-1):
            raise IntegrityError(f"ledger of {self.model}: its end is gathered, and not there")
        self._gathered = {}
        check_length(self.model, seen, self._fold.seq)
        if self._witness is not None:
            self._witness.remember(self.model, self._fold.seq, self._fold.head)
        return self._fold

    def _keep(self, entry: Entry, data: bytes) -> None:
        """Remember an entry for whoever gathers: those from the last checkpoint on."""
        if self._gathers:
            if entry.checkpoint is not None:
                self._recent.clear()
            self._recent[entry.seq] = data

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
        state = self.read()
        last, head = state.seq, state.head
        if newest_first:
            for seq in range(last, -1, -1):
                entry = self.entry(seq)
                if entry.hash != head:
                    raise IntegrityError(f"ledger of {self.model}: entry {seq} was changed")
                head = entry.prev
                yield entry
            return
        fold = Fold(self.model)
        for entry in self._tail(fold):
            fold.seq, fold.head = entry.seq, entry.hash
            if entry.seq == last and fold.head != head:
                raise IntegrityError(f"ledger of {self.model}: history was rewritten")
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
        self,
        draft: Callable[[Fold], Draft | None],
        *,
        op: str,
        id: str | None = None,
        known: bool = False,
    ) -> Entry | None:
        """Append one entry that is right at the moment when it lands.

        Args:
            draft: Called with the newest state, again after every lost race. It returns what to
                append or None for nothing, or raises to refuse.
            op: The process that writes.
            id: Idempotency key, for a caller who asks again because the outcome is unknown: if
                one of the newest `RECENT` entries has it, that entry is returned. Made here where
                the caller has no use for it.
            known: Begin with the state as it was read last, which saves a look: where it is not
                the newest any more the entry finds its place taken, and what refuses by it is
                asked again.

        Returns:
            The entry as it stands in the ledger, or None if *draft* had nothing to append.

        Raises:
            Conflict: Too many others were faster.
            Unavailable: The entry may be there or not.
        """
        with self._lock:
            own = id or uuid.uuid4().hex
            searched: int | None = None
            if known:
                entry = self._at_once(draft, op=op, id=own)
                if entry is not None:
                    return entry
            for _ in range(MAX_ATTEMPTS):
                fold = self.read()
                seq = fold.seq
                if id is not None:
                    start = max(0, seq + 1 - RECENT) if searched is None else searched + 1
                    there = self._by_id(id, start, seq)
                    if there is not None:
                        return there
                    searched = seq
                wanted = draft(fold)
                if wanted is None:
                    return None
                if fold.seq != seq:
                    continue  # the draft read on by itself: let it look at the whole again
                entry = self._land(fold, self._next(fold, wanted, op=op, id=own))
                if entry is not None:
                    return entry
        raise Conflict(f"{self.model}: {MAX_ATTEMPTS} other writers were faster")

    def _at_once(self, draft: Callable[[Fold], Draft | None], *, op: str, id: str) -> Entry | None:
        """Append by what is known already; None where only the newest state can tell."""
        fold = self.known()
        seq = fold.seq
        try:
            wanted = draft(fold)
            if wanted is None or fold.seq != seq:
                return None
            entry = self._next(fold, wanted, op=op, id=id)
        except CloudregError:
            return None  # refused by what may be past
        return self._land(fold, entry)

    def _next(self, fold: Fold, wanted: Draft, *, op: str, id: str) -> Entry:
        """Return the entry that would stand behind *fold*.

        Raises:
            IntegrityError: It does not follow from what is there.
        """
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
        )
        # Whoever could not be understood later must not get in.
        _trial(fold, entry)
        return entry

    def _land(self, fold: Fold, entry: Entry) -> Entry | None:
        """Put an entry behind *fold* and move *fold* there; None if others were faster."""
        entry = replace(entry, checkpoint=self._checkpoint(fold))
        data = entry.encode()
        if fold.seq < 0:
            with suppress(AlreadyExists):
                self.store.put(b"", f"models/{self.model}", if_absent=True)
        try:
            self.store.put(data, entry_key(self.model, entry.seq), if_absent=True)
        except (AlreadyExists, Unavailable) as error:
            # Lost the race, or lost the answer: only reading tells. A retry on the wire can also
            # meet its own first attempt and be told that the key is taken.
            try:
                there = self.entry(entry.seq)
            except NotFound:
                if isinstance(error, Unavailable):
                    raise error from None
                return None
            if there.id != entry.id:
                return None
            # Another process can have asked with the same key: what stands there counts.
            data = there.encode()
        # Nothing is read again: what fails from here on must not look as if the entry had.
        entry = Entry.decode(data, model=self.model, seq=entry.seq, prev=fold.head)
        fold.apply(entry)
        if self._witness is not None:
            self._witness.remember(self.model, fold.seq, fold.head)
        if entry.checkpoint is not None:
            checkpoint.announce(self.store, self.model, entry.seq - 1)
        self._keep(entry, data)
        if self._gathers and fold.open is None:
            # Not in the middle of an operation, which writes several entries and reads none.
            gathered.write(self.store, self.model, self._recent)
        if fold.closed == entry.seq:
            self._ended(self, entry)
        return entry

    def _by_id(self, id: str, start: int, last: int) -> Entry | None:
        keys = [entry_key(self.model, seq) for seq in range(start, last + 1)]
        for seq, data in zip(range(start, last + 1), self._entries.read(keys), strict=True):
            entry = Entry.decode(data, model=self.model, seq=seq, prev=None)
            if entry.id == id:
                return entry
        return None

    def _checkpoint(self, fold: Fold) -> str | None:
        if fold.seq < 0 or (fold.seq + 1) % checkpoint.EVERY:
            return None
        return checkpoint.write(self.store, fold)

    def _start(self, seen: tuple[int, str] | None) -> Fold:
        for seq in self._places():
            # A derived object that is missing or was changed is passed over: the entries are the
            # truth, and `verify` says what is wrong with the rest.
            with suppress(NotFound, IntegrityError):
                fold, digest = checkpoint.read(
                    self.store, self.model, seq, rebuild=self._rebuilt_pages
                )
                anchor = self._anchor(seq + 1)
                if anchor.checkpoint == digest and anchor.prev == fold.head:
                    if seen is not None and seen[0] <= seq:
                        self._check_passed_over(seen)
                    return fold
        return Fold(self.model)

    def _places(self) -> Iterator[int]:
        """Yield where checkpoints may stand, the likeliest first."""
        first = min(self._gathered, default=None)
        if first == 0:
            return  # all entries are at hand
        if first is not None:
            yield first - 1
        yield from checkpoint.places(self.store, self.model)

    def _anchor(self, seq: int) -> Entry:
        """Return the entry behind a checkpoint; `raw` proves it, if it was gathered."""
        if seq in self._gathered:
            return Entry.decode(self._gathered[seq], model=self.model, seq=seq, prev=None)
        return self.entry(seq)

    def _check_passed_over(self, seen: tuple[int, str]) -> None:
        """Look at the entry that was seen, although the checkpoint makes reading it needless."""
        key = entry_key(self.model, seen[0])
        entry = Entry.decode(self._entries.read([key])[0], model=self.model, seq=seen[0], prev=None)
        check_seen(self.model, seen, seen[0], entry.hash)

    def _rebuilt_pages(self, last: int) -> Mapping[str, bytes]:
        """Return the pages of the checkpoint after entry *last*, made from the entries."""
        if last not in self._pages:
            fold = Fold(self.model)
            for entry in self._tail(fold):
                fold.apply(entry)
                if entry.seq == last:
                    break
            self._pages = {last: checkpoint.encode(fold)[1]}
        return self._pages[last]

    def raw(
        self, *, after: int = -1, known: Mapping[int, bytes] = NOTHING
    ) -> Iterator[tuple[int, bytes]]:
        """Yield place and bytes of the entries behind *after*; see `Entries.behind`."""
        return self._entries.behind(after, known=known)

    @property
    def last(self) -> int:
        """The place of the newest entry that was read or written here; -1 before any."""
        return self._fold.seq if self._fold is not None else -1

    def since(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Yield place and bytes of the entries behind *after*, up to the last one known here."""
        places = range(after + 1, self.last + 1)
        if all(seq in self._recent for seq in places):
            yield from ((seq, self._recent[seq]) for seq in places)
            return
        for seq, data in self.raw(after=after):
            if seq > self.last:
                return
            yield seq, data

    @property
    def _entries(self) -> Entries:
        return Entries(self.store, self.model)

    def _tail(self, fold: Fold) -> Iterator[Entry]:
        """Yield the entries behind *fold*; the caller moves it along."""
        for seq, data in self.raw(after=fold.seq):
            yield Entry.decode(data, model=self.model, seq=seq, prev=fold.head)


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


def timestamp(seconds: float) -> str:
    """Return ISO 8601 in UTC with microseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
