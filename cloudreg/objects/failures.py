"""From what obstore raises to what callers of cloudreg catch.

obstore has a class for the common refusals; everything else is one class, with the answer's
status and body in its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.sax.saxutils import unescape

from obstore import exceptions

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    ConfigError,
    Conflict,
    IntegrityError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
)

_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")

_CLASSES: tuple[tuple[type[BaseException], type[CloudregError]], ...] = (
    (FileNotFoundError, NotFound),
    (exceptions.AlreadyExistsError, AlreadyExists),
    (exceptions.PreconditionError, Conflict),
    (exceptions.NotModifiedError, Conflict),
    (exceptions.PermissionDeniedError, PermissionDenied),
    (exceptions.UnauthenticatedError, PermissionDenied),
    (exceptions.UnknownConfigurationKeyError, ConfigError),
    (exceptions.InvalidPathError, InvalidRequest),
    (ValueError, InvalidRequest),
)

_CODES: dict[str, type[CloudregError]] = {
    "NoSuchBucket": ConfigError,
    "InvalidBucketName": ConfigError,
    "PermanentRedirect": ConfigError,
    "AuthorizationHeaderMalformed": ConfigError,
    "IllegalLocationConstraintException": ConfigError,
    "BadDigest": IntegrityError,
    "InvalidDigest": IntegrityError,
    "XAmzContentSHA256Mismatch": IntegrityError,
    "ExpiredToken": PermissionDenied,
    "InvalidToken": PermissionDenied,
    "RequestTimeTooSkewed": PermissionDenied,
    "RequestTimeout": Unavailable,
    "QuotaExceeded": QuotaExceeded,
}

_STATUSES: dict[int, type[CloudregError]] = {
    401: PermissionDenied,
    403: PermissionDenied,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    412: Conflict,
    429: Unavailable,
}

_WORDS: dict[type[CloudregError], str] = {
    NotFound: "is not there",
    AlreadyExists: "is there already",
    Conflict: "changed meanwhile",
}

_REDIRECT = "redirect without LOCATION"


def kind_of(error: BaseException) -> type[CloudregError]:
    """Return the class of ours for an error of obstore."""
    text = str(error)
    known = kind_of_code(code_of(error))
    if known is not None:
        return known
    for theirs, ours in _CLASSES:
        if isinstance(error, theirs):
            return ours
    if _REDIRECT in text:
        return ConfigError
    status = status_of(error)
    if status in _STATUSES:
        return _STATUSES[status]
    if status is not None and 400 <= status < 500:
        return InvalidRequest
    return Unavailable


def kind_of_code(code: str) -> type[CloudregError] | None:
    """Return the class of ours for a store's own code; None where the status says enough."""
    if code.startswith("KMS."):
        return Unavailable if "Throttl" in code else ConfigError
    return _CODES.get(code)


def status_of(error: BaseException) -> int | None:
    """Return the status of the answer that *error* tells of; None where there was no answer."""
    found = _STATUS.search(str(error))
    return int(found[1] or found[2]) if found else None


def code_of(error: BaseException) -> str:
    """Return the store's own code for what is wrong, or nothing."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def is_behind_the_end(error: BaseException) -> bool:
    """Whether *error* says that the object has no bytes in the range that was asked for."""
    # Without HTTP there is no status: obstore's own word for it.
    return status_of(error) == 416 or "StartTooLarge" in str(error)


def was_first_answer(error: BaseException) -> bool:
    """Whether *error* is the answer to the only request that was sent."""
    return "retries: 0," in str(error)


@contextmanager
def translated(what: str, *, target: str) -> Iterator[None]:
    """Turn obstore's errors about *what* into our own; ours pass unchanged."""
    try:
        yield
    except CloudregError:  # some of ours are ValueErrors and OSErrors too
        raise
    except (exceptions.BaseError, FileNotFoundError, ValueError) as error:
        raise failure(error, what, target=target) from error


def failure(error: BaseException, what: str, *, target: str) -> CloudregError:
    """Return our error for one of obstore."""
    kind = kind_of(error)
    code, message = code_of(error), _MESSAGE.search(str(error))
    # The text goes on with the structure of the error, many lines of it.
    said = str(error).partition("\n")[0]
    if message:
        said = f"{unescape(message[1])} ({code})"
    if code == "NoSuchBucket":
        return kind(f"{what}: there is no such bucket", target=target)
    if _REDIRECT in said:
        return kind(f"{what}: the bucket is in another region", target=target)
    return kind(f"{what} {_WORDS.get(kind) or f'cannot be used: {said}'}", target=target)
