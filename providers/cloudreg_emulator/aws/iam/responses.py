"""IAM requests that moto does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.responses import IamResponse

from cloudreg_emulator.aws.iam.models import InvalidInput, StrictIamBackend
from cloudreg_emulator.aws.iam.policies import Decision, Policy, UnknownCondition, decide

_ACTION = re.compile(r"[a-z0-9-]+:[A-Za-z0-9]+")
_UNSUPPORTED = ("ResourcePolicy", "ResourceOwner", "CallerArn", "PolicyExclusionList")


class StrictIamResponse(IamResponse):
    """moto's IAM responses, and ``SimulatePrincipalPolicy``."""

    backend: StrictIamBackend

    def simulate_principal_policy(self) -> ActionResult:
        """Say what a principal's policies allow.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
        """
        for name in _UNSUPPORTED:
            if self._get_param(name):
                raise NotImplementedError(f"{name} of SimulatePrincipalPolicy is not emulated")
        policies, boundary = self.backend.policies_of(self._get_param("PolicySourceArn"))
        policies += _given("PolicyInputList", self._get_param("PolicyInputList", []))
        limits = self._get_param("PermissionsBoundaryPolicyInputList", [])
        if limits:
            boundary = _given("PermissionsBoundaryPolicyInputList", limits)
        context = {
            entry["ContextKeyName"].lower(): list(entry.get("ContextKeyValues", []))
            for entry in self._get_param("ContextEntries", [])
        }
        actions = self._get_param("ActionNames", [])
        for action in actions:
            if not _ACTION.fullmatch(action):
                raise InvalidInput(f"ActionNames: {action!r} is not a valid action name.")
        resources = self._get_param("ResourceArns", []) or ["*"]
        try:
            results = [
                _result(
                    action, resource, decide(policies, action, resource, context, boundary=boundary)
                )
                for action in actions
                for resource in resources
            ]
        except UnknownCondition as error:
            raise NotImplementedError(f"condition operator {error} is not emulated") from error
        return self._page(results)

    def _page(self, results: list[dict[str, Any]]) -> ActionResult:
        marker = self._get_param("Marker")
        start = int(marker) if marker else 0
        end = start + (self._get_int_param("MaxItems") or 100)
        more = {"Marker": str(end)} if end < len(results) else {}
        return ActionResult(
            {"EvaluationResults": results[start:end], "IsTruncated": bool(more), **more}
        )


def _given(parameter: str, documents: list[str]) -> list[Policy]:
    return [
        Policy(name=f"{parameter}.{index}", kind="none", document=document)
        for index, document in enumerate(documents, start=1)
    ]


def _result(action: str, resource: str, decision: Decision) -> dict[str, Any]:
    return {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision.outcome,
        "MatchedStatements": list(_matched(decision)),
        "MissingContextValues": list(decision.missing),
    }


def _matched(decision: Decision) -> Iterator[dict[str, str]]:
    for policy in decision.matched:
        yield {"SourcePolicyId": policy.name, "SourcePolicyType": policy.kind}
