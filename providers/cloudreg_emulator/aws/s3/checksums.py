"""Checksums of S3: computed here, because moto accepts whatever a client declares.

CRC-32C and CRC-64/NVME have no implementation in the standard library, and moto falls back to
CRC-32 for both, so that a client that checks an answer finds it broken.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Reflected polynomials; both start from all ones and end with all ones inverted.
_CRC32C = (32, 0x82F63B78)
_CRC64NVME = (64, 0x9A6C9329AC4BC9B5)

LANES = 2048
"""Stretches of a body that are taken side by side; shorter bodies are taken byte by byte."""

_BITS = {"CRC32": 32, "CRC32C": 32, "CRC64NVME": 64, "SHA1": 160, "SHA256": 256, "SHA512": 512}
_BITS |= {"MD5": 128, "XXHASH64": 64, "XXHASH3": 64, "XXHASH128": 128}

UNKNOWN = frozenset({"XXHASH64", "XXHASH3", "XXHASH128"})
"""Algorithms that S3 takes and this emulator refuses, because it could not check them."""

FULL_OBJECT_ONLY = frozenset({"CRC64NVME"})
COMPOSITE_ONLY = frozenset({"SHA1", "SHA256"})

_PREFIX = "x-amz-checksum-"
# What follows the last chunk of an aws-chunked body: one line for each trailing header.
_TRAILERS = re.compile(rb"(?:^|\r\n)0(?:;[^\r\n]*)?\r\n((?:[^\r\n:]+:[^\r\n]*\r?\n)*)\r?\n?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """A checksum as a request declares it.

    Attributes:
        algorithm: As botocore spells it, such as ``CRC64NVME``.
        value: Base64, as it stands in the header.
    """

    algorithm: str
    value: str

    @property
    def header(self) -> str:
        """The header that carries it."""
        return f"{_PREFIX}{self.algorithm.lower()}"

    @property
    def known(self) -> bool:
        """Whether the emulator can check it."""
        return self.algorithm in _BITS and self.algorithm not in UNKNOWN

    @property
    def wellformed(self) -> bool:
        """Whether the value can be one of this algorithm."""
        try:
            raw = base64.b64decode(self.value, validate=True)
        except (binascii.Error, ValueError):
            return False
        return len(raw) * 8 == _BITS[self.algorithm]


def digest(algorithm: str, body: bytes) -> bytes:
    """Return the raw checksum of *body*, most significant byte first."""
    if algorithm == "CRC32":
        return zlib.crc32(body).to_bytes(4, "big")
    if algorithm == "CRC32C":
        return _crc(*_CRC32C, body).to_bytes(4, "big")
    if algorithm == "CRC64NVME":
        return _crc(*_CRC64NVME, body).to_bytes(8, "big")
    return hashlib.new(algorithm.lower(), body, usedforsecurity=False).digest()


def encoded(algorithm: str, body: bytes) -> str:
    """Return the checksum of *body* as a header carries it."""
    return base64.b64encode(digest(algorithm, body)).decode()


def declared(headers: Iterable[tuple[str, str]], trailers: Mapping[str, str]) -> list[Checksum]:
    """Return the checksums that stand in a request's headers and trailers."""
    found = []
    for name, value in [*headers, *trailers.items()]:
        lower = name.lower()
        algorithm = lower.removeprefix(_PREFIX).upper()
        if lower.startswith(_PREFIX) and algorithm in _BITS:
            found.append(Checksum(algorithm=algorithm, value=value))
    return found


def trailers(body: bytes) -> dict[str, str]:
    """Return the headers behind the last chunk of an ``aws-chunked`` body.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
    """
    match = _TRAILERS.search(body[-4096:])
    if match is None:
        return {}
    lines = match.group(1).decode("latin-1").split("\n")
    pairs = (line.strip().partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _crc(bits: int, polynomial: int, body: bytes) -> int:
    ones = (1 << bits) - 1
    table = _table(bits, polynomial)
    pairs, rest = divmod(len(body), 2 * LANES)
    length = 2 * pairs
    crc = 0
    if length:
        crc = _lanes(bits, polynomial, body[: len(body) - rest], length)
    # A remainder of zero bytes carries the register on; what the register held first is linear.
    crc ^= _advanced(bits, polynomial, ones, LANES * length) if length else ones
    for byte in body[len(body) - rest :]:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ ones


def _lanes(bits: int, polynomial: int, body: bytes, length: int) -> int:
    """Return the register after *body*, begun at zero, of ``LANES`` stretches side by side."""
    # A tenth of a second, which an emulator need not take before it answers.
    import numpy as np

    table = np.array(_table(bits, polynomial), np.uint32 if bits == 32 else np.uint64)
    wide = _wide_table(bits, polynomial)
    rows = np.frombuffer(body, "<u2").reshape(LANES, length // 2)
    columns = np.ascontiguousarray(rows.T)
    registers = np.zeros(LANES, table.dtype)
    sixteen = table.dtype.type(16)
    for column in columns:
        registers = wide.take(registers.astype(np.uint16) ^ column) ^ (registers >> sixteen)
    # Two neighbours make one: the left register is carried on over the bytes of the right one.
    while len(registers) > 1:
        left, right = registers[0::2], registers[1::2]
        operator = np.array(_operator(bits, polynomial, length), table.dtype)
        carried = np.zeros_like(left)
        for bit, image in enumerate(operator):
            carried ^= ((left >> table.dtype.type(bit)) & table.dtype.type(1)) * image
        registers = carried ^ right
        length *= 2
    return int(registers[0])


def _advanced(bits: int, polynomial: int, register: int, zeros: int) -> int:
    images = _operator(bits, polynomial, zeros)
    result = 0
    for bit, image in enumerate(images):
        if register >> bit & 1:
            result ^= image
    return result


@cache
def _table(bits: int, polynomial: int) -> tuple[int, ...]:
    values = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (polynomial if crc & 1 else 0)
        values.append(crc)
    return tuple(values)


@cache
def _wide_table(bits: int, polynomial: int) -> NDArray[np.unsignedinteger]:
    """Return the table that takes two bytes in one step."""
    import numpy as np

    table = np.array(_table(bits, polynomial), np.uint32 if bits == 32 else np.uint64)
    first = table[np.arange(1 << 16) & 0xFF] ^ (np.arange(1 << 16) >> 8).astype(table.dtype)
    wide: NDArray[np.unsignedinteger] = table[first & table.dtype.type(0xFF)] ^ (
        first >> table.dtype.type(8)
    )
    return wide


def _operator(bits: int, polynomial: int, zeros: int) -> list[int]:
    """Return what *zeros* bytes of zero do to each bit of the register, by squaring."""
    table = _table(bits, polynomial)
    result = [1 << bit for bit in range(bits)]
    step = [(1 << bit >> 8) ^ table[1 << bit & 0xFF] for bit in range(bits)]
    while zeros:
        if zeros & 1:
            result = [_image(step, value) for value in result]
        step = [_image(step, value) for value in step]
        zeros >>= 1
    return result


def _image(operator: list[int], value: int) -> int:
    result = 0
    while value:
        low = value & -value
        result ^= operator[low.bit_length() - 1]
        value ^= low
    return result
