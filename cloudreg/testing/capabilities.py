"""Capabilities are honest: what is declared works, and the rest is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.provider import Provider
from cloudreg.testing.batches import BatchTests
from cloudreg.testing.kinds import KindTests
from cloudreg.testing.planning import VERSION, planned, refused
from cloudreg.testing.serving import Server, spec, variant
from cloudreg.testing.streams import StreamTests
from cloudreg.testing.traffic import SteadyTraffic
from cloudreg.testing.watching import WatchTests
from cloudreg.types import (
    EndpointKind,
    EndpointSpec,
    Mirroring,
    Resources,
    Scaling,
    ScalingMetric,
    ScalingStep,
    Variant,
)

LARGE_BYTES = 8 * 1024 * 1024
"""A request that nobody calls small, sent where no limit is declared."""

NO_GPU = "NO-SUCH-GPU"

LESSER: dict[str, Callable[[Capabilities], bool]] = {
    "accelerators": lambda able: not able.accelerators,
    "scale_to_zero": lambda able: not able.scale_to_zero,
    "autoscaling": lambda able: not able.autoscaling,
    "scaling_metrics": lambda able: len(able.scaling_metrics) < len(ScalingMetric),
    "cooldowns": lambda able: not able.cooldowns,
    "step_scaling": lambda able: not able.step_scaling,
    "gpu_fallback": lambda able: able.gpu_fallback < 1,
    "traffic_split": lambda able: able.traffic_split < 2,
    "split_at_zero": lambda able: not able.split_at_zero,
    "pools": lambda able: not able.pools,
    "rest_in_place": lambda able: not able.rest_in_place,
    "max_replicas": lambda able: able.max_replicas < 2,
    "max_request_bytes": lambda able: able.max_request_bytes is not None,
    "variant_requests": lambda able: not able.variant_requests,
    "variant_metrics": lambda able: not able.variant_metrics,
    "custom_metrics": lambda able: not able.custom_metrics,
    "native_rollouts": lambda able: not able.native_rollouts,
    "shadow": lambda able: able.shadow is not Mirroring.NATIVE,
    "machine_types": lambda able: not able.machine_types,
    "managed_transfer": lambda able: not able.managed_transfer,
    "egress": lambda _: False,  # nothing is expected: None says that nobody knows
    "streaming": lambda able: not able.streaming,
    "batch": lambda able: not able.batch,
    "kinds": lambda able: able.kinds != frozenset(EndpointKind),
    "serverless_memory_mib": lambda able: EndpointKind.SERVERLESS in able.kinds,
    "serverless_concurrency": lambda able: EndpointKind.SERVERLESS in able.kinds,
    "queue_scaling": lambda able: (
        EndpointKind.ASYNCHRONOUS in able.kinds and not able.queue_scaling
    ),
    "queue_metrics": lambda able: (
        able.queue_scaling and len(able.queue_metrics) < len(ScalingMetric)
    ),
    "queue_expires_s": lambda able: able.queue_expires_s is not None,
}
"""Each capability, and whether a value is less than people expect: then it needs a reason."""


class CapabilityTests(KindTests, StreamTests, BatchTests, WatchTests):
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
        assert able.autoscaling == bool(able.scaling_metrics)
        assert able.autoscaling or not able.step_scaling
        assert able.queue_scaling == bool(able.queue_metrics)
        assert not able.queue_scaling or EndpointKind.ASYNCHRONOUS in able.kinds
        assert able.gpu_fallback >= 0
        assert able.accelerators or not able.gpu_fallback
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

    def test_variant_requests(self, server: Server, able: Capabilities, live: EndpointSpec) -> None:
        """A variant is asked by its name where declared; else that is refused with the reason."""
        name = live.variants[0].name
        if able.variant_requests:
            assert self.ask(server, live.name, variant=name) == 1
            return
        with pytest.raises(Unsupported) as caught:
            self.ask(server, live.name, variant=name)
        assert able.reasons.get("variant_requests", "") in caught.value.message

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

    def test_managed_transfer(self, provider: Provider, able: Capabilities) -> None:
        """A source that no service reads is refused before anything is begun."""
        source = "elsewhere://bucket/prefix/"
        with pytest.raises(Unsupported):
            provider.transfers.start("0" * 40, source, ["blobs/1/" + "0" * 64])
        with pytest.raises(Unsupported):
            able.require_transfer("kit:1", 11, 10, source=source, target="kit")
        assert not able.require_transfer("kit:1", 10, 10, source=source, target="kit")
        for scheme in able.managed_transfer:
            assert able.require_transfer("kit:1", 11, 10, source=f"{scheme}://b/", target="kit")
        # A service has to find the place that it copies to.
        assert "://" in provider.location or not able.managed_transfer

    def test_egress(self, able: Capabilities) -> None:
        """A price can be looked up; that nothing is charged has no source."""
        price = able.egress
        if price is not None and price.usd_per_gb:
            assert price.source.startswith("https://")
            assert date.fromisoformat(price.as_of) <= datetime.now(UTC).date() + timedelta(days=1)

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

    def test_split_at_zero(self, server: Server, able: Capabilities, target: str) -> None:
        """Two versions share the traffic of an endpoint that may rest; else that is refused."""
        if not able.scale_to_zero or able.traffic_split < 2:
            pytest.skip("no rest, or no split; the tests of both check that they are refused")
        zero = Scaling(min_replicas=0, max_replicas=1)
        if not able.split_at_zero:
            halves = [replace(one, scaling=zero) for one in split(2)]
            refused(able, "split_at_zero", planned(*halves), target=target)
            return
        wanted = spec(
            server.name(),
            variant("primary", server.version(1), 50, scaling=zero),
            variant("canary", server.version(2), 50, scaling=zero),
        )
        server.start(wanted)

        assert server.seen(wanted.name).spec == wanted

    def test_pools(self, server: Server, able: Capabilities, target: str) -> None:
        """Endpoints of one pool both answer, and one that goes leaves the other; or are refused."""
        share = Resources(memory_mib=512)
        if not able.pools:
            wanted = spec(
                "kit-planned", variant("primary", VERSION, resources=share), pool="kit-pool"
            )
            refused(able, "pools", wanted, target=target)
            return
        pool = server.name()
        both = [
            spec(server.name(), variant("primary", server.version(n), resources=share), pool=pool)
            for n in (1, 2)
        ]
        halves = replace(both[0], variants=tuple(replace(v, resources=share) for v in split(2)))
        refused(able, "pools", halves, target=target)
        for wanted in both:
            server.start(wanted)
        assert [server.seen(wanted.name).spec for wanted in both] == both
        assert [self.ask(server, wanted.name) for wanted in both] == [1, 2]
        with pytest.raises(Unsupported):
            able.require_change(both[0], replace(both[0], pool="kit-other"), target=target)
        server.delete(both[0].name)

        assert server.endpoints.endpoint(both[0].name) is None
        assert self.ask(server, both[1].name) == 2

    def test_rest_in_place(self, server: Server, able: Capabilities, target: str) -> None:
        """A live endpoint may begin to rest, and stop to; else both are refused, and it stays."""
        if not able.scale_to_zero:
            pytest.skip("no rest; test_scale_to_zero checks that it is refused")
        awake = spec(server.name(), variant("primary", server.version(1)))
        zero = Scaling(min_replicas=0, max_replicas=1)
        resting = replace(awake, variants=(replace(awake.variants[0], scaling=zero),))
        able.require_change(None, resting, target=target)
        if not able.rest_in_place:
            for before, after in ((awake, resting), (resting, awake)):
                with pytest.raises(Unsupported) as caught:
                    able.require_change(before, after, target=target)
                assert able.reasons["rest_in_place"] in caught.value.message
                assert caught.value.hint
            server.start(awake)
            with pytest.raises(Unsupported):
                server.update(resting)
            assert server.seen(awake.name).spec == awake
            return
        server.start(awake)
        for wanted in (resting, awake):
            able.require_change(server.seen(awake.name).spec, wanted, target=target)
            server.update(wanted)
            assert server.seen(awake.name).spec == wanted

    def test_autoscaling(self, server: Server, able: Capabilities, target: str) -> None:
        """Load brings another replica where declared; else bounds that differ are refused."""
        scaling = Scaling(min_replicas=1, max_replicas=2, metric=followed(able), target=1.0)
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

    @pytest.mark.parametrize("metric", ScalingMetric)
    def test_scaling_metrics(
        self, server: Server, able: Capabilities, target: str, metric: ScalingMetric
    ) -> None:
        """What replicas can follow is kept as it was asked for; all else is refused by name."""
        wanted = following(able, metric)
        if not able.autoscaling:
            pytest.skip("no autoscaling; test_autoscaling checks that it is refused")
        if metric not in able.scaling_metrics:
            error = refused(able, "scaling_metrics", planned(wanted), target=target)
            assert metric in error.message
            assert any(known in str(error.hint) for known in able.scaling_metrics)
            return
        if metric is ScalingMetric.GPU_UTILIZATION and not able.accelerators:
            raise AssertionError("GPUs are measured where there is none")
        made = server.version(1)
        asked = server.start(
            spec(server.name(), replace(wanted, digest=made.digest, number=made.number))
        )

        assert server.seen(asked.name).spec == asked

    def test_scaling_targets_change(self, server: Server, able: Capabilities) -> None:
        """Another target and other cooldowns of a live endpoint are those that are shown."""
        if not able.autoscaling:
            pytest.skip("no autoscaling; test_autoscaling checks that it is refused")
        asked = server.start(
            spec(
                server.name(),
                variant(
                    "primary",
                    server.version(1),
                    scaling=Scaling(max_replicas=2, metric=followed(able)),
                ),
            )
        )
        other = Scaling(max_replicas=2, metric=followed(able), target=7.0)
        if able.cooldowns:
            other = replace(other, scale_out_cooldown_s=30.0, scale_in_cooldown_s=90.0)
        wanted = replace(asked, variants=(replace(asked.variants[0], scaling=other),))
        server.update(wanted)

        assert server.seen(asked.name).spec == wanted

    @pytest.mark.parametrize("key", ["scale_in_cooldown_s", "scale_out_cooldown_s"])
    def test_cooldowns(self, able: Capabilities, target: str, key: str) -> None:
        """Pauses that may not be chosen are refused with the reason."""
        if not able.autoscaling:
            pytest.skip("no autoscaling; test_autoscaling checks that it is refused")
        usual = Scaling(max_replicas=2, metric=followed(able))
        scaling = (
            replace(usual, scale_in_cooldown_s=90.0)
            if key == "scale_in_cooldown_s"
            else replace(usual, scale_out_cooldown_s=90.0)
        )
        wanted = planned(variant("primary", VERSION, scaling=scaling))
        if able.cooldowns:
            able.require(wanted, target=target)
        else:
            refused(able, "cooldowns", wanted, target=target)

    def test_step_scaling(self, server: Server, able: Capabilities, target: str) -> None:
        """Steps are kept as they were asked for where declared; else they are refused."""
        scaling = Scaling(
            max_replicas=2,
            metric=followed(able),
            target=4.0,
            steps=(ScalingStep(at=8.0, add=1),),
        )
        if not able.step_scaling:
            refused(
                able,
                "step_scaling" if able.autoscaling else "autoscaling",
                planned(variant("primary", VERSION, scaling=scaling)),
                target=target,
            )
            return
        asked = server.start(
            spec(server.name(), variant("primary", server.version(1), scaling=scaling))
        )
        assert server.seen(asked.name).spec == asked
        plain = replace(scaling, steps=())
        wanted = replace(asked, variants=(replace(asked.variants[0], scaling=plain),))
        server.update(wanted)

        assert server.seen(asked.name).spec == wanted

    def test_gpu_fallback(self, server: Server, able: Capabilities, target: str) -> None:
        """As many classes to fall back to as declared are accepted; one more is refused."""
        classes = [*sorted(able.accelerators), *(f"{NO_GPU}{n}" for n in range(9))]
        most = able.gpu_fallback
        beyond = Resources(
            accelerator=classes[0], accelerator_count=1, fallback=tuple(classes[1 : most + 2])
        )
        refused(
            able,
            "gpu_fallback",
            planned(variant("primary", VERSION, resources=beyond)),
            target=target,
        )
        if not most:
            return
        # As different as names can be: two classes may come on one machine.
        first, second = min(able.accelerators), max(able.accelerators)
        resources = Resources(accelerator=first, accelerator_count=1, fallback=(NO_GPU,))
        refused(
            able,
            "accelerators",
            planned(variant("primary", VERSION, resources=resources)),
            target=target,
        )
        able.require(
            planned(variant("primary", VERSION, resources=replace(resources, fallback=(second,)))),
            target=target,
        )
        asked = server.start(
            spec(
                server.name(),
                variant(
                    "primary", server.version(1), resources=replace(resources, fallback=(second,))
                ),
            )
        )

        assert server.seen(asked.name).spec == asked
        assert self.ask(server, asked.name) == 1

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


def split(count: int) -> list[Variant]:
    """Return that many variants; the first gets all the traffic."""
    return [variant(f"v{n}", VERSION, 0 if n else 100) for n in range(count)]


def replicated(least: int, most: int) -> Variant:
    """Return a variant with bounds."""
    return variant("primary", VERSION, scaling=Scaling(min_replicas=least, max_replicas=most))


def followed(able: Capabilities) -> ScalingMetric:
    """Return a metric that the number of replicas can follow, on a CPU too."""
    measured = able.scaling_metrics - {ScalingMetric.GPU_UTILIZATION}
    usual = Scaling().metric
    return usual if usual in measured else min(measured, default=usual)


def following(able: Capabilities, metric: ScalingMetric) -> Variant:
    """Return a variant whose number follows *metric*, on a GPU where that is what is measured."""
    gpu = metric is ScalingMetric.GPU_UTILIZATION
    return variant(
        "primary",
        VERSION,
        resources=Resources.parse(min(able.accelerators, default=NO_GPU)) if gpu else Resources(),
        scaling=Scaling(max_replicas=2, metric=metric, target=60.0),
    )


def on(gpu: str) -> Variant:
    """Return a variant with one GPU."""
    return variant("primary", VERSION, resources=Resources.parse(gpu))
