"""A seal: somebody signed a version with a key, and the signature stands beside its bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A signature, as the ledger records it.

    Attributes:
        key: Id of the key that signed.
        bundle: sha256 of the file that carries the signature.
        by: Who signed; the key alone proves it.
        at: When, ISO 8601 in UTC.
    """

    key: str
    bundle: str
    by: str
    at: str

    def __str__(self) -> str:
        """Render as ``key 0f3a9c51e2b4 by bob``."""
        return f"key {self.key[:12]} by {self.by}"


def with_seal(seals: Iterable[Seal], new: Seal) -> tuple[Seal, ...]:
    """Return *seals* and *new*, which takes the place of an older one by the same key."""
    return (*(seal for seal in seals if seal.key != new.key), new)
