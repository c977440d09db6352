"""Uploads to the local store: what a broken put left is found, compared and never believed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudreg.errors import AlreadyExists, QuotaExceeded
from cloudreg_local.store import STALE_S, LocalStore

MIB = 1024 * 1024
CONTENT = os.urandom(16 * MIB)

HALF = """
import sys
from pathlib import Path
from cloudreg_local.store import LocalStore
content = Path(sys.argv[2]).read_bytes()
def chunks():
    for start in range(0, len(content) // 2, 1 << 20):
        yield content[start:start + (1 << 20)]
    print("half", flush=True)
    sys.stdin.readline()
    yield content[len(content) // 2:]
LocalStore(Path(sys.argv[1]), target="laptop").put(chunks(), "big", resume="one")
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", target="laptop")


@pytest.fixture
def half(tmp_path: Path, store: LocalStore) -> Iterator[subprocess.Popen[str]]:
    """A process that has put half of the content, and waits."""
    (tmp_path / "content").write_bytes(CONTENT)
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, str(tmp_path / "store"), str(tmp_path / "content")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        yield process
        process.kill()


@pytest.fixture
def killed(half: subprocess.Popen[str], store: LocalStore) -> Path:
    """What is left of a put of the content that was killed half way."""
    half.send_signal(signal.SIGKILL)
    half.wait()
    (part,) = parts(store)
    assert part.stat().st_size == len(CONTENT) // 2
    return part


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each write of this process wrote."""
    counts: list[int] = []
    write = os.write

    def counted(handle: int, data: bytes) -> int:
        count = write(handle, data)
        counts.append(count)
        return count

    monkeypatch.setattr(os, "write", counted)
    return counts


def parts(store: LocalStore) -> list[Path]:
    return list((store.path("x").parent / ".parts").iterdir())


def content(store: LocalStore, key: str = "big") -> bytes:
    with store.open(key) as reader:
        return reader.read()


def chunks(data: bytes = CONTENT) -> Iterator[bytes]:
    for start in range(0, len(data), MIB):
        yield data[start : start + MIB]


@pytest.mark.usefixtures("killed")
def test_only_the_rest_is_written(store: LocalStore, written: list[int]) -> None:
    """After kill -9 the next put of that name writes what is missing, and no byte more."""
    before = time.time()
    stored = store.put(chunks(), "big", resume="one")

    assert sum(written) == len(CONTENT) // 2
    assert content(store) == CONTENT
    assert stored.modified_at >= before - 1
    assert parts(store) == []


def test_what_is_left_is_compared(store: LocalStore, killed: Path, written: list[int]) -> None:
    """A byte that changed in what is left is noticed, and from there on all is written."""
    with killed.open("r+b") as writer:
        writer.seek(5 * MIB + 3)
        writer.write(bytes([CONTENT[5 * MIB + 3] ^ 1]))
    store.put(chunks(), "big", resume="one")

    assert content(store) == CONTENT
    assert sum(written) == len(CONTENT) - 5 * MIB


def test_hole_is_no_content(store: LocalStore, killed: Path) -> None:
    """What a power cut left as zeros is noticed."""
    os.truncate(killed, 3 * MIB)
    os.truncate(killed, 9 * MIB)
    store.put(chunks(), "big", resume="one")

    assert content(store) == CONTENT


def test_two_at_once(
    store: LocalStore, half: subprocess.Popen[str], tmp_path: Path, written: list[int]
) -> None:
    """While one process sends, another of that name sends on its own, and both end well."""
    assert store.put(CONTENT[::-1], "big", resume="one").size == len(CONTENT)
    assert sum(written) == len(CONTENT)
    assert content(store) == CONTENT[::-1]
    half.communicate("go\n", timeout=30)

    assert half.returncode == 0
    assert content(store) == CONTENT
    assert parts(store) == []


def test_name_is_taken_again_while_it_ends(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins in the moment in which another put of that name ends keeps its own part."""
    replace, began, go = os.replace, threading.Event(), threading.Event()

    def second() -> Iterator[bytes]:
        began.set()
        yield b"second"
        assert go.wait(10)

    thread = threading.Thread(target=lambda: store.put(second(), "big", resume="one"))

    def slow(source: Path, dest: Path) -> None:
        replace(source, dest)
        if not thread.ident:
            thread.start()
            assert began.wait(10)

    monkeypatch.setattr(os, "replace", slow)
    store.put(b"first", "big", resume="one")
    assert content(store) == b"first"
    assert len(parts(store)) == 1
    go.set()
    thread.join()

    assert content(store) == b"second"
    assert parts(store) == []


def test_object_with_a_second_name(store: LocalStore, killed: Path) -> None:
    """After a kill between the object's name and the end of the put, no one writes into it."""
    store.put(b"whole", "big")
    killed.unlink()
    killed.hardlink_to(store.path("big"))
    store.copy("big", "copy")
    store.put(b"other", "big", resume="one")

    assert content(store, "copy") == b"whole"
    assert content(store) == b"other"
    assert parts(store) == []


def test_whole_but_without_a_name(store: LocalStore, killed: Path, written: list[int]) -> None:
    """After a kill just before the name is given, nothing is written any more."""
    killed.write_bytes(CONTENT)
    killed.chmod(0o444)
    store.put(chunks(), "big", if_absent=True, resume="one")

    assert written == []
    assert content(store) == CONTENT
    with pytest.raises(AlreadyExists):
        store.put(chunks(), "big", if_absent=True, resume="one")
    assert parts(store) == []


@pytest.mark.parametrize(("name", "key"), [("two", "big"), ("one", "other")])
def test_another_upload(
    store: LocalStore, killed: Path, written: list[int], name: str, key: str
) -> None:
    """Name and key together are the upload: another one leaves this one alone."""
    store.put(chunks(), key, resume=name)

    assert sum(written) == len(CONTENT)
    assert parts(store) == [killed]


def test_link_in_the_place_of_a_part(store: LocalStore, killed: Path, tmp_path: Path) -> None:
    """A symbolic link is not followed: the put goes on its own."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    killed.unlink()
    killed.symlink_to(victim)
    store.put(b"whole", "big", resume="one")

    assert content(store) == b"whole"
    assert victim.read_bytes() == b"mine"


def test_sweep(store: LocalStore, half: subprocess.Popen[str]) -> None:
    """What is left is swept after a day, unless somebody still writes it."""
    root, late = store.path("x").parent, time.time() + STALE_S + 60
    LocalStore(root, target="laptop", clock=lambda: late).put(b"", "other")
    assert len(parts(store)) == 1
    half.send_signal(signal.SIGKILL)
    half.wait()
    LocalStore(root, target="laptop").put(b"", "other")
    assert len(parts(store)) == 1

    LocalStore(root, target="laptop", clock=lambda: late).put(b"", "other")
    assert parts(store) == []


def test_full_disk_gets_its_room_back(
    store: LocalStore, killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written for want of room is not kept."""

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(QuotaExceeded):
        store.put(chunks(), "big", resume="one")

    assert parts(store) == []


@pytest.mark.usefixtures("killed")
def test_without_locks(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    """On a file system without locks nothing is taken up, and all the rest holds."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    store.put(chunks(), "big", resume="one")

    assert sum(written) == len(CONTENT)
    assert content(store) == CONTENT


def test_what_is_kept_becomes_durable(
    store: LocalStore, killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of the killed put are synced as well, before they have their name."""
    synced: list[tuple[int, bool]] = []
    fsync, size = os.fsync, killed.stat().st_size
    inode, path = killed.stat().st_ino, store.path("big")

    def record(handle: int) -> None:
        fsync(handle)
        if os.fstat(handle).st_ino == inode:
            synced.append((os.fstat(handle).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", record)
    store.put(CONTENT[:size], "big", resume="one")

    assert synced == [(size, False)]
    assert path.stat().st_ino == inode


def test_part_of_another_user(
    store: LocalStore, killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be opened is left to its owner: the put goes on its own."""
    opened = os.open

    def refuse(path: Path, flags: int, *mode: int, **options: int) -> int:
        if Path(path) == killed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", refuse)
    store.put(chunks(), "big", resume="one")

    assert content(store) == CONTENT
    assert parts(store) == [killed]


def test_memory_is_bounded(tmp_path: Path, store: LocalStore) -> None:
    """Comparing what is left takes a chunk or two, also where the source is one piece."""
    text = """
import resource, sys
from pathlib import Path
from cloudreg_local.store import LocalStore
path = Path(sys.argv[1]) / "source"
with path.open("wb") as writer:
    writer.truncate(200_000_000)
def broken():
    for _ in range(150):
        yield bytes(1_000_000)
    raise ZeroDivisionError
store = LocalStore(Path(sys.argv[1]) / "store", target="laptop")
try:
    store.put(broken(), "big", resume="one")
except ZeroDivisionError:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.put(path, "big", resume="one")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert int(done.stdout) < 32 * 1024
    assert store.path("big").stat().st_size == 200_000_000
