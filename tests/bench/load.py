"""Load on one HTTP route: ``load.py PORT PATH BODY CONNECTIONS SECONDS [HEADER …]``.

Each connection has one request under way: it sends the next one once the answer is whole. The
requests are built beforehand, and an answer is only looked at for its status and its length, so
that the generator costs less than any server in Python. It says how busy it was: where that is
far below 1, it was not what limited the figures.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
WARM_S = 0.5
"""Before the clock starts: the server's caches, and the slow start of its connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the clients saw.

    Attributes:
        requests: All that were answered, those before the clock started too.
        rps: Requests per second, by the clock.
        p50_ms: Half were answered within this.
        p99_ms: All but one in a hundred were.
        errors: Answers that were not 200.
        busy: The share of a core that the generator used.
    """

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    busy: float


class _Client:
    """One connection, and what has come of the answer that it waits for."""

    __slots__ = ("buffer", "sent", "socket", "total")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.total = 0
        self.sent = 0.0


def press(
    port: int,
    path: str,
    body: bytes,
    *,
    connections: int,
    seconds: float,
    headers: Sequence[str] = (),
) -> Load:
    """Send requests for *seconds*, and return what came back; *headers* are sent with each."""
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    head += "".join(f"{header}\r\n" for header in headers)
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    poll = select.epoll()
    clients = {}
    for _ in range(connections):
        client = _Client(port)
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    # One buffer for all: a new one for each read costs more than the read.
    space = bytearray(262144)
    view = memoryview(space)
    clock = time.perf_counter
    took: list[float] = []
    early = errors = 0
    for client in clients.values():
        client.sent = clock()
        client.socket.sendall(request)
    began, cpu = clock() + WARM_S, 0.0
    end = began + seconds
    warm = True
    while (now := clock()) < end:
        if warm and now >= began:
            early, warm, took, errors = len(took), False, [], 0
            cpu = time.process_time()
        for number, _ in poll.poll(1.0):
            client = clients[number]
            size = client.socket.recv_into(space)
            if not size:
                raise SystemExit("the server closed a connection")
            data = bytes(view[:size])
            if client.buffer:
                data = client.buffer + data
            if not client.total:
                start = data.find(b"\r\n\r\n")
                found = LENGTH.search(data, 0, start + 2) if start >= 0 else None
                if found is not None:
                    client.total = start + 4 + int(found[1])
                elif start >= 0:
                    raise SystemExit(f"no length in {data[:start]!r}")
            if not client.total or len(data) < client.total:
                client.buffer = data
                continue
            errors += not data.startswith(b"HTTP/1.1 200")
            client.buffer, client.total = b"", 0
            now = clock()
            took.append(now - client.sent)
            client.sent = now
            client.socket.sendall(request)
    lasted = clock() - began
    busy = (time.process_time() - cpu) / lasted
    took.sort()
    if not took:
        raise SystemExit(f"no answer in {seconds} s")
    return Load(
        requests=early + len(took),
        rps=len(took) / lasted,
        p50_ms=took[len(took) // 2] * 1000,
        p99_ms=took[len(took) * 99 // 100] * 1000,
        errors=errors,
        busy=busy,
    )


def main(port: str, path: str, body: str, connections: str, seconds: str, *headers: str) -> int:
    """Print the figures as JSON; *body* is the name of a file."""
    figures = press(
        int(port),
        path,
        Path(body).read_bytes(),
        connections=int(connections),
        seconds=float(seconds),
        headers=headers,
    )
    print(json.dumps(asdict(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
