"""The S3 backend: one writer at a time for each key, and nothing that vanishes by itself."""

from __future__ import annotations

import codecs
import datetime
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any

from moto.s3.exceptions import (
    AccessDeniedByLock,
    EntityTooSmall,
    InvalidPart,
    MalformedXML,
    NoSuchUpload,
)
from moto.s3.models import (
    FakeBucket,
    FakeDeleteMarker,
    FakeKey,
    FakeMultipart,
    S3Backend,
)

from cloudreg_emulator.aws.s3.checksums import Checksum, digest, encoded
from cloudreg_emulator.aws.s3.policies import PolicedBucket

MIN_PART = 5 << 20
"""Bytes of every part but the last.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

# Bucket names are global, so the locks are: two keys rarely share one of them.
_LOCKS = tuple(threading.RLock() for _ in range(256))


@contextmanager
def exclusive(bucket: str, key: str) -> Iterator[None]:
    """Let one request at a time look at a key and change it.

    moto looks first and changes later, with a body's copying between the two: of sixteen
    ``If-None-Match: *`` writers several may win, and a reader may find a closed file.
    """
    with _LOCKS[hash((bucket, key)) % len(_LOCKS)]:
        yield


class DeleteMarker(FakeDeleteMarker):
    """A delete marker that can be removed for good; moto's raises AttributeError there."""

    def __init__(self, key: Any, *, version_id: str | None = None) -> None:
        """Mark *key*; a bucket whose versioning is suspended calls the marker ``null``."""
        super().__init__(key=key)
        if version_id is not None:
            self._version_id = version_id

    def dispose(self) -> None:
        """Do nothing: a marker holds no file."""


class Multipart(FakeMultipart):
    """An upload in parts whose checksums are right and are checked.

    Attributes:
        claimed: What the parts of the list in CompleteMultipartUpload declare, by part number.
        expected: What the whole object is to have, where the request says so.
        initiated: When it was begun; moto shows the same day of 2010 for every upload.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin with no claim."""
        super().__init__(*args, **kwargs)
        self.claimed: dict[int, list[Checksum]] = {}
        self.expected: list[Checksum] = []
        self.initiated = datetime.datetime.now(datetime.UTC)

    @property
    def algorithm(self) -> str:
        """The algorithm of the object; the service chooses CRC64NVME where nobody asks."""
        return str(self.metadata.get("x-amz-checksum-algorithm") or "CRC64NVME").upper()

    @property
    def declared_algorithm(self) -> str | None:
        """The algorithm that CreateMultipartUpload asked for."""
        asked = self.metadata.get("x-amz-checksum-algorithm")
        return str(asked).upper() if asked else None

    @property
    def checksum_type(self) -> str:
        """``COMPOSITE`` or ``FULL_OBJECT``."""
        asked = self.metadata.get("x-amz-checksum-type")
        if asked:
            return str(asked).upper()
        return "FULL_OBJECT" if self.algorithm == "CRC64NVME" else "COMPOSITE"

    def complete(
        self, body: Iterator[tuple[int, str]]
    ) -> tuple[bytes, str, tuple[str, str, int] | None]:
        parts: list[FakeKey] = []
        for number, etag in body:
            part = self.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise InvalidPart
            for claim in self.claimed.get(number, ()):
                if encoded(claim.algorithm, part.value) != claim.value:
                    raise InvalidPart
            if parts and parts[-1].contentsize < MIN_PART:
                raise EntityTooSmall
            parts.append(part)
        if not parts:
            raise MalformedXML
        values = [part.value for part in parts]
        whole = b"".join(values)
        md5s = b"".join(codecs.decode(part.etag.strip('"'), "hex") for part in parts)
        etag = hashlib.md5(md5s, usedforsecurity=False).hexdigest()
        return whole, f"{etag}-{len(parts)}", self._checksum(values, whole)

    def _checksum(self, values: list[bytes], whole: bytes) -> tuple[str, str, int] | None:
        if self.declared_algorithm is None and len(whole) > 64 << 20:
            # Nobody asked, and a checksum of the service's own choice takes a second for 100 MB.
            return None
        if self.checksum_type == "FULL_OBJECT":
            return "FULL_OBJECT", encoded(self.algorithm, whole), 1
        each = b"".join(digest(self.algorithm, value) for value in values)
        return "COMPOSITE", encoded(self.algorithm, each), len(values)


class StrictS3Backend(S3Backend):
    """moto's S3, with what it lacks."""

    @cached_property
    def _url_module(self) -> ModuleType:
        from cloudreg_emulator.aws.s3 import urls

        return urls

    @cached_property
    def urls(self) -> dict[str, Any]:
        """The patterns, built once: moto reloads a module for every request in process."""
        return super().urls

    def create_bucket(self, *args: Any, **kwargs: Any) -> FakeBucket:
        """Make a bucket whose policy is read with its conditions."""
        made = super().create_bucket(*args, **kwargs)
        # moto makes it deep in a long method, and asks it for permission in another.
        made.__class__ = PolicedBucket  # type: ignore[type-abstract]  # mypy takes it for one
        return made

    def upload(self, bucket_name: str, upload_id: str) -> Multipart:
        """Return an upload that has begun and has not ended.

        Raises:
            NoSuchUpload: As the service says; moto raises KeyError, a 500.
        """
        upload = self.get_bucket(bucket_name).multiparts.get(upload_id)
        if upload is None:
            raise NoSuchUpload(upload_id=upload_id)
        assert isinstance(upload, Multipart)
        return upload

    def create_multipart_upload(  # noqa: PLR0917  # moto's signature
        self,
        bucket_name: str,
        key_name: str,
        metadata: Any,
        storage_type: str,
        tags: dict[str, str],
        acl: Any,
        sse_encryption: str,
        kms_key_id: str,
    ) -> FakeMultipart:
        upload = Multipart(
            key_name,
            metadata,
            account_id=self.account_id,
            region_name=self.region_name,
            storage=storage_type,
            tags=tags,
            acl=acl,
            sse_encryption=sse_encryption,
            kms_key_id=kms_key_id,
        )
        self.get_bucket(bucket_name).multiparts[upload.id] = upload
        return upload

    def upload_part(
        self, bucket_name: str, multipart_id: str, part_id: int, value: bytes
    ) -> FakeKey:
        return self.upload(bucket_name, multipart_id).set_part(part_id, value)

    def upload_part_copy(
        self, dest_bucket_name: str, multipart_id: str, *more: Any, **named: Any
    ) -> FakeKey:
        self.upload(dest_bucket_name, multipart_id)
        return super().upload_part_copy(dest_bucket_name, multipart_id, *more, **named)

    def complete_multipart_upload(
        self, bucket_name: str, multipart_id: str, body: Iterator[tuple[int, str]]
    ) -> FakeKey | None:
        upload = self.upload(bucket_name, multipart_id)
        key = super().complete_multipart_upload(bucket_name, multipart_id, body)
        if key is not None and key.checksum_value is not None:
            key.checksum_algorithm = upload.algorithm
        return key

    def put_object(
        self, bucket_name: str, key_name: str, value: bytes, *more: Any, **named: Any
    ) -> FakeKey:
        bucket = self.get_bucket(bucket_name)
        with exclusive(bucket_name, key_name):
            if bucket.versioning_status != "Suspended":
                new = super().put_object(bucket_name, key_name, value, *more, **named)
            else:
                # moto forgets every version. The service replaces the null version alone.
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/AddingObjectstoVersionSuspendedBuckets.html
                kept = _without_null(bucket, key_name)
                new = super().put_object(bucket_name, key_name, value, *more, **named)
                dict.__setitem__(bucket.keys, key_name, [*kept, new])
            # Computed while nobody else reads the file: moto does it in the middle of a list.
            assert new.etag
            return new

    def delete_object(
        self,
        bucket_name: str,
        key_name: str,
        version_id: str | None = None,
        bypass: bool = False,
    ) -> tuple[bool, dict[str, Any]]:
        bucket = self.get_bucket(bucket_name)
        with exclusive(bucket_name, key_name):
            if version_id is not None:
                return self._delete_version(bucket, key_name, version_id, bypass=bypass)
            if bucket.versioning_status is None:
                return super().delete_object(bucket_name, key_name, bypass=bypass)
            return True, self._mark_deleted(bucket, key_name)

    def _mark_deleted(self, bucket: FakeBucket, key_name: str) -> dict[str, Any]:
        # A marker stands on top even of a key that never was.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
        suspended = bucket.versioning_status == "Suspended"
        current = bucket.keys.get(key_name)
        if current is None:
            current = FakeKey(
                key_name, b"", account_id=self.account_id, region_name=self.region_name
            )
            current.dispose()
        kept = (
            _without_null(bucket, key_name)
            if suspended
            else bucket.keys.getlist(key_name, default=[])
        )
        marker = DeleteMarker(current, version_id="null" if suspended else None)
        dict.__setitem__(bucket.keys, key_name, [*kept, marker])
        return {"version-id": marker.version_id, "delete-marker": "true"}

    def _delete_version(
        self, bucket: FakeBucket, key_name: str, version_id: str, *, bypass: bool
    ) -> tuple[bool, dict[str, Any]]:
        versions = bucket.keys.getlist(key_name, default=[])
        found = [v for v in versions if str(v.version_id) == version_id]
        answer: dict[str, Any] = {"version-id": version_id}
        if not found:
            return False, answer
        if isinstance(found[0], FakeDeleteMarker):
            answer["delete-marker"] = "true"
        elif found[0].is_locked(governance_bypass=bypass):
            raise AccessDeniedByLock
        found[0].dispose()
        kept = [v for v in versions if v is not found[0]]
        if kept:
            dict.__setitem__(bucket.keys, key_name, kept)
        else:
            dict.pop(bucket.keys, key_name)
        return True, answer

    def copy_object(self, src_key: FakeKey, dest_bucket_name: str, *more: Any, **named: Any) -> Any:
        # The copy is one object, so it has the checksum of one; moto keeps the parts' checksum.
        result = super().copy_object(src_key, dest_bucket_name, *more, **named)
        name = more[0] if more else named["dest_key_name"]
        new = self.get_object(dest_bucket_name, name)
        assert new is not None
        if new.checksum_value is not None and new.checksum_algorithm:
            new.checksum_value = encoded(new.checksum_algorithm, new.value)
            new.checksum_type = "FULL_OBJECT"
        return result


def _without_null(bucket: FakeBucket, key_name: str) -> list[Any]:
    """Take the null version of a key away, and return the others."""
    versions = bucket.keys.getlist(key_name, default=[])
    for version in versions:
        if version.version_id == "null":
            version.dispose()
    kept = [version for version in versions if version.version_id != "null"]
    dict.pop(bucket.keys, key_name, None)
    return kept
