"""Kinds of endpoints: each that is declared serves, and the others are refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import NotFound, OperationFailed, Unsupported
from cloudreg.operations import poll_until
from cloudreg.provider import Provider
from cloudreg.testing.base import fresh
from cloudreg.testing.planning import VERSION, planned, refused
from cloudreg.testing.serving import Server, ServingTests, spec, variant
from cloudreg.types import (
    Asynchronous,
    EndpointKind,
    EndpointSpec,
    Resources,
    Scaling,
    ScalingMetric,
    Serverless,
)

NO_MEMORY_MIB = 1_000_003
"""Nobody sells that."""


class KindTests(ServingTests):
    """Serverless and asynchronous endpoints, in both directions."""

    @pytest.mark.parametrize("kind", list(EndpointKind))
    def test_kinds(self, provider: Provider, target: str, kind: EndpointKind) -> None:
        """A kind that is declared is accepted; another one is refused with the reason."""
        able = provider.capabilities
        wanted = of_kind(planned(variant("primary", VERSION)), kind, able)
        if kind in able.kinds:
            able.require(wanted, target=target)
        else:
            error = refused(able, "kinds", wanted, target=target)
            assert all(repr(str(known)) in (error.hint or "") for known in able.kinds)

    @pytest.fixture(scope="class")
    @classmethod
    def without_servers(cls, provider: Provider) -> Capabilities:
        """Return the capabilities of a target with serverless endpoints."""
        if EndpointKind.SERVERLESS not in provider.capabilities.kinds:
            pytest.skip("no serverless endpoints; test_kinds checks that they are refused")
        return provider.capabilities

    def test_serverless_memory_mib(self, without_servers: Capabilities, target: str) -> None:
        """All memory sizes that are declared are accepted; others get the nearest as a hint."""
        able = without_servers
        plain = planned(variant("primary", VERSION))
        for size in able.serverless_memory_mib:
            able.require(serverless(plain, size, 1), target=target)
        too_large = serverless(plain, NO_MEMORY_MIB, 1)
        error = refused(able, "serverless_memory_mib", too_large, target=target)
        assert error.hint == f"memory_mib = {max(able.serverless_memory_mib)}"

    def test_serverless_concurrency(self, without_servers: Capabilities, target: str) -> None:
        """As many requests in flight as declared are accepted; one more is refused."""
        able, most = without_servers, without_servers.serverless_concurrency
        plain = planned(variant("primary", VERSION))
        able.require(serverless(plain, able.serverless_memory_mib[0], most), target=target)
        crowded = serverless(plain, able.serverless_memory_mib[0], most + 1)
        error = refused(able, "serverless_concurrency", crowded, target=target)
        assert error.hint == f"max_concurrency = {most}"

    def test_serverless_serves(self, server: Server, without_servers: Capabilities) -> None:
        """A serverless endpoint answers, shows what was asked, and can be changed."""
        able = without_servers
        plain = spec(server.name(), variant("primary", server.version(1)))
        wanted = server.start(serverless(plain, able.serverless_memory_mib[0], 2))

        assert server.seen(wanted.name).spec == wanted
        assert self.ask(server, wanted.name) == 1
        larger = replace(
            serverless(plain, able.serverless_memory_mib[-1], 3),
            variants=(variant("primary", server.version(2)),),
        )
        server.update(larger)
        assert server.seen(wanted.name).spec == larger
        assert self.ask(server, wanted.name) == 2

    @pytest.fixture(scope="class")
    @classmethod
    def queued(cls, server: Server, provider: Provider) -> EndpointSpec:
        """Return an asynchronous endpoint that the tests share."""
        if EndpointKind.ASYNCHRONOUS not in provider.capabilities.kinds:
            pytest.skip("no asynchronous endpoints; test_kinds checks that they are refused")
        plain = spec(server.name(), variant("primary", server.version(1)))
        return server.start(
            replace(
                plain,
                kind=EndpointKind.ASYNCHRONOUS,
                asynchronous=asynchronous(
                    provider.capabilities, output="kit", max_concurrent_per_replica=2
                ),
            )
        )

    def test_asynchronous_shows(self, server: Server, queued: EndpointSpec) -> None:
        """An asynchronous endpoint shows what was asked."""
        assert server.seen(queued.name).spec == queued

    def test_queued_answer(self, server: Server, queued: EndpointSpec) -> None:
        """A queued request is answered, small and large, and can be read again."""
        for body in (self.question, self.padded(1_000_000)):
            request_id = self.submit(server, queued.name, body)
            assert self.answered_by(self.result(server, queued.name, request_id)) == 1
            assert self.answered_by(self.result(server, queued.name, request_id)) == 1

    def test_queued_answer_elsewhere(
        self, server: Server, queued: EndpointSpec, reopen: Callable[[], Provider] | None
    ) -> None:
        """Another process finds the answer by the id."""
        if reopen is None:
            pytest.skip("the target cannot be opened twice")
        request_id = self.submit(server, queued.name, self.question)
        elsewhere = reopen().endpoints
        answer = poll_until(
            lambda: elsewhere.result(queued.name, request_id),
            lambda found: found is not None,
            timeout_s=self.endpoint_timeout_s,
        )

        assert answer is not None
        assert self.answered_by(answer) == 1

    def test_queued_failure(self, server: Server, queued: EndpointSpec) -> None:
        """What the model server fails at, or refuses, is `OperationFailed`."""
        for question in (self.failing_question, self.refused_question):
            if question is not None:
                request_id = self.submit(server, queued.name, question)
                with pytest.raises(OperationFailed) as caught:
                    self.result(server, queued.name, request_id)
                assert request_id in caught.value.message

    def test_unknown_request(self, server: Server, queued: EndpointSpec) -> None:
        """An id that nobody was given is `NotFound`, and so is another endpoint's."""
        request_id = self.submit(server, queued.name, self.question)
        for name, wanted in (
            (queued.name, "0" * len(request_id)),
            (queued.name, "../" + request_id),
            (fresh("kit-nobody"), request_id),
        ):
            with pytest.raises(NotFound):
                server.endpoints.result(name, wanted)

    def test_nothing_queues(self, server: Server, live: EndpointSpec) -> None:
        """To queue a request of an endpoint that answers at once is `Unsupported`."""
        with pytest.raises(Unsupported):
            self.submit(server, live.name, self.question)
        with pytest.raises(NotFound):
            self.submit(server, fresh("kit-nobody"), self.question)

    @pytest.fixture(scope="class")
    @classmethod
    def queueing(cls, provider: Provider) -> Capabilities:
        """Return the capabilities of a target with asynchronous endpoints."""
        if EndpointKind.ASYNCHRONOUS not in provider.capabilities.kinds:
            pytest.skip("no asynchronous endpoints; test_kinds checks that they are refused")
        return provider.capabilities

    def test_queue_scaling(self, server: Server, queueing: Capabilities, target: str) -> None:
        """Replicas follow a queue, down to none, and are kept as asked; else both are refused."""
        metric = min(queueing.queue_metrics, default=ScalingMetric.CONCURRENCY)
        for bounds in (
            Scaling(min_replicas=0, max_replicas=1, metric=metric),
            Scaling(max_replicas=2, metric=metric),
        ):
            following = planned(variant("primary", VERSION, scaling=bounds))
            wanted = of_kind(following, EndpointKind.ASYNCHRONOUS, queueing)
            if not queueing.queue_scaling:
                refused(queueing, "queue_scaling", wanted, target=target)
                continue
            queueing.require(wanted, target=target)
            real = replace(
                wanted,
                name=server.name(),
                variants=(variant("primary", server.version(1), scaling=bounds),),
            )
            server.start(real)
            assert server.seen(real.name).spec == real
            request_id = self.submit(server, real.name, self.question)
            assert self.answered_by(self.result(server, real.name, request_id)) == 1

    @pytest.mark.parametrize("metric", ScalingMetric)
    def test_queue_metrics(
        self, queueing: Capabilities, target: str, metric: ScalingMetric
    ) -> None:
        """What replicas behind a queue can follow is accepted; all else is refused by name."""
        if not queueing.queue_scaling:
            pytest.skip("no queue_scaling; test_queue_scaling checks that it is refused")
        gpu = metric is ScalingMetric.GPU_UTILIZATION
        if gpu and not queueing.accelerators:
            pytest.skip("no GPU to measure")
        following = variant(
            "primary",
            VERSION,
            resources=Resources.parse(min(queueing.accelerators)) if gpu else Resources(),
            scaling=Scaling(max_replicas=2, metric=metric, target=60.0),
        )
        wanted = of_kind(planned(following), EndpointKind.ASYNCHRONOUS, queueing)
        if metric in queueing.queue_metrics:
            queueing.require(wanted, target=target)
            return
        error = refused(queueing, "queue_metrics", wanted, target=target)
        assert metric in error.message
        assert any(known in str(error.hint) for known in queueing.queue_metrics)

    def test_queue_expires_s(self, queueing: Capabilities, target: str) -> None:
        """Time that a request may have to wait is accepted as declared, and beyond it refused."""
        if queueing.queue_expires_s is None:
            queueing.require(expiring(10**9), target=target)
            return
        low, high = queueing.queue_expires_s
        for kept_s in (low, high):
            queueing.require(expiring(kept_s), target=target)
        for asked_s, kept_s in ((low - 1, low), (high + 1, high)):
            if asked_s < 1:
                continue  # nobody can ask for that
            error = refused(queueing, "queue_expires_s", expiring(asked_s), target=target)
            assert error.hint == f"expires_s = {kept_s}"

    def submit(self, server: Server, name: str, body: bytes) -> str:
        """Queue a request, and return its id."""
        return server.endpoints.submit(
            name, body, content_type=self.content_type, timeout_s=self.endpoint_timeout_s
        )

    def result(self, server: Server, name: str, request_id: str) -> bytes:
        """Wait for an answer."""
        answer = poll_until(
            lambda: server.endpoints.result(name, request_id),
            lambda found: found is not None,
            timeout_s=self.endpoint_timeout_s,
        )
        assert answer is not None, "no answer in time"
        return answer


def serverless(plain: EndpointSpec, memory_mib: int, concurrency: int) -> EndpointSpec:
    """Return the endpoint as a serverless one."""
    part = Serverless(memory_mib=memory_mib, max_concurrency=concurrency)
    return replace(plain, kind=EndpointKind.SERVERLESS, serverless=part)


def expiring(expires_s: int) -> EndpointSpec:
    """Return an asynchronous endpoint that is only asked about."""
    return replace(
        planned(variant("primary", VERSION)),
        kind=EndpointKind.ASYNCHRONOUS,
        asynchronous=Asynchronous(expires_s=expires_s),
    )


def of_kind(plain: EndpointSpec, kind: EndpointKind, able: Capabilities) -> EndpointSpec:
    """Return the endpoint as one of *kind*, within declared limits."""
    if kind is EndpointKind.SERVERLESS:
        return serverless(plain, (*able.serverless_memory_mib, 1024)[0], 1)
    if kind is EndpointKind.ASYNCHRONOUS:
        return replace(plain, kind=kind, asynchronous=asynchronous(able))
    return plain


def asynchronous(able: Capabilities, **part: Any) -> Asynchronous:
    """Return the part of an asynchronous endpoint, whose requests wait as long as they may."""
    usual_s = Asynchronous().expires_s
    low, high = able.queue_expires_s or (usual_s, usual_s)
    return Asynchronous(expires_s=min(max(usual_s, low), high), **part)
