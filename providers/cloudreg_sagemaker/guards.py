"""A rollout as SageMaker takes its steps: a blue/green update, and alarms that undo it.

The alarms are made for the one update, and go when it is over. Both fleets publish under the name
of the one variant, so that an alarm sees what all callers see.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.types import EndpointSpec, Rollout, RolloutStrategy, named
from cloudreg_sagemaker import packages
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.metrics import MINUTE_S, NAMESPACE, variant_dimensions

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import DeploymentSettings

PREFIX = "cloudreg-guard/"
"""Of the alarms' names; endpoint and limit follow."""


class Guards:
    """The alarms of one account and region that undo rollouts."""

    def __init__(self, client: Any, *, target: str) -> None:
        """Use boto3's CloudWatch *client*."""
        self._client = client
        self._target = target

    def put(self, spec: EndpointSpec, rollout: Rollout) -> tuple[str, ...]:
        """Make the alarms of a rollout, and return their names."""
        wanted = list(alarms_for(spec, rollout))
        with translated(f"alarms of endpoint {spec.name}", target=self._target):
            for request in wanted:
                self._client.put_metric_alarm(**request)
        return tuple(str(request["AlarmName"]) for request in wanted)

    def sweep(self, endpoint: str) -> None:
        """Remove all alarms of an endpoint that goes, those of a process that died too."""
        with translated(f"alarms of endpoint {endpoint}", target=self._target):
            there = self._client.describe_alarms(
                AlarmNamePrefix=f"{PREFIX}{endpoint}/", AlarmTypes=["MetricAlarm"]
            )
            names = [alarm["AlarmName"] for alarm in there.get("MetricAlarms", ())]
            if names:
                self._client.delete_alarms(AlarmNames=names)

    def remove(self, seen: Mapping[str, Any]) -> None:
        """Remove the alarms that the last update of an endpoint was given; absent is fine.

        Args:
            seen: DescribeEndpoint.
        """
        # One by one: CloudWatch deletes none of several where one is not there.
        for name in alarms_of(seen):
            with translated(f"alarm {name}", target=self._target):
                there = self._client.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm"])
                if there.get("MetricAlarms"):
                    self._client.delete_alarms(AlarmNames=[name])


def alarms_of(seen: Mapping[str, Any]) -> list[str]:
    """Return the names of ours among the alarms of an endpoint's last update."""
    last = seen.get("LastDeploymentConfig") or {}
    alarms = (last.get("AutoRollbackConfiguration") or {}).get("Alarms") or ()
    return [a["AlarmName"] for a in alarms if a.get("AlarmName", "").startswith(PREFIX)]


def alarms_for(spec: EndpointSpec, rollout: Rollout) -> Iterator[dict[str, Any]]:
    """Yield PutMetricAlarm for each limit of a rollout."""
    (variant,) = spec.variants
    own = {
        "Namespace": NAMESPACE,
        "Dimensions": variant_dimensions(spec.name, variant.name),
    }
    if rollout.max_error_rate is not None:
        # 1 is published for an error and 0 for every other answer, so that the mean is the rate:
        # https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
        yield _alarm(
            spec,
            "errors",
            {**own, "MetricName": "Invocation5XXErrors", "Statistic": "Average"},
            above=rollout.max_error_rate,
        )
    if rollout.max_p95_ms is not None:
        yield _alarm(
            spec,
            "p95",
            {**own, "MetricName": "ModelLatency", "ExtendedStatistic": "p95"},
            above=1000.0 * rollout.max_p95_ms,
        )
    for metric in rollout.metrics:
        query = metric.filled(**named(spec, variant.name))
        dimensions = query.get("dimensions", {})
        assert isinstance(dimensions, Mapping)
        statistic = str(query.get("statistic", "Average"))
        watched = {
            "Namespace": query["namespace"],
            "MetricName": query["metric"],
            "Dimensions": [{"Name": k, "Value": v} for k, v in sorted(dimensions.items())],
            ("ExtendedStatistic" if statistic.startswith("p") else "Statistic"): statistic,
        }
        if metric.max is not None:
            yield _alarm(spec, f"{metric.name}/max", watched, above=metric.max)
        if metric.min is not None:
            yield _alarm(spec, f"{metric.name}/min", watched, below=metric.min)


def _alarm(
    spec: EndpointSpec,
    what: str,
    watched: Mapping[str, Any],
    *,
    above: float | None = None,
    below: float | None = None,
) -> dict[str, Any]:
    return {
        "AlarmName": f"{PREFIX}{spec.name}/{what}",
        "AlarmDescription": f"cloudreg lets it undo a rollout of {spec.name}",
        **watched,
        "Period": MINUTE_S,
        "EvaluationPeriods": 1,
        "Threshold": below if above is None else above,
        "ComparisonOperator": "LessThanThreshold" if above is None else "GreaterThanThreshold",
        # min_requests = 0 said so.
        "TreatMissingData": "notBreaching",
        "Tags": [{"Key": packages.TAG, "Value": spec.name}],
    }


def deployment_for(
    rollout: Rollout, alarms: tuple[str, ...], settings: DeploymentSettings
) -> dict[str, Any]:
    """Return ``DeploymentConfig`` of an update that takes the steps of *rollout*.

    Args:
        rollout: What `cloudreg.types.NativeRollouts` let pass.
        alarms: What undoes it.
        settings: The target's; its strategy and its waits are those of the rollout now.
    """
    size = {"Type": "CAPACITY_PERCENT", "Value": rollout.steps[0]}
    routing: dict[str, Any] = {
        "Type": rollout.strategy.upper(),
        "WaitIntervalInSeconds": int(rollout.bake_s),
    }
    if rollout.strategy is RolloutStrategy.CANARY:
        routing["CanarySize"] = size
    elif rollout.strategy is RolloutStrategy.LINEAR:
        routing["LinearStepSize"] = size
    policy: dict[str, Any] = {"TrafficRoutingConfiguration": routing}
    if settings.termination_wait_s:
        policy["TerminationWaitInSeconds"] = settings.termination_wait_s
    if settings.max_s is not None:
        policy["MaximumExecutionTimeoutInSeconds"] = settings.max_s
    config: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
    if alarms:
        config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": a} for a in alarms]}
    return config
