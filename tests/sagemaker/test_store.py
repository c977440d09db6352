"""The object store in a bucket: S3's own rules, and what happens when requests are lost."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.s3.models import s3_backends

from cloudreg.errors import AlreadyExists, ConfigError, PermissionDenied, Unavailable
from cloudreg.provider import StoredObject
from cloudreg.testing.base import at_once, fresh
from cloudreg.testing.store import StoreTests
from cloudreg.testing.uploads import UploadTests
from cloudreg_emulator.aws import AwsServer
from cloudreg_emulator.faults import Armed, Fault, Kind
from cloudreg_sagemaker.checksums import ALGORITHM, FIELD, checksum
from cloudreg_sagemaker.parts import PART, cut, part_size
from cloudreg_sagemaker.store import S3Objects

ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    with AwsServer() as made:
        yield made


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="a", aws_secret_access_key="s", region_name="us-east-1")


@pytest.fixture(scope="module")
def client(server: AwsServer, session: boto3.Session) -> Any:
    made = session.client("s3", endpoint_url=server.url)
    made.create_bucket(Bucket="models")
    return made


@pytest.fixture(scope="module")
def opened(
    server: AwsServer, session: boto3.Session, client: Any
) -> Iterator[Callable[..., S3Objects]]:
    made: list[S3Objects] = []

    def open_store(**options: Any) -> S3Objects:
        options = {"bucket": "models", "region": "us-east-1", "target": "aws", **options}
        made.append(S3Objects(session, endpoint_url=server.url, **options))
        return made[-1]

    yield open_store
    for store in made:
        store.close()


class TestS3(StoreTests, UploadTests):
    """A bucket of the emulated S3, below a prefix."""

    threads = 8

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, opened: Callable[..., S3Objects]) -> SimpleNamespace:
        return SimpleNamespace(store=opened(prefix="teams/fraud"))


MIB = 1024 * 1024
CONTENT = b"".join(number.to_bytes(4, "big") * (MIB // 4) for number in range(30))


@pytest.fixture(scope="module")
def store(opened: Callable[..., S3Objects]) -> S3Objects:
    return opened(prefix="own")


@pytest.fixture
def fault(server: AwsServer) -> Iterator[Callable[..., Armed]]:
    """Arm a fault of S3."""

    def arm(kind: Kind, operation: str, **options: Any) -> Armed:
        return server.faults.arm(Fault(kind=kind, service="s3", operation=operation, **options))

    yield arm
    server.faults.disarm()


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


def content(store: S3Objects, key: str) -> bytes:
    with store.open(key) as reader:
        return reader.read()


def unfinished(client: Any, key: str) -> list[str]:
    found = client.list_multipart_uploads(Bucket="models", Prefix=f"own/{key}").get("Uploads", ())
    return [upload["Key"] for upload in found]


VERBS: dict[str, Callable[[S3Objects, Path], object]] = {
    "put": lambda store, _: store.put(b"x", "a"),
    "get": lambda store, path: store.get("a", path / "dest"),
    "open": lambda store, _: store.open("a"),
    "copy": lambda store, _: store.copy("a", "b"),
    "list": lambda store, _: list(store.list("")),
    "delete": lambda store, _: store.delete("a"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_bucket_of_somebody_else(
    opened: Callable[..., S3Objects], client: Any, tmp_path: Path, verb: str
) -> None:
    """A bucket that is not the account's is refused to every verb, and nothing is written."""
    before = client.list_objects_v2(Bucket="models")["KeyCount"]
    bucket = s3_backends[ACCOUNT]["aws"].buckets["models"]
    owner, bucket.account_id = bucket.account_id, "999999999999"
    try:
        with pytest.raises(PermissionDenied, match=f"is not account {ACCOUNT}'s"):
            VERBS[verb](opened(), tmp_path)
    finally:
        bucket.account_id = owner
    assert client.list_objects_v2(Bucket="models")["KeyCount"] == before


def test_credentials_of_another_account(opened: Callable[..., S3Objects]) -> None:
    """Whose the credentials are is asked before anything is touched, and not taken on trust."""
    with pytest.raises(PermissionDenied, match=f"of account {ACCOUNT}, the target's is 9{{12}}"):
        opened(account="999999999999").put(b"x", "hands/b")


def test_bucket_that_changes_hands(server: AwsServer, session: boto3.Session, client: Any) -> None:
    """Every request names the owner that was found, so a bucket that was made anew is refused."""
    store = S3Objects(
        session,
        bucket="models",
        region="us-east-1",
        target="aws",
        account=ACCOUNT,
        endpoint_url=server.url,
    )
    store.put(b"x", "hands/a")
    bucket = s3_backends[ACCOUNT]["aws"].buckets["models"]
    owner, bucket.account_id = bucket.account_id, "999999999999"
    try:
        for verb in (
            lambda: store.put(b"x", "hands/b"),
            lambda: store.put(b"x", "hands/b", if_absent=True),
            lambda: store.put(pieces(), "hands/b", resume="one"),
            lambda: store.open("hands/a"),
            lambda: store.copy("hands/a", "hands/b"),
            lambda: list(store.list("hands/")),
            lambda: store.delete("hands/a"),
        ):
            with pytest.raises(PermissionDenied):
                verb()
    finally:
        bucket.account_id = owner
    assert [stored.key for stored in store.list("hands/")] == ["hands/a"]
    store.close()


def test_bucket_that_is_missing(opened: Callable[..., S3Objects]) -> None:
    """A bucket is never made: one that is missing is an error of the configuration."""
    with pytest.raises(ConfigError, match="'nothing-here' does not exist"):
        opened(bucket="nothing-here").put(b"x", "a")


def test_bucket_elsewhere(opened: Callable[..., S3Objects]) -> None:
    """A bucket in another region is refused, with both regions."""
    with pytest.raises(ConfigError, match="is in us-east-1, not in eu-west-1"):
        opened(region="eu-west-1").put(b"x", "a")


def test_no_credentials(server: AwsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials nothing is asked, and the hint says how to get some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    store = S3Objects(
        boto3.Session(), bucket="models", region="us-east-1", target="aws", endpoint_url=server.url
    )
    with pytest.raises(PermissionDenied, match="aws configure"):
        store.put(b"x", "a")


def test_certificates_that_are_missing(
    session: boto3.Session, monkeypatch: pytest.MonkeyPatch, server: AwsServer
) -> None:
    """A bundle of certificates that cannot be read is an error of the configuration."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/bundle.pem")
    store = S3Objects(
        session,
        bucket="models",
        region="us-east-1",
        target="aws",
        account=ACCOUNT,
        endpoint_url=server.url.replace("http:", "https:"),
    )
    with pytest.raises(ConfigError, match=r"bundle\.pem"):
        store.put(b"x", "a")


def test_nothing_is_asked_at_first(
    opened: Callable[..., S3Objects], requests: Callable[[str], Armed], key: str
) -> None:
    """A store that is only opened asks nothing; then the owner is asked for once."""
    every = requests("*")
    looked = requests("HeadBucket")
    store = opened()

    assert every.seen == 0
    store.put(b"x", key)
    store.put(b"y", key)
    assert (looked.seen, every.seen) == (1, 3)


def test_encryption(opened: Callable[..., S3Objects], client: Any, key: str) -> None:
    """With a key of KMS everything that is made is encrypted with it, copies too."""
    store = opened(kms_key="alias/models")
    store.put(b"small", f"{key}/small")
    store.put(b"once", f"{key}/once", if_absent=True)
    store.put(CONTENT, f"{key}/large")
    store.copy(f"{key}/small", f"{key}/copy")
    store.copy(f"{key}/large", f"{key}/copied once", if_absent=True)

    for stored in store.list(key):
        head = client.head_object(Bucket="models", Key=stored.key)
        assert head["ServerSideEncryption"] == "aws:kms", stored.key
        assert head["SSEKMSKeyId"].endswith("alias/models"), stored.key


def test_checksums(store: S3Objects, client: Any, key: str) -> None:
    """S3 gets a checksum of everything that is sent, and keeps it."""
    store.put(b"small", f"{key}/small")
    store.put(CONTENT, f"{key}/large")
    small, large = (
        client.head_object(Bucket="models", Key=f"own/{key}/{name}", ChecksumMode="ENABLED")
        for name in ("small", "large")
    )

    assert small["ChecksumSHA256"]
    assert large[FIELD].endswith("-4")
    assert large["ChecksumType"] == "COMPOSITE"


@pytest.mark.parametrize("status", [503, 0])
def test_lost_answer_to_a_put(
    store: S3Objects, fault: Callable[..., Armed], key: str, status: int
) -> None:
    """A put whose answer was lost has won all the same; a second one has not."""
    lost = fault(Kind.LOST, "PutObject", status=status)
    with suppress(Unavailable):
        store.put(b"mine", key, if_absent=True)

    assert lost.struck == 1
    assert content(store, key) == b"mine"
    with pytest.raises(AlreadyExists):
        store.put(b"mine", key, if_absent=True)


def test_lost_answer_is_known_again(
    store: S3Objects, fault: Callable[..., Armed], key: str
) -> None:
    """Who is asked again after a lost answer does not take its own object for another's."""
    for number, data in enumerate((b"small", CONTENT)):
        operation = ("PutObject", "CompleteMultipartUpload")[number]
        lost = fault(Kind.LOST, operation)
        stored = store.put(data, f"{key}/{number}", if_absent=True)

        assert lost.struck == 1
        assert stored.size == len(data)
        assert content(store, f"{key}/{number}") == data


def test_lost_answer_to_a_copy(store: S3Objects, fault: Callable[..., Armed], key: str) -> None:
    """A copy whose answer was lost is known again, of any size."""
    for data in (b"", b"small"):
        store.put(data, f"{key}/{len(data)}")
        lost = fault(Kind.LOST, "CompleteMultipartUpload" if data else "PutObject")
        store.copy(f"{key}/{len(data)}", f"{key}/to {len(data)}", if_absent=True)

        assert lost.struck == 1
        assert content(store, f"{key}/to {len(data)}") == data


@pytest.mark.parametrize(
    "operation", ["PutObject", "GetObject", "HeadObject", "UploadPart", "CompleteMultipartUpload"]
)
def test_throttled(
    store: S3Objects, fault: Callable[..., Armed], key: str, tmp_path: Path, operation: str
) -> None:
    """Requests that come too fast are sent again, below this store."""
    throttled = fault(Kind.THROTTLE, operation, count=2)
    store.put(b"small", f"{key}/small", if_absent=True)
    store.put(CONTENT, f"{key}/large", if_absent=True)
    store.get(f"{key}/large", tmp_path / "dest")

    assert throttled.struck == 2
    assert (tmp_path / "dest").read_bytes() == CONTENT


def test_upload_goes_on(
    store: S3Objects, requests: Callable[[str], Armed], client: Any, key: str
) -> None:
    """What an upload that broke had stored is not sent again, and nothing of it stays."""
    with pytest.raises(InterruptedError):
        store.put(pieces(broken_at=25 * MIB), key, resume="one")
    assert unfinished(client, key) == [f"own/{key}"]

    sent = requests("UploadPart")
    store.put(pieces(), key, resume="one")

    assert sent.seen == 1  # 30 MiB are four parts, of which three were whole
    assert content(store, key) == CONTENT
    assert unfinished(client, key) == []


def test_upload_of_another_tool_is_left_alone(store: S3Objects, client: Any, key: str) -> None:
    """An unfinished upload that is not of this kind is neither gone on with nor given up."""
    other = client.create_multipart_upload(Bucket="models", Key=f"own/{key}")["UploadId"]
    store.put(pieces(), key, resume="one")

    assert content(store, key) == CONTENT
    assert unfinished(client, key) == [f"own/{key}"]
    client.abort_multipart_upload(Bucket="models", Key=f"own/{key}", UploadId=other)


def test_upload_without_a_name_leaves_nothing(store: S3Objects, client: Any, key: str) -> None:
    """An upload that nobody could find again is given up when it breaks."""
    with pytest.raises(InterruptedError):
        store.put(pieces(broken_at=25 * MIB), key)

    assert unfinished(client, key) == []


def test_upload_of_a_killed_process_goes_on(
    server: AwsServer, store: S3Objects, requests: Callable[[str], Armed], client: Any, key: str
) -> None:
    """Another process goes on where one was killed."""
    text = f"""
import os, signal, boto3
from cloudreg_sagemaker.store import S3Objects
session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="s", region_name="us-east-1")
store = S3Objects(session, bucket="models", prefix="own", region="us-east-1", target="aws",
                  endpoint_url={server.url!r})
def pieces():
    for number in range(30):
        if number == 28:
            os.kill(os.getpid(), signal.SIGKILL)
        yield number.to_bytes(4, "big") * {MIB // 4}
store.put(pieces(), {key!r}, resume="one")
"""
    done = subprocess.run([sys.executable, "-c", text], check=False, timeout=60)
    assert done.returncode == -9
    left = client.list_multipart_uploads(Bucket="models", Prefix=f"own/{key}")["Uploads"][0]
    parts = client.list_parts(Bucket="models", Key=left["Key"], UploadId=left["UploadId"])
    there = len(parts.get("Parts", ()))

    sent = requests("UploadPart")
    store.put(pieces(), key, resume="one")

    # A part that was on its way when the process was killed may arrive after the look.
    assert 4 - there - 1 <= sent.seen <= 4 - there
    assert content(store, key) == CONTENT
    assert unfinished(client, key) == []


def test_abandoned_uploads_are_swept(
    opened: Callable[..., S3Objects], store: S3Objects, client: Any, key: str
) -> None:
    """What nobody took up again for a day is given up by the next upload beside it."""
    with pytest.raises(InterruptedError):
        store.put(pieces(broken_at=9 * MIB), key, resume="one")
    tomorrow = opened(prefix="own", clock=lambda: time.time() + 25 * 3600)
    tomorrow.put(pieces(), f"{key}2", resume="other")

    assert unfinished(client, key) == []
    assert content(store, f"{key}2") == CONTENT


def test_many_parts_at_once_have_one_winner(store: S3Objects, client: Any, key: str) -> None:
    """Of large puts of one name at once, with if_absent, exactly one wins."""

    def put(number: int) -> StoredObject:
        source = (bytes([number]) * MIB for _ in range(9))
        return store.put(source, key, if_absent=True, resume="one")

    outcomes = at_once([partial(put, number) for number in range(4)])
    winners = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, StoredObject)]

    assert len(winners) == 1, outcomes
    assert all(isinstance(o, (StoredObject, AlreadyExists)) for o in outcomes), outcomes
    assert content(store, key) == bytes([winners[0]]) * (9 * MIB)
    assert unfinished(client, key) == []


def test_large_copy(
    store: S3Objects, client: Any, requests: Callable[[str], Armed], key: str
) -> None:
    """A copy of a large object moves no byte through this process."""
    store.put(CONTENT, f"{key}/a")
    read, sent = requests("GetObject"), requests("UploadPart")
    store.copy(f"{key}/a", f"{key}/b", if_absent=True)
    store.copy(f"{key}/a", f"{key}/c")

    assert (read.seen, sent.seen) == (0, 0)
    assert content(store, f"{key}/b") == content(store, f"{key}/c") == CONTENT
    assert unfinished(client, key) == []


def test_copy_of_what_changes(store: S3Objects, fault: Callable[..., Armed], key: str) -> None:
    """A copy to itself changes nothing, and is refused where the key must be free."""
    store.put(b"x", key)
    store.copy(key, key)
    with pytest.raises(AlreadyExists):
        store.copy(key, key, if_absent=True)

    assert content(store, key) == b"x"


@given(st.lists(st.integers(0, 3 * PART), max_size=6), st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_parts_hold_every_byte(sizes: list[int], seed: int) -> None:
    """However the source is cut, the parts are its bytes in order, of the sizes that S3 wants."""
    sources = [bytes([(seed + n) % 256]) * size for n, size in enumerate(sizes)]
    parts = list(cut(iter(sources)))

    assert b"".join(parts) == b"".join(sources)
    assert [len(part) for part in parts[:-1]] == [PART] * (len(parts) - 1)
    assert len(parts) >= 1


def test_whole_parts_are_not_copied() -> None:
    """A piece that is a part already is sent as it is; what is left over is a part of its own."""
    whole = [bytes(PART), bytes(PART), b"rest"]
    parts = list(cut(iter(whole)))

    assert [id(part) for part in parts[:2]] == [id(piece) for piece in whole[:2]]
    assert parts[2:] == [b"rest"]


def test_checksum_of_a_part() -> None:
    """Where google-crc32c is compiled parts carry CRC-32C; its check value is the standard's."""
    assert ALGORITHM == "CRC32C"
    # Of "123456789": https://reveng.sourceforge.io/crc-catalogue/17plus.htm#crc.cat.crc-32-iscsi
    assert base64.b64decode(checksum(b"123456789")).hex() == "e3069283"


def test_checksum_without_compiled_crc32c() -> None:
    """Without a compiled CRC-32C parts carry zlib's CRC-32, never plain Python's CRC-32C."""
    text = """
import base64, sys, zlib
sys.modules["google_crc32c"] = None
from cloudreg_sagemaker.checksums import ALGORITHM, FIELD, checksum
assert (ALGORITHM, FIELD) == ("CRC32", "ChecksumCRC32")
assert base64.b64decode(checksum(b"x")) == zlib.crc32(b"x").to_bytes(4, "big")
"""
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)


def test_parts_grow() -> None:
    """Ten thousand parts, which is all there can be, hold 400 GiB, and no part is over 5 GiB."""
    sizes = [part_size(number) for number in range(1, 10_001)]

    assert sum(sizes) > 400 * 1024**3
    assert min(sizes) == PART
    assert max(sizes) < 128 * MIB
