"""The way in: which API a request is for, what goes wrong on purpose, and batches."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from cloudreg_emulator.faults import Fault, Kind, When
from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage import jsonapi, signing, xmlapi
from cloudreg_emulator.google.storage.call import Call
from cloudreg_emulator.google.storage.jsonuploads import split_parts
from cloudreg_emulator.google.storage.parameters import check
from cloudreg_emulator.google.storage.refusals import Refused, invalid

if TYPE_CHECKING:
    from cloudreg_emulator.google.storage.storage import Storage

SERVICE = "storage"
"""What faults call it."""

BATCH = "/batch/storage/v1"

MOST_IN_BATCH = 1000
"""Calls of one batch; the service says 100 and takes what its own client sends.

Source: https://cloud.google.com/storage/docs/batch
"""

_JSON = ("/storage/v1/", "/upload/", "/resumable/upload/", "/download/storage/v1/")
_LINE = re.compile(rb"([A-Z]+) (\S+)(?: HTTP/1\.[01])?\s*")


def is_json(request: Request) -> bool:
    """Return whether a request is for the JSON API; all others are for the XML API."""
    return request.path.startswith(_JSON) or request.path == BATCH


def handle(storage: Storage, request: Request) -> Response:
    """Answer one request; what is wrong with it is answered too."""
    try:
        if request.path == BATCH:
            return _batch(storage, request)
        return _one(storage, request)
    except Refused as refusal:
        return _worded(request, refusal)


def _one(storage: Storage, request: Request) -> Response:
    json = is_json(request)
    call = jsonapi.call_of(storage, request) if json else xmlapi.call_of(storage, request)
    if not json and signing.is_signed(request):
        signing.check(request, storage.keys, now=storage.clock())

    def act() -> Response:
        try:
            return jsonapi.answer(call) if json else xmlapi.answer(call)
        except Refused as refusal:
            return _worded(request, refusal)

    if not storage.faults.armed:
        return act()
    answer = storage.faults.guarded(
        SERVICE, call.method, act, spoiled=lambda fault: _spoiled(request, call, fault)
    )
    return _harmed(call, answer)


def _worded(request: Request, refusal: Refused) -> Response:
    return refusal.as_json() if is_json(request) else refusal.as_xml()


def _harmed(call: Call, answer: Response) -> Response:
    """Return what a client gets of an object's bytes: not all of them, or others."""
    sends = call.method == "objects.get" and "x-goog-hash" in answer.headers
    if not sends or call.request.method == "HEAD" or not answer.length:
        return answer
    fault = call.storage.faults.strike(SERVICE, call.method, When.BODY)
    if fault is None:
        return answer
    if fault.kind is Kind.TRUNCATED:
        return replace(answer, cut=answer.length // 2)
    data = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
    return replace(answer, body=bytes((data[0] ^ 0xFF,)) + data[1:])


def _spoiled(request: Request, call: Call, fault: Fault) -> Response:
    """Word a fault as Cloud Storage does.

    Source: https://cloud.google.com/storage/docs/json_api/v1/status-codes
    """
    if fault.kind is Kind.THROTTLE:
        return _worded(
            request,
            Refused(
                429,
                "rateLimitExceeded",
                f"The object {call.bucket}/{call.name} exceeded the rate limit for object "
                "mutation operations (create, update, and delete). Please reduce your request "
                "rate.",
                domain="usageLimits",
            ),
        )
    if fault.kind is Kind.EXPIRED:
        return _worded(request, Refused(401, "authError", "Invalid Credentials"))
    if fault.kind is Kind.DENIED:
        message = (
            f"The caller does not have {call.method} access to the Google Cloud Storage object."
        )
        return _worded(request, Refused(403, "forbidden", message))
    if not fault.status:
        return Response(status=0)
    reason = "backendError" if fault.status == 503 else "internalError"
    message = "We encountered an internal error. Please try again."
    return _worded(request, Refused(fault.status, reason, message))


def _batch(storage: Storage, request: Request) -> Response:
    """Answer the calls of a batch, each as if it came alone.

    Source: https://cloud.google.com/storage/docs/batch
    """
    check(request, "batch")
    if request.method != "POST":
        raise Refused(405, "methodNotAllowed", f"{request.method} is not allowed here.")
    parts = split_parts(request.headers.get("content-type", ""), request.read())
    if len(parts) > MOST_IN_BATCH:
        raise invalid(f"The batch request could not be processed: more than {MOST_IN_BATCH} calls.")
    boundary = f"batch_{secrets.token_hex(12)}"
    body = bytearray()
    for headers, content in parts:
        response = handle(storage, _inner(request, content))
        body += f"--{boundary}\r\nContent-Type: application/http\r\n".encode()
        if "content-id" in headers:
            told = headers["content-id"].strip("<>")
            body += f"Content-ID: <response-{told}>\r\n".encode()
        body += b"\r\n" + _written(response) + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    kind = f"multipart/mixed; boundary={boundary}"
    return Response(headers={"Content-Type": kind}, body=bytes(body))


def _inner(request: Request, content: bytes) -> Request:
    line, _, rest = content.lstrip().replace(b"\r\n", b"\n").partition(b"\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise invalid(f"Failed to parse batch request: {line[:80]!r}")
    head, _, body = rest.partition(b"\n\n")
    headers = {}
    for row in head.decode("latin-1").splitlines():
        name, colon, value = row.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    target = re.sub(r"^https?://[^/]+", "", found[2].decode("latin-1"))
    path, _, query = target.partition("?")
    if not path.startswith("/storage/v1/"):
        raise invalid("The batch request could not be processed: only calls of the JSON API.")
    pairs: dict[str, tuple[str, ...]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        pairs[name] = (*pairs.get(name, ()), value)
    body = body.strip()
    return replace(
        request,
        method=found[1].decode(),
        path=path,
        query=pairs,
        headers=headers,
        body=BytesIO(body),
        size=len(body),
    )


def _written(response: Response) -> bytes:
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
    head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    start = f"HTTP/1.1 {response.status} {'OK' if response.status < 300 else 'Refused'}\r\n{head}"
    return f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body
