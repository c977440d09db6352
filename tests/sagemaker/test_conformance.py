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
    StoreTests,
    make_version,
)
from cloudreg.types import CustomMetric, ModelVersion


class SageMakerTests(ServingTests):
    """What the kit wants to know of a SageMaker target."""

    poll_interval_s = 0.03
    refused_question = b"this is no JSON"
    failing_question = b'{"status": 500, "log": "it hurts"}'
    slow_question = b'{"sleep_s": 1.0}'
    silent_metric = CustomMetric(
        name="kit",
        source="cloudwatch",
        query={"namespace": "Kit", "metric": "NobodyCountsIt"},
        max=1.0,
    )

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


def asked(*ways: Any) -> pytest.MarkDecorator:
    """Run a class over HTTP, or with boto3 answered in this process."""
    return pytest.mark.parametrize("in_process", ways, indirect=True, scope="module")


HTTP = pytest.param(False, id="http")
IN_PROCESS = pytest.param(True, id="in-process")
SLOWLY = pytest.param(True, id="in-process", marks=pytest.mark.slow)


# Over HTTP in test_store.py.
@asked(SLOWLY)
class TestStore(SageMakerTests, StoreTests):
    """The bucket."""


@asked(HTTP, IN_PROCESS)
class TestRegistry(SageMakerTests, RegistryTests):
    """Model package groups and their packages."""


@asked(HTTP, SLOWLY)
class TestEndpoints(SageMakerTests, EndpointTests):
    """Real-time endpoints."""


@asked(HTTP, SLOWLY)
class TestCapabilities(SageMakerTests, CapabilityTests):
    """What is declared works, and the rest is refused."""
