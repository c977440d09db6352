"""One request to the runtime: read from HTTP, checked against botocore's service model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Protocol

from moto.core.utils import get_service_model

from cloudreg_emulator.aws import validate
from cloudreg_emulator.aws.runtime.errors import invalid

PREFIX = "x-amzn-sagemaker-"

FORWARDED = (
    "custom-attributes",
    "target-model",
    "target-variant",
    "inference-id",
    "session-id",
    "inference-component",
    "prefix-aware-id",
)
"""The only headers, beside type and accept, that reach a container.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

_PLAIN = {"ContentType": "Content-Type", "Accept": "Accept"}


class Headers(Protocol):
    """What a request's headers can be asked."""

    def get(self, name: str, /) -> str | None:
        """Return the value of a header, whatever the case of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What a caller asks of an endpoint.

    Attributes:
        operation: Of the service model.
        parameters: By the service model's names, without the body.
        headers: What the container gets to see: everything else is stripped.
        body: As it came.
        waited_s: Real seconds in a queue; None for a request that is answered at once.
    """

    operation: str
    parameters: Mapping[str, Any]
    headers: Mapping[str, str]
    body: bytes
    waited_s: float | None = None

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        name: str = self.parameters["EndpointName"]
        return name


def read(operation: str, endpoint: str, headers: Headers, body: bytes) -> Invocation:
    """Return a request whose members are all as the service model wants them.

    Args:
        operation: Of the service model.
        endpoint: From the path.
        headers: Of the request; looked up without regard to case.
        body: Of the request.

    Raises:
        Refused: A member is not; all are named.
    """
    given = tuple([headers.get(name) for name in _names(operation)])
    parameters, forwarded = _checked(operation, endpoint, given)
    return Invocation(operation=operation, parameters=parameters, headers=forwarded, body=body)


# Most callers say the same of every body; to ask the service model takes as long as a prediction.
@lru_cache(maxsize=512)
def _checked(
    operation: str, endpoint: str, given: tuple[str | None, ...]
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Return the parameters in a request's headers, and the headers that the container gets."""
    shape = _shape(operation)
    parameters: dict[str, Any] = {"EndpointName": endpoint}
    forwarded: dict[str, str] = {}
    for member, value in zip(_members(operation), given, strict=True):
        if value is None or value == "":
            continue
        field = shape.members[member]
        name = field.serialization["name"]
        if field.type_name == "integer":
            if not value.isdecimal():
                raise invalid(f"Value '{value}' at '{member}' is not a number")
            parameters[member] = int(value)
        else:
            parameters[member] = value
        if member in _PLAIN:
            # Streams have them under names of their own; a container does not.
            forwarded[_PLAIN[member]] = value
        elif name.lower().removeprefix(PREFIX) in FORWARDED:
            forwarded[name] = value
    found = validate.complaints(_without_body(operation), parameters)
    if found:
        raise invalid(validate.message(found))
    return MappingProxyType(parameters), MappingProxyType(forwarded)


@cache
def _members(operation: str) -> tuple[str, ...]:
    """Return the members of a request that stand in its headers."""
    members = _shape(operation).members.items()
    return tuple(n for n, field in members if field.serialization.get("location") == "header")


@cache
def _names(operation: str) -> tuple[str, ...]:
    """Return the headers of `_members`."""
    members = _shape(operation).members
    return tuple(str(members[name].serialization["name"]) for name in _members(operation))


class _Without:
    """A shape without one member: a body's size is judged by a limit of its own."""

    def __init__(self, shape: Any, name: str) -> None:
        self.members = {key: value for key, value in shape.members.items() if key != name}
        self.required_members = [key for key in shape.required_members if key != name]


@cache
def _without_body(operation: str) -> _Without:
    return _Without(_shape(operation), "Body")


@cache
def _shape(operation: str) -> Any:
    return get_service_model("sagemaker-runtime").operation_model(operation).input_shape
