"""Names, references and canonical JSON: the grammar that everything else is written in.

The rules are the intersection of what the supported registries accept, so that a name that is
right here is right everywhere:

* SageMaker groups and endpoints: ``[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}``
  (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackageGroup.html)
* Vertex model ids: ``[a-z0-9_-]{1,63}``, not starting with a digit or hyphen; aliases: at least
  two characters of ``[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]``
  (https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.models)
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from cloudreg.errors import InvalidRequest

MAX_MODEL = 40
MAX_STAGE = 20
MAX_ENDPOINT = 63
MAX_KEY = 1024
"""Bytes of the longest key that every supported store takes."""

_SLUG = re.compile(r"[a-z](?:-?[a-z0-9])*")
_TARGET = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHORT_DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def canonical_json(value: Any) -> bytes:
    """Return the one encoding of *value* that digests are taken of.

    Sorted keys, no white space, UTF-8, no NaN or infinity.

    Raises:
        InvalidRequest: The value holds something that JSON has no word for.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        # Another key than text would become text, and sort elsewhere once it was read back.
        _check_keys(value)
        return text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"not plain JSON: {error}") from error


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)


def sha256(data: bytes) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def short(digest: str) -> str:
    """Return the part of *digest* that people compare by eye."""
    return digest[:19]


def check_model(name: str) -> str:
    """Return *name* if it can name a model on every target.

    Raises:
        InvalidRequest: Otherwise, with the rule.
    """
    return _check_slug(name, "model", MAX_MODEL)


def check_stage(name: str) -> str:
    """Return *name* if it can name a stage on every target."""
    if len(name) == 1:
        raise InvalidRequest(f"stage name {name!r} is too short: two characters at least")
    return _check_slug(name, "stage", MAX_STAGE)


def check_endpoint(name: str) -> str:
    """Return *name* if it can name an endpoint on every target."""
    return _check_slug(name, "endpoint", MAX_ENDPOINT)


def check_variant(name: str) -> str:
    """Return *name* if it can name a variant of an endpoint on every target."""
    return _check_slug(name, "variant", MAX_STAGE)


def check_signer(name: str) -> str:
    """Return *name* if it can name a key; environment variables must be able to spell it."""
    if not _TARGET.fullmatch(name):
        raise InvalidRequest(
            f"key name {name!r}: a lower-case letter, then letters, digits or _ (40 at most)"
        )
    return name


def check_target(name: str) -> str:
    """Return *name* if it can name a target; environment variables must be able to spell it."""
    if not _TARGET.fullmatch(name):
        raise InvalidRequest(
            f"target name {name!r}: a lower-case letter, then letters, digits or _ (40 at most)"
        )
    return name


def _check_slug(name: str, what: str, limit: int) -> str:
    if not isinstance(name, str) or len(name) > limit or not _SLUG.fullmatch(name):
        shown = name if isinstance(name, str) and len(name) <= 80 else f"{str(name)[:80]}…"
        raise InvalidRequest(
            f"{what} name {shown!r}: lower-case letters, digits and single hyphens, "
            f"starting with a letter, not ending in a hyphen, at most {limit} characters"
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Which version is meant: exactly one of *number*, *stage* and *digest* is set.

    There is no implicit "latest".

    Attributes:
        model: The model's name.
        number: ``churn:7``.
        stage: ``churn@prod``, whatever version that stage points to now.
        digest: ``churn@sha256:…``; 8 digits or more, as long as they are unambiguous.
    """

    model: str
    number: int | None = None
    stage: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        """Refuse a reference that names no version, or two."""
        check_model(self.model)
        given = [x for x in (self.number, self.stage, self.digest) if x is not None]
        if len(given) != 1:
            raise InvalidRequest(f"a reference to {self.model} needs a number, a stage or a digest")
        if self.number is not None and not _NUMBER.fullmatch(str(self.number)):
            raise InvalidRequest(f"{self}: a version number is a whole number from 1")
        if self.stage is not None:
            check_stage(self.stage)
        if self.digest is not None and not _SHORT_DIGEST.fullmatch(self.digest):
            raise InvalidRequest(f"{str(self)!r}: a digest is sha256: and 8 to 64 of 0-9 and a-f")

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Read ``model:7``, ``model@stage`` or ``model@sha256:…``.

        Raises:
            InvalidRequest: Anything else, a bare model name included.
        """
        model, at, rest = text.partition("@")
        if at:
            if rest.startswith("sha256:"):
                return cls(model=check_model(model), digest=rest)
            return cls(model=check_model(model), stage=check_stage(rest))
        model, colon, rest = text.partition(":")
        if colon:
            if not _NUMBER.fullmatch(rest):
                raise InvalidRequest(f"{text!r}: a version number is a whole number from 1")
            return cls(model=check_model(model), number=int(rest))
        check_model(text)
        raise InvalidRequest(
            f"{text!r} names a model but no version",
            hint=f"{text}:1, {text}@prod or {text}@sha256:…",
        )

    def __str__(self) -> str:
        """Return the reference as it is typed."""
        if self.number is not None:
            return f"{self.model}:{self.number}"
        return f"{self.model}@{self.stage or self.digest}"


def check_digest(text: str) -> str:
    """Return *text* if it is a whole digest."""
    if not _DIGEST.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not sha256: and 64 hexadecimal digits")
    return text


def check_key(key: str) -> str:
    """Return *key*, if it is a relative path.

    Raises:
        InvalidRequest: Empty, too long, absolute, with ``.``, ``..`` or empty parts, NUL or
            backslash, or no Unicode text.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"key {key[:80]!r} is not Unicode text") from error
    parts = key.split("/")
    if not 1 <= size <= MAX_KEY or "\0" in key or "\\" in key or {"", ".", ".."} & set(parts):
        raise InvalidRequest(
            f"key {key[:80]!r}: a relative path of 1 to {MAX_KEY} bytes, "
            "without . or .. or empty parts, NUL or backslash"
        )
    return key
