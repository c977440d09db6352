"""boto3's clients: made when they are first needed, once for each provider.

Credentials come from AWS's own chain, and so does whatever the environment says of endpoints.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.holding import still_held
from cloudreg_sagemaker import checks

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import SageMakerSettings

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
ATTEMPTS = 5
"""The SDK repeats what was throttled or got no answer; nothing above it does."""

POOL = 64
MAX_RUNTIMES = 8
"""Clients for different patience with predictions."""

Observer = Callable[[str, str, Mapping[str, Any]], None]
"""Gets signing name, operation and parameters of a call."""

CHECKED = frozenset({"sagemaker", "application-autoscaling"})
"""Services whose requests are checked by botocore's own description before they are sent."""


class Clients:
    """The clients of one target."""

    def __init__(self, settings: SageMakerSettings) -> None:
        """Begin without any: nothing is read and nothing is sent."""
        self._settings = settings
        self._lock = threading.Lock()
        self._session: Any = None
        self._made: dict[str, Any] = {}
        self._runtimes: OrderedDict[float, Any] = OrderedDict()
        self._watchers: list[Callable[[Any], None]] = []

    def __getitem__(self, service: str) -> Any:
        """Return the client of a service, by boto3's name of it."""
        with self._lock:
            client = self._made.get(service)
            if client is None:
                client = self._make(
                    service,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                )
                self._made[service] = client
            return client

    def runtime(self, timeout_s: float) -> Any:
        """Return the client that predicts, with that patience; it never asks twice."""
        with self._lock:
            client = self._runtimes.pop(timeout_s, None)
            if client is None:
                client = self._make(
                    "sagemaker-runtime",
                    read_timeout=timeout_s,
                    retries={"mode": "standard", "total_max_attempts": 1},
                )
            self._runtimes[timeout_s] = client
            while len(self._runtimes) > MAX_RUNTIMES:
                self._runtimes.popitem(last=False)
            return client

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Tell *listener* signing name and operation of every call, also of clients to come."""

        def heard(model: Any, **_: object) -> None:
            listener(model.service_model.signing_name, model.name)

        self._watch("before-call.*.*", heard)

    def observe(self, observer: Observer) -> None:
        """Tell *observer* that and the parameters, as boto3 takes them."""
        self._watch("provide-client-params.*.*", observed(observer))

    def _watch(self, event: str, handler: Callable[..., None]) -> None:
        def watch(client: Any) -> None:
            client.meta.events.register(event, handler)

        with self._lock:
            self._watchers.append(watch)
            for client in [*self._made.values(), *self._runtimes.values()]:
                watch(client)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for client in [*self._made.values(), *self._runtimes.values()]:
                client.close()
            self._made.clear()
            self._runtimes.clear()

    def _make(self, service: str, **options: Any) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            self._session = boto3.session.Session(region_name=self._settings.region)
        client = self._session.client(
            service,
            endpoint_url=self._settings.endpoint_url,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                max_pool_connections=POOL,
                user_agent_extra="cloudreg",
                **options,
            ),
        )
        if service in CHECKED:
            checks.watch(client)
        client.meta.events.register("before-call.*.*", _held)
        for watch in self._watchers:
            watch(client)
        return client


_READING = ("Describe", "Get", "Head", "Invoke", "List")
"""How operations begin that change nothing of a model's."""


def _held(model: Any, **_: object) -> None:
    """Ask before a call that changes something whether it is still ours to make."""
    if not model.name.startswith(_READING):
        still_held()


def observed(observer: Observer) -> Callable[..., None]:
    """Return a handler of boto3's event before it builds a request."""

    def seen(params: Mapping[str, Any], model: Any, **_: object) -> None:
        observer(model.service_model.signing_name, model.name, params)

    return seen
