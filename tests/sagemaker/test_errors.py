"""AWS's refusals as ours: the right class, AWS's words, and the cause."""

from __future__ import annotations

import pytest
from botocore import exceptions

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
from cloudreg_sagemaker.errors import translated


def refusal(code: str, message: str = "", status: int = 400) -> exceptions.ClientError:
    return exceptions.ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        "CreateEndpoint",
    )


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("ValidationException", 'Could not find endpoint "arn:aws:…:endpoint/x".', NotFound),
        ("ValidationException", 'Could not find endpoint configuration "c".', NotFound),
        ("ValidationException", "ModelPackageGroup arn:… does not exist.", NotFound),
        ("ValidationError", "Endpoint x of account 123456789012 not found.", NotFound),
        (
            "ValidationException",
            'Cannot create already existing endpoint "arn:aws:…:endpoint/x".',
            AlreadyExists,
        ),
        ("ValidationException", "Model Package Group already exists: arn:…", AlreadyExists),
        ("ValidationException", "Cannot update in-progress endpoint.", Conflict),
        ("ValidationException", "1 validation error detected: Value …", InvalidRequest),
        ("ResourceInUse", "in use", Conflict),
        ("ResourceNotFound", "gone", NotFound),
        ("ObjectNotFoundException", "No scalable target registered …", NotFound),
        ("ConflictException", "changed meanwhile", Conflict),
        ("ResourceLimitExceeded", "The account-level service limit …", QuotaExceeded),
        ("AccessDeniedException", "User … is not authorized", PermissionDenied),
        ("ExpiredTokenException", "The security token …", PermissionDenied),
        ("ThrottlingException", "Rate exceeded", Unavailable),
        ("InternalFailure", "", Unavailable),
    ],
)
def test_table(code: str, message: str, kind: type[CloudregError]) -> None:
    """Code and sentence together decide the class; the sentence and the cause are kept."""
    cause = refusal(code, message)
    with pytest.raises(CloudregError) as caught, translated("endpoint x", target="aws"):
        raise cause

    assert type(caught.value) is kind
    assert caught.value.target == "aws"
    assert caught.value.__cause__ is cause
    assert caught.value.message == f"endpoint x: {message or code}"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, PermissionDenied),
        (403, PermissionDenied),
        (404, NotFound),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_unknown_codes(status: int, kind: type[CloudregError]) -> None:
    """A code that is in no table is judged by the status of the answer."""
    with pytest.raises(kind), translated("endpoint x", target="aws"):
        raise refusal("SomethingNew", "words", status)


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (exceptions.NoCredentialsError(), PermissionDenied),
        (exceptions.NoRegionError(), ConfigError),
        (exceptions.ProfileNotFound(profile="x"), ConfigError),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), Unavailable),
        (exceptions.ReadTimeoutError(endpoint_url="https://x"), Unavailable),
        (exceptions.ConnectTimeoutError(endpoint_url="https://x"), Unavailable),
        (exceptions.ParamValidationError(report="bad"), InvalidRequest),
    ],
)
def test_no_answer(cause: Exception, kind: type[CloudregError]) -> None:
    """Without an answer the outcome is unknown; without credentials nothing was asked."""
    with pytest.raises(CloudregError) as caught, translated("endpoint x", target="aws"):
        raise cause

    assert type(caught.value) is kind
    assert caught.value.__cause__ is cause


def test_ours_pass() -> None:
    """What is ours already passes as it is."""
    ours = Conflict("mine")
    with pytest.raises(Conflict) as caught, translated("endpoint x", target="aws"):
        raise ours

    assert caught.value is ours
