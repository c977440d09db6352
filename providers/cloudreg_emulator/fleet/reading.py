"""An answer's bytes, read as they come, whoever brings them.

Source: https://www.rfc-editor.org/rfc/rfc9112.html
"""

from __future__ import annotations

import re
import time

from cloudreg_emulator.fleet.launch import Answer, Broken

MOST_HEAD = 64 << 10
"""Bytes of status line and headers."""

_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\n]*)?")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_BODILESS = frozenset({204, 304})


class Reader:
    """One answer over HTTP/1.1.

    Attributes:
        is_whole: Whether all of it was read.
        keeps: Whether the connection takes another request then.
    """

    __slots__ = (
        "_body", "_chunked", "_headers", "_held", "_left", "_status", "_trailing", "is_whole",
        "keeps",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with nothing read."""
        self.is_whole = False
        self.keeps = False
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._held = b""
        # Of the body, or of a chunk; None: up to the end of the connection.
        self._left: int | None = None
        self._chunked = False
        self._trailing = False

    def feed(self, data: bytes) -> None:
        """Take what came; nothing at all is the end of the connection.

        Raises:
            Broken: The answer ends early, or is none.
        """
        if not data:
            self._ended()
            return
        while not self._status:
            data = self._held + data
            end = _END.search(data)
            if end is None:
                if len(data) > MOST_HEAD:
                    raise Broken(f"{len(data)} bytes, and no end of the headers")
                self._held = data
                return
            self._held = b""
            self._read_head(data[: end.start()].decode("latin-1"))
            data = data[end.end() :]
        if self._chunked:
            self._read_chunks(data)
        else:
            self._read(data)

    def answer(self, began: float) -> Answer:
        """Return the whole answer to a request that was begun at *began*."""
        return Answer(
            status=self._status,
            headers=self._headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            latency_s=time.monotonic() - began,
        )

    def _ended(self) -> None:
        if not self._status:
            raise Broken("the connection was closed without an answer")
        if self._chunked:
            raise Broken("the last chunk of the answer is missing")
        if self._left:
            raise Broken(f"{self._left} bytes of the answer are missing")
        self.is_whole = True

    def _read_head(self, head: str) -> None:
        first, *lines = head.split("\n")
        status = _STATUS.fullmatch(first.rstrip("\r"))
        if status is None:
            raise Broken(f"no HTTP: {first[:80]!r}")
        if status[2][0] == "1":
            # What is said before the answer; a head of its own follows.
            return
        said = self._headers
        name = ""
        for line in lines:
            if line[:1] in (" ", "\t") and name:
                said[name] += f" {line.strip()}"
                continue
            name, _, value = line.partition(":")
            name = name.strip().lower()
            said[name] = value.strip()
        self._status = int(status[2])
        self.keeps = status[1] == "1" and said.get("connection", "").lower() != "close"
        self._measure()

    def _measure(self) -> None:
        """Find out where the body ends."""
        length = self._headers.get("content-length")
        if self._status in _BODILESS:
            self._left = 0
        elif "chunked" in self._headers.get("transfer-encoding", "").lower():
            self._chunked, self._left = True, 0
        elif length is None:
            self.keeps = False
        elif length.isascii() and length.isdecimal():
            self._left = int(length)
        else:
            raise Broken(f"Content-Length: {length[:80]!r}")

    def _read(self, data: bytes) -> None:
        if self._left is None:
            self._body.append(data)
            return
        if len(data) > self._left:
            # What nobody asked for: the next answer would begin with it.
            data, self.keeps = data[: self._left], False
        if data:
            self._body.append(data)
            self._left -= len(data)
        self.is_whole = not self._left

    def _read_chunks(self, data: bytes) -> None:
        data = self._held + data
        while data and not self.is_whole:
            if self._left:
                piece = data[: self._left]
                self._body.append(piece)
                self._left -= len(piece)
                data = data[len(piece) :]
                continue
            line, end, rest = data.partition(b"\n")
            if not end:
                if len(data) > MOST_HEAD:
                    raise Broken("a chunk without a size")
                break
            data = rest
            self._read_line(line.rstrip(b"\r"))
        self._held = data
        if self.is_whole and data:
            self.keeps = False

    def _read_line(self, line: bytes) -> None:
        """Read a line between chunks; an empty one ends a chunk, or the trailers."""
        if self._trailing:
            self.is_whole = not line
        elif line:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise Broken(f"the size of a chunk: {line[:80]!r}")
            self._left = int(size[1], 16)
            self._trailing = not self._left
