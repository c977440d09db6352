"""Asking every target of a stage the same before traffic moves.

A version is asked on the endpoint that is going to serve it: one that is new has no traffic yet,
and on one that serves another version it stands as a second variant with none of the traffic.
Where a target asks no single variant, or an endpoint has room for one alone, the version is asked
on an endpoint beside it, with the same machine, environment and files, which goes again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from cloudreg.capabilities import Capabilities
from cloudreg.deploy import Deployer
from cloudreg.errors import CloudregError, Fenced, GateFailed, OperationFailed, Unsupported
from cloudreg.gates.parity import Question
from cloudreg.ledger import Draft, Lease
from cloudreg.operations import SILENT, Progress, poll_until
from cloudreg.plan import EndpointChange
from cloudreg.provider import EndpointBackend
from cloudreg.rollout import CANARY, PRIMARY
from cloudreg.targets import Targets
from cloudreg.types import (
    Driver,
    Endpoint,
    EndpointKind,
    EndpointSpec,
    EndpointStatus,
    GateResult,
    ModelVersion,
    Scaling,
)

SUFFIX = "-parity"
"""What an endpoint is called that is there for a comparison alone."""

ANSWER_S = 60.0
QUEUED_S = 900.0
MAX_NAME = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a version is asked on one target before traffic moves.

    Attributes:
        name: The endpoint that is going to serve it.
        target: Where.
        asked: The endpoint that is asked.
        variant: The variant that is asked; None for all of the endpoint.
        kind: How it answers.
        spec: What is made for that; None where the version serves there already.
        why: Why it is not asked on the endpoint itself.
    """

    name: str
    target: str
    asked: str
    kind: EndpointKind = EndpointKind.REAL_TIME
    variant: str | None = None
    spec: EndpointSpec | None = None
    why: str = ""

    @property
    def is_beside(self) -> bool:
        """Whether an endpoint is made that is there for the comparison alone."""
        return self.asked != self.name

    def told(self) -> str:
        """Return what a plan says of an endpoint that comes and goes."""
        return f"endpoint {self.asked} runs on {self.target} while answers are compared: {self.why}"


def askings(
    changes: Sequence[EndpointChange],
    others: Mapping[str, tuple[str, EndpointKind]],
    targets: Targets,
) -> tuple[Asking, ...]:
    """Return how a version is asked on each endpoint of its stage.

    Args:
        changes: Endpoints that would change.
        others: Name of those that would not, to target and kind.
        targets: Whose capabilities decide.
    """
    found = [
        _asking(change, targets[change.target].capabilities)
        for change in changes
        if change.after is not None
    ]
    found += [
        Asking(name=name, target=target, asked=name, kind=kind)
        for name, (target, kind) in others.items()
    ]
    return tuple(found)


def _asking(change: EndpointChange, capabilities: Capabilities) -> Asking:
    after, before = change.after, change.before
    assert after is not None
    name, target, kind = change.name, change.target, after.kind
    if before is None:
        return Asking(name=name, target=target, asked=name, kind=kind, spec=after)
    old, new = before.spec.variant(PRIMARY), after.variants[0]
    if old is not None and old.digest == new.digest:
        return Asking(name=name, target=target, asked=name, kind=kind)
    why = _obstacle(change, capabilities)
    if not why:
        assert old is not None
        least = max(1, new.scaling.min_replicas)
        waiting = replace(
            new, name=CANARY, weight=0, scaling=replace(new.scaling, min_replicas=least)
        )
        spec = replace(after, shadow=None, variants=(replace(old, weight=100), waiting))
        try:
            capabilities.require(spec, target=target)
            return Asking(name=name, target=target, asked=name, variant=CANARY, spec=spec)
        except Unsupported as error:
            why = error.message
    beside = f"{name[: MAX_NAME - len(SUFFIX)].rstrip('-')}{SUFFIX}"
    alone = replace(new, weight=100, scaling=Scaling())
    spec = replace(after, name=beside, shadow=None, variants=(alone,))
    return Asking(name=name, target=target, asked=beside, kind=kind, spec=spec, why=why)


def _obstacle(change: EndpointChange, capabilities: Capabilities) -> str:
    """Return why a version cannot be asked as a variant without traffic; nothing where it can."""
    after, before = change.after, change.before
    assert after is not None
    assert before is not None
    if not capabilities.variant_requests:
        return capabilities.reasons.get("variant_requests", "it asks no single variant")
    if after.kind is not EndpointKind.REAL_TIME:
        return f"an endpoint that is {after.kind} asks no single variant"
    if before.spec.variant(PRIMARY) is None or before.status is not EndpointStatus.READY:
        return "what runs there is not as cloudreg left it"
    if before.spec.env != after.env:
        return "its environment changes with the version"
    if change.rollout.driver is Driver.NATIVE:
        return "the target itself moves the traffic, from one variant to another"
    return ""


class Parity:
    """Compares what targets answer."""

    def __init__(
        self, targets: Targets, deployer: Deployer, *, progress: Progress = SILENT
    ) -> None:
        """Use what is opened."""
        self._targets = targets
        self._deployer = deployer
        self._progress = progress

    def measure(
        self,
        version: ModelVersion,
        stage: str,
        questions: Sequence[Question],
        ways: Sequence[Asking],
        lease: Lease,
        *,
        touched: list[str],
    ) -> list[GateResult]:
        """Stand the version up on all targets, ask, and return what each gate found.

        Args:
            version: What is about to enter the stage.
            stage: Which one.
            questions: What is asked; one for each gate.
            ways: Where.
            lease: Of the model.
            touched: Gets the name of each endpoint before it is touched, for whoever undoes.

        Raises:
            GateFailed: Targets disagree, or could not be asked; the ledger has what was found.
            CloudregError: The version could not be stood up.
        """
        for way in ways:
            if way.spec is not None:
                touched.append(way.asked)
                self._deployer.stand_up(version, way.spec, way.target, lease)
        asked = [way for way in ways if self._serves(version, way)]
        silent = {way.target for way in ways} - {way.target for way in asked}
        with lease.kept():
            results = [self._result(question, asked, silent) for question in questions]
        lease.check()
        ledger = lease.ledger
        note = Draft(
            kind="note",
            root=lease.root,
            data={"parity": [result.to_json() for result in results]},
        )
        ledger.append(lambda _: note, op=lease.op)
        failed = [result for result in results if not result.passed]
        if failed:
            raise GateFailed(
                f"{version.ref} may not enter {stage}: its targets do not answer alike",
                results=results,
            )
        for way in ways:
            if way.is_beside:
                self._deployer.roller(way.target, lease, {}).delete(way.asked)
        self._progress.say(f"{version.ref}: {results[0].reason}")
        return results

    def _serves(self, version: ModelVersion, way: Asking) -> bool:
        """Whether the version is there to be asked."""
        if way.spec is not None:
            return True
        seen: Endpoint | None = self._targets[way.target].endpoints.endpoint(way.asked)
        if seen is None or seen.status is not EndpointStatus.READY:
            return False
        return {variant.digest for variant in seen.spec.variants} == {version.digest}

    def _result(
        self, question: Question, ways: Sequence[Asking], silent: Iterable[str]
    ) -> GateResult:
        labels = _labels(ways)
        answers: dict[str, list[Any]] = {}
        failures = dict.fromkeys(sorted(silent), "nothing of it runs there now")

        def one(way: Asking) -> list[Any] | CloudregError:
            try:
                return list(self._answers(question, way))
            except Fenced:
                raise
            except CloudregError as error:
                return error

        with (
            self._progress.task(f"asking {', '.join(labels)}"),
            ThreadPoolExecutor(max(1, len(ways)), thread_name_prefix="parity") as pool,
        ):
            for label, said in zip(labels, pool.map(one, ways), strict=True):
                if isinstance(said, CloudregError):
                    failures[label] = str(said)
                else:
                    answers[label] = said
        return question.judge(answers, failures)

    def _answers(self, question: Question, way: Asking) -> Iterator[Any]:
        backend, size = self._targets[way.target].endpoints, question.gate.batch_size
        for start in range(0, len(question.instances), size):
            batch = list(question.instances[start : start + size])
            said = _document(_asked(backend, way, json.dumps({"instances": batch}).encode()))
            predictions = said.get("predictions") if isinstance(said, dict) else None
            if not isinstance(predictions, list) or len(predictions) != len(batch):
                raise OperationFailed(
                    f"endpoint {way.asked} gave no list of {len(batch)} predictions",
                    target=way.target,
                )
            yield from predictions


def _asked(backend: EndpointBackend, way: Asking, body: bytes) -> bytes:
    json_type = "application/json"
    if way.kind is not EndpointKind.ASYNCHRONOUS:
        return backend.invoke(
            way.asked, body, content_type=json_type, timeout_s=ANSWER_S, variant=way.variant
        )
    request = backend.submit(way.asked, body, content_type=json_type, timeout_s=QUEUED_S)
    answer = poll_until(
        lambda: backend.result(way.asked, request),
        lambda found: found is not None,
        timeout_s=QUEUED_S,
        max_interval_s=5.0,
    )
    if answer is None:
        raise OperationFailed(f"endpoint {way.asked} gave no answer", target=way.target)
    return answer


def _document(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError as error:
        raise OperationFailed(f"no predictions came back: {answer[:200]!r}") from error


def _labels(ways: Sequence[Asking]) -> list[str]:
    """Return what each place is called: its target, and its endpoint where it has several."""
    targets = [way.target for way in ways]
    return [
        way.target if targets.count(way.target) == 1 else f"{way.target} ({way.name})"
        for way in ways
    ]
