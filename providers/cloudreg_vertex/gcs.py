"""Requests to Cloud Storage, for what obstore cannot do: looks at buckets, parts, conditions.

The session repeats what was throttled or got no answer, every method alike: whoever sends a
change says with a condition, or can tell by a mark, that it may come twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import unescape

from cloudreg.errors import (
    CloudregError,
    ConfigError,
    Conflict,
    IntegrityError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from cloudreg_vertex.errors import translated

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings

HOST = "https://storage.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)

RETRIES = 5
_REPEATED = (408, 429, 500, 502, 503, 504)
"""Source: https://cloud.google.com/storage/docs/retry-strategy"""

_TIMEOUT = (10, 300)
"""Seconds for a connection, and between two packets: a part may take long on a thin line."""

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Source: https://requests.readthedocs.io/en/latest/user/advanced/#ssl-cert-verification"""

_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")

_OTHERS = ("NoSuchUpload", "InvalidPart")
"""An upload was finished or given up by somebody else: whoever asks again finds out."""

_CODES: dict[str, type[CloudregError]] = {
    **dict.fromkeys(_OTHERS, Unavailable),
    "NoSuchBucket": ConfigError,
    "BadDigest": IntegrityError,
    "InvalidDigest": IntegrityError,
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

_LOGIN = "gcloud auth application-default login"


def address_of(settings: VertexSettings) -> str | None:
    """Return where an emulator answers; None for Google's own service.

    An emulated Vertex AI reads an emulated Cloud Storage: without an address of its own it is
    looked for at the same place, and never at Google's.
    """
    found = settings.storage_url or os.environ.get("STORAGE_EMULATOR_HOST") or settings.address
    return found.rstrip("/") if found else None


def certificates(*, target: str) -> bytes | None:
    """Return whom requests is told to trust: a proxy with certificates of its own may be near.

    Raises:
        ConfigError: They cannot be read.
    """
    for variable in _BUNDLES:
        bundle = os.environ.get(variable)
        if not bundle:
            continue
        path = Path(bundle)
        try:
            # A folder as well as a file, as OpenSSL has them.
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            return b"\n".join(file.read_bytes() for file in files)
        except OSError as error:
            raise ConfigError(
                f"{variable}: {bundle} cannot be read: {error.strerror}", target=target
            ) from error
    return None


def retrying() -> Any:
    """Return what a session repeats: what was throttled or got no answer, by every method."""
    from urllib3.util import Retry

    return Retry(
        total=RETRIES,
        allowed_methods=None,
        status_forcelist=_REPEATED,
        backoff_factor=0.2,
        backoff_max=10,
        raise_on_status=False,
    )


class Gcs:
    """Cloud Storage with the credentials of a target; safe with many threads."""

    def __init__(self, settings: VertexSettings, *, target: str, connections: int) -> None:
        """Find the credentials.

        Args:
            settings: The target's section.
            target: For messages.
            connections: How many are kept.

        Raises:
            PermissionDenied: There are no credentials.
        """
        self.address = address_of(settings)
        self.bucket = settings.bucket
        self.credentials: Any = None
        self._target = target
        with translated(f"bucket {settings.bucket!r}", target=target):
            self._session = self._make(connections)

    def _make(self, connections: int) -> Any:
        import requests

        from cloudreg_vertex.connections import mounted

        if self.address is None:
            import google.auth
            from google.auth.transport.requests import AuthorizedSession

            self.credentials, _ = google.auth.default(scopes=SCOPES)
            session: Any = AuthorizedSession(self.credentials)
        else:
            session = requests.Session()
        return mounted(session, connections=connections, retries=retrying())

    def json(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a request of the JSON API and return its document.

        Args:
            method: Of HTTP.
            path: Below ``/storage/v1/``.
            what: For messages.
            body: A document.
            params: Of the query.
        """
        url = f"{self.address or HOST}/storage/v1/{path}"
        answer = self._send(method, url, what=what, params=params, json=body)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def xml(
        self,
        method: str,
        name: str,
        *,
        what: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request of the XML API and return the answer.

        Args:
            method: Of HTTP.
            name: The object's; "" for the bucket.
            what: For messages.
            headers: Of the request.
            data: Its body.
            params: Of the query.
        """
        url = f"{self.address or HOST}/{self.bucket}/{quote(name, safe='~')}"
        return self._send(
            method,
            url if name else url.rstrip("/"),
            what=what,
            params=params,
            headers=headers,
            data=data,
        )

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def _send(self, method: str, url: str, *, what: str, **rest: Any) -> Any:
        with translated(what, target=self._target):
            answer = self._session.request(method, url, timeout=_TIMEOUT, **rest)
        if answer.status_code >= 400:
            raise refused(answer, what, target=self._target)
        return answer


def refused(answer: Any, what: str, *, target: str) -> CloudregError:
    """Return our error for an answer of Cloud Storage."""
    code, message = _said(answer)
    kind = _CODES.get(code) or _STATUSES.get(answer.status_code)
    if kind is None:
        kind = InvalidRequest if answer.status_code < 500 else Unavailable
    hint = _LOGIN if kind is PermissionDenied else None
    if code in _OTHERS:
        message = f"another process finishes or gives up its upload at this moment ({code})"
        hint = "try again"
    return kind(f"{what}: {message}", target=target, hint=hint)


def _said(answer: Any) -> tuple[str, str]:
    """Return code and sentence of an error, of whichever API."""
    try:
        error = answer.json()["error"]
        return str(error["errors"][0]["reason"]), str(error["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        pass
    code, message = _CODE.search(answer.text), _MESSAGE.search(answer.text)
    sentence = unescape(message[1]) if message else f"{answer.status_code} {answer.reason}"
    return code[1] if code else "", sentence


def object_path(bucket: str, name: str) -> str:
    """Return the path of an object in the JSON API."""
    return f"b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
