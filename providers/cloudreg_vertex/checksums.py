"""CRC-32C as Cloud Storage writes it, of parts that are sent in any order; pure.

The checksum of a whole follows from those of its parts and from their lengths: so each byte is
looked at once, by the thread that sends it.

Source: https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import lru_cache

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, its bits reversed."""


def written(checksum: int) -> str:
    """Return a checksum as headers and resources have it."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def joined(parts: Iterable[tuple[int, int]]) -> int:
    """Return the checksum of all parts together.

    Args:
        parts: Checksum and length of each, in order.
    """
    whole = 0
    for checksum, size in parts:
        whole = _times(_behind(size), whole) ^ checksum
    return whole


@lru_cache(maxsize=64)
def _behind(size: int) -> tuple[int, ...]:
    """Return what *size* zero bytes behind a text do to its checksum: 32 columns of bits."""
    step = _squared(_squared(_squared((_POLYNOMIAL, *(1 << bit for bit in range(31))))))
    done = tuple(1 << bit for bit in range(32))
    while size:
        if size & 1:
            done = tuple(_times(step, column) for column in done)
        step = _squared(step)
        size >>= 1
    return done


def _squared(columns: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(_times(columns, column) for column in columns)


def _times(columns: tuple[int, ...], bits: int) -> int:
    found = 0
    for column in columns:
        if bits & 1:
            found ^= column
        bits >>= 1
    return found
