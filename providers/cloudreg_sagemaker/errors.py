"""From what botocore raises to what callers of cloudreg catch.

SageMaker says most things with one code, ValidationException, and a sentence: so the table has
two columns, the code and words that the sentence must have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    ConfigError,
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
)

MISSING = re.compile(
    r"could not find|does not exist|doesn't exist|not found|no scalable target|cannot find", re.I
)
"""What SageMaker writes where something is not there: it has no code of its own for that.

Source: sagemaker-core's ``_is_resource_not_found`` and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
"""

TAKEN = re.compile(
    r"already exist|cannot create already existing|must be unique within an aws account", re.I
)
BUSY = re.compile(
    r"in-progress|in progress|cannot (?:update|delete)[^.]*(?:while|in)\b|currently (?:being|in)"
    r"|is (?:creating|updating|deleting|rollingback|systemupdating)",
    re.I,
)

_WORDS = ((TAKEN, AlreadyExists), (MISSING, NotFound), (BUSY, Conflict))
"""In this order: "already exists" is the more particular of two that a sentence may have."""

_SENTENCES = frozenset({"ValidationException", "ValidationError", "ResourceNotFoundException"})

_TABLE: dict[str, type[CloudregError]] = {
    "ValidationException": InvalidRequest,
    "ValidationError": InvalidRequest,
    "InvalidParameterException": InvalidRequest,
    "InvalidParameterValue": InvalidRequest,
    "MissingParameter": InvalidRequest,
    "ResourceNotFound": NotFound,
    "ResourceNotFoundException": NotFound,
    "ObjectNotFoundException": NotFound,
    "ResourceInUse": Conflict,
    "ResourceInUseException": Conflict,
    "ConflictException": Conflict,
    "ConcurrentUpdateException": Conflict,
    "ResourceLimitExceeded": QuotaExceeded,
    "LimitExceededException": QuotaExceeded,
    "ServiceQuotaExceededException": QuotaExceeded,
    "AccessDenied": PermissionDenied,
    "AccessDeniedException": PermissionDenied,
    "NotAuthorized": PermissionDenied,
    "UnauthorizedOperation": PermissionDenied,
    "OptInRequired": PermissionDenied,
    "UnrecognizedClientException": PermissionDenied,
    "InvalidClientTokenId": PermissionDenied,
    "MissingAuthenticationToken": PermissionDenied,
    "SignatureDoesNotMatch": PermissionDenied,
    "InvalidSignatureException": PermissionDenied,
    "IncompleteSignature": PermissionDenied,
    "ExpiredToken": PermissionDenied,
    "ExpiredTokenException": PermissionDenied,
    "RequestExpired": PermissionDenied,
    "FailedResourceAccessException": PermissionDenied,
    "ModelNotReadyException": Unavailable,
    "ServiceUnavailable": Unavailable,
    "ServiceUnavailableException": Unavailable,
    "InternalFailure": Unavailable,
    "InternalServerError": Unavailable,
    "InternalServiceException": Unavailable,
    "InternalServiceError": Unavailable,
    "InternalDependencyException": Unavailable,
    "Throttling": Unavailable,
    "ThrottlingException": Unavailable,
    "ThrottledException": Unavailable,
    "RequestLimitExceeded": Unavailable,
    "RequestThrottled": Unavailable,
    "TooManyRequestsException": Unavailable,
    "SlowDown": Unavailable,
}

_HINTS: dict[type[CloudregError], str] = {
    PermissionDenied: "aws sts get-caller-identity shows whose credentials these are",
    QuotaExceeded: "aws service-quotas list-service-quotas --service-code sagemaker",
}


def kind_of(code: str, message: str, status: int | None) -> type[CloudregError]:
    """Return the class of ours for an error of AWS.

    Args:
        code: Its code.
        message: Its sentence.
        status: Of the HTTP answer, which decides where the code is unknown.
    """
    if code in _SENTENCES:
        for words, kind in _WORDS:
            if words.search(message):
                return kind
    known = _TABLE.get(code)
    if known is not None:
        return known
    if status in (401, 403):
        return PermissionDenied
    if status == 404:
        return NotFound
    if status is not None and 400 <= status < 500 and status != 429:
        return InvalidRequest
    return Unavailable


@contextmanager
def translated(what: str, *, target: str) -> Iterator[None]:
    """Turn botocore's errors about *what* into our own; ours pass unchanged."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        raise from_client_error(error, what, target=target) from error
    except exceptions.ParamValidationError as error:
        raise InvalidRequest(f"{what}: {error}", target=target) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
    ) as error:
        raise PermissionDenied(
            f"{what}: {error}", target=target, hint="aws configure, or aws sso login"
        ) from error
    except (exceptions.NoRegionError, exceptions.ProfileNotFound) as error:
        raise ConfigError(f"{what}: {error}", target=target) from error
    except exceptions.BotoCoreError as error:
        # No answer, or none that can be read: what was asked for may have been done.
        raise Unavailable(f"{what}: {error}", target=target) from error


def from_client_error(error: Any, what: str, *, target: str) -> CloudregError:
    """Return our error for a refusal of AWS."""
    said = error.response.get("Error", {})
    code, message = str(said.get("Code", "")), str(said.get("Message", "")).strip()
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    kind = kind_of(code, message, status)
    return kind(f"{what}: {message or code}", target=target, hint=_HINTS.get(kind))
