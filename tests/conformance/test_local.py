"""The local provider is a provider; a stand-in answers in the place of the model server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloudreg.provider import Provider, ProviderContext
from cloudreg.testing.conformance import (
    CapabilityTests,
    ProviderTests,
    ServingTests,
    make_version,
)
from cloudreg.types import CustomMetric, ModelVersion
from cloudreg_local import PLUGIN

STANDIN = Path(__file__).parents[1] / "unit" / "local" / "standin.py"


def opened(root: Path, **settings: Any) -> Provider:
    settings["server_command"] = [sys.executable, "-I", "-S", str(STANDIN)]
    made = PLUGIN.settings()(**settings)
    return PLUGIN.open(made, ProviderContext(target="laptop", root=root))


class LocalTests(ServingTests):
    """What the kit wants to know of a local target."""

    poll_interval_s = 0.05
    refused_question = b"this is no JSON"
    failing_question = b'{"status": 500, "log": "it hurts"}'
    slow_question = b'{"sleep_s": 1.0}'
    silent_metric = CustomMetric(
        name="kit", source="server", query={"metric": "kit_nobody_counts_it"}, max=1.0
    )
    settings: Mapping[str, Any] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("local")

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, root: Path) -> Iterator[Provider]:
        made = opened(root, **cls.settings)
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> str:
        return "laptop"

    @pytest.fixture(scope="class")
    @classmethod
    def reopen(cls, root: Path) -> Callable[[], Provider]:
        return partial(opened, root, **cls.settings)

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


class TestLocal(LocalTests, ProviderTests):
    """A target as it is without settings."""

    listed_objects = 200  # a folder has no pages


@pytest.mark.slow
class TestEmulatedAccelerators(LocalTests, CapabilityTests):
    """A target that takes every GPU class and serves on the CPU."""

    settings: Mapping[str, Any] = {"emulate_accelerators": True}
