"""Model data as a container finds it: plain files, read-only, prefix trimmed, archives unpacked."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from cloudreg_emulator.fleet.launch import Launch

Read = Callable[[str, str, str], Iterator[tuple[str, bytes]]]
"""``read(bucket, key, kind)`` yields relative paths with their content, none where nothing lies."""

MAX_UNPACKED = 32 * 2**30
"""Bytes that one archive may become: a kilobyte of zeros must not fill the disk."""

FOLDER = "Files and folders of model data must not be named by"


class NoModelData(Exception):
    """The model data cannot be brought to the container; the message is the service's."""


def fetch(
    launch: Launch,
    read: Read,
    folder: Path,
    *,
    timeout_s: float,
    max_unpacked_bytes: int = MAX_UNPACKED,
) -> None:
    """Write the model data into *folder*, which must not exist, and make it read-only.

    Args:
        launch: Says where the data lies.
        read: Reads it.
        folder: Becomes what a container sees as ``/opt/ml/model``.
        timeout_s: Real seconds.
        max_unpacked_bytes: Of what an archive becomes.

    Raises:
        NoModelData: Nothing lies there, a name cannot be a file's, or time is up.

    Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3ModelDataSource.html
    """
    folder.mkdir(parents=True)
    if launch.bucket is None:
        seal(folder)
        return
    deadline = time.monotonic() + timeout_s
    found = False
    for path, content in read(launch.bucket, launch.key or "", launch.kind):
        found = True
        if launch.compressed:
            _unpack(launch, io.BytesIO(content), folder, max_unpacked_bytes)
        elif path and not path.endswith("/"):
            # What consoles store for an empty folder is no file.
            _write(launch, folder, path, io.BytesIO(content))
        if time.monotonic() > deadline:
            raise _failed(launch, f"it took longer than {launch.download_timeout_s:g} s.")
    if not found:
        raise _failed(
            launch,
            "Please ensure that there is an object located at the URL and that the role passed "
            "to CreateModel has permissions to download the object.",
        )
    seal(folder)


def mirror(source: Path, folder: Path) -> None:
    """Give an instance its own names for the files of *source*, without copying a byte."""
    shutil.copytree(source, folder, copy_function=os.link)
    seal(folder)


def seal(folder: Path) -> None:
    """Make everything in *folder* read-only, as ``/opt/ml/model`` is."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            (Path(root) / name).chmod(0o444)
        Path(root).chmod(0o555)


def remove(folder: Path) -> None:
    """Remove a folder that may be sealed; what is gone already is fine."""
    for root, _, _ in os.walk(folder):
        with suppress(FileNotFoundError):
            Path(root).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _failed(launch: Launch, why: str) -> NoModelData:
    return NoModelData(
        f'Failed to download model data for container "container_1" from URL: "{launch.uri}". {why}'
    )


def _unpack(launch: Launch, archive: IO[bytes], folder: Path, most: int) -> None:
    """Write the regular files of a tar.gz; links and devices have no business in model data."""
    left = most
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as members:
            for member in members:
                if member.isdir():
                    continue
                content = members.extractfile(member) if member.isreg() else None
                if content is None:
                    raise _failed(launch, f"{member.name!r} in the archive is not a regular file.")
                left -= member.size
                if left < 0:
                    raise _failed(launch, f"The archive unpacks to over {most} bytes.")
                _write(launch, folder, member.name.removeprefix("./"), content)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _failed(launch, f"It is not a readable tar.gz archive: {error}.") from error


def _write(launch: Launch, folder: Path, path: str, content: IO[bytes]) -> None:
    parts = path.split("/")
    for part in parts:
        if not part.strip() or part in (".", "..") or "\0" in part or len(part.encode()) > 255:
            raise _failed(launch, f"{FOLDER} {part[:80]!r}, as in {path[:200]!r}.")
    target = folder.joinpath(*parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            shutil.copyfileobj(content, file)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        # Of the objects "a" and "a/b", one would have to be a file and a folder.
        raise _failed(launch, f"{path!r} clashes with another object.") from error
