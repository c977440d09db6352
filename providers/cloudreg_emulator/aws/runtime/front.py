"""The short way to the runtime: requests that need nothing of moto's dispatcher.

moto finds the service of each request, makes an application's context for it and takes it apart
for services of all kinds: that costs more than a prediction. What a signed request to
``/endpoints/NAME/…`` needs stands in its path and in its signature's scope. Everything else takes
moto's way, and both end in `answering.answer`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast

from moto import settings
from moto.iam.models import get_account_id_from
from moto.sagemakerruntime.models import sagemakerruntime_backends

from cloudreg_emulator.aws.runtime.answering import OPERATIONS, answer
from cloudreg_emulator.aws.runtime.models import RuntimeBackend

_PATH = re.compile(rf"/endpoints/([A-Za-z0-9-]+)/({'|'.join(OPERATIONS)})")
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/\d{8}/([a-z0-9-]+)/sagemaker/")

_MOTOS = ("HTTP_X_MOTO_ACCOUNT_ID", "HTTP_ORIGIN", "wsgi.input_terminated")
"""What moto answers itself: a chosen account, browsers, bodies of unknown length."""


def answered(
    environ: Mapping[str, Any],
) -> tuple[int, dict[str, str], bytes | Iterable[bytes]] | None:
    """Return the response to a request; None where it is moto's to find its way."""
    path = _PATH.fullmatch(environ.get("REQUEST_URI", ""))
    if path is None or environ["REQUEST_METHOD"] != "POST":
        return None
    if any(environ.get(name) for name in _MOTOS):
        return None
    backend = backend_of(environ.get("HTTP_AUTHORIZATION", ""))
    if backend is None:
        return None
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return answer(path[2], backend, path[1], _Headers(environ), body, hang_up=_hang_up)


def backend_of(authorization: str) -> RuntimeBackend | None:
    """Return the backend of a signed request; None where it is moto's to find its way."""
    scope = _SCOPE.match(authorization)
    # Below infinity moto checks policies from some request on.
    if scope is None or math.inf != settings.INITIAL_NO_AUTH_ACTION_COUNT:
        return None
    account = os.environ.get("MOTO_ACCOUNT_ID") or get_account_id_from(scope[1])
    try:
        return cast(RuntimeBackend, sagemakerruntime_backends[account][scope[2]])
    except KeyError:
        return None


def _hang_up() -> NoReturn:
    raise ConnectionResetError("a fault closes the connection")


class _Headers:
    """Headers in the way that WSGI has them."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def get(self, name: str) -> str | None:
        """Return the value of a header, if it was sent."""
        key = name.upper().replace("-", "_")
        found = self._environ.get(key if key == "CONTENT_TYPE" else f"HTTP_{key}")
        return None if found is None else str(found)
