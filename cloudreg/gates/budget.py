"""What may be spent on the endpoints that would serve a version."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from cloudreg.catalog import total
from cloudreg.errors import InvalidRequest
from cloudreg.gates import GateContext
from cloudreg.types import GateResult


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetGate:
    """The endpoints that follow the stage cost no more, even with all replicas that they may have.

    Attributes:
        usd_per_month: Most that they may cost together, in the hours that they are there.
        allow_unknown: Whether an endpoint may cost what nobody knows, on top.
    """

    kind: ClassVar[str] = "budget"

    usd_per_month: float
    allow_unknown: bool = False

    def __post_init__(self) -> None:
        """Refuse a budget that is none."""
        if not (self.usd_per_month >= 0 and math.isfinite(self.usd_per_month)):
            raise InvalidRequest(f"usd_per_month {self.usd_per_month} is not a number from 0")

    def check(self, context: GateContext) -> GateResult:
        """Add up what the endpoints may cost."""
        found = total({bill.endpoint: bill.after for bill in context.bills})
        most = found.high_usd_per_month
        problems = []
        if most > self.usd_per_month:
            problems.append(
                f"the endpoints of {context.stage} may cost ${most:,.2f} a month, and "
                f"${self.usd_per_month:,.2f} are allowed"
            )
        if not self.allow_unknown:
            problems += [f"{name}: price unknown: {why}" for name, why in found.unknown.items()]
        reason = "; ".join(problems)
        if not problems:
            reason = f"the endpoints of {context.stage} cost at most ${most:,.2f} a month"
            if found.unknown:
                reason += f", and {', '.join(found.unknown)} what nobody knows"
        return GateResult(
            gate=self.kind,
            passed=not problems,
            reason=reason,
            measured=f"${most:,.2f} a month"
            + (f" and {len(found.unknown)} of unknown price" if found.unknown else ""),
            wanted=f"at most ${self.usd_per_month:,.2f} a month",
            evidence={
                "usd_per_month": most,
                "limit_usd_per_month": self.usd_per_month,
                "endpoints": {
                    bill.endpoint: bill.after.high_usd_per_month for bill in context.bills
                },
                "unknown": dict(found.unknown),
            },
        )
