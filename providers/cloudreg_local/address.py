"""Where an endpoint listens: the same port again after a restart, where that is free."""

from __future__ import annotations

import errno
from contextlib import suppress

from aiohttp import web

from cloudreg.errors import ConfigError, QuotaExceeded
from cloudreg_local import wire
from cloudreg_local.disk import write_whole
from cloudreg_local.folder import EndpointFolder
from cloudreg_local.router import Router

CLOSE_S = 5.0
"""Patience with callers who are still sending when the address is closed."""


class Address:
    """The address of one endpoint.

    Attributes:
        origin: ``http://host:port``; None before it was opened.
    """

    def __init__(self, folder: EndpointFolder, router: Router) -> None:
        """Begin closed.

        Args:
            folder: Remembers the port.
            router: Answers.
        """
        self.origin: str | None = None
        self._folder = folder
        self._router = router
        self._runner: web.ServerRunner | None = None

    async def open(self, desired: wire.Desired) -> None:
        """Listen, unless it does: on the port of the last time, or else the first free one.

        Raises:
            QuotaExceeded: No port is free.
            ConfigError: The host is not this machine's.
        """
        if self._runner is not None:
            return
        # A caller who hangs up must not keep a replica busy, and a compressed body is the model
        # server's to unpack: its headers say so.
        server = web.Server(
            self._router.handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
        )
        runner = web.ServerRunner(server, shutdown_timeout=CLOSE_S)
        await runner.setup()
        try:
            await self._listen(runner, desired)
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        port = runner.addresses[0][1]
        host = f"[{desired.host}]" if ":" in desired.host else desired.host
        self.origin = f"http://{host}:{port}"
        write_whole(self._folder.port, str(port).encode())

    async def close(self) -> None:
        """Stop listening; what is being answered is answered."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _listen(self, runner: web.ServerRunner, desired: wire.Desired) -> None:
        host = desired.host
        for port in self._ports(desired):
            site = web.TCPSite(runner, host, port, reuse_address=True)
            try:
                await site.start()
            except OSError as error:
                await site.stop()
                if error.errno != errno.EADDRINUSE:
                    reason = error.strerror or error
                    raise ConfigError(f"cannot listen on {host}:{port}: {reason}") from error
            else:
                return
        span = "port {} to {}".format(*desired.ports) if desired.ports else "any port"
        raise QuotaExceeded(f"no free port on {host} ({span})")

    def _ports(self, desired: wire.Desired) -> list[int]:
        """Return the ports to try, in order."""
        first, last = desired.ports or (0, 0)
        ports = list(range(first, last + 1))
        with suppress(FileNotFoundError, ValueError):
            port = int(self._folder.port.read_text())
            if not desired.ports or port in ports:
                ports.insert(0, port)
        return ports
