"""Endpoints that are only asked about: what a capability accepts, and how it refuses."""

from __future__ import annotations

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import Unsupported
from cloudreg.testing.serving import spec
from cloudreg.types import EndpointSpec, FileEntry, Manifest, ModelVersion, Variant

VERSION = ModelVersion(
    model="kit",
    number=1,
    digest=Manifest(files=(FileEntry(path="w", size=0, sha256="0" * 64),)).digest,
    manifest=Manifest(files=(FileEntry(path="w", size=0, sha256="0" * 64),)),
    author="conformance kit",
    created_at="2026-01-01T00:00:00Z",
)
"""A version that is planned with, and never deployed."""


def planned(*variants: Variant) -> EndpointSpec:
    """Return an endpoint that is only asked about."""
    return spec("kit-planned", *variants)


def refused(able: Capabilities, field: str, wanted: EndpointSpec, *, target: str) -> Unsupported:
    """Return the refusal of *wanted*; it names target, endpoint and the reason for *field*."""
    with pytest.raises(Unsupported) as caught:
        able.require(wanted, target=target)
    assert caught.value.target == target
    assert wanted.name in caught.value.message
    assert able.reasons.get(field, "") in caught.value.message
    return caught.value
