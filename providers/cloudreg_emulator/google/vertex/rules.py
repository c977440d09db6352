"""Rules that Vertex AI's resources share: labels, display names, ids, keys.

Sources: https://cloud.google.com/resource-manager/docs/labels-overview, the documentation of the
fields in the SDK's protos, and https://cloud.google.com/vertex-ai/docs/model-registry/model-alias
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from cloudreg_emulator.google.vertex.refusals import invalid

__all__ = [
    "DEFAULT",
    "check_aliases",
    "check_display_name",
    "check_key",
    "check_labels",
    "check_model_id",
    "required",
]

DEFAULT = "default"
"""The alias that exactly one version of a model has."""

MAX_LABELS = 64
MAX_DISPLAY_NAME = 128

# UploadModelRequest.model_id
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
# Model.version_aliases; the web page has small letters only, and in doubt this accepts.
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
# EncryptionSpec.kms_key_name
_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")


def required(field: str) -> Exception:
    """Return what is said of a field that is not there."""
    return invalid(field, "Required field is not set.")


def check_display_name(name: str, field: str) -> None:
    """Refuse a display name that is empty or too long.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if not name:
        raise required(field)
    if len(name) > MAX_DISPLAY_NAME:
        raise invalid(field, f"The display name has more than {MAX_DISPLAY_NAME} characters.")


def check_model_id(name: str, field: str) -> None:
    """Refuse an id that no model can have.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if not _MODEL_ID.fullmatch(name):
        raise invalid(field, f"Model ID {name!r} must match {_MODEL_ID.pattern}.")


def check_aliases(aliases: Iterable[str], field: str) -> None:
    """Refuse what cannot be an alias of a version.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise invalid(field, f"Version alias {alias!r} must match {_ALIAS.pattern}.")


def check_labels(labels: Mapping[str, str], field: str) -> None:
    """Refuse labels that Google Cloud has not.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if len(labels) > MAX_LABELS:
        raise invalid(field, f"No more than {MAX_LABELS} labels are allowed.")
    for key, value in labels.items():
        if not (1 <= len(key) <= 63 and _letter(key[0]) and all(map(_labelled, key))):
            raise invalid(field, f"Invalid label key {key!r}.")
        if not (len(value) <= 63 and all(map(_labelled, value))):
            raise invalid(field, f"Invalid label value {value!r}.")


def check_key(name: str, region: str, field: str) -> None:
    """Refuse a key of Cloud KMS that is none, or that is elsewhere.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if not name:
        return
    found = _KEY.fullmatch(name)
    if found is None:
        raise invalid(field, f"Invalid Cloud KMS key {name!r}.")
    if found.group(1) != region:
        # "The key needs to be in the same region as where the compute resource is created."
        raise invalid(field, f"The Cloud KMS key {name!r} is not in {region}.")


def _letter(char: str) -> bool:
    # Small letters, and letters of scripts that have no case.
    return unicodedata.category(char) in ("Ll", "Lo")


def _labelled(char: str) -> bool:
    return _letter(char) or char in "_-" or unicodedata.category(char) in ("Nd", "Mn", "Mc")
