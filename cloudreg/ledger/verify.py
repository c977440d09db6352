"""Whether anything was edited, deleted, reordered, truncated or forked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloudreg.errors import IntegrityError, NotFound
from cloudreg.ledger import checkpoint
from cloudreg.ledger.entry import Entry
from cloudreg.ledger.fold import Fold
from cloudreg.ledger.log import Ledger
from cloudreg.ledger.reading import PARALLEL_READS
from cloudreg.ledger.witness import Witness
from cloudreg.names import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What reading a whole ledger found.

    Attributes:
        model: Whose ledger.
        entries: How many entries hang together from the start.
        head: Hash of the last of them: pin it elsewhere to prove later that nothing was cut off.
        problems: What is wrong, in people's words; empty when all is well.
    """

    model: str
    entries: int
    head: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    ledger: Ledger, *, witness: Witness | None = None, pinned: tuple[int, str] | None = None
) -> Verification:
    """Read every entry, follow the chain, and compare what was derived from it.

    Args:
        ledger: Which one.
        witness: What this machine has seen of it.
        pinned: Place and hash of an entry that is known from elsewhere.
    """
    problems: list[str] = []
    fold = Fold(ledger.model)
    newest = witness.newest(ledger.model) if witness is not None else None
    seen = [known for known in (newest, pinned) if known is not None]
    derived = _Derived(ledger)
    try:
        for seq, data in ledger.raw():
            entry = Entry.decode(data, model=ledger.model, seq=seq, prev=fold.head)
            problems += derived.compare(fold, entry)
            fold.apply(entry)
            if any(place == seq and head != fold.head for place, head in seen):
                problems.append(f"entry {seq} is not the one that was seen before: rewritten")
                break
    except IntegrityError as error:
        problems.append(error.message)
    if not problems:
        problems += [
            f"the ledger ends at entry {fold.seq}, but entry {place} was seen before: truncated"
            for place, _ in seen
            if place > fold.seq
        ]
        problems += derived.left_over(fold)
    return Verification(
        model=ledger.model, entries=fold.seq + 1, head=fold.head, problems=tuple(problems)
    )


class _Derived:
    """What stands beside the entries, compared with what they give."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._model = ledger.model
        self._checked: set[str] = set()
        self._anchored: set[int] = set()
        self._numbered = 0

    def compare(self, fold: Fold, entry: Entry) -> list[str]:
        """Compare the checkpoint that *entry* anchors with the one that the entries give."""
        if entry.checkpoint is None:
            return []
        data, _, fold.versions = checkpoint.encode(fold)
        if sha256(data) != entry.checkpoint:
            return [f"entry {entry.seq} anchors a checkpoint that does not follow from the entries"]
        self._anchored.add(fold.seq)
        problems = []
        stored = self._read(checkpoint.checkpoint_key(self._model, fold.seq))
        if stored != data:
            problems.append(f"checkpoint {fold.seq} {_fate(stored)}")
        for page, digest in fold.versions.pages.items():
            if digest not in self._checked:
                self._checked.add(digest)
                content = self._read(checkpoint.page_key(self._model, digest))
                if content is None or sha256(content) != digest:
                    problems.append(f"page {page} of the version index {_fate(content)}")
        return problems + self._digests(fold)

    def left_over(self, fold: Fold) -> list[str]:
        """Find what belongs to entries that are not there, and what belongs to none."""
        problems = []
        if fold.seq >= 0 and self._read(f"models/{self._model}") is None:
            problems.append(f"models/{self._model} is missing: lists do not show the model")
        for stored in self._store.list(f"checkpoints/{self._model}/"):
            seq = checkpoint.seq_in(stored.key)
            if seq is not None and seq > fold.seq:
                problems.append(
                    f"there is a checkpoint after entry {seq}, but the ledger ends at entry "
                    f"{fold.seq}: truncated"
                )
            # The one after the last entry may stand before the entry that anchors it.
            elif seq is None or (seq not in self._anchored and seq != fold.seq):
                problems.append(f"foreign object {stored.key!r} among the checkpoints")
        return problems

    def _digests(self, fold: Fold) -> list[str]:
        """Compare the numbers that are kept by digest, for the versions since the last look."""
        numbers = range(self._numbered + 1, fold.last_number + 1)
        self._numbered = fold.last_number
        summaries = [s for n in numbers if (s := fold.version(n)) is not None]
        keys = [checkpoint.digest_key(self._model, s.digest) for s in summaries]
        with ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="verify") as pool:
            found = list(pool.map(self._read, keys))
        return [
            f"the number of {self._model}:{summary.number} by its digest {_fate(data)}"
            for summary, data in zip(summaries, found, strict=True)
            if data != str(summary.number).encode()
        ]

    def _read(self, key: str) -> bytes | None:
        try:
            with self._store.open(key) as reader:
                return reader.read()
        except NotFound:
            return None


def _fate(data: bytes | None) -> str:
    return "is missing (it can be made again)" if data is None else "was changed"
