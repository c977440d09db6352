"""What a console would show: a file for each version, and one for each stage's pointer.

::

    registry/churn/7.json               the version
    registry/churn/digests/<sha256>     the same file, found by its digest
    registry/churn/stages/prod          the digest that the stage shows
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloudreg.errors import AlreadyExists, Conflict, NotFound
from cloudreg.names import check_digest, check_model, check_stage, short
from cloudreg.types import ModelVersion, PublishedVersion
from cloudreg_local import wire
from cloudreg_local.disk import locked, make_folder, sync_folder, write_whole
from cloudreg_local.errors import translated


class LocalRegistry:
    """A registry in a folder; a lock file makes each change one step."""

    def __init__(self, root: Path, *, target: str) -> None:
        """Use *root*; it is made with the first version."""
        self._root = root
        self._target = target

    def publish(self, version: ModelVersion) -> PublishedVersion:
        with self._changing(version.model) as folder:
            known = self._by_digest(folder, version.digest)
            if known is not None:
                return self._shown(folder, known)
            path = folder / f"{version.number}.json"
            if path.exists():
                other = wire.published_from_record(path.read_bytes())
                if other.digest != version.digest:
                    raise AlreadyExists(
                        f"{version.ref} is {short(other.digest)} there, "
                        f"not {short(version.digest)}",
                        target=self._target,
                    )
            record = wire.record_from_version(version)
            # The digest first: alone it shows nothing, so a crash in between is healed by
            # publishing again.
            write_whole(_digest_path(folder, version.digest), record)
            write_whole(path, record)
            return self._shown(folder, wire.published_from_record(record))

    def published(self, model: str) -> Iterator[PublishedVersion]:
        folder = self._root / check_model(model)
        with self._translated(model):
            stages = _stages(folder)
            numbers = [int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal()]
        for number in sorted(numbers, reverse=True):
            with self._translated(model), suppress(FileNotFoundError):
                shown = wire.published_from_record((folder / f"{number}.json").read_bytes())
                yield wire.with_stages(shown, stages)

    def point(self, model: str, stage: str, digest: str | None) -> None:
        check_stage(stage)
        with self._changing(model) as folder:
            path = folder / "stages" / stage
            if digest is None:
                path.unlink(missing_ok=True)
                sync_folder(path.parent)
                return
            if self._by_digest(folder, check_digest(digest)) is None:
                raise NotFound(
                    f"{model}: {short(digest)} is not published there", target=self._target
                )
            write_whole(path, digest.encode())

    def withdraw(self, model: str, digest: str) -> None:
        check_digest(digest)
        with self._changing(model) as folder:
            known = self._by_digest(folder, digest)
            if known is None:
                return
            stages = sorted(name for name, there in _stages(folder).items() if there == digest)
            if stages:
                raise Conflict(
                    f"{model}:{known.number} is still shown by {', '.join(stages)}",
                    target=self._target,
                )
            # The digest last: alone it shows nothing.
            (folder / f"{known.number}.json").unlink(missing_ok=True)
            sync_folder(folder)
            _digest_path(folder, digest).unlink(missing_ok=True)
            sync_folder(folder / "digests")

    def native(self, model: str, digest: str) -> dict[str, Any]:
        """Return the version's record as its file has it, and where that file is."""
        check_digest(digest)
        folder = self._root / check_model(model)
        with self._translated(model):
            known = self._by_digest(folder, digest)
            if known is None:
                raise NotFound(
                    f"{model}: {short(digest)} is not published there", target=self._target
                )
            path = folder / f"{known.number}.json"
            return {**json.loads(path.read_bytes()), "path": str(path)}

    @contextmanager
    def _changing(self, model: str) -> Iterator[Path]:
        folder = self._root / check_model(model)
        with self._translated(model):
            make_folder(folder / "stages")
            make_folder(folder / "digests")
            with locked(folder / ".lock"):
                yield folder

    def _by_digest(self, folder: Path, digest: str) -> PublishedVersion | None:
        try:
            record = _digest_path(folder, digest).read_bytes()
        except FileNotFoundError:
            return None
        known = wire.published_from_record(record)
        try:
            there = wire.published_from_record((folder / f"{known.number}.json").read_bytes())
        except FileNotFoundError:
            return None
        return known if there.digest == digest else None

    def _shown(self, folder: Path, version: PublishedVersion) -> PublishedVersion:
        return wire.with_stages(version, _stages(folder))

    @contextmanager
    def _translated(self, model: str) -> Iterator[None]:
        with translated(f"registry of {model}", target=self._target):
            yield


def _digest_path(folder: Path, digest: str) -> Path:
    return folder / "digests" / digest.removeprefix("sha256:")


def _stages(folder: Path) -> dict[str, str]:
    found = {}
    with suppress(FileNotFoundError):
        for path in (folder / "stages").iterdir():
            if not path.name.startswith("."):
                with suppress(FileNotFoundError):
                    found[path.name] = path.read_text()
    return found
