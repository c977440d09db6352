"""One model server: started, watched, restarted when it crashes, drained before it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from cloudreg_local.devices import Seat
from cloudreg_local.logs import LogFile

STEADY_S = 10.0
"""Who lived that long did not crash at the start."""

QUICK_CRASHES = 3
"""In a row, before a replica is given up for a bad one."""

MAX_BACKOFF_S = 30.0
START_S = 900.0
"""Patience with a server that loads its weights."""

PING_S = 2.0
PING_TIMEOUT_S = 10.0
MISSED_PINGS = 5
DRAIN_S = 60.0
END_S = 15.0
"""From SIGTERM to SIGKILL."""

HOPELESS = {3: "the files are not what was registered", 4: "the model could not be loaded"}
"""Exit codes of the model server after which another start ends in the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a replica.

    Attributes:
        argv: The command with its options.
        env: Added to the supervisor's own environment.
        cwd: Where it starts.
        digest: What it has to say that it serves.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    digest: str


class _Unwell(Exception):
    """The server has to go; the message says why."""


class Replica:
    """A model server process, and its successors after crashes."""

    def __init__(
        self,
        launch: Launch,
        *,
        seat: Seat,
        log: LogFile,
        session: aiohttp.ClientSession,
        changed: Callable[[], None],
    ) -> None:
        """Start it.

        Args:
            launch: How.
            seat: On which device; given back when it has ended.
            log: Where its words go.
            session: For health checks.
            changed: Called when its state changes.
        """
        self.log = log
        self.device = seat.device
        self.ready = False
        self.draining = False
        self.inflight = 0
        self.origin = ""
        self.digest = ""
        self.pid: int | None = None
        self.trouble = ""
        self.given_up = False
        self._launch = launch
        self._seat = seat
        self._session = session
        self._changed = changed
        self._crashes = 0
        self._ending = False
        self._idle = asyncio.Event()
        self._life = asyncio.create_task(self._live())

    def forgive(self) -> None:
        """Give it as many tries again as a new one has."""
        self._crashes = 0
        self.given_up = False

    def release(self) -> None:
        """Count one request less."""
        self.inflight -= 1
        if self.draining and self.inflight == 0:
            self._idle.set()

    async def stop(self, *, drain_s: float = DRAIN_S) -> None:
        """Let open requests end, then the process; the caller sends no more to it."""
        self.draining = True
        self._changed()
        if self.inflight:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), drain_s)
        self._ending = True
        self._life.cancel()
        # Waited for rather than awaited: who cancels this must not take it for the end of that.
        await asyncio.wait({self._life})
        self._seat.release()
        self.log.close()

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ending:
            began = loop.time()
            try:
                reason = await self._once()
            except OSError as error:
                reason = f"cannot start: {error}"
            self.ready = False
            self.pid = None
            if loop.time() - began > STEADY_S:
                self._crashes = 0
            self._crashes += 1
            self.trouble = reason
            self.given_up = self.given_up or self._crashes >= QUICK_CRASHES
            self.log.write(f"cloudreg: the model server ended: {reason}")
            self._changed()
            await asyncio.sleep(min(MAX_BACKOFF_S, 0.1 * 2 ** min(self._crashes, 10)))

    async def _once(self) -> str:
        """Run one process to its end, and return why it ended."""
        process = await asyncio.create_subprocess_exec(
            *self._launch.argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self._launch.cwd,
            env={**os.environ, **self._seat.env, **self._launch.env},
        )
        self.pid = process.pid
        if self.device:
            self.log.write(f"cloudreg: the model server's device is {self.device}")
        assert process.stdout is not None
        assert process.stderr is not None
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        pumps = [
            asyncio.create_task(self._pump(process.stdout, port)),
            asyncio.create_task(self._pump(process.stderr, None)),
        ]
        watch = asyncio.create_task(self._watch(port))
        end = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({watch, end}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done() and not end.done():
                error = watch.exception()
                return str(error) if error else "its health check ended"
            code = await end
            with suppress(TimeoutError):
                # The last words matter most; a grandchild may keep the pipe open.
                await asyncio.wait_for(asyncio.gather(*pumps), 1.0)
            return self._obituary(code)
        finally:
            self.ready = False
            watch.cancel()
            try:
                await self._end(process)
            finally:
                for task in (watch, end, *pumps):
                    task.cancel()
                await asyncio.gather(watch, end, *pumps, return_exceptions=True)

    def _obituary(self, code: int) -> str:
        if code in HOPELESS:
            self.given_up = True
            return HOPELESS[code]
        if code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"

    async def _end(self, process: Process) -> None:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_S)
            except TimeoutError:
                await _kill(process)
            except asyncio.CancelledError:
                # Who cancels while it is ending has no patience left.
                await _kill(process)
                raise
        if process.stdin is not None:
            process.stdin.close()
        self.pid = None

    async def _pump(self, reader: asyncio.StreamReader, port: asyncio.Future[int] | None) -> None:
        rest = b""
        while chunk := await reader.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > 1_000_000:
                lines, rest = [*lines, rest], b""
            for line in lines:
                if port is not None and not port.done():
                    found = _port(line)
                    if found is not None:
                        port.set_result(found)
                        continue
                self.log.write(line.decode(errors="replace").rstrip())
        if rest:
            self.log.write(rest.decode(errors="replace").rstrip())

    async def _watch(self, port: asyncio.Future[int]) -> None:
        """Wait until the server is ready, then until it is not.

        Raises:
            _Unwell: It is not, or serves something else.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(START_S):
                self.origin = f"http://127.0.0.1:{await port}"
                pause = 0.02
                while not await self._ping():
                    await asyncio.sleep(pause)
                    pause = min(0.5, pause * 1.5)
        except TimeoutError:
            raise _Unwell(f"not ready after {START_S:g} s") from None
        try:
            said = await self._identity()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _Unwell(f"it does not say what it serves: {error}") from error
        if said.get("digest") != self._launch.digest:
            self.trouble = f"it serves {said.get('digest')}, {self._launch.digest} was asked for"
            self.given_up = True
            self._changed()  # nobody has to wait for its end to know
            raise _Unwell(self.trouble)
        self.digest = said["digest"]
        self.ready = True
        self.trouble = ""
        self._changed()
        heard = loop.time()
        missed = 0
        while missed < MISSED_PINGS:
            await asyncio.sleep(PING_S)
            missed = 0 if await self._ping() else missed + 1
            heard = loop.time() if not missed else heard
        raise _Unwell(f"no answer to health checks for {loop.time() - heard:.0f} s")

    async def _ping(self) -> bool:
        limit = aiohttp.ClientTimeout(total=PING_TIMEOUT_S)
        try:
            async with self._session.get(f"{self.origin}/ping", timeout=limit) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _identity(self) -> dict[str, Any]:
        limit = aiohttp.ClientTimeout(total=PING_TIMEOUT_S)
        async with self._session.get(f"{self.origin}/cloudreg", timeout=limit) as answer:
            said = await answer.json(content_type=None)
            return said if isinstance(said, dict) else {}


async def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _port(line: bytes) -> int | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if isinstance(said, dict) and said.get("event") == "listening":
        port = said.get("port")
        return port if isinstance(port, int) else None
    return None
