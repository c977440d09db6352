"""Endpoints that are broken in one way each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from memory import (
    POLLS,
    MemoryEndpoints,
    MemoryOperation,
    Served,
)
from mutants import noticed_by

from cloudreg.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    Unavailable,
)
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    ModelVersion,
    OperationState,
    OperationStatus,
    Variant,
    VariantMetrics,
    VariantStatus,
)


@noticed_by("test_answers")
class ServesAnotherVersion(MemoryEndpoints):
    def answer(self, served: Served, variant: Variant, body: bytes, timeout_s: float) -> bytes:
        return super().answer(served, variant, body, timeout_s).replace(b"1", b"7")


@noticed_by("test_shows_what_was_asked", "test_list_by_name")
class ForgetsTheEnvironment(MemoryEndpoints):
    def spec_shown(self, spec: EndpointSpec) -> EndpointSpec:
        return replace(spec, env={})

    def endpoints(self) -> Iterator[Endpoint]:
        return (replace(e, message="listed") for e in super().endpoints())


@noticed_by("test_shows_what_runs", "test_split_shows")
class SaysWhatWasAskedForAnother(MemoryEndpoints):
    def variant_shown(self, variant: Variant) -> VariantStatus:
        return replace(super().variant_shown(variant), digest="", weight=0)


@noticed_by("test_create_again", "test_create_at_once", "test_seen_from_elsewhere")
class CreatesOnlyOnce(MemoryEndpoints):
    def create(
        self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]
    ) -> MemoryOperation:
        with self.world.lock:
            if spec.name in self.served:
                raise AlreadyExists(spec.name)
            return super().create(spec, artifacts=artifacts)


@noticed_by("test_create_another")
class CreatesOverAnother(MemoryEndpoints):
    def create(
        self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]
    ) -> MemoryOperation:
        if spec.name in self.served:
            return self.update(spec, artifacts=artifacts)
        return super().create(spec, artifacts=artifacts)


@noticed_by("test_update_without_change")
class AlwaysStartsAnew(MemoryEndpoints):
    def update(
        self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion], **how: Any
    ) -> MemoryOperation:
        operation = super().update(spec, artifacts=artifacts, **how)
        count = self.world.__dict__["count"] = self.world.__dict__.get("count", 0) + 1
        self.served[spec.name].__dict__["since"] = str(count)
        return operation

    def endpoint(self, name: str) -> Endpoint | None:
        found = super().endpoint(name)
        return found and replace(found, since=self.served[name].__dict__.get("since"))


@noticed_by("test_unknown_endpoint")
class UpdateCreates(MemoryEndpoints):
    def update(
        self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion], **how: Any
    ) -> MemoryOperation:
        if spec.name not in self.served:
            return self.create(spec, artifacts=artifacts)
        return super().update(spec, artifacts=artifacts, **how)


@noticed_by("test_delete_the_unknown", "test_delete_endpoint")
class MissesTheDeletedEndpoint(MemoryEndpoints):
    def delete(self, name: str) -> MemoryOperation:
        if name not in self.served:
            raise NotFound(name)
        return super().delete(name)


@noticed_by("test_delete_endpoint")
class OnlyStopsIt(MemoryEndpoints):
    def delete(self, name: str) -> MemoryOperation:
        return MemoryOperation(self, name)


@noticed_by("test_create_after_delete")
class KeepsTheNameTaken(MemoryEndpoints):
    def delete(self, name: str) -> MemoryOperation:
        self.world.__dict__.setdefault("gone", set()).add(name)
        return super().delete(name)

    def create(
        self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion]
    ) -> MemoryOperation:
        if spec.name in self.world.__dict__.get("gone", ()):
            raise AlreadyExists(spec.name)
        return super().create(spec, artifacts=artifacts)


@noticed_by("test_unknown_variant")
class FallsBackToTheFirst(MemoryEndpoints):
    def chosen(self, served: Served, spec: EndpointSpec, name: str | None) -> Variant:
        return super().chosen(served, spec, name if name and spec.variant(name) else None)


@noticed_by("test_missing_file", "test_no_version_given")
class StartsWithoutFiles(MemoryEndpoints):
    def check(self, spec: EndpointSpec, artifacts: Mapping[str, ModelVersion]) -> None:
        pass


@noticed_by("test_refused_request")
class BlamesItselfForTheCaller(MemoryEndpoints):
    def answer(self, served: Served, variant: Variant, body: bytes, timeout_s: float) -> bytes:
        try:
            return super().answer(served, variant, body, timeout_s)
        except InvalidRequest as error:
            raise OperationFailed("400") from error


@noticed_by("test_failing_request", "test_errors_are_counted")
class BlamesTheCaller(MemoryEndpoints):
    def answer(self, served: Served, variant: Variant, body: bytes, timeout_s: float) -> bytes:
        try:
            return super().answer(served, variant, body, timeout_s)
        except OperationFailed as error:
            raise InvalidRequest("500") from error


@noticed_by("test_slow_request")
class SaysUnavailableWhenSlow(MemoryEndpoints):
    def answer(self, served: Served, variant: Variant, body: bytes, timeout_s: float) -> bytes:
        try:
            return super().answer(served, variant, body, timeout_s)
        except OperationTimeout as error:
            raise Unavailable("slow") from error


@noticed_by("test_logs")
class GivesAllLines(MemoryEndpoints):
    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        return self.served[name].logs


@noticed_by("test_logs")
class GivesNoLines(MemoryEndpoints):
    def logs(self, name: str, *, variant: str | None = None, lines: int = 100) -> list[str]:
        return []


@noticed_by("test_poll_does_not_wait")
class WaitsInPoll(MemoryEndpoints):
    def update(
        self, spec: EndpointSpec, *, artifacts: Mapping[str, ModelVersion], **how: Any
    ) -> MemoryOperation:
        operation = super().update(spec, artifacts=artifacts, **how)
        ask = operation.poll

        def poll() -> OperationStatus:
            time.sleep(0.15)
            return ask()

        operation.poll = poll  # type: ignore[method-assign]
        return operation


@noticed_by("test_list_by_name")
class ListsTheLastFirst(MemoryEndpoints):
    def in_order(self, names: list[str]) -> list[str]:
        return sorted(names, reverse=True)


@noticed_by("test_split_is_kept", "test_weights_change_under_load")
class SplitsEvenly(MemoryEndpoints):
    def chosen(self, served: Served, spec: EndpointSpec, name: str | None) -> Variant:
        share = 100 // len(spec.variants)
        even = tuple(replace(v, weight=share) for v in spec.variants)
        served.credits.update(dict.fromkeys((v.name for v in even), 0))
        if name is None:
            count = self.world.__dict__["turn"] = self.world.__dict__.get("turn", 0) + 1
            return even[count % len(even)]
        return super().chosen(served, spec, name)


@noticed_by("test_variant_is_addressed")
class IgnoresTheVariant(MemoryEndpoints):
    def chosen(self, served: Served, spec: EndpointSpec, name: str | None) -> Variant:
        return super().chosen(served, spec, None)


@noticed_by("test_requests_are_counted")
class CountsForTheFirst(MemoryEndpoints):
    def metrics(self, name: str, **how: Any) -> Mapping[str, VariantMetrics]:
        found = super().metrics(name, **how)
        total = sum(counted.requests for counted in found.values())
        first = min(found)
        return {n: replace(c, requests=total if n == first else 0) for n, c in found.items()}


@noticed_by("test_errors_are_counted")
class CountsNoErrors(MemoryEndpoints):
    def metrics(self, name: str, **how: Any) -> Mapping[str, VariantMetrics]:
        found = super().metrics(name, **how)
        return {label: replace(counted, errors=0) for label, counted in found.items()}


@noticed_by("test_silence_is_no_data")
class TakesSilenceForZero(MemoryEndpoints):
    def metrics(self, name: str, **how: Any) -> Mapping[str, VariantMetrics]:
        found = super().metrics(name, **how)
        return {n: replace(c, p50_ms=c.p50_ms or 0.0) for n, c in found.items()}


@noticed_by(
    "test_weights_change_under_load",
    "test_canary_becomes_primary_under_load",
    "test_new_version_under_load",
    "test_replicas",
)
class StopsWhileItChanges(MemoryEndpoints):
    def takes_requests(self, served: Served) -> bool:
        return served.state is not OperationState.RUNNING

    def finish(self, served: Served) -> None:
        if served.current is None or served.polls >= POLLS + 3:
            super().finish(served)


@noticed_by("test_canary_becomes_primary_under_load", "test_new_version_under_load")
class SaysDoneAndDoesNothing(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        if served.current is None:
            super().finish(served)
        served.state = OperationState.SUCCEEDED


@noticed_by("test_replicas")
class RunsOneReplica(MemoryEndpoints):
    def variant_shown(self, variant: Variant) -> VariantStatus:
        return replace(super().variant_shown(variant), ready_replicas=1)


@noticed_by("test_broken_update", "test_broken_create")
class StartsTheBroken(MemoryEndpoints):
    def finish(self, served: Served) -> None:
        super().finish(served)
        if served.state is OperationState.FAILED:
            served.current, served.state = served.wanted, OperationState.SUCCEEDED
            served.counts = {(v.name, v.digest): [0, 0] for v in served.wanted.variants}


@noticed_by("test_broken_update")
class TakesTheOldDown(MemoryEndpoints):
    def takes_requests(self, served: Served) -> bool:
        return served.state is not OperationState.FAILED


@noticed_by("test_broken_update", "test_broken_create")
class FailsWithoutAWord(MemoryEndpoints):
    def failure(self, served: Served) -> OperationStatus:
        return OperationStatus(state=OperationState.FAILED, message="it crashed")


@noticed_by("test_broken_create")
class CallsTheFailedReady(MemoryEndpoints):
    def status(self, served: Served) -> EndpointStatus:
        return EndpointStatus.READY


@noticed_by("test_seen_from_elsewhere")
class LivesInTheProcess(MemoryEndpoints):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.served = {}


@noticed_by("test_native_endpoint")
class HasAnObjectForNobody(MemoryEndpoints):
    def native(self, name: str) -> dict[str, Any]:
        return {"name": name}
