"""Uploads, copies and downloads that were killed half way go on where they stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloudreg import artifacts
from cloudreg.errors import Conflict, IntegrityError, InvalidRequest, Unavailable
from cloudreg.importers import SourceFile
from cloudreg.manifest import MANIFEST_FILE
from cloudreg_local.store import LocalStore

MIB = 1024 * 1024
SIZE = 64 * MIB

PROCESS = """
import sys
from pathlib import Path
from cloudreg import artifacts
from cloudreg.importers import SourceFile
from cloudreg.manifest import FileEntry, Manifest
from cloudreg.types import ModelVersion
from cloudreg_local.store import LocalStore

verb, folder, stop = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

class Meter:
    done = 0
    def task(self, *_, **__):
        return self
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def advance(self, amount):
        before, self.done = self.done, self.done + amount
        if before < stop <= self.done:
            print("half", flush=True)
            sys.stdin.readline()

def version():
    digest = (folder / "digest").read_text()
    manifest = artifacts.read_manifest(digest, store)
    return ModelVersion(model="churn", number=1, digest=digest, manifest=manifest,
                        author="ann", created_at="2026-01-01T00:00:00Z")

store = LocalStore(folder / "home", target="home")
there = LocalStore(folder / "there", target="there")
if verb == "upload":
    path = folder / "weights"
    state = path.stat()
    file = SourceFile(path="weights", location=path, size=state.st_size,
                      mtime_ns=state.st_mtime_ns)
    print(artifacts.upload([file], store, progress=Meter()).files[0].sha256)
elif verb == "replicate":
    artifacts.replicate(version(), store, there, progress=Meter())
else:
    artifacts.download(version(), store, folder / "dest", progress=Meter())
"""


@pytest.fixture
def process(tmp_path):
    """Start a verb in a process of its own; it says "half" after *stop* bytes, and waits."""
    started = []

    def start(verb, stop=SIZE // 2):
        child = subprocess.Popen(
            [sys.executable, "-c", PROCESS, verb, str(tmp_path), str(stop)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def kill_half_way(process):
    def killed(verb):
        child = process(verb)
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
        child.wait()

    return killed


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def there(tmp_path):
    return LocalStore(tmp_path / "there", target="there")


@pytest.fixture
def registered(weights, store, version_of, tmp_path):
    version = version_of(artifacts.upload([source(weights)], store).files)
    (tmp_path / "digest").write_text(artifacts.put_manifest(version.manifest, store))
    return version


@pytest.fixture
def written(monkeypatch):
    """How many bytes each write of this process wrote."""
    counts = []
    write = os.write

    def counted(handle, data):
        count = write(handle, data)
        counts.append(count)
        return count

    monkeypatch.setattr(os, "write", counted)
    return counts


def source(path: Path) -> SourceFile:
    state = path.stat()
    return SourceFile(path="weights", location=path, size=state.st_size, mtime_ns=state.st_mtime_ns)


def left(store: LocalStore) -> int:
    """Bytes that a killed put left."""
    return sum(path.stat().st_size for path in (store.path("x").parent / ".parts").iterdir())


class Counted:
    """A store that counts the bytes that are read of it; the connection may break."""

    def __init__(self, store, *, breaks_after=None):
        self._store = store
        self._breaks_after = breaks_after
        self.read = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def open(self, key, *, offset=0, length=None):
        return Reader(self, self._store.open(key, offset=offset, length=length), key)

    def count(self, key, size):
        if key.startswith("blobs/"):
            self.read += size
        if self._breaks_after is not None and self.read > self._breaks_after:
            raise Unavailable("the connection is gone")


class Reader:
    def __init__(self, counted, reader, key):
        self._counted, self._reader, self._key = counted, reader, key

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._reader.close()

    def read(self, size=-1):
        data = self._reader.read(size)
        self._counted.count(self._key, len(data))
        return data


def test_upload_goes_on(weights, store, kit, kill_half_way, written):
    """After kill -9 in the middle of a large file a re-run writes the rest, and only the rest."""
    kill_half_way("upload")
    kept = left(store)
    assert SIZE // 4 < kept < SIZE
    meter = kit.Meter()
    (entry,) = artifacts.upload([source(weights)], store, progress=meter).files
    assert sum(written) <= SIZE - kept + MIB
    assert kit.content(store, entry.key) == weights.read_bytes()
    assert meter.done == meter.total
    assert [stored.key for stored in store.list("")] == [entry.key]
    assert left(store) == 0


def test_upload_over_another_path_goes_on(weights, store, kill_half_way, written, tmp_path):
    """The file is found again by what it is, not by the path that leads to it."""
    kill_half_way("upload")
    kept = left(store)
    (tmp_path / "link").symlink_to(tmp_path)
    artifacts.upload([source(tmp_path / "link" / "weights")], store)
    assert sum(written) <= SIZE - kept + MIB


@pytest.mark.parametrize("restored", [False, True])
def test_source_that_changed_meanwhile(weights, store, kit, kill_half_way, restored):
    """Where the file has new bytes, they are what is stored, also if its time was set back."""
    before = weights.stat()
    kill_half_way("upload")
    with weights.open("r+b") as writer:
        writer.seek(MIB)
        writer.write(b"new bytes")
    if restored:
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    (entry,) = artifacts.upload([source(weights)], store).files
    assert kit.content(store, entry.key) == weights.read_bytes()
    assert [stored.key for stored in store.list("")] == [entry.key]


def test_two_processes_at_once(weights, store, kit, process):
    """Two processes that register the same file at once both end well, with one object."""
    children = [process("upload") for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "half\n"
    digests = set()
    for child in children:
        out, _ = child.communicate("go\n", timeout=60)
        assert child.returncode == 0
        digests.add(out.strip())
    (stored,) = store.list("")
    assert stored.key == f"blobs/{SIZE}/{digests.pop()}"
    assert not digests
    assert kit.content(store, stored.key) == weights.read_bytes()
    assert left(store) == 0


def test_replicate_goes_on(registered, store, there, kill_half_way, written):
    """After kill -9 in the middle of a copy a re-run writes the rest, and only the rest."""
    kill_half_way("replicate")
    kept = left(there)
    assert SIZE // 4 < kept < SIZE
    assert artifacts.replicate(registered, store, there) == SIZE
    assert sum(written) <= SIZE - kept + MIB + len(registered.manifest.encode())
    artifacts.check(registered, there)
    assert left(there) == 0


def test_replicate_finds_a_spoiled_beginning(registered, store, there, kill_half_way):
    """What is left at the target with other bytes is replaced."""
    kill_half_way("replicate")
    (part,) = (there.path("x").parent / ".parts").iterdir()
    with part.open("r+b") as writer:
        writer.write(b"spoiled")
    artifacts.replicate(registered, store, there)
    artifacts.check(registered, there)


def test_download_goes_on(registered, store, weights, kit, kill_half_way, tmp_path):
    """After kill -9 nothing is seen, and a re-run fetches the rest, and only the rest."""
    kill_half_way("download")
    dest = tmp_path / "dest"
    assert [path.name for path in dest.iterdir()] == [".cloudreg"]
    kept = (dest / ".cloudreg" / "unfinished" / "0").stat().st_size
    assert SIZE // 4 < kept < SIZE
    counted, meter = Counted(store), kit.Meter()
    artifacts.download(registered, counted, dest, progress=meter)
    assert counted.read == SIZE - kept
    assert (dest / "weights").read_bytes() == weights.read_bytes()
    assert (dest / MANIFEST_FILE).read_bytes() == registered.manifest.encode()
    assert sorted(path.name for path in (dest / ".cloudreg").iterdir()) == ["manifest.json"]
    assert meter.done == meter.total


@pytest.mark.parametrize("spoiled", ["a byte", "too long", "empty"])
def test_download_finds_a_spoiled_beginning(
    registered, store, weights, kit, kill_half_way, tmp_path, spoiled
):
    """What is left with other bytes is fetched anew."""
    kill_half_way("download")
    part = tmp_path / "dest" / ".cloudreg" / "unfinished" / "0"
    if spoiled == "a byte":
        with part.open("r+b") as writer:
            writer.seek(MIB)
            writer.write(b"?")
    else:
        os.truncate(part, 0 if spoiled == "empty" else SIZE + 1)
    meter = kit.Meter()
    artifacts.download(registered, store, tmp_path / "dest", progress=meter)
    assert (tmp_path / "dest" / "weights").read_bytes() == weights.read_bytes()
    assert meter.done == meter.total


def test_download_over_a_lost_connection(folder, store, version_of, tmp_path):
    """What came before the connection was lost is kept out of sight, and is not fetched again."""
    contents = {f"f{number}": os.urandom(2 * MIB) for number in range(12)}
    version = version_of(artifacts.upload(folder(**contents), store).files)
    artifacts.put_manifest(version.manifest, store)
    dest, first = tmp_path / "dest", Counted(store, breaks_after=15 * MIB)
    with pytest.raises(Unavailable):
        artifacts.download(version, first, dest)
    assert [path.name for path in dest.iterdir()] == [".cloudreg"]
    second = Counted(store)
    artifacts.download(version, second, dest)
    assert 0 < second.read <= 16 * MIB
    for name, data in contents.items():
        assert (dest / name).read_bytes() == data


def unfinished(dest, version):
    """Make *dest* look as a download that was killed leaves it."""
    folder = dest / ".cloudreg" / "unfinished"
    folder.mkdir(parents=True)
    (folder / "digest").write_text(version.digest)
    return folder


@pytest.fixture
def small(folder, store, version_of):
    """A version with two files, one of them in a folder of its own name."""
    version = version_of(artifacts.upload(folder(a=b"alpha", b=b"beta"), store).files)
    artifacts.put_manifest(version.manifest, store)
    return version


def test_killed_between_the_files(small, store, tmp_path):
    """A kill while the files get their places is made good, whatever stands there already."""
    folder = unfinished(tmp_path / "dest", small)
    (tmp_path / "dest" / "a").write_bytes(b"alpha")
    (folder / "1").write_bytes(b"beta")
    counted = Counted(store)
    artifacts.download(small, counted, tmp_path / "dest")
    assert counted.read == 0
    assert (tmp_path / "dest" / "b").read_bytes() == b"beta"
    assert not folder.exists()


def test_file_that_was_changed_meanwhile(small, store, tmp_path):
    """A file in its place with other bytes is fetched again."""
    unfinished(tmp_path / "dest", small)
    (tmp_path / "dest" / "a").write_bytes(b"ALPHA")
    artifacts.download(small, store, tmp_path / "dest")
    assert (tmp_path / "dest" / "a").read_bytes() == b"alpha"


def test_download_into_somebody_elses_folder(small, store, tmp_path):
    """A folder with anything else in it is refused and left alone, begun or not."""
    dest = tmp_path / "dest"
    folder = unfinished(dest, small)
    (dest / "mine").write_bytes(b"x")
    with pytest.raises(InvalidRequest, match="not an empty folder"):
        artifacts.download(small, store, dest)
    (dest / "mine").unlink()
    (dest / "a").symlink_to("/nowhere")
    artifacts.download(small, store, dest)
    assert not (dest / "a").is_symlink()
    assert not folder.exists()


def test_download_of_another_version(small, store, tmp_path):
    """What was begun for one version does not become another one."""
    folder = unfinished(tmp_path / "dest", small)
    (folder / "digest").write_text("sha256:" + "0" * 64)
    with pytest.raises(InvalidRequest, match="unfinished download of another version") as found:
        artifacts.download(small, store, tmp_path / "dest")
    assert found.value.hint
    assert (folder / "digest").exists()


def test_killed_before_the_first_byte(small, store, tmp_path):
    """A download that was killed before it wrote down its version begins anew."""
    folder = unfinished(tmp_path / "dest", small)
    (folder / "digest").rename(folder / "digest.part")
    artifacts.download(small, store, tmp_path / "dest")
    assert (tmp_path / "dest" / "a").read_bytes() == b"alpha"


def test_two_downloads_at_once(registered, store, process, weights, tmp_path):
    """While one process downloads into a folder another is refused, and harms nothing."""
    child = process("download")
    assert child.stdout.readline() == "half\n"
    with pytest.raises(Conflict, match="another process"):
        artifacts.download(registered, store, tmp_path / "dest")
    child.communicate("go\n", timeout=60)
    assert child.returncode == 0
    assert (tmp_path / "dest" / "weights").read_bytes() == weights.read_bytes()


def test_wrong_bytes_clear_a_begun_download(registered, store, kill_half_way, tmp_path):
    """Bytes that are not what was registered leave nothing, also of an earlier attempt."""
    kill_half_way("download")
    entry = registered.manifest.files[0]
    store.put(b"x" * entry.size, entry.key)
    with pytest.raises(IntegrityError, match="weights"):
        artifacts.download(registered, store, tmp_path / "dest")
    assert list((tmp_path / "dest").iterdir()) == []


def test_ranges_are_read_at_once(registered, store):
    """A large object is read in several ranges, each byte once, and in order."""
    opened = []

    class Ranged(Counted):
        def open(self, key, *, offset=0, length=None):
            opened.append((offset, length))
            return super().open(key, offset=offset, length=length)

    counted = Ranged(store)
    artifacts.check(registered, counted)
    assert counted.read == SIZE
    assert len([length for offset, length in opened if length is not None]) > 8


MEMORY = """
import resource, sys
from pathlib import Path
from cloudreg import artifacts
from cloudreg.manifest import Manifest
from cloudreg.types import FileEntry, ModelVersion
from cloudreg_local.store import LocalStore

folder, size = Path(sys.argv[1]), int(sys.argv[2])
store = LocalStore(folder / "home", target="home")
with (folder / "sparse").open("wb") as writer:
    writer.truncate(size)
from cloudreg.importers import SourceFile
state = (folder / "sparse").stat()
file = SourceFile(path="a", location=folder / "sparse", size=size, mtime_ns=state.st_mtime_ns)
files = artifacts.upload([file], store).files
manifest = Manifest(files=files)
version = ModelVersion(model="churn", number=1, digest=artifacts.put_manifest(manifest, store),
                       manifest=manifest, author="ann", created_at="2026-01-01T00:00:00Z")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
artifacts.check(version, store)
artifacts.replicate(version, store, LocalStore(folder / "there", target="there"))
artifacts.download(version, store, folder / "dest")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("size_mib", [160, pytest.param(600, marks=pytest.mark.slow)])
def test_bounded_memory(tmp_path, size_mib):
    """Checking, copying and downloading hold a few ranges, whatever the size of a file."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), str(size_mib * MIB)],
        capture_output=True,
        text=True,
        check=True,
    )
    # Eight ranges of 4 MiB are under way, one is at hand, and the allocator keeps some.
    assert int(done.stdout) < 80 * 1024
