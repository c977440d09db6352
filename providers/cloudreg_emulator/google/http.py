"""HTTP/1.1 for the emulated Google Cloud: requests in, answers out, connections that are kept.

A handler is a function from `Request` to `Response`. It is called in a thread of the connection,
when the whole request is there: large bodies wait on the disk.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Any
from urllib.parse import parse_qsl, urlsplit

__all__ = ["SPOOLED", "Handler", "HttpServer", "Request", "Response"]

SPOOLED = 16 << 20
"""Bytes of a body above which it waits on the disk."""

_STEP = 1 << 20
_LINE = 64 << 10
_HEADERS = 200
_BODILESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sent, whole.

    Attributes:
        method: In capitals.
        path: As it was sent, percent-encoded: an encoded slash is no slash.
        query: Decoded; a name can come more than once.
        headers: Names in small letters; what came twice is joined by a comma.
        body: At its start; it can be sought.
        size: Of the body, in bytes.
        host: What the client called the server, with the port.
    """

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: IO[bytes] = field(default_factory=BytesIO)
    size: int = 0
    host: str = "localhost"

    def arg(self, name: str) -> str | None:
        """Return the last value of a query parameter; None without any."""
        values = self.query.get(name)
        return values[-1] if values else None

    def read(self) -> bytes:
        """Return the whole body, however often it is asked for."""
        self.body.seek(0)
        return self.body.read()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What the client gets.

    Attributes:
        status: 0 closes the connection without a word.
        headers: ``Content-Length`` is added where it is missing.
        body: Its bytes, or pieces of them.
        length: Of a body in pieces, or of the body that a HEAD tells of. Pieces without it are sent
            as they come, chunked; an exception among them closes the connection.
        cut: Bytes of the body after which the connection is closed; None sends all.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes | memoryview] = b""
    length: int | None = None
    cut: int | None = None


Handler = Callable[[Request], Response]


class _BadRequest(Exception):
    """What was sent is no HTTP/1.1."""


class HttpServer:
    """A server that answers from the moment it is made until it is closed.

    ::

        with HttpServer(handler) as server:
            urlopen(server.url + "/storage/v1/b")
    """

    def __init__(self, handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen and answer.

        Args:
            handler: Answers.
            host: Where to listen.
            port: 0 takes a free one.

        Raises:
            OSError: The port cannot be had.
        """
        self._server = _Server((host, port), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="google-http", daemon=True
        )
        self._thread.start()

    @property
    def host(self) -> str:
        """Where it listens."""
        return str(self._server.server_address[0])

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What clients are pointed at, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening, and end every connection."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: Handler) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.handler = handler
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that are kept: their clients wait for the next answer for ever."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that leaves in the middle is no news.
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            traceback.print_exc(file=sys.stderr)


class _Connection(socketserver.StreamRequestHandler):
    """One connection: request after request."""

    server: _Server
    rbufsize = 256 << 10
    # With Nagle's algorithm, and a client that acknowledges late, an answer in two writes takes
    # 40 ms on a connection that is kept.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError):
            while self._one():
                pass

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def _one(self) -> bool:
        """Answer one request; False ends the connection."""
        line = self.rfile.readline(_LINE)
        while line in (b"\r\n", b"\n"):
            line = self.rfile.readline(_LINE)
        if not line:
            return False
        try:
            request, keeps = self._request(line)
        except _BadRequest as error:
            text = f"{error}\n".encode()
            self._send("GET", Response(status=400, body=text), keeps=False)
            return False
        try:
            try:
                response = self.server.handler(request)
            except Exception as error:  # a bug: one request pays for it, not the server
                traceback.print_exc(file=sys.stderr)
                text = f"the emulator failed: {type(error).__name__}: {error}\n".encode()
                response = Response(status=500, body=text)
        finally:
            request.body.close()
        return self._send(request.method, response, keeps=keeps)

    def _request(self, line: bytes) -> tuple[Request, bool]:
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _BadRequest(f"no request line: {line[:80]!r}")
        method, target, version = words
        headers = self._headers()
        said = headers.get("connection", "").lower()
        keeps = "close" not in said and (version != "HTTP/1.0" or "keep-alive" in said)
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, size = self._body(headers)
        address = urlsplit(target) if "://" in target else None
        host = headers.get("host") or (address.netloc if address else "localhost")
        path, _, query = target.partition("?")
        pairs: dict[str, tuple[str, ...]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            pairs[name] = (*pairs.get(name, ()), value)
        request = Request(
            method=method.upper(),
            path=address.path if address else path,
            query=pairs,
            headers=headers,
            body=body,
            size=size,
            host=host,
        )
        return request, keeps

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(_HEADERS):
            line = self.rfile.readline(_LINE)
            if line in (b"\r\n", b"\n"):
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise _BadRequest(f"no header: {line[:80]!r}")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise _BadRequest("too many headers")

    def _body(self, headers: Mapping[str, str]) -> tuple[IO[bytes], int]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._spooled(self._chunks)
        text = headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit()):
            raise _BadRequest(f"Content-Length: {text[:80]!r} is no number")
        length = int(text)
        if length > SPOOLED:
            return self._spooled(lambda spool: self._copy(length, spool))
        data = self.rfile.read(length) if length else b""
        if len(data) < length:
            raise ConnectionResetError("the client left in the middle of its request")
        return BytesIO(data), length

    def _spooled(self, fill: Callable[[IO[bytes]], None]) -> tuple[IO[bytes], int]:
        spool: IO[bytes] = SpooledTemporaryFile(SPOOLED)  # noqa: SIM115  the request has it
        try:
            fill(spool)
        except BaseException:
            spool.close()
            raise
        length = spool.tell()
        spool.seek(0)
        return spool, length

    def _chunks(self, spool: IO[bytes]) -> None:
        while size := self._chunk_size():
            self._copy(size, spool)
            self.rfile.readline(_LINE)
        # What follows the last chunk are headers.
        self._headers()

    def _chunk_size(self) -> int:
        line = self.rfile.readline(_LINE).partition(b";")[0].strip()
        try:
            return int(line, 16)
        except ValueError as error:
            raise _BadRequest(f"no size of a chunk: {line[:80]!r}") from error

    def _copy(self, size: int, spool: IO[bytes]) -> None:
        while size:
            data = self.rfile.read(min(size, _STEP))
            if not data:
                raise ConnectionResetError("the client left in the middle of its request")
            spool.write(data)
            size -= len(data)

    def _send(self, method: str, response: Response, *, keeps: bool) -> bool:
        if response.status == 0:
            return False
        body, length = response.body, response.length
        if isinstance(body, bytes):
            length = len(body) if length is None else length
            pieces: Iterable[bytes | memoryview] = (body,) if body else ()
        else:
            pieces = body
        if length is None and method != "HEAD":
            return self._send_chunked(response, pieces, keeps=keeps)
        headers = {name.lower(): f"{name}: {value}\r\n" for name, value in response.headers.items()}
        bodiless = response.status in _BODILESS
        if not bodiless:
            headers.setdefault("content-length", f"Content-Length: {length}\r\n")
        if not keeps or response.cut is not None:
            headers["connection"] = "Connection: close\r\n"
        head = f"HTTP/1.1 {response.status} {_phrase(response.status)}\r\n"
        start = (head + "".join(headers.values()) + "\r\n").encode("latin-1", "replace")
        if method == "HEAD" or bodiless:
            pieces = ()
        left = response.cut
        for piece in pieces:
            part = memoryview(piece) if left is None else memoryview(piece)[:left]
            left = None if left is None else left - len(part)
            if start and len(part) <= _LINE:
                # Headers and a short body leave in one packet.
                self.wfile.write(start + part)
            else:
                if start:
                    self.wfile.write(start)
                self.wfile.write(part)
            start = b""
        if start:
            self.wfile.write(start)
        return keeps and response.cut is None

    def _send_chunked(
        self, response: Response, pieces: Iterable[bytes | memoryview], *, keeps: bool
    ) -> bool:
        """Send pieces as they come; who misses the last chunk knows that some are missing."""
        lines = [f"{name}: {value}" for name, value in response.headers.items()]
        lines += ["Transfer-Encoding: chunked", *([] if keeps else ["Connection: close"])]
        head = f"HTTP/1.1 {response.status} {_phrase(response.status)}\r\n"
        start = (head + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        try:
            for piece in pieces:
                if piece:
                    self.wfile.write(start + b"%x\r\n%s\r\n" % (len(piece), bytes(piece)))
                    start = b""
        except ConnectionError:
            raise
        except Exception:
            # The answer has begun: only its end can tell.
            self.wfile.write(start)
            return False
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        self.wfile.write(start + b"0\r\n\r\n")
        return keeps


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
