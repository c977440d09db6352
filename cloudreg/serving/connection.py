"""One connection: bytes to requests and answers to bytes, in the order in which they came.

httptools parses; what is asked beyond its grammar stands here. A request is answered when its
body is whole, or refused at its head; then the rest of its body is read and dropped, so that the
client gets to read why. Whatever leaves doubt about where the next request begins, such as two
lengths, ends the connection: what one side takes for a body, another takes for a request.

Source: https://www.rfc-editor.org/rfc/rfc9112.html
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, cast

import httptools

from cloudreg.serving.exchange import Exchange
from cloudreg.serving.http import JSON, Answer, Refusal, Stream, start_of

if TYPE_CHECKING:
    from cloudreg.serving.connections import Connections

log = logging.getLogger("cloudreg.serving")

MAX_HEAD = 65536
"""Bytes of a request line and its headers, looked at after each read of up to 256 KiB."""

FRAMING = 8
"""Times its size that a body may take on the wire: chunks of one byte take six."""

MAX_AHEAD = 64
"""Requests that a client may send before it has read an answer."""

REQUEST_S = 60.0
"""Patience with a client that sends its request, or reads its answer, slowly."""

KEEP_ALIVE_S = 620.0
"""Longer than any load balancer keeps an idle connection: the side that closes must be theirs."""

LINGER_S = 2.0
"""For a client to read the last answer; closing at once could take it from the wire again."""

ONCE = (b"content-length", b"transfer-encoding", b"content-encoding", b"content-type", b"host")
"""Headers that two parties could understand differently if they came twice."""

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """What the event loop and the parser call."""

    def __init__(self, door: Connections) -> None:
        """Wait for the first byte."""
        self._door = door
        self._app = door.app
        self._intake = door.intake
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._line: deque[Exchange] = deque()
        self._coming: Exchange | None = None
        self._raw = 0
        self._since = perf_counter()
        self._deaf = self._left = self._lingers = self._paused = self._advancing = False
        self._room: asyncio.Event | None = None
        self._full_since = 0.0
        self._flow: asyncio.Task[None] | None = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part in sweeps and in the server's end."""
        # uvloop's own class, which is none of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._door.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse, which calls the methods below."""
        if self._deaf:
            return
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered as if it had not asked; what follows it is no HTTP.
            self._deaf = True
        except httptools.HttpParserError as error:
            self._end(_why(error))
        else:
            coming = self._coming
            if coming is not None and self._raw > MAX_HEAD + FRAMING * coming.size:
                self._end(Refusal(431, "the headers, or those of the chunks, are too long"))

    def eof_received(self) -> bool:
        """Answer what was asked before the client's side closed; but a stream has no reader."""
        self._deaf = self._left = True
        coming, self._coming = self._coming, None
        if coming is not None and self._line and self._line[-1] is coming:
            # It will never be whole.
            self._drop(self._line.pop())
        if self._line:
            self._line[-1].last = True
        return bool(self._line) and self._flow is None

    def connection_lost(self, _: Exception | None) -> None:
        """Give up what nobody will read."""
        self._deaf = True
        self._coming = None
        self._door.remove(self)
        self._forget()
        if self._flow is not None:
            self._flow.cancel()

    def pause_writing(self) -> None:
        """Stop streams: the client reads more slowly than they come."""
        self._room = asyncio.Event()
        self._full_since = perf_counter()

    def resume_writing(self) -> None:
        """Go on with them."""
        if self._room is not None:
            self._room.set()
            self._room = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._deaf:
            return
        if len(self._line) >= MAX_AHEAD:
            raise Refusal(429, f"wanted at most {MAX_AHEAD} requests ahead of their answers")
        self._coming = exchange = Exchange()
        self._since = exchange.began

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        if self._coming is not None:
            self._coming.head.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those behind a body are nobody's."""
        coming = self._coming
        if coming is None or coming.admitted:
            return
        name = name.lower()
        headers = coming.head.headers
        if name in headers and name in ONCE:
            raise Refusal(400, f"{name.decode()} stands there twice", field=name.decode())
        headers[name] = value

    def on_headers_complete(self) -> None:
        """Decide whether the body is wanted."""
        coming = self._coming
        if coming is None:
            return
        parser, head = self._parser, coming.head
        head.method = parser.get_method()
        coming.admitted = True
        coming.modern = parser.get_http_version() == "1.1"
        keep = coming.modern and parser.should_keep_alive() and not parser.should_upgrade()
        coming.last = not keep
        self._line.append(coming)
        coming.route = self._app.route(head.target)
        try:
            self._frame(coming)
            coming.then = self._app.admit(coming.route, head)
        except Refusal as refusal:
            self._refuse(coming, refusal)
        if coming.refusal is None and coming.expects:
            self._advance()
        if len(self._line) > 1:
            self._pause()

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body, or drop it if there is an answer already."""
        coming = self._coming
        if coming is None:
            return
        coming.size += len(data)
        if coming.refusal is not None:
            return
        try:
            self._intake.take(len(data), of=coming.size)
        except Refusal as refusal:
            self._refuse(coming, refusal)
        else:
            coming.held = coming.size
            coming.parts.append(data)

    def on_message_complete(self) -> None:
        """Answer it, unless another is to be answered first."""
        coming, self._coming = self._coming, None
        self._raw = 0
        if coming is not None:
            coming.whole = True
            self._advance()

    # What the server calls.

    def sweep(self, now: float) -> None:
        """Part with a client that is too slow, or that has been silent for too long."""
        quiet = now - self._since
        if self._room is not None:
            if now - self._full_since > REQUEST_S:
                self._transport.abort()
        elif self._lingers:
            if quiet > LINGER_S:
                self._transport.abort()
        elif self._coming is not None:
            if quiet > REQUEST_S and not self._paused:
                self._end(Refusal(408, f"the request was not complete after {REQUEST_S:g} s"))
        elif not self._line and quiet > KEEP_ALIVE_S:
            self._transport.close()

    def finish(self) -> None:
        """Close, once what has begun is answered."""
        if not self._line and self._coming is None and not self._lingers:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # From here on: the order of answers.

    def _frame(self, coming: Exchange) -> None:
        """Look at how the body's end is told.

        Raises:
            Refusal: The body is not read here, or nobody is sure where it ends.
        """
        headers = coming.head.headers
        if b"content-length" in headers:
            self._intake.announced(headers[b"content-length"])
        if b"transfer-encoding" in headers:
            coding = headers[b"transfer-encoding"]
            if b"content-length" in headers or coding.lower() != b"chunked":
                raise Refusal(
                    400, "wanted Content-Length or chunks, got both or another coding",
                    field="Transfer-Encoding", wanted="chunked", ends=True,
                )  # fmt: skip
        if self._parser.should_upgrade() and headers.get(b"content-length", b"0") != b"0":
            # The parser takes the body for the other protocol's bytes.
            raise Refusal(400, "a request with a body cannot be an upgrade", field="Upgrade")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refusal(415, "compressed bodies are not read here", field="Content-Encoding")
        coming.expects = coming.modern and headers.get(b"expect", b"").lower() == b"100-continue"

    def _refuse(self, coming: Exchange, refusal: Refusal) -> None:
        """Answer without the body, or without the rest of it."""
        coming.refusal = refusal
        self._drop(coming)
        # Who was not told to send the body may send it or not: nobody knows what comes next.
        if refusal.ends or b"expect" in coming.head.headers:
            coming.last = True
        self._advance()

    def _end(self, refusal: Refusal) -> None:
        """Answer what was asked before, then say why there is no more."""
        self._deaf = True
        coming, self._coming = self._coming or Exchange(), None
        if not coming.admitted:
            self._line.append(coming)
        coming.whole = coming.last = True
        if coming.refusal is None:
            coming.refusal = refusal
            self._drop(coming)
        self._advance()

    def _advance(self) -> None:
        """Answer as many as can be answered now, the oldest first."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._line and self._step(self._line[0]):
                pass
        finally:
            self._advancing = False
        if self._paused and len(self._line) < 2:
            self._paused = False
            self._since = perf_counter()
            self._transport.resume_reading()

    def _step(self, first: Exchange) -> bool:
        """Bring the oldest request forward; return whether the next one's turn has come."""
        if not first.started:
            self._start(first)
        if not (first.answered and (first.whole or first.last)):
            return False
        self._line.popleft()
        self._drop(first)
        self._since = perf_counter()
        if first.last or (self._door.closing and not self._line and self._coming is None):
            self._leave(rest=not first.whole)
            return False
        return True

    def _start(self, first: Exchange) -> None:
        if first.refusal is not None:
            first.started = True
            self._reply(first, first.refusal.answer())
        elif first.whole:
            first.started = True
            assert first.then is not None
            first.cancel = self._app.run(first.then, first.body(), partial(self._reply, first))
        elif first.expects:
            first.expects = False
            self._transport.write(CONTINUE)

    def _reply(self, exchange: Exchange, answer: Answer | Stream) -> None:
        """Write an answer; of a stream the beginning."""
        exchange.cancel = None
        if self._door.draining and len(self._line) == 1 and self._coming is None:
            # Whoever comes again opens a new connection, and by then goes elsewhere.
            exchange.last = True
        if isinstance(answer, Stream):
            self._flow = asyncio.ensure_future(self._pour(exchange, answer))
            # Not at the end of that: it may be cancelled before its beginning.
            self._flow.add_done_callback(lambda _: answer.close())
            return
        body, last = answer.body, exchange.last
        if answer.content_type is JSON and answer.status == 200 and not last and not answer.headers:
            start = PLAIN % len(body)
        else:
            own = ((b"content-type", answer.content_type), (b"content-length", b"%d" % len(body)))
            start = start_of(answer.status, own + answer.headers, last=last)
        self._transport.write(start if exchange.head.method == b"HEAD" else start + body)
        self._finish(exchange, answer.status)

    def _finish(self, exchange: Exchange, status: int) -> None:
        exchange.answered = True
        name = exchange.route.name if exchange.route is not None else "none"
        self._door.metrics.request(name, status, perf_counter() - exchange.began)
        self._advance()

    async def _pour(self, exchange: Exchange, stream: Stream) -> None:
        """Send the pieces until they end or the client leaves."""
        chunked, write = exchange.modern, self._transport.write
        kind = (b"content-type", stream.content_type)
        headers = (kind, (b"transfer-encoding", b"chunked")) if chunked else (kind,)
        try:
            write(start_of(200, headers, last=exchange.last))
            async with aclosing(stream.pieces) as pieces:
                async for piece in pieces:
                    write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    if self._room is not None:
                        await self._room.wait()
            if chunked:
                write(b"0\r\n\r\n")
        except Exception:  # a bug of ours: the answer breaks off, and the client can tell
            log.exception("a stream broke off")
            self._transport.abort()
            return
        finally:
            self._flow = None
        self._finish(exchange, 200)

    def _drop(self, exchange: Exchange) -> None:
        """Forget the body, and who is at work on it."""
        if exchange.held:
            self._intake.give(exchange.held)
            exchange.held = 0
            exchange.parts.clear()
        if exchange.cancel is not None:
            exchange.cancel()
            exchange.cancel = None

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _leave(self, *, rest: bool) -> None:
        """Close; where *rest* or more may be on its way, not before the client has read."""
        self._forget()
        self._coming = None
        if self._left or self._transport.is_closing() or not (rest or self._deaf):
            self._transport.close()
        else:
            self._deaf = self._lingers = True
            self._transport.write_eof()

    def _forget(self) -> None:
        for exchange in self._line:
            self._drop(exchange)
        self._line.clear()


def _why(error: httptools.HttpParserError) -> Refusal:
    cause = error.__context__
    if isinstance(cause, Refusal):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        log.error("a request could not be read", exc_info=cause)
        return Refusal(500, "internal error; see the log")
    return Refusal(400, f"this is no HTTP: {error}")
