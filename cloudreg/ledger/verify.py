"""Whether anything was edited, deleted, reordered, truncated or forked."""

from __future__ import annotations

from dataclasses import dataclass

from cloudreg.errors import CloudregError, IntegrityError, NotFound
from cloudreg.ledger import checkpoint
from cloudreg.ledger.entry import Entry, entry_key, seq_of
from cloudreg.ledger.fold import Fold
from cloudreg.ledger.log import Ledger
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
    seen = dict(known for known in (newest, pinned) if known is not None)
    expected = 0
    for stored in ledger.store.list(f"ledger/{ledger.model}/"):
        try:
            seq = seq_of(stored.key)
            if stored.key != entry_key(ledger.model, seq):
                raise IntegrityError(f"entry {seq} stands under the wrong key {stored.key}")
            if seq != expected:
                raise IntegrityError(f"entry {expected} is missing; the next one is {seq}")
            with ledger.store.open(stored.key) as reader:
                entry = Entry.decode(reader.read(), model=ledger.model, seq=seq, prev=fold.head)
            problems += _derived(ledger, fold, entry)
            fold.apply(entry)
        except CloudregError as error:
            problems.append(error.message)
            break
        if seq in seen and seen.pop(seq) != fold.head:
            problems.append(f"entry {seq} is not the one that was seen before: rewritten")
            break
        expected = seq + 1
    if not problems:
        problems += [
            f"the ledger ends at entry {fold.seq}, but entry {place} was seen before: truncated"
            for place in seen
            if place > fold.seq
        ]
        problems += _left_over(ledger, fold)
    return Verification(
        model=ledger.model, entries=expected, head=fold.head, problems=tuple(problems)
    )


def _derived(ledger: Ledger, fold: Fold, entry: Entry) -> list[str]:
    """Compare the checkpoint that *entry* anchors with the one that the entries give."""
    if entry.checkpoint is None:
        return []
    data, _ = checkpoint.encode(fold)
    if sha256(data) != entry.checkpoint:
        return [f"entry {entry.seq} anchors a checkpoint that does not follow from the entries"]
    try:
        with ledger.store.open(checkpoint.checkpoint_key(ledger.model, fold.seq)) as reader:
            stored = reader.read()
    except NotFound:
        return [f"checkpoint {fold.seq} is missing (it can be made again)"]
    if stored != data:
        return [f"checkpoint {fold.seq} was changed"]
    problems = []
    for page, digest in fold.versions.pages.items():
        key = f"pages/{ledger.model}/{checkpoint.hexadecimal(digest)}.json"
        try:
            with ledger.store.open(key) as reader:
                if sha256(reader.read()) != digest:
                    problems.append(f"page {page} of the version index was changed")
        except NotFound:
            problems.append(f"page {page} of the version index is missing")
    return problems


def _left_over(ledger: Ledger, fold: Fold) -> list[str]:
    """Find checkpoints of entries that are not there."""
    problems = []
    for stored in ledger.store.list(f"checkpoints/{ledger.model}/"):
        name = stored.key.rpartition("/")[2].removesuffix(".json")
        # The one after the last entry may stand before the entry that anchors it.
        if not name.isdecimal() or int(name) > fold.seq:
            problems.append(
                f"there is a checkpoint after entry {name}, but the ledger ends at entry "
                f"{fold.seq}: truncated"
            )
    return problems
