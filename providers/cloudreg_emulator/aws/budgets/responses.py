"""Requests to Budgets that moto does not know."""

from __future__ import annotations

import json

from moto.budgets.models import budgets_backends
from moto.budgets.responses import BudgetsResponse

from cloudreg_emulator.aws.budgets.models import ToldBudgetsBackend


class ToldBudgetsResponse(BudgetsResponse):
    """moto's Budgets responses, with subscribers and tags."""

    @property
    def backend(self) -> ToldBudgetsBackend:
        """The backend of the account."""
        backend = budgets_backends[self.current_account][self.partition]
        assert isinstance(backend, ToldBudgetsBackend)
        return backend

    def create_budget(self) -> str:
        """Make a budget, with its tags."""
        answer: str = super().create_budget()
        account, name = self._get_param("AccountId"), self._get_param("Budget")["BudgetName"]
        arn = f"arn:{self.partition}:budgets::{account}:budget/{name}"
        self.backend.tag(arn, self._get_param("ResourceTags", []))
        return answer

    def describe_subscribers_for_notification(self) -> str:
        """Say whom a notification tells."""
        found = self.backend.subscribers(
            self._get_param("AccountId"),
            self._get_param("BudgetName"),
            self._get_param("Notification"),
        )
        return json.dumps({"Subscribers": found, "NextToken": None})

    def list_tags_for_resource(self) -> str:
        """List a budget's tags."""
        return json.dumps({"ResourceTags": self.backend.tags(self._get_param("ResourceARN"))})

    def tag_resource(self) -> str:
        """Add tags to a budget."""
        self.backend.tag(self._get_param("ResourceARN"), self._get_param("ResourceTags", []))
        return json.dumps({})

    def untag_resource(self) -> str:
        """Take tags from a budget."""
        self.backend.untag(self._get_param("ResourceARN"), self._get_param("ResourceTagKeys", []))
        return json.dumps({})
