"""An offline metric within bounds, and not worse than what the stage holds now."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from cloudreg.errors import InvalidRequest
from cloudreg.gates import GateContext
from cloudreg.manifest import check_metric
from cloudreg.types import GateResult


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricGate:
    """One metric of the candidate.

    Attributes:
        name: Of the metric, as it was registered.
        min: The candidate's value is at least this.
        max: The candidate's value is at most this.
        max_regression: How much worse than the stage's holder it may be.
        max_regression_percent: Likewise, in percent of the holder's value.
        higher_is_better: Which direction is worse.
    """

    kind: ClassVar[str] = "metric"

    name: str
    min: float | None = None
    max: float | None = None
    max_regression: float | None = None
    max_regression_percent: float | None = None
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        """Refuse bounds that nothing fits, and a gate that checks nothing."""
        check_metric(self.name, 0.0)
        bounds = {
            key: getattr(self, key)
            for key in ("min", "max", "max_regression", "max_regression_percent")
            if getattr(self, key) is not None
        }
        if not bounds:
            raise InvalidRequest(
                f"metric {self.name}: nothing is asked of it",
                hint="min, max, max_regression or max_regression_percent",
            )
        for key, value in bounds.items():
            if not math.isfinite(value):
                raise InvalidRequest(f"metric {self.name}: {key} is {value}")
            if key.startswith("max_regression") and value < 0:
                raise InvalidRequest(f"metric {self.name}: {key} {value} is negative")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise InvalidRequest(f"metric {self.name}: min {self.min} is above max {self.max}")

    def check(self, context: GateContext) -> GateResult:
        """Compare the candidate's metric with the bounds and with the holder's."""
        version, holder = context.version, context.holder
        metrics = version.manifest.metrics
        value = metrics.get(self.name)
        before = holder.manifest.metrics.get(self.name) if holder is not None else None
        evidence = {
            "metric": self.name,
            "value": value,
            "holder": holder.ref if holder is not None else None,
            "holder_value": before,
        }
        measured, wanted = f"{self.name} {value}", self._wanted(context)
        if value is None:
            there = ", ".join(sorted(metrics)) or "none"
            problems = [f"{version.ref} has no metric {self.name!r}; it has {there}"]
            measured = f"no {self.name}"
        else:
            problems = self._out_of_bounds(value)
            if self._compares and holder is not None:
                if before is None:
                    # No data is never success.
                    problems.append(
                        f"{holder.ref}, which {context.stage} holds, has no {self.name} to "
                        "compare with"
                    )
                else:
                    problems += self._worse(value, before, holder.ref)
                    measured += f" ({holder.ref}: {before})"
        if problems:
            reason = "; ".join(problems)
        elif self._compares and holder is None:
            reason = f"{self.name} is {value}; {context.stage} holds nothing to compare with"
        else:
            reason = f"{self.name} is {value}"
        return GateResult(
            gate=self.kind,
            passed=not problems,
            reason=reason,
            measured=measured,
            wanted=wanted,
            evidence=evidence,
        )

    @property
    def _compares(self) -> bool:
        return self.max_regression is not None or self.max_regression_percent is not None

    def _wanted(self, context: GateContext) -> str:
        parts = []
        if self.min is not None:
            parts.append(f"at least {self.min}")
        if self.max is not None:
            parts.append(f"at most {self.max}")
        side = "below" if self.higher_is_better else "above"
        holder = context.holder.ref if context.holder is not None else "what the stage holds"
        if self.max_regression is not None:
            parts.append(f"at most {self.max_regression} {side} {holder}")
        if self.max_regression_percent is not None:
            parts.append(f"at most {self.max_regression_percent} % {side} {holder}")
        return f"{self.name} " + ", ".join(parts)

    def _out_of_bounds(self, value: float) -> list[str]:
        problems = []
        if self.min is not None and value < self.min:
            problems.append(f"{self.name} is {value}, below {self.min}")
        if self.max is not None and value > self.max:
            problems.append(f"{self.name} is {value}, above {self.max}")
        return problems

    def _worse(self, value: float, before: float, holder: str) -> list[str]:
        worse = before - value if self.higher_is_better else value - before
        side = "below" if self.higher_is_better else "above"
        problems = []
        if self.max_regression is not None and _exceeds(worse, self.max_regression):
            problems.append(
                f"{self.name} is {value}, {worse:.6g} {side} the {before} of {holder}; "
                f"{self.max_regression} is allowed"
            )
        if self.max_regression_percent is not None and worse > 0:
            percent = 100 * worse / abs(before) if before else math.inf
            if _exceeds(percent, self.max_regression_percent):
                problems.append(
                    f"{self.name} is {value}, {percent:.6g} % {side} the {before} of {holder}; "
                    f"{self.max_regression_percent} % is allowed"
                )
        return problems


def _exceeds(found: float, allowed: float) -> bool:
    # 0.91 - 0.90 is 0.010000000000000009: who allows 0.01 means to allow that.
    return found > allowed and not math.isclose(found, allowed, rel_tol=1e-9, abs_tol=1e-12)
