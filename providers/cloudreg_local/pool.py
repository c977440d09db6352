"""The replicas of one content: a version with its resources and environment.

A variant's name is a label. When a canary becomes the primary with the same content, its pool
stays as it is.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cloudreg.types import Resources, Scaling, ScalingMetric, Variant
from cloudreg_local.devices import Devices
from cloudreg_local.logs import LogFile
from cloudreg_local.replica import DRAIN_S, Launch, Replica

MINUTE_S = 60.0

SLIGHT = 0.1
"""Mean of requests in flight that counts as none, once there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What makes two pools the same.

    Attributes:
        digest: Of the version.
        resources: Of each replica.
        env: Of the model server, sorted.
    """

    digest: str
    resources: Resources
    env: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, variant: Variant, env: Mapping[str, str]) -> Content:
        """Return the content of a variant."""
        return cls(
            digest=variant.digest, resources=variant.resources, env=tuple(sorted(env.items()))
        )


class StartFailed(Exception):
    """A pool does not come up.

    Attributes:
        logs: Last lines of the replica.
    """

    def __init__(self, message: str, logs: list[str]) -> None:
        """Keep both."""
        super().__init__(message)
        self.logs = logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What pools share.

    Attributes:
        folder: The endpoint's.
        session: Talks to replicas.
        changed: Called when a replica's state changes.
        numbers: Gives each replica a number of its own.
        devices: Gives each its accelerator.
    """

    folder: Path
    session: aiohttp.ClientSession
    changed: Callable[[], None]
    numbers: Iterator[int]
    devices: Devices

    @classmethod
    def at(
        cls, folder: Path, session: aiohttp.ClientSession, changed: Callable[[], None]
    ) -> Surroundings:
        """Count on from the log files that there are."""
        taken = [
            int(number)
            for path in (folder / "logs").glob("*.log")
            if (number := path.stem.rpartition("-")[2]).isdecimal()
        ]
        return cls(
            folder=folder,
            session=session,
            changed=changed,
            numbers=itertools.count(max(taken, default=0) + 1),
            devices=Devices(folder.parent.parent / "devices"),
        )


class Pool:
    """Replicas that are all alike.

    Attributes:
        content: What they serve.
        replicas: Those that should run, whether they do or not.
        scaling: The bounds of their number.
        desired: Their number now.
        waiting: Requests that wait for the first of them.
    """

    def __init__(
        self, variant: Variant, content: Content, command: tuple[str, ...], around: Surroundings
    ) -> None:
        """Make an empty pool.

        Args:
            variant: What it serves; its name becomes part of the names of log files.
            content: Of that variant.
            command: Starts a model server.
            around: What pools share.
        """
        self.content = content
        self.replicas: list[Replica] = []
        self.scaling = variant.scaling
        self.desired = 0
        self.waiting = 0
        self._label = variant.name
        self._around = around
        self._news = asyncio.Event()
        self._closed = False
        self._floor = 0
        self._served = ""
        self._load = 0.0
        self._arrived = 0
        self._minute: deque[tuple[float, int]] = deque()
        self._grown_at = -math.inf
        self._busy_at = asyncio.get_running_loop().time()
        self._quiet_since: float | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        files = around.folder / "models" / variant.digest.removeprefix("sha256:")
        self._launch = Launch(
            argv=(
                *command,
                *("--model-dir", str(files), "--digest", variant.digest),
                *("--model", variant.model, "--number", str(variant.number)),
                *("--host", "127.0.0.1", "--port", "0", "--exit-with-parent"),
            ),
            env=dict(content.env),
            cwd=around.folder,
            digest=variant.digest,
        )

    @property
    def ready(self) -> list[Replica]:
        """The replicas that take requests."""
        return [r for r in self.replicas if r.ready and not r.draining]

    @property
    def digest(self) -> str:
        """What the running replicas say that they serve; empty while none runs that should."""
        # Asleep, what they said before they went.
        resting = self._served if self.scaling.min_replicas == 0 else ""
        return next((r.digest for r in self.replicas if r.ready), resting)

    @property
    def wakes(self) -> bool:
        """Whether a request that finds no replica ready may wait for one."""
        return (
            self.scaling.min_replicas == 0
            and not self._closed
            and not any(replica.given_up for replica in self.replicas)
        )

    @property
    def trouble(self) -> str:
        """Why replicas are missing."""
        return next((r.trouble for r in self.replicas if r.trouble), "")

    def rename(self, label: str) -> None:
        """Call later log files after *label*."""
        self._label = label

    def resize(self, count: int) -> None:
        """Start what is missing, and drain what is too much."""
        self.desired = count
        while len(self.replicas) < count:
            path = self._around.folder / "logs" / f"{self._label}-{next(self._around.numbers)}.log"
            self.replicas.append(
                Replica(
                    self._launch,
                    seat=self._around.devices.take(self._launch.env),
                    log=LogFile(path),
                    session=self._around.session,
                    changed=self._changed,
                )
            )
        # Those that are not ready go first, then the youngest.
        while len(self.replicas) > count:
            spare = next((r for r in reversed(self.replicas) if not r.ready), self.replicas[-1])
            self.replicas.remove(spare)
            self._leave(spare)
        self._around.changed()

    def fit(self, scaling: Scaling, *, shrink: bool) -> None:
        """Keep the number of replicas within the bounds of *scaling*.

        Args:
            scaling: The bounds.
            shrink: Whether replicas may go already.
        """
        count = max(self.desired, scaling.min_replicas)
        # While a change waits for replicas, the bounds before it must not take them away.
        self._floor = 0 if shrink else scaling.min_replicas
        if shrink:
            self.scaling = scaling
            # Idleness is counted from the first request that could have come.
            self._busy_at = asyncio.get_running_loop().time()
            count = min(count, scaling.max_replicas)
        if count != self.desired:
            self.resize(count)

    async def wait_ready(self, count: int) -> None:
        """Return when *count* replicas are ready.

        Raises:
            StartFailed: One of them will not be.
        """
        for replica in self.replicas:
            replica.forgive()
        while len(self.ready) < count:
            for replica in self.replicas:
                if replica.given_up and not replica.ready:
                    raise StartFailed(
                        f"{self._label}: {replica.trouble}", list(replica.log.last)[-30:]
                    )
            await self._news.wait()

    async def wake(self) -> None:
        """Return when a replica is ready, or none will be; the first caller starts it."""
        while not self.ready and self.wakes:
            if self.desired == 0:
                self.resize(1)
            await self._news.wait()

    async def stop(self, *, drain_s: float = DRAIN_S) -> None:
        """Drain and end all replicas; they go on leaving if the caller is cancelled."""
        self._closed = True
        going, self.replicas, self.desired = self.replicas, [], 0
        for replica in going:
            self._leave(replica, drain_s=drain_s)
        self._changed()
        if self._leaving:
            await asyncio.wait(self._leaving)

    def arrived(self) -> None:
        """Take note that a request came."""
        self._arrived += 1

    def autoscale(self, now: float) -> None:
        """Let the number of replicas follow the requests."""
        if not self.scaling.autoscaled or self._closed:
            return
        inflight = self.waiting + sum(replica.inflight for replica in self.replicas)
        if inflight or self._arrived:
            self._busy_at = now
        lately = self._in_a_minute(now)
        # Up at once, down with the mean: a short gap between requests is not idleness.
        self._load = max(inflight, 0.7 * self._load + 0.3 * inflight)
        if not inflight and self._load < SLIGHT:
            self._load = 0.0
        followed = self._load
        if self.scaling.metric is ScalingMetric.REQUESTS_PER_MINUTE:
            followed = lately
        wanted = math.ceil(round(followed / self.scaling.target, 2))
        wanted = min(max(wanted, self.scaling.min_replicas), self.scaling.max_replicas)
        wanted = max(wanted, self._floor)
        if wanted == 0 and self.desired:
            # The last one goes only when no request came at all, however short they are.
            if now - self._busy_at >= self.scaling.scale_in_cooldown_s:
                self._quiet_since = None
                self.resize(0)
                return
            wanted = 1
        if wanted >= self.desired:
            self._quiet_since = None
            if wanted > self.desired and now - self._grown_at >= self._pause_s():
                self._grown_at = now
                self.resize(wanted)
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= self.scaling.scale_in_cooldown_s:
            self._quiet_since = None
            self.resize(wanted)

    def _in_a_minute(self, now: float) -> int:
        """Return how many requests came in the last minute."""
        if self._arrived:
            self._minute.append((now, self._arrived))
            self._arrived = 0
        while self._minute and now - self._minute[0][0] >= MINUTE_S:
            self._minute.popleft()
        return sum(count for _, count in self._minute)

    def _pause_s(self) -> float:
        # A replica starts here in seconds: without a wish there is nothing to wait for.
        return self.scaling.scale_out_cooldown_s or 0.0

    def _leave(self, replica: Replica, *, drain_s: float = DRAIN_S) -> None:
        task = asyncio.create_task(replica.stop(drain_s=drain_s))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _changed(self) -> None:
        self._served = next((r.digest for r in self.replicas if r.ready), self._served)
        # Everybody who waits looks again; later ones wait for later news.
        self._news.set()
        self._news = asyncio.Event()
        self._around.changed()
