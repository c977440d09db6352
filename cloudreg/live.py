"""What people hold after a request: its plan, what it did, and the endpoints that serve."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from cloudreg.errors import InvalidRequest, NotFound, OperationFailed, Unsupported
from cloudreg.ledger import Entry
from cloudreg.mirroring import Mirror
from cloudreg.operations import SILENT, Progress, wait
from cloudreg.plan import Plan
from cloudreg.provider import EndpointBackend
from cloudreg.splitting import Split
from cloudreg.types import (
    Endpoint,
    EndpointKind,
    ModelVersion,
    OperationState,
    OperationStatus,
    VariantMetrics,
)

PREDICT_S = 60.0
"""Seconds that a managed endpoint has for an answer:
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html"""


QUEUED_S = 900.0
"""Seconds that a queued request has for its answer:
https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html"""


class LiveEndpoint:
    """One endpoint of a target."""

    def __init__(
        self,
        backend: EndpointBackend,
        name: str,
        *,
        target: str,
        kind: EndpointKind = EndpointKind.REAL_TIME,
        progress: Progress = SILENT,
        mirror: Mirror | None = None,
        split: Split | None = None,
    ) -> None:
        """Address the endpoint called *name*; nothing is asked yet.

        Args:
            backend: The target's.
            name: The endpoint's.
            target: For messages.
            kind: How it answers.
            progress: Where waiting is shown.
            mirror: Gets a copy of each request that no variant was named for.
            split: Knows the weights, for requests with a key; of its own without.
        """
        self.mirror = mirror
        self._split = split or Split(self.describe)
        self.name = name
        self.target = target
        self.kind = kind
        self._progress = progress
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

    def native(self) -> Any:
        """Return the target's own object of the endpoint, for what cloudreg has no word for.

        Raises:
            NotFound: It is not there.
        """
        return self._backend.native(self.name)

    @property
    def url(self) -> str | None:
        """Where requests go, if the caller can reach it directly."""
        return self.describe().url

    def predict(
        self,
        request: Mapping[str, Any] | Sequence[Any],
        *,
        variant: str | None = None,
        key: str | None = None,
        timeout_s: float = PREDICT_S,
    ) -> Any:
        """Send ``{"instances": […]}`` and return the answer's JSON.

        An asynchronous endpoint is asked with `submit`, and waited for.

        Args:
            request: The whole request, or the instances alone; then the predictions alone come
                back, one for each.
            variant: Asks one variant, whatever the weights are.
            key: Whose request it is, such as a user's id: the same key meets the same variant,
                and each variant gets its share of the keys.
            timeout_s: Patience for an answer.

        Raises:
            Unsupported: A variant or a key is given, and the target asks no single variant.
            InvalidRequest: The model server refuses it; the message names the field.
            OperationFailed: The model server failed; ``logs`` holds its last lines.
            Unavailable: No replica is ready.
        """
        whole = isinstance(request, Mapping)
        body = self._body(request)
        if self.kind is EndpointKind.ASYNCHRONOUS:
            if variant is not None or key is not None:
                raise Unsupported(
                    f"endpoint {self.name} is asynchronous: its weights alone choose a variant",
                    target=self.target,
                    hint="leave variant and key out",
                )
            said = self.submit(request, timeout_s=timeout_s).result(timeout_s=timeout_s)
        else:
            answer = self.invoke(body, variant=variant, key=key, timeout_s=timeout_s)
            said = self._document(answer)
        return said if whole else self._predictions(said)

    def submit(
        self, request: Mapping[str, Any] | Sequence[Any], *, timeout_s: float = QUEUED_S
    ) -> Pending:
        """Queue a request of an asynchronous endpoint, and return what finds its answer.

        Args:
            request: The whole request, or the instances alone.
            timeout_s: What the model server has for its answer, once it is its turn.

        Raises:
            Unsupported: The endpoint answers at once.
        """
        request_id = self._backend.submit(
            self.name,
            self._body(request),
            content_type="application/json",
            timeout_s=timeout_s,
        )
        return self.pending(request_id)

    def pending(self, request_id: str) -> Pending:
        """Return what finds the answer to a request that any process queued."""
        return Pending(self, request_id)

    def _document(self, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError as error:
            raise self._strange(answer) from error

    def _predictions(self, said: Any) -> Any:
        if not isinstance(said, dict) or "predictions" not in said:
            raise self._strange(json.dumps(said).encode())
        return said["predictions"]

    def _strange(self, answer: bytes) -> OperationFailed:
        return OperationFailed(
            f"endpoint {self.name} answered with something else than predictions: {answer[:200]!r}",
            target=self.target,
        )

    def stream(
        self,
        request: Mapping[str, Any] | Sequence[Any],
        *,
        variant: str | None = None,
        key: str | None = None,
        timeout_s: float = PREDICT_S,
    ) -> Generator[Any, None, None]:
        """Send ``{"instances": […]}``, and yield the answer's JSON piece by piece.

        To close it early lets go of the model server.

        Args:
            request: The whole request, or the instances alone; then the predictions alone come.
            variant: Asks one variant, whatever the weights are.
            key: Whose request it is, as for `predict`.
            timeout_s: Patience for each piece.

        Raises:
            Unsupported: The target does not stream.
            InvalidRequest: The model server refuses it, or the model does not stream.
            OperationFailed: The model server failed, perhaps after some pieces.
        """
        whole = isinstance(request, Mapping)
        body = self._body(request)
        for addressee, is_last in self._addressees(variant, key):
            sent = self._backend.stream(
                self.name,
                body,
                content_type="application/json",
                timeout_s=timeout_s,
                variant=addressee,
            )
            with closing(sent) as pieces:
                try:
                    first = next(pieces, b"")
                except NotFound:
                    if is_last:
                        raise
                    continue
                for line in _lines(chain((first,), pieces)):
                    said = self._piece(line)
                    yield said if whole else said["predictions"]
                return

    def _piece(self, line: bytes) -> dict[str, Any]:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if isinstance(said, dict) and "error" in said:
            # The status was sent with the first piece: a last line is all that can tell.
            raise OperationFailed(
                f"endpoint {self.name} failed in the middle of its answer: {said['error']}",
                target=self.target,
            )
        if not isinstance(said, dict) or "predictions" not in said:
            raise self._strange(line)
        return said

    def _body(self, request: Mapping[str, Any] | Sequence[Any]) -> bytes:
        document = request if isinstance(request, Mapping) else {"instances": list(request)}
        try:
            return json.dumps(document, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"request to {self.name} is not plain JSON: {error}") from error

    def invoke(
        self,
        body: bytes,
        *,
        content_type: str = "application/json",
        variant: str | None = None,
        key: str | None = None,
        timeout_s: float = PREDICT_S,
    ) -> bytes:
        """Send one request as it is, and return the answer's bytes."""

        def ask(addressee: str | None) -> bytes:
            return self._backend.invoke(
                self.name, body, content_type=content_type, timeout_s=timeout_s, variant=addressee
            )

        answer = b""
        for addressee, is_last in self._addressees(variant, key):
            try:
                answer = ask(addressee)
                break
            except NotFound:
                if is_last:
                    raise
        if self.mirror is not None and variant is None:
            self.mirror.offer(body, content_type)
        return answer

    def _addressees(
        self, variant: str | None, key: str | None
    ) -> Iterator[tuple[str | None, bool]]:
        """Yield who is asked in turn, as long as there is no such variant; the last says so."""
        yield self._chosen(variant, key), key is None
        # A rollout took the variant away since the weights were asked for.
        self._split.forget()
        yield self._chosen(variant, key), False
        # Or is taking it away now: whoever has the traffic answers.
        yield None, True

    def _chosen(self, variant: str | None, key: str | None) -> str | None:
        """Return which variant is asked; None for whose turn it is."""
        if key is None:
            return variant
        if variant is not None:
            raise InvalidRequest(
                f"endpoint {self.name}: variant and key both choose who is asked",
                hint="leave one of them out",
            )
        return self._split.variant(key)

    def metrics(self, *, window_s: float = 300.0) -> Mapping[str, VariantMetrics]:
        """Return what each variant answered in the last *window_s* seconds."""
        return self._backend.metrics(self.name, window_s=window_s)

    def logs(self, *, variant: str | None = None, lines: int = 100) -> list[str]:
        """Return the last log lines of the model servers, oldest first."""
        return self._backend.logs(self.name, variant=variant, lines=lines)


class Pending:
    """A queued request; another process finds it again by `id`.

    Attributes:
        id: The target's own.
    """

    def __init__(self, endpoint: LiveEndpoint, request_id: str) -> None:
        """Address a request; nothing is asked yet."""
        self.id = request_id
        self._endpoint = endpoint

    @property
    def name(self) -> str:
        """What people see while they wait."""
        return f"answer of {self._endpoint.name}"

    def poll(self) -> OperationStatus:
        """Ask once whether the answer is there.

        Raises:
            NotFound: Nobody queued such a request.
        """
        try:
            answer = self._answer()
        except OperationFailed as error:
            return OperationStatus(
                state=OperationState.FAILED, message=error.message, logs=error.logs
            )
        done = answer is not None
        return OperationStatus(state=OperationState.SUCCEEDED if done else OperationState.RUNNING)

    def result(self, *, timeout_s: float = QUEUED_S) -> Any:
        """Wait, and return the answer's JSON.

        Raises:
            OperationFailed: The model server failed or refused, in its words.
            OperationTimeout: No answer yet; it keeps waiting for its turn without us.
            NotFound: Nobody queued such a request.
        """
        endpoint = self._endpoint
        wait(self, timeout_s=timeout_s, progress=endpoint._progress, target=endpoint.target)
        answer = self._answer()
        assert answer is not None
        return endpoint._document(answer)

    def _answer(self) -> bytes | None:
        return self._endpoint._backend.result(self._endpoint.name, self.id)


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream, each once it is whole: pieces end anywhere."""
    kept = b""
    for piece in pieces:
        *whole, kept = (kept + piece).split(b"\n")
        yield from (line for line in whole if line.strip())
    if kept.strip():
        yield kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What a promotion, a rollback or an apply did.

    Attributes:
        plan: What was changed.
        changed: Whether anything had to change.
        entry: The ledger's newest entry of it; None where nothing had to change.
        version: The version that was moved, if one was.
        endpoints: All endpoints that now serve it, by name.
        behind: Targets that were left as they were: stage to target to why.
    """

    plan: Plan
    changed: bool
    entry: Entry | None
    version: ModelVersion | None
    endpoints: Mapping[str, LiveEndpoint]
    behind: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

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
