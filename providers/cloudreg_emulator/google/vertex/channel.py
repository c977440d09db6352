"""Vertex AI over gRPC, without encryption, from the same handlers as REST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from cloudreg_emulator.google.vertex import protos, routes
from cloudreg_emulator.google.vertex.refusals import Refused
from cloudreg_emulator.google.vertex.routes import Rpc
from cloudreg_emulator.google.vertex.services import Api

__all__ = ["GrpcServer", "Method"]

Method = Callable[[str], grpc.RpcMethodHandler | None]
"""Returns what answers a method that is none of Vertex AI's, by its path; None for others."""

_CODES = {code.name: code for code in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"
_MAX_MESSAGE = 64 << 20
_THREADS = 32


class GrpcServer:
    """A server that answers from the moment it is made until it is closed.

    Attributes:
        port: Where it listens.
    """

    def __init__(
        self, api: Api, *, others: Method | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Listen and answer.

        Args:
            api: Answers.
            others: Answers what is no method of Vertex AI.
            host: Where to listen.
            port: 0 takes a free one.

        Raises:
            RuntimeError: The port cannot be had.
        """
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="google-grpc")
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_send_message_length", _MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.server(pool, options=options)
        self._server.add_generic_rpc_handlers((_Methods(api, others),))
        self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        self._server.start()
        self._pool = pool

    def close(self) -> None:
        """Stop listening, and end every call."""
        self._server.stop(grace=0).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types here
    def __init__(self, api: Api, others: Method | None) -> None:
        self._api = api
        self._others = others

    def service(self, details: Any) -> grpc.RpcMethodHandler | None:
        path = details.method
        beta = path.startswith(f"/google.cloud.aiplatform.{protos.V1BETA1}.")
        rpc = routes.rpcs(protos.V1BETA1 if beta else protos.V1).get(path)
        if rpc is None:
            return self._others(path) if self._others is not None else None
        if self._api.streams(rpc):
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._stream(rpc, request, context),
                request_deserializer=rpc.request.FromString,
                response_serializer=_serialized,
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._ask(rpc, request, context),
            request_deserializer=rpc.request.FromString,
            response_serializer=_serialized,
        )

    def _ask(self, rpc: Rpc, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return self._api.ask(rpc, request, headers=_headers(context))
        except Refused as error:
            _abort(context, error)

    def _stream(self, rpc: Rpc, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from self._api.ask(rpc, request, headers=_headers(context))
        except Refused as error:
            _abort(context, error)


def _headers(context: grpc.ServicerContext) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}


def _abort(context: grpc.ServicerContext, error: Refused) -> None:
    if error.details:
        # As https://grpc.io/docs/guides/error/#richer-error-model carries it.
        context.set_trailing_metadata(((_DETAILS, error.status().SerializeToString()),))
    context.abort(_CODES[error.code], error.message)


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
