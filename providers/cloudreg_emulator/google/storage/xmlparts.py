"""Uploads in parts, of the XML API.

Source: https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.sax.saxutils import escape

from cloudreg_emulator.google.http import Response
from cloudreg_emulator.google.storage.call import Call
from cloudreg_emulator.google.storage.content import Content, hashes
from cloudreg_emulator.google.storage.listing import MOST
from cloudreg_emulator.google.storage.media import told
from cloudreg_emulator.google.storage.nouns import Conditions, number, timestamp
from cloudreg_emulator.google.storage.refusals import Refused, invalid, not_emulated
from cloudreg_emulator.google.storage.uploads import MAX_PARTS, Multipart, part_etag
from cloudreg_emulator.google.storage.xmldocument import NAMESPACE, fields_of, kms_key_of, xml


def begin(call: Call) -> Response:
    """Begin an upload in parts."""
    _refuse_conditions(call)
    headers = call.request.headers
    made = call.storage.uploads.begin_parts(
        call.bucket, call.name, fields_of(headers), kms_key=kms_key_of(headers)
    )
    return xml(
        f'<InitiateMultipartUploadResult xmlns="{NAMESPACE}"><Bucket>{escape(call.bucket)}'
        f"</Bucket><Key>{escape(call.name)}</Key><UploadId>{made.id}</UploadId>"
        "</InitiateMultipartUploadResult>"
    )


def part(call: Call) -> Response:
    """Keep a part."""
    _refuse_conditions(call)
    if "x-goog-copy-source" in call.request.headers:
        # The service has no UploadPartCopy: the page above.
        raise Refused(400, "notImplemented", "Parts cannot be copied.", code="NotImplemented")
    upload = _upload(call)
    index = number(call.request, "partNumber")
    if index is None:
        raise invalid("partNumber is missing.")
    content = Content.of(call.request.read())
    headers = call.request.headers
    content.check(**hashes(headers.get("x-goog-hash"), headers.get("content-md5")))
    call.storage.uploads.add_part(upload, index, content)
    return Response(
        headers={
            "ETag": f'"{part_etag(content)}"',
            "x-goog-hash": f"crc32c={content.crc32c},md5={content.md5}",
        },
        length=0,
    )


def complete(call: Call) -> Response:
    """Make the object of its parts."""
    _refuse_conditions(call)
    upload = _upload(call)
    made = call.storage.uploads.complete(upload, _listed(call.request.read()))
    return xml(
        f'<CompleteMultipartUploadResult xmlns="{NAMESPACE}"><Location>{call.url}/'
        f"{escape(call.bucket)}/{escape(call.name)}</Location><Bucket>{escape(call.bucket)}"
        f"</Bucket><Key>{escape(call.name)}</Key><ETag>{escape(made.xml_etag)}</ETag>"
        "</CompleteMultipartUploadResult>",
        **{
            "x-goog-generation": str(made.generation),
            "x-goog-hash": told(made, xml=True)["x-goog-hash"],
        },
    )


def abort(call: Call) -> Response:
    """Give an upload in parts up."""
    call.storage.uploads.abort(_upload(call))
    return Response(status=204)


def parts(call: Call) -> Response:
    """Return a page of the parts of an upload."""
    upload = _upload(call)
    most = number(call.request, "max-parts")
    most = min(MOST if most is None else most, MOST)
    behind = number(call.request, "part-number-marker") or 0
    with call.storage.lock:
        found = [(index, *upload.parts[index]) for index in sorted(upload.parts) if index > behind]
    more = len(found) > most
    shown = "".join(
        f"<Part><PartNumber>{index}</PartNumber><LastModified>{timestamp(at)}</LastModified>"
        f"<ETag>&quot;{part_etag(content)}&quot;</ETag><Size>{content.size}</Size></Part>"
        for index, content, at in found[:most]
    )
    last = found[:most][-1][0] if found[:most] else behind
    return xml(
        f'<ListPartsResult xmlns="{NAMESPACE}"><Bucket>{escape(call.bucket)}</Bucket>'
        f"<Key>{escape(call.name)}</Key><UploadId>{upload.id}</UploadId>"
        f"<PartNumberMarker>{behind}</PartNumberMarker>"
        f"<NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>{most}</MaxParts>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{shown}</ListPartsResult>"
    )


def unfinished(call: Call) -> Response:
    """Return a page of the uploads in parts to a bucket."""
    if call.request.arg("delimiter"):
        raise not_emulated("multipart uploads by delimiter")
    prefix = call.request.arg("prefix") or ""
    most = number(call.request, "max-uploads")
    most = min(MOST if most is None else most, MOST)
    behind = (call.request.arg("key-marker") or "", call.request.arg("upload-id-marker") or "")
    found = [
        one
        for one in call.storage.uploads.unfinished(call.bucket)
        if one.name.startswith(prefix) and _is_behind(one, *behind)
    ]
    more = len(found) > most
    shown = "".join(
        f"<Upload><Key>{escape(one.name)}</Key><UploadId>{one.id}</UploadId>"
        f"<Initiated>{timestamp(one.begun)}</Initiated></Upload>"
        for one in found[:most]
    )
    head = f"<Bucket>{escape(call.bucket)}</Bucket><IsTruncated>{str(more).lower()}</IsTruncated>"
    if more and most:
        last = found[most - 1]
        head += f"<NextKeyMarker>{escape(last.name)}</NextKeyMarker>"
        head += f"<NextUploadIdMarker>{last.id}</NextUploadIdMarker>"
    return xml(
        f'<ListMultipartUploadsResult xmlns="{NAMESPACE}">{head}{shown}'
        "</ListMultipartUploadsResult>"
    )


def _is_behind(one: Multipart, key: str, upload: str) -> bool:
    if not key or one.name > key:
        return True
    return one.name == key and bool(upload) and one.id > upload


def _upload(call: Call) -> Multipart:
    return call.storage.uploads.parts_of(call.request.arg("uploadId") or "", call.bucket, call.name)


def _refuse_conditions(call: Call) -> None:
    """Refuse conditions, which uploads in parts do not have.

    Source: https://cloud.google.com/storage/docs/request-preconditions ("Preconditions cannot be
    used in XML API multipart uploads"); the answer is 400 with the code NotImplemented, see
    https://github.com/apache/opendal/issues/8040
    """
    headers = call.request.headers
    given = "if-match" in headers or "if-none-match" in headers
    if given or Conditions.of_headers(call.request):
        raise Refused(
            400,
            "notImplemented",
            "A header or query you provided requested a function that is not implemented.",
            code="NotImplemented",
        )


def _listed(body: bytes) -> list[tuple[int, str]]:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  expat expands no external entities
        found = [
            # What is missing is no number, and no ETag of any part.
            (int(one.findtext("{*}PartNumber", "")), one.findtext("{*}ETag", ""))
            for one in root.findall("{*}Part")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise Refused(
            400,
            "invalid",
            "The XML you provided was not well-formed or did not validate.",
            code="MalformedCompleteMultipartUploadRequest",
        ) from error
    if len(found) > MAX_PARTS:
        raise invalid("Too many parts.")
    return found
