"""Uploads in the JSON API: media alone, media with metadata, and resumable ones.

Source: https://cloud.google.com/storage/docs/uploads-downloads
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.parser import BytesParser
from typing import Any
from urllib.parse import quote

from cloudreg_emulator.google.http import Response
from cloudreg_emulator.google.storage.call import Call
from cloudreg_emulator.google.storage.content import Content, hashes
from cloudreg_emulator.google.storage.nouns import document, parsed, parsed_document
from cloudreg_emulator.google.storage.refusals import Refused, invalid, required
from cloudreg_emulator.google.storage.uploads import Resumable

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|(\*))/(\d+|\*)")
_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""")


def insert(call: Call) -> Response:
    """Answer by ``uploadType``; with an upload's id the request is about that upload."""
    upload = call.request.arg("upload_id")
    if upload is not None:
        return _resumed(call, upload)
    if call.request.method != "POST":
        raise Refused(405, "methodNotAllowed", "Uploads begin with POST.")
    kind = call.request.arg("uploadType") or call.request.arg("upload_protocol") or ""
    kinds = {"media": _media, "multipart": _multipart, "resumable": _resumable}
    if kind not in kinds:
        raise invalid(f"Invalid uploadType: {kind!r} is none of media, multipart and resumable.")
    return kinds[kind](call)


def _media(call: Call) -> Response:
    name = call.needed("name")
    fields = {"contentType": call.request.headers.get("content-type")}
    return _stored(call, name, call.request.read(), fields, {})


def _multipart(call: Call) -> Response:
    metadata, media, kind = split_related(
        call.request.headers.get("content-type", ""), call.request.read()
    )
    fields = parsed_document(metadata)
    fields.setdefault("contentType", kind)
    return _stored(call, _name(call, fields), media, fields, _told(fields))


def _stored(
    call: Call, name: str, data: bytes, fields: Mapping[str, Any], told: Mapping[str, str]
) -> Response:
    content = Content.of(data)
    content.check(**told)
    content.check(**_hashes(call))
    made = call.storage.objects.insert(
        call.bucket,
        name,
        content,
        {**fields, **_encoding(call)},
        call.conditions,
        kms_key=call.request.arg("kmsKeyName"),
    )
    return call.answer(call.shown(made))


def _resumable(call: Call) -> Response:
    fields = document(call.request)
    headers = call.request.headers
    fields.setdefault("contentType", headers.get("x-upload-content-type"))
    size = headers.get("x-upload-content-length")
    upload = call.storage.uploads.begin(
        call.bucket,
        _name(call, fields),
        {**fields, **_encoding(call)},
        call.conditions,
        checks=_told(fields),
        kms_key=call.request.arg("kmsKeyName"),
        size=None if size is None else parsed(size, "X-Upload-Content-Length"),
    )
    bucket = quote(call.bucket, safe="")
    where = f"{call.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload}"
    return Response(headers={"Location": where, "X-GUploader-UploadID": upload})


def _resumed(call: Call, upload: str) -> Response:
    if call.request.method == "DELETE":
        call.storage.uploads.cancel(upload)
        # The service's own status for it: "Client Closed Request".
        return Response(status=499)
    header = call.request.headers.get("content-range")
    size = call.request.size
    if header is None:
        return _written(call, upload, start=0, total=size)
    found = _RANGE.fullmatch(header)
    if found is None:
        raise invalid(f"Failed to parse Content-Range header: {header!r}")
    first, last, star, total = found.groups()
    known = None if total == "*" else int(total)
    if star:
        if size:
            raise invalid("A status query has no body.")
        status = call.storage.uploads.status(upload)
        if status.made is None and known is not None and known == status.length:
            # The last chunk had an unknown total, and this tells it.
            return _written(call, upload, start=status.length, total=known)
        return _progress(call, upload, status)
    if int(last) - int(first) + 1 != size:
        raise invalid(f"Content-Range {header!r} does not have the {size} bytes of the body.")
    return _written(call, upload, start=int(first), total=known)


def _written(call: Call, upload: str, *, start: int, total: int | None) -> Response:
    found = call.storage.uploads.write(
        upload, call.request.read(), start=start, total=total, checks=_hashes(call)
    )
    return _progress(call, upload, found)


def _progress(call: Call, upload: str, found: Resumable) -> Response:
    if found.made is not None:
        shown = call.shown(found.made, bucket=found.bucket)
        return call.answer(shown, X_GUploader_UploadID=upload)
    headers = {"X-GUploader-UploadID": upload}
    if found.length:
        headers["Range"] = f"bytes=0-{found.length - 1}"
    return Response(status=308, headers=headers)


def _name(call: Call, fields: Mapping[str, Any]) -> str:
    name = call.request.arg("name") or fields.get("name")
    if not isinstance(name, str) or not name:
        raise required("name")
    return name


def _encoding(call: Call) -> dict[str, str]:
    found = call.request.arg("contentEncoding")
    return {} if found is None else {"contentEncoding": found}


def _told(fields: Mapping[str, Any]) -> dict[str, str]:
    names = {"crc32c": "crc32c", "md5Hash": "md5"}
    return {ours: str(fields[name]) for name, ours in names.items() if fields.get(name)}


def _hashes(call: Call) -> dict[str, str]:
    headers = call.request.headers
    return hashes(headers.get("x-goog-hash"), headers.get("content-md5"))


def split_related(kind: str, body: bytes) -> tuple[bytes, bytes, str | None]:
    """Return metadata, media and its type of a ``multipart/related`` body.

    Raises:
        Refused: It does not have exactly these two parts.
    """
    parts = split_parts(kind, body)
    if len(parts) != 2:
        raise invalid(f"Multipart body has {len(parts)} parts, 2 are expected.")
    return parts[0][1], parts[1][1], parts[1][0].get("content-type")


def split_parts(kind: str, body: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Return headers and content of the parts of a multipart body.

    Raises:
        Refused: It is none.
    """
    found = _BOUNDARY.search(kind)
    if found is None:
        raise invalid("Missing multipart boundary in the Content-Type.")
    boundary = b"--" + (found[1] or found[2] or found[3]).encode()
    body = b"\r\n" + body
    newline = b"\r\n" if b"\r\n" + boundary + b"\r\n" in body else b"\n"
    pieces = body.split(newline + boundary)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise invalid("Malformed multipart body.")
    parts = []
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(newline * 2)
        message = BytesParser().parsebytes(head.strip() + b"\r\n\r\n", headersonly=True)
        parts.append(({key.lower(): str(value) for key, value in message.items()}, content))
    return parts
