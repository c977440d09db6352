"""Identity policies, evaluated as IAM evaluates them: explicit deny, allow, implicit deny.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

ALLOWED = "allowed"
EXPLICIT_DENY = "explicitDeny"
IMPLICIT_DENY = "implicitDeny"


class UnknownCondition(ValueError):
    """A condition operator that this emulator cannot evaluate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy document of a principal.

    Attributes:
        name: What the answer calls it.
        kind: As ``SourcePolicyType`` has it: ``user``, ``role``, ``user-managed`` and so on.
        document: Its JSON.
    """

    name: str
    kind: str
    document: str

    def statements(self) -> list[Mapping[str, Any]]:
        """Return its statements."""
        found = json.loads(self.document).get("Statement", [])
        return [found] if isinstance(found, Mapping) else list(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What policies say of one action on one resource.

    Attributes:
        outcome: ``allowed``, ``explicitDeny`` or ``implicitDeny``.
        matched: The policies with a statement that decided.
        missing: Context keys that conditions asked for and nobody gave.
    """

    outcome: str
    matched: tuple[Policy, ...] = ()
    missing: tuple[str, ...] = ()


def decide(
    policies: Iterable[Policy],
    action: str,
    resource: str,
    context: Mapping[str, Sequence[str]],
    *,
    boundary: Iterable[Policy] = (),
) -> Decision:
    """Return what *policies* say of *action* on *resource*.

    Args:
        policies: All of the principal.
        action: Such as ``s3:GetObject``.
        resource: An ARN, or ``*``.
        context: Values of condition keys; names in lower case.
        boundary: The permissions boundary, which can only take away; none allows everything.

    Raises:
        UnknownCondition: A statement has an operator that is not emulated.
    """
    missing: dict[str, None] = {}
    allowed: list[Policy] = []
    denied: list[Policy] = []
    for policy in policies:
        for statement in policy.statements():
            if _applies(statement, action, resource, context, missing):
                (allowed if statement.get("Effect") == "Allow" else denied).append(policy)
    limits = list(boundary)
    if limits:
        bound = decide(limits, action, resource, context)
        if bound.outcome == EXPLICIT_DENY:
            denied += bound.matched
        elif bound.outcome == IMPLICIT_DENY:
            allowed.clear()
    outcome = EXPLICIT_DENY if denied else ALLOWED if allowed else IMPLICIT_DENY
    decisive = denied or allowed
    return Decision(outcome=outcome, matched=tuple(dict.fromkeys(decisive)), missing=tuple(missing))


def _applies(
    statement: Mapping[str, Any],
    action: str,
    resource: str,
    context: Mapping[str, Sequence[str]],
    missing: dict[str, None],
) -> bool:
    if "NotAction" in statement:
        acts = not _any(statement["NotAction"], action, folded=True)
    else:
        acts = _any(statement.get("Action", ()), action, folded=True)
    if "NotResource" in statement:
        meant = not _any(statement["NotResource"], resource)
    else:
        meant = _any(statement.get("Resource", "*"), resource)
    if not (acts and meant):
        return False
    conditions: Mapping[str, Mapping[str, Any]] = statement.get("Condition", {})
    holds = True
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            given = context.get(key.lower())
            if given is None:
                missing[key] = None
            holds = _holds(operator, _listed(wanted), given) and holds
    return holds


def _any(patterns: Any, value: str, *, folded: bool = False) -> bool:
    return any(_like(pattern, value, folded=folded) for pattern in _listed(patterns))


def _listed(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in values]


@cache
def _pattern(pattern: str, *, folded: bool) -> re.Pattern[str]:
    # Square brackets mean nothing to IAM, while fnmatch has sets of characters in them.
    translated = fnmatch.translate(pattern.replace("[", "[[]"))
    return re.compile(translated, re.IGNORECASE if folded else 0)


def _like(pattern: str, value: str, *, folded: bool = False) -> bool:
    return _pattern(pattern, folded=folded).match(value) is not None


def _holds(operator: str, wanted: list[str], given: Sequence[str] | None) -> bool:
    """Return whether a condition holds.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    scope, colon, plain = operator.rpartition(":")
    optional = plain.endswith("IfExists")
    plain = plain.removesuffix("IfExists")
    if plain == "Null":
        return (wanted == ["true"]) == (given is None)
    negated = plain in _NEGATED
    compare = _COMPARISONS.get(_NEGATED.get(plain, plain))
    if compare is None or (colon and scope not in ("ForAllValues", "ForAnyValue")):
        raise UnknownCondition(operator)
    if given is None:
        # A negated comparison with nothing holds, and so does "for all of none".
        return optional or negated or scope == "ForAllValues"
    hits = [any(compare(want, value) for want in wanted) for value in given]
    if negated:
        hits = [not hit for hit in hits]
        return any(hits) if scope == "ForAnyValue" else all(hits)
    return all(hits) if scope == "ForAllValues" else any(hits)


_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
}
_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda want, value: want == value,
    "StringEqualsIgnoreCase": lambda want, value: want.lower() == value.lower(),
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": lambda want, value: want.lower() == value.lower(),
    "NumericEquals": lambda want, value: float(value) == float(want),
    "NumericLessThan": lambda want, value: float(value) < float(want),
    "NumericLessThanEquals": lambda want, value: float(value) <= float(want),
    "NumericGreaterThan": lambda want, value: float(value) > float(want),
    "NumericGreaterThanEquals": lambda want, value: float(value) >= float(want),
}
