"""Objects in the JSON API, but for uploads.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage import objects
from cloudreg_emulator.google.storage.call import Call
from cloudreg_emulator.google.storage.listing import MOST, Wanted, last_of, page, token_of
from cloudreg_emulator.google.storage.media import media
from cloudreg_emulator.google.storage.nouns import Conditions, document, flag, number
from cloudreg_emulator.google.storage.objects import Source
from cloudreg_emulator.google.storage.refusals import Refused, invalid, required
from cloudreg_emulator.google.storage.storage import merged


def list_(call: Call) -> Response:
    """Return a page of objects and folders."""
    request = call.request
    wanted = _wanted(request)
    with call.storage.lock:
        found = page(call.listed(), wanted)
    shown: dict[str, Any] = {"kind": "storage#objects"}
    if found.items:
        shown["items"] = [call.shown(one) for one in found.items]
    if found.prefixes:
        shown["prefixes"] = list(found.prefixes)
    if found.last is not None:
        shown["nextPageToken"] = token_of(found.last)
    return call.answer(shown)


def _wanted(request: Request) -> Wanted:
    most = number(request, "maxResults")
    if most is not None and most <= 0:
        raise invalid(f"Invalid value for maxResults: {most}")
    versions, soft = flag(request, "versions"), flag(request, "softDeleted")
    if versions and soft:
        raise invalid("versions and softDeleted cannot be combined.")
    token = request.arg("pageToken")
    return Wanted(
        prefix=request.arg("prefix") or "",
        delimiter=request.arg("delimiter") or "",
        start=request.arg("startOffset") or "",
        end=request.arg("endOffset") or "",
        behind=last_of(token) if token else ("", 0),
        versions=versions,
        soft_deleted=soft,
        trailing=flag(request, "includeTrailingDelimiter"),
        most=min(most or MOST, MOST),
    )


def get(call: Call) -> Response:
    """Describe an object, or return its bytes."""
    soft = flag(call.request, "softDeleted")
    if soft and call.request.arg("generation") is None:
        raise required("generation")
    source = call.source()
    _check_tags(call)
    found = call.storage.objects.get(source, soft_deleted=soft)
    if call.request.arg("alt") == "media" or call.request.path.startswith("/download/"):
        if soft:
            raise invalid("The bytes of a soft-deleted object cannot be read: restore it.")
        return media(call.request, found, xml=False)
    return call.answer(call.shown(found))


def _check_tags(call: Call) -> None:
    """Look at If-Match and If-None-Match, which speak of ETags.

    Source: https://cloud.google.com/storage/docs/hashes-etags
    """
    headers = call.request.headers
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is None and none_match is None:
        return
    source = call.source(conditions=Conditions())
    tag = call.storage.objects.get(source).etag
    if match is not None and match.strip('"') not in (tag, "*"):
        raise Refused(
            412, "conditionNotMet", "Precondition Failed", location=("header", "If-Match")
        )
    if none_match is not None and none_match.strip('"') in (tag, "*"):
        raise Refused(304, "notModified", "")


def patch(call: Call) -> Response:
    """Change some of an object's metadata."""
    asked = _settable(call)

    def change(old: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**old, **{key: merged(old.get(key), value) for key, value in asked.items()}}

    return call.answer(call.shown(call.storage.objects.change(call.source(), change)))


def update(call: Call) -> Response:
    """Replace an object's metadata."""
    asked = _settable(call)

    def change(old: Mapping[str, Any]) -> Mapping[str, Any]:
        own = {key: value for key, value in old.items() if key not in objects.SETTABLE}
        return {**own, "storageClass": old.get("storageClass"), **asked}

    return call.answer(call.shown(call.storage.objects.change(call.source(), change)))


def _settable(call: Call) -> dict[str, Any]:
    asked = document(call.request)
    kept = {key: value for key, value in asked.items() if key in objects.SETTABLE}
    # A class is changed by a rewrite: https://cloud.google.com/storage/docs/changing-storage-classes
    kept.pop("storageClass", None)
    return kept


def delete(call: Call) -> Response:
    """Delete an object, or one generation of it."""
    call.storage.objects.delete(call.source())
    return Response(status=204)


def compose(call: Call) -> Response:
    """Make an object of others."""
    asked = document(call.request)
    sources = asked.get("sourceObjects") or []
    if not isinstance(sources, list):
        raise invalid("sourceObjects is a list.")
    made = call.storage.objects.compose(
        call.bucket,
        call.name,
        [_component(call.bucket, one) for one in sources],
        asked.get("destination") or {},
        call.conditions,
        kms_key=call.request.arg("kmsKeyName"),
    )
    return call.answer(call.shown(made))


def _component(bucket: str, asked: Any) -> Source:
    if not isinstance(asked, dict) or not isinstance(asked.get("name"), str):
        raise required("sourceObjects[].name")
    try:
        pinned = asked.get("generation")
        generation = None if pinned is None else int(pinned)
        told = (asked.get("objectPreconditions") or {}).get("ifGenerationMatch")
        match = None if told is None else int(told)
    except (TypeError, ValueError) as error:
        raise invalid("Invalid value for sourceObjects[].generation") from error
    return Source(
        bucket=bucket,
        name=asked["name"],
        generation=generation,
        conditions=Conditions(generation_match=match),
    )


def copy(call: Call) -> Response:
    """Copy an object in one request."""
    made = call.storage.objects.copy(
        _copied(call),
        call.to_bucket,
        call.to_name,
        document(call.request),
        call.conditions,
        kms_key=call.request.arg("destinationKmsKeyName"),
    )
    return call.answer(call.shown(made, bucket=call.to_bucket))


def rewrite(call: Call) -> Response:
    """Copy an object, in several requests where bytes must move."""
    done = call.storage.objects.rewrite(
        _copied(call),
        call.to_bucket,
        call.to_name,
        document(call.request),
        call.conditions,
        kms_key=call.request.arg("destinationKmsKeyName"),
        token=call.request.arg("rewriteToken"),
        at_once=number(call.request, "maxBytesRewrittenPerCall"),
    )
    shown: dict[str, Any] = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(done.done),
        "objectSize": str(done.size),
        "done": done.made is not None,
    }
    if done.token is not None:
        shown["rewriteToken"] = done.token
    if done.made is not None:
        shown["resource"] = call.shown(done.made, bucket=call.to_bucket)
    return call.answer(shown)


def _copied(call: Call) -> Source:
    return Source(
        bucket=call.bucket,
        name=call.name,
        generation=number(call.request, "sourceGeneration"),
        conditions=Conditions.of_query(call.request, prefix="ifSource"),
    )


def restore(call: Call) -> Response:
    """Make what was softly deleted the live object again."""
    call.needed("generation")
    source = call.source(conditions=Conditions())
    return call.answer(call.shown(call.storage.objects.restore(source, call.conditions)))
