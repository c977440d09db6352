"""Vertex AI's clients: made when they are first needed, once for each provider.

Credentials come from Google's own chain. Nothing of the SDK is configured for the whole process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.errors import OperationTimeout
from cloudreg.holding import still_held
from cloudreg.operations import poll_until
from cloudreg_vertex.errors import refusal, translated

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings

TIMEOUT_S = 60.0
"""Of one request; operations take longer, and are asked how they stand."""

REGISTRY_S = 900.0
"""Patience with what the registry does: the SDK's own default for uploads and deletions."""

RETRY_S = 120.0

POOL = 64
"""Connections that a client keeps: as many threads may ask at once, and more of them wait for none
but close theirs afterwards. requests' own limit is 10; one connection costs a TLS handshake."""

_HOST = "-aiplatform.googleapis.com"

_CLIENTS = {
    "models": "ModelServiceClient",
    "endpoints": "EndpointServiceClient",
    "predictions": "PredictionServiceClient",
    "jobs": "JobServiceClient",
}

READS = frozenset({"get", "list"})
"""First words of the methods that change nothing: they are repeated whatever the answer was."""

CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
"""Numbers of google.rpc.Code, which the errors of operations carry."""


class Services:
    """The clients of one target."""

    def __init__(self, settings: VertexSettings, *, target: str) -> None:
        """Begin without any: nothing is read and nothing is sent."""
        self._settings = settings
        self._target = target
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Any] = {}
        self._found: Any = None
        self._session: Any = None
        self._listeners: list[Callable[[str, str], None]] = []

    @property
    def parent(self) -> str:
        """Return ``projects/…/locations/…``."""
        return f"projects/{self._settings.project}/locations/{self._settings.location}"

    def call(
        self,
        service: str,
        method: str,
        request: Mapping[str, Any],
        *,
        what: str,
        version: str = "v1",
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """Send one request and return the SDK's answer.

        Args:
            service: ``models``, ``endpoints``, ``predictions`` or ``jobs``.
            method: Of the client, such as ``get_model``.
            request: The request message as a dictionary.
            what: For messages.
            version: Of the API: ``v1``, or ``v1beta1`` where a feature needs it.
            timeout_s: Patience with this request.
        """
        for listener in self._listeners:
            listener(service, method)
        if method.partition("_")[0] not in READS:
            still_held()
        with translated(what, target=self._target):
            client = self.client(service, version)
            return getattr(client, method)(
                request=dict(request), timeout=timeout_s, retry=_retry(method)
            )

    def pages(
        self, service: str, method: str, request: Mapping[str, Any], *, what: str
    ) -> Iterator[Any]:
        """Yield what a listing holds, one request a page."""
        pager = self.call(service, method, request, what=what)
        with translated(what, target=self._target):
            yield from pager

    def finish(
        self,
        service: str,
        method: str,
        request: Mapping[str, Any],
        *,
        what: str,
        timeout_s: float = REGISTRY_S,
    ) -> Any:
        """Begin an operation, wait until it is done, and return it.

        Raises:
            OperationTimeout: It is still running, and keeps running.
            CloudregError: It failed; the words are Google's.
        """
        name = self.call(service, method, request, what=what).operation.name
        done = self._ended(name, what=what, timeout_s=timeout_s)
        if done.error.code:
            raise refusal(
                CODES.get(done.error.code, "UNKNOWN"),
                done.error.message,
                what,
                target=self._target,
            )
        return done

    def settle(self, resource: str, *, what: str, timeout_s: float = REGISTRY_S) -> None:
        """Return once nothing is done to a resource any more, whoever began it.

        Raises:
            OperationTimeout: Something is still running.
        """
        for one in self.operations(resource, what=what):
            self._ended(one.name, what=what, timeout_s=timeout_s)

    def operation(self, name: str, *, what: str) -> Any:
        """Return an operation as it stands: a ``google.longrunning.Operation``."""
        with translated(what, target=self._target):
            return self.client("endpoints").get_operation(
                request={"name": name}, timeout=TIMEOUT_S, retry=_retry("get_operation")
            )

    def operations(self, resource: str, *, what: str) -> list[Any]:
        """Return the operations of a resource that are not done."""
        with translated(what, target=self._target):
            answer = self.client("endpoints").list_operations(
                request={"name": resource, "filter": "done=false"},
                timeout=TIMEOUT_S,
                retry=_retry("list_operations"),
            )
        return [one for one in answer.operations if not one.done]

    def _ended(self, name: str, *, what: str, timeout_s: float) -> Any:
        """Wait until an operation is done, and return it."""
        done = poll_until(
            lambda: self.operation(name, what=what),
            lambda seen: bool(seen.done),
            timeout_s=timeout_s,
        )
        if done is None:
            raise OperationTimeout(
                f"{what}: {name} is still running after {timeout_s:g} s", target=self._target
            )
        return done

    def client(self, service: str, version: str = "v1") -> Any:
        """Return one of the SDK's clients."""
        with self._lock:
            made = self._made.get((service, version))
            if made is None:
                made = self._made[service, version] = self._make(service, version)
            return made

    def client_at(self, service: str, host: str | None) -> Any:
        """Return the client of a host of its own; without one, that of the location."""
        if host is None:
            return self.client(service)
        with self._lock:
            made = self._made.get((service, host))
            if made is None:
                made = self._made[service, host] = self._make(service, "v1", host=host)
            return made

    def session(self) -> Any:
        """Return an authorised session for the services that the SDK does not bring."""
        with self._lock:
            if self._session is None:
                import requests
                from google.auth.transport.requests import AuthorizedSession

                from cloudreg_vertex.connections import mounted

                self._session = mounted(
                    requests.Session()
                    if self._settings.is_emulated
                    else AuthorizedSession(self.credentials()),
                    connections=POOL,
                )
            return self._session

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Tell *listener* service and method of every call to Vertex AI."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for made in self._made.values():
                made.transport.close()
            self._made.clear()
            if self._session is not None:
                self._session.close()
            self._session = None

    def credentials(self) -> Any:
        """Return those of Google's own chain; anonymous ones for an emulator."""
        if self._found is None:
            import google.auth
            from google.auth.credentials import AnonymousCredentials

            if self._settings.is_emulated:
                self._found = AnonymousCredentials()
            else:
                scopes = ["https://www.googleapis.com/auth/cloud-platform"]
                self._found, _ = google.auth.default(scopes=scopes)
        return self._found

    def _make(self, service: str, version: str, *, host: str | None = None) -> Any:
        from importlib import import_module

        # The generated clients take a second or more to import: nothing else here does.
        module = import_module(f"google.cloud.aiplatform_{version}")
        kind = getattr(module, _CLIENTS[service])
        address = self._settings.address
        if self._settings.transport == "grpc":
            if address is None:
                host = host or f"{self._settings.location}{_HOST}"
                return kind(credentials=self.credentials(), client_options={"api_endpoint": host})
            import grpc

            transport = kind.get_transport_class("grpc")
            plain = self._settings.grpc or address.partition("://")[2]
            channel = grpc.insecure_channel(plain)
            return kind(transport=transport(channel=channel, host=plain))
        address = address or f"https://{host or self._settings.location + _HOST}"
        made = kind(
            credentials=self.credentials(),
            transport="rest",
            client_options={"api_endpoint": address.rstrip("/")},
        )
        from cloudreg_vertex.connections import mounted

        # The generated transport makes its session by itself, and takes no other
        # (google-cloud-aiplatform 2.7).
        mounted(made.transport._session, connections=POOL)
        return made


def _retry(method: str) -> Any:
    """Return what the SDK repeats: reads after any trouble, changes where nothing was done."""
    from google.api_core import exceptions, retry

    kinds: tuple[type[Exception], ...] = (exceptions.TooManyRequests,)
    if method.partition("_")[0] in READS:
        import requests

        kinds = (
            *kinds,
            exceptions.ServiceUnavailable,
            exceptions.InternalServerError,
            exceptions.BadGateway,
            exceptions.GatewayTimeout,
            requests.exceptions.ConnectionError,
        )
    return retry.Retry(
        predicate=retry.if_exception_type(*kinds),
        initial=0.5,
        maximum=10.0,
        timeout=RETRY_S if len(kinds) > 1 else 20.0,
    )
