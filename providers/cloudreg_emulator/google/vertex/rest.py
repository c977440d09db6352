"""Vertex AI over REST: ``/v1``, ``/v1beta1`` and, for operations and locations, ``/ui``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.vertex import protos, routes
from cloudreg_emulator.google.vertex.refusals import Refused
from cloudreg_emulator.google.vertex.services import Api
from cloudreg_emulator.google.vertex.transcoding import answer, decode, enum_numbers

__all__ = ["handle", "is_for"]

_JSON = "application/json; charset=UTF-8"
_NOT_FOUND = (
    "<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title><p><b>404.</b> That's an "
    "error.<p>The requested URL was not found on this server.</html>\n"
)
"""Google's front end answers no JSON to what is no method of its API."""


def is_for(path: str) -> bool:
    """Return whether a path belongs to Vertex AI: no bucket is called ``v1`` or ``ui``."""
    return path.startswith(("/v1/", "/ui/", "/v1beta1/projects/"))


def handle(api: Api, request: Request) -> Response:
    """Answer one request."""
    version = protos.V1BETA1 if request.path.startswith("/v1beta1/") else protos.V1
    match = routes.find(request.method, request.path, version)
    if match is None:
        headers = {"Content-Type": "text/html; charset=UTF-8"}
        return Response(status=404, headers=headers, body=_NOT_FOUND.encode())
    numbers = enum_numbers(request)
    try:
        message = decode(match, request)
        said = api.ask(match.route.rpc, message, headers=request.headers, host=request.host)
        return _response(said, numbers=numbers)
    except Refused as error:
        if not error.http:
            return Response(status=0)
        return _json(error.as_json(), status=error.http)


def _response(said: Any, *, numbers: bool) -> Response:
    if isinstance(said, Iterator):
        return _stream(said, numbers=numbers)
    if _is_raw(said):
        return Response(headers={"Content-Type": said.content_type}, body=said.data)
    return _json(answer(said, numbers=numbers))


def _stream(pieces: Iterator[Any], *, numbers: bool) -> Response:
    """Return what a stream says: bytes one after the other, or messages in a JSON array."""
    first = next(pieces, None)
    if first is not None and _is_raw(first):
        headers = {"Content-Type": first.content_type}
        return Response(headers=headers, body=_bytes(first, pieces))
    messages = [*([] if first is None else [first]), *pieces]
    return _json([answer(message, numbers=numbers) for message in messages])


def _bytes(first: Any, rest: Iterable[Any]) -> Iterator[bytes]:
    yield first.data
    for piece in rest:
        yield piece.data


def _is_raw(message: Any) -> bool:
    return bool(message.DESCRIPTOR.full_name == "google.api.HttpBody")


def _json(document: Any, *, status: int = 200) -> Response:
    # Google's own is indented, which no client reads and which takes Python's slow encoder.
    body = json.dumps(document).encode() + b"\n"
    return Response(status=status, headers={"Content-Type": _JSON}, body=body)
