"""Whole files, and locks that die with their process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloudreg_local.disk import is_locked, locked, write_whole


def test_lock_is_not_kept_by_a_fork(tmp_path: Path) -> None:
    """A process that was forked while the lock was held does not go on holding it."""
    code = """
import os, signal, sys
from pathlib import Path
from cloudreg_local.disk import is_locked, locked
path = Path(sys.argv[1])
with locked(path):
    child = os.fork()
    if not child:
        signal.pause()
    print(is_locked(path))
print(is_locked(path))
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stdout.split() == ["True", "False"]


def test_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After kill -9 of its holder a lock is free."""
    path = tmp_path / "lock"
    code = (
        "import signal, sys; from pathlib import Path; from cloudreg_local.disk import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); signal.pause()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_locked(path)
        holder.send_signal(signal.SIGKILL)

    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be made durable does not replace the one that is there."""
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(_: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        write_whole(path, b"new")

    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
