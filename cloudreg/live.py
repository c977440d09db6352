"""What people hold after a request: its plan, what it did, and the endpoints that serve."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudreg.errors import InvalidRequest, NotFound, OperationFailed
from cloudreg.ledger import Entry
from cloudreg.plan import Plan
from cloudreg.provider import EndpointBackend
from cloudreg.types import Endpoint, ModelVersion, VariantMetrics

PREDICT_S = 60.0
"""Seconds that a managed endpoint has for an answer:
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html"""


class LiveEndpoint:
    """One endpoint of a target."""

    def __init__(self, backend: EndpointBackend, name: str, *, target: str) -> None:
        """Address the endpoint called *name*; nothing is asked yet."""
        self.name = name
        self.target = target
        self._backend = backend

    def __repr__(self) -> str:
        """Say which one it is."""
        return f"<LiveEndpoint {self.name} on {self.target}>"

    def describe(self) -> Endpoint:
        """Return the endpoint as it is now.

        Raises:
            NotFound: It is not there.
        """
        seen = self._backend.endpoint(self.name)
        if seen is None:
            raise NotFound(
                f"no endpoint {self.name!r} is on {self.target}",
                target=self.target,
                hint="cloudreg plan, then cloudreg apply",
            )
        return seen

    @property
    def url(self) -> str | None:
        """Where requests go, if the caller can reach it directly."""
        return self.describe().url

    def predict(
        self,
        request: Mapping[str, Any] | Sequence[Any],
        *,
        variant: str | None = None,
        timeout_s: float = PREDICT_S,
    ) -> Any:
        """Send ``{"instances": […]}`` and return the answer's JSON.

        Args:
            request: The whole request, or the instances alone; then the predictions alone come
                back, one for each.
            variant: Asks one variant, whatever the weights are.
            timeout_s: Patience for an answer.

        Raises:
            InvalidRequest: The model server refuses it; the message names the field.
            OperationFailed: The model server failed; ``logs`` holds its last lines.
            Unavailable: No replica is ready.
        """
        whole = isinstance(request, Mapping)
        document = request if whole else {"instances": list(request)}
        try:
            body = json.dumps(document, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"request to {self.name} is not plain JSON: {error}") from error
        answer = self.invoke(body, variant=variant, timeout_s=timeout_s)
        try:
            said = json.loads(answer)
            return said if whole else said["predictions"]
        except (ValueError, KeyError, TypeError) as error:
            raise OperationFailed(
                f"endpoint {self.name} answered with something else than predictions: "
                f"{answer[:200]!r}",
                target=self.target,
            ) from error

    def invoke(
        self,
        body: bytes,
        *,
        content_type: str = "application/json",
        variant: str | None = None,
        timeout_s: float = PREDICT_S,
    ) -> bytes:
        """Send one request as it is, and return the answer's bytes."""
        return self._backend.invoke(
            self.name, body, content_type=content_type, timeout_s=timeout_s, variant=variant
        )

    def metrics(self, *, window_s: float = 300.0) -> Mapping[str, VariantMetrics]:
        """Return what each variant answered in the last *window_s* seconds."""
        return self._backend.metrics(self.name, window_s=window_s)

    def logs(self, *, variant: str | None = None, lines: int = 100) -> list[str]:
        """Return the last log lines of the model servers, oldest first."""
        return self._backend.logs(self.name, variant=variant, lines=lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What a promotion, a rollback or an apply did.

    Attributes:
        plan: What was changed.
        changed: Whether anything had to change.
        entry: The ledger's newest entry of it; None where nothing had to change.
        version: The version that was moved, if one was.
        endpoints: All endpoints that now serve it, by name.
    """

    plan: Plan
    changed: bool
    entry: Entry | None
    version: ModelVersion | None
    endpoints: Mapping[str, LiveEndpoint]

    def endpoint(self, name: str | None = None) -> LiveEndpoint:
        """Return an endpoint by its own name or by its target's; the only one without a name.

        Raises:
            NotFound: There is none of that name, or several where none is named.
        """
        fitting = [e for e in self.endpoints.values() if name in (None, e.name, e.target)]
        if len(fitting) != 1:
            raise NotFound(
                f"{len(fitting)} endpoints fit {name!r}" if name else "which endpoint is meant?",
                hint=f"there are {', '.join(self.endpoints) or 'none'}",
            )
        return fitting[0]


class Preview:
    """What a request would change; `apply` makes it so, unless the world moved."""

    def __init__(self, plan: Plan, apply: Callable[[str], Promotion]) -> None:
        """Keep the plan and how to carry it out."""
        self.plan = plan
        self._apply = apply

    def __str__(self) -> str:
        """Render for people."""
        return str(self.plan)

    def save(self, path: str | Path) -> None:
        """Write the plan for ``cloudreg apply FILE``."""
        self.plan.save(Path(path))

    def apply(self) -> Promotion:
        """Make the changes.

        Raises:
            StalePlan: They would be others by now.
        """
        return self._apply(self.plan.fingerprint)
