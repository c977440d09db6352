"""Copies of requests for a shadow: in the background, bounded, and nobody's trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cloudreg.errors import Unavailable
from cloudreg.mirroring import Mirror


@contextmanager
def mirror(send: Callable[[bytes, str], object], **more: int) -> Iterator[Mirror]:
    made = Mirror(send, **{"percent": 100, **more})
    try:
        yield made
    finally:
        made.close(patience_s=20.0)


def until(ask: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    while not ask():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_copies_are_sent() -> None:
    """Each copy is sent as it was, with its type."""
    got: list[tuple[bytes, str]] = []
    with mirror(lambda body, kind: got.append((body, kind)), workers=1) as copies:
        for number in range(5):
            copies.offer(b"%d" % number, "text/plain")
        until(lambda: copies.counts.sent == 5)

    assert got == [(b"%d" % number, "text/plain") for number in range(5)]


def test_a_part_is_copied() -> None:
    """Of a hundred requests as many are copied as the percent says, evenly spread."""
    got: list[int] = []
    with mirror(lambda body, _: got.append(int(body)), percent=25, workers=1) as copies:
        for number in range(100):
            copies.offer(b"%d" % number, "")
        until(lambda: copies.counts.sent == 25)

    assert got == list(range(3, 100, 4))


def test_a_shadow_that_fails() -> None:
    """What the shadow does not answer is counted, and the next copy is sent all the same."""

    def refuse(body: bytes, _: str) -> None:
        if body == b"bad":
            raise Unavailable("no replica is ready")

    with mirror(refuse) as copies:
        for body in (b"bad", b"good", b"bad", b"good"):
            copies.offer(body, "")
        until(lambda: copies.counts.sent + copies.counts.failed == 4)
        assert (copies.counts.sent, copies.counts.failed) == (2, 2)


def test_a_shadow_that_hangs() -> None:
    """Nobody waits for a shadow that hangs: what finds the queue full is dropped, and counted."""
    release = threading.Event()
    with mirror(lambda *_: release.wait(20.0), most_waiting=3, workers=2) as copies:
        try:
            copies.offer(b"", "")
            copies.offer(b"", "")
            until(lambda: copies.counts.waiting == 0)
            began = time.monotonic()
            for _ in range(50):
                copies.offer(b"", "")
            took_s = time.monotonic() - began
            assert (copies.counts.waiting, copies.counts.dropped) == (3, 47)
            # Fifty waits for the shadow would be a thousand seconds.
            assert took_s < 10.0
        finally:
            release.set()
        until(lambda: copies.counts.sent == 5)


def test_closed() -> None:
    """After it is closed nothing more is sent, no thread is left, and to offer is still allowed."""
    got: list[bytes] = []
    with mirror(lambda body, _: got.append(body)) as copies:
        copies.offer(b"one", "")
        until(lambda: copies.counts.sent == 1)
    copies.offer(b"two", "")

    assert got == [b"one"]
    assert not [thread for thread in threading.enumerate() if thread.name == "mirror"]


def test_closed_before_it_is_sent() -> None:
    """What waits is still sent when it is closed: a command line ends soon after it began."""
    got: list[bytes] = []
    with mirror(lambda body, _: got.append(body), workers=1) as copies:
        for number in range(20):
            copies.offer(b"%d" % number, "")

    assert len(got) == 20


def test_closed_while_a_shadow_hangs() -> None:
    """Nobody waits for a shadow that hangs: what waits behind it is dropped, and counted."""
    release = threading.Event()
    copies = Mirror(lambda *_: release.wait(60.0), percent=100, workers=1)
    for _ in range(3):
        copies.offer(b"", "")
    until(lambda: copies.counts.waiting == 2)
    began = time.monotonic()
    copies.close(patience_s=0.05)
    took_s = time.monotonic() - began
    try:
        assert took_s < 20.0
        assert copies.counts.dropped == 2
    finally:
        release.set()
    until(lambda: not [t for t in threading.enumerate() if t.name == "mirror"])
    assert copies.counts.sent == 1
