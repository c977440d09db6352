"""HTTP for the emulator: connections that are kept, and ended when the server ends.

werkzeug's handler waits 10 ms for more input after each answer, and closes every connection, as
it cannot tell where a body ends that nobody read. Here the end is known, so the rest is skipped
and the connection is kept: about three times as many requests a second.
"""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

from cloudreg_emulator.aws.express import Express

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_SKIPPED = 64 << 20
"""Bytes of a body that nobody read, up to which a connection is worth keeping."""

BODILESS = frozenset({204, 304})


class _Body(io.RawIOBase):
    """A request's body, which ends where its length says."""

    def __init__(self, reader: Any, length: int) -> None:
        self._reader = reader
        self.left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)[: self.left]
        count = self._reader.readinto(view) if len(view) else 0
        if len(view) and not count:
            raise ConnectionResetError("the client left in the middle of its request")
        self.left -= count
        return int(count)


class _Again(io.RawIOBase):
    """What was read of a connection already, and then what comes over it."""

    def __init__(self, said: bytes, connection: socket.socket) -> None:
        self._said = memoryview(said)
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._said:
            return self._connection.recv_into(buffer)
        view = memoryview(buffer)[: len(self._said)]
        view[:] = self._said[: len(view)]
        self._said = self._said[len(view) :]
        return len(view)


class Handler(MotoRequestHandler):
    """One connection, quiet and without the delays of small packets."""

    # With Nagle's algorithm, and a client that acknowledges late, an answer in two writes takes
    # 40 ms on a connection that is kept.
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    # Headers and a short body leave in one packet.
    wbufsize = 64 << 10

    def setup(self) -> None:
        """Begin with what was read of the connection already."""
        super().setup()
        assert isinstance(self.server, Server)
        said = self.server.said.pop(self.request, b"")
        if said:
            self.rfile.close()
            self.rfile = io.BufferedReader(_Again(said, self.request), 64 << 10)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: there are thousands."""

    def connection_dropped(
        self, error: BaseException, environ: dict[str, Any] | None = None
    ) -> None:
        """Close the connection: somebody who waits for an answer on it would wait for ever."""
        self.close_connection = True

    def handle_expect_100(self) -> bool:
        """Tell a client that waits before its body to go on: boto3 waits a second."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def run_wsgi(self) -> None:
        """Answer one request, and leave the connection at the beginning of the next."""
        self.environ = environ = self.make_environ()
        body: Any = environ["wsgi.input"]
        if not environ.get("wsgi.input_terminated"):
            body = _Body(self.rfile, int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BufferedReader(body, 64 << 10)
        answer = _Answer(self)
        try:
            answer.run(environ)
            self._skip(body)
            self.wfile.flush()
        except ConnectionError as error:
            self.connection_dropped(error, environ)
        except Exception:  # a bug of ours: one connection pays for it, not the server
            traceback.print_exc(file=sys.stderr)
            self.close_connection = True

    def _skip(self, body: Any) -> None:
        if isinstance(body, _Body):
            if body.left > MAX_SKIPPED:
                self.close_connection = True
                return
            while body.left:
                body.read(1 << 20)
        else:
            while body.read(1 << 20):
                pass

    def finish(self) -> None:
        """Close both ways; a client that is gone already hears no last words."""
        for stream in (self.wfile, self.rfile):
            with suppress(OSError):
                stream.close()


class _Answer:
    """One answer on its way."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._sent = False
        self._chunked = False

    def run(self, environ: dict[str, Any]) -> None:
        pieces: Iterable[bytes] = self._handler.server.app(environ, self._start)
        try:
            for piece in pieces:
                self._write(piece)
                if self._chunked:
                    # A stream is read as it comes.
                    self._handler.wfile.flush()
            self._head()
            if self._chunked:
                self._handler.wfile.write(b"0\r\n\r\n")
        except BaseException:
            # Half an answer must not be taken for a whole one.
            self._handler.close_connection = True
            raise
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self._sent and exc_info:
            raise exc_info[1].with_traceback(exc_info[2])
        self._status, self._headers = status, headers
        return self._write

    def _write(self, data: bytes) -> None:
        self._head()
        if not data:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._handler.wfile.write(data)

    def _head(self) -> None:
        if self._sent:
            return
        self._sent = True
        handler = self._handler
        number, _, words = self._status.partition(" ")
        code = int(number)
        handler.send_response(code, words)
        names = set()
        for name, value in self._headers:
            handler.send_header(name, value)
            names.add(name.lower())
        if "content-length" not in names and handler.command != "HEAD" and code not in BODILESS:
            if handler.request_version >= "HTTP/1.1":
                self._chunked = True
                handler.send_header("Transfer-Encoding", "chunked")
            else:
                handler.close_connection = True
        if handler.close_connection:
            handler.send_header("Connection", "close")
        handler.end_headers()


class Server(ThreadedWSGIServer):
    """A thread for each connection that needs one, and an end that waits for none of them.

    Attributes:
        said: What was read already of connections whose thread begins.
    """

    def __init__(self, *args: Any, watched: Callable[[], bool], **kwargs: Any) -> None:
        """Listen; see werkzeug.

        Args:
            args: Of werkzeug's.
            watched: Returns whether somebody wants to see all requests.
            kwargs: Of werkzeug's.
        """
        self.said: dict[socket.socket, bytes] = {}
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(*args, **kwargs)
        self._express = Express(self._hand_over, watched=watched)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Look at what a connection brings before it gets a thread."""
        self._express.take(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer on a connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._open.discard(request)

    def hang_up(self, *, patience_s: float = 5.0) -> None:
        """End connections that are kept, and wait for the threads behind them."""
        self._express.close()
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with self._guard:
                left = list(self._open)
            if not left:
                return
            for connection in left:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            threading.Event().wait(0.005)

    def _hand_over(self, connection: socket.socket, address: object, said: bytes) -> None:
        with self._guard:
            self._open.add(connection)
        self.said[connection] = said
        super().process_request(connection, address)
