"""Log files of bounded size."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudreg_local.logs import KEPT_FILES, MAX_BYTES, MAX_LINE, LogFile, prune, tail


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files of this process cannot grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_tail_merges_by_time(tmp_path: Path) -> None:
    """The lines of several files come in the order in which they were written."""
    one, two = LogFile(tmp_path / "primary-1.log"), LogFile(tmp_path / "canary-2.log")
    for number in range(10):
        (one, two)[number % 2].write(f"line {number}")
    one.close()
    two.close()

    assert tail(tmp_path, lines=100) == [f"line {number}" for number in range(10)]
    assert tail(tmp_path, lines=3) == ["line 7", "line 8", "line 9"]
    assert tail(tmp_path, lines=100, names={"canary-2.log"}) == [
        f"line {number}" for number in range(1, 10, 2)
    ]
    assert tail(tmp_path, lines=0) == []
    assert tail(tmp_path / "nothing", lines=5) == []


def test_size_is_bounded(tmp_path: Path) -> None:
    """A file that is full becomes the one before, and no line at the seam is lost."""
    log = LogFile(tmp_path / "primary-1.log")
    line = "x" * 990
    for number in range(2500):
        log.write(f"{number} {line}")
    log.close()

    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= MAX_BYTES
    numbers = [int(text.split()[0]) for text in tail(tmp_path, lines=1500)]
    assert numbers == list(range(1000, 2500))


def test_restart_goes_on(tmp_path: Path) -> None:
    """A file that is there is gone on with."""
    for number in range(3):
        log = LogFile(tmp_path / "primary-1.log")
        log.write(f"start {number}")
        log.close()

    assert tail(tmp_path, lines=10) == ["start 0", "start 1", "start 2"]


def test_hostile_lines(tmp_path: Path) -> None:
    """What a model server prints cannot break the file: length, bytes and broken characters."""
    log = LogFile(tmp_path / "primary-1.log")
    for line in ("y" * (MAX_LINE * 3), "\ud800 lone surrogate", "ü", "", "50 %\r\x85\u2028100 %"):
        log.write(line)
    log.close()

    found = tail(tmp_path, lines=10)
    assert found == ["y" * MAX_LINE, "? lone surrogate", "ü", "", "50 %\r\x85\u2028100 %"]


def test_last_lines_are_kept_in_memory(tmp_path: Path) -> None:
    """The last hundred lines are there for an error message, also after the file is closed."""
    log = LogFile(tmp_path / "primary-1.log")
    for number in range(150):
        log.write(str(number))
    log.close()
    log.write("after the end")

    assert list(log.last) == [*map(str, range(51, 150)), "after the end"]
    assert tail(tmp_path, lines=1) == ["149"]


@pytest.mark.usefixtures("full_disk")
def test_full_disk_ends_nobody(tmp_path: Path) -> None:
    """Where nothing can be written, lines are lost and the writer goes on."""
    log = LogFile(tmp_path / "primary-1.log")
    log.write("lost")
    log.close()

    assert list(log.last) == ["lost"]
    assert tail(tmp_path, lines=10) == []


def test_no_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file cannot even be made, the lines begin once it can."""
    opened = Path.open
    full = True

    def refuse(path: Path, mode: str = "r", **more: int) -> object:
        if full and "a" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    log = LogFile(tmp_path / "primary-1.log")
    log.write("lost")
    full = False
    log.write("found")
    log.close()

    assert tail(tmp_path, lines=10) == ["found"]


def test_pruning(tmp_path: Path) -> None:
    """The oldest files go beyond the limit, but none that somebody still writes."""
    for number in range(KEPT_FILES + 10):
        path = tmp_path / f"primary-{number}.log"
        path.write_text("")
        os.utime(path, (number, number))

    prune(tmp_path, keep=["primary-3.log"])

    numbers = {int(path.stem.rpartition("-")[2]) for path in tmp_path.iterdir()}
    assert numbers == {3, *range(10, KEPT_FILES + 10)}
