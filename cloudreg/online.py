"""Each variant's numbers from the field beside those it was registered with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloudreg.errors import NotFound, Unsupported
from cloudreg.names import ModelRef
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import VariantMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantReport:
    """One variant of one endpoint.

    Attributes:
        endpoint: The endpoint.
        target: Where it runs.
        variant: The variant.
        model: The model.
        number: The version that it serves.
        weight: Percent of the traffic; of the requests that are copied, for a shadow.
        offline: The metrics that the version was registered with.
        online: What it answered lately; None where the target does not count.
    """

    endpoint: str
    target: str
    variant: str
    model: str
    number: int
    weight: int
    offline: Mapping[str, float] = field(default_factory=dict)
    online: VariantMetrics | None = None


def report(
    names: Sequence[str],
    *,
    settings: Settings,
    targets: Targets,
    registry: Registry,
    window_s: float,
) -> list[VariantReport]:
    """Return every variant of the endpoints that are there.

    Args:
        names: Configured endpoints.
        settings: Says where they run.
        targets: Are asked.
        registry: Knows the versions.
        window_s: Seconds that count.

    Raises:
        NotFound: None of them is there.
    """
    found = []
    for name in names:
        target = settings.endpoint_target(name)
        backend = targets[target].endpoints
        seen = backend.endpoint(name)
        if seen is None:
            continue
        online: Mapping[str, VariantMetrics] = {}
        try:
            online = backend.metrics(name, window_s=window_s)
        except Unsupported:
            counted = False
        else:
            counted = True
        for variant in seen.spec.served:
            version = registry.version(ModelRef(model=variant.model, digest=variant.digest))
            silent = VariantMetrics(requests=0, errors=0)
            found.append(
                VariantReport(
                    endpoint=name,
                    target=target,
                    variant=variant.name,
                    model=variant.model,
                    number=variant.number,
                    weight=variant.weight,
                    offline=dict(version.manifest.metrics),
                    online=online.get(variant.name, silent) if counted else None,
                )
            )
    if not found:
        raise NotFound(
            f"none of {', '.join(names)} is there" if names else "no such endpoint is configured",
            hint="cloudreg plan, then cloudreg apply",
        )
    return found
