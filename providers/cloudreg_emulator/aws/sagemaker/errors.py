"""Refusals in SageMaker's words.

Sources of the words, beside the botocore model: the constants of AWS's own operator
(https://github.com/aws/amazon-sagemaker-operator-for-k8s, clientwrapper), the Terraform provider's
matches (internal/service/sagemaker), and users' issues, named where they are used. What nobody
could be found to have quoted is marked *unquoted*: the refusal is documented, its words are ours.
"""

from __future__ import annotations

from moto.core.exceptions import ServiceException

__all__ = ["Refused", "conflict", "existing", "in_progress", "invalid", "missing", "not_found"]


class Refused(ServiceException):
    """A request that SageMaker refuses."""


def invalid(message: str) -> Refused:
    """Return a ValidationException: nearly everything that SageMaker refuses."""
    return Refused("ValidationException", message)


def conflict(message: str) -> Refused:
    """Return a ConflictException, as the operations of the registry model it."""
    return Refused("ConflictException", message)


def not_found(message: str) -> Refused:
    """Return a ResourceNotFound, as the operations of jobs model it."""
    return Refused("ResourceNotFound", message)


def missing(kind: str, arn: str) -> Refused:
    """Return what SageMaker says of a model, endpoint or configuration that is not there."""
    # ValidationException with status 400, and no ResourceNotFound.
    # https://github.com/aws/amazon-sagemaker-examples/issues/2402
    return invalid(f'Could not find {kind} "{arn}".')


def existing(kind: str, arn: str) -> Refused:
    """Return what SageMaker says of a name that is taken."""
    # https://github.com/aws/sagemaker-python-sdk/issues/101
    return invalid(f'Cannot create already existing {kind} "{arn}".')


def in_progress(arn: str) -> Refused:
    """Return what SageMaker says of an endpoint that something is being done to.

    DeleteEndpoint says "update", too.
    """
    # DeleteEndpointInProgressMessagePrefix in the operator's clientwrapper.
    return invalid(f'Cannot update in-progress endpoint "{arn}".')
