"""obstore, which speaks the XML API, works as it does with Google's own service."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import obstore
import pytest
from obstore import exceptions
from obstore.store import GCSStore

from cloudreg.testing.base import at_once
from cloudreg_emulator.google.http import HttpServer

MIB = 1024 * 1024


@pytest.fixture
def store(server: HttpServer, name: str) -> Any:
    key = {
        "gcs_base_url": server.url,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return GCSStore(
        name,
        service_account_key=json.dumps(key),
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def test_objects(store: Any) -> None:
    """Objects are put, described, read in ranges, copied, listed and deleted."""
    obstore.put(store, "a/x", b"0123456789", attributes={"mark": "m"})
    found = obstore.get(store, "a/x")
    obstore.copy(store, "a/x", "a/y")

    assert (bytes(found.bytes()), found.attributes["mark"]) == (b"0123456789", "m")
    assert bytes(obstore.get_range(store, "a/x", start=2, end=5)) == b"234"
    assert obstore.head(store, "a/y")["size"] == 10
    listed = [one["path"] for page in obstore.list(store, "a") for one in page]
    assert listed == ["a/x", "a/y"]
    obstore.delete(store, ["a/x", "a/y"])
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "a/x")


def test_many_objects(store: Any) -> None:
    """More objects than a page holds are listed once each, with offset and with folders."""
    names = sorted(f"d{number % 3}/{number:04d}" for number in range(1100))
    for one in names:
        obstore.put(store, one, b"")

    assert [one["path"] for page in obstore.list(store) for one in page] == names
    behind = obstore.list(store, offset="d1/0500")
    assert [o["path"] for page in behind for o in page] == [n for n in names if n > "d1/0500"]
    folders = obstore.list_with_delimiter(store)
    assert folders["common_prefixes"] == ["d0", "d1", "d2"]


def test_parts(store: Any) -> None:
    """An object in parts is whole, and its generation is told."""
    data = os.urandom(21 * MIB)
    made = obstore.put(store, "big", data, chunk_size=5 * MIB, max_concurrency=4)

    assert bytes(obstore.get(store, "big").bytes()) == data
    assert obstore.head(store, "big")["version"] == made["version"]


def test_conditions(store: Any) -> None:
    """What is there is not replaced by a put or a copy that may not, and ETags guard reads."""
    obstore.put(store, "a", b"1", mode="create")
    obstore.put(store, "b", b"2")
    with pytest.raises(exceptions.AlreadyExistsError):
        obstore.put(store, "a", b"2", mode="create")
    with pytest.raises(exceptions.AlreadyExistsError):
        obstore.copy(store, "b", "a", overwrite=False)
    with pytest.raises(exceptions.PreconditionError):
        obstore.get(store, "a", options={"if_match": '"0"'})

    tag = obstore.head(store, "a")["e_tag"]
    assert bytes(obstore.get(store, "a", options={"if_match": tag}).bytes()) == b"1"


def test_one_of_twelve_writers_wins(store: Any) -> None:
    """Of twelve puts that may not replace anything exactly one wins."""

    def write(number: int) -> Callable[[], int]:
        def act() -> int:
            obstore.put(store, "a", b"%d" % number, mode="create")
            return number

        return act

    outcomes = at_once([write(number) for number in range(12)])
    winners = [found for found in outcomes if isinstance(found, int)]

    assert len(winners) == 1, outcomes
    assert bytes(obstore.get(store, "a").bytes()) == b"%d" % winners[0]
