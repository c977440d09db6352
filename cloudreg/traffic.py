"""How traffic moves to a new version, what is watched on the way, and whose request goes where."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cloudreg.errors import InvalidRequest

Asked = str | Mapping[str, str]
"""A value of a query: a text, or a table of texts."""


class RolloutStrategy(StrEnum):
    """How traffic moves to a new version."""

    ALL_AT_ONCE = "all_at_once"
    CANARY = "canary"
    LINEAR = "linear"


class Driver(StrEnum):
    """Who takes the steps."""

    CLOUDREG = "cloudreg"
    """This process, step by step: it can be paused, and judges by everything that is measured."""

    NATIVE = "native"
    """The target itself, once it was told: nobody has to watch, and nobody can pause it."""


class Mirroring(StrEnum):
    """Who copies requests for a shadow."""

    NATIVE = "native"
    """The target, every request."""

    CLIENT = "client"
    """`cloudreg.live.LiveEndpoint`, those that it sends itself."""

    NONE = "none"
    """Nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomMetric:
    """A number that a rollout is judged by, beside requests, errors and latency.

    Attributes:
        name: For people, and in messages.
        source: Where it is read, such as ``server``; a target says which it has.
        query: How it is found there, in the source's own words. ``{endpoint}``, ``{variant}``,
            ``{model}`` and ``{number}`` in a value stand for what is judged.
        max: More aborts the rollout.
        min: Less aborts the rollout.
    """

    name: str
    source: str
    query: Mapping[str, Asked] = field(default_factory=dict)
    max: float | None = None
    min: float | None = None

    def __post_init__(self) -> None:
        """Refuse a metric without a limit, and limits that no number satisfies."""
        if not self.name or not self.name.isprintable() or len(self.name) > 100:
            raise InvalidRequest(
                f"rollout metric {self.name[:40]!r}: a name of 1 to 100 printable characters"
            )
        limits = [limit for limit in (self.min, self.max) if limit is not None]
        if not limits:
            raise InvalidRequest(
                f"rollout metric {self.name} has no limit: nothing would be judged by it",
                hint="max = 0.5",
            )
        if not all(math.isfinite(limit) for limit in limits) or limits != sorted(limits):
            raise InvalidRequest(
                f"rollout metric {self.name}: min {self.min} and max {self.max} leave no number"
            )

    def breaks(self, value: float) -> bool:
        """Whether *value* is beyond a limit; what is no number always is."""
        above = self.max is not None and not value <= self.max
        return above or (self.min is not None and not value >= self.min)

    def worst(self, values: Iterable[float]) -> float | None:
        """Return a value that breaks a limit, else the last one; None where there is none."""
        found = list(values)
        return next((value for value in found if self.breaks(value)), found[-1] if found else None)

    def filled(self, **known: object) -> dict[str, Asked]:
        """Return the query with each ``{name}`` replaced by what is known of it."""

        def fill(text: str) -> str:
            for name, value in known.items():
                text = text.replace(f"{{{name}}}", str(value))
            return text

        return {
            key: fill(value)
            if isinstance(value, str)
            else {k: fill(inner) for k, inner in value.items()}
            for key, value in self.query.items()
        }

    @property
    def wanted(self) -> str:
        """The limits, for messages."""
        parts = [f"at least {self.min:g}"] if self.min is not None else []
        parts += [f"at most {self.max:g}"] if self.max is not None else []
        return " and ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSource:
    """What a source of custom metrics has to be told.

    Attributes:
        required: Keys of a query that it cannot do without.
        optional: Keys that it takes beside them.
        tables: Of both, those whose value is a table of texts.
        choices: Key to all values that it may have.
    """

    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def check(self, metric: CustomMetric) -> None:
        """Return if *metric* can be looked up here.

        Raises:
            InvalidRequest: With the key that is wrong, and what it may be.
        """
        what = f"rollout metric {metric.name}"
        missing = sorted(self.required - set(metric.query))
        if missing:
            raise InvalidRequest(f"{what}: {metric.source} needs {missing[0]}")
        known = self.required | self.optional
        unknown = sorted(set(metric.query) - known)
        if unknown:
            raise InvalidRequest(
                f"{what}: {metric.source} knows no key {unknown[0]!r}",
                hint=f"it has {', '.join(sorted(known))}",
            )
        for key, value in metric.query.items():
            if isinstance(value, str) == (key in self.tables):
                kind = "a table of texts" if key in self.tables else "a text"
                raise InvalidRequest(f"{what}: {key} is {kind}")
            if key in self.choices and value not in self.choices[key]:
                raise InvalidRequest(
                    f"{what}: {key} {value!r} is none of {metric.source}'s",
                    hint=f"{key} = {' or '.join(repr(each) for each in self.choices[key])}",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How an endpoint gets a new version.

    Attributes:
        strategy: All at once, or step by step.
        steps: Percent of the traffic after each step; rising, the last is 100.
        bake_s: Seconds that each step is watched before the next.
        max_error_rate: 0 to 1; more aborts the rollout.
        max_p95_ms: More aborts the rollout.
        min_requests: Fewer in a bake is inconclusive and pauses, where there is a limit.
        metrics: Other numbers with limits of their own.
        driver: Who takes the steps.
    """

    strategy: RolloutStrategy = RolloutStrategy.ALL_AT_ONCE
    steps: tuple[int, ...] = (100,)
    bake_s: float = 0.0
    max_error_rate: float | None = None
    max_p95_ms: float | None = None
    min_requests: int = 20
    metrics: tuple[CustomMetric, ...] = ()
    driver: Driver = Driver.CLOUDREG

    def __post_init__(self) -> None:
        """Refuse steps that do not lead to all the traffic."""
        if (
            not self.steps
            or self.steps[-1] != 100
            or list(self.steps) != sorted(set(self.steps))
            or self.steps[0] < 1
        ):
            raise InvalidRequest(f"rollout steps {list(self.steps)}: rising, 1 to 100, ending 100")
        if self.strategy is RolloutStrategy.ALL_AT_ONCE and self.steps != (100,):
            raise InvalidRequest("an all_at_once rollout has no steps", hint='strategy = "canary"')
        if not (self.bake_s >= 0 and math.isfinite(self.bake_s)):
            raise InvalidRequest(f"bake_s {self.bake_s} is not a number from 0")
        if self.min_requests < 0:
            raise InvalidRequest(f"min_requests {self.min_requests} is negative")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate <= 1:
            raise InvalidRequest(f"max_error_rate {self.max_error_rate} is not 0 to 1")
        if self.max_p95_ms is not None and not (
            self.max_p95_ms > 0 and math.isfinite(self.max_p95_ms)
        ):
            raise InvalidRequest(f"max_p95_ms {self.max_p95_ms} is not a number above 0")
        names = [metric.name for metric in self.metrics]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidRequest(f"rollout metric {twice} is listed twice")

    @property
    def limited(self) -> bool:
        """Whether what is answered has a limit: errors or latency."""
        return self.max_error_rate is not None or self.max_p95_ms is not None

    @property
    def gated(self) -> bool:
        """Whether metrics decide about the next step."""
        return self.limited or bool(self.metrics)

    @property
    def stepwise(self) -> bool:
        """Whether a new version shares the traffic with the one before for a while."""
        # Limits without a bake have nothing to judge by: they pause, and are not ignored.
        return self.steps != (100,) or self.bake_s > 0 or self.gated


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRollouts:
    """What a target can do by itself of a rollout.

    Attributes:
        canary_percent: Least and most of a canary's first step; the second one is all.
        linear_percent: Least and most of the steps of a linear rollout, which are all alike.
        bake_s: Least and most seconds of a bake, in whole ones.
        sources: Of custom metrics that it watches itself.
    """

    canary_percent: tuple[int, int]
    linear_percent: tuple[int, int]
    bake_s: tuple[int, int]
    sources: frozenset[str] = frozenset()

    def against(self, rollout: Rollout) -> tuple[str, str] | None:
        """Return why *rollout* is beyond it, with a hint; None where it is not."""
        return self._against_steps(rollout) or self._against_limits(rollout)

    def _against_limits(self, rollout: Rollout) -> tuple[str, str] | None:
        low, high = self.bake_s
        bake_s = rollout.bake_s
        if not (low <= bake_s <= high and bake_s == int(bake_s)):
            nearest = min(max(round(bake_s), low), high)
            return (
                f"bake_s {bake_s:g} of a native rollout is not {low} to {high}, in whole seconds",
                f"bake_s = {nearest}",
            )
        if not rollout.gated:
            return None
        foreign = next((m for m in rollout.metrics if m.source not in self.sources), None)
        if foreign is not None:
            return (
                f"a native rollout watches no {foreign.source}, and so no {foreign.name}",
                _OURS,
            )
        if rollout.min_requests:
            return (
                "a native rollout cannot pause where fewer came than min_requests = "
                f"{rollout.min_requests}: an alarm without data is quiet",
                f"min_requests = 0 says that this is all right; or {_OURS}",
            )
        if not rollout.bake_s:
            return "limits without a bake are judged by nothing", "bake_s = 300"
        return None

    def _against_steps(self, rollout: Rollout) -> tuple[str, str] | None:
        first, count = rollout.steps[0], len(rollout.steps)
        match rollout.strategy:
            case RolloutStrategy.CANARY:
                low, high = self.canary_percent
                if count != 2 or not low <= first <= high:
                    return (
                        f"a native canary is one step of {low} to {high} %, then all, and not "
                        f"{list(rollout.steps)}",
                        f"steps = [{min(max(first, low), high)}, 100], or {_OURS}",
                    )
            case RolloutStrategy.LINEAR:
                low, high = self.linear_percent
                even = tuple(min(first * n, 100) for n in range(1, count + 1))
                if rollout.steps != even or not low <= first <= high:
                    return (
                        f"native linear steps are all alike, {low} to {high} %, and not "
                        f"{list(rollout.steps)}",
                        f"steps = [20, 40, 60, 80, 100], or {_OURS}",
                    )
        return None


_OURS = 'driver = "cloudreg"'


def assigned(key: str, weights: Mapping[str, int], *, salt: str = "") -> str:
    """Return the variant that requests of *key* go to: always the same while weights stay.

    Each variant gets its share of all keys. Where weights change, only keys move that have to: as
    many as the weight that moved, and none between variants whose weight stayed.

    Args:
        key: Whose request it is, such as a user's id.
        weights: Variant to its percent of the traffic.
        salt: The endpoint: two tests at once must not split people alike.

    Raises:
        InvalidRequest: No variant has any weight.
    """

    def score(name: str) -> float:
        digest = hashlib.sha256(f"{salt}\0{name}\0{key}".encode()).digest()
        # A number above 0 and below 1, of the 53 bits that a float keeps.
        uniform = ((int.from_bytes(digest[:8], "big") >> 11) + 0.5) / 2**53
        # Weighted rendezvous: https://en.wikipedia.org/wiki/Rendezvous_hashing
        return -weights[name] / math.log(uniform)

    taking = [name for name, weight in weights.items() if weight > 0]
    if not taking:
        raise InvalidRequest("no variant has any weight")
    return max(taking, key=score)
