"""Routes: which path means what, on plain ASGI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from time import perf_counter
from typing import Any

import orjson

from cloudreg.serving import instances, v2
from cloudreg.serving.batching import Batcher
from cloudreg.serving.checks import ModelFault
from cloudreg.serving.http import (
    JSON,
    Answer,
    ClientGone,
    Intake,
    Receive,
    Refusal,
    Request,
    Scope,
    Send,
    Stream,
    accepted,
    media_type,
    parse_json,
    unavailable,
)
from cloudreg.serving.loading import Loaded
from cloudreg.serving.metrics import CONTENT_TYPE, Metrics
from cloudreg.serving.options import Options

log = logging.getLogger("cloudreg.serving")

VERSION = version("cloudreg")
PLATFORMS = {"torch": "pytorch", "onnx": "onnxruntime_onnx"}
LINES = "application/jsonlines"
EVENTS = "text/event-stream"

Handler = Callable[[Request], Awaitable[Answer | Stream]]


class Phase(StrEnum):
    """Where the server stands in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path does.

    Attributes:
        name: For metrics: paths of callers' own making must not make new series.
        methods: The handler of each.
    """

    name: str
    methods: dict[str, Handler]


class App:
    """The server, as ASGI calls it.

    Attributes:
        phase: Where it stands; health follows it.
    """

    def __init__(self, options: Options, metrics: Metrics) -> None:
        """Answer with 503 until `open`."""
        self.phase = Phase.LOADING
        self._options = options
        self._metrics = metrics
        self._intake = Intake(max_request_bytes=options.max_request_bytes)
        self._loaded: Loaded | None = None
        self._batcher: Batcher | None = None
        self._routes = self._table()

    def open(self, loaded: Loaded, batcher: Batcher) -> None:
        """Serve *loaded* from now on."""
        self._loaded, self._batcher = loaded, batcher
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong, it is an answer."""
        began = perf_counter()
        route = self._routes.get(scope["path"])
        request = Request(scope, receive, self._intake)
        answer: Answer | Stream
        try:
            answer = await self._handler(route, scope)(request)
        except ClientGone:
            return
        except Refusal as refusal:
            answer = refusal.answer()
        except ModelFault as fault:
            answer = Answer(status=500, body=orjson.dumps({"error": str(fault)}))
        except Exception:  # a bug of ours: one request pays for it, not the server
            log.exception("no answer to %s %s", scope["method"], scope["path"][:100])
            answer = Answer(status=500, body=orjson.dumps({"error": "internal error; see the log"}))
        finally:
            request.release()
        code = await self._send(answer, receive, send)
        self._metrics.request(route.name if route else "none", code, perf_counter() - began)

    def _handler(self, route: Route | None, scope: Scope) -> Handler:
        path, method = scope["path"][:100], scope["method"]
        if route is None:
            raise Refusal(404, f"no {path} here; this server has {self._options.model}")
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            raise Refusal(405, f"{path} takes {allowed}", headers=((b"allow", allowed.encode()),))
        return route.methods[method]

    async def _send(self, answer: Answer | Stream, receive: Receive, send: Send) -> int:
        headers = [(b"content-type", answer.content_type)]
        if self.phase is Phase.DRAINING:
            # Whoever comes again opens a new connection, and by then goes elsewhere.
            headers.append((b"connection", b"close"))
        if isinstance(answer, Stream):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _flow(answer, receive, send)
            return 200
        headers.append((b"content-length", str(len(answer.body)).encode()))
        headers.extend(answer.headers)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        return answer.status

    def _table(self) -> dict[str, Route]:
        options = self._options

        def get(name: str, handler: Handler) -> Route:
            return Route(name=name, methods={"GET": handler, "HEAD": handler})

        def post(name: str, handler: Handler) -> Route:
            return Route(name=name, methods={"POST": handler})

        ping = get("ping", self._ping)
        predict = post("predict", self._predict)
        table = {
            "/ping": ping,
            "/invocations": predict,
            "/cloudreg": get("cloudreg", self._identity),
            "/metrics": get("metrics", self._scrape),
            "/v2": get("v2", self._server_metadata),
            "/v2/health/live": get("live", self._live),
            "/v2/health/ready": ping,
        }
        roots = [f"/v2/models/{options.model}"]
        if options.number is not None:
            roots.append(f"{roots[0]}/versions/{options.number}")
        for root in roots:
            table[root] = get("model", self._model_metadata)
            table[f"{root}/ready"] = ping
            table[f"{root}/infer"] = post("infer", self._infer)
        # Vertex AI's own default for the prediction ends in ":predict": a path like any other.
        return {**table, options.health_route: ping, options.predict_route: predict}

    async def _ping(self, _: Request) -> Answer:
        stuck = self._batcher is not None and self._batcher.stuck
        if self.phase is Phase.READY and not stuck:
            return _json({"status": "ready"})
        status = "the device does not answer" if stuck else self.phase.value
        return _json({"status": status}, status=503)

    async def _live(self, _: Request) -> Answer:
        return _json({"live": True})

    async def _identity(self, _: Request) -> Answer:
        options, loaded = self._options, self._loaded
        signature = loaded.signature if loaded else None
        return _json(
            {
                "model": options.model,
                "number": options.number,
                "digest": options.digest,
                "ready": self.phase is Phase.READY,
                "status": self.phase.value,
                "platform": options.platform.value,
                "runtime": loaded.kind if loaded else None,
                "device": loaded.runtime.device if loaded else None,
                "streams": loaded.runtime.streams if loaded else None,
                "cloudreg": VERSION,
                "signature": signature,
            }
        )

    async def _scrape(self, _: Request) -> Answer:
        return Answer(body=self._metrics.render(), content_type=CONTENT_TYPE)

    async def _server_metadata(self, _: Request) -> Answer:
        return _json({"name": "cloudreg", "version": VERSION, "extensions": ["binary_tensor_data"]})

    async def _model_metadata(self, _: Request) -> Answer:
        loaded, _batcher = self._ready()
        number = self._options.number
        return _json(
            {
                "name": self._options.model,
                "versions": [] if number is None else [str(number)],
                "platform": PLATFORMS[loaded.kind],
                "inputs": v2.metadata(loaded.signature.inputs),
                "outputs": v2.metadata(loaded.signature.outputs),
            }
        )

    async def _predict(self, request: Request) -> Answer | Stream:
        loaded, batcher = self._ready()
        kind, parameters = self._type(request)
        size = v2.header_size(request.headers, kind, parameters)
        if size is not None:
            return await self._binary(request, kind, size)
        _check_json(kind, parameters)
        wanted = _wanted(request, streams=loaded.runtime.streams)
        document = parse_json(await request.body())
        # SageMaker has no other route: the protocol is told by its own word.
        if isinstance(document, dict) and "inputs" in document and wanted == "application/json":
            return await self._answer_v2(v2.read(document, loaded.checks))
        inputs = instances.decode(document, loaded.checks)
        if wanted != "application/json":
            return await _begin(wanted, batcher.stream(inputs))
        return Answer(body=instances.encode(await batcher.infer(inputs)))

    async def _infer(self, request: Request) -> Answer:
        loaded, _ = self._ready()
        kind, parameters = self._type(request)
        size = v2.header_size(request.headers, kind, parameters)
        if size is not None:
            return await self._binary(request, kind, size)
        _check_json(kind, parameters)
        return await self._answer_v2(v2.decode(await request.body(), loaded.checks, size=None))

    async def _binary(self, request: Request, kind: str, size: int) -> Answer:
        loaded, _ = self._ready()
        vendor = kind if kind in v2.VENDORS else None
        if vendor is None and kind not in (v2.PLAIN, "application/json"):
            raise _wrong_type(kind)
        body = await request.body()
        return await self._answer_v2(v2.decode(body, loaded.checks, size=size, vendor=vendor))

    async def _answer_v2(self, infer: v2.Infer) -> Answer:
        _, batcher = self._ready()
        outputs = await batcher.infer(infer.inputs)
        number = self._options.number
        return v2.encode(
            infer,
            outputs,
            model=self._options.model,
            version=None if number is None else str(number),
        )

    def _ready(self) -> tuple[Loaded, Batcher]:
        if self._loaded is None or self._batcher is None:
            raise unavailable(f"the model is {self.phase.value}")
        return self._loaded, self._batcher

    def _type(self, request: Request) -> tuple[str, dict[str, str]]:
        batcher = self._batcher
        if batcher is not None and batcher.full:
            # Before the body is read: a full queue must cost nothing.
            raise batcher.shed()
        kind = request.headers.get(b"content-type", JSON)
        return ("application/json", {}) if kind == JSON else media_type(kind)


def _json(document: Any, *, status: int = 200) -> Answer:
    return Answer(status=status, body=orjson.dumps(document))


def _wrong_type(kind: str) -> Refusal:
    wanted = f"application/json, or {v2.VENDORS[0]} and its like"
    return Refusal(
        415,
        f"Content-Type: wanted {wanted}, got {kind[:80]!r}",
        field="Content-Type",
        wanted=wanted,
        got=kind[:80],
    )


def _check_json(kind: str, parameters: dict[str, str]) -> None:
    if kind != "application/json":
        raise _wrong_type(kind)
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise _wrong_type(f"{kind};charset={parameters['charset']}")


def _wanted(request: Request, *, streams: bool) -> str:
    """Return the first type that the client accepts and the model can give.

    Raises:
        Refusal: There is none.
    """
    value = request.headers.get(b"accept", b"*/*")
    if value in (b"*/*", JSON):
        return "application/json"
    kinds = accepted(value)
    for kind in kinds:
        if kind in ("*/*", "application/*", "application/json"):
            return "application/json"
        if kind in (LINES, EVENTS) and streams:
            return kind
    if LINES in kinds or EVENTS in kinds:
        raise Refusal(406, "this model does not stream", field="Accept", wanted="application/json")
    raise Refusal(
        406,
        f"Accept: {value[:80].decode('latin-1')!r} is not given here",
        field="Accept",
        wanted=f"application/json{f', {LINES}, {EVENTS}' if streams else ''}",
    )


async def _begin(kind: str, pipe: Any) -> Stream:
    """Return the stream once its first piece is there: until then an error has its own status."""
    source = pipe.read()
    try:
        first = await anext(source, None)
    except TimeoutError:
        pipe.close()
        raise Refusal(504, "no first piece in time") from None

    async def pieces() -> AsyncIterator[bytes]:
        line = partial(_line, kind)
        async with aclosing(source):
            try:
                if first is not None:
                    yield line(instances.encode(first))
                    async for outputs in source:
                        yield line(instances.encode(outputs))
            except (ModelFault, TimeoutError) as error:
                # The status is sent: the last line is the only place left to say it.
                said = str(error) or "no next piece in time"
                yield line(orjson.dumps({"error": said}), event="error")

    return Stream(content_type=kind.encode(), pieces=pieces(), close=pipe.close)


def _line(kind: str, data: bytes, event: str | None = None) -> bytes:
    if kind == EVENTS:
        return (f"event: {event}\n".encode() if event else b"") + b"data: " + data + b"\n\n"
    return data + b"\n"


async def _flow(stream: Stream, receive: Receive, send: Send) -> None:
    """Send the pieces until they end or the client leaves."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def flow() -> None:
        async for piece in stream.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    sides = {asyncio.ensure_future(gone()), asyncio.ensure_future(flow())}
    try:
        done, _ = await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        for side in done:
            side.result()
    finally:
        stream.close()
        for side in sides:
            side.cancel()
            with suppress(asyncio.CancelledError):
                await side
