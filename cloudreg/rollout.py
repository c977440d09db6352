"""How an endpoint gets a new version: step by step, watched, undone where it fails.

One vocabulary for all targets: a canary is a second variant with a weight. Three outcomes end a
bake: the numbers are good, the numbers are bad, or there are too few of them. No data is never
success: too few requests pause the rollout until somebody decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from cloudreg.errors import (
    CloudregError,
    OperationFailed,
    RolloutAborted,
    RolloutPaused,
    Unavailable,
)
from cloudreg.fence import FencedEndpoints
from cloudreg.ledger import Lease
from cloudreg.operations import SILENT, Progress, poll_until, wait
from cloudreg.provider import Operation
from cloudreg.types import (
    Driver,
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    ModelVersion,
    Rollout,
    Variant,
)
from cloudreg.verdicts import UNWATCHED, Observation, Verdict, judge

CANARY = "canary"
PRIMARY = "primary"
BAKE_POLL_S = 0.25
SHORT_PAUSE_S = 0.5
LONGEST_POLL_S = 5.0
"""Seconds between two looks at a long bake: clouds count by the minute, and each look is paid."""


def shared(spec: EndpointSpec) -> EndpointSpec:
    """Return an endpoint as it is while a version shares the traffic with the one before."""
    (new,) = spec.variants
    halves = replace(new, weight=99), replace(new, name=CANARY, weight=1)
    return replace(spec, variants=halves, shadow=None)


def sized(new: Variant, seen: Endpoint, percent: int) -> Variant:
    """Return *new* with at least as many replicas as its share of the traffic has now.

    What load brought is needed by whoever takes the load over, and not minutes later.
    """
    scaling = new.scaling
    running = next((one.desired_replicas for one in seen.variants if one.name == PRIMARY), 0)
    least = min(max(math.ceil(running * percent / 100), scaling.min_replicas), scaling.max_replicas)
    return replace(new, scaling=replace(scaling, min_replicas=least))


class Roller:
    """Moves one endpoint to a new spec."""

    def __init__(
        self,
        backend: FencedEndpoints,
        lease: Lease,
        *,
        target: str,
        artifacts: Mapping[str, ModelVersion],
        progress: Progress = SILENT,
        timeout_s: float = 1800.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to move endpoints of one target.

        Args:
            backend: Behind the lease's fence.
            lease: Renewed while the rollout waits.
            target: For messages.
            artifacts: The version of each digest that the specs name.
            progress: Where the steps are shown.
            timeout_s: Patience for each change, in seconds.
            clock: Seconds, for bakes.
            sleep: For tests.
        """
        self._backend = backend
        self._lease = lease
        self._target = target
        self._artifacts = artifacts
        self._progress = progress
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep

    def roll(
        self, before: Endpoint | None, after: EndpointSpec, rollout: Rollout, *, first_step: int = 0
    ) -> Endpoint:
        """Make the endpoint *after*, and return it as it then is.

        Args:
            before: As it is now; None makes it.
            after: As it should be.
            rollout: How.
            first_step: Index of the step to begin with, for a rollout that was paused.

        Raises:
            RolloutAborted: The numbers were bad, or somebody asked for it; *before* serves again.
            RolloutPaused: Too few requests, or somebody asked for it.
            OperationFailed: The target could not make it.
        """
        if before is None:
            self._wait(self._backend.create(after, artifacts=self._artifacts))
            return self.verify(after)
        old, new = before.spec.variant(PRIMARY), after.variants[0]
        if old is None or old.digest == new.digest or not rollout.stepwise:
            return self._become(after)
        if rollout.driver is Driver.NATIVE:
            return self._hand_over(before, after, rollout)
        if rollout.metrics:
            # A question that is wrong is told now, and not when the first step is watched.
            self._backend.metrics(after.name, window_s=1.0, custom=rollout.metrics)
        seen = before
        for index, percent in enumerate(rollout.steps):
            if index < first_step:
                continue
            if new.scaling.autoscaled:
                seen = self._backend.endpoint(after.name) or seen
            self._lease.step(
                {"endpoint": after.name, "step": index, "percent": percent, "of": rollout.steps}
            )
            # Who compares two versions in earnest needs no shadow, and not every target has both.
            spec = replace(
                after,
                shadow=None,
                variants=(
                    replace(old, weight=100 - percent),
                    replace(sized(new, seen, percent), name=CANARY, weight=percent),
                ),
            )
            self._become(spec)
            self._progress.say(
                f"{after.name}: {percent} % of the traffic on {new.model}:{new.number}"
            )
            self._bake(before, spec, rollout, index)
        return self._become(after)

    def _hand_over(self, before: Endpoint, after: EndpointSpec, rollout: Rollout) -> Endpoint:
        """Let the target take the steps.

        Raises:
            RolloutAborted: It went back, or could not begin.
        """
        self._lease.step(
            {"endpoint": after.name, "driver": rollout.driver.value, "of": rollout.steps}
        )
        self._progress.say(f"{after.name}: the target itself moves the traffic")
        operation = self._backend.update(after, artifacts=self._artifacts, rollout=rollout)
        patience_s = self._timeout_s + len(rollout.steps) * rollout.bake_s
        try:
            pause_s = min(max(SHORT_PAUSE_S, rollout.bake_s / 20), LONGEST_POLL_S)
            self._wait(operation, timeout_s=patience_s, max_interval_s=pause_s)
            return self.verify(after)
        except RolloutAborted:
            raise
        except OperationFailed as error:
            self.restore(after.name, self._without_canary(before.spec))
            raise RolloutAborted(
                f"rollout of {after.name} was undone by the target: {error.message}",
                target=self._target,
                logs=error.logs,
            ) from error

    def stand_up(self, spec: EndpointSpec) -> Endpoint:
        """Make an endpoint as *spec* says, whatever is there, and return it as it then is."""
        seen = self._backend.endpoint(spec.name)
        change = self._backend.create if seen is None else self._backend.update
        self._wait(change(spec, artifacts=self._artifacts))
        return self.verify(spec)

    def restore(self, name: str, before: EndpointSpec | None) -> None:
        """Bring an endpoint back to what it was, or remove it where it was not there."""
        if before is None:
            self.delete(name, undoing=True)
            return
        seen = self._backend.endpoint(name)
        if seen is not None and seen.status is EndpointStatus.DELETING:
            # On its way out: an update would come too late.
            self.delete(name, undoing=True)
            seen = None
        change = self._backend.create if seen is None else self._backend.update
        self._wait(change(before, artifacts=self._artifacts), undoing=True)
        self.verify(before)

    def delete(self, name: str, *, undoing: bool = False) -> None:
        """Remove an endpoint.

        Raises:
            OperationFailed: It is still there.
        """
        self._wait(self._backend.delete(name), undoing=undoing)
        if self._backend.endpoint(name) is not None:
            raise OperationFailed(
                f"endpoint {name} is still there after its removal", target=self._target
            )

    def verify(self, spec: EndpointSpec) -> Endpoint:
        """Return the endpoint, if what runs is what was asked for.

        By identity and not by status: a target may say that all is ready after it silently went
        back to what was there before.

        Raises:
            OperationFailed: It is something else.
        """
        seen = self._backend.endpoint(spec.name)
        if seen is None:
            raise OperationFailed(f"endpoint {spec.name} is gone", target=self._target)
        if seen.spec != spec:
            raise OperationFailed(
                f"endpoint {spec.name} has another configuration than was asked for: the target "
                "went back to an earlier one",
                target=self._target,
            )
        if seen.status is not EndpointStatus.READY:
            raise OperationFailed(
                f"endpoint {spec.name} is {seen.status}: {seen.message}", target=self._target
            )
        running = {status.name: status for status in seen.variants}
        for variant in spec.served:
            status = running.get(variant.name)
            if status is None or status.digest != variant.digest:
                found = status.digest if status else "nothing"
                raise OperationFailed(
                    f"endpoint {spec.name}, variant {variant.name}: {found} runs, "
                    f"{variant.digest} was asked for",
                    target=self._target,
                )
            if variant is not spec.shadow and status.weight != variant.weight:
                raise OperationFailed(
                    f"endpoint {spec.name}, variant {variant.name}: {status.weight} % of the "
                    f"traffic, {variant.weight} % was asked for",
                    target=self._target,
                )
        return seen

    def _become(self, spec: EndpointSpec) -> Endpoint:
        self._wait(self._backend.update(spec, artifacts=self._artifacts))
        return self.verify(spec)

    def _bake(self, before: Endpoint, spec: EndpointSpec, rollout: Rollout, index: int) -> None:
        """Watch one step.

        Raises:
            RolloutAborted: *before* serves again.
            RolloutPaused: The endpoint stays as it is.
        """
        percent = rollout.steps[index]
        began = self._clock()
        with self._progress.task(
            f"watching {spec.name} at {percent} %", total=max(rollout.bake_s, 0.001), unit="s"
        ) as task:
            shown = 0.0

            def look() -> Observation:
                nonlocal shown
                self._lease.glance()
                passed = self._clock() - began
                task.advance(min(passed, rollout.bake_s) - shown)
                shown = min(passed, rollout.bake_s)
                if not rollout.gated:
                    return UNWATCHED
                observation = self._measured(spec.name, rollout, max(passed, 1.0))
                task.note(observation.reason)
                return observation

            def settled(observation: Observation) -> bool:
                if self._lease.requests or observation.verdict is Verdict.FAIL:
                    return True
                return self._clock() - began >= rollout.bake_s

            observation = poll_until(
                look,
                settled,
                timeout_s=rollout.bake_s + 60.0,
                interval_s=BAKE_POLL_S,
                max_interval_s=min(max(BAKE_POLL_S, rollout.bake_s / 20), LONGEST_POLL_S),
                sleep=self._sleep,
            )
        # What was asked for since the last glance counts too.
        self._lease.listen()
        verdict = observation.verdict if observation else Verdict.INCONCLUSIVE
        reason = observation.reason if observation else "no answer from the target"
        if "abort" in self._lease.requests:
            verdict, reason = Verdict.FAIL, "somebody asked for it"
        elif "pause" in self._lease.requests and verdict is not Verdict.FAIL:
            verdict, reason = Verdict.INCONCLUSIVE, "somebody asked for it"
        if verdict is Verdict.FAIL:
            logs: list[str] = []
            with suppress(CloudregError):  # the reason matters more than the last words
                logs = self._backend.logs(spec.name, variant=CANARY, lines=20)
            self.restore(spec.name, self._without_canary(before.spec))
            raise RolloutAborted(
                f"rollout of {spec.name} was undone at {percent} %: {reason}",
                target=self._target,
                logs=logs,
            )
        if verdict is Verdict.INCONCLUSIVE:
            self._lease.step(
                {
                    "endpoint": spec.name,
                    "step": index,
                    "percent": percent,
                    "of": rollout.steps,
                    "reason": reason,
                },
                paused=True,
            )
            raise RolloutPaused(
                f"rollout of {spec.name} is paused at {percent} %: {reason}",
                target=self._target,
                hint=f"cloudreg rollout resume {spec.model}, "
                f"or cloudreg rollout abort {spec.model}",
            )

    def _measured(self, name: str, rollout: Rollout, window_s: float) -> Observation:
        """Judge what the newcomer did; a target that does not answer says nothing of it."""
        try:
            seen = self._backend.metrics(name, window_s=window_s, custom=rollout.metrics)
        except Unavailable as error:
            return Observation(verdict=Verdict.INCONCLUSIVE, reason=f"no numbers: {error.message}")
        return judge(rollout, seen.get(CANARY))

    def heed(self, what: str) -> None:
        """Return if nobody asked for an end.

        Raises:
            RolloutAborted: Somebody did; whoever catches it undoes what was done.
        """
        if "abort" in self._lease.requests:
            raise RolloutAborted(f"{what} was undone: somebody asked for it", target=self._target)

    @staticmethod
    def _without_canary(spec: EndpointSpec) -> EndpointSpec:
        """Return *spec* as it was before a rollout that an earlier process left behind."""
        primary = spec.variant(PRIMARY)
        if primary is None or len(spec.variants) == 1:
            return spec
        return replace(spec, variants=(replace(primary, weight=100),))

    def _wait(
        self,
        operation: Operation,
        *,
        undoing: bool = False,
        timeout_s: float | None = None,
        max_interval_s: float = SHORT_PAUSE_S,
    ) -> None:
        def look() -> None:
            self._lease.glance()
            if not undoing:
                self.heed(operation.name)

        wait(
            operation,
            timeout_s=self._timeout_s if timeout_s is None else timeout_s,
            progress=self._progress,
            target=self._target,
            on_poll=look,
            max_interval_s=max_interval_s,
            sleep=self._sleep,
        )
