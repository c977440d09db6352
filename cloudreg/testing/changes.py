"""How every endpoint must come, change and go, as tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest

from cloudreg.errors import (
    NotFound,
)
from cloudreg.provider import Provider
from cloudreg.testing.base import at_once
from cloudreg.testing.serving import (
    Server,
    ServingTests,
    has_replicas,
    is_ready,
    names,
    spec,
    variant,
)
from cloudreg.testing.traffic import SteadyTraffic
from cloudreg.types import EndpointStatus, OperationState, Scaling


class ChangeTests(ServingTests):
    """Endpoints that change while requests flow, that fail, and that end.

    Attributes:
        load_requests: How many flow before, and again after, a change under load.
    """

    load_requests: ClassVar[int] = 30

    def test_weights_change_under_load(self, server: Server) -> None:
        """No request is lost while weights move, and after it they are the new ones."""
        self._needs_two("traffic_split", server.provider)
        name = server.name()
        start = spec(
            name, variant("primary", server.version(1)), variant("canary", server.version(2), 0)
        )
        server.start(start)
        with SteadyTraffic(lambda: self.ask(server, name)) as traffic:
            traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)
            assert set(traffic.answers) == {1}
            for weights in ({"primary": 50, "canary": 50}, {"primary": 0, "canary": 100}):
                status = server.update(start.weighted(weights))
                assert status.state is OperationState.SUCCEEDED, status
                traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)

        assert traffic.failures == []
        assert set(traffic.answers) == {1, 2}
        assert {self.ask(server, name) for _ in range(20)} == {2}
        assert [v.weight for v in server.seen(name).variants] == [0, 100]

    def test_canary_becomes_primary_under_load(self, server: Server) -> None:
        """No request is lost while the canary takes the primary's name and the old one goes."""
        self._needs_two("traffic_split", server.provider)
        name = server.name()
        server.start(
            spec(
                name,
                variant("primary", server.version(1), 50),
                variant("canary", server.version(2), 50),
            )
        )
        wanted = spec(name, variant("primary", server.version(2)))
        with SteadyTraffic(lambda: self.ask(server, name)) as traffic:
            traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)
            status = server.update(wanted)
            traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)
        seen = server.seen(name)

        assert status.state is OperationState.SUCCEEDED, status
        assert traffic.failures == []
        assert {self.ask(server, name) for _ in range(20)} == {2}
        assert seen.spec == wanted
        assert [(v.name, v.digest) for v in seen.variants] == [
            ("primary", server.version(2).digest)
        ]
        with pytest.raises(NotFound):
            self.ask(server, name, variant="canary")

    def test_new_version_under_load(self, server: Server) -> None:
        """No request is lost while another version takes the place of the one that serves."""
        name = server.name()
        server.start(spec(name, variant("primary", server.version(1))))
        with SteadyTraffic(lambda: self.ask(server, name)) as traffic:
            traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)
            status = server.update(spec(name, variant("primary", server.version(2))))
            traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)

        assert status.state is OperationState.SUCCEEDED, status
        assert traffic.failures == []
        assert set(traffic.answers) == {1, 2}
        assert {self.ask(server, name) for _ in range(20)} == {2}

    def test_broken_update(self, server: Server) -> None:
        """An update that cannot start fails with the server's log lines, and loses no request.

        The old version serves on as before, and the next good update succeeds.
        """
        name = server.name()
        before = server.start(spec(name, variant("primary", server.version(1))))
        bad = server.version(3, broken=True)
        with SteadyTraffic(lambda: self.ask(server, name)) as traffic:
            status = server.update(spec(name, variant("primary", bad)))
            traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)
        seen = server.seen(name)

        assert status.state is OperationState.FAILED
        assert status.message
        assert status.logs
        assert traffic.failures == []
        assert set(traffic.answers) == {1}
        assert seen.spec == before
        assert [v.digest for v in seen.variants] == [server.version(1).digest]

        again = server.update(spec(name, variant("primary", server.version(2))))
        assert again.state is OperationState.SUCCEEDED, again
        assert self.ask(server, name) == 2

    def test_broken_create(self, server: Server) -> None:
        """A create that cannot start fails with the server's log lines, and can be deleted."""
        name = server.name()
        status = server.create(spec(name, variant("primary", server.version(3, broken=True))))
        seen = server.endpoints.endpoint(name)

        assert status.state is OperationState.FAILED
        assert status.message
        assert status.logs
        assert seen is None or seen.status is EndpointStatus.FAILED
        assert server.delete(name).state is OperationState.SUCCEEDED
        assert server.endpoints.endpoint(name) is None

    def test_replicas(self, server: Server) -> None:
        """As many replicas run as were asked for, more and less, without a lost request."""
        self._needs_two("max_replicas", server.provider)
        name = server.name()
        start = server.start(spec(name, variant("primary", server.version(1))))
        for count in (2, 1):
            scaling = Scaling(min_replicas=count, max_replicas=count)
            wanted = replace(start, variants=(replace(start.variants[0], scaling=scaling),))
            with SteadyTraffic(lambda: self.ask(server, name)) as traffic:
                status = server.update(wanted)
                traffic.flow(self.load_requests, timeout_s=self.endpoint_timeout_s)
            seen = server.seen(name, partial(has_replicas, count))

            assert status.state is OperationState.SUCCEEDED, status
            assert traffic.failures == []
            assert seen.spec == wanted
            assert seen.variants[0].desired_replicas == count

    def test_delete_endpoint(self, server: Server) -> None:
        """A deleted endpoint is gone for everybody; to delete it again is fine."""
        name = server.name()
        server.start(spec(name, variant("primary", server.version(1))))
        for _ in range(2):
            assert server.delete(name).state is OperationState.SUCCEEDED
            assert server.endpoints.endpoint(name) is None
            assert name not in names(list(server.endpoints.endpoints()))
            with pytest.raises(NotFound):
                self.ask(server, name)

    def test_create_after_delete(self, server: Server) -> None:
        """The name of a deleted endpoint is free for another spec, and nothing old is left."""
        name = server.name()
        server.start(spec(name, variant("primary", server.version(1)), env={"OLD": "1"}))
        server.delete(name)
        wanted = server.start(spec(name, variant("other", server.version(2))))

        assert server.seen(name).spec == wanted
        assert self.ask(server, name) == 2
        with pytest.raises(NotFound):
            self.ask(server, name, variant="primary")

    def test_create_at_once(self, server: Server) -> None:
        """Several who create the same endpoint at once all succeed, and there is one."""
        name = server.name()
        wanted = spec(name, variant("primary", server.version(1)))
        said = at_once([lambda: server.create(wanted)] * 4)

        assert [getattr(one, "state", one) for one in said] == [OperationState.SUCCEEDED] * 4
        assert names(list(server.endpoints.endpoints())).count(name) == 1
        assert server.seen(name).spec == wanted

    def test_seen_from_elsewhere(
        self, server: Server, reopen: Callable[[], Provider] | None
    ) -> None:
        """Who opens the target anew sees the same, joins what runs, and outlives who began."""
        if reopen is None:
            pytest.skip("the subclass gives no `reopen`")
        name = server.name()
        wanted = spec(name, variant("primary", server.version(1)))
        beginner = reopen()
        beginner.endpoints.create(wanted, artifacts=server.artifacts)
        beginner.close()
        other = self.serve(reopen(), server.version)
        joined = other.wait(other.endpoints.create(wanted, artifacts=server.artifacts))

        assert joined.state is OperationState.SUCCEEDED, joined
        assert self.ask(other, name) == self.ask(server, name) == 1
        assert other.endpoints.endpoint(name) == server.endpoints.endpoint(name)
        other.provider.close()
        assert is_ready(server.seen(name))
        assert self.ask(server, name) == 1

    @classmethod
    def _needs_two(cls, field: str, provider: Provider) -> None:
        if getattr(provider.capabilities, field) < 2:
            pytest.skip(f"{field} is 1; CapabilityTests check that more is refused")
