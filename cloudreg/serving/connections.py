"""All connections of a server: what they share, and their end."""

from __future__ import annotations

import asyncio
from time import perf_counter

from cloudreg.serving.app import App
from cloudreg.serving.connection import Connection
from cloudreg.serving.http import Intake
from cloudreg.serving.metrics import Metrics

SWEEP_S = 0.5
"""Between two looks for clients that are too slow."""


class Connections:
    """The open connections.

    Attributes:
        app: Answers their requests.
        metrics: Where these are counted.
        intake: How many bytes they may hold.
        draining: Whether each answer is to be the last of its connection.
        closing: Whether idle connections are closed, and the others once they are idle.
    """

    def __init__(self, app: App, metrics: Metrics, intake: Intake) -> None:
        """Begin with none; must be called on the event loop."""
        self.app = app
        self.metrics = metrics
        self.intake = intake
        self.draining = self.closing = False
        self._open: set[Connection] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._loop = asyncio.get_running_loop()
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def make(self) -> Connection:
        """Return what the event loop talks to for a new connection."""
        return Connection(self)

    def add(self, connection: Connection) -> None:
        """Count *connection* among the open ones."""
        self._open.add(connection)
        self._none.clear()

    def remove(self, connection: Connection) -> None:
        """Count it no more."""
        self._open.discard(connection)
        if not self._open:
            self._none.set()

    async def close(self, *, grace_s: float) -> None:
        """Close all: the idle ones now, the others after their answers or *grace_s*."""
        self.draining = self.closing = True
        for connection in list(self._open):
            connection.finish()
        try:
            async with asyncio.timeout(grace_s):
                await self._none.wait()
        except TimeoutError:
            for connection in list(self._open):
                connection.abort()
        self._sweeper.cancel()

    def _sweep(self) -> None:
        now = perf_counter()
        for connection in list(self._open):
            connection.sweep(now)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
