"""What passes between a caller and a replica, and what does not."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from cloudreg.types import EndpointStatus, OperationState
from cloudreg_local.router import REPLAYABLE


@pytest.fixture
def until(bench: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = sys.modules[type(bench).__module__].until
    return found


@pytest.fixture(scope="module")
def echo(bench: Any) -> Any:
    """A target with an endpoint ``echo`` that tests only read."""
    bench.create(bench.spec("echo", ("primary", bench.version(1), 100)))
    return bench


def test_weights_are_exact(bench: Any) -> None:
    """Of any hundred requests each variant gets its percent."""
    one, two, three = bench.version(1), bench.version(2), bench.version(3)
    bench.create(
        bench.spec("exact", ("primary", one, 89), ("canary", two, 10), ("third", three, 1))
    )
    for _ in range(2):
        got = Counter(bench.ask("exact")["number"] for _ in range(100))
        assert got == {1: 89, 2: 10, 3: 1}


def test_weights_are_spread(bench: Any) -> None:
    """The canary's ten percent come one in ten, and not ten in a row."""
    bench.create(
        bench.spec("spread", ("primary", bench.version(1), 90), ("canary", bench.version(2), 10))
    )
    got = [bench.ask("spread")["number"] for _ in range(50)]

    assert all(got[i : i + 10].count(2) == 1 for i in range(0, 50, 10))


def test_answer_names_its_variant(bench: Any) -> None:
    """Each answer says who gave it, and a request may say who has to, whatever the weights."""
    one, two = bench.version(1), bench.version(2)
    bench.create(bench.spec("direct", ("primary", one, 100), ("canary", two, 0)))

    for name, version in (("primary", one), ("canary", two)):
        status, headers, body = bench.request(
            "direct", "POST", "/invocations", b"{}", X_Cloudreg_Variant=name
        )
        assert status == 200
        assert headers["x-cloudreg-variant"] == name
        assert headers["x-cloudreg-digest"] == version.digest
        assert json.loads(body)["number"] == version.number
    status, headers, body = bench.request(
        "direct", "POST", "/invocations", b"{}", X_Cloudreg_Variant="nobody"
    )
    assert (status, headers["x-cloudreg-error"]) == (404, "no-variant")
    assert json.loads(body) == {"error": "there is no variant 'nobody'"}


def test_paths_pass_as_they_are(echo: Any) -> None:
    """The server sees method, path and query byte for byte: all its protocols are reachable."""
    for method in ("GET", "POST"):
        path = "/echo/v2/models/a%2Fb;c?x=%20+&y=%C3%BC&x=1"
        status, _, body = echo.request("echo", method, path)
        said = json.loads(body)
        assert (status, said["method"], said["path"]) == (200, method, path)
        assert said["size"] == 0


def test_headers_of_one_connection_stay(echo: Any) -> None:
    """Headers that speak of one connection are not passed on; all others are, both ways."""
    status, headers, body = echo.request(
        "echo", "POST", "/echo", b"abc", Connection="X-Mine, keep-alive", X_Mine="1",
        TE="trailers", X_Yours="2", Content_Type="application/octet-stream",
        Inference_Header_Content_Length="12", Authorization="Bearer t",
    )  # fmt: skip
    seen = json.loads(body)["headers"]

    assert status == 200
    assert not {"x-mine", "te", "connection", "keep-alive"} & set(seen)
    assert seen["x-yours"] == "2"
    assert seen["content-type"] == "application/octet-stream"
    assert seen["inference-header-content-length"] == "12"
    assert seen["authorization"] == "Bearer t"
    assert seen["content-length"] == "3"
    assert "accept-encoding" in seen  # the caller's own, and nothing that the router would add
    assert "user-agent" not in seen
    assert headers["x-kept"] == "2"
    assert "x-hop" not in headers


def test_compressed_body_passes_as_it_is(echo: Any) -> None:
    """A compressed body reaches the server compressed, as its header says."""
    data = gzip.compress(b"x" * 100_000)
    _, _, body = echo.request("echo", "POST", "/echo", data, Content_Encoding="gzip")
    said = json.loads(body)

    assert said["headers"]["content-encoding"] == "gzip"
    assert said["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, REPLAYABLE - 1, REPLAYABLE, REPLAYABLE + 1, 20_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_size(echo: Any, size: int, chunked: bool) -> None:
    """A body arrives whole, in one piece or in chunks, below and above what is kept of it."""
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    pieces = (data[i : i + 1_000_000] for i in range(0, size, 1_000_000))
    _, _, body = echo.request("echo", "POST", "/echo", pieces if chunked else data)
    said = json.loads(body)

    assert (said["size"], said["sha256"]) == (size, hashlib.sha256(data).hexdigest())


def test_expect_continue(echo: Any) -> None:
    """A caller that asks before it sends is told to go on."""
    address = urlsplit(echo.url("echo"))
    with socket.create_connection((address.hostname, address.port), timeout=10) as caller:
        caller.sendall(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert caller.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(b"abc")
        answer = b""
        while chunk := caller.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["size"] == 3


def test_answers_stream(echo: Any) -> None:
    """The first rows of a streamed answer arrive before the last are made."""
    with echo.connection("echo") as connection:
        connection.request("POST", "/invocations", body=json.dumps({"stream": 10}))
        began = time.monotonic()
        answer = connection.getresponse()
        first = answer.readline()
        early = time.monotonic() - began
        rest = answer.read()
        late = time.monotonic() - began

    assert first + rest == b"".join(b"row %d\n" % number for number in range(10))
    assert late - early > 0.25  # ten rows, 0.05 s each


def test_cut_answer_is_not_passed_off_as_whole(bench: Any) -> None:
    """When the server dies inside its answer, the caller's connection breaks too."""
    bench.create(bench.spec("cut", ("primary", bench.version(1), 100)))
    with bench.connection("cut") as connection:
        connection.request("POST", "/invocations", body=json.dumps({"stream": 3, "cut": True}))
        answer = connection.getresponse()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            answer.read()

    counts = bench.provider.endpoints.metrics("cut", window_s=60)["primary"]
    assert (counts.requests, counts.errors) == (1, 1)


def test_caller_that_hangs_up(bench: Any, until: Callable[..., Any]) -> None:
    """Who hangs up frees the replica, and counts neither for nor against the variant."""
    bench.create(bench.spec("hang", ("primary", bench.version(1), 100)))
    address = urlsplit(bench.url("hang"))
    body = json.dumps({"sleep_s": 40, "log": "asked"}).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for number in range(5):
        with socket.create_connection((address.hostname, address.port), timeout=10) as caller:
            caller.sendall(head + body)
            until(lambda n=number: bench.provider.endpoints.logs("hang").count("asked") == n + 1)
            if number % 2:  # with a reset, as a killed process does
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    bench.ask("hang")

    counts = bench.provider.endpoints.metrics("hang", window_s=60)["primary"]
    assert (counts.requests, counts.errors) == (1, 0)
    # Nothing is in flight any more: the end does not wait for the sleepers.
    began = time.monotonic()
    bench.delete("hang")
    assert time.monotonic() - began < 10


def test_half_a_request(echo: Any) -> None:
    """A caller that dies in the middle of its body reaches no replica, and harms nobody."""
    address = urlsplit(echo.url("echo"))
    counts = echo.provider.endpoints.metrics("echo", window_s=600)["primary"]
    half = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
    for text in (half, b"nonsense\r\n\r\n"):
        with socket.create_connection((address.hostname, address.port), timeout=10) as caller:
            caller.sendall(text)
    assert echo.ask("echo")["number"] == 1
    after = echo.provider.endpoints.metrics("echo", window_s=600)["primary"]
    assert (after.requests, after.errors) == (counts.requests + 1, counts.errors)


def test_nobody_is_ready(bench: Any, until: Callable[..., Any]) -> None:
    """Without a ready replica the answer is 503 with Retry-After, counted as an error."""
    bench.create(bench.spec("down", ("primary", bench.version(1), 100)))
    (pid,) = bench.replicas("down")
    weights = next((bench.root / ".cloudreg/endpoints/down/models").glob("*/weights.txt"))
    weights.unlink()  # so that no successor comes up
    os.kill(pid, 9)
    until(lambda: not bench.observed("down")["variants"][0]["status"]["ready_replicas"])

    status, headers, body = bench.request("down", "POST", "/invocations", b"{}")

    assert status == 503
    assert headers["retry-after"] == "1"
    assert json.loads(body) == {"error": "no replica is ready"}
    counts = bench.provider.endpoints.metrics("down", window_s=60)["primary"]
    assert (counts.requests, counts.errors) == (1, 1)
    found = bench.provider.endpoints.endpoint("down")
    assert found.status is EndpointStatus.DEGRADED
    assert "primary: 0 of 1 replicas ready" in found.message


@pytest.mark.parametrize(
    "question", [{"die": True}, {"half": True}, {"stream": 0, "cut": True}], ids=str
)
def test_killing_request_is_counted(
    bench: Any, until: Callable[..., Any], question: dict[str, Any]
) -> None:
    """A request that kills its server is an error of that variant, and breaks two at most.

    Where a server dies in an answer of which nothing was passed on, another is asked.
    """
    name = f"poison-{next(iter(question))}"
    bench.create(bench.spec(name, ("primary", bench.version(1), 100), replicas=(4, 4)))
    before = set(bench.replicas(name))
    body = json.dumps(question)
    status, headers, _ = bench.request(name, "POST", "/invocations", body)

    assert (status, headers["x-cloudreg-error"]) == (502, "lost")
    assert bench.ask(name)["number"] == 1
    counts = bench.provider.endpoints.metrics(name, window_s=60)["primary"]
    assert (counts.requests, counts.errors) == (2, 1)
    until(lambda: len(before & set(bench.replicas(name))) == 2)
    until(lambda: len(set(bench.replicas(name))) == 4)


def test_paths_of_the_router(echo: Any) -> None:
    """What begins with ``/-/`` is the router's own, and says so when it is nothing."""
    status, _, body = echo.request("echo", "GET", "/-/status")
    assert status == 200
    assert json.loads(body)["state"] == "succeeded"
    for path in ("/-/metrics", "/-/metrics?window_s=x", "/-/metrics?window_s="):
        assert echo.request("echo", "GET", path)[0] == 400
    assert echo.request("echo", "GET", "/-/other")[0] == 404
    assert echo.request("echo", "GET", "/-/metrics?window_s=nan")[0] == 400


def test_no_request_is_lost_in_a_rollout(bench: Any, load: Callable[..., Any]) -> None:
    """While a canary goes from 10 to 50 to 100 percent, every request is answered."""
    one, two = bench.version(1), bench.version(2)
    bench.create(bench.spec("rollout", ("primary", one, 100)))
    with load(bench, "rollout") as asked:
        for weight in (10, 50):
            asked.more(100)
            bench.update(
                bench.spec("rollout", ("primary", one, 100 - weight), ("canary", two, weight))
            )
        asked.more(100)
        bench.update(bench.spec("rollout", ("primary", two, 100)))
        asked.more(100)
        bench.update(bench.spec("rollout", ("primary", one, 100), replicas=(2, 2)))
        asked.more(100)

    assert asked.problems == []
    assert set(asked.statuses) == {200}
    assert asked.count >= 500
    assert set(asked.numbers) == {1, 2}


def test_requests_under_way_are_finished(bench: Any, until: Callable[..., Any], load: Any) -> None:
    """A slow request that began before the switch gets its answer from the old version."""
    one, two = bench.version(1), bench.version(2)
    bench.create(bench.spec("slowly", ("primary", one, 100)))
    with load(bench, "slowly", threads=4, sleep_s=0.7, log="began") as asked:
        until(lambda: bench.provider.endpoints.logs("slowly").count("began") >= 4)
        status = bench.update(bench.spec("slowly", ("primary", two, 100)))
        assert status.state is OperationState.SUCCEEDED
        asked.more(4)

    assert asked.problems == []
    assert asked.numbers[1] >= 4
    assert set(asked.statuses) == {200}
