"""Rollouts judged by what the model servers tell of themselves at ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import (
    ConfigError,
    InvalidRequest,
    RolloutAborted,
    RolloutPaused,
    Unavailable,
    Unsupported,
)
from cloudreg.types import CustomMetric

Live = Callable[..., Workspace]

DRIFT = """
[[endpoints.churn-prod.rollout.metrics]]
name = "drift"
source = "server"
metric = "drift"
statistic = "max"
labels = {model = "{model}"}
max = 0.5
"""


def canary(metric: str = DRIFT, *, bake_s: float = 0.3, more: str = "min_requests = 0") -> str:
    return f"""
[endpoints.churn-prod]
model = "churn"
stage = "prod"
[endpoints.churn-prod.rollout]
strategy = "canary"
steps = [50, 100]
bake_s = {bake_s}
{more}
{metric}
"""


def moved(house: Any, live: Live, text: str, weights: str, **configured: Any) -> Workspace:
    """Return a workspace whose next version to promote tells *weights*."""
    ws = live(text, versions=1, **configured)
    house.register(ws, weights)
    ws.promote("churn:2", to="staging")
    return ws


def test_good_number(house: Any, live: Live) -> None:
    """A number within its limit lets the rollout pass, and the plan has told the limit."""
    ws = moved(house, live, canary(), "gauge 0.5")
    plan = ws.promote("churn:2", to="prod", dry_run=True)
    assert "undone unless drift is at most 0.5" in str(plan)
    plan.apply()

    assert house.served(ws) == 2
    house.check_truth(ws)


def test_bad_number(house: Any, live: Live) -> None:
    """A number beyond its limit undoes the rollout at once, and says what was measured."""
    ws = moved(house, live, canary(bake_s=600.0), "gauge 0.75")
    with pytest.raises(RolloutAborted, match=r"measured drift 0\.75, wanted at most 0\.5"):
        ws.promote("churn:2", to="prod")

    assert house.served(ws) == 1
    house.check_truth(ws)


def test_no_number(house: Any, live: Live) -> None:
    """A server that tells nothing is no success: the rollout pauses."""
    ws = moved(house, live, canary(), "silent")
    with pytest.raises(RolloutPaused, match=r"no data of drift \(server\)"):
        ws.promote("churn:2", to="prod")

    ws.abort("churn")
    assert house.served(ws) == 1
    house.check_truth(ws)


def test_two_limits(house: Any, live: Live) -> None:
    """Less than the least undoes a rollout, too."""
    text = DRIFT.replace("max = 0.5", "min = 0.4\nmax = 0.9")
    ws = moved(house, live, canary(text, bake_s=600.0), "gauge 0.3")
    with pytest.raises(RolloutAborted, match=r"drift 0\.3, wanted at least 0\.4 and at most 0\.9"):
        ws.promote("churn:2", to="prod")
    house.check_truth(ws)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ({"metric": "drift"}, 0.25),
        ({"metric": "drift", "statistic": "sum"}, 0.5),
        ({"metric": "drift", "statistic": "min"}, 0.125),
        ({"metric": "drift", "statistic": "max"}, 0.375),
        ({"metric": "drift", "labels": {"part": 'a"b'}}, 0.375),
        ({"metric": "drift", "labels": {"part": "z"}}, None),
        ({"metric": "work_seconds"}, 0.2),
        ({"metric": "work_seconds", "statistic": "p50"}, 0.1),
        ({"metric": "work_seconds", "statistic": "p95"}, 0.5),
        ({"metric": "work_seconds", "statistic": "max"}, None),
        ({"metric": "work_seconds_count"}, 20.0),
        ({"metric": "nothing"}, None),
    ],
)
def test_statistics(house: Any, live: Live, query: dict[str, Any], value: float | None) -> None:
    """Gauges are summed up over all samples of all replicas, histograms by their buckets."""
    house.configure(canary())
    ws = house.open()
    house.register(ws, "gauge 0.375")
    ws.promote("churn:1", to="staging")
    ws.promote("churn:1", to="prod")
    asked = CustomMetric(name="asked", source="server", query=query, max=1.0)
    found = ws.targets["local"].endpoints.metrics("churn-prod", window_s=60.0, custom=[asked])
    wanted = {} if value is None else {"asked": pytest.approx(value)}
    assert found["primary"].custom == wanted


def test_source_that_is_not_there(house: Any, live: Live) -> None:
    """A source of another cloud is refused when it is planned, with the one that there is."""
    text = DRIFT.replace('"server"', '"cloudwatch"')
    ws = moved(house, live, canary(), "gauge 0.5")
    house.configure(canary(text))
    with pytest.raises(Unsupported, match="no source 'cloudwatch'") as refused:
        house.open().promote("churn:2", to="prod")
    assert refused.value.hint == "source = 'server'"
    assert house.served(ws) == 1


def test_key_that_the_source_does_not_know(house: Any, live: Live) -> None:
    """What a source would ignore is refused when it is planned."""
    ws = moved(house, live, canary(), "gauge 0.5")
    house.configure(canary(DRIFT + 'namespace = "Team"\n'))
    with pytest.raises(InvalidRequest, match="server knows no key 'namespace'"):
        house.open().promote("churn:2", to="prod")
    assert house.served(ws) == 1


def test_metric_without_a_limit_in_the_file(house: Any) -> None:
    """A metric that nothing is judged by is refused where the file is read, with its place."""
    house.configure(canary(DRIFT.replace("max = 0.5", "")))
    with pytest.raises(ConfigError, match=r"line \d+, column 1.*drift has no limit"):
        house.open()


def test_native_driver_where_there_is_none(house: Any, live: Live) -> None:
    """A target that moves no traffic by itself refuses the driver when it is planned."""
    ws = moved(house, live, canary(), "gauge 0.5")
    house.configure(canary("", more='driver = "native"'))
    with pytest.raises(Unsupported, match="no native rollouts") as refused:
        house.open().promote("churn:2", to="prod")
    assert refused.value.hint == 'driver = "cloudreg"'
    assert house.served(ws) == 1


def test_numbers_that_do_not_come(house: Any, live: Live) -> None:
    """A target that does not answer for a moment says nothing bad of the version."""
    ws = moved(house, live, canary(bake_s=2.0), "gauge 0.5", provider="scripted")
    asked: list[str] = []

    def lose(_: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if verb == "metrics":
            asked.append(args[0])
            if len(asked) in (2, 3):  # the first one is asked before the first step
                raise Unavailable("no answer")
        return call()

    house.script = lose
    ws.promote("churn:2", to="prod")
    house.script = None

    assert len(asked) > 3
    assert house.served(ws) == 2
    house.check_truth(ws)
