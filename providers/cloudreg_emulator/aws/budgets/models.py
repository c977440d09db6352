"""The Budgets backend: subscribers of a notification, and tags of a budget.

Source: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_Operations_AWS_Budgets.html
"""

from __future__ import annotations

from functools import cached_property
from types import ModuleType
from typing import Any

from moto.budgets.exceptions import NotFoundException
from moto.budgets.models import BudgetsBackend, Notification


class ToldBudgetsBackend(BudgetsBackend):
    """moto's Budgets, which remembers whom it would tell."""

    def __init__(self, region_name: str, account_id: str) -> None:
        """Begin without budgets."""
        super().__init__(region_name, account_id)
        self._tags: dict[str, dict[str, str]] = {}

    @cached_property
    def _url_module(self) -> ModuleType:
        from cloudreg_emulator.aws.budgets import urls

        return urls

    def subscribers(
        self, account_id: str, name: str, notification: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Return whom a notification tells.

        Raises:
            NotFoundException: There is no such budget, or it has no such notification.
        """
        self.describe_budget(account_id, name)
        wanted = _told(notification)
        for one in self.budgets[account_id][name].notifications:
            if _told(one.details) == wanted:
                return list(_list(one))
        raise NotFoundException("Unable to get subscribers - the notification doesn't exist.")

    def tag(self, arn: str, tags: list[dict[str, str]]) -> None:
        """Add tags to a budget."""
        self._tags.setdefault(arn, {}).update({tag["Key"]: tag["Value"] for tag in tags})

    def untag(self, arn: str, keys: list[str]) -> None:
        """Take tags from a budget; those that it does not have are fine."""
        for key in keys:
            self._tags.get(arn, {}).pop(key, None)

    def tags(self, arn: str) -> list[dict[str, str]]:
        """Return a budget's tags."""
        return [{"Key": key, "Value": value} for key, value in self._tags.get(arn, {}).items()]

    def delete_budget(self, account_id: str, budget_name: str) -> None:
        """Delete a budget, and its tags with it."""
        super().delete_budget(account_id, budget_name)
        self._tags.pop(f"arn:{self.partition}:budgets::{account_id}:budget/{budget_name}", None)


def _list(notification: Notification) -> list[dict[str, Any]]:
    found: Any = notification.subscribers
    return list(found)


def _told(details: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells a notification from others; absent, a threshold is a percentage."""
    return (
        details.get("NotificationType"),
        details.get("ComparisonOperator"),
        float(details.get("Threshold", 0)),
        details.get("ThresholdType", "PERCENTAGE"),
    )
