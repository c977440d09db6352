"""The object store in a bucket: Cloud Storage's own rules, and what happens to lost requests."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import obstore
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2.service_account import Credentials
from obstore.store import GCSStore

from cloudreg.errors import (
    AlreadyExists,
    ConfigError,
    Conflict,
    IntegrityError,
    PermissionDenied,
    Unavailable,
)
from cloudreg.provider import StoredObject
from cloudreg.testing.base import at_once, fresh
from cloudreg.testing.listing import ListingTests
from cloudreg.testing.store import StoreTests
from cloudreg.testing.uploads import UploadTests
from cloudreg_emulator.faults import Armed, Fault, Kind
from cloudreg_emulator.google.http import HttpServer, Request, Response
from cloudreg_emulator.google.storage import Storage, handle
from cloudreg_emulator.google.storage.content import Content
from cloudreg_vertex.gcs import SCOPES, address_of
from cloudreg_vertex.parts import PART, cut, part_size
from cloudreg_vertex.settings import VertexSettings
from cloudreg_vertex.store import GcsObjects, _tokens

PROJECT = "my-project"
NUMBER = 123456789012
LOCATION = "us-central1"
KEY = f"projects/{PROJECT}/locations/{LOCATION}/keyRings/ring/cryptoKeys/key"
MIB = 1024 * 1024
CONTENT = b"".join(number.to_bytes(4, "big") * (MIB // 4) for number in range(30))


@pytest.fixture(scope="module")
def storage() -> Storage:
    made = Storage(project=PROJECT, project_number=NUMBER)
    for name, location in (("models", LOCATION), ("elsewhere", "EU")):
        made.create_bucket(name, {"location": location}, project=PROJECT)
    return made


@pytest.fixture(scope="module")
def server(storage: Storage) -> Iterator[HttpServer]:
    with HttpServer(lambda request: handle(storage, request)) as made:
        yield made


@pytest.fixture(scope="module")
def opened(server: HttpServer) -> Iterator[Callable[..., GcsObjects]]:
    made: list[GcsObjects] = []

    def open_store(*, clock: Callable[[], float] = time.time, **options: Any) -> GcsObjects:
        options = {
            "project": PROJECT,
            "location": LOCATION,
            "bucket": "models",
            "storage_url": server.url,
            **options,
        }
        made.append(GcsObjects(VertexSettings(**options), target="gcp", clock=clock))
        return made[-1]

    yield open_store
    for store in made:
        store.close()


class TestGcs(StoreTests, UploadTests):
    """A bucket of the emulated Cloud Storage."""

    threads = 8

    # Without a prefix: Cloud Storage counts it to the 1024 bytes of a name.
    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, opened: Callable[..., GcsObjects]) -> SimpleNamespace:
        return SimpleNamespace(store=opened())


class TestGcsBelowAPrefix(ListingTests):
    """What a listing shows where all keys are below a prefix."""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, opened: Callable[..., GcsObjects]) -> SimpleNamespace:
        return SimpleNamespace(store=opened(prefix="teams/fraud"))


@pytest.fixture(scope="module")
def store(opened: Callable[..., GcsObjects]) -> GcsObjects:
    return opened(prefix="own")


@pytest.fixture
def fault(storage: Storage) -> Iterator[Callable[..., Armed]]:
    """Arm a fault of Cloud Storage."""

    def arm(kind: Kind, operation: str, **options: Any) -> Armed:
        return storage.faults.arm(
            Fault(kind=kind, service="storage", operation=operation, **options)
        )

    yield arm
    storage.faults.disarm()


@pytest.fixture
def requests(fault: Callable[..., Armed]) -> Callable[[str], Armed]:
    """Count the requests of an operation: a fault that never strikes sees them all."""
    return lambda operation: fault(Kind.ERROR, operation, after=1_000_000)


@pytest.fixture
def key() -> str:
    return f"{fresh('key')}/object"


def pieces(*, broken_at: int | None = None) -> Iterator[bytes]:
    """Give the content, or break after so many bytes."""
    for start in range(0, broken_at or len(CONTENT), MIB):
        yield CONTENT[start : start + MIB]
    if broken_at is not None:
        raise InterruptedError


def content(store: GcsObjects, key: str) -> bytes:
    with store.open(key) as reader:
        return reader.read()


def folder(key: str) -> str:
    """Return where uploads of a key are made."""
    return f"own/uploads/{hashlib.sha256(f'own/{key}'.encode()).hexdigest()}/"


def left(storage: Storage, key: str) -> list[str]:
    """Return what stands where uploads of a key are made, finished or not."""
    names = [one.name for one in unfinished(storage, key)]
    return names + [n for n in storage.shelves["models"].live if n.startswith(folder(key))]


def unfinished(storage: Storage, key: str) -> list[Any]:
    return [one for one in storage.uploads.unfinished("models") if one.name.startswith(folder(key))]


def resource(storage: Storage, key: str) -> Any:
    return storage.shelves["models"].live[f"own/{key}"]


VERBS: dict[str, Callable[[GcsObjects, Path], object]] = {
    "put": lambda store, _: store.put(b"x", "a"),
    "get": lambda store, path: store.get("a", path / "dest"),
    "open": lambda store, _: store.open("a"),
    "copy": lambda store, _: store.copy("a", "b"),
    "list": lambda store, _: list(store.list("")),
    "delete": lambda store, _: store.delete("a"),
    "generation": lambda store, _: store.generation("a"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_bucket_of_another_project(
    opened: Callable[..., GcsObjects], storage: Storage, tmp_path: Path, verb: str
) -> None:
    """A bucket that is not the project's is refused to every verb, and nothing is written."""
    before = dict(storage.shelves["models"].live)
    with pytest.raises(PermissionDenied, match=f"is project {NUMBER}'s, and {PROJECT} is 999"):
        VERBS[verb](opened(project_number=999), tmp_path)

    assert storage.shelves["models"].live == before


def test_number_of_the_project_is_asked_for(opened: Callable[..., GcsObjects]) -> None:
    """Without a number in the settings the project is asked for it; a strange project has none."""
    opened().put(b"x", "asked/a")
    with pytest.raises(PermissionDenied, match="project 'another-one': its number cannot be read"):
        opened(project="another-one").put(b"x", "asked/a")


def test_bucket_that_is_missing(opened: Callable[..., GcsObjects]) -> None:
    """A bucket is never made: one that is missing is an error of the configuration."""
    with pytest.raises(ConfigError, match="'nothing-here' does not exist"):
        opened(bucket="nothing-here").put(b"x", "a")


def test_bucket_elsewhere(opened: Callable[..., GcsObjects]) -> None:
    """A bucket in another location is refused, with both: Vertex AI would not read it."""
    with pytest.raises(ConfigError, match="is in eu, not in us-central1"):
        opened(bucket="elsewhere").put(b"x", "a")


def test_bucket_that_goes(opened: Callable[..., GcsObjects], storage: Storage) -> None:
    """A bucket that is deleted under an open store is an error of the configuration."""
    storage.create_bucket("passing", {"location": LOCATION}, project=PROJECT)
    store = opened(bucket="passing")
    store.put(b"x", "a")
    del storage.shelves["passing"]
    for verb in (
        lambda: store.put(b"x", "a"),
        lambda: store.put(b"x", "a", if_absent=True),
        lambda: store.put(pieces(), "a"),
        lambda: store.open("a"),
        lambda: list(store.list("")),
    ):
        with pytest.raises(ConfigError):
            verb()


def test_nothing_is_asked_at_first(
    opened: Callable[..., GcsObjects], requests: Callable[[str], Armed], key: str
) -> None:
    """A store that is only opened asks nothing; then bucket and project are asked for once."""
    every = requests("*")
    looked = requests("buckets.get")
    store = opened(project_number=NUMBER)

    assert every.seen == 0
    store.put(b"x", key)
    store.put(b"y", key)
    # The oldest fault that matches counts an occasion first; each of them sees it.
    assert (looked.seen, every.seen) == (1, 3)


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials nothing is asked, and the hint says how to get some."""
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    settings = VertexSettings(project=PROJECT, location=LOCATION, bucket="models")
    with pytest.raises(PermissionDenied, match="gcloud auth application-default login"):
        GcsObjects(settings, target="gcp").put(b"x", "a")


def test_tokens(storage: Storage) -> None:
    """Tokens come from Google's own chain, reach obstore's requests, and are kept while good."""
    seen: list[tuple[str, str]] = []

    def answer(request: Request) -> Response:
        seen.append((request.path, request.headers.get("authorization", "")))
        if request.path == "/token":
            body = json.dumps({"access_token": f"token-{len(seen)}", "expires_in": 3600})
            return Response(headers={"Content-Type": "application/json"}, body=body.encode())
        return handle(storage, request)

    with HttpServer(answer) as server:
        account = {
            "type": "service_account",
            "client_email": "deployer@my-project.iam.gserviceaccount.com",
            "private_key": _private_key(),
            "token_uri": f"{server.url}/token",
        }
        found = Credentials.from_service_account_info(account, scopes=SCOPES)
        native = GCSStore(
            "models",
            config={"base_url": server.url},
            client_options={"allow_http": True},
            credential_provider=_tokens(found),
        )
        for _ in range(2):
            obstore.put(native, "own/tokens", b"x", use_multipart=False)

    assert seen == [("/token", ""), *[("/models/own%2Ftokens", "Bearer token-1")] * 2]


def _private_key() -> str:
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def test_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator is found by setting, by environment, or beside Vertex AI; else it is Google."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)

    def address(**options: str) -> str | None:
        where = {"project": PROJECT, "location": LOCATION, "bucket": "models"}
        return address_of(VertexSettings(**where, **options))

    assert address() is None
    assert address(endpoint_url="http://vertex:1") == "http://vertex:1"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://env:2/")
    assert address(endpoint_url="http://vertex:1") == "http://env:2"
    assert address(storage_url="http://own:3/") == "http://own:3"


def test_encryption(opened: Callable[..., GcsObjects], storage: Storage, key: str) -> None:
    """With a key of Cloud KMS everything that is made is encrypted with it, copies too."""
    store = opened(prefix="own", kms_key=KEY)
    store.put(b"small", f"{key}/small")
    store.put(b"once", f"{key}/once", if_absent=True)
    store.put(CONTENT, f"{key}/large", if_absent=True)
    store.copy(f"{key}/small", f"{key}/copy")
    store.copy(f"{key}/large", f"{key}/copied once", if_absent=True)

    names = [stored.key for stored in store.list(key)]
    assert len(names) == 5
    for name in names:
        assert resource(storage, name).fields["kmsKeyName"].startswith(KEY), name


def test_generation(store: GcsObjects, storage: Storage, server: HttpServer, key: str) -> None:
    """The generation of an object names one state of it: once replaced it is not read any more."""
    store.put(b"one", key)
    first = store.generation(key)
    url = f"{server.url}/models/own/{key}?generation={first}"
    assert httpx.get(url).content == b"one"

    store.put(CONTENT, key)
    assert store.generation(key) > first
    assert httpx.get(url).status_code == 404
    assert resource(storage, key).generation == store.generation(key)


def test_checksums(storage: Storage, key: str) -> None:
    """Whatever is sent has a checksum that Cloud Storage looks at before it keeps anything."""
    sent: list[tuple[str, str | None]] = []

    def noting(request: Request) -> Response:
        if request.method == "PUT" and request.size:
            told = request.headers.get("x-goog-hash")
            sent.append((str(request.arg("partNumber")), told))
            if told is not None:
                # A byte that changes on the way is found by nothing else.
                assert f"crc32c={Content.of(request.read()).crc32c}" == told
        return handle(storage, request)

    with HttpServer(noting) as server:
        where = {"project": PROJECT, "location": LOCATION, "bucket": "models", "prefix": "own"}
        store = GcsObjects(VertexSettings(**where, storage_url=server.url), target="gcp")
        store.put(b"small", f"{key}/small")
        store.put(b"once", f"{key}/once", if_absent=True)
        store.put(CONTENT, f"{key}/large", if_absent=True)
        store.close()

    assert sorted(part for part, _ in sent) == ["1", "2", "3", "4", "None", "None"]
    assert None not in [told for _, told in sent]


@pytest.mark.parametrize("status", [503, 0])
def test_lost_answer_to_a_put(
    store: GcsObjects, fault: Callable[..., Armed], key: str, status: int
) -> None:
    """A put whose answer was lost has won all the same; a second one has not."""
    lost = fault(Kind.LOST, "objects.insert", status=status)
    with suppress(Unavailable):
        store.put(b"mine", key, if_absent=True)

    assert lost.struck == 1
    assert content(store, key) == b"mine"
    with pytest.raises(AlreadyExists):
        store.put(b"mine", key, if_absent=True)


@pytest.mark.parametrize("operation", ["objects.insert", "multipart.complete", "objects.rewrite"])
def test_lost_answer_is_known_again(
    store: GcsObjects, storage: Storage, fault: Callable[..., Armed], key: str, operation: str
) -> None:
    """Who is asked again after a lost answer does not take its own object for another's."""
    data = b"small" if operation == "objects.insert" else CONTENT
    lost = fault(Kind.LOST, operation)
    stored = store.put(data, key, if_absent=True)

    assert lost.struck == 1
    assert stored.size == len(data)
    assert content(store, key) == data
    assert left(storage, key) == []


@pytest.mark.parametrize("size", [0, 5, len(CONTENT)])
def test_lost_answer_to_a_copy(
    store: GcsObjects, fault: Callable[..., Armed], key: str, size: int
) -> None:
    """A copy whose answer was lost is known again, of any size."""
    store.put(CONTENT[:size], f"{key}/from")
    lost = fault(Kind.LOST, "objects.copy")
    store.copy(f"{key}/from", f"{key}/to", if_absent=True)

    assert lost.struck == 1
    assert content(store, f"{key}/to") == CONTENT[:size]


@pytest.mark.parametrize(
    "operation",
    [
        "objects.insert",
        "objects.get",
        "multipart.begin",
        "multipart.part",
        "multipart.complete",
        "objects.rewrite",
        "objects.delete",
    ],
)
def test_throttled(
    store: GcsObjects, fault: Callable[..., Armed], key: str, tmp_path: Path, operation: str
) -> None:
    """Requests that come too fast are sent again, below this store."""
    throttled = fault(Kind.THROTTLE, operation, count=2)
    store.put(b"small", f"{key}/small", if_absent=True)
    store.put(CONTENT, f"{key}/large", if_absent=True)
    store.get(f"{key}/large", tmp_path / "dest")

    assert throttled.struck == 2
    assert (tmp_path / "dest").read_bytes() == CONTENT


def test_upload_goes_on(
    store: GcsObjects, requests: Callable[[str], Armed], storage: Storage, key: str
) -> None:
    """What an upload that broke had stored is not sent again, and nothing of it stays."""
    with pytest.raises(InterruptedError):
        store.put(pieces(broken_at=25 * MIB), key, resume="one")
    assert len(left(storage, key)) == 1

    sent = requests("multipart.part")
    store.put(pieces(), key, resume="one")

    assert sent.seen == 1  # 30 MiB are four parts, of which three were whole
    assert content(store, key) == CONTENT
    assert left(storage, key) == []


def test_upload_without_a_name_leaves_nothing(
    store: GcsObjects, storage: Storage, key: str
) -> None:
    """An upload that nobody could find again is given up when it breaks."""
    with pytest.raises(InterruptedError):
        store.put(pieces(broken_at=25 * MIB), key)

    assert left(storage, key) == []


def test_upload_of_a_killed_process_goes_on(
    server: HttpServer,
    store: GcsObjects,
    requests: Callable[[str], Armed],
    storage: Storage,
    key: str,
) -> None:
    """Another process goes on where one was killed."""
    text = f"""
import os, re, signal, time
from urllib.request import urlopen
from cloudreg_vertex.settings import VertexSettings
from cloudreg_vertex.store import GcsObjects
settings = VertexSettings(project={PROJECT!r}, location={LOCATION!r}, bucket="models",
                          prefix="own", storage_url={server.url!r})
def asked(path):
    return urlopen({server.url!r} + "/models" + path).read().decode()
def landed():
    found = re.search("<Key>(.*?)</Key><UploadId>(.*?)<", asked("?uploads&prefix={folder(key)}"))
    return asked(f"/{{found[1]}}?uploadId={{found[2]}}").count("<Part>")
def pieces():
    for number in range(30):
        if number == 28:
            while landed() < 3:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        yield number.to_bytes(4, "big") * {MIB // 4}
GcsObjects(settings, target="gcp").put(pieces(), {key!r}, resume="one")
"""
    done = subprocess.run([sys.executable, "-c", text], check=False, timeout=60)
    assert done.returncode == -9
    assert len(unfinished(storage, key)[0].parts) == 3

    sent = requests("multipart.part")
    store.put(pieces(), key, resume="one")

    assert sent.seen == 1
    assert content(store, key) == CONTENT
    assert left(storage, key) == []


def test_abandoned_uploads_are_swept(
    opened: Callable[..., GcsObjects], store: GcsObjects, storage: Storage, key: str
) -> None:
    """What nobody took up again for a day is removed by a later upload, finished or not."""
    with pytest.raises(InterruptedError):
        store.put(pieces(broken_at=9 * MIB), key, resume="one")
    store.put(b"made, and never copied", "uploads/somebody's")
    tomorrow = opened(prefix="own", clock=lambda: time.time() + 25 * 3600)
    tomorrow.put(pieces(), f"{key}2", resume="other")

    assert left(storage, key) == []
    assert list(store.list("uploads/")) == []
    assert content(store, f"{key}2") == CONTENT


def test_many_parts_at_once_have_one_winner(store: GcsObjects, storage: Storage, key: str) -> None:
    """Of large puts of one name at once, with if_absent, exactly one wins."""

    def put(number: int) -> StoredObject:
        source = (bytes([number]) * MIB for _ in range(9))
        return store.put(source, key, if_absent=True, resume="one")

    outcomes = at_once([partial(put, number) for number in range(4)])
    winners = [n for n, found in enumerate(outcomes) if isinstance(found, StoredObject)]

    assert len(winners) == 1, outcomes
    assert content(store, key) == bytes([winners[0]]) * (9 * MIB)
    assert left(storage, key) == []


def test_copy_of_what_changed_meanwhile(store: GcsObjects, storage: Storage, key: str) -> None:
    """A copy of bytes that are replaced at that moment is refused, and nothing is made."""
    store.put(b"one", key)
    parts = store._parts
    assert parts is not None
    with pytest.raises(Conflict):
        parts.copy(f"own/{key}", f"own/{key}2", size=3, tag='"0123"', if_absent=False)

    assert f"own/{key}2" not in storage.shelves["models"].live


def test_bytes_that_were_spoiled_on_the_way(storage: Storage, key: str) -> None:
    """An object in parts whose checksum is another at the end is removed, and never shown."""

    def spoiling(request: Request) -> Response:
        answer = handle(storage, request)
        if request.method == "POST" and request.arg("uploadId"):
            headers = {**answer.headers, "x-goog-hash": "crc32c=AAAAAA=="}
            return replace(answer, headers=headers)
        return answer

    with HttpServer(spoiling) as server:
        where = {"project": PROJECT, "location": LOCATION, "bucket": "models", "prefix": "own"}
        store = GcsObjects(VertexSettings(**where, storage_url=server.url), target="gcp")
        with pytest.raises(IntegrityError, match="has other bytes than were sent"):
            store.put(pieces(), key, if_absent=True, resume="one")
        store.close()

    assert left(storage, key) == []
    assert f"own/{key}" not in storage.shelves["models"].live


def test_bytes_that_break_off(
    store: GcsObjects, fault: Callable[..., Armed], key: str, tmp_path: Path
) -> None:
    """A read that breaks off goes on, or ends in an error that says so: never in fewer bytes."""
    store.put(CONTENT, key)
    broken = fault(Kind.TRUNCATED, "objects.get")
    try:
        store.get(key, tmp_path / "dest")
    except Unavailable:
        assert not (tmp_path / "dest").exists()
        store.get(key, tmp_path / "dest")

    assert broken.struck == 1
    assert (tmp_path / "dest").read_bytes() == CONTENT


def test_cut() -> None:
    """Parts are of the sizes that a put which goes on expects, whatever pieces come."""
    parts = list(cut(iter([b"x" * (PART - 1), b"yz", b"x" * PART])))

    assert [len(part) for part in parts] == [PART, PART, 1]
    assert list(cut(iter([]))) == [b""]
    assert [part_size(number) // PART for number in (1, 1000, 1001, 10_000)] == [1, 1, 2, 10]


def test_no_sdk_is_imported() -> None:
    """To import the store brings neither Google's SDK nor obstore's store of Google."""
    code = (
        "import sys, cloudreg_vertex, cloudreg_vertex.store\n"
        "print([m for m in sys.modules if m in ('google.auth', 'requests', 'grpc', 'boto3')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )

    assert done.stdout.strip() == "[]"
