"""What goes wrong with S3 on purpose, in its own words, and what becomes of bytes on their way.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moto.core.common_types import TYPE_RESPONSE
from moto.core.request import Request

from cloudreg_emulator.aws.world import hang_up
from cloudreg_emulator.faults import Fault, Faults, Kind, When

__all__ = ["garbled", "harmed", "spoiled"]

_REFUSED = {
    Kind.THROTTLE: (503, "SlowDown", "Please reduce your request rate."),
    Kind.EXPIRED: (400, "ExpiredToken", "The provided token has expired."),
    Kind.DENIED: (403, "AccessDenied", "Access Denied"),
}


def spoiled(request: Request, fault: Fault) -> TYPE_RESPONSE:
    """Return what a caller sees of a fault; a closed connection is raised."""
    if fault.kind in _REFUSED:
        status, code, message = _REFUSED[fault.kind]
    elif not fault.status:
        hang_up(request)
    elif fault.status == 503:
        status, code, message = 503, "ServiceUnavailable", "Service is unable to handle request."
    else:
        status, code = fault.status, "InternalError"
        message = "We encountered an internal error. Please try again."
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, {"content-type": "application/xml"}, body.encode()


def harmed(
    request: Request, operation: str, answer: TYPE_RESPONSE, faults: Faults
) -> TYPE_RESPONSE:
    """Return what a client gets of an object's bytes: not all of them, or others."""
    status, headers, body = answer
    content = body.encode() if isinstance(body, str) else body
    if operation != "GetObject" or status not in (200, 206) or not content:
        return answer
    fault = faults.strike("s3", operation, When.BODY)
    if fault is None:
        return answer
    if fault.kind is Kind.GARBLED:
        return status, headers, garbled(content)
    headers = {**headers, "content-length": str(len(content))}
    half = content[: len(content) // 2]
    # The server sends what an iterator yields; moto's type does not say so.
    sent: Any = _broken_off(half) if request.from_wsgi_server else half
    return status, headers, sent


def garbled(content: bytes) -> bytes:
    """Return other bytes than these, as many."""
    return bytes((content[0] ^ 0xFF,)) + content[1:]


def _broken_off(half: bytes) -> Iterator[bytes]:
    yield half
    raise ConnectionResetError("a fault closes the connection")
