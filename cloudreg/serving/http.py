"""Requests, answers and refusals, between the connection and the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson

Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Refusal(Exception):
    """A request that gets no prediction, and why.

    Attributes:
        status: The HTTP status.
        message: One sentence for people.
        field: Which part of the request is meant, such as ``instances[3].x[2]``.
        wanted: What should stand there.
        got: What stands there.
        headers: More for the answer.
        ends: Whether nobody knows where the next request begins.
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
        ends: bool = False,
    ) -> None:
        """Keep the parts apart, so that a program can read them."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.wanted = wanted
        self.got = got
        self.headers = headers
        self.ends = ends

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
    pieces: AsyncGenerator[bytes, None]
    close: Callable[[], None]


class Intake:
    """How many bytes of request bodies may be held at once.

    The queue is bounded in rows; a body becomes rows only once it is whole, so that without this
    bound many large requests at once could take all the memory.

    Attributes:
        max_request_bytes: Of one body.
    """

    def __init__(self, *, max_request_bytes: int) -> None:
        """Allow each request *max_request_bytes*, and all together eight times as much."""
        self.max_request_bytes = max_request_bytes
        self._free = 8 * max_request_bytes

    def announced(self, length: bytes) -> None:
        """Look at a Content-Length, before the body comes.

        Raises:
            Refusal: It is too large.
        """
        # The parser has made sure that it is a number; it may be one of thousands of digits.
        if len(length) > 18 or int(length) > self.max_request_bytes:
            raise self.too_large(f"{length[:20].decode('latin-1')} bytes")

    def take(self, size: int, *, of: int) -> None:
        """Count *size* more bytes of a body that has *of* with them.

        Raises:
            Refusal: They would be too many.
        """
        if of > self.max_request_bytes:
            raise self.too_large("more")
        if size > self._free:
            raise unavailable("too many bytes of other requests are being read")
        self._free -= size

    def give(self, size: int) -> None:
        """Count *size* bytes less."""
        self._free += size

    def too_large(self, got: str) -> Refusal:
        """Return the refusal of a body that is larger than one may be."""
        wanted = f"at most {self.max_request_bytes} bytes"
        return Refusal(
            413, f"body: wanted {wanted}, got {got}", field="body", wanted=wanted, got=got
        )


@dataclass(slots=True, eq=False)
class Head:
    """What comes before the body of a request.

    Attributes:
        method: In capitals.
        target: The path as it was sent, with its query.
        headers: By lower-case name; of several with one name, the last.
    """

    method: bytes = b""
    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)


Reply = Callable[[Answer | Stream], None]
Cancel = Callable[[], object]
Then = Callable[[bytes, Reply], Answer | Cancel]
"""What is done with a body: it gives the answer, or promises one and says how to give it up."""


def start_of(status: int, headers: Headers, *, last: bool) -> bytes:
    """Return what comes before the body of an answer; *last* ends the connection."""
    lines = [b"HTTP/1.1 %d %b" % (status, REASONS[status])]
    lines += [b"%b: %b" % header for header in headers]
    if last:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"\r\n"])


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
