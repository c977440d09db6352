"""The process that keeps one endpoint as it was asked for.

``python -m cloudreg_local.supervisor FOLDER`` watches ``desired.json``, runs the model servers
and the router, and writes ``observed.json``. At most one runs for each endpoint: it holds the
lock file for its whole life.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp

from cloudreg.errors import CloudregError
from cloudreg.types import SHADOW, EndpointSpec, OperationState, Variant, VariantStatus
from cloudreg_local import logs, models, wire
from cloudreg_local.address import Address
from cloudreg_local.folder import EndpointFolder, now
from cloudreg_local.pool import Content, Pool, StartFailed, Surroundings
from cloudreg_local.replica import DRAIN_S
from cloudreg_local.router import Route, Router, Table
from cloudreg_local.store import LocalStore

POLL_S = 0.05
SCALE_S = 0.5


class Supervisor:
    """Everything that runs for one endpoint."""

    def __init__(self, folder: EndpointFolder, lock: int) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: The endpoint's.
            lock: Descriptor of its lock file, held.
        """
        self._folder = folder
        self._lock_id = _identity(os.fstat(lock))
        self._store = LocalStore(folder.path.parent.parent / "store", target="local")
        self._wake = asyncio.Event()
        self._ending = False
        self._complaint = ""
        self._pools: list[tuple[Variant, Pool]] = []
        self._retiring: dict[asyncio.Task[None], Pool] = {}
        self._job: asyncio.Task[None] | None = None
        self._bringing: asyncio.Future[Path] | None = None
        self._generation = 0
        self._observed: wire.Observed | None = None
        self._written: bytes = b""

    async def run(self) -> None:
        """Keep the endpoint until it is deleted, or until SIGTERM."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._end)
        async with _session() as session:
            self._around = Surroundings.at(self._folder.path, session, self._wake.set)
            self._router = Router(session, self._status)
            self._address = Address(self._folder, self._router)
            try:
                desired = self._desired()
                if desired is None:
                    return
                self._recall(desired)
                await self._watch()
            finally:
                if self._job is not None:
                    self._job.cancel()
                    await asyncio.gather(self._job, return_exceptions=True)
                await self._stop_all(drain_s=10.0)
                await self._address.close()

    def _end(self) -> None:
        self._ending = True
        self._wake.set()

    async def _watch(self) -> None:
        """Follow ``desired.json`` until there is nothing to follow."""
        loop = asyncio.get_running_loop()
        scaled = 0.0
        while not self._ending:
            # What was asked for last goes on, whatever is wrong with the disk now.
            with self._survived():
                desired = self._desired()
                if desired is None:
                    return
                if desired.generation != self._generation:
                    await self._begin(desired)
            if loop.time() - scaled >= SCALE_S:
                scaled = loop.time()
                for _, pool in self._pools:
                    pool.autoscale(scaled)
            with self._survived():
                self._write()
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)

    @contextmanager
    def _survived(self) -> Iterator[None]:
        """Let nothing that is wrong with the folder end the endpoint; say each thing once."""
        try:
            yield
        except (CloudregError, OSError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                with suppress(OSError):
                    print(f"{now()} {self._complaint}", file=sys.stderr, flush=True)

    async def _begin(self, desired: wire.Desired) -> None:
        """Work on another request; what was begun and not done is left."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)
        self._generation = desired.generation
        self._around.devices.offer(desired.devices)
        self._report(OperationState.RUNNING, "", instance=desired.instance)
        work = self._delete(desired) if desired.deleted else self._change(desired)
        self._job = asyncio.create_task(work)

    async def _change(self, desired: wire.Desired) -> None:
        try:
            await self._address.open(desired)
            before = self._observed.current if self._observed else None
            if before is not None and not self._pools and before != desired.spec:
                # After a crash: first what was promised to callers, then what is new.
                with suppress(StartFailed, CloudregError, OSError):
                    await self._become(before, desired)
            await self._become(desired.spec, desired)
        except StartFailed as error:
            self._report(OperationState.FAILED, str(error), logs=tuple(error.logs))
        except CloudregError as error:
            words = f"{type(error).__name__}: {error.message}"
            self._report(OperationState.FAILED, words)
        except OSError as error:
            self._report(OperationState.FAILED, f"{type(error).__name__}: {error}")
        except Exception:
            # A bug of ours: the caller shall see it now, and not wait for half an hour.
            traceback.print_exc()
            self._report(
                OperationState.FAILED,
                "the supervisor has a bug",
                logs=tuple(traceback.format_exc().splitlines()[-30:]),
            )
        else:
            self._report(OperationState.SUCCEEDED, _remark(desired.spec))
        self._tidy()

    async def _become(self, spec: EndpointSpec, desired: wire.Desired) -> None:
        """Serve *spec*: start what is new, switch, then stop what is old."""
        claimed = self._claim(spec)
        for variant in spec.served:
            self._say(f"checking the files of {variant.model}:{variant.number}", 0.1)
            # Shielded, and remembered: a thread cannot be cancelled.
            self._bringing = asyncio.ensure_future(
                asyncio.to_thread(
                    models.materialise, variant.digest, self._store, self._folder.models
                )
            )
            await asyncio.shield(self._bringing)
        pools = [
            (
                variant,
                old or Pool(variant, Content.of(variant, spec.env), desired.command, self._around),
            )
            for variant, old in claimed
        ]
        kept = [old for _, old in claimed if old is not None]
        fresh = [pool for _, pool in pools if pool not in kept]
        waits: list[asyncio.Task[None]] = []
        try:
            for variant, pool in pools:
                # Also what may scale to zero has to start once, to show that it can.
                least = max(variant.scaling.min_replicas, 1 if pool in fresh else 0)
                pool.fit(replace(variant.scaling, min_replicas=least), shrink=False)
                waits.append(asyncio.create_task(pool.wait_ready(least)))
            self._say("waiting for the model servers", 0.3)
            await asyncio.gather(*waits)
        except BaseException:
            # Whatever it was, cancellation too: what serves goes on as it was.
            for wait in waits:
                wait.cancel()
            for pool in fresh:
                self._retire(pool)
            for variant, pool in self._pools:
                pool.fit(variant.scaling, shrink=True)
            raise
        gone = [pool for _, pool in self._pools if pool not in kept]
        self._switch(spec, pools)
        for variant, pool in pools:
            pool.rename(variant.name)
            pool.fit(variant.scaling, shrink=True)
        for pool in gone:
            self._retire(pool)

    def _claim(self, spec: EndpointSpec) -> list[tuple[Variant, Pool | None]]:
        """Give each variant the running pool of its content: its own, or else any."""
        free = list(self._pools)
        claimed: dict[str, Pool] = {}
        for same_name in (True, False):
            for variant in spec.served:
                content = Content.of(variant, spec.env)
                for old, pool in free:
                    if variant.name in claimed or pool.content != content:
                        continue
                    if same_name and old.name != variant.name:
                        continue
                    claimed[variant.name] = pool
                    free.remove((old, pool))
                    break
        return [(variant, claimed.get(variant.name)) for variant in spec.served]

    def _switch(self, spec: EndpointSpec, pools: list[tuple[Variant, Pool]]) -> None:
        self._router.table = Table(
            routes=tuple(
                Route(
                    name=variant.name,
                    digest=variant.digest,
                    # A shadow has no turn: whoever sends copies names it.
                    weight=0 if variant is spec.shadow else variant.weight,
                    pool=pool,
                    window=self._router.window(variant.name, variant.digest),
                )
                for variant, pool in pools
            )
        )
        self._router.forget()
        self._pools = pools
        assert self._observed is not None
        if self._observed.current != spec:
            self._observed = replace(self._observed, current=spec, since=now())

    def _retire(self, pool: Pool, *, drain_s: float = DRAIN_S) -> None:
        """Stop a pool in its own time, then forget the files that nobody reads any more."""

        def left(task: asyncio.Task[None]) -> None:
            self._retiring.pop(task, None)
            if self._job is None or self._job.done():
                self._tidy()

        task = asyncio.create_task(pool.stop(drain_s=drain_s))
        self._retiring[task] = pool
        task.add_done_callback(left)

    def _tidy(self) -> None:
        pools = [pool for _, pool in self._pools] + list(self._retiring.values())
        models.forget(self._folder.models, keep=[pool.content.digest for pool in pools])
        named = {replica.log.name for pool in pools for replica in pool.replicas}
        logs.prune(self._folder.logs, keep=named)

    async def _delete(self, desired: wire.Desired) -> None:
        self._router.table = Table()
        # From here on nothing is in force: whoever wants the endpoint back gets a new one.
        self._observed = wire.Observed(
            instance=desired.instance,
            generation=desired.generation,
            state=OperationState.RUNNING,
            pid=os.getpid(),
        )
        await self._stop_all()
        if self._bringing is not None:
            await asyncio.gather(asyncio.shield(self._bringing), return_exceptions=True)
        # Before the folder goes: whoever makes it anew finds the port free.
        await self._address.close()
        with self._folder.held():
            again = self._desired()
            if again is not None and again.deleted:
                self._folder.remove()
        # Either there is nothing left to follow, or somebody wants the endpoint back.
        self._wake.set()

    async def _stop_all(self, *, drain_s: float = DRAIN_S) -> None:
        pools, self._pools = self._pools, []
        for _, pool in pools:
            self._retire(pool, drain_s=drain_s)
        if self._retiring:
            # They end also if this is cancelled because somebody wants the endpoint back.
            await asyncio.wait(self._retiring)

    def _recall(self, desired: wire.Desired) -> None:
        """Go on from what an earlier supervisor wrote."""
        before = self._folder.observed()
        if before is not None and before.instance == desired.instance:
            self._observed = before
        folder = self._folder.models
        folder.mkdir(exist_ok=True)
        models.forget(folder, keep=[path.name for path in folder.glob("[0-9a-f]*")])

    def _desired(self) -> wire.Desired | None:
        """Return what is asked for now; None where this supervisor has nothing to say."""
        try:
            # Somebody may have removed the folder and made it anew: then it is not ours.
            if _identity(self._folder.lock.stat()) != self._lock_id:
                return None
        except FileNotFoundError:
            return None
        return self._folder.desired()

    def _say(self, message: str, progress: float) -> None:
        self._report(OperationState.RUNNING, message, progress=progress)

    def _report(
        self,
        state: OperationState,
        message: str,
        *,
        progress: float | None = None,
        logs: tuple[str, ...] = (),
        instance: str | None = None,
    ) -> None:
        before = self._observed
        self._observed = wire.Observed(
            instance=instance or (before.instance if before else ""),
            generation=self._generation,
            state=state,
            pid=os.getpid(),
            message=message,
            progress=1.0 if state is OperationState.SUCCEEDED else progress or 0.0,
            logs=logs,
            current=before.current if before else None,
            since=before.since if before else None,
            origin=self._address.origin,
        )
        self._wake.set()

    def _status(self) -> wire.Observed | None:
        if self._observed is None:
            return None
        return replace(
            self._observed,
            variants=tuple(
                wire.Seen(
                    status=VariantStatus(
                        name=variant.name,
                        digest=pool.digest,
                        ready_replicas=len(pool.ready),
                        desired_replicas=pool.desired,
                        weight=0 if variant.name == SHADOW else variant.weight,
                    ),
                    trouble=pool.trouble,
                    logs=tuple(replica.log.name for replica in pool.replicas),
                    pids=tuple(replica.pid for replica in pool.replicas if replica.pid),
                    devices=tuple(replica.device for replica in pool.replicas if replica.device),
                )
                for variant, pool in self._pools
            ),
        )

    def _write(self) -> None:
        """Show the state, where it is another than what was shown last."""
        data = wire.encode(self._status())
        if data != self._written:
            self._folder.show(data)
            self._written = data


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0, family=socket.AF_INET),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
    )


def _remark(spec: EndpointSpec) -> str:
    classes = sorted({v.resources.accelerator for v in spec.variants if v.resources.accelerator})
    return f"{', '.join(classes)} emulated on the CPU" if classes else ""


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def main(arguments: list[str] | None = None) -> int:
    """Run the supervisor of one endpoint."""
    parser = argparse.ArgumentParser(prog="cloudreg_local.supervisor")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lock", type=int, help="descriptor of the lock file, held")
    options = parser.parse_args(arguments)
    folder = EndpointFolder(options.folder.absolute())
    lock = options.lock
    if lock is None:
        lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another supervisor runs", file=sys.stderr)
            return 1
    # Model servers must not keep the lock when we are killed.
    os.set_inheritable(lock, False)

    async def run() -> None:
        await Supervisor(folder, lock).run()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
