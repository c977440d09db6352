"""Requests with a key: who is asked, and what happens when that variant is no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

import pytest

from cloudreg.errors import NotFound
from cloudreg.live import LiveEndpoint
from cloudreg.splitting import Split
from cloudreg.types import Endpoint, EndpointSpec, EndpointStatus, Variant

DIGEST = "sha256:" + "0" * 64


def endpoint(**weights: int) -> Endpoint:
    variants = tuple(
        Variant(name=name, model="churn", number=1, digest=DIGEST, weight=weight)
        for name, weight in weights.items()
    )
    return Endpoint(
        spec=EndpointSpec(name="live", stage="prod", variants=variants), status=EndpointStatus.READY
    )


class Backend:
    """An endpoint whose variants come and go."""

    def __init__(self, *shown: Endpoint) -> None:
        self.shown = list(shown)
        self.there = {"primary", "canary"}
        self.asked: list[str | None] = []

    def endpoint(self, name: str) -> Endpoint:
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]

    def invoke(self, name: str, body: bytes, *, variant: str | None, **how: Any) -> bytes:
        self.asked.append(variant)
        if variant is not None and variant not in self.there:
            raise NotFound(f"no variant {variant}")
        return b'{"predictions": [1]}'

    def stream(
        self, name: str, body: bytes, *, variant: str | None, **how: Any
    ) -> Generator[bytes, None, None]:
        yield self.invoke(name, body, variant=variant) + b"\n"
        yield b'{"predictions": [2]}\n'


def test_weights_are_believed_for_a_while() -> None:
    """The endpoint is described once in ten seconds, however many requests there are."""
    now = [100.0]
    described: list[int] = []

    def describe() -> Endpoint:
        described.append(1)
        return endpoint(primary=100)

    split = Split(describe, fresh_s=10.0, clock=lambda: now[0])
    for _ in range(5):
        assert split.variant("user") == "primary"
    assert len(described) == 1
    now[0] += 10.0
    split.variant("user")
    split.forget()
    split.variant("user")
    assert len(described) == 3


@pytest.mark.parametrize("way", ["predict", "stream"])
@pytest.mark.parametrize(
    ("after", "asked"),
    [
        (endpoint(primary=100), ["canary", "primary"]),
        # What is shown may be older than what answers: then whoever has the traffic does.
        (endpoint(primary=0, canary=100), ["canary", "canary", None]),
    ],
)
def test_variant_that_went(
    way: str, after: Endpoint, asked: list[str | None], calls: Callable[[Any, str], Any]
) -> None:
    """A variant that is gone is looked for anew, and then whoever has the traffic is asked."""
    backend = Backend(endpoint(primary=0, canary=100), after)
    backend.there = {"primary"}
    live = LiveEndpoint(backend, "live", target="here")  # type: ignore[arg-type]

    assert calls(live, way) in ([1], [[1], [2]])
    assert backend.asked == asked


@pytest.fixture
def calls() -> Callable[[Any, str], Any]:
    def call(live: LiveEndpoint, way: str) -> Any:
        if way == "predict":
            return live.predict([0], key="user")
        return list(live.stream([0], key="user"))

    return call


def test_variant_that_never_was() -> None:
    """Who names a variant is told that it is not there, and nobody else is asked."""
    backend = Backend(endpoint(primary=100))
    live = LiveEndpoint(backend, "live", target="here")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        live.invoke(b"{}", variant="third")
    assert backend.asked == ["third"]
    assert json.loads(live.invoke(b"{}")) == {"predictions": [1]}
