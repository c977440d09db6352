"""Connections to Vertex AI: as many as calls are made side by side, and each is used again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cloudreg_emulator.google.http import HttpServer, Request, Response

AT_ONCE, ROUNDS = 32, 3


class Meeting:
    """A server that answers only once so many requests are there."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(AT_ONCE)
        self.server = HttpServer(self._handle)

    def _handle(self, request: Request) -> Response:
        self.barrier.wait(timeout=60)
        return Response(headers={"Content-Type": "application/json"}, body=b"{}")


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.server.close()


@pytest.mark.parametrize("through", ["the generated client", "the session"])
def test_calls_side_by_side(
    through: str, cloud: Any, meeting: Meeting, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls side by side open a connection each, and those after them open none."""
    services = cloud.open(endpoint_url=meeting.server.url).services

    def list_models(_: int) -> None:
        services.call("models", "list_models", {"parent": services.parent}, what="models")

    def ask(_: int) -> None:
        services.session().get(f"{meeting.server.url}/v3/projects/p", timeout=60).json()

    act: Callable[[int], None] = list_models if through == "the generated client" else ask
    services.client("models")
    caplog.set_level(logging.DEBUG, logger="urllib3.connectionpool")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(ROUNDS):
            list(pool.map(act, range(AT_ONCE)))

    said = [record.getMessage() for record in caplog.records]
    assert sum("Starting new HTTP connection" in line for line in said) == AT_ONCE
    assert not [line for line in said if "pool is full" in line]
