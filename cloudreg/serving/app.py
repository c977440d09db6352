"""Routes: which path means what.

A route looks at a request twice: at its head, before anything of its body is taken, and at its
body. What it knows then it answers; what the model has to compute it promises.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import orjson

from cloudreg.serving import instances, lines, v2
from cloudreg.serving.batching import Batcher
from cloudreg.serving.checks import ModelFault, Tensors
from cloudreg.serving.http import (
    JSON,
    Answer,
    Cancel,
    Head,
    Refusal,
    Reply,
    Stream,
    Then,
    accepted,
    media_type,
    parse_json,
    unavailable,
)
from cloudreg.serving.loading import Loaded
from cloudreg.serving.metrics import CONTENT_TYPE, Metrics
from cloudreg.serving.options import Options
from cloudreg.serving.streaming import EVENTS, LINES, begin

log = logging.getLogger("cloudreg.serving")

VERSION = version("cloudreg")
PLATFORMS = {"torch": "pytorch", "onnx": "onnxruntime_onnx"}

Handler = Callable[[Head], Then]


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
    methods: dict[bytes, Handler]


class App:
    """The server, as a connection calls it.

    Attributes:
        phase: Where it stands; health follows it.
    """

    def __init__(self, options: Options, metrics: Metrics) -> None:
        """Answer with 503 until `open`."""
        self.phase = Phase.LOADING
        self._options = options
        self._metrics = metrics
        self._loaded: Loaded | None = None
        self._batcher: Batcher | None = None
        self._routes = {path.encode(): route for path, route in self._table().items()}

    def open(self, loaded: Loaded, batcher: Batcher) -> None:
        """Serve *loaded* from now on."""
        self._loaded, self._batcher = loaded, batcher
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    def route(self, target: bytes) -> Route | None:
        """Return what a request's target means; None where it means nothing."""
        found = self._routes.get(target)
        return found if found is not None else self._routes.get(_path(target))

    def admit(self, route: Route | None, head: Head) -> Then:
        """Return what will be done with the body.

        Raises:
            Refusal: Nothing: the body need not even come.
        """
        handler = route.methods.get(head.method) if route is not None else None
        if handler is not None:
            return handler(head)
        path = _path(head.target)[:100].decode(errors="replace")
        if route is None:
            raise Refusal(404, f"no {path} here; this server has {self._options.model}")
        allowed = b", ".join(route.methods)
        raise Refusal(405, f"{path} takes {allowed.decode()}", headers=((b"allow", allowed),))

    def run(self, then: Then, body: bytes, reply: Reply) -> Cancel | None:
        """Answer a whole request, now or later; whatever goes wrong, it is an answer.

        Returns:
            What gives the request up; None when it is answered.
        """
        try:
            found = then(body, reply)
        except Exception as error:  # one request pays for a bug of ours, not the server
            found = _failed(error)
        if isinstance(found, Answer):
            reply(found)
            return None
        return found

    def _table(self) -> dict[str, Route]:
        options = self._options

        def get(name: str, answer: Callable[[], Answer]) -> Route:
            def handler(_: Head) -> Then:
                return lambda _body, _reply: answer()

            return Route(name=name, methods={b"GET": handler, b"HEAD": handler})

        def post(name: str, handler: Handler) -> Route:
            return Route(name=name, methods={b"POST": handler})

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

    def _ping(self) -> Answer:
        stuck = self._batcher is not None and self._batcher.stuck
        if self.phase is Phase.READY and not stuck:
            return _json({"status": "ready"})
        status = "the device does not answer" if stuck else self.phase.value
        return _json({"status": status}, status=503)

    def _live(self) -> Answer:
        return _json({"live": True})

    def _identity(self) -> Answer:
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

    def _scrape(self) -> Answer:
        return Answer(body=self._metrics.render(), content_type=CONTENT_TYPE)

    def _server_metadata(self) -> Answer:
        return _json({"name": "cloudreg", "version": VERSION, "extensions": ["binary_tensor_data"]})

    def _model_metadata(self) -> Answer:
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

    def _predict(self, head: Head) -> Then:
        loaded, batcher = self._ready()
        kind, parameters = self._type(head)
        size = v2.header_size(head.headers, kind, parameters)
        if size is not None:
            return self._binary(kind, size)
        if kind == LINES:
            return self._lines
        _check_json(kind, parameters)
        wanted = _wanted(head, streams=loaded.runtime.streams)
        if wanted != "application/json":
            return partial(self._stream, wanted)

        def then(body: bytes, reply: Reply) -> Cancel:
            document = parse_json(body)
            # SageMaker has no other route: the protocol is told by its own word.
            if isinstance(document, dict) and "inputs" in document:
                return self._v2(v2.read(document, loaded.checks), reply)
            inputs = instances.decode(document, loaded.checks)
            return batcher.infer(inputs, partial(_told, _encode, reply)).cancel

        return then

    def _stream(self, wanted: str, body: bytes, reply: Reply) -> Cancel:
        loaded, batcher = self._ready()
        pipe = batcher.stream(instances.decode(parse_json(body), loaded.checks))
        give_up = _later(begin(wanted, pipe), reply)

        def cancel() -> None:
            pipe.close()
            give_up()

        return cancel

    def _lines(self, body: bytes, reply: Reply) -> Cancel:
        """Answer line by line: a data set must not end at its first bad record."""
        loaded, batcher = self._ready()

        def infer(inputs: Tensors) -> asyncio.Future[Tensors]:
            made, done = lines.future(asyncio.get_running_loop())
            batcher.infer(inputs, done)
            return made

        async def answer() -> Answer:
            said = await lines.answer(body, loaded.checks, infer)
            return Answer(body=said, content_type=LINES.encode())

        return _later(answer(), reply)

    def _infer(self, head: Head) -> Then:
        loaded, _ = self._ready()
        kind, parameters = self._type(head)
        size = v2.header_size(head.headers, kind, parameters)
        if size is not None:
            return self._binary(kind, size)
        _check_json(kind, parameters)
        return lambda body, reply: self._v2(v2.decode(body, loaded.checks, size=None), reply)

    def _binary(self, kind: str, size: int) -> Then:
        loaded, _ = self._ready()
        vendor = kind if kind in v2.VENDORS else None
        if vendor is None and kind not in (v2.PLAIN, "application/json"):
            raise _wrong_type(kind)

        def then(body: bytes, reply: Reply) -> Cancel:
            return self._v2(v2.decode(body, loaded.checks, size=size, vendor=vendor), reply)

        return then

    def _v2(self, infer: v2.Infer, reply: Reply) -> Cancel:
        _, batcher = self._ready()
        number = self._options.number
        encode = partial(
            v2.encode,
            infer,
            model=self._options.model,
            version=None if number is None else str(number),
        )
        return batcher.infer(infer.inputs, partial(_told, encode, reply)).cancel

    def _ready(self) -> tuple[Loaded, Batcher]:
        if self._loaded is None or self._batcher is None:
            raise unavailable(f"the model is {self.phase.value}")
        return self._loaded, self._batcher

    def _type(self, head: Head) -> tuple[str, dict[str, str]]:
        batcher = self._batcher
        if batcher is not None and batcher.full:
            # Before the body is read: a full queue must cost nothing.
            raise batcher.shed()
        kind = head.headers.get(b"content-type", JSON)
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


def _wanted(head: Head, *, streams: bool) -> str:
    """Return the first type that the client accepts and the model can give.

    Raises:
        Refusal: There is none.
    """
    value = head.headers.get(b"accept", b"*/*")
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


def _encode(outputs: Tensors) -> Answer:
    return Answer(body=instances.encode(outputs))


def _told(encode: Callable[[Tensors], Answer], reply: Reply, outcome: Tensors | Exception) -> None:
    """Reply with what came of a request."""
    if isinstance(outcome, Exception):
        reply(_failed(outcome))
        return
    try:
        answer = encode(outcome)
    except Exception as error:  # as in `run`
        answer = _failed(error)
    reply(answer)


def _later(work: Coroutine[Any, Any, Answer | Stream], reply: Reply) -> Cancel:
    """Reply with what *work* returns, when it does; return what gives it up."""
    task = asyncio.ensure_future(work)

    def done(_: object) -> None:
        if not task.cancelled():
            error = task.exception()
            reply(task.result() if error is None else _failed(error))

    task.add_done_callback(done)
    return task.cancel


def _failed(error: BaseException) -> Answer:
    """Return *error* as what the client reads."""
    if isinstance(error, Refusal):
        return error.answer()
    if isinstance(error, ModelFault):
        return _json({"error": str(error)}, status=500)
    log.error("a request could not be answered", exc_info=error)
    return _json({"error": "internal error; see the log"}, status=500)


def _path(target: bytes) -> bytes:
    """Return the path of a request's target, which a proxy may send with the host before it."""
    if not target.startswith(b"/"):
        try:
            target = urlsplit(target).path
        except ValueError:
            return b""
    return unquote_to_bytes(target.partition(b"?")[0])
