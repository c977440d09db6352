"""What archives, compressed files and arrays hold, as far as it can be looked into."""

from __future__ import annotations

import ast
import bz2
import gzip
import re
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import Any

from cloudreg.errors import CloudregError
from cloudreg.formats import Finding, pickles
from cloudreg.formats.ranges import BLOCK, BROKEN, Ranges, Stream, hostile

MAX_MEMBERS = 100_000
MAX_FOLLOWED = 1000
"""Members of an archive that are followed as pickles or read as arrays."""

MAX_ARRAY_HEADER = 64 * 1024

NPY = b"\x93NUMPY"
HDF5 = b"\x89HDF\r\n\x1a\n"
EXECUTABLE = (
    b"\x7fELF", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm", b"MZ",
)  # fmt: skip
ENCLOSED = (
    b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"7z\xbc\xaf\x27\x1c", b"Rar!",
    b"\x5d\0\0",
)  # fmt: skip
"""Beginnings of compressed files and archives that the standard library cannot read safely."""

PICKLED = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".p"})
"""Endings of files that are loaded as pickles."""

ENDLESS = "opcodes of a pickle, and more of them than are followed"

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_NESTED = (*ENCLOSED, *_ZIP, HDF5, *EXECUTABLE, b"\x1f\x8b", b"BZh")


def suffix(path: str) -> str:
    """Return a path's ending, in lower case."""
    return PurePosixPath(path).suffix.lower()


def is_text(head: bytes) -> bool:
    """Whether the first block of a file is text."""
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character of a block may be cut in two.
        return len(head) == BLOCK and error.start >= BLOCK - 3
    return True


def is_tar(head: bytes) -> bool:
    """Whether a file begins as a tar archive does."""
    return head[257:262] == b"ustar"


def unknown(path: str, why: str) -> Finding:
    """Return that nobody can tell what a file holds."""
    return Finding(path=path, format="unknown", found=(why,))


def pickled(path: str, found: pickles.Scan, *, text: bool) -> Finding | None:
    """Return the pickle that *found* shows, if it is one."""
    named = suffix(path) in PICKLED
    if found.imports or found.calls:
        # A list of words can begin like an import; it does not go on to call anything.
        is_pickle = not text or found.calls or found.whole or named
    else:
        is_pickle = found.whole and (named or (found.alone and not text))
    return _pickle(path, found) if is_pickle else None


def _pickle(path: str, found: pickles.Scan) -> Finding:
    outside = found.outside
    if not found.whole or found.exhausted:
        outside = (*outside, "opcodes that could not be followed to their end")
    return Finding(path=path, format="unsafe-pickle" if outside else "pickle", found=outside)


def array(path: str, stream: Stream) -> Finding:
    """Return what a ``.npy`` file holds: objects are a pickle behind its header.

    Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    with hostile():
        version = stream.read(8)[6]
        length = int.from_bytes(stream.read(2 if version == 1 else 4), "little")
        if length > MAX_ARRAY_HEADER:
            return unknown(path, "an array whose header has no end")
        header = ast.literal_eval(stream.read(length).decode("latin1").strip())
        if _has_objects(header["descr"]):
            return _pickle(path, pickles.scan(stream))
        return Finding(path=path, format="array")
    return unknown(path, "an array whose header cannot be read")


def _has_objects(descr: Any) -> bool:
    """Whether a type holds Python objects, in any of its fields."""
    if isinstance(descr, str):
        return "O" in descr
    return any(_has_objects(field[1]) for field in descr)


def compressed(path: str, head: bytes, stream: Ranges) -> Finding | None:
    """Return what a compressed file holds, if it is one: what joblib writes, or text."""
    is_zlib = head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0
    opened: Stream
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        opened = gzip.GzipFile(fileobj=stream.file)
    elif head.startswith(b"BZh"):
        opened = bz2.BZ2File(stream.file)
    elif is_zlib:
        opened = _Inflated(stream)
    else:
        return None
    with hostile():
        inner = opened.read(BLOCK)
        if inner or not is_zlib:
            return _inside(path, inner, opened)
    # Two letters can begin a text as well as zlib's stream.
    return None if is_zlib else unknown(path, "compressed, and it cannot be read")


def _inside(path: str, inner: bytes, opened: Stream) -> Finding:
    text = is_text(inner)
    scanned = pickles.scan(_Chained(inner, opened))
    found = pickled(path, scanned, text=text)
    if found is not None:
        return found
    if scanned.exhausted:
        return unknown(path, ENDLESS)
    if is_tar(inner):
        return unknown(path, "a compressed tar archive")
    if not text and (inner.startswith(_NESTED) or suffix(path) in PICKLED):
        return unknown(path, "something packed inside something compressed")
    return Finding(path=path, format="text" if text else "data")


class _Inflated:
    """What a zlib stream holds."""

    def __init__(self, stream: Ranges) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while not self._inflate.eof:
            given = self._inflate.unconsumed_tail or self._stream.read(BLOCK)
            data = self._inflate.decompress(given, size)
            if data or not given:
                return data
        return b""


class _Chained:
    """A beginning that was read already, and the rest."""

    def __init__(self, head: bytes, rest: Stream) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        data, self._head = self._head[:size], self._head[size:]
        return data or self._rest.read(size)


def archive(path: str, head: bytes, stream: Ranges) -> Finding | None:
    """Return what a zip archive is, if the file is one, by its beginning or by its end."""
    begins = head.startswith(_ZIP)
    with hostile():
        stream.seek(0)
        # Its directory stands at the end, so that it can hide behind anything.
        if not (zipfile.is_zipfile(stream.file) or begins):
            return None
        try:
            opened = zipfile.ZipFile(stream.file)
        except BROKEN as error:
            if not begins and not isinstance(error, CloudregError):
                return None  # four bytes that a file of numbers can hold too
            raise
        with opened:
            if not begins and not opened.infolist():
                return None
            if not begins:
                return unknown(path, "a zip archive that hides behind something else")
            return _members(path, opened)
    return unknown(path, "a zip archive that cannot be read") if begins else None


def _members(path: str, opened: zipfile.ZipFile) -> Finding:
    members = opened.infolist()
    names = [member.filename for member in members]
    kind = _kind(names) if len(members) <= MAX_MEMBERS else "unknown"
    if kind == "unknown":
        return unknown(path, f"a zip archive of {len(members)} files")
    if kind == "array":
        return _arrays(path, opened, members)
    followed = [member for member in members if suffix(member.filename) in PICKLED]
    outside = {found for member in followed[:MAX_FOLLOWED] for found in _follow(opened, member)}
    if len(followed) > MAX_FOLLOWED:
        outside.add(f"{len(followed)} pickles")
    if len(set(names)) != len(names):
        # Readers do not agree on which of the two they take.
        outside.add("two files of one name")
    if kind == "pickle" and outside:
        kind = "unsafe-pickle"
    return Finding(path=path, format=kind, found=tuple(sorted(outside)))


def _kind(names: list[str]) -> str:
    """Return what an archive is, by the names in it."""
    inside = {name.partition("/")[2] for name in names}
    if any(name.startswith("MAR-INF/") for name in names):
        return "mar"
    if "archive_format" in inside or "serialized_exported_program.json" in names:
        return "pt2"
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        return "torchscript"
    if "data.pkl" in inside:
        return "pickle"
    return "array" if names and all(name.endswith(".npy") for name in names) else "unknown"


def _arrays(path: str, opened: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Finding:
    """Return the worst of what an ``.npz`` file holds."""
    if len(members) > MAX_FOLLOWED:
        return unknown(path, f"{len(members)} arrays")
    worst = Finding(path=path, format="array")
    for member in members:
        with opened.open(member) as inner:
            found = array(member.filename, inner)
        if found.format in ("unsafe-pickle", "unknown"):
            return Finding(path=path, format=found.format, found=found.found)
        if found.format != "array":
            worst = Finding(path=path, format=found.format)
    return worst


def _follow(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, ...]:
    """Return what speaks against a pickle in an archive."""
    name = re.sub(r"[^\w./-]", "?", member.filename)[:80]
    with hostile(), opened.open(member) as inner:
        head = inner.read(BLOCK)
        if head.startswith(_ZIP):
            return (f"{name}, an archive in the archive",)
        return _pickle(name, pickles.scan(_Chained(head, inner))).found
    return (f"{name}, which cannot be read",)
