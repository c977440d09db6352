"""Object keys and the paths that hold them.

Object stores know keys and no folders: ``a`` and ``a/b`` are two objects. On disk a folder's name
ends in ``.d``, so that both fit. Bytes that are special somewhere are percent-encoded, and
a long part is cut into pieces, each but the last a folder that ends in ``.+``::

    blobs/12/ab…      blobs.d/12.d/ab…
    ü/x.d             %C3%BC.d/x%2Ed
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from cloudreg.names import check_key as check_text

PIECE = 80
"""Bytes of a name before encoding, which triples them at worst: 255 is the usual limit."""

FOLDER = ".d"
GOES_ON = ".+"
_EMPTY = "%"

_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 !#$&'()+,-.;=@[]^_`{}~"
)
_SPECIAL_END = re.compile(r"\.(?=[d+]$)")


def check_key(key: str) -> bytes:
    """Return the bytes of *key*, if it is one; see `cloudreg.names.check_key`."""
    return check_text(key).encode()


def path_of(raw: bytes) -> str:
    """Return the path of a key."""
    *folders, last = raw.split(b"/")
    names = [name for folder in folders for name in _names(folder, FOLDER)]
    return "/".join([*names, *_names(last, "")])


def folder_of(raw: bytes) -> str:
    """Return the path of the folder that holds the keys that start with *raw* and a slash."""
    return "/".join(name for part in raw.split(b"/") for name in _names(part, FOLDER))


def tail_of(raw: bytes) -> tuple[list[str], bytes]:
    """Return the folders for the beginning of a part, and what follows them."""
    names = []
    while len(raw) >= PIECE:
        names.append(_encode(raw[:PIECE]) + GOES_ON)
        raw = raw[PIECE:]
    return names, raw


def _names(part: bytes, ending: str) -> list[str]:
    # Always cut at the same length, so that the keys below a piece are a range of their own.
    names, rest = tail_of(part)
    return [*names, _encode(rest) + ending]


def _encode(raw: bytes) -> str:
    if not raw:
        return _EMPTY
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    if name.startswith("."):  # hidden files are ours
        name = "%2E" + name[1:]
    return _SPECIAL_END.sub("%2E", name)


def decode(name: str, *, is_folder: bool) -> bytes | None:
    """Return the bytes that a name on disk adds to a key; None for what is no part of a key."""
    if name.startswith("."):
        return None
    if not is_folder:
        return _decode(name)
    if name.endswith(FOLDER):
        return _decode(name.removesuffix(FOLDER)) + b"/"
    if name.endswith(GOES_ON):
        return _decode(name.removesuffix(GOES_ON))
    return None


def _decode(name: str) -> bytes:
    return b"" if name == _EMPTY else unquote_to_bytes(name)
