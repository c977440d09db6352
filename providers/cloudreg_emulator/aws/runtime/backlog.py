"""Who waits at an asynchronous endpoint, and who is worked on: counts without cloud or process."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False, kw_only=True, slots=True)
class Entry:
    """A request in the queue of an endpoint.

    Attributes:
        endpoint: Its name.
        deadline: When it has waited too long, by the monotonic clock.
        came: When it came, by the same clock.
    """

    endpoint: str
    deadline: float
    came: float = field(default_factory=time.monotonic)

    @property
    def age_s(self) -> float:
        """Return for how long it has been here."""
        return time.monotonic() - self.came


class Backlog:
    """The queues of one account and region, first come, first served. Thread-safe."""

    def __init__(self) -> None:
        """Begin with empty queues."""
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, list[Entry]] = defaultdict(list)
        self._working: defaultdict[str, list[Entry]] = defaultdict(list)

    def enter(self, endpoint: str, *, patience_s: float) -> Entry:
        """Return a new entry, the last of its queue."""
        entry = Entry(endpoint=endpoint, deadline=time.monotonic() + patience_s)
        with self._lock:
            self._waiting[endpoint].append(entry)
        return entry

    def begin(self, entry: Entry, room: Callable[[], int]) -> bool:
        """Return whether the entry is worked on from now on: it is the first, and there is room.

        Args:
            entry: Which.
            room: Returns how many can be worked on at once; asked for the first entry alone.
        """
        with self._lock:
            if self._waiting[entry.endpoint][0] is not entry:
                return False
        most = room()  # it takes other locks
        with self._lock:
            working = self._working[entry.endpoint]
            if len(working) >= most:
                return False
            self._waiting[entry.endpoint].remove(entry)
            working.append(entry)
            return True

    def put_back(self, entry: Entry) -> None:
        """Let an entry wait again, as the first."""
        with self._lock:
            self._working[entry.endpoint].remove(entry)
            self._waiting[entry.endpoint].insert(0, entry)

    def leave(self, entry: Entry) -> None:
        """Forget an entry, wherever it is."""
        with self._lock:
            for queues in (self._waiting, self._working):
                if entry in queues[entry.endpoint]:
                    queues[entry.endpoint].remove(entry)

    def size(self, endpoint: str) -> int:
        """Return how many wait, or are worked on."""
        with self._lock:
            return len(self._waiting[endpoint]) + len(self._working[endpoint])

    def oldest_s(self, endpoint: str) -> float:
        """Return the age of the oldest of them; 0 where there is none."""
        with self._lock:
            everybody = (*self._waiting[endpoint], *self._working[endpoint])
            return max((entry.age_s for entry in everybody), default=0.0)
