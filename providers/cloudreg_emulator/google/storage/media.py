"""The bytes of an object as an answer: ranges, checksums, and gzip taken off on the way.

Sources: https://cloud.google.com/storage/docs/json_api/v1/parameters#range,
https://cloud.google.com/storage/docs/transcoding and, for the headers,
https://cloud.google.com/storage/docs/xml-api/reference-headers
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping
from email.utils import formatdate

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage.content import Content
from cloudreg_emulator.google.storage.nouns import Generation
from cloudreg_emulator.google.storage.refusals import Refused

_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")

_SHOWN = {
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentLanguage": "Content-Language",
}


def media(request: Request, found: Generation, *, xml: bool) -> Response:
    """Return what a download gets.

    Args:
        request: With its range.
        found: The object.
        xml: Whether the XML API is asked, which has ETags of its own and shows metadata.

    Raises:
        Refused: 416.
    """
    headers = told(found, xml=xml)
    content = found.content
    if _is_unpacked(request, found):
        content = _unpacked(content)
        headers["Warning"] = "214 UploadServer gunzipped"
        headers["X-GUploader-Response-Body-Transformations"] = "gunzipped"
        asked = None
    else:
        if found.fields.get("contentEncoding"):
            headers["Content-Encoding"] = str(found.fields["contentEncoding"])
        headers["Accept-Ranges"] = "bytes"
        asked = ranged(request.headers.get("range"), content.size)
    if asked is None:
        body = content.read()
        return Response(headers=headers, body=body, length=content.size)
    start, end = asked
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
    return Response(status=206, headers=headers, body=content.read(start, end), length=end - start)


def told(found: Generation, *, xml: bool) -> dict[str, str]:
    """Return the headers that tell of an object."""
    content = found.content
    md5 = f",md5={content.md5}" if content.md5 is not None else ""
    headers = {
        "Content-Type": found.content_type,
        "ETag": found.xml_etag if xml else found.etag,
        "Last-Modified": formatdate(found.updated, usegmt=True),
        "x-goog-generation": str(found.generation),
        "x-goog-metageneration": str(found.metageneration),
        "x-goog-hash": f"crc32c={content.crc32c}{md5}",
        "x-goog-storage-class": str(found.fields.get("storageClass", "STANDARD")),
        "x-goog-stored-content-encoding": str(found.fields.get("contentEncoding") or "identity"),
        "x-goog-stored-content-length": str(content.size),
    }
    if content.components is not None:
        headers["x-goog-component-count"] = str(content.components)
    for name, header in _SHOWN.items():
        if found.fields.get(name):
            headers[header] = str(found.fields[name])
    if found.fields.get("kmsKeyName"):
        headers["x-goog-encryption-kms-key-name"] = str(found.fields["kmsKeyName"])
    if xml:
        metadata = found.fields.get("metadata")
        if isinstance(metadata, Mapping):
            headers |= {f"x-goog-meta-{name}": str(value) for name, value in metadata.items()}
    return headers


def ranged(header: str | None, size: int) -> tuple[int, int] | None:
    """Return where a range begins and ends; None for everything.

    Raises:
        Refused: 416, where it begins behind the end.
    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None:
        # No range that can be read is none: RFC 9110, 14.2.
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        if not int(suffix) or not size:
            raise _unsatisfiable()
        return max(0, size - int(suffix)), size
    start, end = int(first), int(last) + 1 if last else size
    if last and end <= start:
        return None
    if start >= size:
        raise _unsatisfiable()
    return start, min(end, size)


def _unsatisfiable() -> Refused:
    return Refused(
        416,
        "requestedRangeNotSatisfiable",
        "The requested range cannot be satisfied.",
        location=("header", "Range"),
    )


def _is_unpacked(request: Request, found: Generation) -> bool:
    return (
        found.fields.get("contentEncoding") == "gzip"
        and "gzip" not in request.headers.get("accept-encoding", "").lower()
        and "no-transform" not in str(found.fields.get("cacheControl", ""))
    )


def _unpacked(content: Content) -> Content:
    try:
        return Content.of(gzip.decompress(content.data()))
    except (OSError, EOFError, zlib.error):
        # It says that it is packed, and is not: the service sends what there is.
        return content
