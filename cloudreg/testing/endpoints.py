"""What every target's endpoints must do, as tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pytest

from cloudreg.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
)
from cloudreg.names import sha256
from cloudreg.operations import poll_until
from cloudreg.provider import Provider
from cloudreg.testing.base import fresh
from cloudreg.testing.changes import ChangeTests
from cloudreg.testing.serving import (
    Server,
    names,
    spec,
    variant,
)
from cloudreg.types import EndpointSpec, EndpointStatus, OperationState

SPLIT = {"primary": 75, "canary": 25}


class EndpointTests(ChangeTests):
    """Endpoints that really serve.

    Attributes:
        poll_limit_s: Longest that one poll may take: a request, but no wait.
        split_requests: How many a test of the weights sends.
        split_tolerance: How far a variant's share may be from its weight, 0 to 1. Random routing
            is within 0.15 of a quarter in 200 requests, but for one run in a million.
        metrics_timeout_s: How long after an answer it may be counted.
    """

    poll_limit_s: ClassVar[float] = 10.0
    split_requests: ClassVar[int] = 200
    split_tolerance: ClassVar[float] = 0.15
    metrics_timeout_s: ClassVar[float] = 10.0

    @pytest.fixture(scope="class")
    @classmethod
    def split(cls, server: Server) -> EndpointSpec:
        """Return an endpoint that was updated to two variants, which tests do not change."""
        cls._needs_two("traffic_split", server.provider)
        name = server.name()
        server.start(spec(name, variant("primary", server.version(1))))
        wanted = spec(
            name,
            variant("primary", server.version(1), SPLIT["primary"]),
            variant("canary", server.version(2), SPLIT["canary"]),
        )
        status = server.update(wanted)
        assert status.state is OperationState.SUCCEEDED, status
        return wanted

    def test_answers(self, server: Server, live: EndpointSpec) -> None:
        """A created endpoint answers with the version that was asked for."""
        assert self.ask(server, live.name) == 1

    def test_shows_what_was_asked(self, server: Server, live: EndpointSpec) -> None:
        """The spec that is read back equals the one that was asked for, env included."""
        seen = server.seen(live.name)

        assert seen.spec == live
        assert seen.status is EndpointStatus.READY

    def test_shows_what_runs(self, server: Server, live: EndpointSpec) -> None:
        """Digest, weight and replicas are those of the servers that run."""
        found = [
            (v.name, v.digest, v.ready_replicas, v.desired_replicas, v.weight)
            for v in server.seen(live.name).variants
        ]

        assert found == [("primary", server.version(1).digest, 1, 1, 100)]

    def test_create_again(self, server: Server, live: EndpointSpec) -> None:
        """To create what exists with an equal spec succeeds and changes nothing."""
        before = server.seen(live.name)
        status = server.create(live)

        assert status.state is OperationState.SUCCEEDED
        assert server.seen(live.name) == before

    def test_create_another(self, server: Server, live: EndpointSpec) -> None:
        """To create what exists with another spec is `AlreadyExists` and changes nothing."""
        for other in (
            replace(live, env={"KIT_MARK": "other"}),
            spec(live.name, variant("primary", server.version(2)), env=dict(live.env)),
            spec(live.name, variant("other", server.version(1)), env=dict(live.env)),
        ):
            with pytest.raises(AlreadyExists):
                server.endpoints.create(other, artifacts=server.artifacts)

        assert server.seen(live.name).spec == live
        assert self.ask(server, live.name) == 1

    def test_update_without_change(self, server: Server, live: EndpointSpec) -> None:
        """An update to what is there succeeds and changes nothing."""
        before = server.seen(live.name)
        status = server.update(live)

        assert status.state is OperationState.SUCCEEDED
        assert server.seen(live.name) == before

    def test_unknown_endpoint(self, server: Server) -> None:
        """An endpoint that nobody made is None to look at and `NotFound` to use."""
        name = fresh("kit-nobody")
        wanted = spec(name, variant("primary", server.version(1)))

        assert server.endpoints.endpoint(name) is None
        with pytest.raises(NotFound):
            self.ask(server, name)
        with pytest.raises(NotFound):
            server.endpoints.update(wanted, artifacts=server.artifacts)
        assert server.endpoints.endpoint(name) is None

    def test_delete_the_unknown(self, server: Server) -> None:
        """To delete an endpoint that nobody made is fine."""
        assert server.delete(fresh("kit-nobody")).state is OperationState.SUCCEEDED

    def test_unknown_variant(self, server: Server, live: EndpointSpec) -> None:
        """A variant that the endpoint does not have is `NotFound`."""
        with pytest.raises(NotFound):
            self.ask(server, live.name, variant="canary")

    def test_missing_file(self, server: Server, live: EndpointSpec) -> None:
        """A version whose files are not in the store is `NotFound`, and nothing is made."""
        made = self.make_version(server.provider.store, 9, model="kit", only=b"a lost file")
        server.provider.store.delete(made.manifest.files[0].key)
        name = server.name()
        for verb, wanted in (
            (server.endpoints.create, spec(name, variant("primary", made))),
            (server.endpoints.update, spec(live.name, variant("primary", made))),
        ):
            with pytest.raises(NotFound):
                verb(wanted, artifacts={made.digest: made})

        assert server.endpoints.endpoint(name) is None
        assert server.seen(live.name).spec == live

    def test_no_version_given(self, server: Server, live: EndpointSpec) -> None:
        """A digest without its version is refused, and nothing is made."""
        name = server.name()
        unknown = replace(variant("primary", server.version(1)), digest=sha256(b"unknown"))
        for verb, wanted in (
            (server.endpoints.create, spec(name, unknown)),
            (server.endpoints.update, spec(live.name, unknown)),
        ):
            with pytest.raises((InvalidRequest, NotFound)):
                verb(wanted, artifacts=server.artifacts)

        assert server.endpoints.endpoint(name) is None
        assert server.seen(live.name).spec == live

    def test_refused_request(self, server: Server, live: EndpointSpec) -> None:
        """What the model server refuses with 4xx is `InvalidRequest`."""
        with pytest.raises(InvalidRequest):
            self.send(server, live.name, self.refused_question)

    def test_failing_request(self, server: Server, live: EndpointSpec) -> None:
        """What the model server fails at with 5xx is `OperationFailed`, with its log lines."""
        with pytest.raises(OperationFailed) as caught:
            self.send(server, live.name, self.failing_question)

        assert caught.value.logs

    def test_slow_request(self, server: Server, live: EndpointSpec) -> None:
        """An answer that takes longer than the caller waits is `OperationTimeout`."""
        with pytest.raises(OperationTimeout):
            self.send(server, live.name, self.slow_question, timeout_s=0.2)

    def test_logs(self, server: Server, live: EndpointSpec) -> None:
        """The model server's lines can be read, of a variant too, and no more than asked for."""
        found = poll_until(
            lambda: server.endpoints.logs(live.name),
            bool,
            timeout_s=self.metrics_timeout_s,
        )

        assert found
        assert all(isinstance(line, str) for line in found)
        assert server.endpoints.logs(live.name, variant="primary")
        assert len(server.endpoints.logs(live.name, lines=1)) == 1
        assert server.endpoints.logs(live.name, lines=0) == []

    def test_native_endpoint(self, server: Server, live: EndpointSpec, split: EndpointSpec) -> None:
        """Each endpoint has an object of the target's own, and one that nobody made has none."""
        found = [server.endpoints.native(spec.name) for spec in (live, split)]

        assert all(one is not None for one in found)
        assert found[0] != found[1]
        with pytest.raises(NotFound):
            server.endpoints.native(fresh("kit-nobody"))

    def test_poll_does_not_wait(self, server: Server, live: EndpointSpec) -> None:
        """A poll asks once and returns: to wait is the caller's part."""
        operation = server.endpoints.update(live, artifacts=server.artifacts)
        server.wait(operation)

        assert operation.name
        assert server.longest_poll_s < self.poll_limit_s

    def test_list_by_name(self, server: Server, live: EndpointSpec, split: EndpointSpec) -> None:
        """All endpoints that were made are listed by name, as a look at each shows them."""
        listed = list(server.endpoints.endpoints())

        assert names(listed) == sorted(names(listed))
        assert {live.name, split.name} <= set(names(listed))
        for endpoint in listed:
            if endpoint.spec.name in (live.name, split.name):
                assert endpoint == server.endpoints.endpoint(endpoint.spec.name)

    def test_split_shows(self, server: Server, split: EndpointSpec) -> None:
        """An endpoint with two variants shows both, with digest and weight."""
        seen = server.seen(split.name)
        wanted = [(v.name, v.digest, v.weight) for v in split.variants]

        assert seen.spec == split
        assert [(v.name, v.digest, v.weight) for v in seen.variants] == wanted

    def test_split_is_kept(self, server: Server, split: EndpointSpec) -> None:
        """Each variant gets its weight of the requests."""
        count = Counter(self.ask(server, split.name) for _ in range(self.split_requests))

        assert set(count) == {1, 2}
        assert count[2] / self.split_requests == pytest.approx(
            SPLIT["canary"] / 100, abs=self.split_tolerance
        )

    def test_variant_is_addressed(self, server: Server, split: EndpointSpec) -> None:
        """A request that names a variant is answered by that one, whatever its weight."""
        if not server.provider.capabilities.variant_requests:
            pytest.skip("no variant_requests; CapabilityTests check that it is refused")
        assert [self.ask(server, split.name, variant="canary") for _ in range(5)] == [2] * 5
        assert [self.ask(server, split.name, variant="primary") for _ in range(5)] == [1] * 5

    def test_requests_are_counted(
        self, server: Server, provider: Provider, split: EndpointSpec
    ) -> None:
        """Requests are counted for the variant that answered, with their latency."""
        self._needs_metrics(provider)
        before = self._counted(server, split.name)
        if provider.capabilities.variant_requests:
            asked = {"primary": 3, "canary": 7}
            for name, count in asked.items():
                for _ in range(count):
                    self.ask(server, split.name, variant=name)
        else:
            # The answer tells who gave it.
            said = Counter(self.ask(server, split.name) for _ in range(40))
            asked = {"primary": said[1], "canary": said[2]}
        self._until_counted(server, split.name, {n: before[n][0] + c for n, c in asked.items()})
        for name, found in server.endpoints.metrics(split.name, window_s=3600.0).items():
            assert found.errors == before[name][1]
            assert found.p50_ms is not None
            assert found.p95_ms is not None
            assert 0 < found.p50_ms <= found.p95_ms

    def test_errors_are_counted(self, server: Server, provider: Provider) -> None:
        """A 5xx answer is a request and an error; a 4xx answer is no error."""
        self._needs_metrics(provider)
        # An endpoint of its own: a request that somebody gave up may still be counted elsewhere.
        name = server.name()
        server.start(spec(name, variant("primary", server.version(1))))
        with pytest.raises(OperationFailed):
            self.send(server, name, self.failing_question)
        with pytest.raises(InvalidRequest):
            self.send(server, name, self.refused_question)
        self.ask(server, name)
        self._until_counted(server, name, {"primary": 3})

        assert self._counted(server, name) == {"primary": (3, 1)}

    def test_silence_is_no_data(
        self, server: Server, provider: Provider, split: EndpointSpec
    ) -> None:
        """Every variant is in the metrics; one without requests has no rate and no latency."""
        self._needs_metrics(provider)
        name = server.name()
        server.start(spec(name, variant("primary", server.version(1))))
        found = server.endpoints.metrics(name, window_s=60.0)

        assert list(found) == ["primary"]
        assert (found["primary"].requests, found["primary"].errors) == (0, 0)
        assert found["primary"].p50_ms is found["primary"].p95_ms is None
        assert set(server.endpoints.metrics(split.name, window_s=60.0)) == set(SPLIT)

    def _needs_metrics(self, provider: Provider) -> None:
        if not provider.capabilities.variant_metrics:
            pytest.skip("no variant_metrics; CapabilityTests check that it is refused")

    def _counted(self, server: Server, name: str) -> dict[str, tuple[int, int]]:
        """Return requests and errors of each variant in the last hour."""
        found = server.endpoints.metrics(name, window_s=3600.0)
        return {label: (counted.requests, counted.errors) for label, counted in found.items()}

    def _until_counted(self, server: Server, name: str, wanted: dict[str, int]) -> None:
        """Wait until each variant has the requests that are wanted, and no more."""

        def counted() -> dict[str, int]:
            found = self._counted(server, name)
            return {label: found[label][0] for label in wanted}

        poll_until(counted, lambda found: found == wanted, timeout_s=self.metrics_timeout_s)
        assert counted() == wanted
