"""Counted faults: what goes wrong in a cloud, on demand and so many times.

One vocabulary serves every emulated cloud. A backend asks `Faults.strike` where a fault could
happen, or wraps a whole request in `Faults.guarded`; it words the refusal as its own cloud does.
Each armed fault counts how often it struck, so that a test can tell that it happened at all.

::

    armed = faults.arm(Fault(kind=Kind.THROTTLE, service="sagemaker", operation="CreateEndpoint"))
    …
    assert armed.struck == 1
"""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, TypeVar

__all__ = ["CONTROL_PATH", "FOREVER", "REASONS", "Armed", "Fault", "Faults", "Kind", "When"]

CONTROL_PATH = "/_emulator/faults"
"""Where a server answers `Faults.control`."""

FOREVER = 1_000_000_000
"""A count that no test exhausts."""

REASONS = ("quota", "exited", "not_ready", "permission", "region", "internal")
"""Why something that takes time fails: no quota, the model server exited or was never ready, the
cloud's own account may not read the artifacts, they are in another region, or no reason given."""

T = TypeVar("T")


class When(StrEnum):
    """The places where a backend asks."""

    BEFORE = "before"
    """A request came, and nothing was done."""

    AFTER = "after"
    """Everything was done, and nothing was answered."""

    LAUNCH = "launch"
    """An instance is about to start; the operation is ``ENDPOINT/VARIANT``."""

    UPDATE = "update"
    """A change of an endpoint is about to be completed; the operation is the endpoint's name."""

    LIST = "list"
    """A list is about to be read."""

    BODY = "body"
    """The bytes of an object are about to be sent."""

    OPERATION = "operation"
    """Something that takes time is about to be done; the operation is the one that began it."""

    PROGRESS = "progress"
    """Something that takes time begins; the operation is the one that began it."""


class Kind(StrEnum):
    """What goes wrong."""

    THROTTLE = "throttle"
    """The request is refused for its rate; nothing is done."""

    ERROR = "error"
    """The request ends in a 5xx; nothing is done."""

    LOST = "lost"
    """Everything is done, but the caller sees a 5xx, or a closed connection (``status=0``)."""

    EXPIRED = "expired"
    """The request is refused for its credentials, which have ended; nothing is done."""

    DENIED = "denied"
    """The request is refused: whoever asks may not do that; nothing is done."""

    CAPACITY = "capacity"
    """The cloud has no instance of this type now."""

    UNHEALTHY = "unhealthy"
    """The container runs, but its health check never passes."""

    SLOW_START = "slow_start"
    """The instance starts ``seconds`` late."""

    ROLLBACK = "rollback"
    """A change ends as what was before it, and looks like a success."""

    STALE = "stale"
    """Lists show what was ``seconds`` ago."""

    TRUNCATED = "truncated"
    """The bytes of an object break off in the middle, and so does the connection."""

    GARBLED = "garbled"
    """The bytes of an object are not those that its checksums are of, on their way up or down."""

    FAILED = "failed"
    """Something that takes time ends in an error, for the ``reason``; nothing is done."""

    STUCK = "stuck"
    """Something that takes time stays as it is for ``seconds`` before it goes on."""

    @property
    def when(self) -> When:
        """Return where it strikes."""
        return _WHEN[self]


_WHEN = {
    Kind.THROTTLE: When.BEFORE,
    Kind.ERROR: When.BEFORE,
    Kind.LOST: When.AFTER,
    Kind.EXPIRED: When.BEFORE,
    Kind.DENIED: When.BEFORE,
    Kind.CAPACITY: When.LAUNCH,
    Kind.UNHEALTHY: When.LAUNCH,
    Kind.SLOW_START: When.LAUNCH,
    Kind.ROLLBACK: When.UPDATE,
    Kind.STALE: When.LIST,
    Kind.TRUNCATED: When.BODY,
    Kind.GARBLED: When.BODY,
    Kind.FAILED: When.OPERATION,
    Kind.STUCK: When.PROGRESS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: What.
        service: Where, as a pattern: ``sagemaker``, ``s3``, ``fleet``, ``*``.
        operation: In which operation, as a pattern: ``CreateEndpoint``, ``List*``; of the fleet,
            ``ENDPOINT/VARIANT``.
        count: How many times.
        after: How many matching occasions pass unharmed first.
        status: The HTTP status of ``error`` and ``lost``; 0 closes the connection.
        seconds: How late ``slow_start`` and ``stuck`` are, or how old what ``stale`` shows.
        reason: Why what ``failed`` did: one of `REASONS`.
    """

    kind: Kind
    service: str = "*"
    operation: str = "*"
    count: int = 1
    after: int = 0
    status: int = 503
    seconds: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse what could never strike, or would strike in no way.

        Raises:
            ValueError: The message names the field.
        """
        object.__setattr__(self, "kind", Kind(self.kind))
        if not self.service or not self.operation:
            raise ValueError("service and operation: patterns, * for any")
        if self.count < 1 or self.after < 0:
            raise ValueError(f"count {self.count}, after {self.after}: at least 1 and at least 0")
        if self.status and not 500 <= self.status <= 599:
            raise ValueError(f"status {self.status}: 500 to 599, or 0 for a closed connection")
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"seconds {self.seconds}: at least 0")
        if self.kind in (Kind.SLOW_START, Kind.STALE, Kind.STUCK) and not self.seconds:
            raise ValueError(f"{self.kind} needs seconds")
        if (self.kind is Kind.FAILED) != bool(self.reason):
            raise ValueError(f"reason: {Kind.FAILED} needs one, and nothing else has one")
        if self.reason and self.reason not in REASONS:
            raise ValueError(f"reason {self.reason!r} is none of {', '.join(REASONS)}")

    def matches(self, service: str, operation: str, when: When) -> bool:
        """Return whether this is an occasion for it."""
        return (
            self.kind.when is when
            and fnmatchcase(service, self.service)
            and fnmatchcase(operation, self.operation)
        )


class Armed:
    """A fault that waits for its occasions.

    Attributes:
        number: What ``GET`` and ``DELETE`` on `CONTROL_PATH` call it.
        fault: What it does.
        seen: Occasions that there were.
        struck: Occasions that it spoiled.
    """

    def __init__(self, number: int, fault: Fault) -> None:
        """Begin with no occasion."""
        self.number = number
        self.fault = fault
        self.seen = 0
        self.struck = 0

    @property
    def spent(self) -> bool:
        """Whether it will not strike any more."""
        return self.struck >= self.fault.count

    def to_json(self) -> dict[str, Any]:
        """Return what the control path shows."""
        return {
            "number": self.number,
            **asdict(self.fault),
            "kind": str(self.fault.kind),
            "seen": self.seen,
            "struck": self.struck,
        }


class Faults:
    """All faults of one emulator. Thread-safe."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._armed: list[Armed] = []

    @property
    def armed(self) -> list[Armed]:
        """All that were armed and not disarmed, spent or not, oldest first."""
        with self._lock:
            return list(self._armed)

    def arm(self, fault: Fault) -> Armed:
        """Let *fault* happen, and return what counts it."""
        with self._lock:
            armed = Armed(next(self._numbers), fault)
            self._armed.append(armed)
            return armed

    def disarm(self, number: int | None = None) -> None:
        """Forget one fault, or all of them."""
        with self._lock:
            self._armed = [a for a in self._armed if number is not None and a.number != number]

    def strike(self, service: str, operation: str, when: When | str) -> Fault | None:
        """Return the fault that happens now, and count it.

        Args:
            service: In the cloud's own word, such as ``sagemaker``.
            operation: In the cloud's own word, such as ``CreateEndpoint``.
            when: The place that asks.

        Returns:
            The oldest armed fault that matches and is not spent; None where all goes well.
        """
        when = When(when)
        with self._lock:
            for armed in self._armed:
                if armed.spent or not armed.fault.matches(service, operation, when):
                    continue
                armed.seen += 1
                if armed.seen > armed.fault.after:
                    armed.struck += 1
                    return armed.fault
        return None

    def guarded(
        self,
        service: str,
        operation: str,
        act: Callable[[], T],
        *,
        spoiled: Callable[[Fault], T],
    ) -> T:
        """Handle one request, with the faults that come before and after it.

        Args:
            service: Of the request.
            operation: Of the request.
            act: Does it and returns its answer.
            spoiled: Returns what the caller sees instead, in the words of the cloud.
        """
        fault = self.strike(service, operation, When.BEFORE)
        if fault is not None:
            return spoiled(fault)
        answer = act()
        fault = self.strike(service, operation, When.AFTER)
        return answer if fault is None else spoiled(fault)

    def control(self, method: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        """Answer a request to `CONTROL_PATH`: status and document.

        ``GET`` lists, ``POST`` arms the fault in the body, ``DELETE`` disarms the one whose
        ``number`` is in the body, or all.
        """
        if method == "GET":
            return 200, {"faults": [armed.to_json() for armed in self.armed]}
        if method not in ("POST", "DELETE"):
            return 405, {"error": f"{method}: GET, POST and DELETE are answered"}
        try:
            asked = json.loads(body) if body.strip() else {}
            if method == "POST":
                return 201, self.arm(_fault(asked)).to_json()
            self.disarm(_number(asked))
        except ValueError as error:
            return 400, {"error": str(error)}
        return 200, {"faults": [armed.to_json() for armed in self.armed]}


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "kind": str,
    "service": str,
    "operation": str,
    "count": int,
    "after": int,
    "status": int,
    "seconds": (int, float),
    "reason": str,
}


def _fault(asked: object) -> Fault:
    if not isinstance(asked, dict) or "kind" not in asked:
        raise ValueError(f"kind is missing: one of {', '.join(Kind)}")
    for name, value in asked.items():
        wanted = _TYPES.get(name)
        if wanted is None:
            raise ValueError(f"{name!r} is none of {', '.join(_TYPES)}")
        # To JSON, true is no number; to Python it is.
        fits = isinstance(value, wanted) and not isinstance(value, bool)
        if not fits:
            raise ValueError(f"{name}: {value!r} has the wrong type")
    return Fault(**asked)


def _number(asked: object) -> int | None:
    if asked == {}:
        return None
    if isinstance(asked, dict) and list(asked) == ["number"] and type(asked["number"]) is int:
        return asked["number"]
    raise ValueError('the body must be {"number": N}, or empty for all')
