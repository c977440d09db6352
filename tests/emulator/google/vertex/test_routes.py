"""What the emulator reads out of the SDK, and relies on."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import proto
import pytest

from cloudreg_emulator.google.emulator import Google
from cloudreg_emulator.google.vertex import protos, routes

SERVICES = ("ModelService", "EndpointService", "PredictionService", "JobService")


STREAMED = {
    "StreamDirectPredict",
    "StreamDirectRawPredict",
    "StreamingPredict",
    "StreamingRawPredict",
}
"""What streams in both directions has no route over REST."""

STUB = re.compile(
    r'"(/google\.cloud\.aiplatform\.[\w.]+/\w+)",\s+request_serializer=([\w.]+)\.serialize'
)


def stubs(version: str, service: str) -> dict[str, str]:
    """Return the methods that the SDK's gRPC transport of a service calls, and their requests."""
    name = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", service).lower()
    package = f"google.cloud.aiplatform_{version}.services.{name}.transports.grpc"
    source = inspect.getsource(importlib.import_module(package))
    return {path: kind.rpartition(".")[2] for path, kind in STUB.findall(source)}


@pytest.mark.parametrize("version", protos.VERSIONS)
@pytest.mark.parametrize("service", SERVICES)
def test_every_method_is_known(version: str, service: str) -> None:
    """Every method that the SDK calls over gRPC is a known RPC, with the request that it sends."""
    called = {
        path: kind
        for path, kind in stubs(version, service).items()
        if path.rpartition("/")[2] not in STREAMED
    }

    known = {
        path: rpc.request.DESCRIPTOR.name
        for path, rpc in routes.rpcs(version).items()
        if rpc.service == service
    }

    assert len(called) > 5
    assert known == called


def messages(version: str) -> Iterator[Any]:
    types = protos.package(version).types
    for name in types.__all__:
        kind = getattr(types, name)
        if isinstance(kind, type) and issubclass(kind, proto.Message):
            yield from below(kind.pb(kind()).DESCRIPTOR)


def below(descriptor: Any) -> Iterator[Any]:
    yield descriptor
    for nested in descriptor.nested_types:
        yield from below(nested)


WORDS = ("Model", "Endpoint", "Deploy", "Predict", "Resources", "Machine", "Probe", "Autoscal")


def test_both_versions_have_the_same_numbers() -> None:
    """A message of one version reads as the other's: no number means two things."""
    fields = {
        (kind.full_name.replace(".v1beta1.", ".v1."), field.number): field
        for kind in messages("v1beta1")
        for field in kind.fields
    }
    clashes = []
    for kind in messages("v1"):
        if any(word in kind.name for word in WORDS):
            for field in kind.fields:
                other = fields.get((kind.full_name, field.number))
                if other is not None and (other.name, other.type) != (field.name, field.type):
                    clashes.append(field.full_name)

    assert clashes == []


def test_what_one_version_does_not_know_is_kept() -> None:
    """A field of v1beta1 alone survives where everything is kept as v1."""
    resources = protos.message("DedicatedResources", "v1beta1")(max_replica_count=2)
    resources.scale_to_zero_spec.min_scaleup_period.seconds = 300

    kept = protos.as_version(resources, "v1")
    back = protos.as_version(kept, "v1beta1")

    assert type(kept) is protos.message("DedicatedResources")
    assert kept.max_replica_count == 2
    assert back == resources


def test_handlers_are_of_the_api() -> None:
    """Every handler answers an RPC that there is."""
    names = {(rpc.service, rpc.name) for rpc in routes.rpcs("v1").values()}
    with Google() as emulator:
        answered = set(emulator.api.answered)

    assert {one for one in answered if one[0] in (*SERVICES, "Operations", "Locations")} <= names
    assert ("ModelService", "UploadModel") in answered
