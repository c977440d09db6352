"""What Storage Transfer Service refuses of a transfer's specification.

Sources: https://cloud.google.com/storage-transfer/docs/reference/rest/v1/TransferSpec,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/ObjectConditions
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from cloudreg_emulator.google.vertex.refusals import Refused

__all__ = ["check_spec", "invalid", "only"]

MAX_PREFIXES = 1000
MAX_PREFIX = 1024
"""Bytes of one."""

_OVERWRITES = ("DIFFERENT", "NEVER", "ALWAYS")
_SINK = {"bucketName", "path"}
_FIELDS: Mapping[str, set[str]] = {
    "transferSpec": {
        *("gcsDataSink", "gcsDataSource", "awsS3DataSource"),
        *("objectConditions", "transferOptions"),
    },
    "gcsDataSink": _SINK,
    "gcsDataSource": _SINK,
    "awsS3DataSource": {*_SINK, "roleArn"},
    "objectConditions": {"includePrefixes", "excludePrefixes"},
    "transferOptions": {"overwriteWhen"},
}
"""What is emulated of each message; the rest of Google's fields is refused as not emulated."""


def check_spec(spec: Any) -> None:
    """Refuse a TransferSpec that the service would refuse, or that is not emulated."""
    if not isinstance(spec, dict):
        raise invalid("transferSpec is required.")
    only(spec, _FIELDS["transferSpec"], "transferSpec")
    for name, value in spec.items():
        if not isinstance(value, dict):
            raise invalid(f"transferSpec.{name} must be a message.")
        only(value, _FIELDS[name], name)
    sources = [name for name in ("gcsDataSource", "awsS3DataSource") if name in spec]
    if "gcsDataSink" not in spec or len(sources) != 1:
        raise invalid("transferSpec needs one source and one sink.")
    for name in ("gcsDataSink", *sources):
        _check_place(name, spec[name])
    if sources == ["awsS3DataSource"] and not spec["awsS3DataSource"].get("roleArn"):
        raise invalid("awsS3DataSource needs credentials: roleArn is what is emulated.")
    if spec.get("transferOptions", {}).get("overwriteWhen", "NEVER") not in _OVERWRITES:
        raise invalid(f"overwriteWhen must be one of {', '.join(_OVERWRITES)}.")
    for name, prefixes in spec.get("objectConditions", {}).items():
        _check_prefixes(name, prefixes)


def _check_place(name: str, place: Mapping[str, Any]) -> None:
    if not place.get("bucketName"):
        raise invalid(f"{name}.bucketName is required.")
    path = place.get("path", "")
    if path and (not path.endswith("/") or path.startswith("/")):
        raise invalid(f"{name}.path must be empty or end with '/', and not begin with it.")


def _check_prefixes(name: str, prefixes: Any) -> None:
    if not isinstance(prefixes, list) or len(prefixes) > MAX_PREFIXES:
        raise invalid(f"{name}: a list of {MAX_PREFIXES} at most.")
    for prefix in prefixes:
        if not prefix or "\n" in prefix or "\r" in prefix or len(prefix.encode()) > MAX_PREFIX:
            raise invalid(f"{name}: {prefix!r} is invalid.")
        if prefix.startswith("/"):
            raise invalid(f"{name}: {prefix!r} must omit the leading slash.")
    ordered = sorted(prefixes)
    for one, other in pairwise(ordered):
        if other.startswith(one):
            raise invalid(f"{name}: {one!r} is a prefix of {other!r}.")


def only(asked: Mapping[str, Any], known: set[str], what: str) -> None:
    """Refuse fields that are none."""
    unknown = sorted(set(asked) - known)
    if unknown:
        raise invalid(
            f"Invalid JSON payload received. Unknown name \"{unknown[0]}\" at '{what}': "
            "Cannot find field."
        )


def invalid(message: str) -> Refused:
    """Return INVALID_ARGUMENT."""
    return Refused("INVALID_ARGUMENT", message)
