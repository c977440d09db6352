"""Everything that an emulated Cloud Storage knows, behind one lock; no HTTP."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cloudreg_emulator.faults import Faults
from cloudreg_emulator.google.storage.nouns import Bucket, Conditions, check_key, etag
from cloudreg_emulator.google.storage.objects import Objects
from cloudreg_emulator.google.storage.refusals import Refused, conflict, invalid, no_bucket
from cloudreg_emulator.google.storage.shelf import Shelf
from cloudreg_emulator.google.storage.signing import SigningKey
from cloudreg_emulator.google.storage.uploads import Uploads

SOFT_DELETE_S = 7 * 24 * 3600
"""What new buckets have unless they say otherwise.

Source: https://cloud.google.com/storage/docs/soft-delete
"""

NO_PROJECT = "<none>"
"""What Google's client calls its project where ``STORAGE_EMULATOR_HOST`` is all that it is told."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")

SETTABLE = frozenset(
    {
        "acl",
        "autoclass",
        "billing",
        "cors",
        "defaultEventBasedHold",
        "defaultObjectAcl",
        "encryption",
        "hierarchicalNamespace",
        "iamConfiguration",
        "ipFilter",
        "labels",
        "lifecycle",
        "logging",
        "objectRetention",
        "owner",
        "retentionPolicy",
        "rpo",
        "softDeletePolicy",
        "storageClass",
        "versioning",
        "website",
    }
)
"""Fields that a patch may change; the service passes over what only it sets.

Source: https://cloud.google.com/storage/docs/json_api/v1/buckets#resource
"""


class Storage:
    """An emulated Cloud Storage of one project. Thread-safe.

    Attributes:
        project: Its id.
        project_number: What buckets say of their project.
        clock: Seconds since 1970.
        faults: What goes wrong.
        lock: Held while anything is looked at and changed.
        shelves: The buckets and what is in them, by name.
        objects: What is done with objects.
        uploads: Uploads that are not finished.
        keys: E-mail address or access id to the key that its signed URLs are checked with.
    """

    def __init__(
        self,
        *,
        project: str,
        project_number: int,
        clock: Callable[[], float] = time.time,
        faults: Faults | None = None,
    ) -> None:
        """Begin without a bucket."""
        self.project = project
        self.project_number = project_number
        self.clock = clock
        self.faults = faults or Faults()
        self.lock = threading.RLock()
        self.shelves: dict[str, Shelf] = {}
        self.objects = Objects(self.lock, self.shelves, clock)
        self.uploads = Uploads(self.lock, self.objects, clock)
        self.keys: dict[str, SigningKey] = {}

    def bucket(self, name: str) -> Bucket:
        """Return a bucket.

        Raises:
            Refused: 404.
        """
        with self.lock:
            shelf = self.shelves.get(name)
            if shelf is None:
                raise no_bucket()
            return shelf.bucket

    def buckets(self) -> list[Bucket]:
        """Return all buckets by name."""
        with self.lock:
            # Google's own buckets are in a project of its own.
            names = [name for name in sorted(self.shelves) if not name.startswith("caip-tenant-")]
            return [self.shelves[name].bucket for name in names]

    def is_project(self, name: str) -> bool:
        """Return whether *name* means this project."""
        return name in (self.project, str(self.project_number), NO_PROJECT)

    def create_bucket(self, name: str, fields: Mapping[str, Any], *, project: str) -> Bucket:
        """Make a bucket.

        Raises:
            Refused: 400, 403 or 409.
        """
        check_bucket_name(name)
        if not self.is_project(project):
            raise Refused(
                403, "forbidden", f"Access to the project {project!r} is denied: it is another one."
            )
        now = self.clock()
        kept = {key: value for key, value in fields.items() if key in SETTABLE}
        kept.setdefault("storageClass", "STANDARD")
        kept.setdefault("softDeletePolicy", {"retentionDurationSeconds": str(SOFT_DELETE_S)})
        kept["location"] = str(fields.get("location") or "US").upper()
        made = _checked(
            Bucket(
                name=name,
                fields=kept,
                created=now,
                updated=now,
                policy=_policy([], 1),
            )
        )
        with self.lock:
            if name in self.shelves:
                raise conflict(
                    "Your previous request to create the named bucket succeeded and you already "
                    "own it.",
                    code="BucketAlreadyOwnedByYou",
                )
            self.shelves[name] = Shelf(made, self.clock)
        return made

    def change_bucket(
        self, name: str, fields: Mapping[str, Any], conditions: Conditions, *, whole: bool = False
    ) -> Bucket:
        """Change what a bucket says of itself.

        Args:
            name: The bucket's.
            fields: What changes; None takes a field away.
            conditions: What must hold.
            whole: Whether fields that are not there are taken away.
        """
        with self.lock:
            old = self.bucket(name)
            conditions.check(old)
            place = fields.get("location")
            if place is not None and str(place).upper() != old.location:
                raise invalid("The location of a bucket cannot be changed.")
            kept = {} if whole else dict(old.fields)
            kept["location"] = old.location
            kept.setdefault("storageClass", "STANDARD")
            for key, value in fields.items():
                if key in SETTABLE:
                    kept[key] = merged(kept.get(key), value) if not whole else value
            made = _checked(
                replace(
                    old,
                    fields={key: value for key, value in kept.items() if value is not None},
                    metageneration=old.metageneration + 1,
                    updated=self.clock(),
                )
            )
            self.shelves[name].bucket = made
            return made

    def delete_bucket(self, name: str, conditions: Conditions) -> None:
        """Delete an empty bucket.

        Raises:
            Refused: 404, 409 or 412.
        """
        with self.lock:
            conditions.check(self.bucket(name))
            if not self.shelves[name].empty:
                raise conflict(
                    "The bucket you tried to delete is not empty.", code="BucketNotEmpty"
                )
            del self.shelves[name]

    def set_policy(self, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Replace the policy of a bucket; a stale ETag is refused.

        Source: https://cloud.google.com/storage/docs/json_api/v1/buckets/setIamPolicy
        """
        with self.lock:
            old = self.bucket(name)
            told = asked.get("etag")
            if told is not None and told != old.policy["etag"]:
                raise Refused(
                    412,
                    "conditionNotMet",
                    "The etag of the policy is not the current one.",
                    location=("header", "If-Match"),
                )
            bindings = _bindings(asked.get("bindings", []))
            number = int(old.policy["number"]) + 1
            version = int(asked.get("version", 1))
            made = {**_policy(bindings, number), "version": version}
            self.shelves[name].bucket = replace(old, policy=made)
            return made


def check_bucket_name(name: str) -> None:
    """Refuse a name that no bucket can have.

    Source: https://cloud.google.com/storage/docs/buckets#naming
    """
    parts = name.split(".")
    longest = 222 if len(parts) > 1 else 63
    good = (
        3 <= len(name) <= longest
        and _NAME.fullmatch(name)
        and all(0 < len(part) <= 63 for part in parts)
        and not _ADDRESS.fullmatch(name)
        and not name.startswith("goog")
        and "google" not in name
    )
    if not good:
        raise Refused(400, "invalid", f"Invalid bucket name: '{name}'", code="InvalidBucketName")


def merged(old: Any, new: Any) -> Any:
    """Return a patch's value over the old one: objects are merged, None takes away.

    Source: https://cloud.google.com/storage/docs/json_api#patch
    """
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    found = {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in found.items() if value is not None}


def _checked(bucket: Bucket) -> Bucket:
    """Return a bucket whose description makes sense.

    Sources: https://cloud.google.com/storage/docs/soft-delete (0, or 7 to 90 days) and
    https://cloud.google.com/storage/docs/labels
    """
    seconds = bucket.soft_delete_s
    if seconds and not SOFT_DELETE_S <= seconds <= 90 * 24 * 3600:
        raise invalid("softDeletePolicy.retentionDurationSeconds must be 0 or 7 to 90 days.")
    if bucket.kms_key:
        check_key(bucket.kms_key, bucket)
    labels = bucket.fields.get("labels") or {}
    if len(labels) > 64 or not all(_is_label(key, value) for key, value in labels.items()):
        raise invalid("Invalid labels: at most 64, of lower case letters, digits, _ and -.")
    return bucket


def _is_label(key: str, value: Any) -> bool:
    pattern = r"[\w-]*"
    texts = isinstance(value, str) and key == key.lower() and value == value.lower()
    return bool(
        texts
        and re.fullmatch(pattern, key)
        and re.fullmatch(pattern, value)
        and 1 <= len(key) <= 63
        and len(value) <= 63
        and not key[0].isdigit()
    )


def _policy(bindings: list[Mapping[str, Any]], number: int) -> dict[str, Any]:
    return {"bindings": bindings, "etag": etag(0, number), "version": 1, "number": number}


def _bindings(asked: Any) -> list[Mapping[str, Any]]:
    good = isinstance(asked, list) and all(
        isinstance(one, Mapping)
        and str(one.get("role", "")).startswith(("roles/", "projects/", "organizations/"))
        and isinstance(one.get("members", []), list)
        for one in asked
    )
    if not good:
        raise invalid("Invalid argument: bindings have a role and members.")
    for one in asked:
        for member in one.get("members", []):
            kind, colon, _ = str(member).partition(":")
            if not colon and kind not in ("allUsers", "allAuthenticatedUsers"):
                raise invalid(f"Invalid argument: member {member!r} has no type.")
    return list(asked)
