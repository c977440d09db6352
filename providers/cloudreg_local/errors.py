"""From what the operating system says to what callers of cloudreg catch."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    ConfigError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
)

_TABLE: dict[int | None, type[CloudregError]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.ENOSPC: QuotaExceeded,
    errno.EDQUOT: QuotaExceeded,
    errno.EFBIG: QuotaExceeded,
    errno.EMFILE: QuotaExceeded,
    errno.ENFILE: QuotaExceeded,
    errno.EMLINK: QuotaExceeded,
    errno.ENAMETOOLONG: InvalidRequest,
    errno.EISDIR: InvalidRequest,
    errno.ENOTDIR: ConfigError,
}

_WORDS: dict[type[CloudregError], str] = {
    NotFound: "is not there",
    AlreadyExists: "is there already",
}


@contextmanager
def translated(what: str, *, target: str) -> Iterator[None]:
    """Turn an OSError about *what* into our own; ours pass unchanged.

    What is in no table is `Unavailable`: after an input or output error the outcome is unknown.
    """
    try:
        yield
    except CloudregError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        kind = _TABLE.get(error.errno, Unavailable)
        reason = _WORDS.get(kind) or f"cannot be used: {error.strerror or error}"
        raise kind(f"{what} {reason}", target=target) from error
