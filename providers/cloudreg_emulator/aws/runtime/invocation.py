"""One request to the runtime: read from HTTP, checked against botocore's service model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
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
        body: As it came.
    """

    operation: str
    parameters: Mapping[str, Any]
    body: bytes

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        name: str = self.parameters["EndpointName"]
        return name

    @property
    def headers(self) -> dict[str, str]:
        """What the container gets to see: everything else is stripped."""
        headers = {
            name: self.parameters[member]
            for name, member in (("Content-Type", "ContentType"), ("Accept", "Accept"))
            if member in self.parameters
        }
        input_members = _shape(self.operation).members
        for member, shape in input_members.items():
            name = str(shape.serialization.get("name", ""))
            if member in self.parameters and name.lower().removeprefix(PREFIX) in FORWARDED:
                headers[name] = self.parameters[member]
        return headers


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
    shape = _shape(operation)
    parameters: dict[str, Any] = {"EndpointName": endpoint}
    for member, field in shape.members.items():
        if field.serialization.get("location") != "header":
            continue
        value = headers.get(field.serialization["name"])
        if value is None or value == "":
            continue
        if field.type_name == "integer":
            if not value.isdecimal():
                raise invalid(f"Value '{value}' at '{member}' is not a number")
            parameters[member] = int(value)
        else:
            parameters[member] = value
    found = validate.complaints(_without_body(operation), parameters)
    if found:
        raise invalid(validate.message(found))
    return Invocation(operation=operation, parameters=parameters, body=body)


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
