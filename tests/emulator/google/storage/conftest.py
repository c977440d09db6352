"""An emulated Cloud Storage on a port of its own, and the clients that judge it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs

from cloudreg_emulator.google.http import HttpServer
from cloudreg_emulator.google.storage import Storage, handle

PROJECT = "my-project"
NUMBER = 123456789012

_names = itertools.count(1)


class Clock:
    """A clock that a test can set forward."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        # Nothing happens at the same moment.
        self.now += 0.001
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def emulated(clock: Clock) -> Storage:
    return Storage(project=PROJECT, project_number=NUMBER, clock=clock)


@pytest.fixture(scope="module")
def server(emulated: Storage) -> Iterator[HttpServer]:
    with HttpServer(lambda request: handle(emulated, request)) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: HttpServer) -> Iterator[gcs.Client]:
    made = gcs.Client(
        project=PROJECT,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": server.url},
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def http(server: HttpServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as made:
        yield made


@pytest.fixture
def make(emulated: Storage) -> Callable[..., str]:
    """Make a bucket and return its name."""

    def bucket(**fields: Any) -> str:
        name = f"bucket-{next(_names)}"
        emulated.create_bucket(name, fields, project=PROJECT)
        return name

    return bucket


@pytest.fixture
def name(make: Callable[..., str]) -> str:
    """Return the name of a new bucket."""
    return make()


@pytest.fixture
def bucket(client: gcs.Client, name: str) -> gcs.Bucket:
    """Return a new bucket."""
    return client.bucket(name)
