"""Rollouts under load: not one request is lost at any step, by an abort, or by a rollback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cloudreg.errors import RolloutAborted
from cloudreg.operations import poll_until
from cloudreg.testing.traffic import SteadyTraffic

STEPS = """
[endpoints.ENDPOINT.rollout]
strategy = "linear"
steps = [20, 60, 100]
bake_s = {bake_s}
max_error_rate = 0.0
min_requests = 1
"""
KEYS = 7


@pytest.mark.parametrize(
    ("provider", "bake_s", "requests"),
    [
        ("local", 2.0, 60),
        pytest.param("local", 3.0, 1000, marks=pytest.mark.slow),
        pytest.param("sagemaker", 3.0, 600, marks=pytest.mark.slow),
        pytest.param("vertex", 3.0, 600, marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(550)
def test_no_request_is_lost(
    places: Any, capsys: pytest.CaptureFixture[str], provider: str, bake_s: float, requests: int
) -> None:
    """A steady rate of requests is answered through a rollout, an abort and a rollback."""
    place = places(provider)
    place.configure(STEPS.format(bake_s=bake_s))
    ws, other = place.open(), place.open("bob")
    place.register(ws, 3)
    ws.promote(f"{place.model}:1", to="prod")
    turn = iter(range(10**9))

    def ask() -> int:
        number = next(turn)
        # Vertex AI asks no single variant, so that nobody can have one by a key.
        by_key = provider != "vertex" and number % 3 == 0
        return place.asked(ws, key=f"user-{number % KEYS}" if by_key else None)

    def percent() -> int | None:
        intent = other.fold(place.model).open
        return intent.progress.get("percent") if intent is not None else None

    parts: dict[str, int] = {}
    with SteadyTraffic(ask) as traffic, ThreadPoolExecutor(1) as pool:
        traffic.flow(requests, timeout_s=200)
        parts["before"] = _sent(traffic)
        ws.promote(f"{place.model}:2", to="prod")
        parts["rollout"] = _sent(traffic)
        rolling = pool.submit(ws.promote, f"{place.model}:3", to="prod")
        assert poll_until(percent, lambda p: p in (20, 60), timeout_s=200, interval_s=0.02)
        other.abort(place.model)
        with pytest.raises(RolloutAborted, match="somebody asked for it"):
            rolling.result(200)
        parts["abort"] = _sent(traffic)
        ws.rollback(place.model, stage="prod")
        parts["rollback"] = _sent(traffic)
        traffic.flow(requests, timeout_s=200)

    shown = ", ".join(f"{sent} until after the {name}" for name, sent in parts.items())
    with capsys.disabled():
        print(
            f"\n{provider}: {traffic.answers.total()} requests answered ({shown}), "
            f"{len(traffic.failures)} failed"
        )
    assert traffic.failures == []
    assert {1, 2} <= set(traffic.answers)
    assert place.asked(ws) == 1
    assert ws.drift(place.model) == []


def _sent(traffic: SteadyTraffic) -> int:
    return traffic.answers.total() + len(traffic.failures)
