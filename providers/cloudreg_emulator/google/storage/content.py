"""Bytes of objects, with their checksums; what is composed or copied shares them.

CRC-32C of a whole is worked out from those of its parts, as the service does for composite
objects, which have no MD5.

Source: https://cloud.google.com/storage/docs/composite-objects
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import google_crc32c

from cloudreg_emulator.google.storage.refusals import Refused

MAX_OBJECT = 5 << 40
"""Bytes of the largest object.

Source: https://cloud.google.com/storage/quotas#objects
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of an object.

    Attributes:
        pieces: In order.
        size: Of all together.
        crc32c: Base64 of the big-endian CRC-32C.
        md5: Base64; None for what was composed of others.
        components: Of how many objects it was composed; None for one that was not.
    """

    pieces: tuple[bytes, ...]
    size: int
    crc32c: str
    md5: str | None = None
    components: int | None = None

    @classmethod
    def of(cls, data: bytes | Iterable[bytes]) -> Content:
        """Return the content that is *data*."""
        pieces = (data,) if isinstance(data, bytes) else tuple(data)
        crc, md5 = 0, hashlib.md5(usedforsecurity=False)
        for piece in pieces:
            crc = google_crc32c.extend(crc, piece)
            md5.update(piece)
        return cls(
            pieces=pieces,
            size=sum(map(len, pieces)),
            crc32c=base64.b64encode(crc.to_bytes(4, "big")).decode(),
            md5=base64.b64encode(md5.digest()).decode(),
        )

    @classmethod
    def joined(cls, parts: Iterable[Content], *, counted: bool) -> Content:
        """Return *parts* one behind the other; nothing is copied.

        Args:
            parts: In order.
            counted: Whether the parts are components, as those of compose are.
        """
        pieces: list[bytes] = []
        crc, components = 0, 0
        for part in parts:
            pieces += part.pieces
            components += part.components or 1
        for piece in pieces:
            crc = google_crc32c.extend(crc, piece)
        return cls(
            pieces=tuple(pieces),
            size=sum(map(len, pieces)),
            crc32c=base64.b64encode(crc.to_bytes(4, "big")).decode(),
            components=components if counted else None,
        )

    def without_components(self) -> Content:
        """Return the same as one object, which a rewrite makes of a composite one."""
        return self if self.components is None else replace(self, components=None)

    def read(self, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """Yield the bytes from *start* to *end*, without copying them."""
        end = self.size if end is None else min(end, self.size)
        at = 0
        for piece in self.pieces:
            first, last = max(start - at, 0), min(end - at, len(piece))
            if first < last:
                yield memoryview(piece)[first:last]
            at += len(piece)
            if at >= end:
                return

    def data(self) -> bytes:
        """Return all bytes in one."""
        return b"".join(self.pieces)

    def check(self, *, crc32c: str | None = None, md5: str | None = None) -> None:
        """Refuse bytes that are not those whose checksums a client tells.

        Raises:
            Refused: 400, and nothing may be kept.
        """
        told = (("CRC32C", crc32c, self.crc32c, 4), ("MD5", md5, self.md5, 16))
        for name, wanted, found, length in told:
            if wanted is None or found is None:
                continue
            if len(_decoded(wanted)) != length:
                raise Refused(
                    400, "invalid", f"Invalid {name} value {wanted!r}.", code="InvalidDigest"
                )
            if wanted != found:
                raise Refused(
                    400,
                    "invalid",
                    f'Provided {name} "{wanted}" doesn\'t match calculated {name} "{found}".',
                    code="BadDigest",
                )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def hashes(header: str | None, content_md5: str | None = None) -> dict[str, str]:
    """Return the checksums that a request tells in ``x-goog-hash`` and ``Content-MD5``.

    Source: https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
    """
    told: dict[str, str] = {}
    if content_md5:
        told["md5"] = content_md5
    for part in (header or "").split(","):
        name, equals, value = part.strip().partition("=")
        if not equals and not name:
            continue
        if name not in ("crc32c", "md5"):
            raise Refused(400, "invalid", f"Invalid x-goog-hash: {part!r}.")
        if told.setdefault(name, value) != value:
            raise Refused(400, "invalid", f"Two different {name} values.", code="InvalidDigest")
    return told
