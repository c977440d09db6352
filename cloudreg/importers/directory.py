"""A folder of files as it lies on a disk, with an optional ``model.toml`` that describes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cloudreg.errors import InvalidRequest, NotFound, PermissionDenied
from cloudreg.importers import Description, Source, SourceFile, modelfile
from cloudreg.importers.modelfile import read_card
from cloudreg.manifest import FileEntry, Manifest, Runtime, check_path

__all__ = ["read", "read_card", "walk"]

JUNK = frozenset(
    {".git", ".hg", ".svn", ".jj", "__pycache__", ".ipynb_checkpoints", ".DS_Store", "Thumbs.db"}
)
"""Names that tools leave in a folder and that nobody means to register."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def read(folder: Path) -> Source:
    """Find the files of a folder, and what its ``model.toml`` says about them.

    The folder itself may be a link, since the caller named it; nothing in it may. An ONNX model
    describes itself: its signature is read from it where no ``model.toml`` gives one.

    An archive is a file as any other here; `cloudreg.importers.archive` unpacks it.

    Args:
        folder: A folder, or a file that stands for a folder of one.

    Raises:
        NotFound: There is nothing of that name.
        InvalidRequest: No file in it; a link, device, socket or FIFO; a path that is not safe on
            every disk; a ``model.toml`` that is wrong or names a file that is not there.
    """
    if not folder.exists():
        raise NotFound(f"there is no {folder}")
    files = sorted(walk(folder), key=lambda file: file.path)
    described = [file for file in files if file.path == modelfile.FILE and folder.is_dir()]
    files = [file for file in files if file not in described]
    description = None
    if described:
        description = modelfile.read(described[0].location)
        _check_runtime(description.runtime, {file.path for file in files})
    if not files:
        raise InvalidRequest(
            f"{folder} holds no file to register",
            hint="name the folder that holds the weights",
        )
    _check(files)
    return Source(files=tuple(files), description=_completed(description, files))


def walk(folder: Path) -> Iterator[SourceFile]:
    """Yield the regular files of a folder, junk left out, in no order.

    Raises:
        NotFound: It is neither a folder nor a file.
        InvalidRequest: A link, device, socket or FIFO is in it.
        PermissionDenied: Something in it cannot be read.
    """
    if folder.is_file():
        yield _file(folder.resolve(), folder.name)
        return
    if not folder.is_dir():
        raise NotFound(f"{folder} is neither a folder nor a file")
    # A list, not recursion: a folder can be nested deeper than Python's stack.
    waiting = [(folder, "")]
    while waiting:
        parent, prefix = waiting.pop()
        for name in _names(parent, prefix):
            location, path = parent / name, f"{prefix}{name}"
            kind = stat.S_IFMT(location.lstat().st_mode)
            if kind == stat.S_IFDIR:
                waiting.append((location, f"{path}/"))
            elif kind == stat.S_IFREG:
                yield _file(location, path)
            else:
                raise InvalidRequest(
                    f"{path!r} is {_KINDS.get(kind, 'no regular file')}: only files and folders "
                    "can be registered",
                    hint="copy what it points to" if kind == stat.S_IFLNK else None,
                )


def _names(folder: Path, prefix: str) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.name not in JUNK]
    except PermissionError as error:
        raise PermissionDenied(f"{prefix or folder} cannot be listed: {error.strerror}") from error


def _file(location: Path, path: str) -> SourceFile:
    state = location.stat(follow_symlinks=False)
    if not os.access(location, os.R_OK):
        raise PermissionDenied(f"{path} cannot be read")
    return SourceFile(path=path, location=location, size=state.st_size, mtime_ns=state.st_mtime_ns)


def _check(files: Sequence[SourceFile]) -> None:
    """Refuse now what the manifest would refuse after everything had been uploaded."""
    for file in files:
        check_path(file.path)
    # The digests are not known yet, and no rule is about them.
    Manifest(files=tuple(FileEntry(path=f.path, size=f.size, sha256="0" * 64) for f in files))


def _check_runtime(runtime: Runtime | None, paths: set[str]) -> None:
    if runtime is not None and runtime.weights is not None and runtime.weights not in paths:
        raise InvalidRequest(
            f"{modelfile.FILE}, runtime.weights: {runtime.weights!r} is not among the files"
        )


def _completed(description: Description | None, files: Sequence[SourceFile]) -> Description:
    """Add what an ONNX model says about itself, where the description leaves it open."""
    if description is None:
        models = [file for file in files if file.path.endswith((".onnx", ".safetensors"))]
        if len(models) != 1 or not models[0].path.endswith(".onnx"):
            return Description()
        description = Description(runtime=Runtime(kind="onnx", weights=models[0].path))
    runtime = description.runtime
    if runtime is None or runtime.kind != "onnx" or description.signature is not None:
        return description
    from cloudreg.importers import onnx

    weights = next(file for file in files if file.path == runtime.weights)
    return replace(description, signature=onnx.signature(weights.location))
