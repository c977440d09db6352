"""Uploads that are not finished: resumable ones of the JSON API, and parts of the XML API.

Sources: https://cloud.google.com/storage/docs/resumable-uploads and
https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudreg_emulator.google.storage.content import Content
from cloudreg_emulator.google.storage.nouns import Conditions, Generation
from cloudreg_emulator.google.storage.objects import Objects, check_name
from cloudreg_emulator.google.storage.refusals import Refused, invalid, no_upload

CHUNK = 256 << 10
"""Every chunk but the last one is a multiple of this."""

SESSION_S = 7 * 24 * 3600
"""How long a resumable upload can be gone on with."""

MIN_PART = 5 << 20
MAX_PART = 5 << 30
MAX_PARTS = 10_000
"""Of a multipart upload; the last part may be smaller.

Source: https://cloud.google.com/storage/quotas#requests
"""


@dataclass(slots=True, kw_only=True)
class Resumable:
    """An upload of the JSON API that goes on where it broke.

    Attributes:
        bucket: Where to.
        name: Where to.
        fields: What the object will say of itself.
        conditions: What must hold at the end.
        checks: Checksums that the object must have.
        kms_key: What encrypts it.
        size: What was told at the beginning; None for unknown.
        begun: Seconds since 1970.
        kept: What has come.
        length: Bytes of it.
        made: The object, at the end.
        cancelled: Whether it was given up.
    """

    bucket: str
    name: str
    fields: Mapping[str, Any]
    conditions: Conditions
    checks: Mapping[str, str]
    kms_key: str | None
    size: int | None
    begun: float
    kept: list[bytes] = field(default_factory=list)
    length: int = 0
    made: Generation | None = None
    cancelled: bool = False


@dataclass(slots=True, kw_only=True)
class Multipart:
    """An upload of the XML API in parts.

    Attributes:
        id: Its name.
        bucket: Where to.
        name: Where to.
        fields: What the object will say of itself.
        kms_key: What encrypts it.
        begun: Seconds since 1970.
        parts: Number to content and the time it came.
    """

    id: str
    bucket: str
    name: str
    fields: Mapping[str, Any]
    kms_key: str | None
    begun: float
    parts: dict[int, tuple[Content, float]] = field(default_factory=dict)


class Uploads:
    """All unfinished uploads. Thread-safe."""

    def __init__(self, lock: threading.RLock, objects: Objects, clock: Callable[[], float]) -> None:
        """Begin without any."""
        self._lock = lock
        self._objects = objects
        self._clock = clock
        self._resumables: dict[str, Resumable] = {}
        self._multiparts: dict[str, Multipart] = {}

    def begin(
        self,
        bucket: str,
        name: str,
        fields: Mapping[str, Any],
        conditions: Conditions,
        *,
        checks: Mapping[str, str],
        kms_key: str | None,
        size: int | None,
    ) -> str:
        """Begin a resumable upload and return its id; conditions are looked at now and at the end.

        Raises:
            Refused: 400, 404 or 412.
        """
        self._objects.check_insert(bucket, name, conditions)
        made = Resumable(
            bucket=bucket,
            name=name,
            fields=dict(fields),
            conditions=conditions,
            checks=dict(checks),
            kms_key=kms_key,
            size=size,
            begun=self._clock(),
        )
        upload = secrets.token_urlsafe(48)
        with self._lock:
            self._resumables[upload] = made
        return upload

    def write(
        self,
        upload: str,
        data: bytes,
        *,
        start: int,
        total: int | None,
        checks: Mapping[str, str],
    ) -> Resumable:
        """Add a chunk; the object is made with the last one.

        Args:
            upload: Which.
            data: The chunk; what is there already of it is passed over.
            start: Where it begins.
            total: Of all chunks; None for unknown.
            checks: Checksums that the object must have.
        """
        with self._lock:
            found = self.status(upload)
            if found.made is not None:
                return found
            self._check_chunk(found, data, start=start, total=total)
            fresh = data[found.length - start :] if start < found.length else data
            if fresh:
                found.kept.append(fresh)
                found.length += len(fresh)
            if total is not None:
                found.size = total
            if total is not None and found.length == total:
                self._finish(found, checks)
            return found

    def status(self, upload: str) -> Resumable:
        """Return how far an upload is.

        Raises:
            Refused: 404, 410, or 499 for one that was given up.
        """
        with self._lock:
            found = self._resumables.get(upload)
            if found is None:
                raise no_upload()
            if found.cancelled:
                raise Refused(499, "cancelled", "The upload was cancelled.")
            if self._clock() > found.begun + SESSION_S:
                raise Refused(410, "gone", "The upload session has expired.")
            return found

    def cancel(self, upload: str) -> None:
        """Give an upload up; one that is finished has made its object.

        Raises:
            Refused: 404.
        """
        with self._lock:
            found = self.status(upload)
            if found.made is None:
                found.cancelled = True
                found.kept.clear()

    def _check_chunk(self, found: Resumable, data: bytes, *, start: int, total: int | None) -> None:
        end = start + len(data)
        told = found.size if total is None else total
        if total is not None and found.size not in (None, total):
            raise invalid(
                f"Invalid request. The total size {total} is not the {found.size} told before."
            )
        if told is not None and end > told:
            raise invalid(f"Invalid request. The chunk ends at {end}, behind the total {told}.")
        if start > found.length:
            raise Refused(
                503,
                "backendError",
                f"Invalid request. According to the Content-Range header, the upload offset is "
                f"{start} byte(s), which exceeds already uploaded size of {found.length} byte(s).",
            )
        if (total is None or end < total) and len(data) % CHUNK:
            raise invalid(
                "Invalid request. The number of bytes uploaded is required to be equal or greater "
                f"than {CHUNK}, except for the final request (it's recommended to be the exact "
                f"multiple of {CHUNK}). The received request contained {len(data)} bytes, which "
                "does not meet this requirement."
            )

    def _finish(self, found: Resumable, checks: Mapping[str, str]) -> None:
        content = Content.of(found.kept)
        content.check(**found.checks)
        content.check(**checks)
        found.made = self._objects.insert(
            found.bucket,
            found.name,
            content,
            found.fields,
            found.conditions,
            kms_key=found.kms_key,
        )
        found.kept = []

    def begin_parts(
        self, bucket: str, name: str, fields: Mapping[str, Any], *, kms_key: str | None
    ) -> Multipart:
        """Begin an upload in parts."""
        check_name(name)
        made = Multipart(
            id=secrets.token_urlsafe(32),
            bucket=bucket,
            name=name,
            fields=dict(fields),
            kms_key=kms_key,
            begun=self._clock(),
        )
        with self._lock:
            self._objects.shelf(bucket)
            self._multiparts[made.id] = made
        return made

    def parts_of(self, upload: str, bucket: str, name: str) -> Multipart:
        """Return an upload in parts.

        Raises:
            Refused: 404.
        """
        with self._lock:
            self._objects.shelf(bucket)
            found = self._multiparts.get(upload)
            if found is None or (found.bucket, found.name) != (bucket, name):
                raise no_upload()
            return found

    def unfinished(self, bucket: str) -> list[Multipart]:
        """Return the uploads in parts to a bucket, by name and age."""
        with self._lock:
            self._objects.shelf(bucket)
            found = [one for one in self._multiparts.values() if one.bucket == bucket]
        return sorted(found, key=lambda one: (one.name, one.begun, one.id))

    def add_part(self, found: Multipart, number: int, content: Content) -> None:
        """Keep a part; an earlier one of that number is replaced."""
        if not 1 <= number <= MAX_PARTS:
            raise invalid(f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive.")
        if content.size > MAX_PART:
            raise Refused(400, "invalid", "The part is too large.", code="EntityTooLarge")
        with self._lock:
            self.parts_of(found.id, found.bucket, found.name)
            found.parts[number] = (content, self._clock())

    def complete(self, found: Multipart, parts: Sequence[tuple[int, str]]) -> Generation:
        """Make the object of the parts that are named, with their ETags.

        Raises:
            Refused: 400 or 404; the upload stays.
        """
        numbers = [number for number, _ in parts]
        if not numbers or sorted(set(numbers)) != numbers:
            raise Refused(
                400,
                "invalid",
                "The list of parts was not in ascending order.",
                code="InvalidPartOrder",
            )
        with self._lock:
            self.parts_of(found.id, found.bucket, found.name)
            contents: list[Content] = []
            for number, tag in parts:
                content, _ = found.parts.get(number, (None, 0.0))
                if content is None or tag.strip('"') != part_etag(content):
                    raise Refused(
                        400,
                        "invalid",
                        "One or more of the specified parts could not be found or had another "
                        "ETag.",
                        code="InvalidPart",
                    )
                contents.append(content)
            if any(content.size < MIN_PART for content in contents[:-1]):
                raise Refused(
                    400,
                    "invalid",
                    "Your proposed upload is smaller than the minimum allowed size.",
                    code="EntityTooSmall",
                )
            made = self._objects.insert(
                found.bucket,
                found.name,
                Content.joined(contents, counted=False),
                found.fields,
                Conditions(),
                kms_key=found.kms_key,
            )
            del self._multiparts[found.id]
            return made

    def abort(self, found: Multipart) -> None:
        """Give an upload in parts up."""
        with self._lock:
            self.parts_of(found.id, found.bucket, found.name)
            del self._multiparts[found.id]


def part_etag(content: Content) -> str:
    """Return the ETag of a part: its MD5 in hexadecimal."""
    assert content.md5 is not None
    return base64.b64decode(content.md5).hex()
