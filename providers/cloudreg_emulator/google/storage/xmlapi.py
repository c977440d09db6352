"""The XML API: buckets and objects, for clients that know no other.

Sources: https://cloud.google.com/storage/docs/xml-api/overview and
https://cloud.google.com/storage/docs/request-endpoints
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage import xmlparts
from cloudreg_emulator.google.storage.call import Call
from cloudreg_emulator.google.storage.content import Content, hashes
from cloudreg_emulator.google.storage.listing import MOST, Wanted, last_of, page, token_of
from cloudreg_emulator.google.storage.media import media, told
from cloudreg_emulator.google.storage.nouns import Conditions, Generation, number, timestamp
from cloudreg_emulator.google.storage.objects import Source
from cloudreg_emulator.google.storage.refusals import (
    PRECONDITION,
    Refused,
    invalid,
    not_emulated,
    unknown_parameter,
)
from cloudreg_emulator.google.storage.xmldocument import NAMESPACE, fields_of, kms_key_of, xml

if TYPE_CHECKING:
    from cloudreg_emulator.google.storage.storage import Storage

_HOSTED = re.compile(r"([a-z0-9][a-z0-9._-]*)\.storage\.(?:googleapis\.com|localhost)(?::\d+)?")

_SIGNED = frozenset(
    f"X-Goog-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
)
_SHAPED = {
    "response-content-type": "Content-Type",
    "response-content-disposition": "Content-Disposition",
}
_PARAMETERS: Mapping[str, frozenset[str]] = {
    name: frozenset(text.split())
    for name, text in {
        "service.list": "",
        "buckets.get": "",
        "objects.list": "list-type prefix delimiter max-keys continuation-token start-after marker "
        "encoding-type fetch-owner",
        "objects.get": f"generation {' '.join(_SHAPED)}",
        "objects.insert": "",
        "objects.copy": "",
        "objects.delete": "generation",
        "multipart.begin": "uploads",
        "multipart.list": "uploads prefix max-uploads key-marker upload-id-marker delimiter",
        "multipart.part": "uploadId partNumber",
        "multipart.complete": "uploadId",
        "multipart.abort": "uploadId",
        "multipart.parts": "uploadId max-parts part-number-marker",
    }.items()
}


def call_of(storage: Storage, request: Request) -> Call:
    """Return what a request asks, by its path or by the name of its host.

    Raises:
        Refused: 501 where the service has something and this does not.
    """
    hosted = _HOSTED.fullmatch(request.host)
    path = request.path.removeprefix("/")
    bucket, _, name = (hosted[1], "", path) if hosted else path.partition("/")
    bucket, name = unquote(bucket), unquote(name)
    method = _method(request, bucket, name)
    return Call(storage=storage, request=request, method=method, bucket=bucket, name=name)


def _method(request: Request, bucket: str, name: str) -> str:
    query, verb = request.query, "GET" if request.method == "HEAD" else request.method
    found: str | None
    if not bucket:
        found = {"GET": "service.list"}.get(verb)
    elif not name:
        found = {"GET": "multipart.list" if "uploads" in query else "objects.list"}.get(verb)
        if request.method == "HEAD":
            found = "buckets.get"
    elif "uploadId" in query:
        found = {
            "PUT": "multipart.part",
            "POST": "multipart.complete",
            "DELETE": "multipart.abort",
            "GET": "multipart.parts",
        }.get(verb)
    elif verb == "PUT":
        found = "objects.copy" if "x-goog-copy-source" in request.headers else "objects.insert"
    elif verb == "POST":
        found = "multipart.begin" if "uploads" in query else None
    else:
        found = {"GET": "objects.get", "DELETE": "objects.delete"}.get(verb)
    if found is None:
        raise not_emulated(f"{request.method} {request.path} of the XML API")
    return found


def answer(call: Call) -> Response:
    """Answer one request of the XML API.

    Raises:
        Refused: What is wrong with it.
    """
    for name in call.request.query:
        if name in _SIGNED or name == "userProject" or name in _PARAMETERS[call.method]:
            continue
        if name in ("acl", "cors", "lifecycle", "versioning", "versions", "compose", "location"):
            raise not_emulated(f"?{name} of the XML API")
        raise unknown_parameter(name)
    return _HANDLERS[call.method](call)


def _service(call: Call) -> Response:
    buckets = "".join(
        f"<Bucket><Name>{escape(found.name)}</Name>"
        f"<CreationDate>{timestamp(found.created)}</CreationDate></Bucket>"
        for found in call.storage.buckets()
    )
    return xml(
        f'<ListAllMyBucketsResult xmlns="{NAMESPACE}"><Buckets>{buckets}</Buckets>'
        "</ListAllMyBucketsResult>"
    )


def _bucket(call: Call) -> Response:
    found = call.storage.bucket(call.bucket)
    return Response(
        headers={
            "Content-Type": "application/xml; charset=UTF-8",
            "x-goog-metageneration": str(found.metageneration),
            "x-goog-bucket-storage-class": str(found.fields.get("storageClass", "STANDARD")),
        },
        length=0,
    )


def _list(call: Call) -> Response:
    request = call.request
    second = request.arg("list-type")
    if second not in (None, "2"):
        raise invalid("list-type must be 2.")
    most = number(request, "max-keys")
    if most is not None and most < 0:
        raise invalid(f"Invalid value for max-keys: {most}")
    most = min(MOST if most is None else most, MOST)
    if request.arg("encoding-type") not in (None, "", "url"):
        raise invalid("encoding-type must be url.")
    behind = (request.arg("start-after" if second else "marker") or "", _EVERY_GENERATION)
    token = request.arg("continuation-token")
    if token:
        behind = last_of(token)
    wanted = Wanted(
        prefix=request.arg("prefix") or "",
        delimiter=request.arg("delimiter") or "",
        behind=behind,
        most=most,
    )
    with call.storage.lock:
        found = page(call.listed(), wanted)
    written = quote if request.arg("encoding-type") == "url" else escape
    entries = "".join(_entry(one, written) for one in found.items)
    entries += "".join(
        f"<CommonPrefixes><Prefix>{written(folder)}</Prefix></CommonPrefixes>"
        for folder in found.prefixes
    )
    count = len(found.items) + len(found.prefixes)
    more = found.last is not None and most > 0
    head = f"<Name>{escape(call.bucket)}</Name><Prefix>{written(wanted.prefix)}</Prefix>"
    head += f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>"
    if second:
        head += f"<KeyCount>{count}</KeyCount>"
    if more and found.last is not None:
        tag = "NextContinuationToken" if second else "NextMarker"
        text = token_of(found.last) if second else written(found.last[0])
        head += f"<{tag}>{text}</{tag}>"
    return xml(f'<ListBucketResult xmlns="{NAMESPACE}">{head}{entries}</ListBucketResult>')


_EVERY_GENERATION = 1 << 62
"""A name without a generation stands for all of them."""


def _entry(found: Generation, written: Callable[[str], str]) -> str:
    return (
        f"<Contents><Key>{written(found.name)}</Key><Generation>{found.generation}</Generation>"
        f"<MetaGeneration>{found.metageneration}</MetaGeneration>"
        f"<LastModified>{timestamp(found.updated)}</LastModified>"
        f"<ETag>{escape(found.xml_etag)}</ETag><Size>{found.content.size}</Size></Contents>"
    )


def _get(call: Call) -> Response:
    found = call.storage.objects.get(
        Source(
            bucket=call.bucket,
            name=call.name,
            generation=number(call.request, "generation"),
            conditions=Conditions.of_headers(call.request),
        )
    )
    _check_headers(call.request, found)
    response = media(call.request, found, xml=True)
    shaped = {
        header: call.request.arg(name) or ""
        for name, header in _SHAPED.items()
        if call.request.arg(name)
    }
    if not shaped:
        return response
    return Response(
        status=response.status,
        headers={**response.headers, **shaped},
        body=response.body,
        length=response.length,
    )


def _check_headers(request: Request, found: Generation) -> None:
    """Look at the conditions that HTTP itself has.

    Source: https://cloud.google.com/storage/docs/xml-api/reference-headers
    """
    headers = request.headers
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None and not _names(match, found):
        raise Refused(
            412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
        )
    if none_match is not None and _names(none_match, found):
        raise Refused(304, "notModified", "")
    since, until = headers.get("if-modified-since"), headers.get("if-unmodified-since")
    updated = int(found.updated)
    if none_match is None and since and (at := _seconds(since)) is not None and updated <= at:
        raise Refused(304, "notModified", "")
    if match is None and until and (at := _seconds(until)) is not None and updated > at:
        raise Refused(
            412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
        )


def _names(tags: str, found: Generation) -> bool:
    return any(tag.strip() in ("*", found.xml_etag) for tag in tags.split(","))


def _seconds(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        # A date that cannot be read is none: RFC 9110, 13.1.3.
        return None


def _put(call: Call) -> Response:
    if "if-none-match" in call.request.headers or "if-match" in call.request.headers:
        # Both are for reading: https://cloud.google.com/storage/docs/xml-api/put-object
        raise Refused(
            400,
            "notImplemented",
            "If-Match and If-None-Match are not for uploads.",
            code="NotImplemented",
        )
    headers = call.request.headers
    content = Content.of(call.request.read())
    content.check(**hashes(headers.get("x-goog-hash"), headers.get("content-md5")))
    made = call.storage.objects.insert(
        call.bucket,
        call.name,
        content,
        fields_of(headers),
        Conditions.of_headers(call.request),
        kms_key=kms_key_of(headers),
    )
    shown = told(made, xml=True)
    shown["Content-Type"] = "text/html; charset=UTF-8"
    return Response(headers=shown, length=0)


def _copy(call: Call) -> Response:
    headers = call.request.headers
    text = unquote(headers["x-goog-copy-source"].removeprefix("/"))
    bucket, slash, name = text.partition("/")
    if not slash or not name:
        raise invalid(f"Invalid x-goog-copy-source: {text!r}.")
    told_generation = headers.get("x-goog-copy-source-generation")
    source = Source(
        bucket=bucket,
        name=name,
        generation=int(told_generation) if told_generation else None,
        conditions=_source_conditions(headers),
    )
    replaces = headers.get("x-goog-metadata-directive", "COPY").upper() == "REPLACE"
    with call.storage.lock:
        _check_source_tags(call, source)
        made = call.storage.objects.copy(
            source,
            call.bucket,
            call.name,
            fields_of(headers) if replaces else None,
            Conditions.of_headers(call.request),
            kms_key=kms_key_of(headers),
        )
    return xml(
        f'<CopyObjectResult xmlns="{NAMESPACE}"><LastModified>{timestamp(made.updated)}'
        f"</LastModified><ETag>{escape(made.xml_etag)}</ETag></CopyObjectResult>",
        **{
            "x-goog-generation": str(made.generation),
            "x-goog-hash": told(made, xml=True)["x-goog-hash"],
        },
    )


def _check_source_tags(call: Call, source: Source) -> None:
    headers = call.request.headers
    match = headers.get("x-goog-copy-source-if-match")
    none_match = headers.get("x-goog-copy-source-if-none-match")
    if match is None and none_match is None:
        return
    found = call.storage.objects.get(source)
    if (match is not None and not _names(match, found)) or (
        none_match is not None and _names(none_match, found)
    ):
        raise Refused(412, "conditionNotMet", PRECONDITION)


def _source_conditions(headers: Mapping[str, str]) -> Conditions:
    found: dict[str, int] = {}
    for ours in ("generation_match", "metageneration_match"):
        value = headers.get(f"x-goog-copy-source-if-{ours.replace('_', '-')}")
        if value is not None:
            if not value.isdigit():
                raise invalid(f"Invalid condition of the source: {value!r}.")
            found[ours] = int(value)
    return Conditions(**found)


def _delete(call: Call) -> Response:
    call.storage.objects.delete(
        Source(
            bucket=call.bucket,
            name=call.name,
            generation=number(call.request, "generation"),
            conditions=Conditions.of_headers(call.request),
        )
    )
    return Response(status=204)


_HANDLERS: Mapping[str, Callable[[Call], Response]] = {
    "service.list": _service,
    "buckets.get": _bucket,
    "objects.list": _list,
    "objects.get": _get,
    "objects.insert": _put,
    "objects.copy": _copy,
    "objects.delete": _delete,
    "multipart.begin": xmlparts.begin,
    "multipart.list": xmlparts.unfinished,
    "multipart.part": xmlparts.part,
    "multipart.complete": xmlparts.complete,
    "multipart.abort": xmlparts.abort,
    "multipart.parts": xmlparts.parts,
}

METHODS = tuple(_HANDLERS)
"""What is emulated; the names are those of the JSON API where it has the same."""
