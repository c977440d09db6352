"""The files of a version as a model server reads them: checked, and each version once."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from cloudreg.errors import IntegrityError, NotFound
from cloudreg.manifest import MANIFEST_FILE, Manifest
from cloudreg.types import FileEntry
from cloudreg_local import wire
from cloudreg_local.disk import NO_LINKS, write_all
from cloudreg_local.errors import translated
from cloudreg_local.store import CHUNK, READ_ONLY, LocalStore


def materialise(digest: str, store: LocalStore, folder: Path) -> Path:
    """Return the folder with the files of *digest*, made where it is missing.

    Raises:
        IntegrityError: A file is missing in the store or has other bytes.
    """
    final = folder / digest.removeprefix("sha256:")
    if final.is_dir():
        return final
    part = folder / f".{uuid.uuid4().hex}"
    with translated(f"files of {digest}", target="local"):
        try:
            record = store.path(wire.manifest_key(digest)).read_bytes()
            manifest = Manifest.decode(record, digest=digest)
            for entry in manifest.files:
                _bring(entry, store, part / entry.path)
            beside = part / MANIFEST_FILE
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(record)
            beside.chmod(READ_ONLY)
            try:
                part.rename(final)
            except OSError:
                # Another thread was first, for a change that was given up meanwhile.
                if not final.is_dir():
                    raise
        except FileNotFoundError as error:
            raise NotFound(f"the manifest of {digest} is not in the store") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return final


def forget(folder: Path, *, keep: Iterable[str]) -> None:
    """Remove the versions that are not among the digests *keep*."""
    kept = {digest.removeprefix("sha256:") for digest in keep}
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _bring(entry: FileEntry, store: LocalStore, dest: Path) -> None:
    source = store.path(entry.key)
    dest.parent.mkdir(parents=True, exist_ok=True)
    try:
        dest.hardlink_to(source)
    except FileNotFoundError as error:
        raise IntegrityError(f"{entry.path} is missing in the store") from error
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _copy(source, dest)
    # What is hashed is what will be served, link or copy.
    digest, size = hashlib.sha256(), 0
    with dest.open("rb", buffering=0) as reader:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{entry.path} in the store is not what was registered "
            f"({size} bytes, sha256 {digest.hexdigest()[:12]}…; "
            f"wanted {entry.size} bytes, {entry.sha256[:12]}…)"
        )


def _copy(source: Path, dest: Path) -> None:
    with source.open("rb", buffering=0) as reader, dest.open("xb", buffering=0) as writer:
        while chunk := reader.read(CHUNK):
            write_all(writer.fileno(), chunk)
        os.fchmod(writer.fileno(), READ_ONLY)
