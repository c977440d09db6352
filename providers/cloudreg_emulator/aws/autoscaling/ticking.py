"""Time for autoscaling: every backend ticks, at once or again and again."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

LEAST_S = 0.05
"""Real seconds between two ticks at least, however fast emulated time passes."""

PERIOD_S = 10.0
"""Emulated seconds between two ticks: alarms of high resolution are evaluated that often."""


def tick() -> None:
    """Evaluate and scale everywhere, once."""
    models = sys.modules.get("moto.applicationautoscaling.models")
    backends = getattr(models, "applicationautoscaling_backends", None)
    if backends is None:
        return  # nobody has registered a target: the import alone would take most of a second
    from moto.core.base_backend import backend_lock

    from cloudreg_emulator.aws.autoscaling.models import ScalingBackend

    with backend_lock:
        found = [backend for _, _, backend in backends.iter_backends()]
    for backend in found:
        if isinstance(backend, ScalingBackend):
            backend.tick()


class Ticker:
    """A thread that ticks for as long as a block lasts.

    ::

        with Ticker(scale=0.01):
            …
    """

    def __init__(self, *, scale: float) -> None:
        """Prepare.

        Args:
            scale: Real seconds of an emulated second.
        """
        self._pause_s = max(LEAST_S, PERIOD_S * scale)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="autoscaling", daemon=True)

    def __enter__(self) -> Ticker:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, and wait for the last tick."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._pause_s):
            tick()
