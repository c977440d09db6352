"""Stages are taken one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cloudreg.errors import InvalidRequest
from cloudreg.gates import GateContext
from cloudreg.types import GateResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOrderGate:
    """The candidate holds, or has held, the stage just before the one it wants to enter."""

    kind: ClassVar[str] = "stage_order"

    def check(self, context: GateContext) -> GateResult:
        """Look at where the candidate has been.

        Raises:
            InvalidRequest: The stage is none of the configured ones.
        """
        version, stage, order = context.version, context.stage, context.order
        if stage not in order:
            raise InvalidRequest(f"no stage {stage!r}; there are {', '.join(order)}")
        been = [name for name in order if name in context.held]
        evidence = {"order": list(order), "held": been}
        index = order.index(stage)
        if index == 0:
            return GateResult(
                gate=self.kind,
                passed=True,
                reason=f"{stage} is the first stage",
                measured=f"{version.ref} has been in {_list(been)}",
                wanted="nothing",
                evidence=evidence,
            )
        before = order[index - 1]
        passed = before in context.held
        return GateResult(
            gate=self.kind,
            passed=passed,
            reason=(
                f"{version.ref} has been in {before}"
                if passed
                else f"{version.ref} was never in {before}, which comes before {stage}: "
                f"cloudreg promote {version.ref} --to {before}"
            ),
            measured=f"{version.ref} has been in {_list(been)}",
            wanted=f"it has been in {before}",
            evidence=evidence,
        )


def _list(names: list[str]) -> str:
    return ", ".join(names) if names else "no stage"
