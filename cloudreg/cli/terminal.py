"""Long steps on stderr: bars on a terminal, one line each at their end anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from cloudreg.cli.words import clean, forget, size, tell

if TYPE_CHECKING:
    from tqdm import tqdm

    from cloudreg.operations import Task

LONG_S = 2.0
"""A step that took this long is worth a line once it is done."""

SHOWN_AFTER_S = 0.3
"""A bar for less than that is only a flicker."""

REDRAWN_S = 0.1


def progress(*, quiet: bool, stream: TextIO | None = None) -> Lines:
    """Return how this process shows long steps on *stream*; stderr without."""
    stream = stream if stream is not None else sys.stderr
    if quiet:
        return Quiet(stream)
    return Bars(stream) if stream.isatty() else Lines(stream)


class Step:
    """One long step of which only the end is told."""

    def __init__(self) -> None:
        """Begin with nothing done."""
        self.done = 0.0
        self._lock = threading.Lock()

    def advance(self, amount: float) -> None:
        """Count; several threads may work on one step."""
        with self._lock:
            self.done += amount

    def note(self, text: str) -> None:
        """Say nothing: a file of log lines is no place for what changes each second."""


class Lines:
    """One line for each long step, at its end."""

    def __init__(self, stream: TextIO) -> None:
        """Write to *stream*."""
        self._stream = stream

    @contextmanager
    def task(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Begin a step; leaving the block ends it."""
        step = Step()
        began = time.monotonic()
        yield step
        self._ended(title, time.monotonic() - began, step.done if unit == "B" else None)

    def say(self, text: str) -> None:
        """Write one line of news."""
        tell(text, self._stream)

    def close(self) -> None:
        """End what is shown."""

    def _ended(self, title: str, took_s: float, moved: float | None) -> None:
        if took_s >= LONG_S:
            amount = f"{size(moved)} in " if moved is not None else ""
            self.say(f"{title}: {amount}{took_s:.1f} s")


class Quiet(Lines):
    """Nothing at all."""

    def say(self, text: str) -> None:
        """Write nothing."""


class Bar(Step):
    """One long step as a bar, which is drawn from time to time and not at each advance."""

    def __init__(self, title: str, *, total: float | None, unit: str, stream: TextIO) -> None:
        """Remember what to draw; a short step is over before it is drawn at all."""
        super().__init__()
        self.began = time.monotonic()
        self._title = title
        self._total = total
        self._unit = unit
        self._stream = stream
        self._note = ""
        self._bar: tqdm[Any] | None = None

    def note(self, text: str) -> None:
        """Show *text* beside the bar."""
        self._note = clean(text)

    def draw(self) -> None:
        """Show how far it is now."""
        if time.monotonic() - self.began < SHOWN_AFTER_S:
            return
        if self._bar is None:
            self._bar = self._drawn()
        self._bar.n = self.done
        self._bar.set_postfix_str(self._note, refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Take it off the screen."""
        if self._bar is not None:
            self._bar.close()

    def _drawn(self) -> tqdm[Any]:
        from tqdm import tqdm

        # Ours is the thread that looks after bars.
        tqdm.monitor_interval = 0
        bar = tqdm(
            desc=clean(self._title),
            total=self._total,
            unit=self._unit,
            unit_scale=True,
            unit_divisor=1024,
            bar_format=self._format(),
            file=self._stream,
            leave=False,
            dynamic_ncols=True,
        )
        # What passed before it was drawn counts too.
        bar.start_t -= time.monotonic() - self.began
        return bar

    def _format(self) -> str | None:
        if self._unit == "B":
            return None
        if self._total is None:
            return "{desc}: {elapsed}{postfix}"
        if self._total == 1.0 and not self._unit:
            # An operation says how far it is, not of how much.
            return "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
        return "{desc}: {n:.3g}/{total:.3g} {unit}|{bar}| {elapsed}{postfix}"


class Bars(Lines):
    """A bar for each step under way, one below the other."""

    def __init__(self, stream: TextIO) -> None:
        """Draw on *stream*, a terminal."""
        super().__init__(stream)
        self._screen = threading.RLock()
        self._open: list[Bar] = []
        self._drawing = ExitStack()

    @contextmanager
    def task(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Draw a bar for as long as the block lasts."""
        bar = Bar(title, total=total, unit=unit, stream=self._stream)
        with self._screen:
            if not self._open:
                # Loaded here: only what waits needs what waits.
                from cloudreg.operations import every

                self._drawing.enter_context(every(REDRAWN_S, self._draw))
            self._open.append(bar)
        try:
            yield bar
        finally:
            with self._screen:
                with self._while_visible():
                    bar.close()
                self._open.remove(bar)
                last = self._drawing.pop_all() if not self._open else None
            if last is not None:
                last.close()
        self._ended(title, time.monotonic() - bar.began, bar.done if unit == "B" else None)

    def say(self, text: str) -> None:
        """Write one line of news above the bars."""
        with self._screen:
            if not self._open:
                super().say(text)
                return
            from tqdm import tqdm

            with self._while_visible():
                tqdm.write(clean(text), file=self._stream)

    def _draw(self) -> None:
        with self._screen, self._while_visible():
            for bar in self._open:
                bar.draw()

    @contextmanager
    def _while_visible(self) -> Iterator[None]:
        """Go on where the terminal is gone: the work matters more than its picture."""
        try:
            yield
        except OSError:
            forget(self._stream)
