"""What would change: shown, saved, compared, and only then done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from cloudreg.catalog import Bill, bills_json, bills_lines
from cloudreg.errors import InvalidRequest, NotFound
from cloudreg.names import canonical_json, check_digest, sha256, short
from cloudreg.types import Driver, Endpoint, EndpointSpec, EndpointStatus, GateResult, Rollout

FORMAT = 1


class Action(StrEnum):
    """What happens to one thing, in Terraform's words."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"

    @property
    def mark(self) -> str:
        """Return Terraform's mark."""
        return {"create": "+", "update": "~", "delete": "-"}[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that would change.

    Attributes:
        kind: ``stage``, ``endpoint`` or ``copy``.
        name: ``churn@prod``, an endpoint's name, or ``churn:7``.
        target: Where; None for what the ledger alone says.
        action: What happens.
        before: How it is, as plain JSON; None where it is not there.
        after: How it will be; None where it goes.
        note: What else people should know, such as the rollout's steps.
    """

    kind: str
    name: str
    action: Action
    target: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    note: str = ""

    def lines(self) -> Iterator[str]:
        """Render like a diff, one changed field a line."""
        where = f" on {self.target}" if self.target else ""
        yield f"{self.action.mark} {self.kind} {self.name}{where}"
        old = dict(flat(self.before or {}))
        new = dict(flat(self.after or {}))
        for key in sorted({*old, *new}):
            left, right = old.get(key), new.get(key)
            if left == right:
                continue
            if self.before is None:
                yield f"    {key}: {_shown(right)}"
            elif self.after is None:
                yield f"    {key}: {_shown(left)}"
            else:
                yield f"    {key}: {_shown(left)} -> {_shown(right)}"
        if self.note:
            yield f"    ({self.note})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request would change, and whether it may.

    Attributes:
        request: The verb and its arguments: enough to plan again.
        changes: In the order in which they would be made.
        gates: What the gates found; empty for requests that move no stage.
        warnings: What is worth knowing, although nothing will be done about it.
        bills: What the endpoints cost that were looked at, changed or not.
    """

    request: Mapping[str, Any]
    changes: tuple[Change, ...] = ()
    gates: tuple[GateResult, ...] = ()
    warnings: tuple[str, ...] = ()
    bills: tuple[Bill, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return not self.changes

    @property
    def allowed(self) -> bool:
        """Whether all gates hold, or somebody broke the glass."""
        return all(r.passed for r in self.gates) or bool(self.request.get("break_glass"))

    @property
    def fingerprint(self) -> str:
        """Digest of what would change, and its price: equal as long as the world did not move."""
        facts: list[Any] = [dict(self.request), [msgspec.to_builtins(c) for c in self.changes]]
        if not all(bill.free for bill in self.bills):
            facts.append([bill.to_json() for bill in self.bills])
        return sha256(canonical_json(facts))

    def counts(self) -> dict[str, int]:
        """Return how many changes of each action there are."""
        return {a.value: sum(c.action is a for c in self.changes) for a in Action}

    def to_json(self) -> dict[str, Any]:
        """Return the same facts as plain JSON data."""
        return {
            "format": FORMAT,
            "request": dict(self.request),
            "changes": [
                {
                    "kind": c.kind,
                    "name": c.name,
                    "target": c.target,
                    "actions": [c.action.value],
                    "before": c.before,
                    "after": c.after,
                    "note": c.note,
                }
                for c in self.changes
            ],
            "gates": [result.to_json() for result in self.gates],
            "warnings": list(self.warnings),
            "price": bills_json(self.bills),
            "counts": self.counts(),
            "fingerprint": self.fingerprint,
        }

    def __str__(self) -> str:
        """Render for people."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """Yield the text line by line."""
        if self.empty:
            yield "No changes. What runs is what was asked for."
        else:
            yield "cloudreg will make these changes:"
            for change in self.changes:
                yield ""
                yield from (f"  {line}" for line in change.lines())
        if self.gates:
            yield ""
            yield "Gates:"
            for result in self.gates:
                yield f"  {'pass' if result.passed else 'FAIL'}  {result.gate}: {result.reason}"
        for warning in self.warnings:
            yield ""
            yield f"Note: {warning}"
        yield from ("", *bills_lines(self.bills)) if self.bills else ()
        yield ""
        counts = self.counts()
        yield (
            f"Plan: {counts['create']} to create, {counts['update']} to change, "
            f"{counts['delete']} to destroy."
        )

    def save(self, path: Path) -> None:
        """Write the plan, for `SavedPlan.load` and an apply that is refused if the world moved.

        Raises:
            InvalidRequest: The file cannot be written.
        """
        document = self.to_json()
        canonical_json(document)  # refuses NaN, which msgspec would write as null
        data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
        try:
            path.write_bytes(data)
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from error


class _Saved(msgspec.Struct):
    format: int
    request: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan as it was shown.

    Attributes:
        request: The verb and its arguments.
        fingerprint: Of the changes that were shown.
    """

    request: Mapping[str, Any]
    fingerprint: str

    @classmethod
    def load(cls, path: Path) -> SavedPlan:
        """Read what `Plan.save` wrote.

        Raises:
            NotFound: No such file.
            InvalidRequest: It holds no plan of this format.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"{path}: no such plan", hint="cloudreg plan --out FILE") from error
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
        try:
            saved = msgspec.json.decode(data, type=_Saved)
            check_digest(saved.fingerprint)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors too
            raise InvalidRequest(f"{path} is not a plan that cloudreg saved") from error
        if saved.format != FORMAT:
            raise InvalidRequest(f"{path}: a plan of another cloudreg version")
        return cls(request=saved.request, fingerprint=saved.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChange:
    """One endpoint that has to change, as the deployer needs it.

    Attributes:
        name: The endpoint.
        target: Where it runs.
        before: What is there now, or None.
        after: What should be, or None.
        rollout: How it gets there.
        why: Set where the specs are equal and the endpoint still needs care, or why it goes.
        rests: When its ttl began, ISO 8601 in UTC, where it goes by itself and its ttl counts on.
    """

    name: str
    target: str
    before: Endpoint | None
    after: EndpointSpec | None
    rollout: Rollout = field(default_factory=Rollout)
    why: str = ""
    rests: str = ""

    def change(self) -> Change:
        """Return how a plan shows it."""
        action = Action.UPDATE
        if self.after is None:
            action = Action.DELETE
        elif self.before is None:
            action = Action.CREATE
        return Change(
            kind="endpoint",
            name=self.name,
            target=self.target,
            action=action,
            before=spec_json(self.before.spec) if self.before else None,
            after=spec_json(self.after) if self.after else None,
            note=self.why or (_rollout_note(self.rollout) if self._moves_version else ""),
        )

    @property
    def _moves_version(self) -> bool:
        if self.before is None or self.after is None:
            return False
        return {v.digest for v in self.before.spec.variants} != {
            v.digest for v in self.after.variants
        }


def endpoint_change(
    name: str,
    *,
    target: str,
    desired: EndpointSpec | None,
    observed: Endpoint | None,
    rollout: Rollout,
) -> EndpointChange | None:
    """Return what has to happen so that *observed* becomes *desired*, or None."""
    if desired is None and observed is None:
        return None
    why = ""
    if desired is not None and observed is not None and observed.spec == desired:
        if observed.status is EndpointStatus.READY:
            return None
        why = f"it is {observed.status}: {observed.message or 'no reason given'}"
    return EndpointChange(
        name=name, target=target, before=observed, after=desired, rollout=rollout, why=why
    )


def stage_change(
    model: str,
    stage: str,
    *,
    before: tuple[int, str] | None,
    after: tuple[int, str] | None,
    note: str = "",
) -> Change:
    """Return the move of a stage from one (number, digest) to another."""

    def shown(holder: tuple[int, str] | None) -> dict[str, Any] | None:
        return None if holder is None else {"version": holder[0], "digest": holder[1]}

    action = Action.UPDATE
    if before is None:
        action = Action.CREATE
    elif after is None:
        action = Action.DELETE
    return Change(
        kind="stage",
        name=f"{model}@{stage}",
        action=action,
        before=shown(before),
        after=shown(after),
        note=note,
    )


def spec_json(spec: EndpointSpec) -> dict[str, Any]:
    """Return an endpoint's spec as plain JSON data."""
    document: dict[str, Any] = msgspec.to_builtins(spec)
    return document


def spec_from_json(document: Mapping[str, Any]) -> EndpointSpec:
    """Read what `spec_json` returned."""
    return msgspec.convert(dict(document), EndpointSpec)


def _rollout_note(rollout: Rollout) -> str:
    steps = " -> ".join(f"{step} %" for step in rollout.steps)
    native = rollout.driver is Driver.NATIVE
    text = f"{rollout.strategy}{' by the target itself' if native else ''}: {steps}"
    if rollout.bake_s:
        text += f", {rollout.bake_s:g} s each"
    if rollout.max_error_rate is not None:
        text += f", undone above {rollout.max_error_rate:.2%} errors"
    if rollout.max_p95_ms is not None:
        text += f", undone above p95 {rollout.max_p95_ms:g} ms"
    for metric in rollout.metrics:
        text += f", undone unless {metric.name} is {metric.wanted}"
    return text


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, value) of plain JSON; items with a name are addressed by it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        named = [i for i in value if isinstance(i, Mapping) and "name" in i]
        if value and len(named) == len(value):
            for item in value:
                rest = {k: v for k, v in item.items() if k != "name"}
                yield from flat(rest, f"{path}.{item['name']}")
        else:
            yield path, list(value)
    else:
        yield path, value


def _shown(value: Any) -> str:
    if isinstance(value, str) and value.startswith("sha256:"):
        return short(value)
    text = "(none)" if value is None else str(value)
    # A line break inside a value must not look like a change of its own.
    return text if text.isprintable() else repr(text)
