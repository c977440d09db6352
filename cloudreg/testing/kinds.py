"""Kinds of endpoints: each that is declared serves, and the others are refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import NotFound, OperationFailed, Unsupported
from cloudreg.operations import poll_until
from cloudreg.provider import Provider
from cloudreg.testing.base import fresh
from cloudreg.testing.planning import VERSION, planned, refused
from cloudreg.testing.serving import Server, ServingTests, spec, variant
from cloudreg.types import Asynchronous, EndpointKind, EndpointSpec, Scaling, Serverless

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
                asynchronous=Asynchronous(output="kit", max_concurrent_per_replica=2),
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

    def test_queue_scaling(self, provider: Provider, target: str) -> None:
        """Replicas that follow a queue, down to none, are accepted where declared; else refused."""
        able = provider.capabilities
        if EndpointKind.ASYNCHRONOUS not in able.kinds:
            pytest.skip("no asynchronous endpoints; test_kinds checks that they are refused")
        for bounds in (Scaling(min_replicas=0, max_replicas=1), Scaling(max_replicas=2)):
            following = planned(variant("primary", VERSION, scaling=bounds))
            wanted = of_kind(following, EndpointKind.ASYNCHRONOUS, able)
            if able.queue_scaling:
                able.require(wanted, target=target)
            else:
                refused(able, "queue_scaling", wanted, target=target)

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


def of_kind(plain: EndpointSpec, kind: EndpointKind, able: Capabilities) -> EndpointSpec:
    """Return the endpoint as one of *kind*, within declared limits."""
    if kind is EndpointKind.SERVERLESS:
        return serverless(plain, (*able.serverless_memory_mib, 1024)[0], 1)
    if kind is EndpointKind.ASYNCHRONOUS:
        return replace(plain, kind=kind, asynchronous=Asynchronous())
    return plain
