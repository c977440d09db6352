"""Resources by name, which remember what changed: for the disk, and for lists that are stale."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from google.protobuf.message import Message

__all__ = ["Records"]

M = TypeVar("M", bound=Message)

REMEMBERED = 10_000
"""Changes that a stale list can look back on."""


class Records(Generic[M]):
    """Messages by name, in no order that lasts. Whoever calls holds the lock.

    A message that is handed out is the kept one: whoever changes it puts it back with `put`.

    Attributes:
        kind: What is kept, in one word: a folder's name on the disk.
        of: The class of the messages.
    """

    def __init__(self, kind: str, of: type[M]) -> None:
        """Begin empty."""
        self.kind = kind
        self.of = of
        self._kept: dict[str, M] = {}
        self._changed: set[str] = set()
        self._past: list[tuple[float, str, bytes | None]] = []
        self._written: dict[str, bytes] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str) -> M | None:
        """Return what is kept under a name."""
        return self._kept.get(name)

    def put(self, name: str, message: M) -> M:
        """Keep *message*, or what it has become, and return it."""
        self._note(name)
        self._kept[name] = message
        self._written[name] = message.SerializeToString()
        return message

    def pop(self, name: str) -> None:
        """Forget a name; one that is not there is fine."""
        if name in self._kept:
            self._note(name)
            del self._kept[name], self._written[name]

    def items(self, *, stale_s: float = 0.0) -> Iterator[tuple[str, M]]:
        """Yield names and messages.

        Args:
            stale_s: Show what there was so many seconds ago.
        """
        if not stale_s:
            yield from list(self._kept.items())
            return
        then: dict[str, M | None] = dict(self._kept)
        for when, name, before in reversed(self._past):
            if when < time.monotonic() - stale_s:
                break
            then[name] = None if before is None else self.of.FromString(before)
        yield from ((name, message) for name, message in then.items() if message is not None)

    def under(self, prefix: str, *, stale_s: float = 0.0) -> Iterator[M]:
        """Yield the messages whose names begin with *prefix*."""
        for name, message in self.items(stale_s=stale_s):
            if name.startswith(prefix):
                yield message

    def changes(self) -> dict[str, bytes | None]:
        """Return what changed since the last time, None for what is gone, and begin anew."""
        changed = {name: self._written.get(name) for name in self._changed}
        self._changed.clear()
        return changed

    def load(self, name: str, data: bytes) -> None:
        """Keep what was read from the disk."""
        self._kept[name] = self.of.FromString(data)
        self._written[name] = data

    def _note(self, name: str) -> None:
        self._changed.add(name)
        # As it was written: the kept message may be changed already.
        self._past.append((time.monotonic(), name, self._written.get(name)))
        del self._past[:-REMEMBERED]
