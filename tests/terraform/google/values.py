"""Terraform's values on the wire: MessagePack, and one extension for what is not known yet.

Source: https://developer.hashicorp.com/terraform/internals/v1.11.x/provider-protocol
(``docs/plugin-protocol/object-wire-format.md`` of Terraform)
"""

from __future__ import annotations

import struct
from typing import Any, Final


class Unknown:
    """A value that is known after apply."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN: Final = Unknown()

_FIXED = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_SIZED = {
    0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I"),
    0xC7: ("ext", ">B"), 0xC8: ("ext", ">H"), 0xC9: ("ext", ">I"),
    0xD9: ("str", ">B"), 0xDA: ("str", ">H"), 0xDB: ("str", ">I"),
    0xDC: ("array", ">H"), 0xDD: ("array", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def value(self) -> Any:
        head = self._take(1)[0]
        if head in _FIXED:
            return _FIXED[head]
        if head in _NUMBERS:
            return self._number(_NUMBERS[head])
        if head in _SIZED:
            kind, form = _SIZED[head]
            return self._sized(kind, self._number(form))
        if 0xD4 <= head <= 0xD8:
            return self._sized("ext", 1 << (head - 0xD4))
        return self._short(head)

    def _short(self, head: int) -> Any:
        if head <= 0x7F:
            return head
        if head >= 0xE0:
            return head - 0x100
        if head >= 0xA0:
            return self._sized("str", head & 0x1F)
        return self._sized("array" if head >= 0x90 else "map", head & 0x0F)

    def _sized(self, kind: str, size: int) -> Any:
        if kind == "array":
            return [self.value() for _ in range(size)]
        if kind == "map":
            return {self.value(): self.value() for _ in range(size)}
        if kind == "ext":
            # Every extension is an unknown value; some say more of it, which nobody here needs.
            self._take(1 + size)
            return UNKNOWN
        content = self._take(size)
        return content if kind == "bin" else content.decode()


def decoded(data: bytes) -> Any:
    """Return the value that *data* is."""
    return _Reader(data).value()


def encoded(value: Any) -> bytes:
    """Return the bytes of a value."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case Unknown():
            return b"\xd4\x00\x00"
        case int() if -(2**63) <= value < 2**63:
            return struct.pack(">Bq", 0xD3, value)
        case float():
            return struct.pack(">Bd", 0xCB, value)
        case str():
            raw = value.encode()
            return struct.pack(">BI", 0xDB, len(raw)) + raw
        case list():
            return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(encoded, value))
        case dict():
            items = (encoded(key) + encoded(item) for key, item in value.items())
            return struct.pack(">BI", 0xDF, len(value)) + b"".join(items)
    raise TypeError(f"{value!r} is no value of Terraform's")
