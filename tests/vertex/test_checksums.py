"""Checksums of parts, and of what they make together."""

from __future__ import annotations

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from cloudreg_vertex import checksums


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_joined(parts: list[bytes]) -> None:
    """The checksum of a whole follows from its parts', however they were cut."""
    whole = google_crc32c.value(b"".join(parts))

    assert checksums.joined((google_crc32c.value(part), len(part)) for part in parts) == whole


def test_joined_large() -> None:
    """Parts of the size that uploads have join as well as small ones."""
    part, rest = bytes(range(256)) * (8 * 4096), b"the rest"
    found = checksums.joined(
        [(google_crc32c.value(part), len(part))] * 3 + [(google_crc32c.value(rest), len(rest))]
    )

    assert found == google_crc32c.value(part * 3 + rest)


def test_written() -> None:
    """A checksum is written as base64 of its bytes, the highest first.

    Source: https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
    """
    assert checksums.written(google_crc32c.value(b"123456789")) == "4waSgw=="
