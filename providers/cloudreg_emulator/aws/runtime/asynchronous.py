"""Asynchronous invocations: input from S3 or the request, output and failures into S3.

A request waits until an instance has room for it, or until its time is over. Notifications are
not sent.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cloudreg_emulator.aws import world
from cloudreg_emulator.aws.runtime import errors
from cloudreg_emulator.aws.runtime.backlog import Backlog, Entry
from cloudreg_emulator.aws.runtime.invocation import Invocation
from cloudreg_emulator.aws.runtime.metrics import Meter
from cloudreg_emulator.aws.runtime.objects import NoObject, read, split, write
from cloudreg_emulator.fleet import Answer

TIMEOUT_S = 900
"""Seconds of one invocation, where the caller says nothing."""

CONCURRENT = 4
"""Per instance, where the configuration says nothing; SageMaker chooses."""

MOST = 32
"""Per endpoint, however many instances it has: each takes a thread here."""

TTL_S = 21_600
"""RequestTTLSeconds, where the caller says nothing: its default in the service model."""

LEAST_TTL_S = 30.0
"""Real seconds that a request waits at least: a model server starts in real time."""

PAUSE_S = 0.03
"""Real seconds between two looks of a request that waits."""

EXPIRED = "Request expired: it was in the queue for longer than RequestTTLSeconds ({ttl})."
"""What lies at the place of failures; unquoted."""

Work = Callable[[Invocation, float], Answer]
"""Answers an invocation within so many seconds, or raises `Refused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What the caller gets at once.

    Attributes:
        inference_id: The caller's own, or a new one.
        output: Where the answer will be.
        failure: Where an error will be; None where the endpoint has no such place.
    """

    inference_id: str
    output: str
    failure: str | None


class Behind(Protocol):
    """What is behind a queue; both raise `Refused` where the endpoint is gone."""

    def instances(self, endpoint: str) -> int:
        """Return how many instances take requests now."""

    def first_variant(self, endpoint: str) -> str:
        """Return the variant that requests are counted at which no instance has seen."""


class Queue:
    """Invocations that wait for instances, in an account. Thread-safe.

    Attributes:
        closed: Set when nothing more will be worked on.
        backlog: Who waits.
    """

    def __init__(
        self, account: str, partition: str, *, work: Work, behind: Behind, meter: Meter
    ) -> None:
        """Begin empty.

        Args:
            account: Whose buckets are read and written.
            partition: Of the account.
            work: Answers one invocation.
            behind: The endpoints' instances.
            meter: Is told of the queue.
        """
        self.closed = threading.Event()
        self.backlog = Backlog()
        self._account = account
        self._partition = partition
        self._work = work
        self._behind = behind
        self._meter = meter
        self._lock = threading.Lock()
        self._lanes: dict[str, ThreadPoolExecutor] = {}

    def submit(self, asked: Invocation, config: Mapping[str, Any]) -> Ticket:
        """Put an invocation in the queue.

        Raises:
            Refused: It has no input, or two.
        """
        location = asked.parameters.get("InputLocation")
        if bool(location) == bool(asked.body):
            # InvokeEndpointAsync in the service model: either of them. Unquoted.
            raise errors.invalid("Specify one of either InputLocation and Body.")
        if len(asked.body) > 128_000:
            raise errors.too_large(128_000)
        name = asked.parameters.get("Filename") or f"{uuid.uuid4()}.out"
        extension = asked.parameters.get("S3OutputPathExtension", "").strip("/")
        output = config["OutputConfig"]
        ticket = Ticket(
            inference_id=asked.parameters.get("InferenceId") or str(uuid.uuid4()),
            output=_joined(output["S3OutputPath"], extension, name),
            failure=(
                _joined(output["S3FailurePath"], extension, f"{uuid.uuid4()}-error.out")
                if output.get("S3FailurePath")
                else None
            ),
        )
        most = (config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance")
        ttl_s = asked.parameters.get("RequestTTLSeconds", TTL_S)
        patience_s = max(ttl_s * world.current().scale, min(ttl_s, LEAST_TTL_S))
        with self._lock:
            if self.closed.is_set():
                raise errors.unavailable("The service is going away.")
            lane = self._lanes.get(asked.endpoint)
            if lane is None:
                lane = ThreadPoolExecutor(max_workers=MOST, thread_name_prefix=asked.endpoint)
                self._lanes[asked.endpoint] = lane
            entry = self.backlog.enter(asked.endpoint, patience_s=patience_s)
            lane.submit(self._answer, asked, ticket, entry, most or CONCURRENT)
        self.publish(asked.endpoint)
        return ticket

    def publish(self, endpoint: str) -> None:
        """Publish how long the queue of an endpoint is, and who is there for it.

        A queue without instances counts as if there were one: a scaling policy wakes an endpoint
        from zero once the queue exceeds its target, says the page on autoscaling.

        Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-monitor.html and
        https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-autoscale.html
        """
        try:
            instances = self._behind.instances(endpoint)
        except errors.Refused:
            return  # it was deleted a moment ago
        size = self.backlog.size(endpoint)
        own = {"EndpointName": endpoint}
        for name, value, unit in (
            ("ApproximateBacklogSize", size, "Count"),
            ("ApproximateBacklogSizePerInstance", size / max(1, instances), "Count"),
            ("HasBacklogWithoutCapacity", float(size > 0 and not instances), "Count"),
            ("ApproximateAgeOfOldestRequest", self.backlog.oldest_s(endpoint), "Seconds"),
        ):
            self._meter.sample(own, name, float(value), unit=unit)

    def close(self) -> None:
        """Let go of what waits; what is being worked on is not written any more."""
        self.closed.set()
        with self._lock:
            lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            # A container may take minutes; it ends with the fleet, and its thread with it.
            lane.shutdown(wait=False, cancel_futures=True)

    def _answer(self, asked: Invocation, ticket: Ticket, entry: Entry, most: int) -> None:
        try:
            answer = self._in_turn(asked, entry, most)
        except (errors.Refused, NoObject) as error:
            if ticket.failure is not None:
                self._write(asked.endpoint, ticket.failure, str(error).encode(), "text/plain")
        else:
            kind = answer.headers.get("content-type", "application/octet-stream")
            self._write(asked.endpoint, ticket.output, answer.body, kind)
        finally:
            self.backlog.leave(entry)
        if not self.closed.is_set():
            self.publish(asked.endpoint)

    def _in_turn(self, asked: Invocation, entry: Entry, most: int) -> Answer:
        """Return the answer, once an instance has room."""
        timeout_s = float(asked.parameters.get("InvocationTimeoutSeconds", TIMEOUT_S))
        while True:
            self._wait(asked, entry, most)
            waited_s = entry.age_s
            try:
                whole = self._with_input(asked)
            except NoObject:
                self._count(asked.endpoint, "RequestDownloadFailures")
                raise
            try:
                return self._work(replace(whole, waited_s=waited_s), timeout_s)
            except errors.Refused as error:
                if error.code != "ServiceUnavailable":
                    raise
                self.backlog.put_back(entry)  # its instance went just now

    def _wait(self, asked: Invocation, entry: Entry, most: int) -> None:
        """Return once an instance has room.

        Raises:
            Refused: The request has waited too long, or the endpoint is gone.
        """
        while not self.backlog.begin(entry, lambda: most * self._behind.instances(asked.endpoint)):
            if time.monotonic() >= entry.deadline:
                self._count(asked.endpoint, "ExpiredRequests")
                ttl_s = asked.parameters.get("RequestTTLSeconds", TTL_S)
                raise errors.invalid(EXPIRED.format(ttl=ttl_s))
            if self.closed.wait(PAUSE_S):
                raise errors.unavailable("The service is going away.")

    def _count(self, endpoint: str, name: str) -> None:
        """Count a failure that no instance has seen."""
        own = {"EndpointName": endpoint, "VariantName": self._behind.first_variant(endpoint)}
        for one in (name, "InvocationFailures"):
            self._meter.sample(own, one, 1.0)

    def _with_input(self, asked: Invocation) -> Invocation:
        location = asked.parameters.get("InputLocation")
        if not location:
            return asked
        body, kind = read(self._account, self._partition, *split(location))
        # What the object says of itself counts where the caller says nothing.
        headers = {"Content-Type": kind, **asked.headers}
        return replace(asked, body=body, headers=headers)

    def _write(self, endpoint: str, uri: str, data: bytes, kind: str) -> None:
        if self.closed.is_set():
            return
        try:
            write(self._account, self._partition, *split(uri), data, kind=kind)
        except NoObject:
            # The bucket of the output is gone: there is no other place left to say so.
            with suppress(errors.Refused):
                self._count(endpoint, "ResponseUploadFailures")


def _joined(*parts: str) -> str:
    return "/".join(part.rstrip("/") for part in parts if part)
