"""The IAM backend: which policies a principal has."""

from __future__ import annotations

from functools import cached_property
from types import ModuleType
from typing import Any

from moto.core.exceptions import ServiceException
from moto.iam.models import IAMBackend

from cloudreg_emulator.aws.iam.policies import Policy


class NoSuchEntity(ServiceException):
    """A principal or policy that is not there."""

    code = "NoSuchEntity"


class InvalidInput(ServiceException):
    """A value that can never be right."""

    code = "InvalidInput"


class StrictIamBackend(IAMBackend):
    """moto's IAM, which can tell what a principal may do."""

    @cached_property
    def _url_module(self) -> ModuleType:
        from cloudreg_emulator.aws.iam import urls

        return urls

    def policies_of(self, arn: str) -> tuple[list[Policy], list[Policy]]:
        """Return the policies of a user, group or role, and those of its boundary.

        Raises:
            InvalidInput: The ARN names none of these.
            NoSuchEntity: There is none of that name.
        """
        kind, _, path = arn.partition(":iam::")[2].partition(":")[2].partition("/")
        name = path.rsplit("/", 1)[-1]
        if kind not in ("user", "group", "role") or not name:
            raise InvalidInput(
                f"Invalid Entity Arn: {arn} does not clearly define entity type and name."
            )
        everybody: dict[str, dict[str, Any]] = {
            "user": dict(self.users),
            "group": dict(self.groups),
            # Roles are kept by their ids.
            "role": {role.name: role for role in self.roles.values()},
        }
        holder = everybody[kind].get(name)
        if holder is None:
            raise NoSuchEntity(f"The {kind} with name {name} cannot be found.")
        found = self._of(holder, kind)
        if kind == "user":
            for group in self.get_groups_for_user(name):
                found += self._of(group, "group")
        boundary = getattr(holder, "permissions_boundary_arn", None)
        return found, [self._managed(boundary)] if boundary else []

    def _of(self, holder: Any, kind: str) -> list[Policy]:
        inline = [
            Policy(name=f"{kind}_{holder.name}_{name}", kind=kind, document=_text(document))
            for name, document in holder.policies.items()
        ]
        return inline + [self._managed(arn) for arn in holder.managed_policies]

    def _managed(self, arn: str) -> Policy:
        policy = self.managed_policies.get(arn)
        if policy is None:
            raise NoSuchEntity(f"Policy {arn} was not found.")
        version = next(v for v in policy.versions if v.version_id == policy.default_version_id)
        return Policy(name=policy.name, kind=_kind(arn), document=_text(version.document))


def _text(document: Any) -> str:
    return document if isinstance(document, str) else str(document["policy_document"])


def _kind(arn: str) -> str:
    return "aws-managed" if arn.split(":")[4] == "aws" else "user-managed"
