"""What the data plane asks the control plane: where requests go, and how many instances there are.

Everything raises what the control plane raises: ``Could not find endpoint …`` for one that is not
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from cloudreg_emulator.fleet import Group

__all__ = ["Capacity", "Control", "Route", "control"]


class Route(Protocol):
    """A way from an endpoint to instances."""

    @property
    def variant(self) -> str:
        """The variant's name."""

    @property
    def weight(self) -> float:
        """Its share, in units of its own."""

    @property
    def group(self) -> Group:
        """Its instances, or the copies of its component."""

    @property
    def component(self) -> str | None:
        """The inference component's name; None where the variant has its own model."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The ProductionVariant that started them."""

    @property
    def shadow(self) -> bool:
        """Whether it gets copies of requests, and its answers are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many instances or copies there are.

    Attributes:
        desired: That were asked for.
        busy: Whether something is being changed; then nothing may be scaled.
        instance_type: What they run on; None for a serverless variant.
        may_be_none: Whether no instance at all is a number that can be asked for.
    """

    desired: int
    busy: bool
    instance_type: str | None
    may_be_none: bool


class Control:
    """The control plane of one account and region."""

    def __init__(self, backend: Any) -> None:
        """Ask *backend*: a `cloudreg_emulator.aws.sagemaker.models.SageMakerBackend`."""
        self._backend = backend

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held by the control plane while it handles a request; may be taken twice."""
        lock: AbstractContextManager[object] = self._backend.lock
        return lock

    def routes(self, endpoint: str, *, components: bool) -> Sequence[Route]:
        """Return where requests go now; nothing while the endpoint is not in service."""
        routes: Sequence[Route] = self._backend.routes(endpoint, components=components)
        return routes

    def hosts_components(self, endpoint: str) -> bool:
        """Return whether the endpoint serves through inference components alone."""
        state = self._backend.endpoint_state(endpoint)
        return state.is_serving and all(
            not v.config.get("ModelName") for v in state.blue.production
        )

    def is_plain(self, endpoint: str) -> bool:
        """Return whether requests are answered at once, and nothing of them is kept."""
        state = self._backend.endpoint_state(endpoint)
        blue = state.blue
        return (
            blue is not None and not state.capture and not blue.config.get("AsyncInferenceConfig")
        )

    def data_capture(self, endpoint: str) -> Mapping[str, Any] | None:
        """Return the ``DataCaptureConfig`` in force."""
        config: Mapping[str, Any] | None = self._backend.endpoint_state(endpoint).capture
        return config

    def async_inference(self, endpoint: str) -> Mapping[str, Any] | None:
        """Return the ``AsyncInferenceConfig`` in force."""
        blue = self._backend.endpoint_state(endpoint).blue
        return None if blue is None else blue.config.get("AsyncInferenceConfig")

    def instances(self, endpoint: str) -> int:
        """Return how many instances of an endpoint take requests."""
        with self._backend.lock:
            routes = self._backend.routes(endpoint)
        return sum(route.group.ready for route in routes if not route.shadow)

    def is_serverless(self, endpoint: str, variant: str) -> bool:
        """Return whether a variant has no instances of its own."""
        blue = self._backend.endpoint_state(endpoint).blue
        serving = blue.serving(variant) if blue is not None else None
        return serving is not None and serving.serverless is not None

    def variant(self, endpoint: str, variant: str) -> Capacity | None:
        """Return a variant's capacity; None where the endpoint has no such variant."""
        state = self._backend.endpoint_state(endpoint)
        serving = state.blue.serving(variant) if state.blue is not None else None
        if serving is None:
            return None
        return Capacity(
            desired=serving.desired,
            busy=state.status != "InService",
            instance_type=None if serving.serverless is not None else serving.instance_type,
            may_be_none=not serving.config.get("ModelName")
            or bool(state.blue.config.get("AsyncInferenceConfig")),
        )

    def component(self, name: str) -> Capacity:
        """Return an inference component's copies."""
        with self._backend.lock:
            found = self._backend.components.get(name)
        return Capacity(
            desired=found.copies,
            busy=found.status != "InService",
            instance_type="",
            may_be_none=True,
        )

    def load(self, name: str, variant: str | None = None) -> float:
        """Return the mean of requests in flight per instance, or per copy.

        Args:
            name: Of the endpoint; of the component, where there is no *variant*.
            variant: Of the endpoint.
        """
        with self._backend.lock:
            if variant is None:
                group = self._backend.components.get(name).group
                groups = [] if group is None else [group]
            else:
                routes = self._backend.routes(name)
                groups = [route.group for route in routes if route.variant == variant]
        ready: int = sum(group.ready for group in groups)
        inflight: int = sum(group.inflight for group in groups)
        return inflight / max(1, ready)

    def scale_variant(self, endpoint: str, variant: str, count: int) -> None:
        """Ask for *count* instances."""
        self._backend.rescale_variant(endpoint, variant, count)

    def scale_component(self, name: str, copies: int) -> None:
        """Ask for *copies*, also for none."""
        self._backend.rescale_component(name, copies)


def control(account: str, region: str) -> Control:
    """Return the control plane of an account in a region."""
    from moto.sagemaker.models import sagemaker_backends

    return Control(sagemaker_backends[account][region])
