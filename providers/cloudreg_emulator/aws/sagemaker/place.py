"""Where a backend is, and what all response bodies have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["Place", "now", "without_empty"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An account in a region.

    Attributes:
        account: Twelve digits.
        region: Such as ``us-east-1``.
        partition: ``aws``, ``aws-cn``, ``aws-us-gov``.
    """

    account: str
    region: str
    partition: str

    def arn(self, kind: str, name: str) -> str:
        """Return a resource's ARN."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{self.account}:{kind}/{name}"


def now() -> datetime:
    """Return the time that resources are stamped with."""
    return datetime.now(UTC)


def without_empty(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response without what AWS leaves out.

    moto answers ``VpcConfig: {}``; Terraform then wants to replace the model, and the SageMaker
    SDK cannot read it.
    """
    return {key: value for key, value in body.items() if value is not None and value != {}}
