"""Bytes by key, in a folder.

A put writes a file in the store's own temporary folder (`parts`), makes it durable and then gives
it its name: with ``link``, which the system refuses when the name is taken, or with ``rename``.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cloudreg.errors import AlreadyExists, InvalidRequest, NotFound
from cloudreg.provider import StoredObject
from cloudreg_local import keys
from cloudreg_local.disk import NO_LINKS, locked, make_folder, sync_folder, write_all
from cloudreg_local.errors import translated
from cloudreg_local.parts import CHUNK, READ_ONLY, STALE_S, Parts

__all__ = ["CHUNK", "READ_ONLY", "STALE_S", "LocalStore"]


class LocalStore:
    """An object store in a folder; safe with many threads and processes."""

    def __init__(self, root: Path, *, target: str, clock: Callable[[], float] = time.time) -> None:
        """Use *root*; it is made with the first object.

        Args:
            root: An absolute path.
            target: For messages.
            clock: Tells the age of temporary files; seconds since 1970.
        """
        self._root = root
        self._folder = root / ".parts"
        self._parts = Parts(self._folder, clock=clock)
        self._target = target
        self._swept = False

    def path(self, key: str) -> Path:
        """Return the file that holds *key*, whether it is there or not."""
        return self._root / keys.path_of(keys.check_key(key))

    def has(self, key: str) -> bool:
        """Whether *key* is there."""
        return self.path(key).is_file()

    def put(
        self,
        source: Path | bytes | Iterable[bytes],
        key: str,
        *,
        if_absent: bool = False,
        resume: str | None = None,
    ) -> StoredObject:
        path = self.path(key)
        # Of another key it would be another upload: both are part of the name.
        name = None if resume is None else f"{key}\0{resume}"
        with self._translated(key):
            if if_absent and path.exists():
                raise self._taken(key)
            self._prepare()
        with ExitStack() as stack:
            with self._translated(key):
                part = stack.enter_context(self._parts.begun(name))
            # What the source raises is the caller's own, and passes as it is.
            for chunk in _chunks(source):
                with self._translated(key):
                    part.add(chunk)
            with self._translated(key):
                state = part.finish()
                make_folder(path.parent)
                self._name(part.path, path, key, if_absent=if_absent)
        return StoredObject(key=key, size=state.st_size, modified_at=state.st_mtime)

    def get(self, key: str, dest: Path) -> None:
        with (
            self.open(key) as reader,
            translated(str(dest), target=self._target),
            dest.open("xb", buffering=0) as writer,
        ):
            try:
                while chunk := reader.read(CHUNK):
                    write_all(writer.fileno(), chunk)
            except BaseException:
                dest.unlink()
                raise

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        path = self.path(key)
        if offset < 0 or (length is not None and length < 0):
            raise InvalidRequest(f"range of {key!r}: offset and length must not be negative")
        with self._translated(key):
            reader = path.open("rb", buffering=0)
        if offset == 0 and length is None:
            return io.BufferedReader(reader)
        return io.BufferedReader(_Range(reader, offset, length))

    def copy(self, key: str, to: str, *, if_absent: bool = False) -> StoredObject:
        path, copy = self.path(key), self.path(to)
        with self._translated(key):
            state = path.stat()
            self._prepare()
        with self._translated(to), self._parts.path() as part:
            try:
                # A second name for the same bytes: nothing is moved, and objects never change.
                part.hardlink_to(path)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
            else:
                make_folder(copy.parent)
                self._name(part, copy, to, if_absent=if_absent)
                return StoredObject(key=to, size=state.st_size, modified_at=state.st_mtime)
        return self.put(path, to, if_absent=if_absent)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        start, behind = prefix.encode(errors="surrogatepass"), after.encode(errors="surrogatepass")
        try:
            exact = keys.check_key(prefix)
        except InvalidRequest:
            exact = b""
        if exact > behind:
            # The key that is the whole prefix sorts first: whoever asks for one object finds it
            # without reading a large folder.
            yield from self._stored(exact, self._root / keys.path_of(exact))
        folder, slash, rest = start.rpartition(b"/")
        if any(part in (b"", b".", b"..") for part in folder.split(b"/")) and slash:
            return
        pieces, _ = keys.tail_of(rest)
        known = start[: len(folder) + len(slash) + len(pieces) * keys.PIECE]
        path = self._root.joinpath(*([keys.folder_of(folder)] if slash else []), *pieces)
        for raw, found in self._walk(path, known, start, behind):
            if raw != exact:
                yield from self._stored(raw, found)

    def delete(self, key: str) -> None:
        path = self.path(key)
        with self._translated(key), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            sync_folder(path.parent)

    def _name(self, part: Path, path: Path, key: str, *, if_absent: bool) -> None:
        """Give the durable file *part* its name, durably."""
        if not if_absent:
            part.replace(path)
        else:
            try:
                path.hardlink_to(part)
            except FileExistsError as error:
                raise self._taken(key) from error
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                with locked(self._root / ".lock"):
                    if path.exists():
                        raise self._taken(key) from error
                    part.replace(path)
        sync_folder(path.parent)

    def _prepare(self) -> None:
        make_folder(self._folder)
        if not self._swept:
            self._swept = True
            self._parts.sweep()

    def _walk(
        self, folder: Path, known: bytes, prefix: bytes, after: bytes
    ) -> Iterator[tuple[bytes, Path]]:
        """Yield the keys below *folder* with their files, in order.

        Args:
            folder: Where to look.
            known: What all keys there start with.
            prefix: What keys must start with.
            after: What keys must sort behind.
        """
        found: list[tuple[bytes, bool, str]] = []
        try:
            with translated(str(folder), target=self._target), os.scandir(folder) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    part = keys.decode(entry.name, is_folder=is_folder)
                    if part is None:
                        continue
                    raw = known + part
                    if is_folder:
                        wanted = raw.startswith(prefix) or prefix.startswith(raw)
                        wanted = wanted and (raw > after or after.startswith(raw))
                    else:
                        wanted = raw.startswith(prefix) and raw > after
                    if wanted:
                        found.append((raw, is_folder, entry.name))
        except NotFound:
            return
        # A folder's keys are one range: no other name here sorts between two of them.
        for raw, is_folder, name in sorted(found):
            if is_folder:
                yield from self._walk(folder / name, raw, prefix, after)
            else:
                yield raw, folder / name

    def _stored(self, raw: bytes, path: Path) -> Iterator[StoredObject]:
        key = raw.decode()
        with self._translated(key), suppress(FileNotFoundError, NotADirectoryError):
            state = path.stat()
            yield StoredObject(key=key, size=state.st_size, modified_at=state.st_mtime)

    def _taken(self, key: str) -> AlreadyExists:
        return AlreadyExists(f"object {key!r} is there already", target=self._target)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        with translated(f"object {key!r}", target=self._target):
            yield


def _chunks(source: Path | bytes | Iterable[bytes]) -> Iterator[bytes]:
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as reader:
            while chunk := reader.read(CHUNK):
                yield chunk
    elif isinstance(source, bytes):
        yield source
    else:
        yield from source


class _Range(io.RawIOBase):
    """A part of a file."""

    def __init__(self, reader: io.FileIO, offset: int, length: int | None) -> None:
        self._reader = reader
        self._left = length
        reader.seek(offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as CPython calls it
        view = memoryview(buffer)
        if self._left is not None:
            view = view[: self._left]
        count = self._reader.readinto(view) or 0
        if self._left is not None:
            self._left -= count
        return count

    def close(self) -> None:
        self._reader.close()
        super().close()
