"""Connections whose clients are slow, silent or gone; the clock is an argument."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import pytest

from cloudreg.serving import connection as limits
from cloudreg.serving.app import App
from cloudreg.serving.connection import Connection
from cloudreg.serving.connections import Connections
from cloudreg.serving.http import Answer, Cancel, Head, Intake, Reply, Stream, Then
from cloudreg.serving.metrics import Metrics
from cloudreg.serving.options import read

ARGV = ["--model-dir", "x", "--model", "m", "--digest", "sha256:" + "0" * 64]
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ECHO = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


class Slow(App):
    """A server whose `/echo` answers when the test says so."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(read(ARGV, {}), metrics)
        self.replies: list[Reply] = []
        self.cancelled = 0

    def admit(self, route: Any, head: Head) -> Then:
        if head.target == b"/bug":
            raise KeyError("a bug")
        return self._later if head.target == b"/echo" else super().admit(route, head)

    def _later(self, body: bytes, reply: Reply) -> Cancel:
        self.replies.append(reply)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1


class Scene:
    """A listening server, and clients of it."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.app = Slow(self.metrics)
        self.intake = Intake(max_request_bytes=1000)
        self.door = Connections(self.app, self.metrics, self.intake)
        self.made: list[Connection] = []
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    def make(self) -> Connection:
        self.made.append(self.door.make())
        return self.made[-1]

    async def client(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        writer.write(data)
        return reader, writer

    async def end(self) -> None:
        await self.door.close(grace_s=0.0)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def sweep(self, after_s: float) -> None:
        """Look at all connections as if *after_s* had gone by."""
        for one in self.made:
            one.sweep(perf_counter() + after_s)

    async def answered(self, reader: asyncio.StreamReader) -> bytes:
        start = await reader.readuntil(b"\r\n\r\n")
        size = int(start.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return start + await reader.readexactly(size)


def run(play: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        scene = Scene()
        server = await asyncio.get_running_loop().create_server(scene.make, "127.0.0.1", 0)
        scene.port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(20.0):
                await play(scene)
        finally:
            server.close()
            await scene.end()

    asyncio.run(whole())


async def until(ask: Callable[[], Any]) -> None:
    while not ask():
        await asyncio.sleep(0.001)


def test_a_request_that_comes_too_slowly() -> None:
    """Half a head or half a body is refused after its time, not before, and frees its bytes."""

    async def play(scene: Scene) -> None:
        for part in (LIVE[:20], ECHO[:-1]):
            reader, _ = await scene.client(LIVE + part)
            await scene.answered(reader)
            await until(lambda: scene.made[-1]._coming is not None)
            scene.sweep(limits.REQUEST_S - 10)
            assert not reader.at_eof()
            scene.sweep(limits.REQUEST_S + 1)
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
            scene.intake.take(8000, of=1)
            scene.intake.give(8000)

    run(play)


def test_a_slow_model_is_not_the_clients_fault() -> None:
    """Who waits for an answer, with the next request half sent, is not refused for it."""

    async def play(scene: Scene) -> None:
        reader, writer = await scene.client(ECHO + ECHO[:-1])
        await until(lambda: scene.app.replies)
        scene.sweep(limits.KEEP_ALIVE_S + 1)
        scene.app.replies[0](Answer(body=b"1"))
        assert (await scene.answered(reader)).endswith(b"1")
        scene.sweep(limits.REQUEST_S - 10)
        writer.write(b"c")
        await until(lambda: len(scene.app.replies) == 2)
        scene.app.replies[1](Answer(body=b"2"))
        assert (await scene.answered(reader)).endswith(b"2")

    run(play)


def test_a_silent_connection() -> None:
    """An idle connection is kept longer than load balancers do, and then closed."""

    async def play(scene: Scene) -> None:
        for data in (b"", LIVE):
            reader, _ = await scene.client(data)
            if data:
                await scene.answered(reader)
            await until(lambda: scene.made)
            scene.sweep(limits.KEEP_ALIVE_S - 10)
            await asyncio.sleep(0)
            assert not reader.at_eof()
            scene.sweep(limits.KEEP_ALIVE_S + 1)
            assert await reader.read() == b""
            scene.made.clear()

    run(play)


def test_a_client_that_does_not_leave() -> None:
    """After the last answer a client may read it, but not stay."""

    async def play(scene: Scene) -> None:
        reader, _ = await scene.client(b"nonsense\r\n\r\n" + b"x" * 100000)
        assert (await scene.answered(reader)).startswith(b"HTTP/1.1 400")
        assert await reader.read() == b""
        assert scene.door._open
        scene.sweep(limits.LINGER_S + 1)
        await until(lambda: not scene.door._open)

    run(play)


def test_a_client_that_does_not_read() -> None:
    """An answer that is not taken ends the connection after its time."""

    async def play(scene: Scene) -> None:
        await scene.client(ECHO)
        await until(lambda: scene.app.replies)
        scene.app.replies[0](Answer(body=b"x" * 50_000_000))
        await until(lambda: scene.made[0]._room is not None)
        scene.sweep(limits.REQUEST_S - 10)
        assert scene.door._open
        scene.sweep(limits.REQUEST_S + 1)
        await until(lambda: not scene.door._open)

    run(play)


def test_a_client_that_is_gone() -> None:
    """What a lost connection waited for is given up, and its bytes are free."""

    async def play(scene: Scene) -> None:
        _, writer = await scene.client(ECHO + ECHO)
        await until(lambda: len(scene.made[0]._line) == 2 if scene.made else False)
        writer.transport.abort()
        # Reading was paused: only an attempt to write finds out.
        scene.made[0].abort()
        await until(lambda: scene.app.cancelled)
        assert scene.app.cancelled == 1
        scene.intake.take(8000, of=1)
        scene.app.replies[0](Answer(body=b"1"))

    run(play)


def test_a_stream_waits_for_its_reader() -> None:
    """Pieces are taken from a stream as its client reads, and it is closed when he goes."""

    async def play(scene: Scene) -> None:
        taken = 0
        closed = asyncio.Event()

        async def pieces() -> AsyncGenerator[bytes, None]:
            nonlocal taken
            while True:
                taken += 1
                yield b"x" * 100_000

        reader, writer = await scene.client(ECHO)
        await until(lambda: scene.app.replies)
        scene.app.replies[0](Stream(content_type=b"a/b", pieces=pieces(), close=closed.set))
        await until(lambda: scene.made[0]._room is not None)
        before = taken
        for _ in range(20):
            await asyncio.sleep(0)
        assert taken == before
        while taken == before:
            assert await reader.read(100_000)
        writer.transport.abort()
        await closed.wait()

    run(play)


def test_a_bug_at_the_head(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong in a route is the server's fault, said as such and logged."""

    async def play(scene: Scene) -> None:
        reader, _ = await scene.client(LIVE + LIVE.replace(b"/v2/health/live", b"/bug"))
        assert (await scene.answered(reader)).startswith(b"HTTP/1.1 200")
        assert (await scene.answered(reader)).startswith(b"HTTP/1.1 500")
        assert await reader.read() == b""

    run(play)
    assert "a bug" in caplog.text


def test_the_end_of_a_server() -> None:
    """Idle connections are closed at once, the others after their answer, none waits for ever."""

    async def play(scene: Scene) -> None:
        idle, _ = await scene.client(LIVE)
        await scene.answered(idle)
        busy, _ = await scene.client(ECHO)
        await until(lambda: len(scene.app.replies) == 1)
        stuck, _ = await scene.client(ECHO)
        await until(lambda: len(scene.app.replies) == 2)
        ending = asyncio.ensure_future(scene.door.close(grace_s=2.0))
        assert await idle.read() == b""
        assert not ending.done()
        scene.app.replies[0](Answer(body=b"1"))
        answer = await busy.read()
        assert b"connection: close" in answer
        assert answer.endswith(b"1")
        with suppress(ConnectionError):
            assert await stuck.read() == b""
        await ending
        assert scene.app.cancelled == 1

    run(play)
