"""Copies of the home's ledger elsewhere, to be read while the home does not answer.

Each commit adds one object with the entries since the one before, a line for each entry in the
very bytes that the home has. It is written where nothing stands yet, and never changed::

    copies/<home>/<model>/<first>-<last>.jsonl

Two processes may write overlapping pieces; then both hold the same bytes.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import msgspec

from cloudreg.errors import AlreadyExists, IntegrityError, NotFound
from cloudreg.ledger.entry import Entry
from cloudreg.ledger.fold import Fold
from cloudreg.ledger.log import Ledger
from cloudreg.provider import ObjectStore

WINDOW = 256
"""Entries before the newest among which the end of a copy is looked for first."""

LINES = 500
"""Most entries in one object."""

_NAME = re.compile(r"(\d{8})-(\d{8})\.jsonl")


class Shelf(Protocol):
    """Where the copy of one ledger stands."""

    def names(self, after: str = "") -> Iterator[str]:
        """Yield the names of its pieces behind *after*, in order."""
        ...

    def read(self, name: str) -> bytes:
        """Return a piece."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write a piece; one that is there stays.

        Raises:
            AlreadyExists: It is there.
        """
        ...


class StoreShelf:
    """A copy in a target's store."""

    def __init__(self, store: ObjectStore, home: str, model: str) -> None:
        """Use what *store* has of the ledger of *model* of the home called *home*."""
        self._store = store
        self._prefix = f"copies/{home}/{model}/"

    def names(self, after: str = "") -> Iterator[str]:
        """Yield the names of the pieces."""
        start = self._prefix + after if after else ""
        for stored in self._store.list(self._prefix, after=start):
            yield stored.key.removeprefix(self._prefix)

    def read(self, name: str) -> bytes:
        """Return a piece."""
        with self._store.open(self._prefix + name) as reader:
            return reader.read()

    def put(self, name: str, data: bytes) -> None:
        """Write a piece."""
        self._store.put(data, self._prefix + name, if_absent=True)


class FolderShelf:
    """A copy in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        """Use *folder*, which need not be there."""
        self._folder = folder

    def names(self, after: str = "") -> Iterator[str]:
        """Yield the names of the pieces."""
        if self._folder.is_dir():
            found = (path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
            yield from sorted(name for name in found if name > after)

    def read(self, name: str) -> bytes:
        """Return a piece."""
        return (self._folder / name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        """Write a piece, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as writer:
                writer.write(data)
                writer.flush()
                os.fsync(writer.fileno())
            try:
                # Unlike a rename, a link refuses a name that is taken.
                (self._folder / name).hardlink_to(temporary)
            except FileExistsError as error:
                raise AlreadyExists(f"{name} is there already") from error
        finally:
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyVerification:
    """What comparing a copy with the home found.

    Attributes:
        model: Whose ledger.
        target: Where the copy stands.
        entries: How many entries of it are the home's, from the first on.
        problems: What is wrong, in people's words; empty when the copy is the home's ledger.
    """

    model: str
    target: str
    entries: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def homes(store: ObjectStore) -> list[str]:
    """Return the homes of which *store* has copies, by their ids."""
    found: list[str] = []
    last = "copies/"
    while True:
        stored = next(store.list("copies/", after=last), None)
        if stored is None:
            return found
        home = stored.key.split("/")[1]
        found.append(home)
        last = f"copies/{home}/\U0010ffff"


def extend(shelf: Shelf, ledger: Ledger, *, held: int | None = None) -> int:
    """Add what a copy lacks of the ledger as it was last read, and return where the copy ends.

    Args:
        shelf: Where it stands.
        ledger: The home's.
        held: Where the copy ends, if that is known.
    """
    end = _end(shelf, ledger.last) if held is None else held
    lines: list[bytes] = []
    first = end + 1
    for seq, data in ledger.since(end):
        lines.append(data)
        if len(lines) == LINES:
            _put(shelf, first, seq, lines)
            first, lines = seq + 1, []
    if lines:
        _put(shelf, first, first + len(lines) - 1, lines)
    return max(end, ledger.last)


def entries(shelf: Shelf, model: str) -> Iterator[Entry]:
    """Yield the entries of a copy, checked against each other.

    Raises:
        IntegrityError: One is missing, was edited, or is none.
    """
    heads: list[str] = []
    for data in _lines(shelf, model):
        seq = _seq(data, model)
        if seq > len(heads):
            raise IntegrityError(f"copy of the ledger of {model}: entry {len(heads)} is missing")
        prev = heads[seq - 1] if seq else Fold(model).head
        entry = Entry.decode(data, model=model, seq=seq, prev=prev)
        if seq < len(heads):
            if entry.hash != heads[seq]:
                raise IntegrityError(
                    f"copy of the ledger of {model}: entry {seq} stands there twice"
                )
            continue
        heads.append(entry.hash)
        yield entry


def folded(shelf: Shelf, model: str) -> tuple[Fold, list[Entry]]:
    """Return the state that a copy tells, and its entries.

    Raises:
        IntegrityError: The copy was edited.
    """
    fold, all_of_it = Fold(model), list(entries(shelf, model))
    for entry in all_of_it:
        fold.apply(entry)
    return fold, all_of_it


def verify_copy(ledger: Ledger, shelf: Shelf, *, target: str) -> CopyVerification:
    """Compare a copy with the home's ledger, entry by entry.

    Args:
        ledger: The home's; `cloudreg.ledger.verify` judges it alone.
        shelf: Where the copy stands.
        target: Whose store that is.
    """
    same, problems = 0, []
    copied = entries(shelf, ledger.model)
    try:
        for there, here in zip_longest(copied, ledger.raw()):
            if here is None:
                problems.append(f"the copy has entry {there.seq}, which the home does not have")
                break
            if there is None:
                missing = ledger.read().seq + 1 - same
                problems.append(f"the copy ends before entry {here[0]}: it is {missing} behind")
                break
            if there.encode() != here[1]:
                problems.append(f"entry {there.seq} of the copy is not the home's: it was edited")
                break
            same += 1
    except IntegrityError as error:
        problems.append(error.message)
    return CopyVerification(
        model=ledger.model, target=target, entries=same, problems=tuple(problems)
    )


def _end(shelf: Shelf, newest: int) -> int:
    """Return the last entry that a copy has; -1 for none."""
    starts = [f"{newest - WINDOW:08d}"] if newest > WINDOW else []
    for after in (*starts, ""):
        found = [_NAME.fullmatch(name) for name in shelf.names(after)]
        ends = [int(name[2]) for name in found if name]
        if ends:
            return max(ends)
    return -1


def _put(shelf: Shelf, first: int, last: int, lines: list[bytes]) -> None:
    # Others may have written the same entries, and then in the same bytes.
    with suppress(AlreadyExists):
        shelf.put(f"{first:08d}-{last:08d}.jsonl", b"".join(line + b"\n" for line in lines))


def _lines(shelf: Shelf, model: str) -> Iterator[bytes]:
    for name in shelf.names():
        if not _NAME.fullmatch(name):
            raise IntegrityError(f"foreign object {name!r} in the copy of the ledger of {model}")
        try:
            yield from shelf.read(name).splitlines()
        except NotFound as error:
            raise IntegrityError(f"copy of the ledger of {model}: {name} is gone") from error


def _seq(data: bytes, model: str) -> int:
    try:
        return msgspec.json.decode(data, type=_Place).seq
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"copy of the ledger of {model} cannot be read: {error}") from error


class _Place(msgspec.Struct):
    seq: int
