"""What the backends of one emulator share: faults, processes and time.

moto makes backends by itself, one for each account and region, and hands them nothing. So there
is one current world, set by `cloudreg_emulator.aws.aws` and the server, and asked for by whoever
handles a request.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cloudreg_emulator.faults import Faults

if TYPE_CHECKING:
    from moto.core.request import Request

    from cloudreg_emulator.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One emulated AWS.

    Attributes:
        faults: What goes wrong, and how often it did.
        fleet: The model-server processes.
        describes: How many describes something that takes time takes.
        scale: Real seconds of one emulated second.
        max_payload_bytes: Of an invocation's body. AWS's overview of hosting says 25 MB, the
            model of its API 6,291,456 bytes.
        invoke_timeout_s: Real seconds that a container has for its answer.
    """

    faults: Faults
    fleet: Fleet
    describes: int = 1
    scale: float = 1.0
    max_payload_bytes: int = 25 * 2**20
    invoke_timeout_s: float = 60.0


class NoWorld(RuntimeError):
    """A backend was asked outside an emulator."""


_lock = threading.Lock()
_worlds: list[World] = []


def current() -> World:
    """Return the world that requests are handled in.

    Raises:
        NoWorld: No emulator is open.
    """
    try:
        # One step in the interpreter: requests ask several times each, and need no lock for it.
        return _worlds[-1]
    except IndexError:
        raise NoWorld("no emulator is open: with cloudreg_emulator.aws.aws(): …") from None


@contextmanager
def entered(world: World) -> Iterator[World]:
    """Handle requests in *world* for as long as the block lasts.

    Raises:
        NoWorld: Another one is open; moto's backends belong to the process, so there is one.
    """
    with _lock:
        if _worlds:
            raise NoWorld("an emulator is open in this process already; close it first")
        _worlds.append(world)
    try:
        yield world
    finally:
        with _lock:
            _worlds.remove(world)


def hang_up(request: Request) -> NoReturn:
    """End a request without an answer, as a connection that breaks.

    Raises:
        ConnectionResetError: In the server, which closes the connection.
        ConnectionClosedError: In process, as botocore words it.
    """
    if request.from_wsgi_server:
        raise ConnectionResetError("a fault closes the connection")
    from botocore.exceptions import ConnectionClosedError

    raise ConnectionClosedError(endpoint_url=request.url)
