"""Streams and queues that are broken in one way each, and false claims about kinds."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from broken_capabilities import lenient
from memory import BARE, SOUND, MemoryEndpoints
from mutants import claims, noticed_by

from cloudreg.capabilities import Capabilities
from cloudreg.errors import InvalidRequest, NotFound, OperationFailed, OperationTimeout
from cloudreg.types import Asynchronous, EndpointKind, EndpointSpec, Serverless

Pieces = Generator[bytes, None, None]


class Impatient(Capabilities):
    """What is declared of waiting is refused after all."""

    def require(self, spec: EndpointSpec, *, target: str) -> None:
        halved = replace(SOUND, queue_expires_s=(60, 3600))
        Capabilities.require(halved, spec, target=target)

    @classmethod
    def of(cls, able: Capabilities) -> Capabilities:
        return cls(**{name: getattr(able, name) for name in able.__dataclass_fields__})


claims("StreamsInSecret", "test_streaming", BARE)
claims("RefusesNoKind", "test_kinds", lenient(BARE))
claims("RefusesNoMemory", "test_serverless_memory_mib", lenient(SOUND))
claims("RefusesNoCrowd", "test_serverless_concurrency", lenient(SOUND))
claims(
    "FollowsNoQueue",
    "test_queue_scaling",
    lenient(replace(SOUND, queue_scaling=False, queue_metrics=frozenset())),
)
claims("FollowsAnythingBehindAQueue", "test_queue_metrics", lenient(SOUND))
claims("LetsRequestsWaitForEver", "test_queue_expires_s", lenient(SOUND))
claims("RefusesPatience", "test_queue_expires_s", Impatient.of(SOUND))
claims(
    "FollowsAQueueByNothing",
    "test_values_make_sense",
    replace(SOUND, queue_metrics=frozenset()),
)
claims(
    "FollowsNoQueueByConcurrency",
    "test_values_make_sense",
    replace(SOUND, queue_scaling=False),
)
claims(
    "FollowsQueuesItHasNot",
    "test_values_make_sense",
    replace(SOUND, kinds=frozenset({EndpointKind.REAL_TIME})),
)
for field in ("queue_metrics", "queue_expires_s"):
    claims(
        f"NoReasonFor{field}",
        "test_lesser_values_have_reasons",
        replace(SOUND, reasons={k: v for k, v in SOUND.reasons.items() if k != field}),
    )


@noticed_by("test_streaming", kit="capabilities")
class StreamsAllButTheLast(MemoryEndpoints):
    def stream(self, name: str, body: bytes, **how: Any) -> Pieces:
        yield from list(super().stream(name, body, **how))[:-1]


@noticed_by("test_first_piece_before_the_last", kit="capabilities")
class StreamsWhenItIsWhole(MemoryEndpoints):
    def stream(self, name: str, body: bytes, **how: Any) -> Pieces:
        whole = list(super().stream(name, body, **how))
        if len(whole) > 1000:
            raise OperationTimeout("it takes longer than anybody waits")
        yield from whole


@noticed_by("test_stream_that_breaks", kit="capabilities")
class EndsQuietly(MemoryEndpoints):
    def stream(self, name: str, body: bytes, **how: Any) -> Pieces:
        with suppress(OperationFailed):
            yield from super().stream(name, body, **how)


@noticed_by("test_refused_stream", kit="capabilities")
class StreamsItsErrors(MemoryEndpoints):
    def stream(self, name: str, body: bytes, **how: Any) -> Pieces:
        try:
            yield from super().stream(name, body, **how)
        except (InvalidRequest, OperationFailed) as error:
            yield error.message.encode()


@noticed_by("test_stream_of_nobody", kit="capabilities")
class StreamsForNobody(MemoryEndpoints):
    def stream(self, name: str, body: bytes, **how: Any) -> Pieces:
        with suppress(NotFound):
            yield from super().stream(name, body, **how)


@noticed_by("test_stream_of_a_variant", kit="capabilities")
class StreamsOfNoVariant(MemoryEndpoints):
    def stream(self, name: str, body: bytes, *, variant: str | None = None, **how: Any) -> Pieces:
        if variant is not None:
            raise NotFound(variant)
        yield from super().stream(name, body, **how)


@noticed_by("test_serverless_serves", kit="capabilities")
class ForgetsTheMemory(MemoryEndpoints):
    def spec_shown(self, spec: EndpointSpec) -> EndpointSpec:
        return replace(spec, serverless=Serverless()) if spec.serverless else spec


@noticed_by("test_asynchronous_shows", kit="capabilities")
class ForgetsThePlace(MemoryEndpoints):
    def spec_shown(self, spec: EndpointSpec) -> EndpointSpec:
        return replace(spec, asynchronous=Asynchronous()) if spec.asynchronous else spec


@noticed_by("test_queued_answer", kit="capabilities")
class AnswersOnce(MemoryEndpoints):
    def result(self, name: str, request_id: str) -> bytes | None:
        answer = super().result(name, request_id)
        if answer is not None:
            self.served[name].queue[int(request_id) - 1] = b"no JSON"
        return answer


@noticed_by("test_queued_answer_elsewhere", kit="capabilities")
class AnswersOnlyWhoAsked(MemoryEndpoints):
    def submit(self, name: str, body: bytes, **how: Any) -> str:
        request_id = super().submit(name, body, **how)
        self.mine = {*getattr(self, "mine", ()), request_id}
        return request_id

    def result(self, name: str, request_id: str) -> bytes | None:
        if request_id not in getattr(self, "mine", ()):
            raise NotFound(request_id)
        return super().result(name, request_id)


@noticed_by("test_queued_failure", kit="capabilities")
class AnswersWithItsErrors(MemoryEndpoints):
    def result(self, name: str, request_id: str) -> bytes | None:
        try:
            return super().result(name, request_id)
        except OperationFailed as error:
            return error.message.encode()


@noticed_by("test_unknown_request", kit="capabilities")
class WaitsForNobody(MemoryEndpoints):
    def result(self, name: str, request_id: str) -> bytes | None:
        with suppress(NotFound):
            return super().result(name, request_id)
        return None


@noticed_by("test_nothing_queues", kit="capabilities")
class QueuesEverything(MemoryEndpoints):
    def submit(self, name: str, body: bytes, **how: Any) -> str:
        served = self.served.get(name)
        if served is None:
            raise NotFound(name)
        served.queue.append(body)
        return f"{len(served.queue):04}"


@noticed_by("test_queue_scaling", kit="capabilities")
class ForgetsTheRest(MemoryEndpoints):
    def spec_shown(self, spec: EndpointSpec) -> EndpointSpec:
        if spec.asynchronous is None:
            return spec
        first = spec.variants[0]
        awake = replace(first.scaling, min_replicas=max(1, first.scaling.min_replicas))
        return replace(spec, variants=(replace(first, scaling=awake),))


@noticed_by("test_queue_scaling", kit="capabilities")
class AnswersNobodyAtRest(MemoryEndpoints):
    def result(self, name: str, request_id: str) -> bytes | None:
        spec = self.served[name].wanted
        if any(v.scaling.min_replicas == 0 for v in spec.variants):
            raise OperationFailed("nobody woke it")
        return super().result(name, request_id)
