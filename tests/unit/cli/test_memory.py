"""How much of what was freed the command's threads keep, as glibc itself tells."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, threading
from cloudreg.cli.memory import share_arenas
if sys.argv[1] == "share":
    share_arenas()
barrier = threading.Barrier(16)
def work():
    barrier.wait()
    bytes(100_000)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
stream = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, ctypes.c_void_p(stream))
libc.fflush(ctypes.c_void_p(stream))
"""


def arenas(how: str, **more: str) -> int:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how],
        capture_output=True,
        text=True,
        check=True,
        env={**kept, **more},
    )
    return done.stdout.count("<heap ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has arenas")
def test_threads_share_what_is_freed() -> None:
    """Sixteen threads have two arenas among them, unless somebody said otherwise."""
    assert arenas("as it comes") > 2
    assert arenas("share") == 2
    assert arenas("share", MALLOC_ARENA_MAX="5") == 5
