"""A rollout that other processes look at, pause, take up and undo, on each provider."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloudreg.operations import poll_until

SLOWLY = """
[endpoints.ENDPOINT.rollout]
strategy = "canary"
steps = [50, 100]
bake_s = 3600
"""
PATIENCE_S = 120.0


@contextmanager
def begun(place: Any, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process of the command line that is at work; whatever is left of it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudreg", *words, "--json"],
        cwd=place.root,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(place: Any, *words: str, code: int | None = 0) -> Any:
    """Return what a process of the command line says in the end."""
    with begun(place, *words) as process:
        out, news = process.communicate(timeout=PATIENCE_S)
        assert code in (process.returncode, None), news
    return json.loads(out)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit code and all words of a process that ends by itself."""
    out, news = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out + news


@pytest.mark.parametrize(
    "provider",
    [
        "local",
        pytest.param("sagemaker", marks=pytest.mark.slow),
        pytest.param("vertex", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(500)
def test_other_processes_decide(places: Any, provider: str) -> None:
    """What one process rolls out another one sees, pauses, goes on with and undoes."""
    place = places(provider)
    place.configure(SLOWLY)
    ws = place.open()
    place.register(ws, 2)
    ws.promote(f"{place.model}:1", to="prod")

    def stands_at(percent: int) -> bool:
        # Whoever goes on with a paused one needs a moment to take it up.
        rollouts = told(place, "rollout", "status", place.model, code=None)["rollouts"]
        return [each["progress"].get("percent") for each in rollouts] == [percent]

    with begun(place, "promote", f"{place.model}:2", "--to", "prod") as promoting:
        assert poll_until(lambda: stands_at(50), bool, timeout_s=PATIENCE_S, interval_s=0.2)
        told(place, "rollout", "pause", place.model)
        code, words = ended(promoting)
        assert (code, "somebody asked for it" in words) == (4, True)

    (paused,) = told(place, "rollout", "status", place.model, code=4)["rollouts"]
    assert (paused["paused"], paused["progress"]["percent"]) == (True, 50)
    assert {place.asked(ws) for _ in range(30)} == {1, 2}

    with begun(place, "rollout", "resume", place.model, "--next-step") as resumed:
        assert poll_until(lambda: stands_at(100), bool, timeout_s=PATIENCE_S, interval_s=0.2)
        assert {place.asked(ws) for _ in range(10)} == {2}
        told(place, "rollout", "abort", place.model)
        code, words = ended(resumed)
        assert (code, "somebody asked for it" in words) == (1, True)

    assert told(place, "rollout", "status", place.model)["rollouts"] == []
    assert {place.asked(ws) for _ in range(10)} == {1}
    assert ws.drift(place.model) == []
