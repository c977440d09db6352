"""Which request is for which RPC, read from the SDK's own transports.

The SDK is generated from Google's http annotations, and keeps them beside each RPC of its REST
transports. So every RPC of Vertex AI has its routes here, those that are not emulated too: they
are refused by name.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from google.protobuf.message import Message

from cloudreg_emulator.google.vertex import protos

__all__ = ["MIXINS", "Match", "Route", "Rpc", "find", "rpcs", "shapes"]

MIXINS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("GetOperation", "ListOperations", "CancelOperation", "DeleteOperation", "WaitOperation"),
        ("google.longrunning.Operations", "google.longrunning.operations_pb2"),
    ),
    **dict.fromkeys(
        ("GetLocation", "ListLocations"),
        ("google.cloud.location.Locations", "google.cloud.location.locations_pb2"),
    ),
    **dict.fromkeys(
        ("GetIamPolicy", "SetIamPolicy", "TestIamPermissions"),
        ("google.iam.v1.IAMPolicy", "google.iam.v1.iam_policy_pb2"),
    ),
}
"""RPCs that Vertex AI has from other APIs: their service, and the module of their messages."""

_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")
_VARIABLE = re.compile(r"\{([^=}]+)(?:=([^}]+))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One method of one service.

    Attributes:
        service: Without its package: ``ModelService``, ``Operations``.
        name: ``UploadModel``.
        version: Of the API that was asked.
        full_service: With its package, as gRPC has it.
        request: The class of its request.
    """

    service: str
    name: str
    version: str
    full_service: str
    request: type[Message]

    @property
    def path(self) -> str:
        """What gRPC calls it."""
        return f"/{self.full_service}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to ask for an RPC over REST.

    Attributes:
        rpc: What is asked for.
        method: Of HTTP, in capitals.
        body: Where the body goes: ``*`` for the request itself, a field's name, or None.
        pattern: Of the decoded path; its groups are the values of `fields`.
        fields: Dotted names of the fields that the path holds.
        shapes: Which form each of them has.
    """

    rpc: Rpc
    method: str
    body: str | None
    pattern: re.Pattern[str]
    fields: tuple[str, ...]
    shapes: tuple[re.Pattern[str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A route, and what the path says of the request.

    Attributes:
        route: Which one.
        values: Dotted names of fields, with their text.
    """

    route: Route
    values: Mapping[str, str]


def find(method: str, path: str, version: str) -> Match | None:
    """Return the RPC that a request is for.

    Args:
        method: Of HTTP.
        path: Percent-encoded, from its first slash on.
        version: Of the API; ``/ui/`` belongs to both.
    """
    decoded = unquote(path)
    verb = decoded.rpartition("/")[2].partition(":")[2]
    for route in _table(version).get((method, verb), ()):
        found = route.pattern.fullmatch(decoded)
        if found:
            return Match(route=route, values=dict(zip(route.fields, found.groups(), strict=True)))
    return None


@functools.cache
def rpcs(version: str) -> Mapping[str, Rpc]:
    """Return all RPCs of one version of the API, by what gRPC calls them."""
    return {route.rpc.path: route.rpc for route in _routes(version)}


@functools.cache
def shapes(rpc: Rpc) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return the fields of a request that routes take from the path, each with its form."""
    found: dict[tuple[str, str], re.Pattern[str]] = {}
    for route in _routes(rpc.version):
        if route.rpc == rpc:
            for name, shape in zip(route.fields, route.shapes, strict=True):
                found[name, shape.pattern] = shape
    return tuple((name, shape) for (name, _), shape in found.items())


@functools.cache
def _table(version: str) -> Mapping[tuple[str, str], tuple[Route, ...]]:
    table: dict[tuple[str, str], tuple[Route, ...]] = {}
    for route in _routes(version):
        verb = _verb(route.pattern.pattern)
        key = (route.method, verb)
        table[key] = (*table.get(key, ()), route)
    return table


def _verb(pattern: str) -> str:
    last = pattern.replace("\\", "").rpartition("/")[2]
    return last.rpartition(")")[2].partition(":")[2] if ")" in last else last.partition(":")[2]


@functools.cache
def _routes(version: str) -> tuple[Route, ...]:
    """Return every route; those of the mixins, which every service repeats, once."""
    services = protos.package(version).services
    found: list[Route] = []
    mixed: set[str] = set()
    for module in pkgutil.iter_modules(services.__path__):
        base = importlib.import_module(f"{services.__name__}.{module.name}.transports.rest_base")
        (transport,) = (
            value
            for name, value in vars(base).items()
            if name.startswith("_Base") and name.endswith("RestTransport")
        )
        for name, options in _options(transport):
            if name in MIXINS and name in mixed:
                continue
            mixed.add(name)
            rpc = _rpc(transport, name, version)
            found.extend(_route(rpc, option) for option in options)
    return tuple(found)


def _options(transport: type) -> Iterator[tuple[str, list[dict[str, str]]]]:
    for name, value in vars(transport).items():
        if name.startswith("_Base") and hasattr(value, "_get_http_options"):
            yield name.removeprefix("_Base"), value._get_http_options()


def _rpc(transport: type, name: str, version: str) -> Rpc:
    if name in MIXINS:
        full, module = MIXINS[name]
        request = getattr(importlib.import_module(module), f"{name}Request")
    else:
        service = transport.__name__.removeprefix("_Base").removesuffix("RestTransport")
        full = f"google.cloud.aiplatform.{version}.{service}"
        # The transport's own annotation: Callable[[Request], Awaitable[Response] | Response].
        method = getattr(transport, _HUMP.sub(r"_\1", name).lower())
        ((wanted, *_), *_) = typing.get_args(method.fget.__annotations__["return"])
        request = type(wanted.pb(wanted())) if hasattr(wanted, "pb") else wanted
    service = full.rpartition(".")[2]
    return Rpc(service=service, name=name, version=version, full_service=full, request=request)


def _route(rpc: Rpc, option: dict[str, str]) -> Route:
    fields: list[str] = []
    shapes: list[str] = []
    pattern, at = "", 0
    for variable in _VARIABLE.finditer(option["uri"]):
        pattern += re.escape(option["uri"][at : variable.start()])
        fields.append(variable.group(1))
        shapes.append(_segments(variable.group(2) or "*"))
        pattern += f"({shapes[-1]})"
        at = variable.end()
    pattern += re.escape(option["uri"][at:])
    return Route(
        rpc=rpc,
        method=option["method"].upper(),
        body=option.get("body"),
        pattern=re.compile(pattern),
        fields=tuple(fields),
        shapes=tuple(re.compile(shape) for shape in shapes),
    )


def _segments(template: str) -> str:
    # A colon ends a resource's name: what follows is the verb.
    parts = {"*": "[^/:]+", "**": ".+"}
    return "/".join(parts.get(part, re.escape(part)) for part in template.split("/"))
