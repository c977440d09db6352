"""The list of actions that a policy allows is the list of calls that are made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cloudreg.errors import OperationFailed
from cloudreg.testing.base import fresh
from cloudreg.testing.serving import spec, variant
from cloudreg.types import Resources, Scaling
from cloudreg_sagemaker import actions


def test_every_call_is_an_action_and_the_reverse(
    opened: Callable[..., Any], model: str, cloud: Any
) -> None:
    """All that the provider can do makes every call of the list, and none beside it."""
    alarm = fresh("p95")
    cloud.client("cloudwatch").put_metric_alarm(
        AlarmName=alarm,
        MetricName="ModelLatency",
        Namespace="AWS/SageMaker",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1e9,
        ComparisonOperator="GreaterThanThreshold",
    )
    desk = opened(deployment={"alarms": [alarm]})
    begin = len(cloud.calls)

    registry_at_work(desk, model)
    endpoints_at_work(desk)

    called = {actions.action(service, name) for service, name in cloud.calls[begin:]}
    assert called == actions.ACTIONS


def registry_at_work(desk: Any, model: str) -> None:
    """Publish, point, withdraw; also in a group that exists."""
    desk.client.create_model_package_group(
        ModelPackageGroupName=model, Tags=[{"Key": "cloudreg", "Value": model}]
    )
    made = desk.version(1, model=model)
    desk.registry.publish(made)
    for digest in (made.digest, None):
        desk.registry.point(model, "prod", digest)
    desk.registry.withdraw(model, made.digest)


def endpoints_at_work(desk: Any) -> None:
    """Create, look, predict, change in every way, and remove."""
    one, two = desk.server.version(1), desk.server.version(2)
    following = Scaling(min_replicas=1, max_replicas=2)
    asked = desk.start(spec(desk.server.name(), variant("primary", one, scaling=following), env={}))
    desk.ask(asked.name)
    with suppress(OperationFailed):
        desk.ask(asked.name, b'{"status": 500, "log": "it hurts"}')
    desk.endpoints.metrics(asked.name, window_s=60.0)
    other = replace(asked.variants[0], resources=Resources.parse("T4"))
    desk.server.update(replace(asked, variants=(other,)))
    split = replace(asked, variants=(replace(other, weight=90), variant("canary", two, 10)))
    desk.server.update(split)
    desk.server.update(split.weighted({"primary": 50, "canary": 50}))
    assert desk.endpoints.endpoint(asked.name) is not None
    assert list(desk.endpoints.endpoints())
    desk.server.delete(asked.name)
