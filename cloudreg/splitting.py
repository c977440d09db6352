"""Whose request goes to which variant, where the same people shall always meet the same one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from cloudreg.traffic import assigned
from cloudreg.types import Endpoint

FRESH_S = 10.0
"""Seconds that weights are believed: to ask for them before each request would double it."""


class Split:
    """The weights of one endpoint, as requests with a key need them. Thread-safe."""

    def __init__(
        self,
        describe: Callable[[], Endpoint],
        *,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know nothing yet.

        Args:
            describe: Returns the endpoint as it is now.
            fresh_s: Seconds that an answer is believed.
            clock: Seconds, for tests.
        """
        self._describe = describe
        self._fresh_s = fresh_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[float, str, Mapping[str, int]] | None = None

    def variant(self, key: str) -> str:
        """Return the variant that *key* belongs to, by the weights that are in force."""
        with self._lock:
            known = self._known
            if known is None or self._clock() - known[0] >= self._fresh_s:
                spec = self._describe().spec
                weights = {variant.name: variant.weight for variant in spec.variants}
                known = self._known = (self._clock(), spec.name, weights)
        return assigned(key, known[2], salt=known[1])

    def forget(self) -> None:
        """Ask again before the next request: a variant that was named is no more."""
        with self._lock:
            self._known = None
