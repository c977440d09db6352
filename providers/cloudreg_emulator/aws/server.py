"""The emulator as a server: moto's own dispatcher on a free port of this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import responses
from types import TracebackType
from typing import Any

from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from cloudreg_emulator.aws.autoscaling.ticking import Ticker
from cloudreg_emulator.aws.emulator import Emulator
from cloudreg_emulator.aws.environment import REGION, applied, environment, merged
from cloudreg_emulator.aws.http import Handler, Server
from cloudreg_emulator.aws.runtime import front
from cloudreg_emulator.faults import CONTROL_PATH, Faults
from cloudreg_emulator.fleet import Fleet

HEALTH_PATH = "/_emulator/health"
HOST = "127.0.0.1"

_Start = Callable[..., Any]


class AddressInUse(OSError):
    """The port is taken, or may not be used."""


class NotStarted(RuntimeError):
    """The server was asked for something outside its block."""

    def __init__(self) -> None:
        """Say what to write."""
        super().__init__("the server was not started: with AwsServer() as server: …")


class _Dispatcher(DomainDispatcherApplication):
    """moto's dispatcher, which knows one of the runtime's three addresses by its end alone."""

    def infer_service_region_host(self, environ: dict[str, Any], path: str) -> str | None:
        """Return the host that a request would have been sent to on AWS."""
        host: str | None = super().infer_service_region_host(environ, path)
        if host is not None and host.startswith("api.sagemaker.") and path != "/":
            # The control plane answers at / only.
            return host.replace("api.", "runtime.", 1)
        return host


class _Front:
    """What stands before moto's dispatcher: our own paths, and refusals that can be read."""

    def __init__(
        self, emulator: Emulator, watchers: Sequence[Callable[[Mapping[str, Any]], None]]
    ) -> None:
        self._emulator = emulator
        self._watchers = watchers
        self._dispatch = _Dispatcher(self._application)

    def _application(self, service: Any) -> Any:
        # moto holds its lock meanwhile: a service is prepared once.
        self._emulator.prepare(service)
        return create_backend_app(service)

    def __call__(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == CONTROL_PATH:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"].read(length)
            status, document = self._emulator.faults.control(environ["REQUEST_METHOD"], body)
            return _json(start, status, document)
        if path == HEALTH_PATH:
            return _json(start, 200, {"status": "ok"})
        for watcher in self._watchers:
            watcher(environ)
        try:
            short = front.answered(environ)
            if short is not None:
                return _sent(start, *short)
            answer: Iterable[bytes] = self._dispatch(environ, start)
        except ConnectionError:
            raise
        except NotImplementedError as error:
            return _refusal(environ, start, 501, "NotImplemented", f"not emulated: {error}")
        except Exception as error:
            traceback.print_exc(limit=-12, file=sys.stderr)
            message = f"the emulator failed: {type(error).__name__}: {error}"
            return _refusal(environ, start, 500, "InternalFailure", message)
        return answer


def _sent(
    start: _Start, status: int, headers: Mapping[str, str], content: bytes | Iterable[bytes]
) -> Iterable[bytes]:
    said = list(headers.items())
    if isinstance(content, bytes):
        said.append(("Content-Length", str(len(content))))
        content = [content]
    start(f"{status} {responses.get(status, 'Refused')}", said)
    return content


def _json(start: _Start, status: int, document: Mapping[str, Any]) -> list[bytes]:
    body = json.dumps(document).encode()
    start(
        f"{status} {'OK' if status < 300 else 'Refused'}",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    return [body]


def _refusal(
    environ: Mapping[str, Any], start: _Start, status: int, code: str, message: str
) -> list[bytes]:
    """Answer in the protocol of the request, so that a client shows code and message.

    moto's server answers with a page of HTML, which clients take for an outage and ask again.
    """
    if "HTTP_X_AMZ_TARGET" in environ or "json" in environ.get("CONTENT_TYPE", ""):
        body = json.dumps({"__type": code, "message": message}).encode()
        kind = "application/x-amz-json-1.1"
    else:
        from xml.sax.saxutils import escape

        inner = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        query = "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", "")
        body = (f"<ErrorResponse>{inner}</ErrorResponse>" if query else inner).encode()
        kind = "text/xml"
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("x-amzn-ErrorType", code),
    ]
    start(f"{status} {code}", headers)
    return [body]


class AwsServer:
    """An emulated AWS that any process of this machine can reach, and this one too.

    This process has the environment of the emulator for as long as the block lasts.

    ::

        with AwsServer(images={"*": [sys.executable, "server.py"]}) as server:
            subprocess.run(command, env=server.process_environment())

    Attributes:
        started_in_s: How long it took to answer.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = HOST,
        region: str = REGION,
        images: Mapping[str, Sequence[str]] | None = None,
        scale: float = 1.0,
        describes: int = 1,
    ) -> None:
        """Describe the server; entering the block starts it.

        Args:
            port: 0 takes a free one.
            host: Where it listens.
            region: What clients are told to ask.
            images: Patterns of image URIs, and the command that each stands for.
            scale: Real seconds of an emulated second.
            describes: How many describes something that takes time takes at least.
        """
        self.started_in_s = 0.0
        self._port = port
        self._host = host
        self._region = region
        self._options: dict[str, Any] = {"images": images, "scale": scale, "describes": describes}
        self._stack = ExitStack()
        self._watchers: list[Callable[[Mapping[str, Any]], None]] = []
        self._emulator: Emulator | None = None
        self._url: str | None = None

    def __enter__(self) -> AwsServer:
        """Start it.

        Raises:
            AddressInUse: The port cannot be had.
            NoWorld: An emulator is open in this process already.
        """
        began = time.perf_counter()
        with ExitStack() as stack:
            listener = stack.enter_context(listening(self._host, self._port))
            self._url = address(listener)
            # Before moto makes a session: a profile of the user's that is not there ends it, and
            # a client of this process that names no endpoint would ask the real AWS.
            stack.enter_context(applied(self.environment()))
            emulator = stack.enter_context(Emulator.opened(**self._options, late=True))
            stack.callback(BackendDict.reset)
            stack.enter_context(Ticker(scale=self._options["scale"]))
            stack.enter_context(answering(emulator, listener, watchers=self._watchers))
            self._emulator = emulator
            self._stack = stack.pop_all()
        self.started_in_s = time.perf_counter() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, its model servers and all data."""
        try:
            self._stack.close()
        finally:
            self._emulator = self._url = None

    def watch(self, watcher: Callable[[Mapping[str, Any]], None]) -> None:
        """Show *watcher* the WSGI environment of every request to a service, before its answer.

        It is called in the threads of the requests, and must not read their bodies.
        """
        self._watchers.append(watcher)

    @property
    def emulator(self) -> Emulator:
        """What it emulates."""
        if self._emulator is None:
            raise NotStarted
        return self._emulator

    @property
    def faults(self) -> Faults:
        """What goes wrong."""
        return self.emulator.faults

    @property
    def fleet(self) -> Fleet:
        """The model servers."""
        return self.emulator.fleet

    @property
    def url(self) -> str:
        """What clients are pointed at."""
        if self._url is None:
            raise NotStarted
        return self._url

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def environment(self) -> dict[str, str]:
        """Return the variables with which clients find it."""
        return environment(self.url, region=self._region)

    def process_environment(self) -> dict[str, str]:
        """Return a whole environment for a process, without what would lead it elsewhere."""
        return merged(self.environment())


@contextmanager
def answering(
    emulator: Emulator,
    listener: socket.socket,
    *,
    watchers: Sequence[Callable[[Mapping[str, Any]], None]] = (),
) -> Iterator[None]:
    """Answer what comes to *listener* for as long as the block lasts.

    Args:
        emulator: What it is asked of.
        listener: From `listening`.
        watchers: See `AwsServer.watch`; more may come.
    """
    host, port = listener.getsockname()[:2]
    server = Server(
        host,
        port,
        _Front(emulator, watchers),
        handler=Handler,
        fd=listener.fileno(),
        watched=lambda: bool(watchers),
    )
    thread = threading.Thread(
        target=server.serve_forever, args=(0.02,), name="emulator", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.hang_up()
        thread.join()
        server.server_close()


def address(listener: socket.socket) -> str:
    """Return the URL of what listens."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listening(host: str, port: int = 0) -> contextlib.closing[socket.socket]:
    """Take a port, or a free one for 0.

    Raises:
        AddressInUse: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise AddressInUse(
            error.errno, f"cannot listen on {host} port {port}: {error.strerror}"
        ) from error
    return contextlib.closing(listener)
