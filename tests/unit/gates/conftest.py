"""Versions and contexts for gates, and a server that is a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloudreg.gates import GateContext
from cloudreg.names import canonical_json
from cloudreg.types import FileEntry, GateResult, Manifest, ModelVersion

Versions = Callable[..., ModelVersion]


def make_version(number: int = 7, **parts: Any) -> ModelVersion:
    manifest = Manifest(files=(FileEntry(path="w", size=1, sha256="0" * 64),), **parts)
    return ModelVersion(
        model="churn",
        number=number,
        digest=manifest.digest,
        manifest=manifest,
        author="ann",
        created_at="2026-01-01T00:00:00Z",
    )


@dataclass
class Serving:
    """Serves every version by calling *answer*, and remembers what it was asked."""

    answer: Callable[[Any], Any]
    served: list[ModelVersion] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    running: int = 0

    def predict(self, instances: Sequence[Any]) -> list[Any]:
        assert self.running == 1
        self.batches.append(len(instances))
        return [self.answer(instance) for instance in instances]

    @contextmanager
    def __call__(self, version: ModelVersion) -> Iterator[Serving]:
        self.served.append(version)
        self.running += 1
        try:
            yield self
        finally:
            self.running -= 1


@pytest.fixture
def version() -> Versions:
    """Return a version of churn with these parts of a manifest."""
    return make_version


@pytest.fixture
def serving() -> type[Serving]:
    """A server that is a function."""
    return Serving


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., GateResult]:
    """Let a gate look at a candidate that wants to enter staging."""

    def run(gate: Any, candidate: ModelVersion, **context: Any) -> GateResult:
        context = {
            "stage": "staging",
            "order": ("dev", "staging", "prod"),
            "held": frozenset({"dev"}),
            "holder": None,
            "root": tmp_path,
            "serve": Serving(lambda instance: instance),
            "read": lambda file, offset, length: b"",
            "waivers": (),
            "today": "2026-01-01",
            **context,
        }
        result: GateResult = gate.check(GateContext(version=candidate, **context))
        assert result.gate == gate.kind
        assert result.reason
        # The ledger takes the result, or the promotion could not be recorded.
        canonical_json(result.to_json())
        return result

    return run
