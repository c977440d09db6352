"""Requests, answers and refusals, between plain ASGI and the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
BODY_S = 60.0
"""Patience with a client that sends its body slowly."""


class Refusal(Exception):
    """A request that gets no prediction, and why.

    Attributes:
        status: The HTTP status.
        message: One sentence for people.
        field: Which part of the request is meant, such as ``instances[3].x[2]``.
        wanted: What should stand there.
        got: What stands there.
        headers: More for the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        wanted: str | None = None,
        got: str | None = None,
        headers: Headers = (),
    ) -> None:
        """Keep the parts apart, so that a program can read them."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.wanted = wanted
        self.got = got
        self.headers = headers

    def answer(self) -> Answer:
        """Return what the client reads."""
        parts = {"field": self.field, "wanted": self.wanted, "got": self.got}
        document = {"error": self.message, **{k: v for k, v in parts.items() if v is not None}}
        return Answer(status=self.status, body=orjson.dumps(document), headers=self.headers)


def mismatch(field: str, *, wanted: str, got: str) -> Refusal:
    """Return the refusal of a request whose *field* holds the wrong thing."""
    return Refusal(400, f"{field}: wanted {wanted}, got {got}", field=field, wanted=wanted, got=got)


def unavailable(message: str) -> Refusal:
    """Return the refusal of a request that another replica, or the same one later, can answer."""
    return Refusal(503, message, headers=((b"retry-after", b"1"),))


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One whole answer.

    Attributes:
        status: The HTTP status.
        body: The bytes.
        content_type: What they are.
        headers: Beside the type and the length.
    """

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer whose end is not known when it begins.

    Attributes:
        content_type: What the pieces are.
        pieces: The pieces, in order.
        close: Called once, whether the end was reached or the client left.
    """

    content_type: bytes
    pieces: AsyncIterator[bytes]
    close: Callable[[], None]


class Intake:
    """How many bytes of request bodies may be held at once.

    The queue is bounded in rows; a body becomes rows only once it is whole, so that without this
    bound many large requests at once could take all the memory.
    """

    def __init__(self, *, max_request_bytes: int) -> None:
        """Allow each request *max_request_bytes*, and all together eight times as much."""
        self.max_request_bytes = max_request_bytes
        self._free = 8 * max_request_bytes

    def take(self, size: int) -> None:
        """Count *size* more bytes.

        Raises:
            Refusal: They would be too many.
        """
        if size > self._free:
            raise unavailable("too many bytes of other requests are being read")
        self._free -= size

    def give(self, size: int) -> None:
        """Count *size* bytes less."""
        self._free += size


class Request:
    """One request, its body not yet read.

    Attributes:
        headers: By lower-case name; of several with one name, the last.
        receive: ASGI's.
        held: Bytes that `Intake` counts for it.
    """

    __slots__ = ("_intake", "headers", "held", "receive")

    def __init__(self, scope: Scope, receive: Receive, intake: Intake) -> None:
        """Wrap what ASGI gives."""
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        self.held = 0
        self._intake = intake

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            Refusal: It is larger than allowed, compressed, or comes too slowly.
            ClientGone: The client left before its end.
        """
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refusal(415, "compressed bodies are not read here", field="Content-Encoding")
        # The parser has made sure that it is a number; it may be one of thousands of digits.
        declared = self.headers.get(b"content-length", b"0")
        if len(declared) > 18 or int(declared) > self._intake.max_request_bytes:
            raise self._too_large(f"{declared[:20].decode('latin-1')} bytes")
        message = await self.receive() if declared != b"0" or self._chunked else None
        if message is None:
            return b""
        first = self._count(message)
        if not message.get("more_body"):
            return first
        parts = [first]
        try:
            async with asyncio.timeout(BODY_S):
                while message.get("more_body"):
                    message = await self.receive()
                    parts.append(self._count(message))
        except TimeoutError:
            raise Refusal(408, f"the body was not complete after {BODY_S:g} s") from None
        return b"".join(parts)

    @property
    def _chunked(self) -> bool:
        return b"transfer-encoding" in self.headers

    def release(self) -> None:
        """Say that the bytes are not needed any more."""
        self._intake.give(self.held)
        self.held = 0

    def _count(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        self._intake.take(len(part))
        self.held += len(part)
        if self.held > self._intake.max_request_bytes:
            raise self._too_large("more")
        return part

    def _too_large(self, got: str) -> Refusal:
        wanted = f"at most {self._intake.max_request_bytes} bytes"
        return Refusal(
            413, f"body: wanted {wanted}, got {got}", field="body", wanted=wanted, got=got
        )


def media_type(value: bytes) -> tuple[str, dict[str, str]]:
    """Return the type and the parameters of a Content-Type, names in lower case."""
    kind, *rest = value.decode("latin-1").split(";")
    parameters = {}
    for part in rest:
        name, _, text = part.partition("=")
        parameters[name.strip().lower()] = text.strip().strip('"')
    return kind.strip().lower(), parameters


def accepted(value: bytes) -> list[str]:
    """Return the types of an Accept header that are not refused by ``q=0``, as they stand."""
    wanted = []
    for part in value.split(b","):
        kind, parameters = media_type(part)
        if kind and parameters.get("q") not in ("0", "0.0", "0.00", "0.000"):
            wanted.append(kind)
    return wanted


def parse_json(data: bytes | memoryview) -> Any:
    """Return what a JSON text says.

    Raises:
        Refusal: It is none; NaN, infinity and nesting beyond reason are no JSON either.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error}", field="body") from None
