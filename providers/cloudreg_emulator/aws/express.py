"""Predictions without a thread for each connection: one loop for all, up to the container and back.

A prediction is little work and much waiting. Threads that wait for one another's turn in the
interpreter take four times as long for it. So a loop reads what comes over new connections,
and carries the plainest requests itself: whole and short ones to `/endpoints/NAME/invocations`,
of which nothing is copied, captured, queued, watched or made to fail. With the first other request
a connection gets a thread of its own, and everything is there that was read of it.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http.client import responses
from weakref import WeakKeyDictionary

from cloudreg_emulator.aws import world
from cloudreg_emulator.aws.letters import Letter, NotPlain, letter
from cloudreg_emulator.aws.runtime import front
from cloudreg_emulator.aws.runtime.answering import arrived
from cloudreg_emulator.aws.runtime.errors import Refused, Response
from cloudreg_emulator.aws.runtime.invocation import read
from cloudreg_emulator.aws.runtime.models import Flight, RuntimeBackend
from cloudreg_emulator.fleet import Broken, FleetError, TimedOut
from cloudreg_emulator.fleet.launch import Answer
from cloudreg_emulator.fleet.reading import Reader
from cloudreg_emulator.fleet.wire import Line, is_quiet, translated

_STEP = 256 << 10
_MOST_AHEAD = 2 << 20
"""Bytes that a client may send before it has its answer."""

_TICK_S = 0.05
"""How late it is found that a container took too long."""

HandOver = Callable[[socket.socket, object, bytes], None]


class _End:
    """One end of the loop: a socket, and what waits to be sent there."""

    __slots__ = ("events", "rest", "socket")

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.rest = b""
        self.events = selectors.EVENT_READ


class _Client(_End):
    __slots__ = ("address", "busy", "came", "ended", "letter")

    def __init__(self, connection: socket.socket, address: object) -> None:
        super().__init__(connection)
        self.address = address
        self.came = b""
        self.letter: Letter | None = None
        self.busy = False
        self.ended = False


class _Container(_End):
    __slots__ = ("backend", "client", "deadline", "flight", "line", "reader")

    def __init__(self, connection: socket.socket, line: Line) -> None:
        super().__init__(connection)
        self.line = line
        self.flight: Flight | None = None
        self.backend: RuntimeBackend | None = None
        self.client: _Client | None = None
        self.reader = Reader()
        self.deadline = 0.0


class Express:
    """The loop, and its thread."""

    def __init__(self, hand_over: HandOver, *, watched: Callable[[], bool]) -> None:
        """Begin without a connection.

        Args:
            hand_over: Takes connections that need a thread: socket, address, what was read.
            watched: Returns whether somebody wants to see all requests.
        """
        self._hand_over = hand_over
        self._watched = watched
        self._selector = selectors.DefaultSelector()
        self._new: deque[tuple[socket.socket, object]] = deque()
        self._idle: WeakKeyDictionary[Line, list[_Container]] = WeakKeyDictionary()
        self._flying: set[_Container] = set()
        self._looked = 0.0
        self._date = (0, b"")
        self._closing = False
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="express", daemon=True)
        self._thread.start()

    def take(self, connection: socket.socket, address: object) -> None:
        """Read what comes over a new connection."""
        self._new.append((connection, address))
        self._ringer.send(b".")

    def close(self) -> None:
        """End all connections; requests that are under way are given up."""
        self._closing = True
        self._ringer.send(b".")
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            for key, events in self._selector.select(_TICK_S if self._flying else None):
                end = key.data
                try:
                    if end is None:
                        self._welcome()
                    elif key.fd == end.socket.fileno():  # else closed by what came before it
                        self._act(end, events)
                except Exception:  # a bug of ours: one connection pays for it, not all
                    traceback.print_exc(file=sys.stderr)
                    self._drop(end)
            if self._flying and time.monotonic() > self._looked + _TICK_S:
                self._look()
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._drop(key.data)
        for connection, _ in self._new:
            connection.close()
        self._selector.close()
        self._bell.close()
        self._ringer.close()

    def _welcome(self) -> None:
        self._bell.recv(4096)
        while self._new:
            client = _Client(*self._new.popleft())
            with suppress(OSError):
                client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(client.socket, client.events, client)

    def _act(self, end: _Client | _Container, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._send(end, b"")
            data = end.socket.recv(_STEP) if events & selectors.EVENT_READ else None
        except BlockingIOError:
            return
        except OSError as error:
            if isinstance(end, _Container):
                self._lost(end, translated(error))
            else:
                self._drop(end)
            return
        if data is None:
            if isinstance(end, _Client):
                self._rest(end)
        elif isinstance(end, _Container):
            self._fed(end, data)
        else:
            self._heard(end, data)

    def _heard(self, client: _Client, data: bytes) -> None:
        if not data:
            # It may still read: half a connection is closed.
            client.ended = True
            if not client.busy and not client.rest:
                self._drop(client)
            else:
                self._listen(client, reads=False)
            return
        client.came = client.came + data if client.came else data
        if not client.busy and not client.rest:
            self._begin(client)
        elif len(client.came) > _MOST_AHEAD:
            self._listen(client, reads=False)

    def _begin(self, client: _Client) -> None:
        """Let the next request of a client go, if it is there."""
        try:
            asked = client.letter = client.letter or letter(client.came)
            if asked is None or len(client.came) < asked.end:
                return
            gone = self._departed(asked, client.came[asked.start : asked.end])
        except (NotPlain, Refused):
            # What is to be refused is refused in the thread, in the same words.
            self._to_thread(client)
            return
        if gone is None:
            self._to_thread(client)
            return
        client.came = client.came[asked.end :]
        client.letter, client.busy = None, True
        self._fly(client, *gone)

    def _to_thread(self, client: _Client) -> None:
        client.busy = True  # with somebody else, from now on
        if client.events:
            self._selector.unregister(client.socket)
        client.socket.setblocking(True)
        self._hand_over(client.socket, client.address, client.came)

    def _departed(self, asked: Letter, body: bytes) -> tuple[RuntimeBackend, Flight] | None:
        """Return the way of a request; None where a thread has to find it."""
        if self._watched() or world.current().faults.armed:
            return None
        backend = front.backend_of(asked.get("Authorization") or "")
        if backend is None:
            return None
        flight = backend.departed(read("InvokeEndpoint", asked.endpoint, asked, body))
        return None if flight is None else (backend, flight)

    def _fly(self, client: _Client, backend: RuntimeBackend, flight: Flight) -> None:
        container: _Container | None = None
        try:
            container = self._container(flight.line)
            container.client, container.flight, container.backend = client, flight, backend
            container.reader = Reader()
            container.deadline = flight.began + world.current().invoke_timeout_s
            self._flying.add(container)
            asked = flight.asked
            path = flight.route.group.launch.contract.predict
            head = flight.line.head(path, len(asked.body), asked.headers)
            self._send(container, head + asked.body)
        except OSError as error:
            if container is not None:
                self._lost(container, translated(error))
            else:
                self._answer(client, arrived(backend, flight, translated(error)))

    def _container(self, line: Line) -> _Container:
        """Return a connection to a container that nobody uses."""
        idle = self._idle.setdefault(line, [])
        while idle:
            found = idle.pop()
            if is_quiet(found.socket):
                return found
            self._drop(found)
        connection = socket.socket()
        try:
            container = _Container(connection, line)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # It goes on by itself; what is sent meanwhile waits.
            with suppress(BlockingIOError):
                connection.connect(("127.0.0.1", line.port))
        except BaseException:
            connection.close()
            raise
        self._selector.register(connection, container.events, container)
        return container

    def _fed(self, container: _Container, data: bytes) -> None:
        if container.flight is None:
            # An idle connection has nothing to say but that it ends.
            self._drop(container)
            return
        try:
            container.reader.feed(data)
        except FleetError as error:
            self._lost(container, error)
            return
        if container.reader.is_whole:
            self._landed(container, container.reader.answer(container.flight.began))

    def _lost(self, container: _Container, error: FleetError) -> None:
        self._landed(container, error)

    def _landed(self, container: _Container, outcome: Answer | FleetError) -> None:
        client, flight, backend = container.client, container.flight, container.backend
        container.client = container.flight = container.backend = None
        self._flying.discard(container)
        if isinstance(outcome, FleetError) or not container.reader.keeps or container.rest:
            self._drop(container)
        else:
            self._idle.setdefault(container.line, []).append(container)
        if client is None or flight is None or backend is None:
            return
        try:
            response = arrived(backend, flight, outcome)
        except BaseException:
            self._drop(client)
            raise
        self._answer(client, response)

    def _answer(self, client: _Client, response: Response | None) -> None:
        client.busy = False
        if response is None:
            self._drop(client)
            return
        if client.socket.fileno() < 0:
            return  # it did not wait
        try:
            self._send(client, self._spelled(response))
        except OSError:
            self._drop(client)
        else:
            self._rest(client)

    def _rest(self, client: _Client) -> None:
        """Go on with a client that has its answer."""
        if client.busy or client.rest:
            return
        if client.came:
            self._listen(client, reads=not client.ended)
            self._begin(client)
            if client.ended and not client.busy:
                self._drop(client)  # half a request
        elif client.ended:
            self._drop(client)

    def _spelled(self, response: Response) -> bytes:
        status, headers, body = response
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        said = f"HTTP/1.1 {status} {responses.get(status, 'Refused')}\r\n{lines}"
        return b"%bDate: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            said.encode("latin-1"), self._date[1], len(body), body
        )  # fmt: skip

    def _send(self, end: _Client | _Container, data: bytes) -> None:
        data = end.rest + data if end.rest else data
        try:
            sent = end.socket.send(data)
        except BlockingIOError:
            sent = 0
        end.rest = data[sent:]
        if end.rest or end.events & selectors.EVENT_WRITE:
            self._listen(end, reads=bool(end.events & selectors.EVENT_READ))

    def _listen(self, end: _Client | _Container, *, reads: bool) -> None:
        """Wait for what an end can do next."""
        events = selectors.EVENT_READ if reads else 0
        if end.rest:
            events |= selectors.EVENT_WRITE
        if events == end.events:
            return
        # A selector knows no end that waits for nothing.
        if not events:
            self._selector.unregister(end.socket)
        elif not end.events:
            self._selector.register(end.socket, events, end)
        else:
            self._selector.modify(end.socket, events, end)
        end.events = events

    def _look(self) -> None:
        """Give up what takes too long."""
        self._looked = now = time.monotonic()
        for container in [one for one in self._flying if now > one.deadline]:
            self._lost(container, TimedOut())

    def _drop(self, end: _Client | _Container) -> None:
        """Close one end; a request of which it was part is lost."""
        if end.socket.fileno() >= 0:
            if end.events:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(end.socket)
            end.socket.close()
        if isinstance(end, _Container):
            with suppress(ValueError, KeyError):
                self._idle[end.line].remove(end)
            if end.flight is not None:
                self._lost(end, Broken("the connection was given up"))
