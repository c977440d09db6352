"""Signed URLs, version 4: what was signed is put together again and checked.

A signature can be checked where the key is known (`Storage.keys`). Of others the form and the
expiry are checked: a URL that has ended, or never could be right, is refused in any case.

Sources: https://cloud.google.com/storage/docs/authentication/signatures and
https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

from cloudreg_emulator.google.http import Request
from cloudreg_emulator.google.storage.refusals import Refused

LONGEST_S = 7 * 24 * 3600
"""The longest life of a signed URL."""

SKEW_S = 15 * 60
"""How far in the future a URL may begin: clocks differ."""

_PARAMETERS = (
    "Algorithm",
    "Credential",
    "Date",
    "Expires",
    "SignedHeaders",
    "Signature",
)
_ALGORITHMS = ("GOOG4-RSA-SHA256", "GOOG4-HMAC-SHA256")
_SCOPE = re.compile(r"(.+)/(\d{8})/([^/]+)/storage/goog4_request")


class SigningKey(Protocol):
    """A key that tells whether it made a signature."""

    def made(self, signature: bytes, text: bytes, *, scope: str) -> bool:
        """Return whether *signature* is that of *text*."""
        ...


class RsaKey:
    """The public half of a service account's key."""

    def __init__(self, pem: str) -> None:
        """Read a public key in PEM."""
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        self._key = load_pem_public_key(pem.encode())

    def made(self, signature: bytes, text: bytes, *, scope: str) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.hashes import SHA256

        assert isinstance(self._key, RSAPublicKey)
        try:
            self._key.verify(signature, text, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


class HmacKey:
    """A secret that both sides have."""

    def __init__(self, secret: str) -> None:
        """Remember *secret*."""
        self._secret = secret

    def made(self, signature: bytes, text: bytes, *, scope: str) -> bool:
        key = f"GOOG4{self._secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, text, "sha256"), signature)


def is_signed(request: Request) -> bool:
    """Return whether a URL carries a signature."""
    return any(name.startswith("X-Goog-") for name in request.query)


def check(request: Request, keys: Mapping[str, SigningKey], *, now: float) -> None:
    """Refuse a signed URL that has ended, or is not what was signed.

    Raises:
        Refused: 400 for the form and the expiry, 403 for the signature.
    """
    told = {name: request.arg(f"X-Goog-{name}") or "" for name in _PARAMETERS}
    missing = [name for name, value in told.items() if not value]
    if missing:
        raise _malformed(f"X-Goog-{missing[0]} is missing")
    scope = _SCOPE.fullmatch(told["Credential"])
    if told["Algorithm"] not in _ALGORITHMS or scope is None:
        raise _malformed("X-Goog-Algorithm or X-Goog-Credential")
    begins = _moment(told["Date"])
    lasts = int(told["Expires"]) if told["Expires"].isdigit() else 0
    if not 1 <= lasts <= LONGEST_S:
        raise _malformed(f"X-Goog-Expires must be between 1 and {LONGEST_S}")
    if scope[2] != told["Date"][:8] or "host" not in told["SignedHeaders"].split(";"):
        raise _malformed("the date of X-Goog-Credential, or host in X-Goog-SignedHeaders")
    if now < begins - SKEW_S:
        raise _malformed("X-Goog-Date is in the future")
    if now > begins + lasts:
        raise Refused(400, "invalid", "The provided token has expired.", code="ExpiredToken")
    try:
        signature = bytes.fromhex(told["Signature"])
    except ValueError as error:
        raise _malformed("X-Goog-Signature") from error
    key = keys.get(scope[1])
    inner = told["Credential"][len(scope[1]) + 1 :]
    if key is None:
        return
    if not key.made(signature, signed_text(request, told, inner), scope=inner):
        raise Refused(
            403,
            "forbidden",
            "The request signature we calculated does not match the signature you provided. "
            "Check your Google secret key and signing method.",
            code="SignatureDoesNotMatch",
        )


def signed_text(request: Request, told: Mapping[str, str], scope: str) -> bytes:
    """Return what the signature of a request must be of."""
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, values in request.query.items()
        if name != "X-Goog-Signature"
        for value in values
    )
    names = told["SignedHeaders"].split(";")
    headers = {**request.headers, "host": request.host}
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in names]
    canonical = "\n".join(
        (
            request.method,
            request.path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *lines,
            "",
            told["SignedHeaders"],
            request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return "\n".join((told["Algorithm"], told["Date"], scope, digest)).encode()


def _moment(text: str) -> float:
    try:
        found = datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ")
    except ValueError as error:
        raise _malformed("X-Goog-Date") from error
    return found.replace(tzinfo=datetime.UTC).timestamp()


def _malformed(what: str) -> Refused:
    return Refused(
        400,
        "invalid",
        f"Invalid signed URL: {what}.",
        code="InvalidArgument",
    )
