"""Rollouts that a target watches or makes itself, and versions that get copies of requests."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.operations import poll_until
from cloudreg.provider import Provider
from cloudreg.testing.planning import VERSION, planned, refused
from cloudreg.testing.serving import Server, ServingTests, spec, variant
from cloudreg.types import (
    SHADOW,
    CustomMetric,
    Driver,
    EndpointSpec,
    Mirroring,
    OperationState,
    Rollout,
    RolloutStrategy,
)

COPIED = 20
"""Requests that are sent to see whether they are copied."""


class WatchTests(ServingTests):
    """Custom metrics, native rollouts and shadows.

    Attributes:
        silent_metric: A custom metric that can be looked up and has no data; for a target that
            has a source.
        copy_timeout_s: How long until a copied request is counted.
    """

    silent_metric: ClassVar[CustomMetric | None] = None
    copy_timeout_s: ClassVar[float] = 10.0

    @pytest.fixture
    def watched(self, provider: Provider) -> Capabilities:
        """Return what the provider declares."""
        return provider.capabilities

    def test_custom_metrics(
        self, server: Server, watched: Capabilities, live: EndpointSpec, target: str
    ) -> None:
        """What is declared is looked up, and no data is no value; the rest is refused."""
        nowhere = CustomMetric(name="kit", source="kit-nowhere", max=1.0)
        with pytest.raises(Unsupported) as caught:
            watched.require_metrics([nowhere], name=live.name, target=target)
        assert watched.reasons["custom_metrics"] in caught.value.message
        with pytest.raises(Unsupported):
            server.endpoints.metrics(live.name, window_s=60.0, custom=[nowhere])
        for name in watched.custom_metrics:
            wrong = CustomMetric(name="kit", source=name, query={"kit-no-key": "1"}, max=1.0)
            with pytest.raises(InvalidRequest):
                watched.require_metrics([wrong], name=live.name, target=target)
        if not watched.custom_metrics:
            return
        assert self.silent_metric is not None, "the subclass gives no metric of its sources"
        watched.require_metrics([self.silent_metric], name=live.name, target=target)
        found = server.endpoints.metrics(live.name, window_s=60.0, custom=[self.silent_metric])

        assert {name: seen.custom for name, seen in found.items()} == {"primary": {}}

    def test_native_rollouts(self, server: Server, watched: Capabilities, target: str) -> None:
        """A target that says so moves the traffic by itself; else that is refused, and it stays."""
        able = watched.native_rollouts
        before = server.start(spec(server.name(), variant("primary", server.version(1))))
        after = replace(before, variants=(variant("primary", server.version(2)),))
        rollout = Rollout(
            strategy=RolloutStrategy.CANARY,
            steps=(able.canary_percent[1] if able else 50, 100),
            driver=Driver.NATIVE,
        )
        if not able:
            with pytest.raises(Unsupported) as caught:
                watched.require_rollout(rollout, after, target=target)
            assert watched.reasons["native_rollouts"] in caught.value.message
            with pytest.raises(Unsupported):
                server.endpoints.update(after, artifacts=server.artifacts, rollout=rollout)
            assert server.seen(before.name).spec == before
            return
        uneven = replace(rollout, strategy=RolloutStrategy.LINEAR, steps=(1, 99, 100))
        with pytest.raises(Unsupported):
            watched.require_rollout(uneven, after, target=target)
        watched.require_rollout(rollout, after, target=target)
        operation = server.endpoints.update(after, artifacts=server.artifacts, rollout=rollout)

        assert server.wait(operation).state is OperationState.SUCCEEDED
        assert server.seen(before.name).spec == after
        assert self.ask(server, before.name) == 2

    def test_shadow(self, server: Server, watched: Capabilities, target: str) -> None:
        """A shadow never answers; it gets copies, or can be asked by name, or is refused."""
        if watched.shadow is Mirroring.NONE:
            wanted = planned(variant("primary", VERSION))
            wanted = replace(wanted, shadow=variant(SHADOW, VERSION))
            refused(watched, "shadow", wanted, target=target)
            return
        wanted = spec(server.name(), variant("primary", server.version(1)))
        wanted = replace(wanted, shadow=variant(SHADOW, server.version(2)))
        watched.require(wanted, target=target)
        server.start(wanted)
        assert server.seen(wanted.name).spec == wanted
        assert {self.ask(server, wanted.name) for _ in range(COPIED)} == {1}
        if watched.shadow is Mirroring.CLIENT:
            assert self.ask(server, wanted.name, variant=SHADOW) == 2
            return
        counted = poll_until(
            lambda: server.endpoints.metrics(wanted.name, window_s=3600.0)[SHADOW].requests,
            lambda requests: requests >= COPIED,
            timeout_s=self.copy_timeout_s,
        )

        assert counted == COPIED
