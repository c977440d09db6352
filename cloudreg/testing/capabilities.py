"""Capabilities are honest: what is declared works, and the rest is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.provider import Provider
from cloudreg.testing.serving import Server, ServingTests, spec, variant
from cloudreg.testing.traffic import SteadyTraffic
from cloudreg.types import (
    EndpointSpec,
    FileEntry,
    Manifest,
    ModelVersion,
    Resources,
    Scaling,
    Variant,
)

LARGE_BYTES = 8 * 1024 * 1024
"""A request that nobody calls small, sent where no limit is declared."""

NO_GPU = "NO-SUCH-GPU"

LESSER: dict[str, Callable[[Capabilities], bool]] = {
    "accelerators": lambda able: not able.accelerators,
    "scale_to_zero": lambda able: not able.scale_to_zero,
    "autoscaling": lambda able: not able.autoscaling,
    "traffic_split": lambda able: able.traffic_split < 2,
    "max_replicas": lambda able: able.max_replicas < 2,
    "max_request_bytes": lambda able: able.max_request_bytes is not None,
    "variant_metrics": lambda able: not able.variant_metrics,
    "machine_types": lambda able: not able.machine_types,
}
"""Each capability, and whether a value is less than people expect: then it needs a reason."""


class CapabilityTests(ServingTests):
    """Every field of `Capabilities`, in both directions.

    Attributes:
        autoscaling_timeout_s: How long until load brings a second replica; minutes on a cloud.
    """

    autoscaling_timeout_s: ClassVar[float] = 60.0

    @pytest.fixture
    def able(self, provider: Provider) -> Capabilities:
        """Return what the provider declares."""
        return provider.capabilities

    @pytest.mark.parametrize("field", LESSER)
    def test_lesser_values_have_reasons(self, able: Capabilities, field: str) -> None:
        """What is less than people expect says why, in a line."""
        reason = able.reasons.get(field, "")
        if LESSER[field](able):
            assert reason.strip(), f"{field} = {getattr(able, field)!r} without a reason"

        assert "\n" not in reason

    def test_values_make_sense(self, able: Capabilities) -> None:
        """Limits are limits of something, and what is offered is no substitute for itself."""
        assert able.traffic_split >= 1
        assert able.max_replicas >= 1
        assert able.max_request_bytes is None or able.max_request_bytes > 0
        # From none to one is a move, too.
        assert able.autoscaling or not able.scale_to_zero
        assert not set(able.nearest) & able.accelerators
        assert all(hint.strip() for hint in able.nearest.values())
        for gpu in able.accelerators | set(able.nearest):
            assert Resources.parse(gpu).accelerator == gpu

    def test_plain_endpoint(self, able: Capabilities, target: str) -> None:
        """One variant, one replica and no GPU is within everybody's means."""
        able.require(planned(variant("primary", VERSION)), target=target)

    def test_traffic_split(self, able: Capabilities, target: str) -> None:
        """As many variants as declared are accepted, one more is refused with the reason."""
        able.require(planned(*split(able.traffic_split)), target=target)
        refused(able, "traffic_split", planned(*split(able.traffic_split + 1)), target=target)

    def test_split_of_all_variants(self, server: Server, able: Capabilities) -> None:
        """Where traffic can be split, two versions behind one endpoint both answer."""
        if able.traffic_split < 2:
            pytest.skip("no traffic_split; test_traffic_split checks that it is refused")
        name = server.name()
        server.start(
            spec(
                name,
                variant("primary", server.version(1), 50),
                variant("canary", server.version(2), 50),
            )
        )

        assert {self.ask(server, name) for _ in range(100)} == {1, 2}

    def test_max_replicas(self, able: Capabilities, target: str) -> None:
        """As many replicas as declared are accepted, one more is refused with the reason."""
        most = able.max_replicas
        able.require(planned(replicated(most, most)), target=target)
        refused(able, "max_replicas", planned(replicated(most + 1, most + 1)), target=target)

    def test_accelerators_that_are_offered(self, able: Capabilities, target: str) -> None:
        """Every GPU class that is declared is accepted."""
        for gpu in sorted(able.accelerators):
            able.require(planned(on(gpu)), target=target)

    def test_accelerator_serves(self, server: Server, able: Capabilities) -> None:
        """An endpoint on a declared GPU class really serves, and shows what was asked."""
        if not able.accelerators:
            pytest.skip("no accelerators; the tests beside check that they are refused")
        wanted = server.start(
            spec(
                server.name(),
                variant(
                    "primary", server.version(1), resources=Resources.parse(min(able.accelerators))
                ),
            )
        )

        assert server.seen(wanted.name).spec == wanted
        assert self.ask(server, wanted.name) == 1

    def test_accelerators_that_are_not_offered(self, able: Capabilities, target: str) -> None:
        """Every other GPU class is refused with the reason, and with the nearest one's name."""
        refused(able, "accelerators", planned(on(NO_GPU)), target=target)
        for gpu, nearest in able.nearest.items():
            error = refused(able, "accelerators", planned(on(gpu)), target=target)
            assert error.hint == nearest

    def test_machine_types(self, able: Capabilities, target: str) -> None:
        """A machine's name is accepted where declared; else it is refused with the reason."""
        named = planned(variant("primary", VERSION, resources=Resources(machine_type="kit.large")))
        if able.machine_types:
            able.require(named, target=target)
        else:
            refused(able, "machine_types", named, target=target)

    def test_scale_to_zero(self, server: Server, able: Capabilities, target: str) -> None:
        """No replica at rest works where declared; else it is refused with the reason."""
        zero = Scaling(min_replicas=0, max_replicas=1)
        if not able.scale_to_zero:
            refused(able, "scale_to_zero", planned(replicated(0, 1)), target=target)
            return
        wanted = spec(server.name(), variant("primary", server.version(1), scaling=zero))
        able.require(wanted, target=target)
        server.start(wanted)

        assert server.seen(wanted.name).spec == wanted

    def test_autoscaling(self, server: Server, able: Capabilities, target: str) -> None:
        """Load brings another replica where declared; else bounds that differ are refused."""
        scaling = Scaling(min_replicas=1, max_replicas=2, concurrency=1.0)
        if not able.autoscaling:
            refused(able, "autoscaling", planned(replicated(1, 2)), target=target)
            return
        wanted = spec(server.name(), variant("primary", server.version(1), scaling=scaling))
        able.require(wanted, target=target)
        server.start(wanted)
        question = self.slow_question or self.question

        def ask() -> int:
            return self.answered_by(self.send(server, wanted.name, question))

        with SteadyTraffic(ask, threads=6) as traffic:
            seen = server.seen(
                wanted.name,
                lambda endpoint: endpoint.variants[0].ready_replicas == 2,
                timeout_s=self.autoscaling_timeout_s,
            )

        assert seen.spec == wanted
        assert traffic.failures == []

    def test_max_request_bytes(
        self, server: Server, able: Capabilities, live: EndpointSpec
    ) -> None:
        """A request as large as declared is answered, one byte more is refused by name."""
        most = able.max_request_bytes
        answer = self.send(server, live.name, self.padded(most or LARGE_BYTES))
        assert self.answered_by(answer) == 1

        if most is not None:
            with pytest.raises(InvalidRequest):
                self.send(server, live.name, self.padded(most + 1))

    def test_variant_metrics(self, server: Server, able: Capabilities, live: EndpointSpec) -> None:
        """Variants are counted where declared; else to ask for the counts is `Unsupported`."""
        if able.variant_metrics:
            assert set(server.endpoints.metrics(live.name, window_s=60.0)) == {"primary"}
        else:
            with pytest.raises(Unsupported):
                server.endpoints.metrics(live.name, window_s=60.0)


VERSION = ModelVersion(
    model="kit",
    number=1,
    digest=Manifest(files=(FileEntry(path="w", size=0, sha256="0" * 64),)).digest,
    manifest=Manifest(files=(FileEntry(path="w", size=0, sha256="0" * 64),)),
    author="conformance kit",
    created_at="2026-01-01T00:00:00Z",
)
"""A version that is planned with, and never deployed."""


def planned(*variants: Variant) -> EndpointSpec:
    """Return an endpoint that is only asked about."""
    return spec("kit-planned", *variants)


def split(count: int) -> list[Variant]:
    """Return that many variants; the first gets all the traffic."""
    return [variant(f"v{n}", VERSION, 0 if n else 100) for n in range(count)]


def replicated(least: int, most: int) -> Variant:
    """Return a variant with bounds."""
    return variant("primary", VERSION, scaling=Scaling(min_replicas=least, max_replicas=most))


def on(gpu: str) -> Variant:
    """Return a variant with one GPU."""
    return variant("primary", VERSION, resources=Resources.parse(gpu))


def refused(able: Capabilities, field: str, wanted: EndpointSpec, *, target: str) -> Unsupported:
    """Return the refusal of *wanted*; it names target, endpoint and the reason for *field*."""
    with pytest.raises(Unsupported) as caught:
        able.require(wanted, target=target)
    assert caught.value.target == target
    assert wanted.name in caught.value.message
    assert able.reasons.get(field, "") in caught.value.message
    return caught.value
