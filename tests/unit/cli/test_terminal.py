"""Long steps: bars on a terminal, single lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from cloudreg.cli import terminal
from cloudreg.cli.terminal import Bars, Lines, Quiet, progress


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show and redraw at once, so that no test has to last."""
    monkeypatch.setattr(terminal, "SHOWN_AFTER_S", 0.0)
    monkeypatch.setattr(terminal, "REDRAWN_S", 0.01)


@contextmanager
def screen() -> Iterator[tuple[Bars, Callable[[], str]]]:
    """Yield bars on a pseudo terminal, and a function that returns all that was drawn."""
    leader, follower = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    drawn = bytearray()

    def read() -> None:
        with suppress(OSError):  # the follower is closed
            while data := os.read(leader, 65536):
                drawn.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        with open(follower, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            found = progress(quiet=False, stream=stream)
            assert isinstance(found, Bars)
            yield found, lambda: drawn.decode(errors="replace")
    finally:
        reader.join(5.0)
        os.close(leader)


def until(ask: Callable[[], bool]) -> None:
    end = time.monotonic() + 10.0
    while not ask():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_bar_on_a_terminal() -> None:
    """A long transfer is a bar in bytes, with what goes on now beside it."""
    with screen() as (bars, drawn), bars.task("storing", total=2 * 2**20, unit="B") as task:
        task.advance(2**20)
        task.note("weights")
        until(lambda: "storing:  50%" in drawn() and "weights" in drawn())

    assert "1.00M/2.00M" in drawn()


def test_nested_bars_and_news() -> None:
    """Steps inside steps have bars of their own, and news breaks none of them."""
    with screen() as (bars, drawn), bars.task("gates of prod", total=3) as outer:
        outer.advance(1)
        with bars.task("starting churn:7"):
            until(lambda: "starting churn:7: " in drawn())
            bars.say("the server is up")
        until(lambda: "gates of prod: 1/3" in drawn())

    # On a line of its own: after a carriage return, never behind a bar.
    assert "\rthe server is up\r\n" in drawn().replace("\x1b[A", "")


def test_operation_in_percent() -> None:
    """An operation that says how far it is shows percent and not a count."""
    with screen() as (bars, drawn), bars.task("endpoint churn", total=1.0) as task:
        task.advance(0.25)
        until(lambda: "endpoint churn:  25%" in drawn())


def test_threads_share_a_bar() -> None:
    """What several threads do at once is all counted."""
    with screen() as (bars, _), bars.task("storing", total=4000, unit="B") as task:
        threads = [
            threading.Thread(target=lambda: [task.advance(1) for _ in range(1000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert task.done == 4000  # type: ignore[attr-defined]


def test_no_thread_is_left() -> None:
    """Once all steps are over nothing draws any more, also after an error."""
    with screen() as (bars, _):
        with pytest.raises(ValueError, match="no"), bars.task("a"):
            raise ValueError("no")

        assert not [t for t in threading.enumerate() if t.name == "every"]


def test_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal a step is one line at its end, if it was long; news are lines."""
    stream = io.StringIO()
    lines = progress(quiet=False, stream=stream)
    assert type(lines) is Lines
    with lines.task("short"):
        lines.say("news\x1b[2J")
    monkeypatch.setattr(terminal, "LONG_S", 0.0)
    with lines.task("storing", total=2048, unit="B") as task:
        task.advance(2048)
        task.note("ignored")

    first, second = stream.getvalue().splitlines()
    assert first == "news\\u001b[2J"
    assert second.startswith("storing: 2.0 KiB in 0.")


def test_quiet() -> None:
    """Nothing is shown where nobody wants to see it."""
    stream = io.StringIO()
    quiet = progress(quiet=True, stream=stream)
    assert isinstance(quiet, Quiet)
    with quiet.task("storing", total=1) as task:
        task.advance(1)
        quiet.say("news")

    assert stream.getvalue() == ""
