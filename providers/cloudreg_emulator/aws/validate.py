"""Requests against botocore's service model, refused in AWS's words.

boto3 checks types, required members and lower bounds before it sends; patterns, enums and upper
bounds are AWS's to check, and so they are checked here, for every caller. The rules are those of
the installed botocore: a newer one brings newer instance types with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import regex  # \p{L}, which the standard library's re has not

__all__ = ["complaints", "message"]


def message(found: list[str]) -> str:
    """Return the one message that AWS makes of all complaints.

    Source: https://github.com/aws/amazon-sagemaker-examples/issues/4843 (one error); two and more
    are joined by semicolons.
    """
    errors = "error" if len(found) == 1 else "errors"
    return f"{len(found)} validation {errors} detected: {'; '.join(found)}"


def complaints(shape: Any, value: Any) -> list[str]:
    """Return what AWS finds wrong with a request; nothing where it is well-formed.

    Args:
        shape: The operation's input shape in botocore's model.
        value: The parsed request.
    """
    return list(_structure(shape, value, ""))


def _structure(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _said("null", _joined(path, name), "Member must not be null")
    given = [name for name in shape.members if value.get(name) is not None]
    if getattr(shape, "is_tagged_union", False) and len(given) != 1:
        yield _said(_shown(value), path, "Member must have exactly one member set")
    for name in given:
        yield from _member(shape.members[name], value[name], _joined(path, name))


def _member(shape: Any, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if kind == "structure":
        yield from _structure(shape, value, path)
    elif kind == "list":
        yield from (_said(_shown(value), path, rule) for rule in _length(shape, value))
        yield from _items(shape, value, path)
    elif kind == "map":
        yield from (_said(_shown(value), path, rule) for rule in _length(shape, value))
        yield from _entries(shape, value, path)
    else:
        yield from (_said(_shown(value), path, rule) for rule in _scalar(shape, value))


def _items(shape: Any, value: list[Any], path: str) -> Iterator[str]:
    if shape.member.type_name in ("structure", "list", "map"):
        for number, item in enumerate(value, start=1):
            yield from _member(shape.member, item, f"{path}.{number}.member")
        return
    # A list of scalars is named as a whole, with everything that its members must satisfy.
    broken = {rule for item in value for rule in _scalar(shape.member, item)}
    if broken:
        rules = ", ".join(sorted(broken))
        yield _said(_shown(value), path, f"Member must satisfy constraint: [{rules}]")


def _entries(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[str]:
    broken = {rule for key in value for rule in _scalar(shape.key, key)}
    if broken:
        rules = ", ".join(sorted(broken))
        yield _said(_shown(value), path, f"Map keys must satisfy constraint: [{rules}]")
    if shape.value.type_name in ("structure", "list", "map"):
        for key, item in value.items():
            yield from _member(shape.value, item, f"{path}.{key}.member")
        return
    broken = {rule for item in value.values() for rule in _scalar(shape.value, item)}
    if broken:
        rules = ", ".join(sorted(broken))
        yield _said(_shown(value), path, f"Map value must satisfy constraint: [{rules}]")


def _scalar(shape: Any, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _text(shape, value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(shape.metadata, value)
    elif isinstance(value, (bytes, bytearray)):
        yield from _length(shape, value)


def _text(shape: Any, value: str) -> Iterator[str]:
    allowed = shape.metadata.get("enum")
    if allowed and value not in allowed:
        yield f"Member must satisfy enum value set: [{', '.join(allowed)}]"
    yield from _length(shape, value)
    pattern = shape.metadata.get("pattern")
    if pattern is not None and not _compiled(pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {pattern}"


def _number(limits: Mapping[str, Any], value: float) -> Iterator[str]:
    if not math.isfinite(value):
        yield "Member must be a finite number"
    if "max" in limits and value > limits["max"]:
        yield f"Member must have value less than or equal to {limits['max']}"
    if "min" in limits and value < limits["min"]:
        yield f"Member must have value greater than or equal to {limits['min']}"


def _length(shape: Any, value: Any) -> Iterator[str]:
    limits = shape.metadata
    if "max" in limits and len(value) > limits["max"]:
        yield f"Member must have length less than or equal to {limits['max']}"
    if "min" in limits and len(value) < limits["min"]:
        yield f"Member must have length greater than or equal to {limits['min']}"


@cache
def _compiled(pattern: str) -> Any:
    # botocore spells one bound as "${1,128}": an end of line that is repeated matches nothing.
    # The bound itself is in min and max. A dot means any character: policies and model cards
    # with line ends are accepted (".*" is their pattern).
    for bound in ("${1,128}", "${1,256}"):
        pattern = pattern.replace(bound, "")
    # Java's halves of a character: the ranges mean everything beyond the first plane.
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    return regex.compile(pattern, regex.DOTALL)


def _said(value: str, path: str, rule: str) -> str:
    return f"Value {value} at '{path}' failed to satisfy constraint: {rule}"


def _joined(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    return f"'{_plain(value)}'"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)
