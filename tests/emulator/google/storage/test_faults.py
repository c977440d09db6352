"""What goes wrong on demand is counted, and reads as Cloud Storage's own trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage as gcs
from google.cloud.storage.exceptions import DataCorruption

from cloudreg_emulator.faults import Armed, Fault, Kind
from cloudreg_emulator.google.storage import Storage


@pytest.fixture
def fault(emulated: Storage) -> Iterator[Callable[..., Armed]]:
    def arm(kind: Kind, operation: str, **options: Any) -> Armed:
        return emulated.faults.arm(
            Fault(kind=kind, service="storage", operation=operation, **options)
        )

    yield arm
    emulated.faults.disarm()


@pytest.mark.parametrize("kind", [Kind.THROTTLE, Kind.ERROR])
def test_client_tries_again(bucket: gcs.Bucket, fault: Callable[..., Armed], kind: Kind) -> None:
    """Google's client repeats what was throttled or failed, and ends well."""
    armed = fault(kind, "objects.insert", count=2)
    bucket.blob("a").upload_from_string(b"x", if_generation_match=0)

    assert armed.struck == 2
    assert bucket.blob("a").download_as_bytes() == b"x"


def test_words(http: httpx.Client, name: str, fault: Callable[..., Armed]) -> None:
    """A throttled request is a 429 with the usage's domain; in XML it is SlowDown."""
    fault(Kind.THROTTLE, "objects.*", count=2)
    json = http.get(f"/storage/v1/b/{name}/o/a")
    xml = http.get(f"/{name}/a")
    error = json.json()["error"]["errors"][0]

    assert (json.status_code, error["reason"], error["domain"]) == (
        429,
        "rateLimitExceeded",
        "usageLimits",
    )
    assert (xml.status_code, "<Code>SlowDown</Code>" in xml.text) == (429, True)


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [(Kind.EXPIRED, 401, "authError"), (Kind.DENIED, 403, "forbidden")],
)
def test_not_allowed(
    http: httpx.Client,
    name: str,
    fault: Callable[..., Armed],
    kind: Kind,
    status: int,
    reason: str,
) -> None:
    """Credentials that ended, and rights that are missing, refuse a request of either API."""
    armed = fault(kind, "objects.*", count=2)
    written = http.put(f"/{name}/a", content=b"x")
    read = http.get(f"/storage/v1/b/{name}/o/a")

    assert (written.status_code, read.status_code, armed.struck) == (status, status, 2)
    assert read.json()["error"]["errors"][0]["reason"] == reason
    assert http.get(f"/{name}/a").status_code == 404


@pytest.mark.parametrize("status", [503, 0])
def test_lost_answer(bucket: gcs.Bucket, fault: Callable[..., Armed], status: int) -> None:
    """What was done stays done: the client asks again and is told that the object is there."""
    armed = fault(Kind.LOST, "objects.insert", status=status)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string(b"x", if_generation_match=0)

    assert armed.struck == 1
    assert bucket.blob("a").download_as_bytes() == b"x"


def test_late_listing(
    client: gcs.Client, bucket: gcs.Bucket, fault: Callable[..., Armed], clock: Any
) -> None:
    """A listing can show what was some seconds ago: before a put, a change and a deletion."""
    for name in ("kept", "gone"):
        bucket.blob(name).upload_from_string(b"old")
    clock.now += 100
    bucket.blob("gone").delete()
    bucket.blob("new").upload_from_string(b"x")
    bucket.blob("kept").upload_from_string(b"longer")
    armed = fault(Kind.STALE, "objects.list", seconds=50)
    late = {blob.name: blob.size for blob in client.list_blobs(bucket)}
    now = {blob.name: blob.size for blob in client.list_blobs(bucket)}

    assert armed.struck == 1
    assert late == {"kept": 3, "gone": 3}
    assert now == {"kept": 6, "new": 1}


def test_garbled_bytes(bucket: gcs.Bucket, fault: Callable[..., Armed]) -> None:
    """The client notices bytes that are not those of the checksum."""
    bucket.blob("a").upload_from_string(b"right")
    armed = fault(Kind.GARBLED, "objects.get")
    with pytest.raises(DataCorruption):
        bucket.blob("a").download_as_bytes()

    assert armed.struck == 1
    assert bucket.blob("a").download_as_bytes() == b"right"


def test_truncated_bytes(http: httpx.Client, name: str, fault: Callable[..., Armed]) -> None:
    """An answer that breaks off is an error of the connection, and a HEAD has nothing to break."""
    http.put(f"/{name}/a", content=b"x" * 100_000)
    armed = fault(Kind.TRUNCATED, "objects.get")
    http.head(f"/{name}/a")
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(f"/{name}/a")

    assert armed.struck == 1
    assert len(http.get(f"/{name}/a").content) == 100_000
