"""Resources on the disk, between one emulator and the next.

Each resource is one file, which is written beside its place and moved there: whoever is killed in
between leaves the old one. Only what changed is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cloudreg_emulator.google.vertex.records import Records

__all__ = ["State"]

_SUFFIX = ".pb"


class State:
    """A folder with the resources of one emulator."""

    def __init__(self, folder: Path, records: Iterable[Records[Any]]) -> None:
        """Take what is in the folder.

        Args:
            folder: Made where it is missing.
            records: What is kept there; empty until now.

        Raises:
            ValueError: A file there is no such resource.
        """
        self._folder = folder
        self._records = list(records)
        for kept in self._records:
            place = folder / kept.kind
            place.mkdir(parents=True, exist_ok=True)
            for file in sorted(place.glob(f"*{_SUFFIX}")):
                self._load(kept, file)

    def save(self) -> None:
        """Write what changed since the last time."""
        for kept in self._records:
            for name, data in kept.changes().items():
                file = self._folder / kept.kind / f"{quote(name, safe='')}{_SUFFIX}"
                if data is None:
                    file.unlink(missing_ok=True)
                else:
                    _replace(file, data)

    def _load(self, kept: Records[Any], file: Path) -> None:
        try:
            kept.load(unquote(file.name.removesuffix(_SUFFIX)), file.read_bytes())
        except Exception as error:
            raise ValueError(f"{file} is no resource of the kind {kept.kind}: {error}") from error


def _replace(file: Path, data: bytes) -> None:
    beside = file.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(file)
