"""Names of what an endpoint is made of: a digest says what it is, the rest whose it is; pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from cloudreg.names import canonical_json

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def config_stem(endpoint: str) -> str:
    """Return how the names of an endpoint's configurations begin."""
    return endpoint[:40].rstrip("-")


def is_config_name(name: str, endpoint: str) -> bool:
    """Whether a configuration has a name that one of *endpoint* would have."""
    return re.fullmatch(f"{config_stem(endpoint)}-[0-9a-f]{{12}}-[0-9a-f]{{8}}", name) is not None


def owner_of(endpoint: str) -> str:
    """Return what names of an endpoint's models have in common: a listing finds them by it."""
    return word_of(endpoint, 3)


def is_model_name(name: str, endpoint: str) -> bool:
    """Whether a model has a name that one of *endpoint* would have; it may be another's."""
    return re.fullmatch(f".+-[1-9][0-9]*-{owner_of(endpoint)}[0-9a-z]{{9}}", name) is not None


def word_of(document: Any, length: int) -> str:
    """Return a digest in letters that names may have."""
    number, letters = int(digest_of(document), 16), ""
    for _ in range(length):
        number, place = divmod(number, len(_LETTERS))
        letters += _LETTERS[place]
    return letters


def digest_of(document: Any) -> str:
    """Return a digest of JSON data, in hexadecimal."""
    return hashlib.sha256(canonical_json(document)).hexdigest()
