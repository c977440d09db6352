"""The socket, the signals, and the life from the first byte to the last.

The socket listens before the weights are loaded, so that a platform's liveness probe finds
somebody; health is refused until they are. After SIGTERM health is refused again while requests
are answered, so that a load balancer looks away before the socket closes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading

import uvloop

from cloudreg.errors import CloudregError, ConfigError, IntegrityError
from cloudreg.serving.app import App, Phase
from cloudreg.serving.batching import Batcher
from cloudreg.serving.connections import Connections
from cloudreg.serving.device import Device
from cloudreg.serving.http import Intake
from cloudreg.serving.loading import Loaded, load
from cloudreg.serving.metrics import Metrics
from cloudreg.serving.options import Options
from cloudreg.serving.runtimes import DeviceLost

log = logging.getLogger("cloudreg.serving")

FILES_DIFFER = 3
NO_MODEL = 4
DEVICE_LOST = 5

GRACE_S = 20.0
"""For answers under way once the socket is closed; SageMaker kills 30 s after SIGTERM."""

BACKLOG = 2048


class Life:
    """One server, from its socket to its exit code."""

    def __init__(self, options: Options, listener: socket.socket) -> None:
        """Prepare; must be called on the event loop."""
        self._options = options
        self._listener = listener
        self._metrics = Metrics()
        self._loop = asyncio.get_running_loop()
        self._app = App(options, self._metrics)
        self._batcher: Batcher | None = None
        self._code = 0
        intake = Intake(max_request_bytes=options.max_request_bytes)
        self._connections = Connections(self._app, self._metrics, intake)
        self._over = asyncio.Event()

    async def run(self) -> int:
        """Live, and return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._drain)
        device = Device(self._loop)
        device.call(lambda: load(self._options), lambda result: self._loaded(device, result))
        server = await self._loop.create_server(
            self._connections.make, sock=self._listener, backlog=BACKLOG
        )
        await self._over.wait()
        server.close()
        await self._connections.close(grace_s=GRACE_S)
        if self._batcher is not None:
            self._batcher.close()
        return self._code

    def _loaded(self, device: Device, result: Loaded | BaseException) -> None:
        if isinstance(result, BaseException):
            self._fail(result)
            return
        options = self._options
        self._batcher = Batcher(
            result.runtime,
            result.checks,
            device=device,
            limits=options.limits,
            metrics=self._metrics,
            lost=self._lost,
        )
        self._metrics.model(
            model=options.model,
            version="" if options.number is None else str(options.number),
            digest=options.digest,
            runtime=result.kind,
            device=result.runtime.device,
        )
        # What the imports made stays: a collection would look at all of it, in 100 ms with torch,
        # while requests wait.
        gc.collect()
        gc.freeze()
        self._app.open(result, self._batcher)
        log.info("ready")

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, IntegrityError):
            log.error("the files are not what was registered: %s", error)
            self._end(FILES_DIFFER)
        elif isinstance(error, CloudregError):
            log.error("the model could not be loaded: %s", error)
            self._end(NO_MODEL)
        else:
            # The version's own code raised it: only its traceback tells where.
            log.error("the model could not be loaded", exc_info=error)
            self._end(NO_MODEL)

    def _lost(self, error: DeviceLost) -> None:
        log.error("the device answers nothing any more: %s", error)
        self._end(DEVICE_LOST)

    def _end(self, code: int) -> None:
        self._app.phase = Phase.FAILED
        self._code = code
        self._over.set()

    def _drain(self) -> None:
        if self._app.phase is not Phase.READY:
            # Nobody was promised an answer; or it is the second signal, of somebody in a hurry.
            self._over.set()
            return
        self._app.phase = Phase.DRAINING
        self._connections.draining = True
        log.info("draining for %g s", self._options.drain_s)
        self._loop.call_later(self._options.drain_s, self._over.set)


def serve(options: Options) -> int:
    """Serve until a signal, and return the exit code.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    # What libraries and models print must not be taken for our one line.
    sys.stdout.flush()
    said = os.dup(1)
    os.dup2(2, 1)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server(
            (options.host, options.port), family=family, backlog=BACKLOG
        )
    except OSError as error:
        raise ConfigError(f"{options.host} port {options.port}: {error.strerror}") from error
    if options.exit_with_parent:
        threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
    port = listener.getsockname()[1]
    line = json.dumps({"event": "listening", "port": port, "pid": os.getpid()})
    # Kept open: whoever waits at the other end may take its end for ours.
    os.write(said, f"{line}\n".encode())
    log.info("%s %s:%s on port %d", options.platform, options.model, options.number or "-", port)

    async def live() -> int:
        return await Life(options, listener).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(live())


def _follow_parent() -> None:
    """End the process when standard input does: nobody is left to ask or to stop us."""
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    os._exit(0)
