"""Buckets and objects as the JSON API shows them.

Sources: https://cloud.google.com/storage/docs/json_api/v1/buckets#resource,
https://cloud.google.com/storage/docs/json_api/v1/objects#resource and, for ``fields``,
https://cloud.google.com/storage/docs/json_api#partial-response
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage.nouns import Bucket, Generation, timestamp
from cloudreg_emulator.google.storage.refusals import invalid

JSON = "application/json; charset=UTF-8"


def of_bucket(bucket: Bucket, *, url: str, project_number: int) -> dict[str, Any]:
    """Return the resource of a bucket."""
    shown = {key: value for key, value in bucket.fields.items() if value not in (None, {})}
    access = dict(shown.get("iamConfiguration") or {})
    uniform = dict(access.get("uniformBucketLevelAccess") or {"enabled": False})
    access["uniformBucketLevelAccess"] = uniform
    access["bucketPolicyOnly"] = dict(uniform)
    access.setdefault("publicAccessPrevention", "inherited")
    soft = dict(shown.pop("softDeletePolicy", None) or {})
    seconds = str(int(bucket.soft_delete_s))
    soft["retentionDurationSeconds"] = seconds
    if seconds != "0":
        soft.setdefault("effectiveTime", timestamp(bucket.created))
    retention = shown.pop("retentionPolicy", None)
    if retention:
        shown["retentionPolicy"] = {
            "effectiveTime": timestamp(bucket.updated),
            **retention,
            "retentionPeriod": str(retention["retentionPeriod"]),
        }
    return {
        "kind": "storage#bucket",
        "selfLink": f"{url}/storage/v1/b/{quote(bucket.name, safe='')}",
        "id": bucket.name,
        "name": bucket.name,
        "projectNumber": str(project_number),
        "generation": str(int(bucket.created * 1e6)),
        "metageneration": str(bucket.metageneration),
        "locationType": bucket.location_type,
        "timeCreated": timestamp(bucket.created),
        "updated": timestamp(bucket.updated),
        "etag": bucket.etag,
        **shown,
        "iamConfiguration": access,
        "softDeletePolicy": soft,
    }


def of_object(found: Generation, *, bucket: Bucket, url: str) -> dict[str, Any]:
    """Return the resource of an object."""
    path = f"b/{quote(bucket.name, safe='')}/o/{quote(found.name, safe='')}"
    shown = {key: value for key, value in found.fields.items() if value is not None}
    content = found.content
    made = {
        "kind": "storage#object",
        "id": f"{bucket.name}/{found.name}/{found.generation}",
        "selfLink": f"{url}/storage/v1/{path}",
        "mediaLink": f"{url}/download/storage/v1/{path}?generation={found.generation}&alt=media",
        "name": found.name,
        "bucket": bucket.name,
        "generation": str(found.generation),
        "metageneration": str(found.metageneration),
        "contentType": found.content_type,
        "size": str(content.size),
        "crc32c": content.crc32c,
        "etag": found.etag,
        "timeCreated": timestamp(found.created),
        "updated": timestamp(found.updated),
        "timeStorageClassUpdated": timestamp(found.created),
        "timeFinalized": timestamp(found.created),
        **shown,
    }
    if content.md5 is not None:
        made["md5Hash"] = content.md5
    if content.components is not None:
        made["componentCount"] = content.components
    if found.deleted is not None:
        made["timeDeleted"] = timestamp(found.deleted)
    if found.soft_deleted is not None and found.hard_delete is not None:
        made["softDeleteTime"] = timestamp(found.soft_deleted)
        made["hardDeleteTime"] = timestamp(found.hard_delete)
    if bucket.retention_s:
        made["retentionExpirationTime"] = timestamp(found.created + bucket.retention_s)
    return made


def answer(request: Request, document: Mapping[str, Any], **headers: str) -> Response:
    """Return *document*, with the parts of it that ``fields`` asks for."""
    wanted = request.arg("fields")
    shown = document if wanted is None else selected(document, wanted)
    if "etag" in document:
        headers["ETag"] = str(document["etag"])
    return Response(
        headers={"Content-Type": JSON, **{key.replace("_", "-"): v for key, v in headers.items()}},
        body=json.dumps(shown, ensure_ascii=False).encode(),
    )


def selected(document: Any, fields: str) -> Any:
    """Return what ``fields`` asks for, such as ``items(name,size),nextPageToken``."""
    tokens = _Tokens(fields)
    tree = _tree(tokens)
    if tokens.next is not None:
        raise invalid(f"Invalid field selection {fields}")
    return _pruned(document, tree)


class _Tokens:
    def __init__(self, text: str) -> None:
        self._text = text
        self._iterator = self._split(text)
        self.next: str | None = None
        self.advance()

    def advance(self) -> str | None:
        """Return the token that was next, and go on."""
        before, self.next = self.next, next(self._iterator, None)
        return before

    def refusal(self) -> Exception:
        """Return the refusal of all of it."""
        return invalid(f"Invalid field selection {self._text}")

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        word = ""
        for sign in text:
            if sign in "(),/":
                if word.strip():
                    yield word.strip()
                yield sign
                word = ""
            else:
                word += sign
        if word.strip():
            yield word.strip()


def _tree(tokens: _Tokens) -> dict[str, Any]:
    """Return names to trees of what is below them; an empty tree takes everything."""
    found: dict[str, Any] = {}
    while True:
        name = tokens.advance()
        if name is None or name in "(),/":
            raise tokens.refusal()
        path = [name]
        while tokens.next == "/":
            tokens.advance()
            part = tokens.advance()
            if part is None or part in "(),/":
                raise tokens.refusal()
            path.append(part)
        below: dict[str, Any] = {}
        if tokens.next == "(":
            tokens.advance()
            below = _tree(tokens)
            if tokens.advance() != ")":
                raise tokens.refusal()
        for part in reversed(path[1:]):
            below = {part: below}
        found.setdefault(path[0], {}).update(below)
        if tokens.next != ",":
            return found
        tokens.advance()


def _pruned(value: Any, tree: Mapping[str, Any]) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [_pruned(one, tree) for one in value]
    if not isinstance(value, Mapping):
        return value
    return {key: _pruned(value[key], below) for key, below in tree.items() if key in value}
