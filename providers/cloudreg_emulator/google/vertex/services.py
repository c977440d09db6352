"""Handlers of RPCs, and the one way to them that REST and gRPC share.

A service is a class with a method for each RPC that it has: `upload_model` answers
``UploadModel``. It gets the request as a message of v1, whose names carry the project's number,
and the `Call`; it returns a message of v1, or an operation::

    class Models(Service):
        service = "ModelService"

        def get_model(self, request: Any, call: Call) -> Any:
            return self._find(request.name)

A generator answers a stream. A method marked `unlocked` runs without the world's lock, as
everything must that waits for something.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from cloudreg_emulator.faults import Fault, Kind
from cloudreg_emulator.google.vertex import protos, routes
from cloudreg_emulator.google.vertex.names import parse
from cloudreg_emulator.google.vertex.refusals import (
    HTTP,
    Refused,
    denied,
    invalid,
    unavailable,
    unimplemented,
)
from cloudreg_emulator.google.vertex.routes import Rpc
from cloudreg_emulator.google.world import World

__all__ = ["SERVICE", "Api", "Call", "Service", "unlocked"]

SERVICE = "aiplatform"
"""What faults call this service."""

Handler = Callable[[Any, "Call"], Any]
H = TypeVar("H", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a handler knows beside the request.

    Attributes:
        rpc: What was asked, in which version of the API.
        request: As it was sent, in messages of v1.
        headers: Of HTTP, or gRPC's metadata; names in small letters.
        host: What the client called the server.
        resumed: The operation that a new emulator takes up again; None for a client's call.
    """

    rpc: Rpc
    request: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    resumed: str | None = None


def unlocked(method: H) -> H:
    """Mark a handler that runs without the world's lock."""
    method.__dict__["unlocked"] = True
    return method


class Service:
    """A group of RPCs. Subclasses have a method for each, in snake case.

    Attributes:
        service: As the API calls it, without a package.
    """

    service: ClassVar[str]

    def __init__(self, world: World) -> None:
        """Belong to a world."""
        self.world = world

    def handlers(self) -> dict[str, Handler]:
        """Return the RPCs that are answered, by their names."""
        found: dict[str, Handler] = {}
        for name, method in inspect.getmembers(self, inspect.ismethod):
            signature = list(inspect.signature(method).parameters)
            if signature == ["request", "call"]:
                found["".join(part.capitalize() for part in name.split("_"))] = method
        return found

    def canonical(self, name: str, field: str) -> str:
        """Return a resource's name in a request's other fields with the project's number.

        Raises:
            Refused: INVALID_ARGUMENT, for what is no name, or another project's.
        """
        parts = parse(name)
        place = self.world.place
        if parts is None or not place.owns(parts.project):
            raise invalid(field, f"Invalid resource name: {name!r}")  # unquoted
        return name.replace(f"projects/{parts.project}/", f"projects/{place.number}/", 1)


class Api:
    """All RPCs of one emulator."""

    def __init__(
        self,
        world: World,
        services: Iterable[Service],
        *,
        before: Callable[[], None],
        after: Callable[[], None],
    ) -> None:
        """Begin to answer.

        Args:
            world: What is shared.
            services: Who answers.
            before: Called under the lock before each request: what takes time goes on.
            after: Called under the lock after each request: what changed is kept.
        """
        self.world = world
        self._handlers = {
            (service.service, name): handler
            for service in services
            for name, handler in service.handlers().items()
        }
        self._before = before
        self._after = after

    @property
    def answered(self) -> list[tuple[str, str]]:
        """The services and RPCs that are answered, sorted."""
        return sorted(self._handlers)

    def streams(self, rpc: Rpc) -> bool:
        """Return whether an RPC answers with a stream."""
        handler = self._handlers.get((rpc.service, rpc.name))
        return inspect.isgeneratorfunction(handler)

    def ask(
        self, rpc: Rpc, request: Any, *, headers: Mapping[str, str] | None = None, host: str = ""
    ) -> Any:
        """Answer one request: a message of the version that was asked, or an iterator of them.

        Raises:
            Refused: As the service refuses it.
        """
        taken = protos.as_version(request, protos.V1)
        call = Call(rpc=rpc, request=taken, headers=headers or {}, host=host)
        return self.world.faults.guarded(
            SERVICE, rpc.name, lambda: self._answer(call), spoiled=self._spoil
        )

    def resume(self, rpc: Rpc, request: Any, operation: str) -> None:
        """Take up an operation that was running when the last emulator ended."""
        with self.world.lock:
            self._handler(rpc)(request, Call(rpc=rpc, request=request, resumed=operation))

    def _answer(self, call: Call) -> Any:
        handler = self._handler(call.rpc)
        self._settle(call)
        if inspect.isgeneratorfunction(handler):
            return self._stream(handler, call)
        if hasattr(handler, "unlocked"):
            answer = handler(call.request, call)
            with self.world.lock:
                self._after()
        else:
            with self.world.lock:
                self._before()
                try:
                    answer = handler(call.request, call)
                    # Copied while nobody can change it.
                    answer = _copy(protos.as_version(answer, call.rpc.version))
                finally:
                    self._after()
        return protos.as_version(answer, call.rpc.version)

    def _stream(self, handler: Handler, call: Call) -> Iterator[Any]:
        for piece in handler(call.request, call):
            yield protos.as_version(piece, call.rpc.version)

    def _handler(self, rpc: Rpc) -> Handler:
        handler = self._handlers.get((rpc.service, rpc.name))
        if handler is None:
            raise unimplemented(f"{rpc.full_service}.{rpc.name}")
        return handler

    def _settle(self, call: Call) -> None:
        """Refuse what is not of this place, and put the project's number into the names."""
        shapes = routes.shapes(call.rpc)
        if not shapes:
            return
        fields = list(dict.fromkeys(dotted for dotted, _ in shapes))
        dotted = next((name for name in fields if _value(call.request, name)), fields[0])
        value = _value(call.request, dotted)
        if not any(name == dotted and shape.fullmatch(value) for name, shape in shapes):
            raise invalid(dotted, f"Invalid resource name: {value!r}")  # unquoted
        self._check_place(dotted, value, call.host)
        _put(call.request, dotted, self.canonical(value))

    def _check_place(self, dotted: str, value: str, host: str) -> None:
        place = self.world.place
        project, _, rest = value.removeprefix("projects/").partition("/")
        if not place.owns(project):
            raise denied(project)
        location = rest.removeprefix("locations/").partition("/")[0]
        # Only what is asked in a region's own name is held to that region.
        asked = host.partition("-aiplatform.")[0] if "-aiplatform." in host else None
        if location and (location not in place.regions or (asked and asked != location)):
            # https://github.com/googleapis/python-aiplatform/issues/1684
            raise invalid(
                dotted,
                "The provided location ID doesn't match the endpoint. The valid location ID is "
                f"`{asked or place.regions[0]}`.",
            )

    def canonical(self, name: str) -> str:
        """Return a resource's name with the project's number, as answers carry it."""
        place = self.world.place
        return name.replace(f"projects/{place.project}/", f"projects/{place.number}/", 1)

    def _spoil(self, fault: Fault) -> Any:
        if fault.kind is Kind.THROTTLE:
            # The form of https://cloud.google.com/docs/quotas/troubleshoot
            raise Refused(
                "RESOURCE_EXHAUSTED",
                "Quota exceeded for quota metric 'Resource management (CRUD) requests' and limit "
                "'Resource management (CRUD) requests per minute per region' of service "
                "'aiplatform.googleapis.com' for consumer "
                f"'project_number:{self.world.place.number}'.",
            )
        if fault.kind is Kind.EXPIRED:
            # https://cloud.google.com/docs/authentication/troubleshoot-adc quotes it.
            raise Refused(
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.",
            )
        if fault.kind is Kind.DENIED:
            # https://cloud.google.com/vertex-ai/docs/general/troubleshooting has its form.
            raise Refused("PERMISSION_DENIED", "The caller does not have permission")
        if fault.status in (0, 503):
            raise Refused("UNAVAILABLE", unavailable().message, http=fault.status)
        code = next((code for code, http in HTTP.items() if http == fault.status), "INTERNAL")
        code = "INTERNAL" if fault.status == 500 else code
        raise Refused(code, "Internal error encountered.", http=fault.status)


def _value(message: Any, dotted: str) -> str:
    for part in dotted.split("."):
        message = getattr(message, part)
    return str(message)


def _put(message: Any, dotted: str, value: str) -> None:
    *above, last = dotted.split(".")
    for part in above:
        message = getattr(message, part)
    setattr(message, last, value)


def _copy(message: Any) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    return made
