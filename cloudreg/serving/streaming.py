"""Answers that come piece by piece: from the device's thread to the event loop, and as lines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson

from cloudreg.serving import instances
from cloudreg.serving.checks import ModelFault, Tensors
from cloudreg.serving.http import Refusal, Stream

LINES = "application/jsonlines"
EVENTS = "text/event-stream"

AHEAD = 64
"""Pieces that may wait for a slow client before the device waits too."""


class SlowClient(Exception):
    """The client takes the pieces so slowly that others would wait for it for ever."""


class Pipe:
    """One stream; the device's thread writes, the event loop reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, timeout_s: float) -> None:
        """Let each side wait for the other *timeout_s* at most."""
        self.closed = False
        self._loop = loop
        self._timeout_s = timeout_s
        self._room = threading.Semaphore(AHEAD)
        self._pieces: asyncio.Queue[Tensors | Exception | None] = asyncio.Queue()

    def write(self, piece: Tensors) -> None:
        """Hand over one piece; called on the device's thread.

        Raises:
            SlowClient: There was no room in time.
        """
        if not self._room.acquire(timeout=self._timeout_s):
            raise SlowClient("the client does not read the stream")
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    def end(self, error: Exception | None = None) -> None:
        """Say that no more comes, and why if it is not the end; called on the event loop."""
        self._pieces.put_nowait(error)

    def close(self) -> None:
        """Say that nobody reads any more."""
        self.closed = True
        self._room.release()

    async def read(self) -> AsyncGenerator[Tensors, None]:
        """Yield the pieces.

        Raises:
            TimeoutError: The next one did not come in time.
            Exception: What the model raised.
        """
        while True:
            async with asyncio.timeout(self._timeout_s):
                piece = await self._pieces.get()
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            self._room.release()
            yield piece


async def begin(kind: str, pipe: Pipe) -> Stream:
    """Return the stream once its first piece is there: until then an error has its own status.

    Raises:
        Refusal: The first piece did not come in time.
        Exception: What the model raised before it.
    """
    source = pipe.read()
    try:
        first = await anext(source, None)
    except TimeoutError:
        pipe.close()
        raise Refusal(504, "no first piece in time") from None

    async def pieces() -> AsyncGenerator[bytes, None]:
        async with aclosing(source):
            try:
                if first is not None:
                    yield _line(kind, instances.encode(first))
                    async for outputs in source:
                        yield _line(kind, instances.encode(outputs))
            except (ModelFault, TimeoutError) as error:
                # The status is sent: the last line is the only place left to say it.
                said = str(error) or "no next piece in time"
                yield _line(kind, orjson.dumps({"error": said}), event="error")

    return Stream(content_type=kind.encode(), pieces=pieces(), close=pipe.close)


def _line(kind: str, data: bytes, event: str | None = None) -> bytes:
    if kind == EVENTS:
        return (f"event: {event}\n".encode() if event else b"") + b"data: " + data + b"\n\n"
    return data + b"\n"
