"""Deployment guardrails: what is refused, and which steps a policy means. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloudreg_emulator.aws.sagemaker.errors import invalid
from cloudreg_emulator.aws.sagemaker.variants import is_component_host

__all__ = ["Rollout", "rollout_of"]

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How traffic moves to a new fleet.

    Attributes:
        shares: Of the traffic on the new fleet, step by step; the last is 1.
        rolling: Whether capacity moves with the traffic, in batches.
        bake_s: Emulated seconds after each step.
        keep_s: Emulated seconds that the old fleet is kept in the end.
        limit_s: Emulated seconds for all of it.
        rollback_shares: Of the old fleet's capacity, when a rolling deployment goes back.
        alarms: CloudWatch alarms that end it.
    """

    shares: tuple[float, ...] = (1.0,)
    rolling: bool = False
    bake_s: float = 0.0
    keep_s: float = 0.0
    limit_s: float | None = None
    rollback_shares: tuple[float, ...] = (1.0,)
    alarms: tuple[str, ...] = ()


def rollout_of(deployment: Config | None, *, old: Config, new: Config) -> Rollout:
    """Return what a DeploymentConfig means for a change of endpoint configurations.

    Sources: API_TrafficRoutingConfig, API_RollingUpdatePolicy, API_CapacitySize in the service
    model (sizes), https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html
    (what is excluded). All words are unquoted.
    """
    if not deployment:
        return Rollout()
    blue_green = deployment.get("BlueGreenUpdatePolicy")
    rolling = deployment.get("RollingUpdatePolicy")
    if blue_green and rolling:
        raise invalid("Specify one of either BlueGreenUpdatePolicy or RollingUpdatePolicy.")
    alarms = tuple(
        alarm["AlarmName"]
        for alarm in (deployment.get("AutoRollbackConfiguration") or {}).get("Alarms") or ()
        if alarm.get("AlarmName")
    )
    if rolling:
        return _rolling(rolling, alarms, old=old, new=new)
    if not blue_green:
        return Rollout(alarms=alarms)
    routing = blue_green["TrafficRoutingConfiguration"]
    return Rollout(
        shares=_shares(routing, old=old, new=new),
        bake_s=routing["WaitIntervalInSeconds"],
        keep_s=blue_green.get("TerminationWaitInSeconds") or 0,
        limit_s=blue_green.get("MaximumExecutionTimeoutInSeconds"),
        alarms=alarms,
    )


def _shares(routing: Config, *, old: Config, new: Config) -> tuple[float, ...]:
    kind = routing["Type"]
    canary, step = routing.get("CanarySize"), routing.get("LinearStepSize")
    for field, size, wanted in (
        ("CanarySize", canary, "CANARY"),
        ("LinearStepSize", step, "LINEAR"),
    ):
        if kind == wanted and not size:
            raise invalid(f"{field} must be specified for traffic routing of type {kind}.")
        if kind != wanted and size:
            raise invalid(f"{field} cannot be specified for traffic routing of type {kind}.")
    if kind == "ALL_AT_ONCE":
        return (1.0,)
    _check_names(old, new)
    total = _instances(new)
    if kind == "CANARY":
        assert canary
        return (_fraction(canary, total, "CanarySize", least=0.0, most=0.5), 1.0)
    assert step
    return tuple(_steps(_fraction(step, total, "LinearStepSize", least=0.1, most=0.5)))


def _rolling(policy: Config, alarms: tuple[str, ...], *, old: Config, new: Config) -> Rollout:
    variants = new["ProductionVariants"]
    if any(variant.get("ServerlessConfig") for variant in variants):
        raise invalid("RollingUpdatePolicy is not supported for serverless variants.")
    if len(variants) > 1 or len(old["ProductionVariants"]) > 1:
        raise invalid("RollingUpdatePolicy is not supported for multiple production variants.")
    if new.get("ShadowProductionVariants"):
        raise invalid("RollingUpdatePolicy is not supported for shadow production variants.")
    _check_names(old, new)
    total = _instances(new)
    batch = _fraction(policy["MaximumBatchSize"], total, "MaximumBatchSize", least=0.05, most=0.5)
    back = policy.get("RollbackMaximumBatchSize")
    fraction = 1.0
    if back:
        fraction = _fraction(back, total, "RollbackMaximumBatchSize", least=0.05, most=1.0)
    return Rollout(
        shares=tuple(_steps(batch)),
        rolling=True,
        bake_s=policy["WaitIntervalInSeconds"],
        limit_s=policy.get("MaximumExecutionTimeoutInSeconds"),
        rollback_shares=tuple(_steps(fraction)),
        alarms=alarms,
    )


def _check_names(old: Config, new: Config) -> None:
    before, after = (
        {variant["VariantName"] for variant in config["ProductionVariants"]}
        for config in (old, new)
    )
    if before != after:
        # deployment-guardrails-exclusions: "The variant name … must be the same in the old and
        # the new endpoint configuration".
        raise invalid(
            "Traffic routing other than ALL_AT_ONCE requires the variants of the endpoint: "
            f"{sorted(before)}; the new endpoint configuration has {sorted(after)}."
        )


def _instances(config: Config) -> int:
    return sum(
        variant.get("InitialInstanceCount") or 1
        for variant in config["ProductionVariants"]
        if not is_component_host(variant)
    )


def _fraction(size: Config, total: int, field: str, *, least: float, most: float) -> float:
    value = size["Value"]
    if size["Type"] == "CAPACITY_PERCENT":
        if not least * 100 <= value <= most * 100:
            raise invalid(
                f"{field} {value} must be between {max(1, round(least * 100))} and "
                f"{round(most * 100)} percent of the variant's total instance count."
            )
        return float(value / 100)
    # One instance is always a batch: of two, it is half; of one, nothing smaller can be had.
    if value > max(1, math.floor(total * most)):
        raise invalid(
            f"{field} {value} must be at most {round(most * 100)} percent of the variant's total "
            f"instance count, which is {total}."
        )
    return min(1.0, float(value) / max(1, total))


def _steps(fraction: float) -> Iterator[float]:
    share = fraction
    # 3 * 0.1 + 0.7 is less than 1.
    while share < 1 - 1e-9:
        yield share
        share += fraction
    yield 1.0
