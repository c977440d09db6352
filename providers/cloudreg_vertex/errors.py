"""From what Google's clients raise to what callers of cloudreg catch.

Over REST the classes of `google.api_core.exceptions` say less than the answer: BadRequest stands
for three codes, Conflict for two. So the table is keyed by ``error.status``, the canonical code
that every answer carries (https://cloud.google.com/apis/design/errors).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    Conflict,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)

TABLE: dict[str, type[CloudregError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    # Something has to be done first: undeployed, moved, awaited.
    "FAILED_PRECONDITION": Conflict,
    "ABORTED": Conflict,
    "ALREADY_EXISTS": AlreadyExists,
    "NOT_FOUND": NotFound,
    "PERMISSION_DENIED": PermissionDenied,
    "UNAUTHENTICATED": PermissionDenied,
    "RESOURCE_EXHAUSTED": QuotaExceeded,
    "UNIMPLEMENTED": Unsupported,
    "CANCELLED": OperationFailed,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": Unavailable,
    "INTERNAL": Unavailable,
    "UNKNOWN": Unavailable,
    "DATA_LOSS": Unavailable,
}

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
}
"""What an HTTP status means where the answer has no code of its own: a proxy wrote it."""

_HINTS: dict[type[CloudregError], str] = {
    PermissionDenied: "gcloud auth application-default login, and gcloud projects "
    "get-iam-policy PROJECT",
    QuotaExceeded: "https://console.cloud.google.com/iam-admin/quotas shows what is left",
}


def kind_of(status: str) -> type[CloudregError]:
    """Return the class of ours for one of Google's codes."""
    return TABLE.get(status, Unavailable)


def status_of(error: Any) -> str:
    """Return the canonical code of an error of `google.api_core`."""
    response = getattr(error, "response", None)
    if response is not None and hasattr(response, "json"):
        try:
            return str(response.json()["error"]["status"])
        except (ValueError, KeyError, TypeError):
            pass
    code = getattr(error, "grpc_status_code", None)
    if code is not None:
        return str(code.name)
    number = getattr(error, "code", None)
    return _STATUSES.get(int(number), "UNAVAILABLE") if number is not None else "UNAVAILABLE"


def refusal(status: str, message: str, what: str, *, target: str) -> CloudregError:
    """Return our error for a code and a sentence of Google's."""
    kind = kind_of(status)
    return kind(f"{what}: {message.strip() or status}", target=target, hint=_HINTS.get(kind))


@contextmanager
def translated(what: str, *, target: str) -> Iterator[None]:
    """Turn the errors of Google's clients about *what* into our own; ours pass unchanged."""
    try:
        yield
    except CloudregError:
        raise
    except Exception as error:
        # Whose it is is asked only now: Google's exceptions alone import gRPC and protobuf, some
        # 0.08 s that a verb which only stores objects has no other use for (2026-11).
        ours = _ours(error, what, target=target)
        if ours is None:
            raise
        raise ours from error


def _ours(error: Exception, what: str, *, target: str) -> CloudregError | None:
    """Return what an exception means; None where it is none of Google's clients."""
    import requests
    from google.api_core import exceptions
    from google.auth import exceptions as auth

    if isinstance(error, exceptions.RetryError):
        cause = error.cause
        status = status_of(cause) if isinstance(cause, exceptions.GoogleAPICallError) else ""
        kind = kind_of(status or "UNAVAILABLE")
        return kind(f"{what}: {cause or error}", target=target, hint=_HINTS.get(kind))
    if isinstance(error, exceptions.GoogleAPICallError):
        return refusal(status_of(error), str(error.message), what, target=target)
    if isinstance(error, requests.exceptions.Timeout):
        return OperationTimeout(f"{what}: no answer in time", target=target)
    if isinstance(error, requests.exceptions.RequestException | auth.TransportError):
        # No answer, or none that can be read: what was asked for may have been done.
        return Unavailable(f"{what}: {error}", target=target)
    if isinstance(error, auth.GoogleAuthError):
        return PermissionDenied(
            f"{what}: {error}", target=target, hint="gcloud auth application-default login"
        )
    return None
