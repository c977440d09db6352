"""What the parts of one emulated Google Cloud share: place, faults, time, and one lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloudreg_emulator.faults import Faults, Kind, When
from cloudreg_emulator.google.storage.storage import Storage

__all__ = ["PROJECT", "PROJECT_NUMBER", "REGION", "Place", "World"]

PROJECT = "emulated-project"
PROJECT_NUMBER = 123456789012
REGION = "us-central1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose resources these are, and where.

    Attributes:
        project: Its id.
        number: Its number, which names of Vertex AI's resources carry.
        regions: Which ones are asked here; the first is the usual one.
    """

    project: str = PROJECT
    number: int = PROJECT_NUMBER
    regions: tuple[str, ...] = (REGION,)

    def __post_init__(self) -> None:
        """Refuse to be nowhere.

        Raises:
            ValueError: Without a region.
        """
        if not self.regions:
            raise ValueError("regions: one at least")

    def owns(self, project: str) -> bool:
        """Return whether *project*, an id or a number, is the one."""
        return project in (self.project, str(self.number))


class _Numbers:
    """Ids as Vertex AI makes them: 19 digits, and none twice, over restarts too."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return str(self._last)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One emulated Google Cloud.

    Attributes:
        place: Project and regions.
        faults: What goes wrong, and how often it did.
        storage: Where artifacts are.
        polls: How many polls something that takes time takes.
        scale: Real seconds of one emulated second.
        clock: Seconds since 1970.
        lock: Held while Vertex AI's resources are looked at and changed.
        number: Makes ids.
    """

    place: Place
    faults: Faults
    storage: Storage
    polls: int = 1
    scale: float = 1.0
    clock: Callable[[], float] = time.time
    lock: threading.RLock = field(default_factory=threading.RLock)
    number: Callable[[], str] = field(default_factory=_Numbers)

    def stale_s(self, operation: str) -> float:
        """Return how old what a list shows must be: a fault of the kind `stale` strikes here."""
        fault = self.faults.strike("aiplatform", operation, When.LIST)
        return fault.seconds if fault is not None and fault.kind is Kind.STALE else 0.0
