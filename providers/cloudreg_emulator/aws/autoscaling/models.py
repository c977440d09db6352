"""The backend: targets, policies, and the `tick` that scales."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from moto.applicationautoscaling.models import (
    ApplicationAutoscalingBackend,
    FakeApplicationAutoscalingPolicy,
    FakeScalableTarget,
)
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.exceptions import ServiceException
from moto.sagemakerruntime.models import sagemakerruntime_backends

from cloudreg_emulator.aws import world
from cloudreg_emulator.aws.autoscaling import alarms, deciding, rules
from cloudreg_emulator.aws.autoscaling.activities import Activities, Activity
from cloudreg_emulator.aws.autoscaling.errors import invalid, missing, no_resource
from cloudreg_emulator.aws.autoscaling.policies import Policy, dimensions
from cloudreg_emulator.aws.runtime.control import Capacity, control
from cloudreg_emulator.aws.runtime.models import RuntimeBackend

SERVICE = "sagemaker"


class ScalingBackend(ApplicationAutoscalingBackend):
    """Application Auto Scaling of one account in one region.

    Attributes:
        activities: What was scaled.
        resource_tags: Of targets, by ARN.
    """

    def __init__(self, region_name: str, account_id: str) -> None:
        """Begin with no target."""
        super().__init__(region_name, account_id)
        self.activities = Activities()
        self.resource_tags: dict[str, dict[str, str]] = {}

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The control plane's lock: each of the two asks the other while it holds its own."""
        return control(self.account_id, self.region_name).lock

    def register(self, request: Mapping[str, Any]) -> Any:
        """Register or update a target for SageMaker."""
        resource, dimension = request["ResourceId"], request["ScalableDimension"]
        rules.parts(resource, dimension)
        rules.check_runnable(dimension)
        with self.lock:
            before: Any = self.targets.get(dimension, {}).get(resource)
            tags = dict(request.get("Tags") or {})
            rules.check_tags(tags, exists=before is not None)
            capacity = self._capacity(resource, dimension)
            low, high = request.get("MinCapacity"), request.get("MaxCapacity")
            if before is not None:
                low = before.min_capacity if low is None else low
                high = before.max_capacity if high is None else high
            rules.check_bounds(low, high, capacity)
            suspended: Any = request.get("SuspendedState") or {}
            if before is None:
                before = FakeScalableTarget(
                    self, SERVICE, resource, dimension, low, high, self._role, suspended
                )
                self._add_scalable_target(before)
                self.resource_tags[before.arn] = tags
            else:
                before.update(low, high, {**(before.suspended_state or {}), **suspended})
            return before

    def deregister_scalable_target(self, namespace: str, r_id: str, dimension: str) -> None:
        """Deregister a target, with its policies and their alarms."""
        if namespace != SERVICE:
            super().deregister_scalable_target(namespace, r_id, dimension)
            return
        with self.lock:
            target = self.target(r_id, dimension, said="No scalable target found")
            for policy in list(self._policies(r_id, dimension)):
                self._drop(policy)
            self.resource_tags.pop(target.arn, None)
            super().deregister_scalable_target(namespace, r_id, dimension)

    def target(self, resource: str, dimension: str, *, said: str) -> Any:
        """Return a target, or refuse with *said*."""
        found = self.targets.get(dimension, {}).get(resource)
        if found is None:
            raise missing(said, resource=resource, dimension=dimension)
        return found

    def put_policy(self, request: Mapping[str, Any]) -> Policy:
        """Create a policy, or replace the one of this name."""
        resource, dimension = request["ResourceId"], request["ScalableDimension"]
        rules.parts(resource, dimension)
        with self.lock:
            self.target(resource, dimension, said="No scalable target registered")
            key = self._key(request)
            before = cast("Policy | None", self.policies.get(key))
            kind = rules.check_policy(
                request.get("PolicyType"),
                request,
                before=before.policy_type if before else None,
                dimension=dimension,
            )
            config = request[rules.CONFIGURATIONS[kind]]
            for other in self._policies(resource, dimension):
                if other is not before and other.same_metric(config):
                    raise invalid(
                        "Only one TargetTrackingScaling policy for a given metric specification "
                        "is allowed."
                    )
            if before is not None:
                before.delete_alarms(self.account_id, self.region_name)
            policy = Policy(
                account_id=self.account_id,
                region_name=self.region_name,
                policy_name=request["PolicyName"],
                service_namespace=SERVICE,
                resource_id=resource,
                scalable_dimension=dimension,
                policy_type=kind,
                policy_body=config,
                replaces=before,
            )
            self.policies[key] = policy
            return policy

    def delete_policy(self, request: Mapping[str, Any]) -> None:
        """Delete a policy and its alarms."""
        with self.lock:
            policy = self.policies.get(self._key(request))
            if policy is None:
                raise missing(
                    f"No scaling policy found for policy name: {request['PolicyName']}",
                    resource=request["ResourceId"],
                    dimension=request["ScalableDimension"],
                )
            self._drop(policy)

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a target, to read or to change."""
        if arn not in self.resource_tags:
            raise no_resource(arn)
        return self.resource_tags[arn]

    def tick(self) -> None:
        """Evaluate every alarm that scales, and scale what has to be scaled.

        One tick stands for one evaluation; how much time lies between two is the caller's choice.
        """
        with self.lock:
            targets = [t for by in self.targets.values() for t in by.values()]
            ours = [t for t in targets if t.service_namespace == SERVICE]
            self._say_idle(ours)
            self._evaluate()
            for target in ours:
                self._scale(target)

    def _say_idle(self, targets: Sequence[Any]) -> None:
        """Publish what no request publishes: zeros, and the requests that go on."""
        runtime = sagemakerruntime_backends[self.account_id][self.region_name]
        assert isinstance(runtime, RuntimeBackend)
        plane = control(self.account_id, self.region_name)
        for target in targets:
            resource, dimension = target.resource_id, target.scalable_dimension
            names = rules.parts(resource, dimension)
            try:
                if dimension == rules.INSTANCES and plane.async_inference(names[0]):
                    runtime.queue.publish(names[0])
                    continue
                load = plane.load(*names)
            except ServiceException:
                continue  # it was deleted a moment ago
            own = {d["Name"]: d["Value"] for d in dimensions(resource, dimension)}
            for metric in rules.METRICS.values():
                if metric.dimension == dimension:
                    concurrent = metric.statistic == "Average"
                    runtime.meter.sample(own, metric.name, load if concurrent else 0.0)

    def _evaluate(self) -> None:
        """Set the state of alarms by their metrics: those that scale, and those of endpoints."""
        cloudwatch = cloudwatch_backends[self.account_id][self.region_name]
        now, scale = alarms.utc_now(), world.current().scale
        arns = {policy.policy_arn for policy in self.policies.values()}
        for alarm in list(cloudwatch.alarms.values()):
            scales = not arns.isdisjoint(alarm.alarm_actions)
            watches = str(alarm.namespace or "").lower().lstrip("/").startswith("aws/sagemaker")
            if (scales or watches) and not alarms.is_held(alarm, now=now, scale=scale):
                reading = alarms.read(alarm, cloudwatch.metric_data, now=now, scale=scale)
                alarms.update(alarm, reading)

    def _scale(self, target: Any) -> None:
        resource, dimension = target.resource_id, target.scalable_dimension
        try:
            capacity = self._capacity(resource, dimension)
        except ServiceException:
            return  # it was deleted a moment ago
        going = self.activities.open(resource, dimension)
        if going is not None and not capacity.busy:
            fulfilled = capacity.desired == going.count
            going.end(time.time(), failure=None if fulfilled else "The change was rolled back.")
        if capacity.busy:
            return
        wanted, cause, policy = self._wanted(target, capacity.desired)
        if wanted == capacity.desired:
            return
        activity = self.activities.add(
            Activity(
                resource=resource,
                dimension=dimension,
                count=wanted,
                cause=cause,
                began=time.time(),
            )
        )
        try:
            self._set(resource, dimension, wanted)
        except ServiceException as error:
            activity.end(time.time(), failure=f"Failed to set {activity.what}: {error}")
            return
        if policy is not None:
            last = deciding.Last(at=time.monotonic(), before=capacity.desired, after=wanted)
            if wanted > capacity.desired:
                policy.last_out = last
            else:
                policy.last_in = last

    def _wanted(self, target: Any, current: int) -> tuple[int, str, Policy | None]:
        """Return the capacity that there should be, why, and who says so."""
        low, high = target.min_capacity, target.max_capacity
        if current < low:
            return low, f"minimum capacity was set to {low}", None
        if current > high:
            return high, f"maximum capacity was set to {high}", None
        suspended = target.suspended_state or {}
        found = [
            (min(max(wanted, low), high), cause, policy)
            for policy in self._policies(target.resource_id, target.scalable_dimension)
            for wanted, cause in self._asked(policy, current)
        ]
        outs = [one for one in found if one[0] > current]
        if outs and not suspended.get("DynamicScalingOutSuspended"):
            # Of several policies the one that asks for most is heard.
            return max(outs, key=lambda one: one[0])
        ins = [one for one in found if one[0] < current]
        trackers = [
            p
            for p in self._policies(target.resource_id, target.scalable_dimension)
            if p.tracks and not p.config.get("DisableScaleIn")
        ]
        agreed = {id(policy) for _, _, policy in ins}
        # In, only if every policy that tracks is ready for it.
        if (
            ins
            and not suspended.get("DynamicScalingInSuspended")
            and (all(id(policy) in agreed for policy in trackers))
        ):
            return max(ins, key=lambda one: one[0])
        return current, "", None

    def _asked(self, policy: Policy, current: int) -> Iterator[tuple[int, str]]:
        """Yield the capacities that a policy asks for now, each with its cause."""
        cloudwatch = cloudwatch_backends[self.account_id][self.region_name]
        scale, now = world.current().scale, time.monotonic()
        for alarm in list(cloudwatch.alarms.values()):
            if policy.policy_arn not in alarm.alarm_actions or alarm.state_value != "ALARM":
                continue
            if not alarm.actions_enabled:
                continue
            reading = alarms.read(alarm, cloudwatch.metric_data, now=alarms.utc_now(), scale=scale)
            value = reading.value if reading is not None else None
            if policy.tracks:
                # Without a value, one instance more or less is what the alarm itself says.
                target = float(policy.config["TargetValue"])
                out = "-AlarmHigh-" in alarm.name
                metric = (target if out else 0.0) if value is None else value
                move = deciding.out_to if out else deciding.in_to
                wanted = move(current, metric, target)
            else:
                breach = 0.0 if value is None else value - alarm.threshold
                wanted = deciding.step_to(policy.config, current, breach)
                out = wanted > current
            cooldown_s = policy.cooldown_s(out=out) * scale
            if out:
                wanted = deciding.cooled_out(
                    wanted, policy.last_out, now=now, cooldown_s=cooldown_s
                )
            elif policy.last_in is not None and now - policy.last_in.at < cooldown_s:
                continue
            yield (
                wanted,
                f"monitor alarm {alarm.name} in state ALARM triggered policy {policy.policy_name}",
            )

    def _capacity(self, resource: str, dimension: str) -> Capacity:
        names = rules.parts(resource, dimension)
        plane = control(self.account_id, self.region_name)
        found = (
            plane.component(names[0])
            if dimension == rules.COPIES
            else plane.variant(names[0], names[1])
        )
        return rules.check_capacity(found, resource)

    def _set(self, resource: str, dimension: str, count: int) -> None:
        names = rules.parts(resource, dimension)
        plane = control(self.account_id, self.region_name)
        if dimension == rules.COPIES:
            plane.scale_component(names[0], count)
        else:
            plane.scale_variant(names[0], names[1], count)

    def _policies(self, resource: str, dimension: str) -> Iterator[Policy]:
        for policy in list(self.policies.values()):
            if isinstance(policy, Policy) and (
                (policy.resource_id, policy.scalable_dimension) == (resource, dimension)
            ):
                yield policy

    def _drop(self, policy: FakeApplicationAutoscalingPolicy) -> None:
        policy.delete_alarms(self.account_id, self.region_name)
        self.policies = {k: p for k, p in self.policies.items() if p is not policy}

    def _key(self, request: Mapping[str, Any]) -> str:
        return FakeApplicationAutoscalingPolicy.formulate_key(
            SERVICE, request["ResourceId"], request["ScalableDimension"], request["PolicyName"]
        )

    @property
    def _role(self) -> str:
        # A role of the caller's is ignored: SageMaker has a service-linked one.
        # https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-service-linked-roles.html
        return (
            f"arn:{self.partition}:iam::{self.account_id}:role/aws-service-role/"
            "sagemaker.application-autoscaling.amazonaws.com/"
            "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
        )
