"""What the parts of the kit that need a running endpoint share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

import pytest

from cloudreg.operations import poll_until
from cloudreg.provider import Operation, Provider
from cloudreg.testing.base import ConformanceTests, fresh, timed
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    ModelVersion,
    OperationState,
    OperationStatus,
    Resources,
    Scaling,
    Variant,
)

Servable = Callable[..., ModelVersion]
"""``servable(number)`` and ``servable(number, broken=True)``."""


class Server:
    """A provider's endpoints, with what the tests know of versions and patience."""

    def __init__(
        self, provider: Provider, servable: Servable, *, timeout_s: float, interval_s: float
    ) -> None:
        """Begin without endpoints.

        Args:
            provider: Whose.
            servable: Makes versions.
            timeout_s: Patience with an operation.
            interval_s: Longest pause between two looks.
        """
        self.provider = provider
        self.endpoints = provider.endpoints
        self.longest_poll_s = 0.0
        self.artifacts: dict[str, ModelVersion] = {}
        self._servable = servable
        self._timeout_s = timeout_s
        self._interval_s = interval_s
        self._made: list[str] = []

    def version(self, number: int, *, broken: bool = False) -> ModelVersion:
        """Return a version that can be served, or that ends its server at the start."""
        made = self._servable(number, broken=True) if broken else self._servable(number)
        self.artifacts[made.digest] = made
        return made

    def name(self) -> str:
        """Return the name of an endpoint that nobody made yet; it is removed at the end."""
        self._made.append(fresh("kit"))
        return self._made[-1]

    def create(self, spec: EndpointSpec) -> OperationStatus:
        """Create, and wait."""
        return self.wait(self.endpoints.create(spec, artifacts=self.artifacts))

    def update(self, spec: EndpointSpec) -> OperationStatus:
        """Update, and wait."""
        return self.wait(self.endpoints.update(spec, artifacts=self.artifacts))

    def delete(self, name: str) -> OperationStatus:
        """Delete, and wait."""
        return self.wait(self.endpoints.delete(name))

    def start(self, spec: EndpointSpec) -> EndpointSpec:
        """Create, and insist on success."""
        status = self.create(spec)
        assert status.state is OperationState.SUCCEEDED, status
        return spec

    def wait(self, operation: Operation) -> OperationStatus:
        """Poll until the operation is done, watching how long each poll takes."""

        def ask() -> OperationStatus:
            status, took_s = timed(operation.poll)
            self.longest_poll_s = max(self.longest_poll_s, took_s)
            return status

        status = poll_until(
            ask,
            lambda answer: answer.state is not OperationState.RUNNING,
            timeout_s=self._timeout_s,
            interval_s=0.01,
            max_interval_s=self._interval_s,
        )
        assert status is not None, f"{operation.name} still runs after {self._timeout_s:g} s"
        return status

    def seen(
        self,
        name: str,
        until: Callable[[Endpoint], bool] = lambda _: True,
        *,
        timeout_s: float | None = None,
    ) -> Endpoint:
        """Return the endpoint once *until* holds."""
        found = poll_until(
            partial(self.endpoints.endpoint, name),
            lambda endpoint: endpoint is not None and until(endpoint),
            timeout_s=timeout_s or self._timeout_s,
            interval_s=0.01,
            max_interval_s=self._interval_s,
        )
        assert found is not None, f"not in time: {self.endpoints.endpoint(name)}"
        return found

    def clean(self) -> None:
        """Remove every endpoint that was made."""
        going = [self.endpoints.delete(name) for name in self._made]
        for operation in going:
            self.wait(operation)
        self._made.clear()


class ServingTests(ConformanceTests):
    """The base of the tests that need a model server.

    Attributes:
        endpoint_timeout_s: Patience with an operation; minutes on a cloud.
        poll_interval_s: Longest pause between two looks at an endpoint.
        question: A request that every servable version answers.
        content_type: Of the questions.
        refused_question: One that the model server answers with 4xx; None where none can.
        failing_question: One that the model server answers with 5xx; None where none can.
        slow_question: One whose answer takes a second or more; None where none can.
    """

    endpoint_timeout_s: ClassVar[float] = 60.0
    poll_interval_s: ClassVar[float] = 5.0
    question: ClassVar[bytes] = b"{}"
    content_type: ClassVar[str] = "application/json"
    refused_question: ClassVar[bytes | None] = None
    failing_question: ClassVar[bytes | None] = None
    slow_question: ClassVar[bytes | None] = None

    @pytest.fixture(scope="class")
    @classmethod
    def servable(cls, provider: Provider) -> Servable:
        """Return what makes versions: ``servable(number, broken=False)``.

        The same number gives the same version. A broken one is whole in the store, but its model
        server does not start.
        """
        raise NotImplementedError("override the fixture `servable` in your subclass")

    @pytest.fixture(scope="class")
    @classmethod
    def reopen(cls) -> Callable[[], Provider] | None:
        """Return what opens the same target once more; None where it cannot be."""
        return None

    @classmethod
    def answered_by(cls, answer: bytes) -> int:
        """Return the number of the version that gave *answer*."""
        raise NotImplementedError("override `answered_by` in your subclass")

    @classmethod
    def padded(cls, size_bytes: int) -> bytes:
        """Return the question, made *size_bytes* long; JSON may end in white space."""
        return cls.question.ljust(size_bytes)

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, provider: Provider, servable: Servable) -> Iterator[Server]:
        """Yield the provider's endpoints; what was made is removed at the end of the class."""
        made = cls.serve(provider, servable)
        yield made
        made.clean()

    @classmethod
    def serve(cls, provider: Provider, servable: Servable) -> Server:
        """Return the endpoints of *provider*, with this class's patience."""
        return Server(
            provider,
            servable,
            timeout_s=cls.endpoint_timeout_s,
            interval_s=cls.poll_interval_s,
        )

    @pytest.fixture(scope="class")
    @classmethod
    def live(cls, server: Server) -> EndpointSpec:
        """Return an endpoint with version 1 that the tests of a class share and do not change."""
        return server.start(
            spec(server.name(), variant("primary", server.version(1)), env={"KIT_MARK": "live"})
        )

    def ask(self, server: Server, name: str, *, variant: str | None = None) -> int:
        """Send the question, and return the number of the version that answered."""
        answer = server.endpoints.invoke(
            name,
            self.question,
            content_type=self.content_type,
            timeout_s=self.endpoint_timeout_s,
            variant=variant,
        )
        return self.answered_by(answer)

    def send(
        self, server: Server, name: str, body: bytes | None, *, timeout_s: float | None = None
    ) -> bytes:
        """Send any body; without one, this target has no such question and the test is skipped."""
        if body is None:
            pytest.skip("the subclass gives no such question")
        return server.endpoints.invoke(
            name,
            body,
            content_type=self.content_type,
            timeout_s=timeout_s or self.endpoint_timeout_s,
        )


def variant(
    name: str,
    version: ModelVersion,
    weight: int = 100,
    *,
    scaling: Scaling | None = None,
    resources: Resources | None = None,
) -> Variant:
    """Return a variant of one replica, unless something else is asked for."""
    return Variant(
        name=name,
        model=version.model,
        number=version.number,
        digest=version.digest,
        weight=weight,
        scaling=scaling or Scaling(),
        resources=resources or Resources(),
    )


def spec(
    name: str, *variants: Variant, env: dict[str, str] | None = None, pool: str | None = None
) -> EndpointSpec:
    """Return an endpoint of the stage prod."""
    return EndpointSpec(name=name, stage="prod", variants=variants, env=env or {}, pool=pool)


def is_ready(endpoint: Endpoint) -> bool:
    """Whether the endpoint is ready, and says so."""
    return endpoint.status is EndpointStatus.READY


def has_replicas(count: int, endpoint: Endpoint) -> bool:
    """Whether *count* replicas of the first variant are ready, and no more."""
    return endpoint.variants[0].ready_replicas == count


def names(endpoints: Sequence[Endpoint]) -> list[str]:
    """Return the endpoints' names, in the order given."""
    return [endpoint.spec.name for endpoint in endpoints]
