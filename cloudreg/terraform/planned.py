"""A plan of Terraform's, read for changes of what cloudreg owns.

Source: https://developer.hashicorp.com/terraform/internals/json-format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloudreg.errors import InvalidRequest
from cloudreg.provider import PlannedChange

HINT = "terraform plan -out plan.bin && terraform show -json plan.bin > plan.json"

IDLE = frozenset({"no-op", "read"})
"""Actions that change nothing."""

Claim = Callable[[PlannedChange], str | None]
"""Returns why a change touches what cloudreg owns; None where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A planned change that Terraform must not make.

    Attributes:
        address: Of the resource.
        actions: What Terraform would do, such as ``["delete", "create"]``.
        target: Whose it is.
        reason: In words.
    """

    address: str
    actions: tuple[str, ...]
    target: str
    reason: str


def read(text: str, name: str) -> list[PlannedChange]:
    """Return the changes of a plan, without those that change nothing.

    Args:
        text: What ``terraform show -json`` printed of it.
        name: Of the file, for messages.

    Raises:
        InvalidRequest: It is not that, or of a format that is not known.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name}: not a plan as JSON: {error}", hint=HINT) from error
    if not isinstance(document, dict) or "format_version" not in document:
        raise InvalidRequest(f"{name}: not a plan as JSON: it has no format_version", hint=HINT)
    version = str(document["format_version"])
    if version.partition(".")[0] != "1":
        raise InvalidRequest(
            f"{name}: a plan of format {version}, only 1.x is understood",
            hint="a terraform, or a cloudreg, of this year",
        )
    if "planned_values" not in document and "resource_changes" not in document:
        raise InvalidRequest(f"{name}: a state and not a plan", hint=HINT)
    if document.get("errored"):
        raise InvalidRequest(f"{name}: the plan ended half-way with an error", hint=HINT)
    return list(_changes(document, name))


def _changes(document: Mapping[str, Any], name: str) -> Iterator[PlannedChange]:
    try:
        for entry in document.get("resource_changes") or ():
            change = entry["change"]
            actions = tuple(change["actions"])
            if entry.get("mode") == "data" or set(actions) <= IDLE:
                continue
            yield PlannedChange(
                address=entry["address"],
                type=entry["type"],
                actions=actions,
                before=change.get("before") or {},
                after=change.get("after") or {},
            )
    except (KeyError, TypeError) as error:
        raise InvalidRequest(
            f"{name}: not a plan as JSON: a change lacks {error}", hint=HINT
        ) from error


def refused(changes: Iterable[PlannedChange], claims: Mapping[str, Claim]) -> list[Refusal]:
    """Return the changes that touch what cloudreg owns.

    Args:
        changes: Of a plan.
        claims: What asks each target, by its name.
    """
    return [
        Refusal(address=change.address, actions=change.actions, target=target, reason=reason)
        for change in changes
        for target, claim in claims.items()
        if (reason := claim(change)) is not None
    ]
