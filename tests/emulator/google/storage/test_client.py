"""Google's own client works, and sees the errors that it knows."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from google.api_core import exceptions
from google.cloud import storage as gcs
from google.cloud.storage import transfer_manager
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from cloudreg.testing.base import at_once
from cloudreg_emulator.google.http import HttpServer
from cloudreg_emulator.google.storage import Storage

MIB = 1024 * 1024
DATA = os.urandom(3 * MIB + 17)


def put(bucket: gcs.Bucket, name: str, data: bytes = b"x", **options: Any) -> gcs.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **options)
    return blob


def test_environment_is_enough(server: HttpServer) -> None:
    """With STORAGE_EMULATOR_HOST alone a client makes a bucket and uses it."""
    text = """
from google.cloud import storage
client = storage.Client()
bucket = client.create_bucket("from-the-environment")
bucket.blob("a/b").upload_from_string(b"x" * 1000)
print([blob.name for blob in client.list_blobs(bucket)], bucket.get_blob("a/b").size)
"""
    environment = {**os.environ, "STORAGE_EMULATOR_HOST": server.url}
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        env=environment,
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )

    assert done.stdout.strip() == "['a/b'] 1000"


def test_buckets(client: gcs.Client, make: Callable[..., str]) -> None:
    """A bucket is described, changed with its metageneration as fence, listed and deleted."""
    bucket = client.create_bucket("of-the-client", location="us-central1")
    assert (bucket.location, bucket.location_type) == ("US-CENTRAL1", "region")
    assert bucket.project_number == 123456789012
    bucket.versioning_enabled = True
    bucket.labels = {"made-by": "terraform"}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.add_lifecycle_delete_rule(age=7, matches_prefix=["uploads/"])
    bucket.patch()
    found = client.get_bucket("of-the-client")

    assert found.versioning_enabled
    assert found.labels == {"made-by": "terraform"}
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert found.iam_configuration.public_access_prevention == "enforced"
    assert [rule["action"]["type"] for rule in found.lifecycle_rules] == ["Delete"]
    assert found.metageneration == 2
    with pytest.raises(exceptions.PreconditionFailed):
        found.patch(if_metageneration_match=1)
    names = [one.name for one in client.list_buckets(prefix="of-the-", page_size=1)]
    assert names == ["of-the-client"]
    found.delete()
    assert client.lookup_bucket("of-the-client") is None


def test_bucket_policy(bucket: gcs.Bucket) -> None:
    """A policy is replaced by whoever has the current ETag, and permissions can be asked for."""
    policy = bucket.get_iam_policy()
    policy.bindings = [{"role": "roles/storage.objectUser", "members": {"user:a@example.com"}}]
    stale = policy.etag
    bucket.set_iam_policy(policy)
    found = bucket.get_iam_policy()

    assert found["roles/storage.objectUser"] == {"user:a@example.com"}
    assert found.etag != stale
    policy.etag = stale
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.set_iam_policy(policy)
    assert bucket.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]


@pytest.mark.parametrize("checksum", ["crc32c", "md5", None])
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_upload_and_download(bucket: gcs.Bucket, size: int, checksum: str | None) -> None:
    """What is sent is what comes back, with both checksums."""
    data = DATA[:size]
    blob = put(bucket, "a/b c%25?#+ü", data, checksum=checksum, content_type="model/x")
    blob.reload()

    assert blob.download_as_bytes() == data
    assert (blob.size, blob.content_type) == (size, "model/x")
    assert blob.crc32c == base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    assert blob.md5_hash is not None


@pytest.mark.parametrize("chunk", [None, 256 * 1024, MIB])
@pytest.mark.parametrize("known", [True, False])
def test_resumable(bucket: gcs.Bucket, tmp_path: Path, chunk: int | None, known: bool) -> None:
    """A resumable upload ends whole, in chunks or one request, with or without a known size."""
    (tmp_path / "file").write_bytes(DATA)
    blob = bucket.blob("big", chunk_size=chunk)
    with (tmp_path / "file").open("rb") as reader:
        if not known and chunk is None:
            blob.chunk_size = 512 * 1024
        blob.upload_from_file(reader, size=len(DATA) if known else None, checksum="crc32c")

    assert bucket.blob("big").download_as_bytes() == DATA


def test_resumable_goes_on(bucket: gcs.Bucket, client: gcs.Client, tmp_path: Path) -> None:
    """Whoever has the address of an upload can ask how far it is, and go on."""
    url = bucket.blob("later").create_resumable_upload_session(size=len(DATA))
    http = client._http
    sent = 512 * 1024
    first = http.put(
        url,
        data=DATA[:sent],
        headers={"Content-Range": f"bytes 0-{sent - 1}/{len(DATA)}"},
    )
    asked = http.put(url, headers={"Content-Range": f"bytes */{len(DATA)}"})
    last = http.put(
        url,
        data=DATA[sent:],
        headers={"Content-Range": f"bytes {sent}-{len(DATA) - 1}/{len(DATA)}"},
    )

    assert [first.status_code, asked.status_code, last.status_code] == [308, 308, 200]
    assert asked.headers["Range"] == f"bytes=0-{sent - 1}"
    assert bucket.blob("later").download_as_bytes() == DATA
    again = http.put(url, headers={"Content-Range": f"bytes */{len(DATA)}"})
    assert (again.status_code, again.json()["name"]) == (200, "later")


def test_create_once(bucket: gcs.Bucket) -> None:
    """With a generation of 0 nothing is replaced, in a simple and in a resumable upload."""
    put(bucket, "a", b"first", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed, match="pre-conditions you specified"):
        put(bucket, "a", b"second", if_generation_match=0)
    big = bucket.blob("a", chunk_size=256 * 1024)
    with pytest.raises((exceptions.PreconditionFailed, InvalidResponse)):
        big.upload_from_string(DATA, if_generation_match=0)

    assert bucket.blob("a").download_as_bytes() == b"first"


def test_resumable_condition_is_checked_at_the_end(bucket: gcs.Bucket, client: gcs.Client) -> None:
    """Of two uploads that began when there was nothing, the one that ends second is refused."""
    urls = [
        bucket.blob("a").create_resumable_upload_session(if_generation_match=0) for _ in range(2)
    ]
    statuses = [client._http.put(url, data=b"%d" % n).status_code for n, url in enumerate(urls)]

    assert statuses == [200, 412]
    assert bucket.blob("a").download_as_bytes() == b"0"


def test_one_of_twelve_writers_wins(bucket: gcs.Bucket) -> None:
    """Of twelve writers that may not replace anything exactly one wins."""

    def write(number: int) -> Callable[[], int]:
        def act() -> int:
            put(bucket, "a", b"%d" % number, if_generation_match=0, retry=None)
            return number

        return act

    outcomes = at_once([write(number) for number in range(12)])
    winners = [found for found in outcomes if isinstance(found, int)]

    assert len(winners) == 1, outcomes
    refused = [one for one in outcomes if isinstance(one, exceptions.PreconditionFailed)]
    assert len(refused) == 11
    assert bucket.blob("a").download_as_bytes() == b"%d" % winners[0]


def test_one_of_twelve_changes_wins(bucket: gcs.Bucket) -> None:
    """Of twelve writers that replace the same generation exactly one wins."""
    put(bucket, "a", b"first").reload()
    generation = bucket.get_blob("a").generation

    def write(number: int) -> Callable[[], int]:
        def act() -> int:
            put(bucket, "a", b"%d" % number, if_generation_match=generation, retry=None)
            return number

        return act

    outcomes = at_once([write(number) for number in range(12)])

    assert len([found for found in outcomes if isinstance(found, int)]) == 1, outcomes


def test_generations(bucket: gcs.Bucket) -> None:
    """Every verb can be held to a generation, and an older one cannot be read any more."""
    put(bucket, "a", b"one")
    old = bucket.get_blob("a")
    put(bucket, "a", b"two")
    new = bucket.get_blob("a")

    assert new.generation > old.generation
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a", generation=old.generation).download_as_bytes()
    for act in (
        lambda: new.download_as_bytes(if_generation_match=old.generation),
        lambda: new.delete(if_generation_match=old.generation),
        lambda: new.patch(if_metageneration_match=9),
        lambda: new.reload(if_generation_match=old.generation),
    ):
        with pytest.raises(exceptions.PreconditionFailed):
            act()
    with pytest.raises(exceptions.NotModified):
        new.reload(if_generation_not_match=new.generation)
    assert new.download_as_bytes(if_generation_match=new.generation) == b"two"


def test_metadata(bucket: gcs.Bucket) -> None:
    """Metadata is changed key by key, counted, and taken away with None."""
    blob = put(bucket, "a")
    blob.metadata = {"kept": "1", "gone": "2"}
    blob.cache_control = "no-store"
    blob.patch()
    blob.metadata = {"kept": "1", "gone": None}
    blob.patch()
    found = bucket.get_blob("a")

    assert found.metadata == {"kept": "1"}
    assert (found.cache_control, found.metageneration) == ("no-store", 3)


def test_ranges(bucket: gcs.Bucket) -> None:
    """Ranges are inclusive, open ones go to the end, and behind the end there is a 416."""
    blob = put(bucket, "a", DATA)

    assert blob.download_as_bytes(start=100, end=199, checksum=None) == DATA[100:200]
    assert blob.download_as_bytes(start=len(DATA) - 5, checksum=None) == DATA[-5:]
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=len(DATA), checksum=None)
    with blob.open("rb", chunk_size=256 * 1024) as reader:
        reader.seek(1_000_000)
        assert reader.read(10) == DATA[1_000_000:1_000_010]


def test_compose(bucket: gcs.Bucket) -> None:
    """Objects are joined under a condition; the whole has a CRC-32C and no MD5."""
    parts = [put(bucket, f"part-{number}", b"%d" % number * 1000) for number in range(3)]
    whole = bucket.blob("whole")
    whole.compose(parts, if_generation_match=0)
    whole.reload()

    assert whole.download_as_bytes() == b"".join(b"%d" % number * 1000 for number in range(3))
    assert (whole.component_count, whole.md5_hash) == (3, None)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("whole").compose(parts, if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("other").compose(parts, if_source_generation_match=[1, 2, 3])
    with pytest.raises(exceptions.BadRequest, match="exceeds the maximum"):
        bucket.blob("many").compose([parts[0]] * 33)


def test_copy_and_rewrite(client: gcs.Client, bucket: gcs.Bucket, make: Callable[..., str]) -> None:
    """Copies keep metadata; a rewrite within one place is done at once."""
    blob = put(bucket, "a", DATA)
    blob.metadata = {"k": "v"}
    blob.patch()
    copied = bucket.copy_blob(blob, bucket, "b")
    other = client.bucket(make()).blob("c")

    assert other.rewrite(blob) == (None, len(DATA), len(DATA))
    assert (copied.metadata, bucket.get_blob("b").md5_hash) == ({"k": "v"}, blob.md5_hash)
    with pytest.raises(exceptions.PreconditionFailed):
        other.rewrite(blob, if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        other.rewrite(blob, if_source_generation_match=1)


def test_rewrite_to_another_place_takes_calls(
    client: gcs.Client, bucket: gcs.Bucket, make: Callable[..., str], http: Any, name: str
) -> None:
    """Bytes that move come in several calls, each with the token of the one before it."""
    put(bucket, "a", DATA)
    elsewhere = make(location="europe-west4")
    path = f"/storage/v1/b/{name}/o/a/rewriteTo/b/{elsewhere}/o/a"
    params: dict[str, Any] = {"maxBytesRewrittenPerCall": MIB}
    calls = []
    while not calls or not calls[-1]["done"]:
        calls.append(http.post(path, params=params).json())
        params["rewriteToken"] = calls[-1].get("rewriteToken", "")

    assert [int(call["totalBytesRewritten"]) for call in calls] == [
        MIB,
        2 * MIB,
        3 * MIB,
        len(DATA),
    ]
    assert client.bucket(elsewhere).blob("a").download_as_bytes() == DATA
    used = http.post(path, params={**params, "rewriteToken": calls[0]["rewriteToken"]})
    assert used.status_code == 400


def test_listing(bucket: gcs.Bucket, client: gcs.Client) -> None:
    """Listings go by prefix, folder and offsets, page by page, in the order of UTF-8."""
    names = ["a", "a/1", "a/2", "a/b/3", "b", "ä", "z/9"]
    for one in names:
        put(bucket, one)

    def listed(**options: Any) -> list[str]:
        return [blob.name for blob in client.list_blobs(bucket, **options)]

    assert listed() == sorted(names, key=str.encode)
    assert listed(page_size=2) == listed()
    assert listed(prefix="a/") == ["a/1", "a/2", "a/b/3"]
    assert listed(start_offset="a/2", end_offset="z") == ["a/2", "a/b/3", "b"]
    pages = client.list_blobs(bucket, delimiter="/", page_size=2)
    found = [(sorted(page.prefixes), [blob.name for blob in page]) for page in pages.pages]
    assert found == [(["a/"], ["a"]), (["z/"], ["b"]), ([], ["ä"])]
    assert listed(fields="items(name)", max_results=3) == ["a", "a/1", "a/2"]


def test_versions(client: gcs.Client, make: Callable[..., str]) -> None:
    """Under versioning what is replaced or deleted stays, and can be read and deleted by number."""
    bucket = client.bucket(make(versioning={"enabled": True}))
    for data in (b"one", b"two"):
        put(bucket, "a", data)
    bucket.blob("a").delete()
    versions = list(client.list_blobs(bucket, versions=True))

    assert [blob.download_as_bytes() for blob in versions] == [b"one", b"two"]
    assert all(blob.time_deleted for blob in versions)
    assert list(client.list_blobs(bucket)) == []
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    versions[0].delete()
    left = [blob.generation for blob in client.list_blobs(bucket, versions=True)]
    assert left == [versions[1].generation]


def test_soft_delete(client: gcs.Client, bucket: gcs.Bucket, clock: Any) -> None:
    """What is deleted can be restored for a week, as a new generation, and not after it."""
    put(bucket, "a", b"one")
    old = bucket.get_blob("a")
    old.delete()
    assert not bucket.blob("a").exists()
    soft = list(client.list_blobs(bucket, soft_deleted=True))
    assert [(blob.name, blob.generation) for blob in soft] == [("a", old.generation)]
    assert soft[0].hard_delete_time > soft[0].soft_delete_time

    restored = bucket.restore_blob("a", generation=old.generation)
    assert restored.generation > old.generation
    assert bucket.blob("a").download_as_bytes() == b"one"

    bucket.blob("a").delete()
    clock.now += 8 * 24 * 3600
    with pytest.raises(exceptions.NotFound):
        bucket.restore_blob("a", generation=restored.generation)
    assert list(client.list_blobs(bucket, soft_deleted=True)) == []


def test_soft_delete_can_be_off(client: gcs.Client, make: Callable[..., str]) -> None:
    """A bucket whose policy says 0 seconds keeps nothing of what is deleted."""
    bucket = client.bucket(make(softDeletePolicy={"retentionDurationSeconds": "0"}))
    put(bucket, "a").delete()

    assert list(client.list_blobs(bucket, soft_deleted=True)) == []


def test_holds_and_retention(client: gcs.Client, make: Callable[..., str], clock: Any) -> None:
    """What is held, or has to be kept for a while, is neither replaced nor deleted."""
    bucket = client.bucket(make(retentionPolicy={"retentionPeriod": "60"}))
    blob = put(bucket, "a")
    for act in (blob.delete, lambda: put(bucket, "a", b"y")):
        with pytest.raises(exceptions.Forbidden, match="retention policy"):
            act()
    clock.now += 61
    blob.temporary_hold = True
    blob.patch()
    with pytest.raises(exceptions.Forbidden, match="temporary hold"):
        blob.delete()
    blob.temporary_hold = False
    blob.patch()
    blob.delete()


def test_gzip_is_taken_off_on_the_way(bucket: gcs.Bucket, http: Any, name: str) -> None:
    """A packed object comes as it is to who takes gzip, and unpacked to who does not."""
    blob = bucket.blob("a")
    blob.content_encoding = "gzip"
    packed = gzip.compress(b"text" * 1000)
    blob.upload_from_string(packed)
    url = f"/{name}/a"
    plain = http.get(url, headers={"Accept-Encoding": "identity"})

    assert bucket.blob("a").download_as_bytes(raw_download=True) == packed
    assert plain.content == b"text" * 1000
    assert plain.headers["x-goog-stored-content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers


def test_batch(client: gcs.Client, bucket: gcs.Bucket) -> None:
    """Calls of a batch are done each for itself: one that fails leaves the others done."""
    for number in range(3):
        put(bucket, f"a{number}")
    with client.batch():
        bucket.blob("a0").delete()
        bucket.blob("a1").delete()
    assert [blob.name for blob in client.list_blobs(bucket)] == ["a2"]

    batch = client.batch(raise_exception=False)
    with batch:
        bucket.blob("missing").delete()
        bucket.blob("a2").delete()
    assert [answer.status_code for answer in batch._responses] == [404, 204]
    assert list(client.list_blobs(bucket)) == []


def test_transfer_manager(bucket: gcs.Bucket, tmp_path: Path) -> None:
    """Google's transfer manager sends and gets an object in parts side by side."""
    data = os.urandom(12 * MIB)
    (tmp_path / "up").write_bytes(data)
    transfer_manager.upload_chunks_concurrently(
        str(tmp_path / "up"),
        bucket.blob("big"),
        chunk_size=5 * MIB,
        worker_type=transfer_manager.THREAD,
    )
    transfer_manager.download_chunks_concurrently(
        bucket.blob("big"),
        str(tmp_path / "down"),
        chunk_size=5 * MIB,
        worker_type=transfer_manager.THREAD,
    )

    assert (tmp_path / "down").read_bytes() == data
    assert bucket.get_blob("big").md5_hash is None


def test_many_files(bucket: gcs.Bucket, tmp_path: Path) -> None:
    """Many files go up once: what is there is left alone."""
    for number in range(5):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)

    def upload() -> list[Any]:
        found: list[Any] = transfer_manager.upload_many_from_filenames(
            bucket,
            [f"f{number}" for number in range(5)],
            source_directory=str(tmp_path),
            skip_if_exists=True,
            worker_type=transfer_manager.THREAD,
        )
        return found

    assert upload() == [None] * 5
    assert all(isinstance(one, exceptions.PreconditionFailed) for one in upload())


def test_wrong_bytes_are_noticed(emulated: Storage, bucket: gcs.Bucket, name: str) -> None:
    """The client checks what it gets against the checksum that the emulator tells."""
    import dataclasses

    put(bucket, "a", b"right")
    live = emulated.shelves[name].live
    spoiled = dataclasses.replace(live["a"].content, pieces=(b"wrong",))
    live["a"] = dataclasses.replace(live["a"], content=spoiled)
    with pytest.raises(DataCorruption):
        bucket.blob("a").download_as_bytes()
