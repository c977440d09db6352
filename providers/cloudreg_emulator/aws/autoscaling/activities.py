"""What was scaled, why, and how it went."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

KEPT = 1000
"""Activities that are remembered."""


@dataclass(kw_only=True)
class Activity:
    """One scaling.

    Attributes:
        resource: What was scaled.
        dimension: Of it.
        count: The capacity that was asked for.
        cause: Why.
        began: Seconds since 1970.
        status: ``InProgress``, ``Successful`` or ``Failed``.
        message: For people.
        ended: Seconds since 1970; None while it goes on.
        number: Its id.
    """

    resource: str
    dimension: str
    count: int
    cause: str
    began: float
    status: str = "InProgress"
    message: str = ""
    ended: float | None = None
    number: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def what(self) -> str:
        """Return what is counted."""
        return "desired copy count" if "component" in self.dimension else "desired instance count"

    def end(self, now: float, *, failure: str | None = None) -> None:
        """Say how it went."""
        self.ended = now
        self.status = "Successful" if failure is None else "Failed"
        self.message = failure or (
            f"Successfully set {self.what} to {self.count}. Change successfully fulfilled by "
            "sagemaker."
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as DescribeScalingActivities shows it."""
        body = {
            "ActivityId": self.number,
            "ServiceNamespace": "sagemaker",
            "ResourceId": self.resource,
            "ScalableDimension": self.dimension,
            "Description": f"Setting {self.what} to {self.count}.",
            "Cause": self.cause,
            "StartTime": self.began,
            "EndTime": self.ended,
            "StatusCode": self.status,
            "StatusMessage": self.message
            or f"Successfully set {self.what} to {self.count}. Waiting for change to be fulfilled "
            "by sagemaker.",
        }
        return {name: value for name, value in body.items() if value is not None}


class Activities:
    """The activities of an account and region, the newest first."""

    def __init__(self) -> None:
        """Begin with none."""
        self._all: list[Activity] = []

    def __iter__(self) -> Iterator[Activity]:
        return iter(list(self._all))

    def add(self, activity: Activity) -> Activity:
        """Remember one."""
        self._all.insert(0, activity)
        del self._all[KEPT:]
        return activity

    def open(self, resource: str, dimension: str) -> Activity | None:
        """Return the one that goes on at a resource."""
        return next(
            (
                a
                for a in self._all
                if a.status == "InProgress" and (a.resource, a.dimension) == (resource, dimension)
            ),
            None,
        )
