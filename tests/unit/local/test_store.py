"""The object store: whole or not at all, once, and for good."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudreg.errors import AlreadyExists, InvalidRequest, NotFound
from cloudreg_local.store import CHUNK, STALE_S, LocalStore

START = "import sys; from pathlib import Path; from cloudreg_local.store import LocalStore\n"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", target="laptop")


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python on a text, with the store's folder as its first argument."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", START + text, str(tmp_path / "store"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def parts(store: LocalStore) -> list[str]:
    """Temporary files of the store."""
    folder = store.path("x").parent / ".parts"
    return [path.name for path in folder.iterdir()]


def test_one_of_many_processes_wins(
    store: LocalStore, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Of eight processes that put the same absent keys at once, each key has one winner."""
    text = """
from cloudreg.errors import AlreadyExists
store = LocalStore(Path(sys.argv[1]), target="laptop")
print("here", flush=True)
sys.stdin.readline()
won = []
for number in range(25):
    try:
        store.put(sys.argv[2].encode(), f"race/{number}", if_absent=True)
        won.append(number)
    except AlreadyExists:
        pass
print(*won)
"""
    racers = [python(text, f"writer {number}") for number in range(8)]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {}
    for number, racer in enumerate(racers):
        out, err = racer.communicate(timeout=60)
        assert racer.returncode == 0, err
        for key in out.split():
            assert key not in won
            won[key] = f"writer {number}"

    assert len(won) == 25
    for key, writer in won.items():
        with store.open(f"race/{key}") as reader:
            assert reader.read() == writer.encode()
    assert parts(store) == []


def test_put_is_durable_in_order(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are durable before the name is there, and the name before put returns."""
    path = store.path("folder/key")
    seen: list[tuple[str, bool]] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        seen.append((str(Path(f"/proc/self/fd/{handle}").readlink()), path.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)

    store.put(b"folders", "folder/other")
    for if_absent in (True, False):
        seen.clear()
        there = path.exists()
        store.put(b"bytes", "folder/key", if_absent=if_absent)

        (file, before), (folder, after) = seen
        assert "/.parts/" in file
        assert before is there
        assert (folder, after) == (str(path.parent), True)

    seen.clear()
    store.delete("folder/key")
    assert seen == [(str(path.parent), False)]


def test_new_folders_are_durable(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder that a put makes is named durably in the one above it."""
    synced: list[Path] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    store.put(b"", "a/b/c")

    path = store.path("a/b/c").parent
    root = store.path("x").parent
    while path != root.parent:
        assert path.parent in synced
        path = path.parent


def test_killed_put_leaves_nothing_under_the_key(
    store: LocalStore, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """After kill -9 in the middle of a put the key is absent, and what is left is swept later."""
    text = """
def chunks():
    yield b"x" * 100_000
    print("half", flush=True)
    sys.stdin.readline()
LocalStore(Path(sys.argv[1]), target="laptop").put(chunks(), "big")
"""
    writer = python(text)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    assert len(parts(store)) == 1
    late = time.time() + STALE_S + 60
    root = store.path("x").parent

    # As old as can be, but its writer lives.
    LocalStore(root, target="laptop", clock=lambda: late).put(b"", "other")
    assert len(parts(store)) == 1

    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with pytest.raises(NotFound):
        store.open("big")
    assert [found.key for found in store.list("")] == ["other"]

    # Young: perhaps somebody on another machine writes it.
    LocalStore(root, target="laptop").put(b"", "other")
    assert len(parts(store)) == 1
    LocalStore(root, target="laptop", clock=lambda: late).put(b"", "other")
    assert parts(store) == []
    store.put(b"whole", "big", if_absent=True)


def test_broken_source_leaves_nothing(store: LocalStore) -> None:
    """What the source raises reaches the caller as it is, and nothing is stored."""

    def chunks() -> Iterator[bytes]:
        yield b"some"
        raise ZeroDivisionError

    store.put(b"before", "replaced")
    for key in ("fresh", "replaced"):
        with pytest.raises(ZeroDivisionError):
            store.put(chunks(), key)

    assert [found.key for found in store.list("")] == ["replaced"]
    with store.open("replaced") as reader:
        assert reader.read() == b"before"
    assert parts(store) == []


def test_full_disk(python: Callable[..., subprocess.Popen[str]], store: LocalStore) -> None:
    """Where no byte fits any more the put is refused as a quota, and leaves nothing."""
    text = """
import resource
from cloudreg.errors import QuotaExceeded
store = LocalStore(Path(sys.argv[1]), target="laptop")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
store.put(b"small", "small")
for source in (b"x" * 2_000_000, (b"x" * 300_000 for _ in range(9))):
    try:
        store.put(source, "large")
    except QuotaExceeded as error:
        print(error.message)
"""
    out, err = python(text).communicate(timeout=60)

    assert err == ""
    assert out.splitlines() == ["object 'large' cannot be used: File too large"] * 2
    assert [found.key for found in store.list("")] == ["small"]
    assert parts(store) == []


def test_read_only_folder(
    tmp_path: Path, store: LocalStore, python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Where writing is forbidden, each verb that writes says so, and reading goes on."""
    text = """
import os
from cloudreg.errors import PermissionDenied
os.chdir(sys.argv[1])
if os.getuid() == 0:  # nothing is forbidden to root
    os.setgid(65534)
    os.setuid(65534)
store = LocalStore(Path("."), target="laptop")
verbs = {
    "put": lambda: store.put(b"", "new"),
    "put if absent": lambda: store.put(b"", "folder/new", if_absent=True),
    "replace": lambda: store.put(b"", "folder/key"),
    "copy": lambda: store.copy("folder/key", "other"),
    "delete": lambda: store.delete("folder/key"),
}
for name, verb in verbs.items():
    try:
        verb()
    except PermissionDenied as error:
        print(name, error.target)
print(store.open("folder/key").read(), [found.key for found in store.list("")])
"""
    store.put(b"kept", "folder/key")
    root = tmp_path / "store"
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        out, err = python(text).communicate(timeout=60)
    finally:
        for folder in folders:
            folder.chmod(0o755)

    assert err == ""
    assert out.splitlines() == [
        "put laptop", "put if absent laptop", "replace laptop", "copy laptop", "delete laptop",
        "b'kept' ['folder/key']",
    ]  # fmt: skip


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV])
def test_without_hard_links(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """On a file system that has no hard links the promises are the same."""

    def link(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", link)

    store.put(b"one", "key", if_absent=True)
    with pytest.raises(AlreadyExists):
        store.put(b"two", "key", if_absent=True)
    store.copy("key", "copy", if_absent=True)
    with pytest.raises(AlreadyExists):
        store.copy("key", "copy", if_absent=True)
    store.copy("key", "copy")

    for key in ("key", "copy"):
        with store.open(key) as reader:
            assert reader.read() == b"one"
    assert parts(store) == []


def test_objects_are_read_only(store: LocalStore) -> None:
    """Nobody opens a stored object for writing by accident, copies included."""
    store.put(b"one", "key")
    store.copy("key", "copy")

    for key in ("key", "copy"):
        assert stat.S_IMODE(store.path(key).stat().st_mode) == 0o444


def test_copy_outlives_its_source(store: LocalStore) -> None:
    """A copy is an object of its own: replacing or deleting the source does not reach it."""
    store.put(b"one", "key")
    store.copy("key", "copy")
    store.copy("key", "key")
    store.put(b"two", "key")
    store.delete("key")

    with store.open("copy") as reader:
        assert reader.read() == b"one"
    with pytest.raises(NotFound):
        store.copy("key", "again")


def test_memory_is_bounded(python: Callable[..., subprocess.Popen[str]]) -> None:
    """A put, a get and a copy of 200 MB hold a few chunks of it, whatever the source is."""
    text = """
import resource
from cloudreg_local.store import CHUNK
store = LocalStore(Path(sys.argv[1]), target="laptop")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
chunk = bytes(CHUNK)
store.put((chunk for _ in range(50)), "big")
store.put(store.path("big"), "again")
store.get("big", Path(sys.argv[1]) / "out")
store.copy("big", "copy")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    out, err = python(text).communicate(timeout=120)

    assert err == ""
    assert int(out) < 8 * CHUNK


def test_ranges(store: LocalStore) -> None:
    """A range is exactly what was asked for, cut where the object ends."""
    store.put(bytes(range(100)), "key")

    for offset, length in ((0, None), (10, None), (0, 10), (95, 10), (100, 1), (200, None), (5, 0)):
        end = None if length is None else offset + length
        with store.open("key", offset=offset, length=length) as reader:
            assert reader.read() == bytes(range(100))[offset:end]
    with pytest.raises(InvalidRequest):
        store.open("key", offset=-1)


def test_get_refuses_to_overwrite(store: LocalStore, tmp_path: Path) -> None:
    """What is at the destination stays as it is; without an object nothing is made there."""
    store.put(b"one", "key")
    dest = tmp_path / "dest"
    dest.write_text("mine")

    with pytest.raises(AlreadyExists):
        store.get("key", dest)
    with pytest.raises(NotFound):
        store.get("nothing", tmp_path / "none")

    assert dest.read_text() == "mine"
    assert not (tmp_path / "none").exists()


def test_reader_keeps_what_it_opened(store: LocalStore) -> None:
    """Who reads an object while it is replaced reads the old one to its end."""
    store.put(b"old" * 1000, "key")
    with store.open("key") as reader:
        store.put(b"new", "key")
        store.delete("key")
        assert reader.read() == b"old" * 1000


def test_listing_of_one_object_reads_no_folder(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for one key finds it without reading the large folder that it is in."""
    for number in range(20):
        store.put(b"", f"ledger/{number:04}")
    read: list[str] = []
    scandir = os.scandir

    def record(path: str) -> object:
        read.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", record)
    assert next(store.list("ledger/0007")).key == "ledger/0007"
    assert read == []


def test_key_below_an_object(store: LocalStore) -> None:
    """An object may have the name of a folder of others, as in every object store."""
    store.put(b"1", "a")
    store.put(b"2", "a/b")
    store.delete("a")

    assert [found.key for found in store.list("a")] == ["a/b"]
    with store.open("a/b") as reader:
        assert reader.read() == b"2"
