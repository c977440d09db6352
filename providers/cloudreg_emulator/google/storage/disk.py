"""Buckets and objects on the disk, between one emulator and the next.

A bucket is one document that names the bytes of its objects by their SHA-256; bytes are written
once. Documents are written beside their place and moved there, so that whoever is killed in
between leaves the old one. Uploads that are not finished end with the emulator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cloudreg_emulator.google.storage.content import Content
from cloudreg_emulator.google.storage.nouns import Bucket, Generation
from cloudreg_emulator.google.storage.shelf import Shelf
from cloudreg_emulator.google.storage.storage import Storage

__all__ = ["Disk"]

_SUFFIX = ".json"


class Disk:
    """A folder with the buckets of one emulator."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        """Put what is in the folder into *storage*, which has no bucket yet.

        Args:
            storage: Whose buckets are kept.
            folder: Made where it is missing.

        Raises:
            ValueError: A file there is no bucket, or the bytes of one of its objects are gone.
        """
        self._storage = storage
        self._buckets = folder / "buckets"
        self._contents = folder / "contents"
        self._names: dict[int, tuple[Content, str]] = {}
        self._written: dict[str, str] = {}
        for place in (self._buckets, self._contents):
            place.mkdir(parents=True, exist_ok=True)
        for file in sorted(self._buckets.glob(f"*{_SUFFIX}")):
            self._load(file)

    def save(self) -> None:
        """Write what changed since the last time."""
        with self._storage.lock:
            for name, shelf in self._storage.shelves.items():
                text = json.dumps(self._document(shelf))
                if self._written.get(name) != text:
                    _replace(self._buckets / f"{name}{_SUFFIX}", text.encode())
                    self._written[name] = text
            for name in set(self._written) - set(self._storage.shelves):
                (self._buckets / f"{name}{_SUFFIX}").unlink(missing_ok=True)
                del self._written[name]
            self._sweep()

    def _document(self, shelf: Shelf) -> dict[str, Any]:
        return {
            "bucket": asdict(shelf.bucket),
            "live": [self._said(one) for one in shelf.live.values()],
            "noncurrent": [self._said(one) for kept in shelf.noncurrent.values() for one in kept],
            "soft_deleted": [
                self._said(one) for kept in shelf.soft_deleted.values() for one in kept
            ],
        }

    def _said(self, one: Generation) -> dict[str, Any]:
        names = [name for name in Generation.__slots__ if name != "content"]
        return {**{name: getattr(one, name) for name in names}, "content": self._told(one.content)}

    def _told(self, content: Content) -> dict[str, Any]:
        return {
            "sha256": self._kept(content),
            "md5": content.md5,
            "components": content.components,
        }

    def _kept(self, content: Content) -> str:
        """Return the name of bytes, which are on the disk now."""
        known = self._names.get(id(content))
        if known is not None:
            return known[1]
        digest = hashlib.sha256()
        for piece in content.pieces:
            digest.update(piece)
        name = digest.hexdigest()
        file = self._contents / name
        if not file.exists():
            _replace(file, content.data())
        self._names[id(content)] = (content, name)
        return name

    def _sweep(self) -> None:
        """Delete bytes that no bucket has any more; no document names them now."""
        used = {id(one.content) for shelf in self._storage.shelves.values() for one in _all(shelf)}
        gone = {name for key, (_, name) in self._names.items() if key not in used}
        self._names = {key: known for key, known in self._names.items() if key in used}
        for name in gone - {name for _, name in self._names.values()}:
            (self._contents / name).unlink(missing_ok=True)

    def _load(self, file: Path) -> None:
        try:
            document = json.loads(file.read_bytes())
            bucket = Bucket(**document["bucket"])
            shelf = Shelf(bucket, self._storage.clock)
            for said in document["live"]:
                one = self._generation(said)
                shelf.live[one.name] = one
            for kind in ("noncurrent", "soft_deleted"):
                for said in document[kind]:
                    one = self._generation(said)
                    getattr(shelf, kind).setdefault(one.name, []).append(one)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"{file} is no bucket: {error}") from error
        self._storage.shelves[bucket.name] = shelf

    def _generation(self, said: Mapping[str, Any]) -> Generation:
        told = said["content"]
        data = (self._contents / told["sha256"]).read_bytes()
        made = Content.of(data)
        content = Content(
            pieces=made.pieces,
            size=made.size,
            crc32c=made.crc32c,
            md5=told["md5"],
            components=told["components"],
        )
        self._names[id(content)] = (content, told["sha256"])
        self._storage.objects.go_on_behind(said["generation"])
        return Generation(**{**said, "content": content})


def _all(shelf: Shelf) -> Iterator[Generation]:
    yield from shelf.live.values()
    for kept in (*shelf.noncurrent.values(), *shelf.soft_deleted.values()):
        yield from kept


def _replace(file: Path, data: bytes) -> None:
    beside = file.with_name(file.name + ".new")
    beside.write_bytes(data)
    beside.replace(file)
