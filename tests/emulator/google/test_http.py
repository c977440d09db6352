"""The server of the emulated Google Cloud speaks HTTP/1.1 as clients do."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from cloudreg_emulator.google.http import SPOOLED, HttpServer, Request, Response


def echo(request: Request) -> Response:
    if request.path == "/fails":
        raise RuntimeError("on purpose")
    if request.path == "/hangs-up":
        return Response(status=0)
    if request.path == "/breaks":
        return Response(body=b"0123456789", cut=4)
    if request.path == "/pieces":
        return Response(body=iter([b"01", memoryview(b"234")]), length=5)
    if request.path == "/nothing":
        return Response(status=204)
    digest = hashlib.sha256(request.read()).hexdigest()
    return Response(
        headers={"X-Query": repr(dict(request.query)), "X-Path": request.path},
        body=f"{request.method} {request.size} {digest}".encode(),
    )


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer(echo) as made:
        yield made


def spoken(server: HttpServer, text: bytes) -> bytes:
    """Send bytes and return all that comes until the connection ends."""
    with closing(socket.create_connection((server.host, server.port), timeout=10)) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        found = io.BytesIO()
        while data := connection.recv(65536):
            found.write(data)
        return found.getvalue()


@pytest.mark.parametrize("size", [0, 1, 100_000, SPOOLED + 1])
@pytest.mark.parametrize("chunked", [True, False])
def test_bodies(server: HttpServer, size: int, chunked: bool) -> None:
    """A body arrives as it was sent, with a length or in chunks, in memory or on the disk."""
    data = os.urandom(size)
    parts = (data[at : at + 60_000] for at in range(0, len(data), 60_000))
    answer = httpx.post(f"{server.url}/", content=parts if chunked else data, timeout=60)

    assert answer.text == f"POST {size} {hashlib.sha256(data).hexdigest()}"


def test_paths_and_queries(server: HttpServer) -> None:
    """A path comes as it was sent; a query is decoded, and keeps what came twice."""
    answer = httpx.get(f"{server.url}/a%2Fb%20c?x=1%2B2&y&x=3+4")

    assert answer.headers["X-Path"] == "/a%2Fb%20c"
    assert answer.headers["X-Query"] == repr({"x": ("1+2", "3 4"), "y": ("",)})


def test_requests_on_one_connection(server: HttpServer) -> None:
    """Requests that come at once on one connection are answered in turn, and a HEAD is short."""
    one = b"HEAD /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /pieces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    found = spoken(server, one + last)

    assert found.count(b"HTTP/1.1 ") == 3
    assert b"Content-Length" not in found.split(b"204")[1].split(b"\r\n\r\n")[0]
    assert found.endswith(b"\r\n\r\n01234")


def test_client_that_waits_is_told_to_go_on(server: HttpServer) -> None:
    """A client that expects 100 gets it before its answer."""
    head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n"
    found = spoken(server, head + b"Connection: close\r\n\r\nx")

    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    ],
)
def test_what_is_no_request(server: HttpServer, text: bytes) -> None:
    """What is no HTTP/1.1 is answered with 400, and the connection ends."""
    assert spoken(server, text).startswith(b"HTTP/1.1 400 ")


def test_body_that_breaks_off(server: HttpServer) -> None:
    """A client that leaves in the middle of its request is not answered."""
    assert spoken(server, b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\nx") == b""


def test_failures(server: HttpServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A bug costs one request; connections can be closed on purpose, with and without words."""
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/fails").status_code == 500
        for path in ("/hangs-up", "/breaks"):
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(path)
        assert client.get("/").status_code == 200
    assert "on purpose" in capsys.readouterr().err


def test_closed_server_ends_its_connections() -> None:
    """A connection that is kept ends with the server, and the port is free again."""
    server = HttpServer(echo)
    with httpx.Client(base_url=server.url) as client:
        client.get("/")
        server.close()
        with pytest.raises(httpx.HTTPError):
            client.get("/")
    again = HttpServer(echo, port=server.port)
    with urllib.request.urlopen(f"{again.url}/") as answer:
        assert answer.status == 200
    again.close()
