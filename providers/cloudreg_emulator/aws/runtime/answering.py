"""One request to the runtime, whatever carried it: faults, the backend, and the answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import unquote

from cloudreg_emulator.aws import world
from cloudreg_emulator.aws.runtime import events
from cloudreg_emulator.aws.runtime.errors import Refused, Response, spoiled
from cloudreg_emulator.aws.runtime.invocation import Headers, Invocation, read
from cloudreg_emulator.aws.runtime.models import Answered, Flight, RuntimeBackend
from cloudreg_emulator.faults import Fault, When
from cloudreg_emulator.fleet import Answer, FleetError

CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


def answer(
    kind: str,
    backend: RuntimeBackend,
    name: str,
    headers: Headers,
    body: bytes,
    *,
    hang_up: Callable[[], NoReturn],
) -> Response:
    """Return the response to ``/endpoints/NAME/KIND``.

    Args:
        kind: One of `OPERATIONS`.
        backend: Of the request's account and region.
        name: Of the endpoint, as the path has it.
        headers: Of the request; looked up without regard to case.
        body: As it came.
        hang_up: Ends the request without an answer.
    """
    operation, act_on = OPERATIONS[kind]

    def spoil(fault: Fault) -> Response:
        if fault.status == 0:
            hang_up()
        return spoiled(fault).response

    def act() -> Response:
        try:
            return act_on(backend, read(operation, unquote(name), headers, body))
        except Refused as refused:
            return refused.response

    status, said, content = world.current().faults.guarded(
        "sagemaker-runtime", operation, act, spoiled=spoil
    )
    return status, {**said, "x-amzn-RequestId": str(uuid.uuid4())}, content


def arrived(
    backend: RuntimeBackend, flight: Flight, outcome: Answer | FleetError
) -> Response | None:
    """Return the response to a request that `RuntimeBackend.departed` let go.

    Returns:
        None where a fault closes the connection.
    """
    flight.instance.leave()
    try:
        if isinstance(outcome, FleetError):
            raise backend.failed(flight.asked, flight.route, outcome, flight.began)
        settled = backend.settle(flight.asked, flight.route, outcome, flight.began)
        status, said, content = _worded(settled)
    except Refused as refused:
        status, said, content = refused.response
    faults = world.current().faults
    if faults.armed:
        # Armed while the container was at work.
        fault = faults.strike("sagemaker-runtime", flight.asked.operation, When.AFTER)
        if fault is not None:
            if fault.status == 0:
                return None
            status, said, content = spoiled(fault).response
    return status, {**said, "x-amzn-RequestId": str(uuid.uuid4())}, content


def _invoke(backend: RuntimeBackend, asked: Invocation) -> Response:
    return _worded(backend.invoke(asked))


def _worded(answered: Answered) -> Response:
    headers = {
        "Content-Type": answered.answer.headers.get("content-type", ""),
        "x-Amzn-Invoked-Production-Variant": answered.variant,
    }
    attributes = answered.answer.headers.get(CUSTOM_ATTRIBUTES)
    if attributes:
        headers["X-Amzn-SageMaker-Custom-Attributes"] = attributes
    return 200, headers, answered.answer.body


def _stream(backend: RuntimeBackend, asked: Invocation) -> Response:
    variant, said, frames = backend.stream(asked)
    headers = {
        "Content-Type": events.CONTENT_TYPE,
        "X-Amzn-SageMaker-Content-Type": said.get("content-type", ""),
        "x-Amzn-Invoked-Production-Variant": variant,
    }
    if said.get(CUSTOM_ATTRIBUTES):
        headers["X-Amzn-SageMaker-Custom-Attributes"] = said[CUSTOM_ATTRIBUTES]
    return 200, headers, frames


def _submit(backend: RuntimeBackend, asked: Invocation) -> Response:
    ticket = backend.submit(asked)
    headers = {
        "Content-Type": "application/json",
        "X-Amzn-SageMaker-OutputLocation": ticket.output,
    }
    if ticket.failure is not None:
        headers["X-Amzn-SageMaker-FailureLocation"] = ticket.failure
    return 202, headers, json.dumps({"InferenceId": ticket.inference_id}).encode()


OPERATIONS: dict[str, tuple[str, Callable[[RuntimeBackend, Invocation], Response]]] = {
    "invocations": ("InvokeEndpoint", _invoke),
    "invocations-response-stream": ("InvokeEndpointWithResponseStream", _stream),
    "async-invocations": ("InvokeEndpointAsync", _submit),
}
