"""How an endpoint comes into service, changes, and goes: the steps, each with its wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends

from cloudreg_emulator.aws.autoscaling import alarms as readings
from cloudreg_emulator.aws.sagemaker.course import Failed, Steps, Wait
from cloudreg_emulator.aws.sagemaker.endpoint import Endpoint
from cloudreg_emulator.aws.sagemaker.generation import Generation
from cloudreg_emulator.aws.sagemaker.place import Place
from cloudreg_emulator.aws.sagemaker.rollout import Rollout
from cloudreg_emulator.aws.world import current
from cloudreg_emulator.faults import When

__all__ = ["create", "delete", "first_batch", "rescale", "update"]

Check = Callable[[], bool]


def create(endpoint: Endpoint, generation: Generation) -> Steps:
    """Bring the first instances up: Creating, then InService or Failed."""
    try:
        yield Wait(until=generation.ready)
    except Failed as error:
        generation.stop()
        endpoint.failure = str(error)
        endpoint.become("Failed")
        return
    endpoint.become("InService")


def update(
    endpoint: Endpoint,
    green: Generation,
    rollout: Rollout,
    *,
    targets: Mapping[str, int],
    place: Place,
    capture: Mapping[str, Any] | None,
) -> Steps:
    """Move an endpoint to another generation, or back to its own: Updating, then InService.

    Args:
        endpoint: What moves.
        green: The other generation, with the instances of `first_batch`.
        rollout: How it moves.
        targets: How many instances each variant shall have in the end.
        place: Where the alarms are.
        capture: The DataCaptureConfig that is in force then.

    The status is InService in both cases; only the configuration's name and sometimes a
    FailureReason tell them apart.
    Source: https://github.com/hashicorp/terraform-provider-aws/issues/48997
    """
    blue = endpoint.blue
    assert blue is not None
    quiet = _quiet(rollout, place)
    before = {one.name: one.desired for one in blue.production}
    try:
        if rollout.rolling:
            yield from _roll(endpoint, green, rollout, targets, quiet)
        else:
            yield from _shift(endpoint, green, rollout, quiet)
        _take_fault(endpoint)
    except Failed as error:
        endpoint.stage = "Deleting"
        if rollout.rolling:
            try:
                yield from _refill(blue, before, rollout)
            except Failed as second:
                endpoint.failure = str(second)
                endpoint.become("UpdateRollbackFailed")
                return
        # The status stays Updating: RollingBack is of UpdateEndpointWeightsAndCapacities alone.
        # Source: EndpointStatus of DescribeEndpoint in the service model.
        endpoint.share = 0.0
        yield Wait()
        green.stop()
        endpoint.forget()
        endpoint.failure = str(error) or None
        endpoint.become("InService")
        return
    endpoint.share = 1.0
    if rollout.keep_s:
        endpoint.stage = "Deleting"
        yield Wait(seconds=rollout.keep_s)
    endpoint.blue = green
    endpoint.config_name = str(green.config["EndpointConfigName"])
    endpoint.capture = capture
    endpoint.forget()
    blue.stop()
    endpoint.become("InService")


def _shift(endpoint: Endpoint, green: Generation, rollout: Rollout, quiet: Check) -> Steps:
    """Start all of the new fleet, then move the traffic in steps."""
    yield Wait(until=lambda: quiet() and green.ready())
    for share in rollout.shares:
        endpoint.stage = "ActivatingTraffic"
        endpoint.share = share
        if rollout.bake_s:
            endpoint.stage = "Baking"
            yield Wait(seconds=rollout.bake_s, until=quiet)


def first_batch(rollout: Rollout, targets: Mapping[str, int]) -> dict[str, int]:
    """Return how many instances of each variant a deployment starts with."""
    share = rollout.shares[0] if rollout.rolling else 1.0
    return {name: _part(count, share) for name, count in targets.items()}


def _part(count: int, share: float) -> int:
    # 10 * 0.1 * 3 is a little more than 3.
    return math.ceil(count * share - 1e-9)


def _roll(
    endpoint: Endpoint,
    green: Generation,
    rollout: Rollout,
    targets: Mapping[str, int],
    quiet: Check,
) -> Steps:
    """Move capacity and traffic in batches, so that never two whole fleets are paid for."""
    blue = endpoint.blue
    assert blue is not None
    before = {one.name: one.desired for one in blue.production}
    for share in rollout.shares:
        endpoint.stage = "Creating"
        for one in green.production:
            one.resize(_part(targets[one.name], share))
        yield Wait(until=lambda: quiet() and green.ready())
        endpoint.stage = "ActivatingTraffic"
        endpoint.share = share
        if rollout.bake_s:
            endpoint.stage = "Baking"
            yield Wait(seconds=rollout.bake_s, until=quiet)
        for one in blue.production:
            one.resize(before[one.name] - _part(before[one.name], share))


def _refill(blue: Generation, before: Mapping[str, int], rollout: Rollout) -> Steps:
    """Bring up again what a rolling deployment took from the old fleet."""
    for share in rollout.rollback_shares:
        for one in blue.production:
            one.resize(max(one.desired, _part(before[one.name], share)))
        yield Wait(until=blue.ready)


def rescale(endpoint: Endpoint, counts: Mapping[str, int], weights: Mapping[str, float]) -> Steps:
    """Change weights and numbers of instances: Updating, then InService.

    Where instances do not come up: RollingBack, and InService as it was before.
    """
    blue = endpoint.blue
    assert blue is not None
    changed = {one.name: one for one in blue.production if one.name in {*counts, *weights}}
    before = {name: (one.desired, one.weight) for name, one in changed.items()}
    for name, one in changed.items():
        one.desired_weight = weights.get(name, one.weight)
        if name in counts:
            one.resize(counts[name])
    try:
        yield Wait(until=blue.ready)
    except Failed as error:
        endpoint.become("RollingBack")
        for name, one in changed.items():
            one.resize(before[name][0])
            one.desired_weight = before[name][1]
        yield Wait()
        endpoint.failure = str(error)
        endpoint.become("InService")
        return
    for one in changed.values():
        one.weight = one.desired_weight
    endpoint.become("InService")


def delete(endpoint: Endpoint) -> Steps:
    """Take an endpoint away: Deleting, then gone."""
    endpoint.stop()
    yield Wait()
    endpoint.gone = True


def _take_fault(endpoint: Endpoint) -> None:
    """Roll back, and say nothing of it, where that shall happen."""
    if current().faults.strike("sagemaker", endpoint.name, When.UPDATE) is not None:
        raise Failed("")


def _quiet(rollout: Rollout, place: Place) -> Check:
    """Return a check that fails once an alarm rings, or the deployment takes too long."""
    began = time.monotonic()

    def check() -> bool:
        # An alarm that does not exist can never ring; AWS asks for none to exist.
        cloudwatch = cloudwatch_backends[place.account][place.region]
        alarms = cloudwatch.alarms
        for alarm in (alarms[name] for name in rollout.alarms if name in alarms):
            now, scale = readings.utc_now(), current().scale
            if not readings.is_held(alarm, now=now, scale=scale):
                data = cloudwatch.metric_data
                readings.update(alarm, readings.read(alarm, data, now=now, scale=scale))
        ringing = [n for n in rollout.alarms if n in alarms and alarms[n].state_value == "ALARM"]
        if ringing:
            raise Failed(
                f"One or more CloudWatch alarms went into ALARM during the deployment: "
                f"{', '.join(ringing)}. The endpoint was rolled back."
            )
        limit_s = rollout.limit_s
        scale = current().scale
        if limit_s is not None and scale and time.monotonic() - began > limit_s * scale:
            raise Failed(
                f"The deployment took longer than MaximumExecutionTimeoutInSeconds ({limit_s:g}). "
                "The endpoint was rolled back."
            )
        return True

    return check
