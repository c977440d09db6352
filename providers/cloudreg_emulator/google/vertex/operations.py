"""Long-running operations: they take time, end well or badly, and are found by name.

A handler begins one with what is to be done, as a generator that waits between its steps::

    def upload_model(self, request, call):
        …checks that are made at once…
        return self.operations.begin(call, model_name, after(lambda: self._make(request)))

What is done between two waits is done at once, under the lock; what the generator returns is the
response, and a `Refused` that leaves it is the error. `GeneratorExit` tells it that the operation
was cancelled. On the disk an operation that still runs is kept with its request: the next
emulator calls the handler once more, and `begin` takes the old name up again.

Source: https://google.aip.dev/151, and google/longrunning/operations.proto
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, timestamp_pb2

from cloudreg_emulator.faults import When
from cloudreg_emulator.google.vertex import protos, reasons, routes
from cloudreg_emulator.google.vertex.listing import listed
from cloudreg_emulator.google.vertex.records import Records
from cloudreg_emulator.google.vertex.refusals import Refused, missing
from cloudreg_emulator.google.vertex.services import SERVICE, Api, Call, Service, unlocked
from cloudreg_emulator.google.world import World

__all__ = ["PATIENCE_S", "Operations", "Steps", "Wait", "after"]

PATIENCE_S = 2.0
"""Real seconds after which nobody is waited for to poll: its client may be gone for good."""

WAIT_S = 30.0
"""Real seconds that WaitOperation takes at most."""

_PAUSE_S = 0.02


def _met() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A pause of an operation.

    It is over when ``until`` holds and its seconds, scaled as the world says, are over; the first
    one also takes as many polls as the world says, or `PATIENCE_S`.

    Attributes:
        seconds: Emulated seconds that it takes at least.
        until: Asked again and again; a `Refused` that it raises is thrown into the generator.
    """

    seconds: float = 0.0
    until: Callable[[], bool] = _met


Steps = Generator[Wait, None, Any]


def after(act: Callable[[], Any], *, seconds: float = 0.0) -> Steps:
    """Return the steps of an operation that waits once and then does everything."""
    yield Wait(seconds=seconds)
    return act()


class Operations(Service):
    """All operations of one emulator, and the service that tells of them."""

    service = "Operations"

    def __init__(self, world: World) -> None:
        """Begin with none."""
        super().__init__(world)
        self.records = Records("operations", operations_pb2.Operation)
        self.requests = Records("requests", any_pb2.Any)
        self._running: dict[str, _Running] = {}

    def begin(self, call: Call, resource: str, steps: Steps, *, metadata: Any = None) -> Any:
        """Begin an operation, and return it as it is now.

        Args:
            call: Whose operation it is.
            resource: The name of what it is about; the operation's own begins with it.
            steps: What is to be done.
            metadata: What it tells beside its times; without it, the message of the RPC's name.
        """
        name = call.resumed or f"{resource}/operations/{self.world.number()}"
        metadata = metadata or _metadata(call.rpc.name)
        operation = operations_pb2.Operation(name=name)
        before = self.records.get(name)
        if before is not None:
            # It began when it began, in another emulator.
            told = protos.as_version(metadata, call.rpc.version)
            before.metadata.Unpack(told)
            metadata.generic_metadata.CopyFrom(protos.as_version(told, protos.V1).generic_metadata)
        self.records.put(name, operation)
        kept = any_pb2.Any(type_url=call.rpc.path, value=call.request.SerializeToString())
        self.requests.put(name, kept)
        running = _Running(call, operation, metadata, self.world)
        self._running[name] = running
        running.start(steps)
        self._finish(name, running)
        return operation

    def advance(self) -> None:
        """Let everything that runs go on."""
        for name, running in list(self._running.items()):
            running.advance()
            self._finish(name, running)

    def resume(self, api: Api) -> None:
        """Take up what was running when the last emulator ended."""
        for name, kept in list(self.requests.items()):
            version = kept.type_url.removeprefix("/google.cloud.aiplatform.").partition(".")[0]
            rpc = routes.rpcs(version)[kept.type_url]
            request = protos.as_version(rpc.request.FromString(kept.value), protos.V1)
            try:
                api.resume(rpc, request, name)
            except Refused as error:
                operation = self.records.get(name)
                if operation is not None:
                    operation.done = True
                    operation.error.CopyFrom(error.status())
                    self.records.put(name, operation)
                self.requests.pop(name)

    def get_operation(self, request: Any, call: Call) -> Any:
        """Return an operation; every call is a poll."""
        self._found(request.name)
        running = self._running.get(request.name)
        if running is not None:
            running.polls += 1
            running.advance()
            self._finish(request.name, running)
        return self._found(request.name)

    @unlocked
    def wait_operation(self, request: Any, call: Call) -> Any:
        """Return an operation when it is done, or when the client's patience is over."""
        asked = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else 0
        until = time.monotonic() + min(asked or WAIT_S, WAIT_S)
        while True:
            with self.world.lock:
                running = self._running.get(request.name)
                if running is not None:
                    # Who waits does not want to see the states between.
                    running.polls = max(running.polls, self.world.polls)
                self.advance()
                operation = self._found(request.name)
                if operation.done or time.monotonic() >= until:
                    found = operations_pb2.Operation()
                    found.CopyFrom(operation)
                    return found
            time.sleep(_PAUSE_S)

    def list_operations(self, request: Any, call: Call) -> Any:
        """Return the operations of a resource, or of all in a location."""
        under = [
            operation
            for operation in self.records.under(f"{request.name}/")
            if "/operations/" in operation.name
        ]
        page, token = listed(under, request, fields={"done": "done"}, orders={})
        return operations_pb2.ListOperationsResponse(operations=page, next_page_token=token)

    def cancel_operation(self, request: Any, call: Call) -> Any:
        """End an operation that runs; one that is done stays as it is."""
        self._found(request.name)
        running = self._running.get(request.name)
        if running is not None:
            running.cancel()
            self._finish(request.name, running)
        return empty_pb2.Empty()

    def delete_operation(self, request: Any, call: Call) -> Any:
        """Forget an operation; what it does goes on."""
        self._found(request.name)
        self.records.pop(request.name)
        return empty_pb2.Empty()

    def _found(self, name: str) -> Any:
        operation = self.records.get(name)
        if operation is None:
            raise missing("Operation", name)
        return operation

    def _finish(self, name: str, running: _Running) -> None:
        # An operation that was deleted runs on, unseen.
        if name in self.records:
            self.records.put(name, running.operation)
        if running.operation.done and self._running.pop(name, None) is not None:
            self.requests.pop(name)


class _Running:
    """An operation on its way."""

    def __init__(self, call: Call, operation: Any, metadata: Any, world: World) -> None:
        self.operation = operation
        self.polls = 0
        self._call = call
        self._world = world
        self._metadata = metadata
        self._steps: Steps | None = None
        self._wait = Wait()
        self._first = True
        self._entered = self._began = time.monotonic()
        self._stuck_s = 0.0
        self._stamp()

    def start(self, steps: Steps) -> None:
        self._steps = steps
        fault = self._world.faults.strike(SERVICE, self._call.rpc.name, When.PROGRESS)
        if fault is not None:
            self._stuck_s = fault.seconds * self._world.scale
        self._take(partial(next, steps))
        self.advance()

    def advance(self) -> None:
        while not self.operation.done and self._steps is not None:
            try:
                if not self._over():
                    return
                if self._first:
                    self._fail_on_demand()
            except Refused as error:
                step = partial(self._steps.throw, error)
            else:
                step = partial(next, self._steps)
            self._first = False
            self._take(step)

    def cancel(self) -> None:
        if self._steps is not None:
            self._steps.close()
        self._fail(Refused("CANCELLED", "The operation was cancelled."))

    def _over(self) -> bool:
        now = time.monotonic()
        met = self._wait.until()
        seen = not self._first or self.polls >= self._world.polls or now - self._began >= PATIENCE_S
        waited = now - self._entered >= self._wait.seconds * self._world.scale
        return met and seen and waited and now - self._began >= self._stuck_s

    def _fail_on_demand(self) -> None:
        fault = self._world.faults.strike(SERVICE, self._call.rpc.name, When.OPERATION)
        if fault is not None:
            raise reasons.refusal(fault.reason, self._call.request, self._world.place)

    def _take(self, step: Callable[[], Wait]) -> None:
        try:
            self._wait = step()
        except StopIteration as end:
            self.operation.response.Pack(protos.as_version(end.value, self._call.rpc.version))
            self.operation.done = True
        except Refused as error:
            self._fail(error)
        self._entered = time.monotonic()
        self._stamp()

    def _fail(self, error: Refused) -> None:
        self.operation.error.CopyFrom(error.status())
        self.operation.done = True
        self._stamp()

    def _stamp(self) -> None:
        now = timestamp_pb2.Timestamp()
        now.FromNanoseconds(int(self._world.clock() * 1e9))
        generic = self._metadata.generic_metadata
        if not generic.HasField("create_time"):
            generic.create_time.CopyFrom(now)
        generic.update_time.CopyFrom(now)
        told = protos.as_version(self._metadata, self._call.rpc.version)
        self.operation.metadata.Pack(told)


def _metadata(rpc: str) -> Any:
    """Return the message that operations of an RPC carry: deletes share one."""
    kind = protos.find(f"{rpc}OperationMetadata") or protos.message("DeleteOperationMetadata")
    return kind()
