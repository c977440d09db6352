"""The backend: an invocation finds its instance, and its traces are written."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from moto.core.exceptions import ServiceException
from moto.sagemakerruntime.models import SageMakerRuntimeBackend

from cloudreg_emulator.aws import world
from cloudreg_emulator.aws.runtime import errors, events, logs
from cloudreg_emulator.aws.runtime.asynchronous import Queue, Ticket
from cloudreg_emulator.aws.runtime.capture import Capture, Exchange
from cloudreg_emulator.aws.runtime.control import Control, Route, control
from cloudreg_emulator.aws.runtime.invocation import Invocation
from cloudreg_emulator.aws.runtime.metrics import Measured, Meter
from cloudreg_emulator.aws.runtime.objects import NoObject
from cloudreg_emulator.aws.runtime.routing import Sampler, Wheel
from cloudreg_emulator.fleet import Answer, Broken, FleetError, Group, NoInstance, TimedOut
from cloudreg_emulator.fleet.instance import Instance
from cloudreg_emulator.fleet.wire import Line

T = TypeVar("T")

NO_COMPONENT = (
    "Inference Component Name header is required for endpoints to which you plan to deploy "
    "inference components. Please include Inference Component Name header or consider using "
    "SageMaker models."
)
"""Source: https://github.com/aws-samples/amazon-kendra-langchain-extensions/issues/64"""

NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)
"""Documented in endpoint-auto-scaling-zero-instances.html of the developer guide; unquoted."""

SERVERLESS_BYTES = 4 * 2**20
"""Source: https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html"""

STREAM_S = 480.0
"""Real seconds that a stream may take: eight minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a caller gets.

    Attributes:
        variant: That answered.
        answer: Of the container.
    """

    variant: str
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A request whose instance is entered; whoever carries it leaves that instance.

    Attributes:
        asked: The request.
        route: Where it goes.
        instance: That works on it.
        line: How the instance is reached.
        began: When, by the monotonic clock.
    """

    asked: Invocation
    route: Route
    instance: Instance
    line: Line
    began: float


class RuntimeBackend(SageMakerRuntimeBackend):
    """SageMaker's runtime in one account and region. Thread-safe."""

    def __init__(self, region_name: str, account_id: str) -> None:
        """Begin with no traffic."""
        super().__init__(region_name, account_id)
        # A high-resolution metric has a value every ten emulated seconds.
        width_s = min(1.0, 10 * _scale())
        self.meter = Meter(account_id, region_name, width_s=width_s)
        self.capture = Capture(account_id, self.partition)
        self.wheels: defaultdict[tuple[str | None, ...], Wheel] = defaultdict(Wheel)
        self.samples: defaultdict[str, Sampler] = defaultdict(Sampler)
        self.shadows = ThreadPoolExecutor(max_workers=8, thread_name_prefix="shadow")
        self.queue = Queue(
            account_id, self.partition, work=self._work, behind=self, meter=self.meter
        )

    @cached_property
    def plane(self) -> Control:
        """The control plane; moto looks it up by account and region, which takes its time."""
        return control(self.account_id, self.region_name)

    def reset(self) -> None:
        """Forget everything; what is queued is not worked on."""
        self.queue.close()
        self.shadows.shutdown(wait=False, cancel_futures=True)
        super().reset()

    def invoke(self, asked: Invocation) -> Answered:
        """Return the answer of one instance.

        Raises:
            Refused: In the service's words.
        """
        endpoint = asked.endpoint
        self._routes(asked)
        if self.plane.async_inference(endpoint):
            # https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html; unquoted.
            raise errors.invalid(
                f"Endpoint {endpoint} of account {self.account_id} is an asynchronous endpoint: "
                "InvokeEndpointAsync is the operation for it."
            )
        return self._answered(asked, timeout_s=world.current().invoke_timeout_s)

    def stream(self, asked: Invocation) -> tuple[str, dict[str, str], Iterator[bytes]]:
        """Return variant and headers, and the event stream of one instance's answer.

        Raises:
            Refused: In the service's words, before the stream begins.
        """
        timeout_s = world.current().invoke_timeout_s
        route, (status, headers, pieces), began = self._send(
            asked, lambda group: group.stream(asked.body, asked.headers, timeout_s=timeout_s)
        )
        if status >= 300:
            body = b"".join(pieces)
            self._count(asked, route, status, time.monotonic() - began, began)
            raise self._model_error(asked.endpoint, status, body)
        return route.variant, dict(headers), self._framed(asked, route, status, pieces, began)

    def submit(self, asked: Invocation) -> Ticket:
        """Queue an asynchronous invocation, and say where its answer will be.

        Raises:
            Refused: In the service's words.
        """
        self._routes(asked)
        config = self.plane.async_inference(asked.endpoint)
        if not config:
            # https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html; unquoted.
            raise errors.invalid(
                f"Endpoint {asked.endpoint} of account {self.account_id} is not an asynchronous "
                "endpoint."
            )
        return self.queue.submit(asked, config)

    def instances(self, endpoint: str) -> int:
        """Return how many instances take requests now."""
        try:
            return self.plane.instances(endpoint)
        except ServiceException as error:
            raise errors.not_found(endpoint, self.account_id) from error

    def first_variant(self, endpoint: str) -> str:
        """Return the first variant of an endpoint."""
        try:
            routes = self.plane.routes(endpoint, components=False)
        except ServiceException as error:
            raise errors.not_found(endpoint, self.account_id) from error
        variants = [route.variant for route in routes if not route.shadow]
        if not variants:
            raise errors.not_found(endpoint, self.account_id)
        return variants[0]

    def _work(self, asked: Invocation, timeout_s: float) -> Answer:
        """Answer a queued invocation."""
        return self._answered(asked, timeout_s=timeout_s, limited=False).answer

    def _answered(self, asked: Invocation, *, timeout_s: float, limited: bool = True) -> Answered:
        route, answer, began = self._send(
            asked,
            lambda group: group.invoke(asked.body, asked.headers, timeout_s=timeout_s),
            limited=limited,
        )
        return self.settle(asked, route, answer, began)

    def settle(self, asked: Invocation, route: Route, answer: Answer, began: float) -> Answered:
        """Leave the traces of an answer, and return what its caller gets.

        Raises:
            Refused: A ModelError, where the container did not answer with success.
        """
        self._count(asked, route, answer.status, answer.latency_s, began)
        if answer.status >= 300:
            raise self._model_error(asked.endpoint, answer.status, answer.body)
        self._capture(asked, route, answer)
        return Answered(variant=route.variant, answer=answer)

    def departed(self, asked: Invocation) -> Flight | None:
        """Choose an instance for a request of the plainest kind; None for all others.

        What is copied, captured, queued or refused is for `invoke`, which may block.
        """
        try:
            routes = self._routes(asked, quiet=True)
            if any(route.shadow for route in routes) or not self.plane.is_plain(asked.endpoint):
                return None
            route = self._route(asked, routes)
            self._check_size(asked, route)
            instance, line = route.group.enter()
        except (errors.Refused, FleetError):
            return None
        return Flight(
            asked=asked, route=route, instance=instance, line=line, began=time.monotonic()
        )

    def _send(
        self, asked: Invocation, send: Callable[[Group], T], *, limited: bool = True
    ) -> tuple[Route, T, float]:
        """Send a request to the route whose turn it is; return both, and when it began."""
        tried = False
        while True:
            routes = self._routes(asked)
            route = self._route(asked, routes)
            if limited:
                self._check_size(asked, route)
            began = time.monotonic()
            try:
                sent = send(route.group)
            except FleetError as error:
                # Where nothing was sent, a deployment may have taken the group away just now.
                if tried or not isinstance(error, NoInstance):
                    raise self.failed(asked, route, error, began) from error
                tried = True
            else:
                self._copy(asked, routes)
                return route, sent, began

    def _routes(self, asked: Invocation, *, quiet: bool = False) -> list[Route]:
        """Return where this request may go, shadows included; *quiet* leaves no trace."""
        endpoint = asked.endpoint
        component = asked.parameters.get("InferenceComponentName")
        try:
            routes = list(self.plane.routes(endpoint, components=component is not None))
            if component is None and not routes and self.plane.hosts_components(endpoint):
                raise errors.invalid(NO_COMPONENT)
        except ServiceException as error:
            raise errors.not_found(endpoint, self.account_id) from error
        if component is not None:
            routes = [route for route in routes if route.component == component]
            if not routes:
                # Unquoted.
                raise errors.invalid(
                    f"Inference Component {component} of endpoint {endpoint} not found."
                )
            if not any(route.group.desired for route in routes):
                if not quiet:
                    self.meter.no_capacity(component)
                raise errors.invalid(NO_CAPACITY)
        if not routes:
            raise errors.not_found(endpoint, self.account_id)
        return routes

    def _route(self, asked: Invocation, routes: list[Route]) -> Route:
        """Return the route whose turn it is among those that the caller allows."""
        routes = [route for route in routes if not route.shadow]
        variant = asked.parameters.get("TargetVariant")
        wheel = (asked.endpoint, variant, asked.parameters.get("InferenceComponentName"))
        if variant is not None:
            routes = [route for route in routes if route.variant == variant]
            if not routes:
                # Unquoted.
                raise errors.invalid(f"Variant {variant} not found for endpoint {asked.endpoint}.")
        return self.wheels[wheel].next(routes)

    def _copy(self, asked: Invocation, routes: list[Route]) -> None:
        """Send a copy to shadow variants; whatever they answer is dropped.

        The ratio of the weights tells how many: of 1 and 1 all are copied.
        Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-shadow-deployment.html
        """
        for route in routes:
            if route.shadow and self.samples[asked.endpoint].takes(_ratio(route, routes)):
                self.shadows.submit(self._shadow, asked, route, world.current().invoke_timeout_s)

    def _shadow(self, asked: Invocation, route: Route, timeout_s: float) -> None:
        began = time.monotonic()
        status = 0
        with suppress(FleetError):
            status = route.group.invoke(asked.body, asked.headers, timeout_s=timeout_s).status
        self._count(asked, route, status, time.monotonic() - began, began)

    def _check_size(self, asked: Invocation, route: Route) -> None:
        limit = world.current().max_payload_bytes
        if len(asked.body) > limit:
            raise errors.too_large(limit)
        if len(asked.body) > SERVERLESS_BYTES and self.plane.is_serverless(
            asked.endpoint, route.variant
        ):
            # https://github.com/aws/sagemaker-python-sdk/issues/4271
            raise errors.invalid(f"Request {uuid.uuid4()} has oversize body.")

    def failed(
        self, asked: Invocation, route: Route, error: FleetError, began: float
    ) -> errors.Refused:
        """Leave the traces of a request without an answer, and return what its caller is told."""
        if isinstance(error, NoInstance):
            return errors.unavailable(
                f"No instance of endpoint {asked.endpoint} is ready to answer."
            )
        self._count(asked, route, 0, time.monotonic() - began, began)
        said = errors.TIMED_OUT if isinstance(error, TimedOut) else f"Connection lost: {error}"
        return self._model_error(asked.endpoint, 0, said.encode())

    def _model_error(self, endpoint: str, status: int, body: bytes) -> errors.Refused:
        return errors.model_error(
            status,
            body.decode(errors="replace"),
            endpoint=endpoint,
            region=self.region_name,
            account=self.account_id,
            log_group=logs.group_arn(
                self.region_name, self.account_id, endpoint, partition=self.partition
            ),
        )

    def _count(
        self, asked: Invocation, route: Route, status: int, model_s: float, began: float
    ) -> None:
        measured = Measured(
            status=status,
            model_s=model_s,
            overhead_s=max(0.0, time.monotonic() - began - model_s),
            instances=route.group.ready,
            # This one has left already.
            concurrent=route.group.inflight + 1,
            waited_s=asked.waited_s,
        )
        self.meter.count(asked.endpoint, route.variant, measured, component=route.component)

    def _capture(self, asked: Invocation, route: Route, answer: Answer) -> None:
        try:
            config = self.plane.data_capture(asked.endpoint)
        except ServiceException:
            return  # deleted while its container was at work
        if not config:
            return
        exchange = Exchange(
            endpoint=asked.endpoint,
            variant=route.variant,
            inference_id=asked.parameters.get("InferenceId"),
            custom_attributes=asked.parameters.get("CustomAttributes"),
            input=asked.body,
            input_type=asked.parameters.get("ContentType", "application/octet-stream"),
            output=answer.body,
            output_type=answer.headers.get("content-type", "application/octet-stream"),
        )
        try:
            self.capture.keep(config, exchange)
        except NoObject as error:
            # Capture never makes an invocation fail; the log is where its trouble is seen.
            logs.write(route.group.launch, "data-log", f"data capture: {error}")

    def _framed(
        self, asked: Invocation, route: Route, status: int, pieces: Iterator[bytes], began: float
    ) -> Iterator[bytes]:
        """Yield a container's pieces as events, and say so where they break off."""
        try:
            for piece in _limited(pieces, began + STREAM_S):
                yield events.payload(piece)
        except TimedOut:
            status = 0
            yield events.model_stream_error("ModelInvocationTimeExceeded", errors.TIMED_OUT)
        except Broken as error:
            status = 0
            yield events.model_stream_error(
                "StreamBroken", f"The connection to the container was lost: {error}"
            )
        finally:
            # A caller that leaves must free the instance.
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            self._count(asked, route, status, time.monotonic() - began, began)


def _ratio(shadow: Route, routes: list[Route]) -> float:
    """Return which part of the requests is copied."""
    own = float(shadow.config["InitialVariantWeight"])
    total = sum(float(r.config["InitialVariantWeight"]) for r in routes if not r.shadow)
    return min(1.0, own / total) if total else 0.0


def _limited(pieces: Iterator[bytes], deadline: float) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        if time.monotonic() > deadline:
            raise TimedOut


def _scale() -> float:
    try:
        # moto makes a backend to look at its URLs, too: then nobody emulates anything.
        return max(world.current().scale, 1e-3)
    except world.NoWorld:
        return 1.0
