"""Bytes: hashed in the pass that moves them, stored once, checked whenever they are used."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cloudreg import artifacts
from cloudreg.artifacts import SMALL
from cloudreg.artifacts.chunks import Budget, hashed
from cloudreg.errors import IntegrityError, InvalidRequest, NotFound, Unavailable
from cloudreg.importers import SourceFile
from cloudreg.manifest import MANIFEST_FILE
from cloudreg_local.store import LocalStore

BIG = os.urandom(SMALL + 1)

MEBIBYTE = 1024 * 1024

UPLOAD = """
import resource, sys
from pathlib import Path
from cloudreg import artifacts
from cloudreg.importers import SourceFile
from cloudreg_local.store import LocalStore

path = Path(sys.argv[1]) / "sparse"
with path.open("wb") as writer:
    writer.truncate(int(sys.argv[2]))
found = path.stat()
file = SourceFile(path="sparse", location=path, size=found.st_size, mtime_ns=found.st_mtime_ns)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
uploaded = artifacts.upload([file], LocalStore(Path(sys.argv[1]) / "store", target="home"))
print(uploaded.sent_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def keys(store, prefix=""):
    return [stored.key for stored in store.list(prefix)]


def blobs(store):
    return keys(store, "blobs/")


@pytest.fixture
def registered(folder, store, version_of):
    """A version with three files, one of them large, in the home's store."""
    uploaded = artifacts.upload(folder(a=b"alpha", b=BIG, c=b""), store)
    version = version_of(uploaded.files)
    assert artifacts.put_manifest(version.manifest, store) == version.digest
    return version


@pytest.fixture
def elsewhere(tmp_path):
    return LocalStore(tmp_path / "elsewhere", target="there")


def test_upload(folder, store, kit):
    """Files are hashed while they are sent, and stored under size and digest."""
    meter = kit.Meter()
    uploaded = artifacts.upload(folder(b=BIG, a=b"alpha", c=b""), store, progress=meter)
    assert [f.path for f in uploaded.files] == ["a", "b", "c"]
    for entry, data in zip(uploaded.files, (b"alpha", BIG, b""), strict=True):
        assert entry.sha256 == hashlib.sha256(data).hexdigest()
        assert entry.key == f"blobs/{len(data)}/{entry.sha256}"
        assert kit.content(store, entry.key) == data
    assert (uploaded.sent_bytes, uploaded.present_bytes) == (len(BIG) + 5, 0)
    assert meter.done == meter.total == len(BIG) + 5
    assert keys(store, "uploads/") == []


def test_one_pass(folder, store, kit):
    """A large file of a new size is read once, on its way to the store."""
    (file,) = folder(big=BIG)
    opened = []

    class Location(type(file.location)):
        def open(self, *args, **kwargs):
            opened.append(self)
            return super().open(*args, **kwargs)

    artifacts.upload([replace(file, location=Location(file.location))], store)
    assert len(opened) == 1


def test_second_upload(folder, store, kit):
    """Bytes that the store has are not sent again, under whatever path they come."""
    artifacts.upload(folder(a=b"alpha", b=BIG), store)
    watched, meter = kit.Watched(store), kit.Meter()
    uploaded = artifacts.upload(folder(x=b"alpha", y=BIG), watched, progress=meter)
    assert (uploaded.sent_bytes, uploaded.present_bytes) == (0, len(BIG) + 5)
    assert watched.count("put") == watched.count("copy") == 0
    assert meter.done == meter.total


@pytest.mark.parametrize("data", [b"same", BIG], ids=["small", "large"])
def test_same_bytes_twice(folder, store, kit, data):
    """Files with the same bytes are one object, also when they are sent at once."""
    meter = kit.Meter()
    uploaded = artifacts.upload(folder(**{f"f{n}": data for n in range(8)}), store, progress=meter)
    assert len(blobs(store)) == 1
    assert uploaded.sent_bytes + uploaded.present_bytes == 8 * len(data)
    assert meter.done == meter.total
    assert keys(store, "uploads/") == []


def test_same_size(folder, store, kit):
    """A large file of a size that is there, with other bytes, is hashed first and then sent."""
    other = BIG[::-1]
    artifacts.upload(folder(a=BIG), store)
    meter = kit.Meter()
    uploaded = artifacts.upload(folder(b=other), store, progress=meter)
    assert uploaded.sent_bytes == len(other)
    assert kit.content(store, uploaded.files[0].key) == other
    assert meter.done == meter.total
    assert len(blobs(store)) == 2


def test_many_files(folder, store):
    """Files go in parallel, and come back sorted by path."""
    contents = {f"f{n:03}": str(n).encode() for n in range(60)}
    uploaded = artifacts.upload(folder(**contents), store)
    assert [f.path for f in uploaded.files] == sorted(contents)
    assert len(blobs(store)) == 60


def changing(file, change):
    """Return *file* with a location that changes once it has been opened."""

    class Location(type(file.location)):
        def open(self, *args, **kwargs):
            reader = super().open(*args, **kwargs)
            change(file.location)
            return reader

    return replace(file, location=Location(file.location))


def grow(path):
    with path.open("ab") as writer:
        writer.write(b"more")


def shrink(path):
    os.truncate(path, 10)


def touch(path):
    os.utime(path, ns=(1, 1))


def rewrite(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(2, 2))


def replace_by_another(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[::-1])
    os.utime(path, ns=(3, 3))


CHANGES = [grow, shrink, touch, rewrite, replace_by_another, lambda path: path.unlink()]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("data", [b"a small file", BIG], ids=["small", "large"])
@pytest.mark.parametrize("same_size", [False, True])
def test_changed_while_read(folder, store, kit, change, data, same_size):
    """A file that changes in length, time or content while it is read is refused; nothing stays."""
    if same_size:
        artifacts.upload(folder(other=data[::-1]), store)
    before = keys(store)
    (file,) = folder(mine=data)
    with pytest.raises(IntegrityError, match="nothing was recorded"):
        artifacts.upload([changing(file, change)], store)
    assert keys(store) == before


@pytest.mark.parametrize("data", [b"a small file", BIG], ids=["small", "large"])
def test_changed_before(folder, store, data):
    """A file that changed since it was found is refused."""
    (file,) = folder(mine=data)
    rewrite(file.location)
    with pytest.raises(IntegrityError, match="changed"):
        artifacts.upload([file], store)
    assert keys(store) == []


def test_changed_between_hash_and_send(folder, store):
    """New bytes of the same size and time, between the hash and the sending, are not stored."""
    artifacts.upload(folder(other=BIG[::-1]), store)
    before = keys(store)
    (file,) = folder(mine=BIG)
    opened = []

    def change(path):
        opened.append(path)
        if len(opened) == 2:
            rewrite(path)
            os.utime(path, ns=(file.mtime_ns, file.mtime_ns))

    class Location(type(file.location)):
        def open(self, *args, **kwargs):
            change(file.location)
            return super().open(*args, **kwargs)

    with pytest.raises(IntegrityError, match="changed"):
        artifacts.upload([replace(file, location=Location(file.location))], store)
    assert keys(store) == before


def test_small_file_is_read_once(folder, store, kit):
    """The bytes of a small file that are hashed are those that are sent: it is read once."""
    (file,) = folder(mine=b"first")
    opened = []

    class Location(type(file.location)):
        def open(self, *args, **kwargs):
            opened.append(self)
            return super().open(*args, **kwargs)

    (entry,) = artifacts.upload([replace(file, location=Location(file.location))], store).files
    assert len(opened) == 1
    assert kit.content(store, entry.key) == b"first"


def test_hash_of_another_thread():
    """What is handed on is hashed whole by its end, and other bytes than expected are refused."""
    pieces = [os.urandom(1000), b"", os.urandom(3)]
    digest = hashlib.sha256()
    expected = hashlib.sha256(b"".join(pieces)).hexdigest()

    assert list(hashed(pieces, digest, expected)) == pieces
    assert digest.hexdigest() == expected
    with pytest.raises(IntegrityError, match="changed"):
        list(hashed([*pieces, b"x"], hashlib.sha256(), expected))


def test_hash_of_what_is_given_up():
    """Whoever stops in the middle leaves no thread behind, and a source that breaks is heard."""
    pieces = hashed([b"a", b"b", b"c"], hashlib.sha256())
    next(pieces)
    assert "hash" in {thread.name for thread in threading.enumerate()}
    pieces.close()

    def broken():
        yield b"a"
        raise InterruptedError

    with pytest.raises(InterruptedError):
        list(hashed(broken(), hashlib.sha256()))
    assert "hash" not in {thread.name for thread in threading.enumerate()}


def test_budget():
    """No more bytes are held at once than allowed, and what is larger than all has its turn."""
    budget, lock = Budget(10), threading.Lock()
    held, most = 0, []

    def hold(amount):
        nonlocal held
        with budget.taken(amount):
            with lock:
                held += min(amount, 10)
                most.append(held)
            time.sleep(0.001)
            with lock:
                held -= min(amount, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [3, 4, 99, 5, 1, 10, 2] * 5))
    assert max(most) <= 10
    assert len(most) == 35


def test_unreadable(folder, store, tmp_path):
    """What cannot be read is a typed refusal that names the file."""
    (file,) = folder(mine=b"x")
    with pytest.raises(InvalidRequest, match="mine cannot be read"):
        artifacts.upload([replace(file, location=tmp_path)], store)
    with pytest.raises(IntegrityError, match="mine changed"):
        artifacts.upload([replace(file, location=tmp_path / "gone")], store)


def test_one_bad_file(folder, store):
    """One file that cannot be registered fails the upload, and leaves no half sent file."""
    files = folder(a=b"alpha", b=BIG, c=BIG + b"c")
    files[2] = replace(files[2], size=files[2].size - 1)
    with pytest.raises(IntegrityError, match="c changed"):
        artifacts.upload(files, store)
    assert keys(store, "uploads/") == []


@pytest.mark.parametrize("size_mib", [64, pytest.param(300, marks=pytest.mark.slow)])
def test_bounded_memory(tmp_path, size_mib):
    """Memory does not grow with the size of a file."""
    found = subprocess.run(
        [sys.executable, "-c", UPLOAD, str(tmp_path), str(size_mib * MEBIBYTE)],
        capture_output=True,
        text=True,
        check=True,
    )
    sent, grown_kib = map(int, found.stdout.split())
    assert sent == size_mib * MEBIBYTE
    # At most four chunks of 4 MiB are under way, and the allocator keeps some.
    assert grown_kib < 40 * 1024


def test_upload_that_is_lost(folder, store, kit):
    """Where a large file was sent and its digest not yet told, the next attempt sends nothing."""

    class Fails(kit.Watched):
        def copy(self, key, to, *, if_absent=False):
            raise Unavailable("no answer")

    class Refuses(kit.Watched):
        def put(self, source, key, *, if_absent=False, resume=None):
            assert isinstance(source, bytes) or if_absent
            return super().put(forbidden(), key, if_absent=if_absent, resume=resume)

    def forbidden():
        raise AssertionError("nothing has to be sent")
        yield b""

    files = folder(a=BIG)
    with pytest.raises(Unavailable):
        artifacts.upload(files, Fails(store))
    assert blobs(store) == []
    meter = kit.Meter()
    uploaded = artifacts.upload(files, Refuses(store), progress=meter)
    assert uploaded.sent_bytes == len(BIG)
    assert meter.done == meter.total
    assert kit.content(store, uploaded.files[0].key) == BIG
    assert keys(store, "uploads/") == []


@pytest.mark.parametrize("spoiled", [BIG[:-1], BIG[::-1]], ids=["cut", "others"])
def test_waiting_object_is_not_believed(folder, store, kit, spoiled):
    """What waits under the name of a file is read before it becomes a version's content."""

    class Fails(kit.Watched):
        def copy(self, key, to, *, if_absent=False):
            raise Unavailable("no answer")

    files = folder(a=BIG)
    with pytest.raises(Unavailable):
        artifacts.upload(files, Fails(store))
    (waiting,) = keys(store)
    store.put(spoiled, waiting)
    (entry,) = artifacts.upload(files, store).files
    assert kit.content(store, entry.key) == BIG
    assert blobs(store) == [entry.key]


def test_faster_neighbour(folder, store, kit):
    """Another process that takes the waiting file to its place first does no harm."""

    class Overtaken(kit.Watched):
        def copy(self, key, to, *, if_absent=False):
            artifacts.upload(files, self.store)
            return super().copy(key, to, if_absent=if_absent)

    files = folder(a=BIG)
    uploaded = artifacts.upload(files, Overtaken(store))
    assert kit.content(store, uploaded.files[0].key) == BIG
    assert keys(store, "uploads/") == []


def test_one_file_under_two_names(folder, store, tmp_path):
    """Two paths of one large file, sent at once, are one object."""
    (file,) = folder(a=BIG)
    (tmp_path / "link").hardlink_to(file.location)
    twin = replace(file, path="b", location=tmp_path / "link")
    uploaded = artifacts.upload([file, twin], store)
    assert len({entry.sha256 for entry in uploaded.files}) == len(blobs(store)) == 1
    assert keys(store, "uploads/") == []


def test_undeletable_upload(folder, store, kit):
    """A file that was sent counts although its way station cannot be cleared; it is swept later."""

    class Fails(kit.Watched):
        def delete(self, key):
            raise Unavailable("no answer")

    uploaded = artifacts.upload(folder(a=BIG), Fails(store))
    assert kit.content(store, uploaded.files[0].key) == BIG
    assert len(keys(store, "uploads/")) == 1
    assert artifacts.sweep(store) == 0
    assert artifacts.sweep(store, now=time.time() + artifacts.ABANDONED_S + 60) == 1
    assert keys(store, "uploads/") == []
    assert len(blobs(store)) == 1


@pytest.mark.parametrize("broken", [b"", b"alph", b"alphaa"])
def test_cut_object_is_replaced(folder, store, kit, broken):
    """An object whose size is not what its key says does not pass for present: it is replaced."""
    (entry,) = artifacts.upload(folder(a=b"alpha"), store).files
    store.put(broken, entry.key)
    uploaded = artifacts.upload(folder(a=b"alpha"), store)
    assert (uploaded.sent_bytes, uploaded.present_bytes) == (5, 0)
    assert kit.content(store, entry.key) == b"alpha"


def test_cut_large_object_is_replaced(folder, store, kit):
    """A large object that was cut is replaced as well."""
    (entry,) = artifacts.upload(folder(a=BIG), store).files
    store.put(BIG[:100], entry.key)
    assert artifacts.upload(folder(a=BIG), store).sent_bytes == len(BIG)
    assert kit.content(store, entry.key) == BIG


def test_changed_manifest_is_replaced(registered, store):
    """Registering again mends a manifest that was changed in the store."""
    store.put(b"{}", artifacts.manifest_key(registered.digest))
    with pytest.raises(IntegrityError):
        artifacts.read_manifest(registered.digest, store)
    artifacts.put_manifest(registered.manifest, store)
    assert artifacts.read_manifest(registered.digest, store) == registered.manifest


def test_check(registered, store, kit):
    """A version whose bytes are all there passes, and every one of them was read."""
    meter = kit.Meter()
    artifacts.check(registered, store, target="home", progress=meter)
    assert meter.done == meter.total == registered.manifest.size
    assert artifacts.is_present(registered, store)


def spoil(store, entry, how):
    data = {"missing": None, "empty": b"", "cut": BIG[:-1], "longer": BIG + b"x",
            "one bit": bytes([BIG[0] ^ 1]) + BIG[1:]}[how]  # fmt: skip
    if data is None:
        store.delete(entry.key)
    else:
        store.put(data, entry.key)


SPOILED = ["missing", "empty", "cut", "longer", "one bit"]


@pytest.mark.parametrize("how", SPOILED)
def test_check_finds(registered, store, how):
    """A file that is missing or has other bytes is found, named, and comes with a way out."""
    spoil(store, registered.manifest.files[1], how)
    with pytest.raises(IntegrityError, match="churn:1: b ") as found:
        artifacts.check(registered, store, target="home")
    assert found.value.target == "home"
    assert found.value.hint


@pytest.mark.parametrize("how", SPOILED)
def test_way_out(registered, store, folder, how):
    """What the hint says mends the version."""
    entry = registered.manifest.files[1]
    spoil(store, entry, how)
    with pytest.raises(IntegrityError) as found:
        artifacts.check(registered, store)
    if f"delete {entry.key}" in found.value.hint:
        store.delete(entry.key)
    artifacts.upload(folder(b=BIG), store)
    artifacts.check(registered, store)


@pytest.mark.parametrize("data", [None, b"", b"{}", b"[]", b"\xff"])
def test_check_finds_a_spoiled_manifest(registered, store, data):
    """A manifest that is missing or has other bytes is found, with target and version."""
    key = artifacts.manifest_key(registered.digest)
    store.delete(key) if data is None else store.put(data, key)
    with pytest.raises(IntegrityError, match="churn:1") as found:
        artifacts.check(registered, store, target="home")
    assert found.value.target == "home"


def test_download(registered, store, tmp_path, kit):
    """All files and the recorded manifest stand in the folder."""
    meter = kit.Meter()
    dest = artifacts.download(registered, store, tmp_path / "new" / "dest", progress=meter)
    assert (dest / "a").read_bytes() == b"alpha"
    assert (dest / "b").read_bytes() == BIG
    assert (dest / "c").read_bytes() == b""
    assert (dest / MANIFEST_FILE).read_bytes() == registered.manifest.encode()
    assert meter.done == meter.total


@pytest.mark.parametrize("how", SPOILED)
def test_download_finds(registered, store, tmp_path, how):
    """Bytes that could not be checked do not stay: the folder is as empty as it was."""
    spoil(store, registered.manifest.files[1], how)
    dest = tmp_path / "dest"
    with pytest.raises(IntegrityError, match="b "):
        artifacts.download(registered, store, dest)
    assert not dest.exists() or list(dest.iterdir()) == []


def test_download_into_something(registered, store, tmp_path):
    """A folder with something in it, or a file, is left alone."""
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "mine").write_text("x")
    for dest in (tmp_path / "dest", tmp_path / "dest" / "mine"):
        with pytest.raises(InvalidRequest, match="not an empty folder"):
            artifacts.download(registered, store, dest)
    assert (tmp_path / "dest" / "mine").read_text() == "x"


def test_download_to_nowhere(registered, store, tmp_path):
    """A place that cannot be written is a typed refusal."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidRequest, match="cannot be written"):
        artifacts.download(registered, store, tmp_path / "file" / "dest")


def test_replicate(registered, store, elsewhere, kit):
    """Another target gets the bytes that it lacks, and the manifest as it was recorded."""
    meter, watched = kit.Meter(), kit.Watched(elsewhere)
    assert artifacts.replicate(registered, store, watched, progress=meter) == len(BIG) + 5
    assert watched.calls[-1] == ("put", artifacts.manifest_key(registered.digest))
    artifacts.check(registered, elsewhere)
    assert meter.done == meter.total
    watched, meter = kit.Watched(elsewhere), kit.Meter()
    assert artifacts.replicate(registered, store, watched, progress=meter) == 0
    assert watched.count("put", "blobs/") == 0


def test_replicate_what_is_lacking(registered, store, elsewhere, kit):
    """Of a version that is partly there, the rest is copied."""
    artifacts.replicate(registered, store, elsewhere)
    elsewhere.delete(registered.manifest.files[0].key)
    meter = kit.Meter()
    assert artifacts.replicate(registered, store, elsewhere, progress=meter) == 5
    assert meter.done == meter.total == 5
    artifacts.check(registered, elsewhere)


def test_replicate_over_a_cut_object(registered, store, elsewhere):
    """What was cut at the target is copied again."""
    artifacts.replicate(registered, store, elsewhere)
    elsewhere.put(b"", registered.manifest.files[1].key)
    elsewhere.put(b"{}", artifacts.manifest_key(registered.digest))
    assert artifacts.replicate(registered, store, elsewhere) == len(BIG)
    artifacts.check(registered, elsewhere)


@pytest.mark.parametrize("how", SPOILED)
def test_replicate_finds(registered, store, elsewhere, how):
    """Bytes that are not what was registered never reach another target."""
    entry = registered.manifest.files[1]
    spoil(store, entry, how)
    with pytest.raises(IntegrityError, match="churn:1: b "):
        artifacts.replicate(registered, store, elsewhere)
    assert entry.key not in keys(elsewhere)
    assert not artifacts.is_present(registered, elsewhere)


def test_replicate_without_manifest(registered, store, elsewhere):
    """A home that lost the manifest copies nothing."""
    store.delete(artifacts.manifest_key(registered.digest))
    with pytest.raises(IntegrityError, match="manifest is missing"):
        artifacts.replicate(registered, store, elsewhere)
    assert keys(elsewhere) == []
    with pytest.raises(NotFound):
        artifacts.read_manifest(registered.digest, store)


def test_same_bytes_under_two_paths(folder, store, elsewhere, version_of, kit):
    """Two files with the same bytes travel once and arrive twice."""
    version = version_of(artifacts.upload(folder(a=b"same", b=b"same"), store).files)
    artifacts.put_manifest(version.manifest, store)
    assert artifacts.replicate(version, store, elsewhere) == 4
    artifacts.check(version, elsewhere)


def test_source_file_of_a_folder(tmp_path, store):
    """A folder in the place of a file is refused."""
    found = tmp_path.stat()
    file = SourceFile(path="x", location=tmp_path, size=0, mtime_ns=found.st_mtime_ns)
    with pytest.raises(InvalidRequest, match="x cannot be read"):
        artifacts.upload([file], store)
