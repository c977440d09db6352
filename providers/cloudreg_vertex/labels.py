"""What a version says of itself in Vertex AI's labels and aliases; pure.

A label has 63 characters of ``[a-z0-9_-]``, and a SHA-256 in hexadecimal has 64. So the digest is
written in base32 (RFC 4648), in lower case and without padding: 52 characters.

Source: https://cloud.google.com/resource-manager/docs/labels-overview
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping

from cloudreg.errors import InvalidRequest
from cloudreg.names import check_digest, check_stage
from cloudreg.types import ModelVersion

MODEL = "cloudreg"
"""The label that says: cloudreg made this. Its value is the model."""

NUMBER = "cloudreg-number"
DIGEST = "cloudreg-digest"
COMMIT = "cloudreg-commit"

_NUMBER_ALIAS = re.compile(r"v[0-9]+")
_RESERVED = "default"
_ANYTHING_ELSE = re.compile(r"[^a-z0-9_-]")


def encoded(digest: str) -> str:
    """Return the label's text for a digest."""
    raw = bytes.fromhex(check_digest(digest).removeprefix("sha256:"))
    return base64.b32encode(raw).decode().rstrip("=").lower()


def decoded(text: str) -> str | None:
    """Return the digest that a label's text stands for; None where it stands for none."""
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return None
    return f"sha256:{raw.hex()}" if len(raw) == 32 else None


def of_version(version: ModelVersion) -> dict[str, str]:
    """Return the labels of a version."""
    labels = {
        MODEL: version.model,
        NUMBER: str(version.number),
        DIGEST: encoded(version.digest),
    }
    lineage = version.manifest.lineage
    commit = lineage.git_commit if lineage is not None else None
    if commit:
        labels[COMMIT] = _ANYTHING_ELSE.sub("-", commit.lower())[:63]
    return labels


def identity(labels: Mapping[str, str]) -> tuple[str, int, str] | None:
    """Return model, number and digest that labels tell; None where cloudreg did not write them."""
    digest = decoded(labels.get(DIGEST, ""))
    number = labels.get(NUMBER, "")
    model = labels.get(MODEL)
    if digest is None or model is None or not number.isdecimal():
        return None
    return model, int(number), digest


def alias(number: int) -> str:
    """Return the alias under which people find a version by cloudreg's number of it."""
    return f"v{number}"


def check_alias(stage: str, *, target: str) -> str:
    """Return *stage* if a version alias can say it.

    Raises:
        InvalidRequest: It is ``default``, which Vertex AI moves by itself, or a number's alias.
    """
    check_stage(stage)
    if stage == _RESERVED or _NUMBER_ALIAS.fullmatch(stage):
        raise InvalidRequest(
            f"stage {stage!r} cannot be shown on Vertex AI, where that alias means something else",
            target=target,
            hint="another name for the stage",
        )
    return stage


def stages(aliases: Iterable[str]) -> tuple[str, ...]:
    """Return the stages among a version's aliases, sorted: aliases have no order there."""
    return tuple(sorted(a for a in aliases if a != _RESERVED and not _NUMBER_ALIAS.fullmatch(a)))
