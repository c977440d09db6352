"""Where requests to an endpoint go: what the runtime asks the control plane for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloudreg_emulator.fleet import Group

__all__ = ["Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One group of instances that requests may go to.

    Attributes:
        variant: The production variant's name.
        weight: Its part of the traffic; parts need not add up to 1.
        group: The instances.
        model_name: What they serve; None where the component names a container itself.
        config: The ProductionVariant in the endpoint configuration that started them.
        component: The inference component, where the group is its copies.
        shadow: Whether it gets copies of requests, and its answers are dropped.
    """

    variant: str
    weight: float
    group: Group
    model_name: str | None
    config: Mapping[str, Any]
    component: str | None = None
    shadow: bool = False
