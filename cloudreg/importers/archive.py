"""A ``.tar``, ``.tar.gz``, ``.tgz`` or ``.zip`` of a folder, read as if it came from an enemy.

Regular files only. Links, devices, sparse files, names that leave the folder or that two disks
would not tell apart are refused by name, whatever they point to: the standard library's filters
were bypassed through links (CVE-2025-4138, CVE-2025-4330, CVE-2025-4517), so that nothing here
extracts. Sizes, counts and ratios are counted while reading and not believed from headers.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cloudreg.errors import CloudregError, InvalidRequest, NotFound
from cloudreg.formats.ranges import BROKEN, Ranges, Stream
from cloudreg.importers import Source, directory
from cloudreg.manifest import MAX_FILES, check_path

CHUNK = 1024 * 1024
MAX_HEADER = 64 * 1024
"""Bytes of a tar header that extends another; a path has 400."""

FREE_BYTES = 1024 * 1024
"""Bytes that may come of anything, whatever the ratio: an empty table packs well."""

GZIPPED = (".tar.gz", ".tgz")
SUFFIXES = (".tar", *GZIPPED, ".zip")
OTHERS = (
    ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.lzma",
    ".tar.z", ".7z", ".rar",
)  # fmt: skip
"""Archives that somebody would expect to be unpacked, and that are not read."""

_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_MODES = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may come out of an archive.

    Attributes:
        max_bytes: Of all files together.
        max_files: How many files and folders.
        max_ratio: Bytes that come out for each byte of the archive.
    """

    max_bytes: int = 100 * 1024**3
    max_files: int = MAX_FILES
    max_ratio: float = 200.0

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        if not (self.max_bytes > 0 and self.max_files > 0 and self.max_ratio > 0):
            raise InvalidRequest("limits of an archive are numbers above 0")


LIMITS = Limits()


@contextmanager
def opened(path: Path, *, limits: Limits = LIMITS) -> Iterator[Source]:
    """Yield the files of a folder, a file, or an archive, which is unpacked for the block.

    Args:
        path: An archive by its ending; anything else is read by `directory.read`.
        limits: How much may come out of it.

    Raises:
        NotFound: There is nothing of that name.
        InvalidRequest: Something in it is no regular file, has a name that is not safe on every
            disk, or is more than *limits*; or it cannot be read to its end. Nothing is left.
    """
    name = path.name.lower()
    if path.is_dir() or not name.endswith((*SUFFIXES, *OTHERS)):
        yield directory.read(path)
        return
    if not path.exists():
        raise NotFound(f"there is no {path}")
    if name.endswith(OTHERS):
        raise InvalidRequest(
            f"{path.name} is an archive of a kind that is not read",
            hint=f"unpack it and register the folder, or pack it as {' or '.join(SUFFIXES)}",
        )
    with _temporary(path) as folder:
        unpack(path, folder, limits=limits)
        yield _found(path, folder)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    try:
        made = tempfile.TemporaryDirectory(prefix="cloudreg-")
    except OSError as error:
        raise _unplaced(path, error.strerror or str(error)) from error
    with made as folder:
        yield Path(folder)


def _unplaced(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path.name} cannot be unpacked: {why}", hint="TMPDIR names the folder for it"
    )


def _found(path: Path, folder: Path) -> Source:
    try:
        return directory.read(folder)
    except InvalidRequest as error:
        # Nobody knows the folder that the files are in for now.
        message = error.message.replace(str(folder), path.name)
        raise InvalidRequest(message, hint=error.hint) from error


def unpack(path: Path, folder: Path, *, limits: Limits = LIMITS) -> None:
    """Write the regular files of an archive into an empty folder.

    Raises:
        InvalidRequest: As for `opened`; what was written until then stays.
    """
    try:
        size = path.stat().st_size
        into = _Folder(path.name, folder, size=size, limits=limits)
        with path.open("rb") as file:
            if path.name.lower().endswith(".zip"):
                _unzip(file, size, into)
            elif path.name.lower().endswith(GZIPPED):
                with gzip.GzipFile(fileobj=file) as inflated:
                    _untar(inflated, into)
            else:
                _untar(file, into)
    except CloudregError:
        raise
    except _Full as error:
        raise _unplaced(path, str(error)) from error
    except (*BROKEN, tarfile.TarError) as error:
        reason = str(error) or type(error).__name__
        raise InvalidRequest(f"{path.name} is no archive that can be read: {reason}") from error


class _Full(Exception):
    """The disk does not take the files."""


class _Folder:
    """Where files are written: each once, under a safe name, within the limits."""

    def __init__(self, archive: str, folder: Path, *, size: int, limits: Limits) -> None:
        self.archive = archive
        self._folder = folder
        self._limits = limits
        self._most = max(FREE_BYTES, int(size * limits.max_ratio))
        self._bytes = 0
        self._entries = 0
        self._names: dict[str, str] = {}
        self._folders: set[str] = set()

    def refuse(self, name: str, why: str, *, hint: str | None = None) -> InvalidRequest:
        """Return the refusal of one member."""
        return InvalidRequest(f"{self.archive}: {name[:80]!r} is {why}", hint=hint)

    def count(self, read: int) -> None:
        """Count bytes that came out of the archive, whatever they are for."""
        self._bytes += read
        hint = "unpack it where you trust it, and register the folder"
        if self._bytes > self._limits.max_bytes:
            raise InvalidRequest(
                f"{self.archive} holds more than {self._limits.max_bytes} bytes", hint=hint
            )
        if self._bytes > self._most:
            raise InvalidRequest(
                f"{self.archive} holds more than {self._limits.max_ratio:g} times its own size",
                hint=hint,
            )

    def _enter(self, name: str) -> str:
        """Return the safe path that a member's name stands for, empty for the folder itself."""
        self._entries += 1
        if self._entries > self._limits.max_files:
            raise InvalidRequest(f"{self.archive} holds more than {self._limits.max_files} files")
        path = name
        while path.startswith("./"):
            path = path[2:]
        if path in ("", ".") and name:
            return ""
        try:
            return check_path(path)
        except InvalidRequest as error:
            raise InvalidRequest(f"{self.archive}: {error.message}") from error

    def add_folder(self, name: str) -> None:
        """Take note of a folder; it is made when a file needs it."""
        path = self._enter(name.rstrip("/") or name)
        folders = _folders(f"{path}/.") if path else []
        if not self._names.keys().isdisjoint(folders):
            raise self.refuse(name, "a folder where there is a file")
        self._folders.update(folders)

    def add(self, name: str, source: Stream, size: int) -> None:
        """Write a file of *size* bytes.

        Raises:
            InvalidRequest: The name is not safe or taken, or *source* has fewer bytes.
        """
        path = self._enter(name)
        if not path:
            raise self.refuse(name, "no name of a file")
        other = self._names.get(path.casefold())
        if other is not None:
            same = "in it twice" if other == name else f"the same file as {other!r} on some disks"
            raise self.refuse(name, same)
        folders = _folders(path)
        if path.casefold() in self._folders or not self._names.keys().isdisjoint(folders):
            raise self.refuse(name, "a file where there is a folder, or in one that is a file")
        self._names[path.casefold()] = name
        self._folders.update(folders)
        self._write(name, self._folder / path, source, size)

    def _write(self, name: str, path: Path, source: Stream, size: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = path.open("xb")
        except OSError as error:
            raise _Full(error.strerror) from error
        with writer:
            left = size
            while left:
                chunk = source.read(min(CHUNK, left))
                if not chunk:
                    raise self.refuse(name, f"cut off: {left} of its {size} bytes are missing")
                self.count(len(chunk))
                left -= len(chunk)
                try:
                    writer.write(chunk)
                    if not left:
                        writer.flush()
                except OSError as error:
                    raise _Full(error.strerror) from error


def _folders(path: str) -> list[str]:
    """Return the folders above a file, as disks compare them that know no case."""
    parts = path.casefold().split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _untar(file: Stream, into: _Folder) -> None:
    """Read a tar archive, header by header, from its start to its end."""
    over: dict[str, str] = {}
    while (member := _next(file, into)) is not None:
        if member.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            over |= _extension(file, member, into)
            continue
        name = over.get("path", member.name)
        size = _size(over.get("size"), member, into)
        over = {}
        if member.type == tarfile.DIRTYPE or (
            member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and name.endswith("/")
        ):
            if size:
                raise into.refuse(name, "a folder with content")
            into.add_folder(name)
        elif member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            into.add(name, file, size)
            _padding(file, size, into)
        else:
            kind = _KINDS.get(member.type, "no regular file")
            hint = "pack what it points to" if "link" in kind else None
            raise into.refuse(name, kind, hint=hint)
    if over:
        raise InvalidRequest(f"{into.archive} ends where a file should follow")
    # What follows the end of one archive would be lost without a word; and reading on makes gzip
    # compare its checksum.
    while chunk := file.read(CHUNK):
        into.count(len(chunk))
        if chunk.strip(b"\0"):
            raise InvalidRequest(f"{into.archive} has more behind its end")


def _next(file: Stream, into: _Folder) -> tarfile.TarInfo | None:
    """Return the next header, None at the end mark."""
    block = file.read(tarfile.BLOCKSIZE)
    into.count(len(block))
    if len(block) < tarfile.BLOCKSIZE:
        raise InvalidRequest(f"{into.archive} breaks off without an end mark")
    if not block.strip(b"\0"):
        return None
    member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    if member.size < 0:
        raise into.refuse(member.name, f"{member.size} bytes long")
    return member


def _extension(file: Stream, member: tarfile.TarInfo, into: _Folder) -> dict[str, str]:
    """Return what a header says about the member behind it.

    Source: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
    """
    if member.size > MAX_HEADER:
        raise into.refuse(member.name, f"a header of {member.size} bytes")
    data = file.read(member.size)
    into.count(len(data))
    if len(data) < member.size:
        raise InvalidRequest(f"{into.archive} breaks off in a header")
    _padding(file, member.size, into)
    if member.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.removesuffix(b"\0").decode()}
    said = {}
    while data:
        length, _, _ = data.partition(b" ")
        record = data[: int(length)]
        key, equals, value = record[len(length) + 1 : -1].decode().partition("=")
        if not (equals and record.endswith(b"\n") and len(record) == int(length)):
            raise into.refuse(member.name, "a header that cannot be read")
        if key.startswith("GNU.sparse"):
            raise into.refuse(member.name, "the header of a sparse file")
        if key in ("path", "size"):
            if member.type == tarfile.XGLTYPE:
                raise into.refuse(member.name, f"a header that gives all files one {key}")
            said[key] = value
        data = data[int(length) :]
    return said


def _size(said: str | None, member: tarfile.TarInfo, into: _Folder) -> int:
    if said is None:
        return member.size
    if not (said.isascii() and said.isdecimal() and len(said) < 19):
        raise into.refuse(member.name, f"said to have {said[:40]!r} bytes")
    return int(said)


def _padding(file: Stream, size: int, into: _Folder) -> None:
    """Pass over what fills the last block."""
    rest = -size % tarfile.BLOCKSIZE
    data = file.read(rest)
    into.count(len(data))
    if len(data) < rest:
        raise InvalidRequest(f"{into.archive} breaks off in a file")


def _unzip(file: BinaryIO, size: int, into: _Folder) -> None:
    """Read a zip archive by its directory."""

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    # Ranges refuses a directory that is larger than any that is meant.
    with zipfile.ZipFile(Ranges(read, size, name=into.archive).file) as archive:
        for member in archive.infolist():
            # Not its filename, from which a NUL and what follows has been cut.
            name = member.orig_filename
            kind = _MODES.get(stat.S_IFMT(member.external_attr >> 16))
            if kind is not None:
                raise into.refuse(name, kind)
            if member.flag_bits & 0x41:
                raise into.refuse(name, "encrypted")
            if name.endswith("/"):
                if member.file_size:
                    raise into.refuse(name, "a folder with content")
                into.add_folder(name)
            elif member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                with archive.open(member) as source:
                    into.add(name, source, member.file_size)
            else:
                raise into.refuse(name, "packed in a way that is not read")
