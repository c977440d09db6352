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

CHUNK = 65536

HTTP_ERRORS = (OSError, http.client.HTTPException)


class Line:
    """The connections to one port of this machine. Thread-safe."""

    def __init__(self, port: int, *, health: str = "/ping") -> None:
        """Open nothing yet."""
        self._port = port
        self._health = health
        self._idle: deque[http.client.HTTPConnection] = deque()

    def ping(self, *, timeout_s: float) -> bool:
        """Return whether the health check is answered with 200 in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
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
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0):
                return True
        except OSError:
            return False

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> Answer:
        """Return the whole answer.

        Raises:
            TimedOut: It took longer than *timeout_s*.
            Broken: The connection ended first.
        """
        began = time.monotonic()
        connection, response = self._begin(path, body, headers, timeout_s=timeout_s)
        pieces: list[bytes] = []
        try:
            while piece := response.read1(CHUNK):
                pieces.append(piece)
                # The socket's own timeout starts again with each byte.
                if time.monotonic() - began > timeout_s:
                    raise TimedOut
            if response.length:
                raise Broken(f"{response.length} bytes of the answer are missing")
        except (*HTTP_ERRORS, FleetError) as error:
            connection.close()
            raise _translated(error) from error
        self._keep(connection, response)
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=b"".join(pieces),
            latency_s=time.monotonic() - began,
        )

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
                raise _translated(error) from error
            finally:
                if whole:
                    self._keep(connection, response)
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
        connection = self._take(timeout_s)
        try:
            connection.request("POST", path, body, dict(headers))
            return connection, connection.getresponse()
        except HTTP_ERRORS as error:
            connection.close()
            raise _translated(error) from error

    def _take(self, timeout_s: float) -> http.client.HTTPConnection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
            # An idle connection with something to read was closed by the other side. To ask
            # first is safe; to send again after an error could run the model twice.
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                connection.sock.settimeout(timeout_s)
                return connection
            connection.close()

    def _keep(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        response.close()
        if connection.sock is not None:
            self._idle.append(connection)


def _translated(error: BaseException) -> FleetError:
    if isinstance(error, FleetError):
        return error
    if isinstance(error, TimeoutError):
        return TimedOut()
    return Broken(str(error) or type(error).__name__)
