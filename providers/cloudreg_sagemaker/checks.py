"""Requests, checked before they are sent, by what SageMaker itself publishes of its fields.

botocore brings the service's own description: patterns, enumerations, least and most. It checks
only a part of that before it sends (types and least values); the rest comes back from the service
minutes later, after other requests have made things. Here all of it is checked first.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cloudreg.errors import InvalidRequest

SHOWN = 60
"""Characters of a refused value that a message repeats."""

NUMBERS = frozenset({"integer", "long", "float", "double"})
FEW = 12
"""Values of an enumeration that a message can name."""


@cache
def service_model(service: str) -> Any:
    """Return what botocore knows of *service*; nothing is sent, and no client is made."""
    import botocore.loaders
    import botocore.model

    loader = botocore.loaders.Loader()
    return botocore.model.ServiceModel(loader.load_service_model(service, "service-2"), service)


def check_value(shape: str, value: str) -> str:
    """Return *value* if SageMaker's field of that shape can hold it.

    Raises:
        InvalidRequest: Otherwise; the message says what is allowed.
    """
    _check(service_model("sagemaker").shape_for(shape), value, "")
    return value


def check_request(service: str, operation: str, request: Mapping[str, Any]) -> None:
    """Refuse a request that the service would refuse for one of its fields.

    Raises:
        InvalidRequest: The message names the field, its value and what is allowed.
    """
    shape = service_model(service).operation_model(operation).input_shape
    _check(shape, request, operation)


def values_of(shape: str) -> frozenset[str]:
    """Return the values that a field of SageMaker's can have."""
    return frozenset(service_model("sagemaker").shape_for(shape).enum)


def watch(client: Any) -> None:
    """Check every request of *client* before it is sent."""

    def check(params: Mapping[str, Any], model: Any, **_: object) -> None:
        if model.input_shape is not None:
            _check(model.input_shape, params, model.name)

    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"provide-client-params.{service}", check)


def _check(shape: Any, value: Any, where: str) -> None:
    if shape.type_name == "structure" and isinstance(value, Mapping):
        for name in shape.required_members:
            if name not in value:
                raise InvalidRequest(f"{where}: {name} is missing")
        for name, inner in value.items():
            member = shape.members.get(name)
            if member is None:
                raise InvalidRequest(f"{where}: it has no field {name}")
            _check(member, inner, f"{where}.{name}" if where else name)
        return
    if shape.type_name == "list" and isinstance(value, Sequence):
        _check_bounds(shape, len(value), "entries", where, f"{len(value)} of them")
        for index, inner in enumerate(value):
            _check(shape.member, inner, f"{where}[{index}]")
    elif shape.type_name == "map" and isinstance(value, Mapping):
        _check_bounds(shape, len(value), "entries", where, f"{len(value)} of them")
        for key, inner in value.items():
            _check(shape.key, key, f"{where} key")
            _check(shape.value, inner, f"{where}[{key!r}]")
    elif shape.type_name == "string" and isinstance(value, str):
        _check_text(shape, value, where)
    elif shape.type_name in NUMBERS and isinstance(value, int | float):
        _check_bounds(shape, value, "", where, f"{value}")


def _check_text(shape: Any, value: str, where: str) -> None:
    shown = repr(value if len(value) <= SHOWN else value[:SHOWN] + "…")
    if shape.enum and value not in shape.enum:
        near = difflib.get_close_matches(value, shape.enum, n=3, cutoff=0.5)
        allowed = ", ".join(shape.enum if len(shape.enum) <= FEW else near)
        raise InvalidRequest(
            f"{_at(where)}{shown} is none of {allowed or f'the {len(shape.enum)} allowed values'}"
        )
    _check_bounds(shape, len(value), "characters", where, shown)
    pattern = _compiled(shape.metadata.get("pattern"))
    if pattern is not None and not pattern.fullmatch(value):
        raise InvalidRequest(f"{_at(where)}{shown} does not match {pattern.pattern}")


def _check_bounds(shape: Any, size: float, unit: str, where: str, shown: str) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and size < low) or (high is not None and size > high):
        allowed = f"{low} or more" if high is None else f"{low or 0} to {high}"
        raise InvalidRequest(f"{_at(where)}{shown} is not {allowed} {unit}".rstrip())


def _at(where: str) -> str:
    return f"{where}: " if where else ""


@cache
def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    # Python's re knows neither \p{…} nor halves of characters: those few fields hold free text,
    # of which `packages.plain` keeps what they can hold.
    if pattern is None or r"\p{" in pattern or r"\uD800" in pattern:
        return None
    return re.compile(pattern, re.DOTALL)
