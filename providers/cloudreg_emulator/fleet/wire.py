"""HTTP to one instance over connections that are kept."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress

from cloudreg_emulator.fleet.launch import Answer, Broken, FleetError, TimedOut
from cloudreg_emulator.fleet.reading import Reader

CHUNK = 65536

HTTP_ERRORS = (OSError, http.client.HTTPException)


class Line:
    """The connections to one port of this machine. Thread-safe."""

    def __init__(self, port: int, *, health: str = "/ping") -> None:
        """Open nothing yet."""
        self.port = port
        self._health = health
        self._idle: deque[socket.socket] = deque()

    def ping(self, *, timeout_s: float) -> bool:
        """Return whether the health check is answered with 200 in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", self._health)
            answer = connection.getresponse()
            answer.read()
        except HTTP_ERRORS:
            return False
        else:
            return answer.status == 200
        finally:
            connection.close()

    def listens(self) -> bool:
        """Return whether connections are accepted."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False

    def head(self, path: str, length: int, headers: Mapping[str, str]) -> bytes:
        """Return what stands before a request's body.

        Raises:
            ValueError: A value would begin another header.
        """
        said = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if said.count("\n") != len(headers) or said.count("\r") != len(headers):
            raise ValueError(f"a header has a line end in it: {said!r}")
        # http.client, of which this takes the place, cannot unpack anything either.
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Accept-Encoding: identity\r\nContent-Length: {length}\r\n{said}\r\n"
        ).encode("latin-1")

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> Answer:
        """Return the whole answer.

        Raises:
            TimedOut: It took longer than *timeout_s*.
            Broken: The connection ended first.
        """
        began = time.monotonic()
        head = self.head(path, len(body), headers)
        reader = Reader()
        connection = None
        try:
            connection = self._take(timeout_s)
            # One packet, where that is no copy of much.
            for piece in (head + body,) if len(body) < CHUNK else (head, body):
                connection.sendall(piece)
            while not reader.is_whole:
                left = began + timeout_s - time.monotonic()
                if left <= 0:
                    raise TimedOut
                connection.settimeout(left)
                reader.feed(connection.recv(CHUNK))
        except (OSError, FleetError) as error:
            if connection is not None:
                connection.close()
            raise translated(error) from error
        if reader.keeps:
            self._idle.append(connection)
        else:
            connection.close()
        return reader.answer(began)

    def stream(
        self, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, dict[str, str], Iterator[bytes]]:
        """Return status, headers, and the pieces as they come.

        Raises:
            TimedOut: No answer began, or no piece came, for *timeout_s*; also while iterating.
            Broken: The connection ended first; also while iterating.
        """
        connection, response = self._begin(path, body, headers, timeout_s=timeout_s)

        def pieces() -> Iterator[bytes]:
            whole = False
            try:
                while piece := response.read1(CHUNK):
                    yield piece
                if response.length:
                    raise Broken(f"{response.length} bytes of the answer are missing")
                whole = True
            except HTTP_ERRORS as error:
                raise translated(error) from error
            finally:
                response.close()
                if whole and connection.sock is not None:
                    self._idle.append(connection.sock)
                else:
                    connection.close()

        said = {name.lower(): value for name, value in response.getheaders()}
        return response.status, said, pieces()

    def close(self) -> None:
        """Let go of idle connections."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _begin(
        self, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.sock = self._take(timeout_s)
            connection.request("POST", path, body, dict(headers))
            return connection, connection.getresponse()
        except HTTP_ERRORS as error:
            connection.close()
            raise translated(error) from error

    def _take(self, timeout_s: float) -> socket.socket:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if is_quiet(connection):
                connection.settimeout(timeout_s)
                return connection
            connection.close()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def is_quiet(connection: socket.socket) -> bool:
    """Return whether there is nothing to read on an idle connection.

    One with something to read was closed by the other side. To ask first is safe; to send again
    after an error could run the model twice.
    """
    # Not select.select: it knows no numbers from 1024 on.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)


def translated(error: BaseException) -> FleetError:
    """Return what a caller is told of *error*."""
    if isinstance(error, FleetError):
        return error
    if isinstance(error, TimeoutError):
        return TimedOut()
    return Broken(str(error) or type(error).__name__)
