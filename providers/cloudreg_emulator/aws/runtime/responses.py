"""HTTP of the runtime, in moto's way."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

from moto.sagemakerruntime.models import sagemakerruntime_backends
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from cloudreg_emulator.aws import world
from cloudreg_emulator.aws.runtime import events
from cloudreg_emulator.aws.runtime.errors import Refused, Response, spoiled
from cloudreg_emulator.aws.runtime.invocation import Invocation, read
from cloudreg_emulator.aws.runtime.models import RuntimeBackend
from cloudreg_emulator.faults import Fault

CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


class RuntimeResponse(SageMakerRuntimeResponse):
    """Requests to ``/endpoints/NAME/…``."""

    use_raw_body = True

    @property
    def backend(self) -> RuntimeBackend:
        """The backend of the request's account and region."""
        return cast(RuntimeBackend, sagemakerruntime_backends[self.current_account][self.region])

    def _dispatch(self, request: Any, full_url: str | None = None, headers: Any = None) -> Any:
        # A body that calls itself a form is the model's to read; werkzeug would take it apart.
        body = request.get_data(cache=True, parse_form_data=False)
        self.setup_class(request, full_url, headers)
        self._authenticate_and_authorize_normal_action()
        _, _, name, kind = self.raw_path.split("/", 3)
        operation, answer = OPERATIONS[kind]

        def spoil(fault: Fault) -> Response:
            if fault.status == 0:
                world.hang_up(request)
            return spoiled(fault).response

        def act() -> Response:
            try:
                return answer(self, read(operation, unquote(name), request.headers, body))
            except Refused as refused:
                return refused.response

        status, said, content = world.current().faults.guarded(
            "sagemaker-runtime", operation, act, spoiled=spoil
        )
        return status, {**said, "x-amzn-RequestId": str(uuid.uuid4())}, content

    def _invoke(self, asked: Invocation) -> Response:
        answered = self.backend.invoke(asked)
        headers = {
            "Content-Type": answered.answer.headers.get("content-type", ""),
            "x-Amzn-Invoked-Production-Variant": answered.variant,
        }
        attributes = answered.answer.headers.get(CUSTOM_ATTRIBUTES)
        if attributes:
            headers["X-Amzn-SageMaker-Custom-Attributes"] = attributes
        return 200, headers, answered.answer.body

    def _stream(self, asked: Invocation) -> Response:
        variant, said, frames = self.backend.stream(asked)
        headers = {
            "Content-Type": events.CONTENT_TYPE,
            "X-Amzn-SageMaker-Content-Type": said.get("content-type", ""),
            "x-Amzn-Invoked-Production-Variant": variant,
        }
        if said.get(CUSTOM_ATTRIBUTES):
            headers["X-Amzn-SageMaker-Custom-Attributes"] = said[CUSTOM_ATTRIBUTES]
        # In process moto takes bytes only: there a stream arrives when it is whole.
        streams = self.normalized_request.from_wsgi_server
        return 200, headers, frames if streams else b"".join(frames)

    def _submit(self, asked: Invocation) -> Response:
        ticket = self.backend.submit(asked)
        headers = {
            "Content-Type": "application/json",
            "X-Amzn-SageMaker-OutputLocation": ticket.output,
        }
        if ticket.failure is not None:
            headers["X-Amzn-SageMaker-FailureLocation"] = ticket.failure
        return 202, headers, json.dumps({"InferenceId": ticket.inference_id}).encode()


OPERATIONS: dict[str, tuple[str, Callable[[RuntimeResponse, Invocation], Response]]] = {
    "invocations": ("InvokeEndpoint", RuntimeResponse._invoke),
    "invocations-response-stream": ("InvokeEndpointWithResponseStream", RuntimeResponse._stream),
    "async-invocations": ("InvokeEndpointAsync", RuntimeResponse._submit),
}
