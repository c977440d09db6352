"""An S3 that says what a test wrote down for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from obstore.store import S3Store

from cloudreg.objects import ObstoreObjects

Answer = tuple[int, str, dict[str, str]]


class Script:
    """Answers in order, and the requests that got them."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []

    def say(self, status: int, code: str = "", **headers: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>" if code else ""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, body, named))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.script.asked.append((self.command, self.path))
        self.script.headers.append({k.lower(): v for k, v in self.headers.items()})
        status, body, headers = self.script.answers.pop(0)
        self.send_response(status)
        named = {"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **headers}
        named.setdefault("Content-Length", str(len(body)))
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def scripted(script: Script) -> Iterator[ObstoreObjects]:
    """A store in the bucket ``b`` of that S3, which asks twice at most."""
    handler = type("Handler", (_Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    store = ObstoreObjects(
        S3Store(
            "b",
            endpoint=f"http://127.0.0.1:{server.server_port}",
            region="us-east-1",
            access_key_id="a",
            secret_access_key="s",
            disable_bulk_delete=True,
            client_options={"allow_http": True},
            retry_config={
                "max_retries": 1,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=1),
                    "max_backoff": timedelta(milliseconds=2),
                    "base": 2,
                },
            },
        ),
        target="aws",
    )
    yield store
    store.close()
    server.shutdown()
    server.server_close()
    thread.join()
