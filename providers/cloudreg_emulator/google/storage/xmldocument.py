"""What requests of the XML API say in headers, and its documents.

Source: https://cloud.google.com/storage/docs/xml-api/reference-headers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudreg_emulator.google.http import Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
"""The service's own documents have it, and its clients look for it."""

_META = "x-goog-meta-"
_FIELDS = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-disposition": "contentDisposition",
    "content-language": "contentLanguage",
    "cache-control": "cacheControl",
    "x-goog-storage-class": "storageClass",
    "x-goog-custom-time": "customTime",
}


def fields_of(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an object that the headers of its upload tell."""
    found: dict[str, Any] = {
        ours: headers[theirs] for theirs, ours in _FIELDS.items() if theirs in headers
    }
    metadata = {
        name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)
    }
    if metadata:
        found["metadata"] = metadata
    return found


def kms_key_of(headers: Mapping[str, str]) -> str | None:
    """Return the key that an upload asks for."""
    return headers.get("x-goog-encryption-kms-key-name")


def xml(text: str, **headers: str) -> Response:
    """Return a document."""
    return Response(
        headers={"Content-Type": "application/xml; charset=UTF-8", **headers},
        body=f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode(),
    )
