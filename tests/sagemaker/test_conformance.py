"""The SageMaker provider is a provider; a stand-in answers in the containers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.provider import Provider
from cloudreg.testing.conformance import (
    CapabilityTests,
    EndpointTests,
    RegistryTests,
    ServingTests,
    make_version,
)
from cloudreg.types import ModelVersion


class SageMakerTests(ServingTests):
    """What the kit wants to know of a SageMaker target."""

    poll_interval_s = 0.03
    refused_question = b"this is no JSON"
    failing_question = b'{"status": 500, "log": "it hurts"}'
    slow_question = b'{"sleep_s": 1.0}'

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, usual: Provider) -> Provider:
        return usual

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> str:
        return "aws"

    @pytest.fixture(scope="class")
    @classmethod
    def reopen(cls, cloud: Any) -> Callable[[], Provider]:
        def again() -> Provider:
            made: Provider = cloud.open()
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


class TestRegistry(SageMakerTests, RegistryTests):
    """Model package groups and their packages."""


class TestEndpoints(SageMakerTests, EndpointTests):
    """Real-time endpoints."""


class TestCapabilities(SageMakerTests, CapabilityTests):
    """What is declared works, and the rest is refused."""
