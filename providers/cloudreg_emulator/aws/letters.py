"""The head of a request that `express` may carry itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

MOST_HEAD = 32 << 10
MOST_BODY = 1 << 20
"""Bytes; whoever sends more gets a thread."""

_BEGIN = b"POST /endpoints/"
_FIRST = re.compile(r"POST /endpoints/([A-Za-z0-9-]+)/invocations HTTP/1\.1")
_HEADER = re.compile(r"^([A-Za-z0-9-]+):[ \t]*([^\r\n]*)\r\n", re.MULTILINE)

_NOT_PLAIN = frozenset({"transfer-encoding", "expect", "origin", "x-moto-account-id", "upgrade"})
"""Bodies of unknown length, clients that wait before their body, and what moto answers itself."""


class NotPlain(Exception):
    """A request, or what it asks for, is for a thread."""


class Letter:
    """Where a request goes, what its headers say, and where its body is.

    Attributes:
        endpoint: Its name.
        start: Where its body begins, in what came.
        end: Where its body ends.
    """

    __slots__ = ("_headers", "end", "endpoint", "start")

    def __init__(self, endpoint: str, headers: Mapping[str, str], start: int, end: int) -> None:
        """Keep the parts; *headers* have names in small letters."""
        self.endpoint = endpoint
        self.start = start
        self.end = end
        self._headers = headers

    def get(self, name: str) -> str | None:
        """Return the value of a header, if it was sent."""
        return self._headers.get(name.lower())


def letter(came: bytes) -> Letter | None:
    """Return the request that *came* begins with; None where its head is not whole yet.

    Raises:
        NotPlain: It is another kind of request, or not as clients of today write one.
    """
    if not came.startswith(_BEGIN[: len(came)]):
        raise NotPlain
    end = came.find(b"\r\n\r\n", 0, MOST_HEAD)
    if end < 0:
        if len(came) >= MOST_HEAD:
            raise NotPlain
        return None
    head = came[: end + 2].decode("latin-1")
    first, _, rest = head.partition("\r\n")
    path = _FIRST.fullmatch(first)
    if path is None:
        raise NotPlain
    found = _HEADER.findall(rest)
    headers = {name.lower(): value.rstrip(" \t") for name, value in found}
    # A line of another form, or a header that comes twice.
    if not len(headers) == len(found) == rest.count("\n"):
        raise NotPlain
    if not _NOT_PLAIN.isdisjoint(headers):
        raise NotPlain
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        raise NotPlain
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal() and int(length) <= MOST_BODY):
        raise NotPlain
    start = end + 4
    return Letter(path[1], headers, start, start + int(length))
