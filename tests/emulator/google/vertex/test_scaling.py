"""Autoscaling: real processes come with the traffic, and go without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloudreg_emulator.faults import Fault, Kind

ONLINE = "aiplatform.googleapis.com/prediction/online"
GPU = {
    "machine_type": "g2-standard-8",
    "accelerator_type": "NVIDIA_L4",
    "accelerator_count": 1,
}
CPU = {"machine_type": "n1-standard-2"}


@contextmanager
def traffic(hosting: Any, endpoint: str, *, sleep_s: float) -> Iterator[None]:
    """Ask an endpoint all the time, by four clients, until the block ends."""
    over = threading.Event()

    def ask() -> None:
        own = type(hosting)(hosting.emulator, hosting.transport)
        while not over.is_set():
            own.ask(endpoint, sleep_s=sleep_s)
            over.wait(0.01)
        own.http.close()

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("metric", "target", "machine", "sleep_s"),
    [
        pytest.param("cpu/utilization", 50, CPU, 0.1, marks=pytest.mark.slow),
        pytest.param("accelerator/duty_cycle", 50, GPU, 0.1, marks=pytest.mark.slow),
        ("request_count", 5, CPU, 0.0),
    ],
)
def test_replicas_follow_the_traffic(
    make_hosting: Callable[..., Any],
    until: Callable[..., None],
    metric: str,
    target: int,
    machine: dict[str, Any],
    sleep_s: float,
) -> None:
    """Above a metric's target replicas come, up to the maximum; afterwards they go to the minimum.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/autoscaling
    """
    hosting = make_hosting(scale=0.02)
    endpoint = hosting.endpoint()
    resources = {
        "machine_spec": machine,
        "min_replica_count": 1,
        "max_replica_count": 3,
        "autoscaling_metric_specs": [{"metric_name": f"{ONLINE}/{metric}", "target": target}],
    }
    hosting.deploy(endpoint, hosting.version(), dedicated_resources=resources)
    assert len(hosting.emulator.deployments.pids) == 1

    with traffic(hosting, endpoint, sleep_s=sleep_s):
        until(lambda: hosting.ready(endpoint) == 3)
        pids = {hosting.ask(endpoint)["pid"]}
        until(lambda: pids.add(hosting.ask(endpoint)["pid"]) or len(pids) > 1)
    until(lambda: hosting.ready(endpoint) == 1)
    until(lambda: len(hosting.emulator.deployments.pids) == 1)


def test_a_target_that_is_met(make_hosting: Callable[..., Any], until: Callable[..., None]) -> None:
    """Below its target a model keeps the minimum, however long it is asked."""
    hosting = make_hosting(scale=0.02)
    endpoint = hosting.endpoint()
    resources = {
        "max_replica_count": 3,
        "autoscaling_metric_specs": [{"metric_name": f"{ONLINE}/request_count", "target": 100_000}],
    }
    deployed = hosting.deploy(endpoint, hosting.version(), dedicated_resources=resources)
    group = hosting.emulator.deployments.get(hosting.get(endpoint).name, deployed).group

    for _ in range(100):
        hosting.ask(endpoint)
        assert group.desired == 1


def test_fixed_replicas(make_hosting: Callable[..., Any]) -> None:
    """Where the minimum is the maximum nothing moves."""
    hosting = make_hosting(scale=0.0)
    endpoint = hosting.endpoint()
    deployed = hosting.deploy(endpoint, hosting.version())
    group = hosting.emulator.deployments.get(hosting.get(endpoint).name, deployed).group

    with traffic(hosting, endpoint, sleep_s=0.02):
        for _ in range(20):
            hosting.ask(endpoint)
            assert group.desired == 1


def test_new_bounds(make_hosting: Callable[..., Any], until: Callable[..., None]) -> None:
    """Bounds that are changed are kept at once: processes come, and go."""
    hosting = make_hosting()
    endpoint = hosting.endpoint()
    deployed = hosting.deploy(endpoint, hosting.version())

    def bound(least: int, most: int) -> None:
        names = ("min_replica_count", "max_replica_count")
        resources = dict(zip(names, (least, most), strict=True))
        hosting.done(
            hosting.endpoints.mutate_deployed_model(
                endpoint=endpoint,
                deployed_model={"id": deployed, "dedicated_resources": resources},
                update_mask={"paths": [f"dedicated_resources.{name}" for name in names]},
            )
        )

    bound(2, 2)
    until(lambda: hosting.ready(endpoint) == 2)
    bound(1, 1)
    until(lambda: len(hosting.emulator.deployments.pids) == 1)
    assert hosting.ready(endpoint) == 1


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_to_zero_and_back(
    make_hosting: Callable[..., Any], until: Callable[..., None], transport: str
) -> None:
    """Without traffic the last replica goes; who asks is told to wait, and that brings one back.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/autoscaling (scale to zero)
    """
    hosting = make_hosting(scale=0.005, transport=transport)
    beta = hosting.beta()
    endpoint = hosting.endpoint()
    resources = {
        "min_replica_count": 0,
        "max_replica_count": 2,
        "initial_replica_count": 1,
        "scale_to_zero_spec": {"idle_scaledown_period": {"seconds": 300}},
    }
    beta.deploy(endpoint, hosting.version(), dedicated_resources=resources)
    (shown,) = beta.get(endpoint).deployed_models
    assert shown.dedicated_resources.scale_to_zero_spec.idle_scaledown_period.total_seconds() == 300

    until(lambda: hosting.emulator.deployments.pids == [])
    hosting.faults.arm(Fault(kind=Kind.SLOW_START, service="fleet", seconds=100))
    hosting.refuses(
        lambda: hosting.predict(endpoint, 1),
        "RESOURCE_EXHAUSTED",
        "Model is not yet ready for inference. Please wait and then try your request again.",
    )
    until(lambda: hosting.ready(endpoint) == 1)
    assert hosting.predict(endpoint, 1).predictions


def test_no_time_at_all(make_hosting: Callable[..., Any], until: Callable[..., None]) -> None:
    """Where emulated time takes none, replicas come and go all the same."""
    hosting = make_hosting(scale=0.0)
    endpoint = hosting.endpoint()
    resources = {
        "max_replica_count": 2,
        "autoscaling_metric_specs": [{"metric_name": f"{ONLINE}/request_count", "target": 1}],
    }
    hosting.deploy(endpoint, hosting.version(), dedicated_resources=resources)

    with traffic(hosting, endpoint, sleep_s=0.0):
        until(lambda: hosting.ready(endpoint) == 2)
    until(lambda: hosting.ready(endpoint) == 1)
