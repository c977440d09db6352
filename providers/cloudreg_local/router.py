"""One address for an endpoint: each request goes to a replica of the variant whose turn it is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from cloudreg_local import scraping, wire
from cloudreg_local.pool import Pool
from cloudreg_local.replica import Replica
from cloudreg_local.window import Window
from cloudreg_local.wire import DIGEST_HEADER, ERROR_HEADER, VARIANT_HEADER

REPLAYABLE = 8 * 1024 * 1024
"""Bytes of a request that are kept, so that another replica can get them too."""

HELD = 1024 * 1024
"""Bytes of an answer that is passed on once it is whole: until then another replica can give it."""

MAX_BROKEN = 2
"""Replicas that one request may break: the third shall live."""

MAX_WAITING = 100
"""Requests that wait for the first replica of a variant that was scaled to zero."""

HOLD_S = 300.0
"""How long they wait."""

HOP_BY_HOP = frozenset(
    {
        "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that speak of one connection: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1"""


@dataclass(slots=True, kw_only=True, eq=False)
class Route:
    """A variant as the router sees it.

    Attributes:
        name: The variant's.
        digest: Of the version.
        weight: Percent of the traffic.
        pool: Who answers.
        window: What it answered lately.
        credit: Of the smooth weighted round robin.
    """

    name: str
    digest: str
    weight: int
    pool: Pool
    window: Window
    credit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All routes; replaced as a whole, so that weights change between two requests."""

    routes: tuple[Route, ...] = ()

    def route(self, name: str) -> Route | None:
        """Return the route of a variant."""
        return next((route for route in self.routes if route.name == name), None)

    def turn(self, able: Callable[[Route], bool]) -> Route | None:
        """Return the route whose turn it is, among those that are *able*.

        Smooth weighted round robin: in any hundred requests each gets its percent, evenly
        spread (https://github.com/phusion/nginx/commit/27e94984486058d73157038f7950a0a36ecc6e35).
        """
        taking = [route for route in self.routes if route.weight and able(route)]
        if not taking:
            return None
        for route in taking:
            route.credit += route.weight
        best = max(taking, key=lambda route: route.credit)
        best.credit -= sum(route.weight for route in taking)
        return best


def pick(pool: Pool, avoid: Sequence[Replica] = ()) -> Replica | None:
    """Return the ready replica with the fewest requests in flight."""
    able = [replica for replica in pool.ready if replica not in avoid]
    return min(able, key=lambda replica: replica.inflight, default=None)


@dataclass(slots=True, kw_only=True)
class _Request:
    """A request on its way.

    Attributes:
        request: As it came in.
        headers: What is passed on.
        body: Its first bytes, all of them where *rest* is None.
        rest: What was not read yet.
        avoid: Replicas that did not answer.
        broken: How many of them had got the request.
        spent: Whether *rest* was begun: then there is no second try.
    """

    request: web.BaseRequest
    headers: CIMultiDict[str]
    body: bytes
    rest: aiohttp.StreamReader | None
    avoid: list[Replica] = field(default_factory=list)
    broken: int = 0
    spent: bool = False

    @property
    def hopeless(self) -> bool:
        """Whether no other replica may get the request."""
        return self.spent or self.broken >= MAX_BROKEN

    @property
    def data(self) -> bytes | AsyncIterator[bytes] | None:
        if self.rest is not None:
            return self._stream(self.rest)
        return self.body or None

    async def _stream(self, rest: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        self.spent = True
        yield self.body
        async for chunk in rest.iter_any():
            yield chunk


class _Lost(Exception):
    """No answer came, and nothing of one was passed on."""


class _Cut(Exception):
    """The answer ended in the middle."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__()
        self.response = response


class Router:
    """Accepts requests and passes them on."""

    def __init__(self, session: aiohttp.ClientSession, status: Callable[[], Any]) -> None:
        """Begin without routes.

        Args:
            session: Talks to replicas.
            status: Returns what ``/-/status`` shows.
        """
        self.table = Table()
        self._session = session
        self._status = status
        self._windows: dict[tuple[str, str], Window] = {}

    def window(self, name: str, digest: str) -> Window:
        """Return where a variant's answers are counted; another version counts anew."""
        return self._windows.setdefault((name, digest), Window())

    def forget(self) -> None:
        """Drop the counts of variants that are no more."""
        kept = {(route.name, route.digest) for route in self.table.routes}
        self._windows = {key: window for key, window in self._windows.items() if key in kept}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.path.startswith("/-/"):
            return await self._own(request)
        passing = await _read(request)
        forced = request.headers.get(VARIANT_HEADER)
        route: Route | None = None
        while True:
            route = self._choose(forced, route, passing.avoid)
            if route is None and forced is not None:
                return _refusal(404, "no-variant", f"there is no variant {forced!r}")
            replica = pick(route.pool, passing.avoid) if route is not None else None
            if route is None or replica is None:
                if route is None or passing.avoid or not route.pool.wakes:
                    return self._unserved(passing, route)
                refused = await _hold(route)
                if refused is not None:
                    route.window.add(0.0, failed=True)
                    return refused
                continue
            try:
                return await self._counted(passing, route, replica)
            except _Lost as lost:
                if passing.hopeless:
                    return _refusal(502, "lost", f"the model server did not answer: {lost}")

    def _choose(
        self, forced: str | None, last: Route | None, avoid: Sequence[Replica]
    ) -> Route | None:
        """Return the variant that was asked for, or tried last, or whose turn it is."""
        table = self.table
        if forced is not None:
            return table.route(forced)
        if last in table.routes and pick(last.pool, avoid) is not None:
            return last
        return table.turn(
            lambda route: pick(route.pool, avoid) is not None or (route.pool.wakes and not avoid)
        )

    def _unserved(self, passing: _Request, route: Route | None) -> web.Response:
        """Refuse a request that nobody can take, and count it against whose turn it was."""
        if not passing.avoid:  # else that was counted when its replica was lost
            route = route or self.table.turn(lambda _: True)
            if route is not None:
                route.window.add(0.0, failed=True)
        return _refusal(503, "unavailable", "no replica is ready")

    async def _counted(
        self, passing: _Request, route: Route, replica: Replica
    ) -> web.StreamResponse:
        """Send to one replica, and count what comes of it.

        Raises:
            _Lost: No answer came, and nothing of one was passed on.
        """
        began = time.monotonic()
        replica.inflight += 1
        route.pool.arrived()
        failed = counted = True
        try:
            answer = await self._send(passing, route, replica)
            failed = answer.status >= 500
        except _Lost:
            passing.avoid.append(replica)
            # Counted against the variant only where none of its own stands in.
            counted = passing.hopeless or pick(route.pool, passing.avoid) is None
            raise
        except _Cut as cut:
            # Too late for another status: only a broken connection tells the caller.
            if passing.request.transport is not None:
                passing.request.transport.abort()
            return cut.response
        except (asyncio.CancelledError, ConnectionError):
            # The caller hung up: nobody's fault, and nobody's answer.
            counted = False
            raise
        else:
            return answer
        finally:
            replica.release()
            if counted:
                route.window.add(time.monotonic() - began, failed=failed)

    async def _send(self, passing: _Request, route: Route, replica: Replica) -> web.StreamResponse:
        """Send to one replica, and its answer back.

        Raises:
            _Lost: No answer came, and nothing of one was passed on.
            _Cut: Only a part of it came, and was passed on.
        """
        request = passing.request
        url = URL(f"{replica.origin}{request.raw_path}", encoded=True)
        try:
            answer = await self._session.request(
                request.method,
                url,
                headers=passing.headers,
                data=passing.data,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError as error:
            raise _Lost(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            passing.broken += 1
            raise _Lost(str(error) or type(error).__name__) from error
        async with answer:
            try:
                held = (answer.content_length or HELD + 1) <= HELD
                chunk = await (answer.read() if held else answer.content.readany())
            except (aiohttp.ClientError, OSError) as error:
                passing.broken += 1
                raise _Lost(str(error) or type(error).__name__) from error
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            response.headers.extend(_passed(answer.headers))
            response.headers[VARIANT_HEADER] = route.name
            response.headers[DIGEST_HEADER] = replica.digest
            await response.prepare(request)
            while chunk:
                await response.write(chunk)
                try:
                    chunk = await answer.content.readany()
                except (aiohttp.ClientError, OSError) as error:
                    raise _Cut(response) from error
            await response.write_eof()
            return response

    async def _own(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/-/status":
            body: Any = self._status()
        elif request.path == "/-/metrics":
            try:
                window_s = float(parse_qs(request.query_string)["window_s"][0])
            except (KeyError, ValueError):
                window_s = math.nan
            if not window_s >= 0:
                return _refusal(400, "bad-request", "window_s is no number from 0")
            body = {route.name: route.window.metrics(window_s) for route in self.table.routes}
        elif request.path == "/-/scrape":
            body = await scraping.scrape(self._session, self.table)
        else:
            return _refusal(
                404, "no-path", f"{request.path}: /-/status, /-/scrape or /-/metrics?window_s=60"
            )
        return web.Response(body=wire.encode(body), content_type="application/json")


async def _hold(route: Route) -> web.Response | None:
    """Keep a request until the first replica of *route* is ready, or refuse it."""
    pool = route.pool
    if pool.waiting >= MAX_WAITING:
        words = f"{MAX_WAITING} requests wait for the first replica already"
        return _refusal(503, "unavailable", words)
    pool.waiting += 1
    try:
        async with asyncio.timeout(HOLD_S):
            await pool.wake()
    except TimeoutError:
        return _refusal(503, "unavailable", f"no replica was ready in {HOLD_S:g} s")
    finally:
        pool.waiting -= 1
    return None


async def _read(request: web.BaseRequest) -> _Request:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    while len(body) < REPLAYABLE and (chunk := await request.content.readany()):
        body += chunk
    whole = request.content.at_eof()
    headers = _passed(request.headers)
    headers.popall("Host", None)
    if whole:
        headers.popall("Content-Length", None)
    return _Request(
        request=request,
        headers=headers,
        body=bytes(body),
        rest=None if whole else request.content,
    )


def _passed(headers: Any) -> CIMultiDict[str]:
    """Return the headers that are meant for the other end."""
    named = {
        name.strip().lower()
        for value in headers.getall("Connection", ())
        for name in value.split(",")
    }
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in HOP_BY_HOP and name.lower() not in named
    )


def _refusal(status: int, problem: str, words: str) -> web.Response:
    response = web.json_response({"error": words}, status=status)
    response.headers[ERROR_HEADER] = problem
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response
