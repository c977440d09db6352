"""HTTP of the runtime, in moto's way."""

from __future__ import annotations

from typing import Any, NoReturn, cast

from moto.sagemakerruntime.models import sagemakerruntime_backends
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from cloudreg_emulator.aws import world
from cloudreg_emulator.aws.runtime.answering import answer
from cloudreg_emulator.aws.runtime.models import RuntimeBackend


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

        def hang_up() -> NoReturn:
            world.hang_up(request)

        status, said, content = answer(
            kind, self.backend, name, request.headers, body, hang_up=hang_up
        )
        # In process moto takes bytes only: there a stream arrives when it is whole.
        if not isinstance(content, bytes) and not self.normalized_request.from_wsgi_server:
            content = b"".join(content)
        return status, said, content
