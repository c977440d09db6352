"""AWS's event stream: what a streamed answer is framed in.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html (the frame)
and the shape ``ResponseStream`` of botocore's model (the events).
"""

from __future__ import annotations

import json
import struct
from binascii import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"

STRING = 7
"""The type of a header's value."""


def payload(piece: bytes) -> bytes:
    """Return the event that carries a piece of a container's answer."""
    headers = {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    return _frame(headers, piece)


def model_stream_error(code: str, message: str) -> bytes:
    """Return the exception that ends a stream.

    Args:
        code: ``ModelInvocationTimeExceeded`` or ``StreamBroken``.
        message: For people.
    """
    headers = {
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return _frame(headers, json.dumps({"ErrorCode": code, "Message": message}).encode())


def _frame(headers: dict[str, str], body: bytes) -> bytes:
    packed = b"".join(
        struct.pack("!B", len(name))
        + name.encode()
        + struct.pack("!BH", STRING, len(value))
        + value.encode()
        for name, value in headers.items()
    )
    # Total length, length of the headers, and a checksum of both: 12 bytes; 4 more at the end.
    prelude = struct.pack("!II", 16 + len(packed) + len(body), len(packed))
    begin = prelude + struct.pack("!I", crc32(prelude)) + packed + body
    return begin + struct.pack("!I", crc32(begin))
