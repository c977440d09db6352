"""Asynchronous invocations: input from S3 or the request, output and failures into S3.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from cloudreg_emulator.aws.runtime import errors
from cloudreg_emulator.aws.runtime.invocation import Invocation
from cloudreg_emulator.aws.runtime.objects import NoObject, read, split, write
from cloudreg_emulator.fleet import Answer

TIMEOUT_S = 900
"""Seconds of one invocation, where the caller says nothing."""

CONCURRENT = 4
"""Per endpoint, where its configuration says nothing; SageMaker chooses."""

Work = Callable[[Invocation, float, threading.Event], Answer]
"""Answers an invocation within so many seconds, or raises `Refused`; gives up at the event."""


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


class Queue:
    """Invocations that wait for instances, in an account. Thread-safe.

    Attributes:
        closed: Set when nothing more will be worked on.
    """

    def __init__(self, account: str, partition: str, work: Work) -> None:
        """Begin empty.

        Args:
            account: Whose buckets are read and written.
            partition: Of the account.
            work: Answers one invocation.
        """
        self.closed = threading.Event()
        self._account = account
        self._partition = partition
        self._work = work
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
        with self._lock:
            if self.closed.is_set():
                raise errors.unavailable("The service is going away.")
            lane = self._lanes.get(asked.endpoint)
            if lane is None:
                lane = ThreadPoolExecutor(
                    max_workers=min(most or CONCURRENT, 32), thread_name_prefix=asked.endpoint
                )
                self._lanes[asked.endpoint] = lane
            lane.submit(self._answer, asked, ticket)
        return ticket

    def close(self) -> None:
        """Let go of what waits; what is being worked on is not written any more."""
        self.closed.set()
        with self._lock:
            lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            # A container may take minutes; it ends with the fleet, and its thread with it.
            lane.shutdown(wait=False, cancel_futures=True)

    def _answer(self, asked: Invocation, ticket: Ticket) -> None:
        timeout_s = float(asked.parameters.get("InvocationTimeoutSeconds", TIMEOUT_S))
        try:
            answer = self._work(self._with_input(asked), timeout_s, self.closed)
        except (errors.Refused, NoObject) as error:
            if ticket.failure is not None:
                self._write(ticket.failure, str(error).encode(), "text/plain")
            return
        kind = answer.headers.get("content-type", "application/octet-stream")
        self._write(ticket.output, answer.body, kind)

    def _with_input(self, asked: Invocation) -> Invocation:
        location = asked.parameters.get("InputLocation")
        if not location:
            return asked
        body, kind = read(self._account, self._partition, *split(location))
        parameters = {"ContentType": kind, **asked.parameters}
        return replace(asked, body=body, parameters=parameters)

    def _write(self, uri: str, data: bytes, kind: str) -> None:
        if self.closed.is_set():
            return
        try:
            write(self._account, self._partition, *split(uri), data, kind=kind)
        except NoObject:
            # The bucket of the output is gone: there is no place left to say so.
            return


def _joined(*parts: str) -> str:
    return "/".join(part.rstrip("/") for part in parts if part)
