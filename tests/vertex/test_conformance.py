"""The Vertex AI provider is a provider; a stand-in answers in the containers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from cloudreg.provider import Provider
from cloudreg.testing.conformance import (
    CapabilityTests,
    EndpointTests,
    RegistryTests,
    ServingTests,
    make_version,
)
from cloudreg.types import CustomMetric, ModelVersion


class VertexTests(ServingTests):
    """What the kit wants to know of a Vertex AI target."""

    poll_interval_s = 0.03
    refused_question = b"this is no JSON"
    failing_question = b'{"status": 500, "log": "it hurts"}'
    slow_question = b'{"sleep_s": 1.0}'
    silent_metric = CustomMetric(
        name="kit",
        source="cloud_monitoring",
        query={"metric": "custom.googleapis.com/kit/nobody_counts_it"},
        max=1.0,
    )
    section: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, cloud: Any) -> Provider:
        made: Provider = cloud.open(**cls.section)
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> str:
        return "gcp"

    @pytest.fixture(scope="class")
    @classmethod
    def reopen(cls, cloud: Any) -> Callable[[], Provider]:
        def again() -> Provider:
            made: Provider = cloud.open(**cls.section)
            return made

        return again

    @pytest.fixture(scope="class")
    @classmethod
    def servable(cls, provider: Provider) -> Callable[..., ModelVersion]:
        def make(number: int, *, broken: bool = False) -> ModelVersion:
            text = "crash 4" if broken else f"weights of {number}"
            return make_version(provider.store, number, **{"weights.txt": text.encode()})

        return make

    @classmethod
    def answered_by(cls, answer: bytes) -> int:
        number = json.loads(answer)["number"]
        assert isinstance(number, int)
        return number


class TestRegistry(VertexTests, RegistryTests):
    """Models, versions and aliases."""


class TestEndpoints(VertexTests, EndpointTests):
    """Online endpoints."""


class TestCapabilities(VertexTests, CapabilityTests):
    """What is declared works, and the rest is refused."""


class TestRegistryOverGrpc(TestRegistry):
    """The same, over gRPC."""

    section: ClassVar[dict[str, Any]] = {"transport": "grpc"}


@pytest.mark.slow
class TestEndpointsOverGrpc(TestEndpoints):
    """The same, over gRPC."""

    section: ClassVar[dict[str, Any]] = {"transport": "grpc"}


@pytest.mark.slow
class TestCapabilitiesOverGrpc(TestCapabilities):
    """The same, over gRPC."""

    section: ClassVar[dict[str, Any]] = {"transport": "grpc"}
