"""What this machine has seen of a ledger, so that a missing end does not go unnoticed.

A hash chain proves that nothing in it was changed; it cannot prove that nothing was cut off its
end. Somebody has to remember how long it was.
"""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec

from cloudreg.errors import AlreadyExists, IntegrityError, NotFound
from cloudreg.provider import ObjectStore

HOME_KEY = "home.json"


class Witness:
    """A folder with the newest entry that was seen of each model."""

    def __init__(self, folder: Path, home: str) -> None:
        """Remember what is seen of the home called *home*."""
        self.home = home
        self._folder = folder / home
        self._seen: dict[str, tuple[int, str] | None] = {}

    def newest(self, model: str) -> tuple[int, str] | None:
        """Return place and hash of the newest entry that was ever seen, or None."""
        if model not in self._seen:
            self._seen[model] = self._load(model)
        return self._seen[model]

    def remember(self, model: str, seq: int, head: str) -> None:
        """Keep place and hash of an entry, if it is newer than what is kept."""
        seen = self.newest(model)
        if seq < 0 or (seen is not None and seen[0] >= seq):
            return
        self._seen[model] = (seq, head)
        # Best effort: a full disk must not stop a promotion, and a lost note costs nothing.
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            other = self._load(model)
            if other is None or other[0] < seq:
                temporary = self._folder / f".{model}.{uuid.uuid4().hex}"
                try:
                    temporary.write_bytes(msgspec.json.encode([seq, head]))
                    temporary.replace(self._folder / f"{model}.json")
                finally:
                    temporary.unlink(missing_ok=True)

    def _load(self, model: str) -> tuple[int, str] | None:
        with suppress(OSError, ValueError):
            data = (self._folder / f"{model}.json").read_bytes()
            return msgspec.json.decode(data, type=tuple[int, str])
        return None


def known_home_id(store: ObjectStore) -> str | None:
    """Return the name that this home gave itself; None before it was first used."""
    try:
        with store.open(HOME_KEY) as reader:
            name = msgspec.json.decode(reader.read(), type=dict[str, str]).get("id", "")
    except NotFound:
        return None
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"{HOME_KEY} in the home's store cannot be read: {error}") from error
    # It becomes the name of a folder on this machine.
    if not re.fullmatch(r"[0-9a-f]{32}", name):
        raise IntegrityError(f"{HOME_KEY} in the home's store holds no id of cloudreg's")
    return name


def check_seen(model: str, seen: tuple[int, str] | None, seq: int, head: str) -> None:
    """Return if entry *seq* is the one that was seen there before, if any was.

    Raises:
        IntegrityError: Another entry stood in this place: the history was rewritten.
    """
    if seen is not None and seen[0] == seq and seen[1] != head:
        raise IntegrityError(
            f"ledger of {model}: entry {seq} is not the one that this machine has seen: "
            "history was rewritten"
        )


def check_length(model: str, seen: tuple[int, str] | None, seq: int) -> None:
    """Return if the ledger, which ends at *seq*, is as long as it was seen before.

    Raises:
        IntegrityError: It ends before an entry that was seen.
    """
    if seen is not None and seen[0] > seq:
        raise IntegrityError(
            f"ledger of {model} ends at entry {seq}, but this machine has seen entry "
            f"{seen[0]}: its end is missing"
        )


def home_id(store: ObjectStore) -> str:
    """Return the name that this home gave itself when it was first used: now, if need be."""
    for _ in range(3):
        known = known_home_id(store)
        if known is not None:
            return known
        with suppress(AlreadyExists):
            store.put(msgspec.json.encode({"id": uuid.uuid4().hex}), HOME_KEY, if_absent=True)
    raise IntegrityError(f"{HOME_KEY} cannot be read back from the home's store")
