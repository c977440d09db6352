"""What a stage goes back to.

A promotion puts a version on top of what is there; a rollback takes down what is above the version
that it goes back to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cloudreg.ledger import Entry, Holder

MOVES = ("register", "done", "adopt")
"""Kinds of entries that move stages."""


def held_before(newest_first: Iterable[Entry], stage: str, holder: Holder) -> int | None:
    """Return what a stage held before the version that it holds was promoted.

    A second rollback goes further back: what was rolled away from is not what anybody wants.

    Args:
        newest_first: The entries; no more of them are read than it takes.
        stage: Which one.
        holder: What it holds now.
    """
    moves = _Moves(newest_first, stage, holder)
    at = moves.begun(0) + 1
    while (move := moves.get(at)) is not None:
        if move.number not in (None, holder.number):
            return move.number
        at = moves.begun(at) + 1
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """A move of the stage.

    Attributes:
        number: What it holds from then on; None for nothing.
        is_back: Whether it went back there.
    """

    number: int | None
    is_back: bool


class _Moves:
    """The moves of a stage, the newest first, read as far as they are asked for."""

    def __init__(self, newest_first: Iterable[Entry], stage: str, holder: Holder) -> None:
        self._entries = iter(newest_first)
        self._stage = stage
        self._last = holder.seq
        self._read: list[_Move] = []
        self._begun: dict[int, int] = {}

    def get(self, at: int) -> _Move | None:
        """Return a move; None where there is none so old."""
        while len(self._read) <= at:
            entry = next(self._entries, None)
            if entry is None:
                return None
            moved = entry.data.get("stages", {}) if entry.kind in MOVES else {}
            if entry.seq > self._last or self._stage not in moved:
                continue
            is_back = entry.data.get("verb") == "rollback"
            self._read.append(_Move(number=moved[self._stage], is_back=is_back))
        return self._read[at]

    def begun(self, at: int) -> int:
        """Return which move put on top what is there after move *at*."""
        if at not in self._begun:
            self._begun[at] = self._search(at)
        return self._begun[at]

    def _search(self, at: int) -> int:
        move = self.get(at)
        if move is None or not move.is_back:
            return at
        # It took down what was above: what it went back to had been put there before.
        under = at + 1
        while (there := self.get(under)) is not None:
            begun = self.begun(under)
            if there.number == move.number:
                return begun
            under = begun + 1
        # That was taken down already, and somebody named it: it is on top again.
        return at
