from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cloudreg.serving.http import ClientGone, Intake, Refusal, Request


def request(intake: Intake, *parts: bytes, gone: bool = False, **headers: str) -> Request:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": gone or i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]
    messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return Request({"headers": raw}, receive, intake)


def body(one: Request) -> bytes:
    return asyncio.run(one.body())


def test_bodies_in_one_and_in_many_parts() -> None:
    """A body is whole whether its length was told or not."""
    intake = Intake(max_request_bytes=10)
    assert body(request(intake, b"abc", content_length="3")) == b"abc"
    assert body(request(intake, b"ab", b"", b"c", transfer_encoding="chunked")) == b"abc"
    assert body(request(intake)) == b""


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        ([b""], {"content_length": "11"}),
        ([b""], {"content_length": "9" * 5000}),
        ([b"abcdef", b"abcdef"], {"transfer_encoding": "chunked"}),
    ],
)
def test_bodies_that_are_too_large(parts: list[bytes], headers: dict[str, str]) -> None:
    """A body beyond the limit is refused by its announcement, or once it is seen."""
    with pytest.raises(Refusal) as caught:
        body(request(Intake(max_request_bytes=10), *parts, **headers))
    assert caught.value.status == 413


def test_compressed_bodies() -> None:
    """A compressed body is refused, never parsed as what it is not."""
    with pytest.raises(Refusal) as caught:
        body(request(Intake(max_request_bytes=10), b"a", content_encoding="gzip"))
    assert caught.value.status == 415


def test_clients_that_leave() -> None:
    """A client that leaves in the middle gets no answer."""
    with pytest.raises(ClientGone):
        body(request(Intake(max_request_bytes=10), b"a", gone=True, content_length="5"))


def test_all_bodies_together_are_bounded() -> None:
    """Many large bodies at once are refused before they take the memory, and later accepted."""
    intake = Intake(max_request_bytes=10)
    held = [request(intake, b"x" * 10, content_length="10") for _ in range(8)]
    for one in held:
        body(one)
    with pytest.raises(Refusal) as caught:
        body(request(intake, b"x", content_length="1"))
    assert caught.value.status == 503
    held[0].release()
    assert body(request(intake, b"x", content_length="1")) == b"x"
