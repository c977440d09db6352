"""Refusals in the words of Application Auto Scaling."""

from __future__ import annotations

from moto.core.exceptions import JsonRESTError

__all__ = ["Refused", "invalid", "missing", "no_resource"]

Refused = JsonRESTError
"""What moto makes a response of."""


def invalid(message: str) -> Refused:
    """Return a ValidationException."""
    return JsonRESTError("ValidationException", message)


def missing(what: str, *, resource: str, dimension: str) -> Refused:
    """Return an ObjectNotFoundException.

    Source: https://github.com/ansible/ansible/pull/35632

    Args:
        what: ``No scalable target registered``, and its like.
        resource: The resource's id.
        dimension: The scalable dimension.
    """
    return JsonRESTError(
        "ObjectNotFoundException",
        f"{what} for service namespace: sagemaker, resource ID: {resource}, "
        f"scalable dimension: {dimension}",
    )


def no_resource(arn: str) -> Refused:
    """Return what is said of tags on something that is not registered."""
    # ResourceNotFoundException is what the service model names; unquoted.
    return JsonRESTError(
        "ResourceNotFoundException", f"The specified resource doesn't exist: {arn}"
    )
