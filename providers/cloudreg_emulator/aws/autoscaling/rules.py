"""What may be registered, and what a policy must look like, beyond botocore's service model.

Sources, where a line names none: the service model's documentation of the member, and
https://docs.aws.amazon.com/autoscaling/application/userguide/ (target tracking, step scaling).
Words that nobody could be found to have quoted are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cloudreg_emulator.aws.autoscaling.errors import invalid
from cloudreg_emulator.aws.runtime.control import Capacity

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
COPIES = "sagemaker:inference-component:DesiredCopyCount"

RESOURCES = {
    INSTANCES: re.compile(r"endpoint/([^/]+)/variant/([^/]+)"),
    CONCURRENCY: re.compile(r"endpoint/([^/]+)/variant/([^/]+)"),
    COPIES: re.compile(r"inference-component/([^/]+)"),
}
"""The resource ids of each dimension."""

MAX_TAGS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a predefined metric reads from CloudWatch.

    Attributes:
        name: In the namespace ``AWS/SageMaker``.
        statistic: Of the values in one period.
        period_s: Emulated seconds.
        dimension: The scalable dimension that it is for.
    """

    name: str
    statistic: str
    period_s: int
    dimension: str


METRICS = {
    "SageMakerVariantInvocationsPerInstance": Metric(
        name="InvocationsPerInstance", statistic="Sum", period_s=60, dimension=INSTANCES
    ),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": Metric(
        name="ConcurrentRequestsPerModel", statistic="Average", period_s=10, dimension=INSTANCES
    ),
    "SageMakerInferenceComponentInvocationsPerCopy": Metric(
        name="InvocationsPerCopy", statistic="Sum", period_s=60, dimension=COPIES
    ),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": Metric(
        name="ConcurrentRequestsPerCopy", statistic="Average", period_s=10, dimension=COPIES
    ),
}
"""Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-policy.html"""


def parts(resource: str, dimension: str) -> tuple[str, ...]:
    """Return the names in a resource id.

    Raises:
        Refused: The id is not one of this dimension.
    """
    found = RESOURCES[dimension].fullmatch(resource) if dimension in RESOURCES else None
    if found is None:
        # moto quotes this for every service.
        raise invalid("Unsupported service namespace, resource type or scalable dimension")
    return found.groups()


def check_runnable(dimension: str) -> None:
    """Refuse what this emulator does not scale."""
    if dimension == CONCURRENCY:
        raise invalid(f"The emulator does not scale {dimension}.")


def check_bounds(low: int | None, high: int | None, capacity: Capacity) -> None:
    """Refuse bounds that are missing, out of order, or too low for the resource.

    Args:
        low: The least capacity; None where nobody ever said.
        high: The most.
        capacity: Of the resource.
    """
    if low is None or high is None:
        raise invalid("Minimum capacity and maximum capacity are required for a new target")
    if low < 0 or high < 0:
        raise invalid("Minimum capacity and maximum capacity cannot be negative")
    if low > high:
        raise invalid("Minimum capacity cannot be greater than maximum capacity")
    if low == 0 and not capacity.may_be_none:
        # https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
        raise invalid(
            "Minimum capacity cannot be 0: only inference components and asynchronous endpoints "
            "scale to zero"
        )


def check_capacity(capacity: Capacity | None, resource: str) -> Capacity:
    """Return the capacity of a resource that can be scaled, and refuse all others."""
    if capacity is None:
        raise invalid(f"The variant does not exist: {resource}")
    if capacity.instance_type is None:
        raise invalid(f"The variant is serverless, and has no instances to scale: {resource}")
    if capacity.instance_type.startswith("ml.t2."):
        # endpoint-auto-scaling-prerequisites: burstable instances are not supported.
        raise invalid(f"Burstable instances ({capacity.instance_type}) cannot be scaled")
    return capacity


def check_tags(tags: Mapping[str, str], *, exists: bool) -> None:
    """Refuse tags with a second registration, and too many."""
    if tags and exists:
        # https://github.com/terraform-aws-modules/terraform-aws-rds-aurora/pull/420
        raise invalid(
            "The scalable target that you tried to tag already exists. To update tags on an "
            "existing scalable target, use the TagResource API."
        )
    if len(tags) > MAX_TAGS:
        raise invalid(f"A scalable target has at most {MAX_TAGS} tags")


TRACKING, STEPS = "TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration"
CONFIGURATIONS = {"TargetTrackingScaling": TRACKING, "StepScaling": STEPS}


def check_policy(
    kind: str | None, request: Mapping[str, Any], *, before: str | None, dimension: str
) -> str:
    """Return the type of a policy that may be put.

    Args:
        kind: ``PolicyType`` of the request.
        request: All of it.
        before: The type of the policy that it replaces.
        dimension: Of the target.
    """
    kind = kind or before
    if kind is None:
        raise invalid("PolicyType is required for a new scaling policy")
    if before is not None and kind != before:
        raise invalid(f"The type of a scaling policy cannot be changed from {before} to {kind}")
    if kind not in CONFIGURATIONS:
        raise invalid(f"The emulator does not run {kind} policies.")
    wanted = CONFIGURATIONS[kind]
    given = [
        name
        for name in (*CONFIGURATIONS.values(), "PredictiveScalingPolicyConfiguration")
        if request.get(name)
    ]
    if given != [wanted]:
        raise invalid(f"A {kind} policy needs {wanted}, and nothing beside it")
    if kind == "StepScaling":
        _check_steps(request[STEPS])
    else:
        _check_tracking(request[TRACKING], dimension)
    return kind


def _check_tracking(config: Mapping[str, Any], dimension: str) -> None:
    predefined = config.get("PredefinedMetricSpecification")
    customized = config.get("CustomizedMetricSpecification")
    if bool(predefined) == bool(customized):
        raise invalid(
            "Specify one of PredefinedMetricSpecification and CustomizedMetricSpecification"
        )
    if not config["TargetValue"] > 0:
        # "between 8.515920e-109 and 1.174271e+108 (Base 10)"
        raise invalid(f"TargetValue {config['TargetValue']} must be greater than 0")
    for name in ("ScaleInCooldown", "ScaleOutCooldown"):
        if config.get(name, 0) < 0:
            raise invalid(f"{name} cannot be negative")
    if predefined:
        kind = predefined["PredefinedMetricType"]
        if kind not in METRICS or METRICS[kind].dimension != dimension:
            raise invalid(f"Predefined metric type {kind} is not supported for {dimension}")
        if predefined.get("ResourceLabel"):
            raise invalid(f"ResourceLabel cannot be specified for metric type {kind}")
    if customized:
        if customized.get("Metrics"):
            raise invalid("The emulator does not run metric math in scaling policies.")
        for name in ("MetricName", "Namespace", "Statistic"):
            if not customized.get(name):
                raise invalid(f"{name} is required in CustomizedMetricSpecification")


def _check_steps(config: Mapping[str, Any]) -> None:
    if not config.get("AdjustmentType"):
        raise invalid("AdjustmentType is required in StepScalingPolicyConfiguration")
    if config.get("Cooldown", 0) < 0:
        raise invalid("Cooldown cannot be negative")
    if config.get("MinAdjustmentMagnitude") is not None and (
        config["AdjustmentType"] != "PercentChangeInCapacity"
    ):
        raise invalid("MinAdjustmentMagnitude needs AdjustmentType PercentChangeInCapacity")
    _check_intervals(config.get("StepAdjustments") or ())


def _check_intervals(steps: Sequence[Mapping[str, Any]]) -> None:
    """Refuse steps that leave a gap or overlap.

    Source: https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
    """
    if not steps:
        raise invalid("At least one StepAdjustment is required")
    low, high = float("-inf"), float("inf")
    bounds = sorted(
        (
            step.get("MetricIntervalLowerBound", low),
            step.get("MetricIntervalUpperBound", high),
        )
        for step in steps
    )
    for first, second in bounds:
        if first >= second:
            raise invalid(f"The lower bound of a step must be below its upper bound: {first:g}")
    for (_, end), (start, _) in pairwise(bounds):
        if end != start:
            raise invalid(f"Step intervals must touch: {end:g} is followed by {start:g}")
