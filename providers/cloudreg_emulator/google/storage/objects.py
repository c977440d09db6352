"""What is done with objects: each verb looks and changes under one lock."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cloudreg_emulator.google.storage.content import MAX_OBJECT, Content
from cloudreg_emulator.google.storage.nouns import (
    NO_CONDITIONS,
    Conditions,
    Generation,
    check_key,
)
from cloudreg_emulator.google.storage.refusals import (
    Refused,
    invalid,
    no_bucket,
    no_object,
)
from cloudreg_emulator.google.storage.shelf import Shelf

SETTABLE = frozenset(
    {
        "acl",
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
        "contexts",
        "customTime",
        "eventBasedHold",
        "metadata",
        "storageClass",
        "temporaryHold",
    }
)
"""Fields of an object that clients set; the service passes over the others.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource
"""

KEPT = SETTABLE - {"acl", "eventBasedHold", "temporaryHold", "storageClass"}
"""What a copy has of its source unless it says something of its own."""

MAX_COMPONENTS = 32
"""Sources of one compose: https://cloud.google.com/storage/quotas#objects."""

MAX_METADATA = 8192
"""Bytes of all metadata of an object together: same page."""

REWRITTEN_AT_ONCE = 64 << 20
"""Bytes that one call moves to another place or class; the service says only that it is limited."""

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An object that something is made of.

    Attributes:
        bucket: Its bucket.
        name: Its name.
        generation: None for the live one.
        conditions: What must hold of it.
    """

    bucket: str
    name: str
    generation: int | None = None
    conditions: Conditions = NO_CONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """How far a rewrite is.

    Attributes:
        made: What it made; None before its end.
        size: Of the source.
        done: Bytes that were moved.
        token: What the next call brings; None at the end.
    """

    made: Generation | None
    size: int
    done: int
    token: str | None = None


class Objects:
    """The objects of all buckets. Thread-safe."""

    def __init__(
        self, lock: threading.RLock, shelves: Mapping[str, Shelf], clock: Callable[[], float]
    ) -> None:
        """Use what the storage has."""
        self._lock = lock
        self._shelves = shelves
        self._clock = clock
        self._generation = 0
        self._rewrites: dict[str, tuple[object, int]] = {}

    def shelf(self, bucket: str) -> Shelf:
        """Return the objects of a bucket, for whoever holds the lock."""
        found = self._shelves.get(bucket)
        if found is None:
            raise no_bucket()
        return found

    def go_on_behind(self, generation: int) -> None:
        """Give no generation up to this one: they never go back, whatever the clock does."""
        with self._lock:
            self._generation = max(self._generation, generation)

    def insert(
        self,
        bucket: str,
        name: str,
        content: Content,
        fields: Mapping[str, Any],
        conditions: Conditions,
        *,
        kms_key: str | None = None,
    ) -> Generation:
        """Make a new generation, if the conditions hold at that moment.

        Raises:
            Refused: 400, 403, 404 or 412; nothing is changed.
        """
        check_name(name)
        kept = checked({key: value for key, value in fields.items() if key in SETTABLE})
        if content.size > MAX_OBJECT:
            raise invalid("The object exceeds the maximum allowed object size.")
        with self._lock:
            shelf = self.shelf(bucket)
            conditions.check(shelf.find(name))
            key = kms_key or shelf.bucket.kms_key
            if key:
                kept["kmsKeyName"] = f"{check_key(key, shelf.bucket)}/cryptoKeyVersions/1"
            kept.setdefault("storageClass", shelf.bucket.fields.get("storageClass", "STANDARD"))
            if shelf.bucket.fields.get("defaultEventBasedHold"):
                kept.setdefault("eventBasedHold", True)
            now = self._clock()
            made = Generation(
                name=name,
                generation=self._next(now),
                content=content,
                fields=kept,
                created=now,
                updated=now,
            )
            shelf.put(made)
            return made

    def check_insert(self, bucket: str, name: str, conditions: Conditions) -> None:
        """Refuse at once what `insert` would refuse at the end."""
        check_name(name)
        with self._lock:
            conditions.check(self.shelf(bucket).find(name))

    def get(self, source: Source, *, soft_deleted: bool = False) -> Generation:
        """Return what is there; unmet conditions of a reader may be a 304.

        Raises:
            Refused: 304, 404 or 412.
        """
        with self._lock:
            found = self.shelf(source.bucket).find(
                source.name, source.generation, soft_deleted=soft_deleted
            )
            if found is None:
                raise no_object(source.bucket, source.name)
            source.conditions.check(found, reads=True)
            return found

    def change(
        self, source: Source, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> Generation:
        """Put other metadata in the place of an object's.

        Args:
            source: Of which object.
            change: From the fields that there are to those that there will be.
        """
        with self._lock:
            found = self._found(source)
            kept = checked(dict(change(found.fields)))
            made = replace(
                found,
                fields=kept,
                metageneration=found.metageneration + 1,
                updated=self._clock(),
            )
            self.shelf(source.bucket).change(made)
            return made

    def delete(self, source: Source) -> None:
        """Delete an object, or one generation of it.

        Raises:
            Refused: 403, 404 or 412.
        """
        with self._lock:
            found = self._found(source)
            self.shelf(source.bucket).delete(found, for_good=source.generation is not None)

    def compose(
        self,
        bucket: str,
        name: str,
        sources: Sequence[Source],
        fields: Mapping[str, Any],
        conditions: Conditions,
        *,
        kms_key: str | None = None,
    ) -> Generation:
        """Make an object of others, one behind the other.

        Source: https://cloud.google.com/storage/docs/json_api/v1/objects/compose
        """
        if not sources:
            raise invalid("You must provide at least one source component.")
        if len(sources) > MAX_COMPONENTS:
            raise invalid(
                f"The number of source components provided ({len(sources)}) exceeds the maximum "
                f"({MAX_COMPONENTS})"
            )
        with self._lock:
            parts = [self._found(source) for source in sources]
            content = Content.joined((part.content for part in parts), counted=True)
            return self.insert(bucket, name, content, fields, conditions, kms_key=kms_key)

    def copy(
        self,
        source: Source,
        bucket: str,
        name: str,
        fields: Mapping[str, Any] | None,
        conditions: Conditions,
        *,
        kms_key: str | None = None,
    ) -> Generation:
        """Make an object with the bytes of another.

        Args:
            source: Whose bytes.
            bucket: Where to.
            name: Where to.
            fields: What it says of itself; None takes it from the source.
            conditions: What must hold of what is there.
            kms_key: What encrypts it; None leaves it to the bucket.
        """
        with self._lock:
            found = self._found(source)
            if not fields:
                fields = {key: value for key, value in found.fields.items() if key in KEPT}
            content = found.content.without_components()
            return self.insert(bucket, name, content, fields, conditions, kms_key=kms_key)

    def rewrite(
        self,
        source: Source,
        bucket: str,
        name: str,
        fields: Mapping[str, Any] | None,
        conditions: Conditions,
        *,
        kms_key: str | None = None,
        token: str | None = None,
        at_once: int | None = None,
    ) -> Rewrite:
        """Copy, in several calls where bytes must move.

        Source: https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
        """
        if at_once is not None and (at_once <= 0 or at_once % _MIB):
            raise invalid("maxBytesRewrittenPerCall must be a multiple of 1 MiB.")
        with self._lock:
            found = self._found(source)
            here, there = self.shelf(source.bucket).bucket, self.shelf(bucket).bucket
            # Refused now, and not after an hour of moving bytes.
            conditions.check(self.shelf(bucket).find(name))
            stays = (
                found.fields.get("storageClass"),
                here.location,
            ) == (
                (fields or {}).get("storageClass") or there.fields.get("storageClass", "STANDARD"),
                there.location,
            )
            size = found.content.size
            what = (source.bucket, found.name, found.generation, bucket, name, at_once)
            done = 0
            if token is not None:
                begun, done = self._rewrites.pop(token, (None, 0))
                if begun != what:
                    raise invalid("Invalid rewriteToken.")
            done = size if stays else min(size, done + (at_once or REWRITTEN_AT_ONCE))
            if done < size:
                token = secrets.token_urlsafe(24)
                self._rewrites[token] = (what, done)
                return Rewrite(made=None, size=size, done=done, token=token)
            pinned = replace(source, generation=found.generation)
            made = self.copy(pinned, bucket, name, fields, conditions, kms_key=kms_key)
            return Rewrite(made=made, size=size, done=size)

    def restore(self, source: Source, conditions: Conditions) -> Generation:
        """Make what was softly deleted the live object again, as a new generation.

        Source: https://cloud.google.com/storage/docs/json_api/v1/objects/restore
        """
        with self._lock:
            shelf = self.shelf(source.bucket)
            found = shelf.find(source.name, source.generation, soft_deleted=True)
            if found is None:
                raise no_object(source.bucket, source.name)
            conditions.check(shelf.find(source.name))
            key = str(found.fields.get("kmsKeyName", "")).partition("/cryptoKeyVersions/")[0]
            return self.insert(
                source.bucket,
                source.name,
                found.content,
                found.fields,
                Conditions(),
                kms_key=key or None,
            )

    def _found(self, source: Source) -> Generation:
        """Return what a change begins from, if the conditions hold."""
        found = self.shelf(source.bucket).find(source.name, source.generation)
        if found is None:
            raise no_object(source.bucket, source.name)
        source.conditions.check(found)
        return found

    def _next(self, now: float) -> int:
        self._generation = max(self._generation + 1, int(now * 1e6))
        return self._generation


def check_name(name: str) -> None:
    """Refuse a name that no object can have.

    Source: https://cloud.google.com/storage/docs/objects#naming
    """
    good = (
        1 <= len(name.encode(errors="replace")) <= 1024
        and name not in (".", "..")
        and not {"\r", "\n"} & set(name)
        and not name.startswith(".well-known/acme-challenge/")
    )
    if not good:
        raise Refused(400, "invalid", f"Invalid object name: {name[:80]!r}", code="InvalidName")


def checked(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an object without those that are None, if they make sense."""
    kept = {key: value for key, value in fields.items() if value is not None}
    metadata = kept.get("metadata")
    if metadata is None:
        return kept
    if not isinstance(metadata, Mapping) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise invalid("Invalid value for: metadata is a map of texts.")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > MAX_METADATA:
        raise Refused(
            400,
            "invalid",
            f"Metadata part is too large: {size} bytes, {MAX_METADATA} are allowed.",
            code="MetadataTooLarge",
        )
    return kept
