"""The list of actions that a policy allows is the list of calls that are made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cloudreg.errors import OperationFailed
from cloudreg.provider import Deployed
from cloudreg.testing.base import fresh
from cloudreg.testing.batches import job
from cloudreg.testing.serving import spec, variant
from cloudreg.testing.uploads import CONTENT, SourceBroke, chunks
from cloudreg.types import Asynchronous, EndpointKind, Resources, Scaling, ScalingStep
from cloudreg_sagemaker import actions
from cloudreg_sagemaker.terraform import Terraform


def test_every_call_is_an_action_and_the_reverse(
    opened: Callable[..., Any], model: str, cloud: Any
) -> None:
    """All that the provider can do makes every call of the list, and none beside it."""
    alarm = fresh("p95")
    key = cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
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
    desk = opened(deployment={"alarms": [alarm]}, account=None, kms_key=key)
    begin, needs = (len(cloud.calls), len(cloud.objects)), len(cloud.needs)

    objects_at_work(desk.provider.store)
    registry_at_work(desk, model)
    endpoints_at_work(desk)
    kinds_at_work(desk)
    jobs_at_work(desk)
    rests_at_work(desk)
    pools = {pools_at_work(desk)}
    list(Terraform().existing(desk.provider, cloud.sections[-1], [model]))

    assert cloud.actions(*begin) == actions.ACTIONS
    checked = cloud.needs[needs:]
    assert {need.action for need in checked} == actions.ACTIONS | set(actions.GRANTED_WITH)
    # By name: nothing that is made is called as the policy does not expect it.
    made = {touched.partition("/endpoints/")[2] for _, touched in cloud.objects[begin[1] :]}
    names = {name.partition("/")[0] for name in made} - {""}
    named = Deployed(models=(model, "kit"), endpoints=tuple(sorted({*names, *pools})))
    assert cloud.refused(checked, named) == []


def objects_at_work(store: Any) -> None:
    """Give an upload up, take another up again, copy what it made, and remove it."""
    for resume in (None, "one"):
        with suppress(SourceBroke):
            store.put(chunks(CONTENT, broken_at=len(CONTENT)), "kit/large", resume=resume)
    store.put(chunks(CONTENT), "kit/large", resume="one")
    store.copy("kit/large", "kit/copy")
    store.delete("kit/copy")


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
    following = Scaling(max_replicas=2, steps=(ScalingStep(at=8.0, add=1),))
    asked = desk.start(spec(desk.server.name(), variant("primary", one, scaling=following), env={}))
    desk.ask(asked.name)
    with suppress(OperationFailed):
        desk.ask(asked.name, b'{"status": 500, "log": "it hurts"}')
    desk.endpoints.metrics(asked.name, window_s=60.0)
    plain = Scaling(max_replicas=2)
    desk.server.update(replace(asked, variants=(replace(asked.variants[0], scaling=plain),)))
    other = replace(asked.variants[0], resources=Resources.parse("T4"))
    desk.server.update(replace(asked, variants=(other,)))
    split = replace(asked, variants=(replace(other, weight=90), variant("canary", two, 10)))
    desk.server.update(split)
    desk.server.update(split.weighted({"primary": 50, "canary": 50}))
    assert desk.endpoints.endpoint(asked.name) is not None
    assert list(desk.endpoints.endpoints())
    desk.server.delete(asked.name)


def kinds_at_work(desk: Any) -> None:
    """Stream an answer, and queue a request."""
    how = {"content_type": "application/json", "timeout_s": 30.0}
    plain = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))
    assert list(desk.endpoints.stream(plain.name, b'{"stream": 1}', **how)) == [b"row 0\n"]
    queued = replace(
        plain,
        name=desk.server.name(),
        kind=EndpointKind.ASYNCHRONOUS,
        asynchronous=Asynchronous(),
    )
    desk.start(queued)
    assert desk.endpoints.submit(queued.name, b"{}", **how)


def jobs_at_work(desk: Any) -> None:
    """Score a record, and stop what is over."""
    version = desk.server.version(1)
    asked = job(version)
    desk.provider.store.put(b"{}\n", f"{asked.input}0.jsonl")
    desk.wait(desk.provider.batch.start(asked, version=version))
    desk.provider.batch.stop(asked.name)


def rests_at_work(desk: Any) -> None:
    """Make an endpoint that may rest, change what runs and how much of it, and remove it."""
    one, two = desk.server.version(1), desk.server.version(2)
    resting = Scaling(min_replicas=0, max_replicas=2, scale_in_cooldown_s=86_400.0)
    asked = desk.start(spec(desk.server.name(), variant("primary", one, scaling=resting)))
    (first,) = asked.variants
    desk.server.update(replace(asked, variants=(replace(first, number=2, digest=two.digest),)))
    desk.server.delete(asked.name)


def pools_at_work(desk: Any) -> str:
    """Begin a pool, change how many replicas an endpoint has in it, end both, and name the pool."""
    share = Resources(memory_mib=512)
    first = variant("primary", desk.server.version(1), resources=share)
    pool = str(desk.server.name())
    asked = desk.start(spec(desk.server.name(), first, pool=pool))
    two = replace(first, scaling=Scaling(min_replicas=2, max_replicas=2))
    desk.server.update(replace(asked, variants=(two,)))
    desk.server.delete(asked.name)
    return pool
