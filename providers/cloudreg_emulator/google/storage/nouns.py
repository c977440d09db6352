"""Buckets, generations of objects, and the conditions that requests make."""

from __future__ import annotations

import base64
import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudreg_emulator.google.http import Request
from cloudreg_emulator.google.storage.content import Content
from cloudreg_emulator.google.storage.refusals import PRECONDITION, Refused, invalid

_MULTI = {"US", "EU", "ASIA"}
_DUAL = re.compile(r"(NAM|EUR|ASIA)\d+")
_KMS = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One state of an object's bytes; changed metadata is another value of the same generation.

    Attributes:
        name: The object's.
        generation: Microseconds since 1970 at least, and larger than all before it.
        metageneration: Of its metadata, from 1.
        content: Its bytes.
        fields: What clients may set, as the JSON API spells it.
        created: Seconds since 1970.
        updated: Of the metadata.
        deleted: When it stopped being the live one; None while it is.
        soft_deleted: When it went to where only a restore finds it.
        hard_delete: When it goes from there.
    """

    name: str
    generation: int
    metageneration: int = 1
    content: Content
    fields: Mapping[str, Any] = field(default_factory=dict)
    created: float
    updated: float
    deleted: float | None = None
    soft_deleted: float | None = None
    hard_delete: float | None = None

    @property
    def etag(self) -> str:
        """The JSON API's ETag, which changes with the metadata too."""
        return etag(self.generation, self.metageneration)

    @property
    def xml_etag(self) -> str:
        """The XML API's ETag: the MD5 where there is one.

        Source: https://cloud.google.com/storage/docs/hashes-etags#etags
        """
        if self.content.md5 is None:
            return f'"-{self.etag}"'
        return f'"{base64.b64decode(self.content.md5).hex()}"'

    @property
    def content_type(self) -> str:
        """What it says of itself; the service's own default where it says nothing."""
        return str(self.fields.get("contentType") or "application/octet-stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket as it is described; changed descriptions are other values.

    Attributes:
        name: Of all projects, one has it.
        metageneration: Of the description, from 1.
        fields: What clients may set, as the JSON API spells it.
        created: Seconds since 1970.
        updated: Seconds since 1970.
        policy: Bindings of IAM, with their ETag.
    """

    name: str
    metageneration: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)
    created: float
    updated: float
    policy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def location(self) -> str:
        """Where it is, in capitals."""
        return str(self.fields.get("location", "US"))

    @property
    def location_type(self) -> str:
        """The kind of place."""
        if self.location in _MULTI:
            return "multi-region"
        return "dual-region" if _DUAL.fullmatch(self.location) else "region"

    @property
    def etag(self) -> str:
        """Changes with every change."""
        return etag(0, self.metageneration)

    @property
    def versioned(self) -> bool:
        """Whether what is replaced is kept."""
        return bool(_of(self.fields, "versioning", "enabled"))

    @property
    def soft_delete_s(self) -> float:
        """How long what is deleted can be restored; 0 for not at all."""
        return float(_of(self.fields, "softDeletePolicy", "retentionDurationSeconds") or 0)

    @property
    def retention_s(self) -> float:
        """How long objects cannot be deleted or replaced."""
        return float(_of(self.fields, "retentionPolicy", "retentionPeriod") or 0)

    @property
    def kms_key(self) -> str | None:
        """What encrypts objects that name no key."""
        key = _of(self.fields, "encryption", "defaultKmsKeyName")
        return str(key) if key else None

    @property
    def uniform(self) -> bool:
        """Whether permissions of single objects are off."""
        return bool(
            _of(_of(self.fields, "iamConfiguration"), "uniformBucketLevelAccess", "enabled")
        )


def _of(fields: Any, *names: str) -> Any:
    for name in names:
        fields = fields.get(name) if isinstance(fields, Mapping) else None
    return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What must hold of an object or a bucket, for a request to be done.

    Source: https://cloud.google.com/storage/docs/request-preconditions
    """

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of_query(cls, request: Request, *, prefix: str = "if") -> Conditions:
        """Return the conditions in a query of the JSON API; *prefix* tells those of a source."""
        names = {
            "generation_match": "GenerationMatch",
            "generation_not_match": "GenerationNotMatch",
            "metageneration_match": "MetagenerationMatch",
            "metageneration_not_match": "MetagenerationNotMatch",
        }
        return cls(**{ours: number(request, prefix + theirs) for ours, theirs in names.items()})

    @classmethod
    def of_headers(cls, request: Request) -> Conditions:
        """Return the conditions in the headers of the XML API.

        Source: https://cloud.google.com/storage/docs/xml-api/reference-headers
        """
        found: dict[str, int] = {}
        for ours in ("generation_match", "metageneration_match"):
            name = f"x-goog-if-{ours.replace('_', '-')}"
            if name in request.headers:
                found[ours] = parsed(request.headers[name], name)
        return cls(**found)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(
            value is not None
            for value in (
                self.generation_match,
                self.generation_not_match,
                self.metageneration_match,
                self.metageneration_not_match,
            )
        )

    def check(self, found: Generation | Bucket | None, *, reads: bool = False) -> None:
        """Refuse what does not hold; a generation of 0 stands for an object that is not there.

        Args:
            found: What is there now.
            reads: Whether the request reads: then what did not change is 304 and no error.
        """
        generation = found.generation if isinstance(found, Generation) else 0
        metageneration = found.metageneration if found is not None else None
        if self.generation_match not in (None, generation):
            raise _failed("ifGenerationMatch")
        if self.metageneration_match not in (None, metageneration):
            raise _failed("ifMetagenerationMatch")
        same = (
            self.generation_not_match is not None and self.generation_not_match == generation
        ) or (
            self.metageneration_not_match is not None
            and self.metageneration_not_match == metageneration
        )
        if same:
            raise Refused(304, "notModified", "") if reads else _failed("ifGenerationNotMatch")


NO_CONDITIONS = Conditions()


def _failed(name: str) -> Refused:
    where = "If-Match" if "Not" not in name else "If-None-Match"
    return Refused(412, "conditionNotMet", PRECONDITION, location=("header", where))


def number(request: Request, name: str) -> int | None:
    """Return a whole number of the query; None where it is not given."""
    text = request.arg(name)
    return None if text is None else parsed(text, name)


def parsed(text: str, name: str) -> int:
    """Return the whole number that *text* is."""
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise invalid(f"Invalid value for {name}: {text!r} is no whole number.")
    return int(text)


def flag(request: Request, name: str) -> bool:
    """Return a truth value of the query; False where it is not given."""
    text = request.arg(name)
    if text is None:
        return False
    if text.lower() not in ("true", "false"):
        raise invalid(f"Invalid value for {name}: {text!r} is neither true nor false.")
    return text.lower() == "true"


def document(request: Request) -> dict[str, Any]:
    """Return the JSON object in a body; an empty one for no body."""
    return parsed_document(request.read())


def parsed_document(data: bytes) -> dict[str, Any]:
    """Return the JSON object that *data* is."""
    if not data.strip():
        return {}
    try:
        found = json.loads(data)
    except ValueError as error:
        raise Refused(400, "parseError", "Parse Error") from error
    if not isinstance(found, dict):
        raise Refused(400, "parseError", "Parse Error")
    return found


def etag(generation: int, metageneration: int) -> str:
    """Return the service's text for two numbers."""
    raw = b"\x08" + _varint(generation) if generation else b""
    return base64.b64encode(raw + b"\x10" + _varint(metageneration)).decode()


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def timestamp(seconds: float) -> str:
    """Return a time as the JSON API writes it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def check_key(key: str, bucket: Bucket) -> str:
    """Return the name of a key of Cloud KMS, if it can encrypt what is in *bucket*.

    Source: https://cloud.google.com/storage/docs/encryption/customer-managed-keys#restrictions
    """
    found = _KMS.fullmatch(key)
    if found is None:
        raise invalid(f"Malformed Cloud KMS crypto key: {key}")
    if found[1].upper() != bucket.location:
        raise invalid(
            f"Cloud KMS key location {found[1]} is not compatible with the location "
            f"{bucket.location} of the bucket."
        )
    return key
