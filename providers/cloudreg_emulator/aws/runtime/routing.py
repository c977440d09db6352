"""Which variant gets the next request, and which requests are copied."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cloudreg_emulator.aws.runtime.control import Route


class Wheel:
    """Smooth weighted round robin over the routes of one endpoint. Thread-safe.

    Of weights 5, 1 and 1 it makes a a b a c a a, not a a a a a b c: a canary of 10 % gets one of
    ten requests, whatever the number of requests.
    """

    def __init__(self) -> None:
        """Begin with no turn taken."""
        self._lock = threading.Lock()
        self._current: dict[int, float] = {}

    def next(self, routes: Sequence[Route]) -> Route:
        """Return the route whose turn it is; *routes* must not be empty.

        A route of weight 0 never has its turn beside another with a weight.
        """
        if len(routes) == 1:
            return routes[0]
        total = sum(route.weight for route in routes)
        with self._lock:
            # Blue and green instances of one variant are two routes: a route is its group.
            current = {id(r.group): self._current.get(id(r.group), 0.0) for r in routes}
            for route in routes:
                current[id(route.group)] += route.weight
            weighted = [r for r in routes if r.weight > 0] or list(routes)
            chosen = max(weighted, key=lambda r: current[id(r.group)])
            current[id(chosen.group)] -= total
            self._current = current
            return chosen


class Sampler:
    """Takes a part of what passes, evenly spread. Thread-safe."""

    def __init__(self) -> None:
        """Begin with nothing taken."""
        self._lock = threading.Lock()
        self._credit = 0.0

    def takes(self, share: float) -> bool:
        """Return whether this one is taken."""
        with self._lock:
            self._credit += share
            if self._credit < 1.0 - 1e-9:
                return False
            self._credit -= 1.0
            return True
