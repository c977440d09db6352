"""Operations on endpoints: each poll looks once, and sends what can be sent by then.

SageMaker changes an endpoint one change at a time, and refuses the next one meanwhile. So a
change that comes too early is sent by a later poll, when the endpoint is free.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudreg.errors import AlreadyExists, CloudregError, Conflict
from cloudreg.objects.records import latest
from cloudreg.types import EndpointSpec, OperationState, OperationStatus
from cloudreg_sagemaker import guards
from cloudreg_sagemaker import requests as outgoing
from cloudreg_sagemaker.wire import BUSY, FAILED

if TYPE_CHECKING:
    from cloudreg.objects.records import Records
    from cloudreg.types import Rollout
    from cloudreg_sagemaker.guards import Guards
    from cloudreg_sagemaker.hosting import Hosting
    from cloudreg_sagemaker.logs import EndpointLogs
    from cloudreg_sagemaker.requests import Requests
    from cloudreg_sagemaker.scaling import VariantScaling
    from cloudreg_sagemaker.settings import SageMakerSettings

STALE_LOOKS = 10
"""Looks after a request that may still show what was before it.

The SageMaker SDK tolerates as many: DescribeEndpoint is eventually consistent.
"""

LAST_LINES = 20
NO_REASON = "SageMaker gives no reason"

Seen = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What operations work with."""

    hosting: Hosting
    scaling: VariantScaling
    records: Records
    logs: EndpointLogs
    guards: Guards
    settings: SageMakerSettings


class Change:
    """A create or an update."""

    def __init__(
        self,
        bench: Bench,
        spec: EndpointSpec,
        build: Callable[[Seen | None], Requests],
        *,
        rollout: Rollout | None = None,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            bench: What it works with.
            spec: What is asked for.
            build: Returns the requests for an endpoint as it is now.
            rollout: Whose steps SageMaker takes.
        """
        self._rollout = rollout
        self._bench = bench
        self._spec = spec
        self._build = build
        self._requests: Requests | None = None
        self._done: OperationStatus | None = None
        self._looks = 0
        self._modified: datetime.datetime | None = None
        self._began: datetime.datetime | None = None
        self._is_adjusted = False
        self._is_new = False

    @property
    def name(self) -> str:
        return f"endpoint {self._spec.name}"

    def begin(self, seen: Seen | None) -> Change:
        """Send what can be sent now."""
        self._ask(seen)
        return self

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        seen = self._bench.hosting.look(self._spec.name)
        return self._ask(seen) if self._requests is None else self._watch(seen, self._requests)

    def _ask(self, seen: Seen | None) -> OperationStatus:
        """Send the request, if the endpoint is free for it."""
        hosting, name = self._bench.hosting, self._spec.name
        status = seen["EndpointStatus"] if seen is not None else None
        if status in BUSY:
            return _running(f"waiting: it is {_word(status)}")
        if status == FAILED:
            # Nothing else can be done with it.
            with suppress(Conflict):
                hosting.remove(name)
            return _running("removing what failed before")
        requests = self._build(seen)
        try:
            if seen is None:
                self._write_down(requests.config_name)
                self._is_new = True
                hosting.prepare(requests)
                hosting.start(requests)
            elif outgoing.is_same_frame(seen["EndpointConfigName"], requests.config_name):
                self._write_down(seen["EndpointConfigName"])
                if not hosting.is_whole(seen):
                    hosting.prepare(requests, config=seen["EndpointConfigName"])
                if not self._adjust(seen):
                    return self._finish(requests, seen["EndpointConfigName"])
            else:
                deployment = self._bench.settings.deployment
                hosting.check_alarms(name, deployment.alarms)
                self._write_down(requests.config_name)
                self._is_new = True
                hosting.prepare(requests)
                self._let_scaling_go(seen, requests)
                native = self._guarded()
                hosting.change(outgoing.update_for(requests, seen, deployment, native=native))
        except (AlreadyExists, Conflict):
            # Somebody else was faster: the next look shows what they did.
            return _running("waiting: another change was first")
        self._requests = requests
        self._modified = seen["LastModifiedTime"] if seen is not None else None
        return _running("asked for")

    def _guarded(self) -> dict[str, Any] | None:
        """Return ``DeploymentConfig`` of a rollout that SageMaker makes; its alarms are there."""
        if self._rollout is None:
            return None
        settings = self._bench.settings.deployment
        alarms = self._bench.guards.put(self._spec, self._rollout)
        return guards.deployment_for(self._rollout, (*alarms, *settings.alarms), settings)

    def _watch(self, seen: Seen | None, requests: Requests) -> OperationStatus:
        """Say how the request stands."""
        self._looks += 1
        is_stale = seen is None or seen["LastModifiedTime"] == self._modified
        if seen is None or seen["EndpointStatus"] == "Deleting":
            if seen is None and self._looks <= STALE_LOOKS:
                return _running("not shown yet")
            return self._end(OperationState.FAILED, "the endpoint was deleted")
        status = seen["EndpointStatus"]
        if status in BUSY:
            self._began = self._began or seen["LastModifiedTime"]
            return _running(_word(status))
        if is_stale and self._looks <= STALE_LOOKS:
            return _running("not shown yet")
        return self._settle(seen, requests)

    def _settle(self, seen: Seen, requests: Requests) -> OperationStatus:
        """Compare what the endpoint came to with what was asked for."""
        with suppress(CloudregError):  # one that stays does no harm to what comes after
            self._bench.guards.remove(seen)
        config = seen["EndpointConfigName"]
        if seen["EndpointStatus"] == FAILED:
            return self._fail(seen, seen.get("FailureReason") or NO_REASON)
        if not outgoing.is_same_frame(config, requests.config_name):
            reason = seen.get("FailureReason") or NO_REASON
            self._restore_scaling(config)
            return self._fail(seen, f"SageMaker went back to {config}: {reason}")
        if outgoing.capacities_for(self._spec, seen):
            if self._is_adjusted:
                return self._fail(
                    seen, seen.get("FailureReason") or "weights or counts are not those asked for"
                )
            self._looks, self._modified = 0, seen["LastModifiedTime"]
            with suppress(Conflict):
                self._adjust(seen)
            return _running("setting weights and counts")
        return self._finish(requests, config)

    def _adjust(self, seen: Seen) -> bool:
        """Set weights and counts, and return whether that was needed."""
        wanted = outgoing.capacities_for(self._spec, seen)
        if not wanted:
            return False
        if any("DesiredInstanceCount" in change for change in wanted):
            # What follows the load would move the number back.
            fixed = [v.name for v in self._spec.variants if not v.scaling.autoscaled]
            self._bench.scaling.let_go(
                self._spec.name, self._bench.scaling.bounds(self._spec.name, fixed)
            )
        self._bench.hosting.set_capacities(self._spec.name, wanted)
        self._is_adjusted = True
        return True

    def _finish(self, requests: Requests, config: str) -> OperationStatus:
        self._bench.scaling.follow(self._spec)
        # What is left behind costs nothing and is found again by the next change.
        with suppress(CloudregError):
            self._tidy(requests, config)
        return self._end(OperationState.SUCCEEDED, "in service")

    def _fail(self, seen: Seen, reason: str) -> OperationStatus:
        lines: list[str] = []
        with suppress(CloudregError):  # the reason matters more than the last words
            lines = self._bench.logs.tail(
                self._spec.name,
                lines=LAST_LINES,
                since=self._began or self._modified or seen["CreationTime"],
                newcomers=True,
            )
        return self._end(OperationState.FAILED, reason, logs=tuple(lines))

    def _end(
        self, state: OperationState, message: str, *, logs: tuple[str, ...] = ()
    ) -> OperationStatus:
        self._done = OperationStatus(
            state=state,
            message=message,
            logs=logs,
            progress=1.0 if state is OperationState.SUCCEEDED else None,
        )
        return self._done

    def _write_down(self, config: str) -> None:
        records = self._bench.records
        records.write(self._spec, config, records.of(self._spec.name))

    def _let_scaling_go(self, seen: Seen, requests: Requests) -> None:
        """Deregister variants that go or change their instance type: else the update is refused.

        Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-scaling-update.html
        """
        name = self._spec.name
        there = [variant["VariantName"] for variant in seen.get("ProductionVariants", ())]
        bounds = self._bench.scaling.bounds(name, there)
        if not bounds:
            return
        before = self._bench.hosting.instance_types(seen)
        after = {
            v["VariantName"]: outgoing.types_of(v) for v in requests.config["ProductionVariants"]
        }
        going = [v for v in bounds if after.get(v) != before.get(v)]
        fixed = {v.name for v in self._spec.variants if not v.scaling.autoscaled}
        self._bench.scaling.let_go(name, {*going, *(fixed & bounds.keys())})

    def _restore_scaling(self, config: str) -> None:
        """Follow the load again as before a change that was undone."""
        records = self._bench.records
        asked = latest(records.of(self._spec.name), config)
        if asked is not None:
            self._bench.scaling.follow(records.spec(asked))

    def _tidy(self, requests: Requests, config: str) -> None:
        """Remove the configurations, models and specs that nothing needs any more.

        What is written down nowhere is looked for where something was made anew.
        """
        records, name = self._bench.records, self._spec.name
        known = records.of(name)
        newest = latest(known, config)
        keep = {model["ModelName"] for model in requests.models}
        for old in {asked.config for asked in known} - {config}:
            self._bench.hosting.discard(name, old, keep=keep)
        if self._is_new:
            self._bench.hosting.sweep(name, config=config, models=keep)
        for asked in known:
            if asked != newest:
                records.forget(asked)


class Removal:
    """A delete."""

    def __init__(self, bench: Bench, name: str, seen: Seen | None) -> None:
        """Remember which endpoint it is about: one that is made anew is another."""
        self._bench = bench
        self._endpoint = name
        self._made = seen["CreationTime"] if seen is not None else None
        self._looks = 0
        self._done: OperationStatus | None = None

    @property
    def name(self) -> str:
        return f"removal of endpoint {self._endpoint}"

    def begin(self, seen: Seen | None) -> Removal:
        """Send what can be sent now."""
        self._ask(seen)
        return self

    def poll(self) -> OperationStatus:
        return self._done or self._ask(self._bench.hosting.look(self._endpoint))

    def _ask(self, seen: Seen | None) -> OperationStatus:
        if seen is None:
            return self._end() if self._tidy() else _running("not shown yet")
        if self._made is None and self._bench.hosting.is_ours(seen):
            self._made = seen["CreationTime"]
        if seen["CreationTime"] != self._made:
            return self._end()
        status = seen["EndpointStatus"]
        if status == "Deleting":
            return _running("deleting")
        variants = [variant["VariantName"] for variant in seen.get("ProductionVariants", ())]
        scaling = self._bench.scaling
        scaling.let_go(self._endpoint, scaling.bounds(self._endpoint, variants))
        self._bench.guards.sweep(self._endpoint)
        try:
            self._bench.hosting.remove(self._endpoint)
        except Conflict:
            return _running(f"waiting: it is {_word(status)}")
        return _running("deleting")

    def _tidy(self) -> bool:
        """Remove what was made for the endpoint; the specs last, which tell what that was.

        Returns:
            Whether it is done: an endpoint that was asked for a moment ago may not be shown yet.
        """
        known = self._bench.records.of(self._endpoint)
        self._looks += 1
        if known and self._made is None and self._looks <= STALE_LOOKS:
            return False
        for config in {asked.config for asked in known}:
            self._bench.hosting.discard(self._endpoint, config, keep=())
        if known or self._made is not None:
            self._bench.hosting.sweep(self._endpoint)
        for asked in known:
            self._bench.records.forget(asked)
        return True

    def _end(self) -> OperationStatus:
        self._done = OperationStatus(state=OperationState.SUCCEEDED, progress=1.0)
        return self._done


def _running(message: str) -> OperationStatus:
    return OperationStatus(state=OperationState.RUNNING, message=message)


_WORDS = {
    "Creating": "starting instances",
    "Updating": "replacing instances",
    "SystemUpdating": "under maintenance by AWS",
    "RollingBack": "going back to the configuration before",
    "Deleting": "deleting",
}


def _word(status: str) -> str:
    return _WORDS.get(status, status)
