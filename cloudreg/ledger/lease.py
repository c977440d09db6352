"""An open intent is the mutex of a model: claim it, check it before every call, renew, close.

A lock protects nobody once its holder was paused: the holder wakes up and goes on. So every
mutating call asks first whether the model is still held (`Lease.check`), and whoever finds that it
is not stops at once. The ledger is not read for each of them: what it said a moment ago still
holds, because nobody takes over from a holder whose lease has most of its time left. A moment
remains between the question and the call; targets that know entity tags close it, and reconciling
closes the rest.
"""

from __future__ import annotations

import math
import os
import platform
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cloudreg.errors import Conflict, Fenced, RolloutAborted
from cloudreg.ledger.entry import Entry
from cloudreg.ledger.fold import Fold, OpenIntent
from cloudreg.ledger.log import Draft, Ledger
from cloudreg.operations import every

LEASE_S = 60.0
"""Seconds that a holder may be silent before others may take over."""

SURE_S = 2.0
"""Seconds for which the ledger's word that a model is held is good enough for another call.

By the wall clock, so that a process that was paused or a machine that slept asks again. It is
short beside a lease because whoever takes over goes by a clock of his own.
"""

_NEVER = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Where a holder runs.

    Attributes:
        host: The machine, its boot and its process namespace; a pid means nothing elsewhere.
        pid: Process id.
        started: Its start, in the kernel's ticks; pids are used again.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Process:
        """Return this process."""
        return cls(host=_host(), pid=os.getpid(), started=_started(os.getpid()))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Process | None:
        """Read what an entry says of a holder."""
        try:
            return cls(host=str(data["host"]), pid=int(data["pid"]), started=int(data["started"]))
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def gone(self) -> bool:
        """Whether it surely does not run any more; False for processes of other machines."""
        if self.host != _host():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        except OverflowError:  # no machine has such a process
            return True
        return _started(self.pid) != self.started


@cache
def _host() -> str:
    parts = [platform.node()]
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with suppress(OSError):
            parts.append(Path(path).read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "|".join(parts)


def _started(pid: int) -> int:
    try:
        # The name in parentheses may hold spaces: count from the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] == "Z" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


def claimable(intent: OpenIntent, now: float) -> bool:
    """Whether the holder of *intent* is surely gone, or silent for longer than its lease."""
    if intent.paused:
        return False
    process = Process.of(intent.process)
    return intent.until < now or (process is not None and process.gone)


class Lease:
    """The right to act on a model, until somebody else is given it."""

    def __init__(self, ledger: Ledger, *, op: str, root: str, until: float, lease_s: float) -> None:
        """Use `claim` or `take_over`."""
        self.ledger = ledger
        self.op = op
        self.root = root
        self.requests: tuple[str, ...] = ()
        self._until = until
        self._lease_s = lease_s
        self._sure_s = min(SURE_S, lease_s / 4)
        # Whoever makes one has just written that the model is held.
        self._checked = until - lease_s

    @classmethod
    def claim(
        cls,
        ledger: Ledger,
        *,
        verb: str,
        data: Mapping[str, Any],
        guard: Callable[[Fold], None] = lambda _: None,
        lease_s: float = LEASE_S,
    ) -> Lease:
        """Open an intent.

        Args:
            ledger: Of the model.
            verb: What is about to happen.
            data: What was asked for; plain JSON.
            guard: Raises if the plan no longer fits the newest state.
            lease_s: Seconds that this process may be silent.

        Raises:
            Conflict: Somebody else holds the model; `claimable` tells whether it may be taken.
        """
        op = uuid.uuid4().hex
        until = ledger.clock() + lease_s

        def draft(fold: Fold) -> Draft:
            if fold.open is not None:
                raise held(ledger.model, fold.open)
            guard(fold)
            return Draft(
                kind="intent",
                root=op,
                data={**data, "verb": verb, "until": until, "process": _process()},
            )

        # The plan was made from what was just read: if others wrote since, the place is taken.
        ledger.append(draft, op=op, known=True)
        return cls(ledger, op=op, root=op, until=until, lease_s=lease_s)

    @classmethod
    def take_over(
        cls, ledger: Ledger, intent: OpenIntent, *, why: str, lease_s: float = LEASE_S
    ) -> Lease:
        """Become the holder of an intent whose process is gone, or that is paused.

        Raises:
            Conflict: It was closed, taken by another process, or is at work after all.
        """
        op = uuid.uuid4().hex
        until = ledger.clock() + lease_s

        def draft(fold: Fold) -> Draft:
            if fold.open is None or fold.open.op != intent.op:
                raise Conflict(f"{ledger.model}: {intent.verb} was taken up by somebody else")
            if not fold.open.paused and not claimable(fold.open, ledger.clock()):
                # It was silent when the caller looked, and spoke before this entry landed.
                raise Conflict(f"{ledger.model}: {intent.verb} is at work again")
            return Draft(
                kind="takeover",
                root=intent.root,
                data={"until": until, "process": _process(), "why": why, "from": intent.op},
            )

        ledger.append(draft, op=op)
        return cls(ledger, op=op, root=intent.root, until=until, lease_s=lease_s)

    def check(self) -> None:
        """Return if this process still holds the model; call it before every mutating call.

        Raises:
            Fenced: It does not: touch nothing more.
        """
        if abs(self.ledger.clock() - self._checked) >= self._sure_s:
            self.listen()

    def listen(self) -> None:
        """Check by what the ledger says now, and hear what others ask of the operation.

        The lease is renewed where half of its time is over.

        Raises:
            Fenced: Somebody else holds the model.
        """
        now = self.ledger.clock()
        self._mine(self.ledger.read())
        self._checked = now
        if self._until - now < self._lease_s / 2:
            self.step({})

    def kept(self) -> AbstractContextManager[None]:
        """Hold the model while the block does one long thing, such as copying a large file.

        Another thread renews the lease. A process that is paused as a whole renews nothing, and
        finds out at its next `check`.
        """
        ledger = self.ledger.twin()
        renewing = Lease(
            ledger, op=self.op, root=self.root, until=self._until, lease_s=self._lease_s
        )
        return every(self._lease_s / 3, lambda: renewing.step({}))

    def glance(self) -> None:
        """Check now and then while waiting: no call follows, so once a second will do."""
        if abs(self.ledger.clock() - self._checked) >= 1.0:
            self.listen()

    def step(self, progress: Mapping[str, Any], *, paused: bool = False) -> None:
        """Say how far the operation is, and hold the model for longer.

        Raises:
            Fenced: Somebody else holds it.
        """
        until = self.ledger.clock() + self._lease_s

        def draft(fold: Fold) -> Draft:
            self._mine(fold)
            data: dict[str, Any] = {"until": until}
            if progress:
                data["progress"] = dict(progress)
            if paused:
                data["paused"] = True
            return Draft(kind="step", root=self.root, data=data)

        self.ledger.append(draft, op=self.op)
        self._until = until
        # What is paused anybody may take up at once.
        self._checked = _NEVER if paused else until - self._lease_s

    def done(self, data: Mapping[str, Any], *, heeding: bool = False) -> Entry:
        """Close the intent: stages and endpoints are as *data* says.

        Args:
            data: What is true from now on.
            heeding: Whether a wish to abort, up to the last moment, keeps it from coming true.

        Raises:
            Fenced: Somebody else holds the model.
            RolloutAborted: Somebody asked for it; the intent is still open.
        """
        return self._close("done", data, heed=self.heed if heeding else lambda: None)

    def heed(self) -> None:
        """Return unless somebody asked to abort, as far as was heard.

        Raises:
            RolloutAborted: Somebody did.
        """
        if "abort" in self.requests:
            raise RolloutAborted("it was undone: somebody asked for it")

    def abort(self, reason: str, data: Mapping[str, Any] | None = None) -> Entry:
        """Close the intent without effect.

        Raises:
            Fenced: Somebody else holds the model.
        """
        return self._close("abort", {**(data or {}), "reason": reason})

    def _close(
        self, kind: str, data: Mapping[str, Any], *, heed: Callable[[], None] = lambda: None
    ) -> Entry:
        def draft(fold: Fold) -> Draft:
            self._mine(fold)
            heed()
            return Draft(kind=kind, root=self.root, data=data)

        entry = self.ledger.append(draft, op=self.op, known=True)
        assert entry is not None
        self._checked = _NEVER
        return entry

    def _mine(self, fold: Fold) -> None:
        if fold.open is None or fold.open.op != self.op:
            holder = f"{fold.open.actor} ({fold.open.verb})" if fold.open else "nobody"
            raise Fenced(
                f"{self.ledger.model} is now held by {holder}: this process was silent for too "
                "long and stops here",
                hint="run the command again",
            )
        self._until = fold.open.until
        self.requests = fold.open.requests


def held(model: str, intent: OpenIntent) -> Conflict:
    """Return the refusal that says who holds *model*."""
    what = intent.verb
    if "number" in intent.data:
        what += f" of {model}:{intent.data['number']}"
    if "stage" in intent.data:
        what += f" to {intent.data['stage']}"
    if intent.paused:
        return Conflict(
            f"{model} is held by a paused {what}, begun by {intent.actor} at {intent.since}",
            hint=f"cloudreg rollout resume {model}, or cloudreg rollout abort {model}",
        )
    return Conflict(
        f"{model} is held by {intent.actor}, {what}, since {intent.since}",
        hint="wait until it is done, then run the command again",
    )


def _process() -> dict[str, Any]:
    process = Process.current()
    return {"host": process.host, "pid": process.pid, "started": process.started}
