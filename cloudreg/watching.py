"""What rollouts and shadows ask of a provider: the part of `Capabilities` that refuses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.types import (
    CustomMetric,
    Driver,
    EndpointKind,
    EndpointSpec,
    MetricSource,
    Mirroring,
    NativeRollouts,
    Rollout,
)


class Watching:
    """Which ways to a new version a provider can go and watch; the fields are the subclass's."""

    __slots__ = ()

    if TYPE_CHECKING:
        variant_metrics: bool
        custom_metrics: Mapping[str, MetricSource]
        native_rollouts: NativeRollouts | Literal[False]
        shadow: Mirroring

        def _refusal(
            self, message: str, capability: str, target: str, hint: str | None = None
        ) -> Unsupported: ...

    def require_rollout(self, rollout: Rollout, spec: EndpointSpec, *, target: str) -> None:
        """Refuse a way to a new version that this provider cannot go, or cannot watch.

        Args:
            rollout: The way.
            spec: What the endpoint becomes.
            target: For messages.

        Raises:
            Unsupported: With the reason, and the nearest thing that works.
            InvalidRequest: A custom metric cannot be looked up like that.
        """
        name = spec.name
        if rollout.gated and not self.variant_metrics:
            raise self._refusal(
                f"endpoint {name}: a rollout with limits, and nothing is measured",
                "variant_metrics",
                target,
                hint="leave the limits out",
            )
        self.require_metrics(rollout.metrics, name=name, target=target)
        if rollout.driver is Driver.CLOUDREG:
            return
        if not self.native_rollouts:
            raise self._refusal(
                f"endpoint {name}: no native rollouts on this provider",
                "native_rollouts",
                target,
                hint='driver = "cloudreg"',
            )
        if spec.pool is not None or spec.rests or spec.kind is EndpointKind.SERVERLESS:
            raise self._refusal(
                f"endpoint {name}: a native rollout needs replicas that are always there, on "
                "machines of their own",
                "native_rollouts",
                target,
                hint='strategy = "all_at_once" and driver = "cloudreg"',
            )
        against = self.native_rollouts.against(rollout)
        if against is not None:
            raise self._refusal(
                f"endpoint {name}: {against[0]}", "native_rollouts", target, hint=against[1]
            )

    def require_metrics(self, metrics: Iterable[CustomMetric], *, name: str, target: str) -> None:
        """Refuse custom metrics that this provider cannot look up.

        Args:
            metrics: What would be asked for.
            name: The endpoint's.
            target: For messages.

        Raises:
            Unsupported: It has no such source, with those that it has.
            InvalidRequest: The source wants to be told something else.
        """
        for metric in metrics:
            source = self.custom_metrics.get(metric.source)
            if source is None:
                known = " or ".join(repr(each) for each in sorted(self.custom_metrics))
                raise self._refusal(
                    f"endpoint {name}: no source {metric.source!r} of rollout metrics on this "
                    "provider",
                    "custom_metrics",
                    target,
                    hint=f"source = {known}" if known else "leave the metric out",
                )
            try:
                source.check(metric)
            except InvalidRequest as error:
                raise InvalidRequest(
                    f"endpoint {name}: {error.message}", target=target, hint=error.hint
                ) from error

    def _require_shadow(self, spec: EndpointSpec, target: str) -> None:
        if self.shadow is Mirroring.NONE:
            raise self._refusal(
                f"endpoint {spec.name}: no shadow traffic on this provider",
                "shadow",
                target,
                hint="leave shadow out; an endpoint of its own can be asked beside it",
            )
        if self.shadow is Mirroring.NATIVE and len(spec.variants) > 1:
            raise self._refusal(
                f"endpoint {spec.name}: a shadow beside {len(spec.variants)} variants, 1 at most",
                "shadow",
                target,
            )
