"""Answers that come piece by piece: from the device's thread to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from cloudreg.serving.checks import Tensors

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

    async def read(self) -> AsyncIterator[Tensors]:
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
