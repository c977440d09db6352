"""Application Auto Scaling's operations: ours for SageMaker, moto's for everything else."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.utils import get_service_model

from cloudreg_emulator.aws import validate, world
from cloudreg_emulator.aws.autoscaling.errors import Refused, invalid
from cloudreg_emulator.aws.autoscaling.models import SERVICE, ScalingBackend
from cloudreg_emulator.aws.autoscaling.policies import Policy
from cloudreg_emulator.aws.autoscaling.rules import CONFIGURATIONS, MAX_TAGS
from cloudreg_emulator.aws.refusing import refusal
from cloudreg_emulator.faults import Fault

PAGE = 50
JSON = "application/x-amz-json-1.1"

T = TypeVar("T")


class ScalingResponse(ApplicationAutoScalingResponse):
    """Requests to Application Auto Scaling."""

    @property
    def here(self) -> ScalingBackend:
        """The backend of the request's account and region."""
        backend = applicationautoscaling_backends[self.current_account][self.region]
        assert isinstance(backend, ScalingBackend)
        return backend

    @property
    def asked(self) -> dict[str, Any]:
        """The request."""
        asked: dict[str, Any] = json.loads(self.body or "{}")
        return asked

    def call_action(self) -> Any:
        """Answer one request."""
        name = self._get_action()
        return world.current().faults.guarded(
            "application-autoscaling", name, self._answer, spoiled=self._spoiled
        )

    def _answer(self) -> Any:
        name = self._get_action()
        model = get_service_model("application-autoscaling")
        if name in model.operation_names:
            shape = model.operation_model(name).input_shape
            found = validate.complaints(shape, self.asked)
            if found:
                return self._plain(400, "ValidationException", validate.message(found))
        try:
            return super().call_action()
        except NotImplementedError:
            return self._plain(400, "UnknownOperationException", f"{name} is not emulated.")

    def _plain(self, status: int, code: str, words: str) -> Any:
        headers = {**self.response_headers, "Content-Type": JSON, "status": str(status)}
        return status, headers, json.dumps({"__type": code, "message": words})

    def _spoiled(self, fault: Fault) -> Any:
        name = self._get_action()
        refused = refusal(fault, service="application-autoscaling", operation=name)
        if refused is not None:
            return self._plain(*refused)
        if not fault.status:
            world.hang_up(self.normalized_request)
        code = "ServiceUnavailable" if fault.status == 503 else "InternalServiceException"
        return self._plain(fault.status, code, "The request failed; try again.")

    def _ours(self, answer: Callable[[], Any], otherwise: Callable[[], str]) -> str:
        """Answer for SageMaker, and let moto answer for all other services."""
        if self.asked.get("ServiceNamespace", SERVICE) != SERVICE:
            return otherwise()
        return json.dumps(answer())

    def register_scalable_target(self) -> str:  # the operation's name
        return self._ours(
            lambda: {"ScalableTargetARN": self.here.register(self.asked).arn},
            super().register_scalable_target,
        )

    def deregister_scalable_target(self) -> str:
        def act() -> dict[str, Any]:
            asked = self.asked
            self.here.deregister_scalable_target(
                SERVICE, asked["ResourceId"], asked["ScalableDimension"]
            )
            return {}

        return self._ours(act, super().deregister_scalable_target)

    def describe_scalable_targets(self) -> str:
        def act() -> dict[str, Any]:
            asked = self.asked
            targets = self.here.describe_scalable_targets(
                SERVICE, asked.get("ResourceIds"), asked.get("ScalableDimension")
            )
            return self._page("ScalableTargets", targets, _target, key=lambda t: t.arn)

        return self._ours(act, super().describe_scalable_targets)

    def put_scaling_policy(self) -> str:
        def act() -> dict[str, Any]:
            policy = self.here.put_policy(self.asked)
            return {"PolicyARN": policy.policy_arn, "Alarms": _alarms(policy)}

        return self._ours(act, super().put_scaling_policy)

    def describe_scaling_policies(self) -> str:
        def act() -> dict[str, Any]:
            asked = self.asked
            wanted = {
                "policy_name": asked.get("PolicyNames"),
                "resource_id": [asked["ResourceId"]] if "ResourceId" in asked else None,
                "scalable_dimension": (
                    [asked["ScalableDimension"]] if "ScalableDimension" in asked else None
                ),
            }
            policies = [
                policy
                for policy in self.here.policies.values()
                if isinstance(policy, Policy)
                and all(v is None or getattr(policy, k) in v for k, v in wanted.items())
            ]
            return self._page("ScalingPolicies", policies, _policy, key=lambda p: p.policy_arn)

        return self._ours(act, super().describe_scaling_policies)

    def delete_scaling_policy(self) -> str:
        def act() -> dict[str, Any]:
            self.here.delete_policy(self.asked)
            return {}

        return self._ours(act, super().delete_scaling_policy)

    def describe_scaling_activities(self) -> str:
        asked = self.asked
        if "ScalableDimension" in asked and "ResourceId" not in asked:
            # ScalableDimension in the service model: a ResourceId is needed with it. Unquoted.
            raise invalid("ResourceId is required with ScalableDimension")
        found = [
            activity
            for activity in self.here.activities
            if asked["ServiceNamespace"] == SERVICE
            and asked.get("ResourceId", activity.resource) == activity.resource
            and asked.get("ScalableDimension", activity.dimension) == activity.dimension
        ]
        answer = self._page(
            "ScalingActivities", found, lambda a: a.to_json(), key=lambda a: a.number
        )
        return json.dumps(answer)

    def list_tags_for_resource(self) -> str:
        return json.dumps({"Tags": self.here.tags(self.asked["ResourceARN"])})

    def tag_resource(self) -> str:
        tags = self.here.tags(self.asked["ResourceARN"])
        after = {**tags, **self.asked["Tags"]}
        if len(after) > MAX_TAGS:
            raise Refused("TooManyTagsException", f"A scalable target has at most {MAX_TAGS} tags")
        tags.update(after)
        return "{}"

    def untag_resource(self) -> str:
        tags = self.here.tags(self.asked["ResourceARN"])
        for key in self.asked["TagKeys"]:
            tags.pop(key, None)
        return "{}"

    def _page(
        self,
        name: str,
        items: Sequence[T],
        show: Callable[[T], dict[str, Any]],
        *,
        key: Callable[[T], str],
    ) -> dict[str, Any]:
        """Return one page; a token names the last item that was shown."""
        token = self.asked.get("NextToken")
        start = 0
        if token:
            try:
                last = base64.urlsafe_b64decode(token).decode()
                start = [key(item) for item in items].index(last) + 1
            except (binascii.Error, ValueError):
                raise Refused("InvalidNextTokenException", "The next token is invalid") from None
        size = self.asked.get("MaxResults") or PAGE
        shown = items[start : start + size]
        answer: dict[str, Any] = {name: [show(item) for item in shown]}
        if start + size < len(items):
            answer["NextToken"] = base64.urlsafe_b64encode(key(shown[-1]).encode()).decode()
        return answer


def _target(target: Any) -> dict[str, Any]:
    state = target.suspended_state or {}
    names = (
        "DynamicScalingInSuspended",
        "DynamicScalingOutSuspended",
        "ScheduledScalingSuspended",
    )
    return {
        "ServiceNamespace": target.service_namespace,
        "ResourceId": target.resource_id,
        "ScalableDimension": target.scalable_dimension,
        "MinCapacity": target.min_capacity,
        "MaxCapacity": target.max_capacity,
        "RoleARN": target.role_arn,
        "CreationTime": target.creation_time,
        "SuspendedState": {name: bool(state.get(name)) for name in names},
        "ScalableTargetARN": target.arn,
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "PolicyARN": policy.policy_arn,
        "PolicyName": policy.policy_name,
        "ServiceNamespace": policy.service_namespace,
        "ResourceId": policy.resource_id,
        "ScalableDimension": policy.scalable_dimension,
        "PolicyType": policy.policy_type,
        CONFIGURATIONS[str(policy.policy_type)]: policy.config,
        "Alarms": _alarms(policy),
        "CreationTime": policy.creation_time,
    }


def _alarms(policy: Policy) -> list[dict[str, str]]:
    return [{"AlarmName": alarm.name, "AlarmARN": alarm.alarm_arn} for alarm in policy.alarms]
