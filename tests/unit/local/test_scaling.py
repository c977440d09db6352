"""The number of replicas follows the load: up, down, to zero and back."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg.types import EndpointStatus, OperationState, ScalingMetric
from cloudreg_local.router import MAX_WAITING


@pytest.fixture
def until(bench: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = sys.modules[type(bench).__module__].until
    return found


def replicas(bench: Any, name: str) -> tuple[int, int]:
    """Return how many are ready, and how many are wanted."""
    found = bench.provider.endpoints.endpoint(name).variants[0]
    return found.ready_replicas, found.desired_replicas


def test_load_brings_replicas_and_idleness_takes_them(
    bench: Any, load: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """Requests in flight bring replicas up to the maximum; the minimum is back when they end.

    No request is lost on the way, and what left is no process any more.
    """
    spec = bench.spec(
        "follow", ("primary", bench.version(1), 100), replicas=(1, 3), concurrency=2, cooldown_s=0.5
    )
    bench.create(spec)
    assert replicas(bench, "follow") == (1, 1)
    with load(bench, "follow", threads=8, sleep_s=0.05) as asked:
        until(lambda: replicas(bench, "follow") == (3, 3))
        asked.more(50)
        busy = bench.replicas("follow")
        until(lambda: set(busy) <= set(asked.pids))
    until(lambda: replicas(bench, "follow") == (1, 1))

    assert asked.problems == []
    assert set(asked.statuses) == {200}
    assert len(set(busy)) == 3
    until(lambda: len(bench.processes("follow")) == 2)
    assert bench.provider.endpoints.endpoint("follow").status is EndpointStatus.READY


def test_requests_of_a_minute_bring_replicas(
    bench: Any, load: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """Where replicas follow requests a minute, so many of them bring as many replicas.

    It makes no difference that none of the requests waits for another.
    """
    bench.create(
        bench.spec(
            "minute",
            ("primary", bench.version(1), 100),
            replicas=(1, 3),
            metric=ScalingMetric.REQUESTS_PER_MINUTE,
            concurrency=40.0,
        )
    )
    for _ in range(60):
        bench.ask("minute")
    until(lambda: replicas(bench, "minute") == (2, 2))


def test_growth_waits_for_its_cooldown(
    bench: Any, load: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """After replicas came, more come only when the cooldown is over, whatever the load is."""
    bench.create(
        bench.spec(
            "slow", ("primary", bench.version(1), 100), replicas=(1, 8), concurrency=1, grow_s=3600
        )
    )
    with load(bench, "slow", threads=2, sleep_s=0.05):
        until(lambda: replicas(bench, "slow") == (2, 2))
    with load(bench, "slow", threads=6, sleep_s=0.05) as asked:
        asked.more(100)
        assert replicas(bench, "slow") == (2, 2)


def test_fixed_number_stays(bench: Any, load: Callable[..., Any]) -> None:
    """Without room between the bounds the number does not move, whatever the load is."""
    bench.create(bench.spec("fixed", ("primary", bench.version(1), 100), concurrency=0.5))
    with load(bench, "fixed", threads=6, sleep_s=0.02) as asked:
        asked.more(200)
        assert replicas(bench, "fixed") == (1, 1)


def test_autoscaled_number_survives_an_update(
    bench: Any, load: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """A change of weights keeps the replicas that the load has brought."""
    one, two = bench.version(1), bench.version(2)
    shape: dict[str, Any] = {"replicas": (1, 3), "concurrency": 1, "cooldown_s": 60}
    bench.create(bench.spec("survive", ("primary", one, 100), **shape))
    with load(bench, "survive", threads=4, sleep_s=0.05):
        until(lambda: replicas(bench, "survive") == (3, 3))
    pids = bench.replicas("survive")

    bench.update(bench.spec("survive", ("primary", one, 95), ("canary", two, 5), **shape))

    assert replicas(bench, "survive") == (3, 3)
    assert set(pids) < set(bench.replicas("survive"))
    # Bounds are bounds: a lower maximum takes what is above it.
    status = bench.update(bench.spec("survive", ("primary", one, 100), replicas=(2, 2)))
    assert status.state is OperationState.SUCCEEDED
    assert replicas(bench, "survive") == (2, 2)


def zero(bench: Any, name: str, version: Any, **more: Any) -> Any:
    shape: dict[str, Any] = {"replicas": (0, 2), "cooldown_s": 0.2, **more}
    return bench.spec(name, ("primary", version, 100), **shape)


def test_idle_endpoint_sleeps_and_wakes(bench: Any, until: Callable[..., Any]) -> None:
    """Idleness takes the last replica; the next request waits for a new one, and is answered."""
    one = bench.version(1)
    assert bench.create(zero(bench, "sleeper", one)).state is OperationState.SUCCEEDED
    for _ in range(2):
        until(lambda: replicas(bench, "sleeper") == (0, 0))
        until(lambda: len(bench.processes("sleeper")) == 1)
        found = bench.provider.endpoints.endpoint("sleeper")
        assert found.status is EndpointStatus.READY
        assert found.variants[0].digest == one.digest

        assert bench.ask("sleeper")["number"] == 1
    assert bench.provider.endpoints.metrics("sleeper", window_s=60)["primary"].errors == 0


def test_crowd_waits_for_the_first_replica(bench: Any, until: Callable[..., Any]) -> None:
    """Many requests that wake an endpoint are all answered, and start no crowd of servers."""
    bench.create(zero(bench, "crowd", bench.version(1), concurrency=100))
    until(lambda: replicas(bench, "crowd") == (0, 0))
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(bench.ask("crowd")["pid"]))
        for _ in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 30
    assert len(set(answers)) == 1


def test_trickle_keeps_the_last_replica(bench: Any) -> None:
    """Short requests with pauses below the cooldown never meet a sleeping endpoint."""
    bench.create(zero(bench, "trickle", bench.version(1), cooldown_s=1.5))
    pids: set[int] = set()
    began = last = time.monotonic()
    while (now := time.monotonic()) - began < 4.0:
        if now - last > 1.0:  # the machine stood still: that was idleness
            pids, began = set(), now
        last = now
        pids.add(bench.ask("trickle")["pid"])
        time.sleep(0.4)

    assert len(pids) == 1


def test_queue_is_bounded(bench: Any, until: Callable[..., Any], tmp_path: Path) -> None:
    """Beyond its bound the queue refuses at once with Retry-After; who waits is answered."""
    gate = tmp_path / "gate"
    gate.touch()
    bench.create(zero(bench, "queue", bench.version(5, f"gate {gate}"), concurrency=1000))
    until(lambda: replicas(bench, "queue") == (0, 0))
    gate.unlink()
    answers: list[tuple[int, str | None]] = []

    def ask() -> None:
        status, headers, _ = bench.request("queue", "POST", "/invocations", b"{}")
        answers.append((status, headers.get("retry-after")))

    threads = [threading.Thread(target=ask) for _ in range(MAX_WAITING + 20)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) == 20)
    gate.touch()
    for thread in threads:
        thread.join()

    assert Counter(answers) == {(200, None): MAX_WAITING, (503, "1"): 20}
    counts = bench.provider.endpoints.metrics("queue", window_s=60)["primary"]
    assert (counts.requests, counts.errors) == (MAX_WAITING + 20, 20)


def test_who_does_not_wake_is_not_well(bench: Any, until: Callable[..., Any]) -> None:
    """When the first replica does not come up, who waits is refused and the status says why."""
    bench.create(zero(bench, "coma", bench.version(1), cooldown_s=3))
    until(lambda: replicas(bench, "coma") == (0, 0))
    weights = next((bench.root / ".cloudreg/endpoints/coma/models").glob("*/weights.txt"))
    weights.unlink()

    status, headers, body = bench.request("coma", "POST", "/invocations", b"{}")

    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body) == {"error": "no replica is ready"}
    found = bench.provider.endpoints.endpoint("coma")
    assert found.status is EndpointStatus.DEGRADED
    assert "primary: 0 of 1 replicas ready (it ended with exit code 1)" in found.message


def test_what_may_sleep_must_start_once(bench: Any) -> None:
    """A version that cannot start fails the change also where no replica has to run."""
    status = bench.create(zero(bench, "stillborn", bench.version(4, "crash 4")))

    assert status.state is OperationState.FAILED
    assert "the model could not be loaded" in status.message


def test_sleeper_is_not_woken_by_a_change(bench: Any, until: Callable[..., Any]) -> None:
    """A change of weights lets sleeping variants sleep; a higher minimum wakes them."""
    one, two = bench.version(1), bench.version(2)
    shape: dict[str, Any] = {"replicas": (0, 1), "cooldown_s": 0.2}
    bench.create(bench.spec("dream", ("primary", one, 50), ("canary", two, 50), **shape))
    until(lambda: len(bench.processes("dream")) == 1)

    status = bench.update(bench.spec("dream", ("primary", one, 100), ("canary", two, 0), **shape))
    assert status.state is OperationState.SUCCEEDED
    assert len(bench.processes("dream")) == 1
    # A weight of 0 still answers who asks for it by name, asleep or not.
    assert bench.ask("dream", variant="canary")["number"] == 2

    bench.update(bench.spec("dream", ("primary", one, 100), replicas=(2, 2)))
    assert replicas(bench, "dream") == (2, 2)


def test_old_bounds_do_not_take_what_a_change_waits_for(
    bench: Any, until: Callable[..., Any], tmp_path: Path
) -> None:
    """Replicas that a higher minimum has started stay while they start, idle as they are."""
    gate = tmp_path / "gate"
    gate.touch()
    one = bench.version(5, f"gate {gate}")
    bench.create(zero(bench, "raised", one))
    until(lambda: replicas(bench, "raised") == (0, 0))
    gate.unlink()
    spec = bench.spec("raised", ("primary", one, 100), replicas=(3, 3))
    change = bench.provider.endpoints.update(spec, artifacts=bench.versions)
    until(lambda: replicas(bench, "raised") == (0, 3))

    time.sleep(1.5)  # three looks at the load, and seven cooldowns
    assert replicas(bench, "raised") == (0, 3)
    gate.touch()

    assert bench.wait(change).state is OperationState.SUCCEEDED
    assert replicas(bench, "raised") == (3, 3)


def test_sleeping_variant_gets_its_share(bench: Any, until: Callable[..., Any]) -> None:
    """A sleeping canary is woken by its share of the traffic, not passed over for who is awake."""
    one, two = bench.version(1), bench.version(2)
    bench.create(
        bench.spec(
            "share", ("primary", one, 50), ("canary", two, 50), replicas=(0, 1), cooldown_s=0.2
        )
    )
    until(lambda: len(bench.processes("share")) == 1)

    assert Counter(bench.ask("share")["number"] for _ in range(20)) == {1: 10, 2: 10}


def test_sleeper_is_deleted(bench: Any, until: Callable[..., Any], tmp_path: Path) -> None:
    """A sleeping endpoint is deleted like any other, and who waits then is told."""
    gate = tmp_path / "gate"
    gate.touch()
    bench.create(zero(bench, "buried", bench.version(5, f"gate {gate}")))
    until(lambda: replicas(bench, "buried") == (0, 0))
    gate.unlink()
    answers: list[int] = []
    waiting = threading.Thread(
        target=lambda: answers.append(bench.request("buried", "POST", "/invocations", b"{}")[0])
    )
    waiting.start()
    until(lambda: replicas(bench, "buried") == (0, 1))

    assert bench.delete("buried").state is OperationState.SUCCEEDED

    waiting.join()
    assert answers == [503]
    until(lambda: not bench.processes("buried"))
