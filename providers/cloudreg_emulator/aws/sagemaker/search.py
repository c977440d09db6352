"""The Search operation over packages, groups and endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from botocore.utils import parse_timestamp

from cloudreg_emulator.aws.sagemaker.errors import invalid

__all__ = ["matches"]

Body = Mapping[str, Any]


def matches(body: Body, expression: Mapping[str, Any] | None) -> bool:
    """Return whether a resource is what a search expression asks for.

    Args:
        body: The resource as Search shows it, with its ``Tags``.
        expression: ``SearchExpression``; None asks for everything.

    Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SearchExpression.html
    """
    if not expression:
        return True
    if expression.get("NestedFilters"):
        raise invalid("NestedFilters are not supported for this resource.")  # unquoted
    verdicts = [_filtered(body, one) for one in expression.get("Filters") or ()]
    verdicts += [matches(body, one) for one in expression.get("SubExpressions") or ()]
    return any(verdicts) if expression.get("Operator") == "Or" else all(verdicts)


def _filtered(body: Body, asked: Mapping[str, Any]) -> bool:
    operator = asked.get("Operator") or "Equals"
    values = list(_values(body, asked["Name"].split(".")))
    if operator in ("Exists", "NotExists"):
        if asked.get("Value") is not None:
            # API_Filter: Exists and NotExists take no value. Unquoted.
            raise invalid(f"Value must not be specified with the operator {operator}.")
        return bool(values) == (operator == "Exists")
    wanted = asked.get("Value")
    if wanted is None:
        raise invalid(f"Value must be specified with the operator {operator}.")
    if operator == "NotEquals":
        return all(not _compared(value, "Equals", wanted) for value in values)
    return any(_compared(value, operator, wanted) for value in values)


def _values(body: Any, path: Sequence[str]) -> Iterator[Any]:
    if not path:
        if isinstance(body, list):
            yield from body
        elif body is not None:
            yield body
    elif isinstance(body, list):
        # Tags.KEY names the value of a tag; of other lists, a field of each item.
        for item in body:
            if isinstance(item, Mapping) and item.get("Key") == ".".join(path):
                yield item.get("Value")
            else:
                yield from _values(item, path)
    elif isinstance(body, Mapping):
        joined = ".".join(path)
        if joined in body:
            yield from _values(body[joined], ())
        elif path[0] in body:
            yield from _values(body[path[0]], path[1:])


def _compared(value: Any, operator: str, wanted: str) -> bool:
    if operator == "In":
        return str(value) in [one.strip() for one in wanted.split(",")]
    if operator == "Contains":
        return wanted.lower() in str(value).lower()
    left, right = _alike(value, wanted)
    return bool(
        {
            "Equals": left == right,
            "GreaterThan": left > right,
            "GreaterThanOrEqualTo": left >= right,
            "LessThan": left < right,
            "LessThanOrEqualTo": left <= right,
        }[operator]
    )


def _alike(value: Any, wanted: str) -> tuple[Any, Any]:
    try:
        if isinstance(value, datetime):
            return value.timestamp(), parse_timestamp(wanted).timestamp()
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value), float(wanted)
    except ValueError:
        raise invalid(f"Value {wanted!r} cannot be compared with this property.") from None
    if isinstance(value, bool):
        return str(value).lower(), wanted.lower()
    return str(value), wanted
