"""What a connection to the model server may do: order, framing, and doubt about either."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location(
    "serving_kit", Path(__file__).parents[1] / "unit" / "serving" / "kit.py"
)
assert _spec is not None
assert _spec.loader is not None
kit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kit)

TYPE = b"Host: x\r\nContent-Type: application/json\r\n"
POST = b"POST /invocations HTTP/1.1\r\n" + TYPE
BODY = b'{"instances":[[1,2,3]]}'
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b'{"instances":[[777,0.2,3]]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of `Line`."""
    version = kit.torch_version(tmp_path_factory.mktemp("line") / "v")
    served = kit.Served(version.argv("--max-request-bytes", "100000"))
    try:
        yield served.ready()
    finally:
        served.end()


def post(body: bytes = BODY, *more: bytes) -> bytes:
    return POST + b"".join(more) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + end


class Client:
    """One connection, and the answers that come on it."""

    def __init__(self, server: Any) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20.0)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name] = value
        return status, headers

    def answer(self) -> tuple[int, dict[str, str], Any]:
        status, headers = self.head()
        return status, headers, json.loads(self.file.read(int(headers["content-length"])))

    def rest(self) -> bytes:
        return self.file.read()


def test_answers_come_in_the_order_of_the_requests(server: Any) -> None:
    """Requests sent at once are answered one after another, though a later one is quicker."""
    with Client(server) as client:
        client.send(post(SLOW) + LIVE + post(b"{") + chunked(BODY) + LIVE)
        answers = [client.answer() for _ in range(5)]
        assert [status for status, _, _ in answers] == [200, 200, 400, 200, 200]
        assert "predictions" in answers[0][2]
        assert answers[1][2] == answers[4][2] == {"live": True}
        assert answers[3][2]["predictions"] == server.predict([[1, 2, 3]])


def test_requests_that_come_in_small_pieces(server: Any) -> None:
    """Neither requests nor chunks need begin where a packet does."""
    with Client(server) as client:
        data = post() + chunked(BODY[:5], BODY[5:], end=b"0;a=b\r\nX-Late: 1\r\n\r\n")
        for start in range(0, len(data), 3):
            client.send(data[start : start + 3])
        assert client.answer()[2] == client.answer()[2]


def test_a_client_reads_ahead_of_its_answers_only_so_far(server: Any) -> None:
    """Requests beyond a bound end the connection, after the answers to those before."""
    with Client(server) as client:
        client.send(post(SLOW) + LIVE * 200)
        statuses = [client.answer()[0] for _ in range(64)]
        assert statuses == [200] * 64
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (429, "close")
        assert client.rest() == b""


def test_the_body_is_asked_for(server: Any) -> None:
    """Who waits for 100 Continue gets it, then the answer, on a connection that stays."""
    with Client(server) as client:
        for _ in range(2):
            client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
            assert client.head() == (100, {})
            client.send(BODY)
            assert client.answer()[0] == 200


@pytest.mark.parametrize(
    ("more", "status"), [(b"Content-Length: 999999\r\n", 413), (b"Content-Encoding: br\r\n", 415)]
)
def test_a_body_that_is_not_asked_for(server: Any, more: bytes, status: int) -> None:
    """Who waits for 100 Continue reads the refusal instead, and the connection ends."""
    with Client(server) as client:
        client.send(POST + b"Expect: 100-continue\r\n" + more + b"\r\n")
        found, headers, _ = client.answer()
        assert (found, headers["connection"]) == (status, "close")
        assert client.rest() == b""


def test_a_refusal_before_the_body_leaves_the_connection(server: Any) -> None:
    """The rest of a body that was refused is no request, and the next one is answered."""
    with Client(server) as client:
        client.send(post(b"x" * 100001) + post(LIVE, b"Content-Encoding: gzip\r\n") + post())
        assert [client.answer()[0] for _ in range(3)] == [413, 415, 200]


def test_head_has_no_body(server: Any) -> None:
    """HEAD gives the length that GET has, and the next answer begins right after it."""
    with Client(server) as client:
        client.send(b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\nHEAD /nowhere HTTP/1.1\r\n\r\n" + LIVE)
        status, headers = client.head()
        assert (status, headers["content-length"]) == (200, str(len('{"status":"ready"}')))
        assert client.head()[0] == 404
        assert client.answer()[2] == {"live": True}


def test_a_client_that_has_said_all(server: Any) -> None:
    """Who closes its own side after the request still gets the answer, however long it takes."""
    for request in (post(SLOW), post(SLOW) + LIVE, LIVE):
        data = server.raw(request)
        assert data.count(b"HTTP/1.1 200 OK") == 1 + request.endswith(LIVE) * (request != LIVE)
    assert b"200 OK" not in server.raw(post(SLOW)[:-1])


@pytest.mark.parametrize(
    ("request_line", "more"),
    [
        (b"POST /invocations HTTP/1.0\r\n", b""),
        (b"POST /invocations HTTP/1.0\r\n", b"Connection: keep-alive\r\n"),
        (b"POST /invocations HTTP/1.1\r\n", b"Connection: close\r\n"),
    ],
)
def test_the_last_answer_of_a_connection(server: Any, request_line: bytes, more: bytes) -> None:
    """Who cannot or will not stay gets a whole answer, and the end."""
    data = server.raw(request_line + TYPE + more + b"Content-Length: 23\r\n\r\n" + BODY)
    start, _, body = data.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close" in start
    assert json.loads(body)["predictions"] == server.predict([[1, 2, 3]])


def test_no_other_protocol(server: Any) -> None:
    """Who asks for another protocol is answered in this one; with a body, refused by its name."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    with Client(server) as client:
        client.send(LIVE[:-2] + upgrade + b"\r\n" + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert client.rest() == b""
    with Client(server) as client:
        client.send(post(BODY, upgrade))
        status, headers, document = client.answer()
        assert (status, headers["connection"], document["field"]) == (400, "close", "Upgrade")
        assert client.rest() == b""


def test_a_stream_without_chunks(server: Any) -> None:
    """HTTP/1.0 knows no chunks: its stream ends with the connection."""
    body = b'{"instances":[[1,3,1]]}'
    with Client(server) as client:
        client.send(
            b"POST /invocations HTTP/1.0\r\n" + TYPE + b"Accept: application/jsonlines\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        status, headers = client.head()
        assert status == 200
        assert "transfer-encoding" not in headers
        assert [len(json.loads(line)["predictions"]) for line in client.rest().splitlines()] == [
            1, 1, 1,
        ]  # fmt: skip


def test_the_connection_stays_after_a_stream(server: Any) -> None:
    """A stream in chunks ends before its connection does."""
    body = b'{"instances":[[1,2,1]]}'
    with Client(server) as client:
        client.send(post(body, b"Accept: application/jsonlines\r\n") + LIVE)
        assert client.head()[1]["transfer-encoding"] == "chunked"
        pieces = []
        while size := int(client.file.readline(), 16):
            pieces.append(json.loads(client.file.read(size)))
            client.file.readline()
        client.file.readline()
        assert len(pieces) == 2
        assert client.answer()[2] == {"live": True}


@pytest.mark.parametrize(
    "target",
    [b"/ping?x=/y", b"http://elsewhere:1/ping", b"/%70ing", b"/v2/models/churn%2Fready"],
)
def test_spellings_of_a_path(server: Any, target: bytes) -> None:
    """A query, a host and quoted letters change nothing about the path."""
    with Client(server) as client:
        client.send(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer()[0] == 200


DOUBTS = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"Content-Length: 5, 5\r\n\r\nhello",
    b"Content-Length: +5\r\n\r\nhello",
    b"Content-Length: 0x5\r\n\r\nhello",
    b"Content-Length : 5\r\n\r\nhello",
    b"Content-Length:\x0b5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    b"Host: y\r\nContent-Length: 5\r\n\r\nhello",
    b"Content-Type: text/csv\r\nContent-Length: 5\r\n\r\nhello",
    b"X\x00: y\r\nContent-Length: 5\r\n\r\nhello",
    b"X: y\rContent-Length: 5\r\n\r\nhello",
]


@pytest.mark.parametrize("doubt", DOUBTS)
def test_doubt_about_where_a_request_ends(server: Any, doubt: bytes) -> None:
    """Where two parties could disagree, the connection ends: what follows is no request."""
    with Client(server) as client:
        client.send(POST + doubt + LIVE)
        status, headers, _ = client.answer()
        assert 400 <= status < 500
        assert headers["connection"] == "close"
        assert client.rest() == b""


@pytest.mark.parametrize("flood", [b"X: y\r\n" * 100000, b"1;" + b"a" * 600000 + b"\r\nx\r\n"])
def test_chunks_that_are_all_frame(server: Any, flood: bytes) -> None:
    """What stands around chunks is bounded like headers are."""
    start = b"0\r\n" if flood.startswith(b"X") else b""
    with Client(server) as client:
        with suppress(OSError):
            client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + start + flood)
        assert client.head()[0] in (400, 431)


def test_a_drain_answers_what_was_sent_at_once(tmp_path: Path) -> None:
    """After SIGTERM requests that stand in line are all answered, the last with the end."""
    version = kit.torch_version(tmp_path / "v")
    server = kit.Served(version.argv("--drain-s", "0")).ready()
    try:
        with Client(server) as idle, Client(server) as client, ThreadPoolExecutor(1) as pool:
            client.send(post(b'{"instances":[[777,1,3]]}') + LIVE + post())
            server.until(
                lambda: "queue_seconds_count 1.0" in server.request("GET", "/metrics")[2].decode()
            )
            server.term()
            assert idle.rest() == b""
            answers = pool.submit(lambda: [client.answer() for _ in range(3)]).result()
            assert [status for status, _, _ in answers] == [200, 200, 200]
            assert [answer[1].get("connection") for answer in answers] == [None, None, "close"]
            assert client.rest() == b""
        assert server.wait() == 0
    finally:
        server.end()
