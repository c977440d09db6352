"""The targets of a stage give the same answers to a golden data set, before traffic moves.

The data set has the form of the golden gate's; only its instances are asked here, since the
answers of the targets are compared with each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from cloudreg.errors import InvalidRequest
from cloudreg.gates import GateContext
from cloudreg.gates.agreement import Difference, Tolerance, compare, shortened
from cloudreg.gates.golden import FORMATS, bare_name_of, content, percent, read_samples
from cloudreg.names import sha256
from cloudreg.types import GateResult, ModelVersion

SHOWN = 3
"""Samples that the reason shows."""

KEPT = 10
"""Samples that the ledger keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityGate:
    """The same questions to each target, and the answers side by side.

    Attributes:
        path: The data set, relative to the configuration: ``.json``, ``.jsonl`` or ``.ndjson``.
        tolerances: How near the numbers of a field must be; by the field's name.
        min_agreement: Share of the samples for which any two targets must agree.
        batch_size: Samples in one request.
    """

    kind: ClassVar[str] = "parity"

    path: str
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    min_agreement: float = 1.0
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Refuse a gate that could not fail, or that nothing could pass."""
        if Path(self.path).suffix not in FORMATS:
            raise InvalidRequest(f"path {self.path!r} ends in none of {', '.join(FORMATS)}")
        if not 0 < self.min_agreement <= 1:
            raise InvalidRequest(f"min_agreement {self.min_agreement} is not above 0 and at most 1")
        if not 1 <= self.batch_size <= 1024:
            raise InvalidRequest(f"batch_size {self.batch_size} is not 1 to 1024")

    def check(self, context: GateContext) -> GateResult:
        """Look whether there is something to ask, and somebody to compare.

        The answers themselves are measured when the version stands on its targets: after
        everything else that can refuse, and before any traffic moves.
        """
        evidence: dict[str, Any] = {"path": self.path, "serves": dict(context.serves)}
        wanted = f"{percent(self.min_agreement)} of the answers agree on all targets"
        where = sorted(set(context.serves.values()))
        problem = ""
        try:
            data = content(context.root / self.path)
            evidence |= {
                "sha256": sha256(data),
                "samples": sum(1 for _ in read_samples(data, self.path)),
            }
        except InvalidRequest as error:
            problem = error.message
        if not problem and len(where) < 2:
            only = f"{where[0]} alone serves" if where else "no endpoint serves"
            problem = (
                f"{only} {context.version.model} in {context.stage}: there are no two targets "
                "to compare"
            )
        return GateResult(
            gate=self.kind,
            passed=not problem,
            reason=problem or f"{' and '.join(where)} are asked before traffic moves",
            measured="nothing to compare" if problem else "not yet: traffic waits for it",
            wanted=wanted,
            evidence=evidence,
        )

    def question(self, root: Path, version: ModelVersion) -> Question:
        """Return what is asked of each target.

        Raises:
            InvalidRequest: The data set cannot be used.
        """
        data = content(root / self.path)
        instances = [sample.instance for sample in read_samples(data, self.path)]
        return Question(
            gate=self,
            instances=instances,
            bare_name=bare_name_of(version),
            sha256=sha256(data),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of each target, and how the answers are compared.

    Attributes:
        gate: Whose question it is.
        instances: What is asked.
        bare_name: What an answer is called that is no object.
        sha256: Of the data set.
    """

    gate: ParityGate
    instances: Sequence[Any]
    bare_name: str
    sha256: str

    def judge(
        self, answers: Mapping[str, Sequence[Any]], failures: Mapping[str, str]
    ) -> GateResult:
        """Compare the answers of each two targets.

        Args:
            answers: Target to its answers, one for each instance.
            failures: Target to why it gave none.
        """
        gate, total = self.gate, len(self.instances)
        evidence: dict[str, Any] = {
            "path": gate.path,
            "sha256": self.sha256,
            "samples": total,
            "min_agreement": gate.min_agreement,
            "tolerances": msgspec.to_builtins(gate.tolerances),
            "failures": dict(failures),
        }
        pairs = [self._pair(a, b, answers) for a, b in combinations(answers, 2)]
        largest = {target: max((p.largest for p in pairs if target in p.names), default=0.0)
                   for target in answers}  # fmt: skip
        evidence["pairs"] = [pair.facts(total) for pair in pairs]
        evidence["largest"] = {name: shortened(value) for name, value in largest.items()}
        apart = [p for p in pairs if total - len(p.apart) < gate.min_agreement * total - 1e-9]
        problems = [f"{target} could not be asked: {why}" for target, why in failures.items()]
        if not pairs and not problems:
            problems = ["no two targets answered: there is nothing to compare"]
        problems += [pair.told(total) for pair in apart]
        told = ", ".join(f"{name} {value:.3g}" for name, value in largest.items())
        measured = f"largest difference on {told}" if largest else "no answers"
        agreed = f"{total} answers of {' and '.join(answers)} agree; {measured}"
        return GateResult(
            gate=gate.kind,
            passed=not problems,
            reason="; ".join(problems) or agreed,
            measured=measured,
            wanted=f"{percent(gate.min_agreement)} of the answers agree on all targets",
            evidence=evidence,
        )

    def _pair(self, left: str, right: str, answers: Mapping[str, Sequence[Any]]) -> _Pair:
        apart: list[tuple[int, Difference]] = []
        largest = 0.0
        for index, (a, b) in enumerate(zip(answers[left], answers[right], strict=True)):
            largest = max([largest, *_distances(a, b)])
            rules = {"bare_name": self.bare_name, "tolerances": self.gate.tolerances}
            # Both ways: what one target says and the other leaves out is a difference, too.
            found = [*compare(b, a, **rules), *compare(a, b, **rules)]  # type: ignore[arg-type]
            if found:
                apart.append((index, max(found, key=lambda d: d.excess)))
        return _Pair(names=(left, right), apart=tuple(apart), largest=largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    names: tuple[str, str]
    apart: tuple[tuple[int, Difference], ...]
    largest: float

    def told(self, total: int) -> str:
        shown = "; ".join(f"sample {i}: {d.field}: {d.reason}" for i, d in self.apart[:SHOWN])
        more = f"; and {len(self.apart) - SHOWN} samples more" if len(self.apart) > SHOWN else ""
        return (
            f"{' and '.join(self.names)} differ on {len(self.apart)} of {total} samples, by "
            f"{self.largest:.3g} at most ({shown}{more})"
        )

    def facts(self, total: int) -> dict[str, Any]:
        return {
            "targets": list(self.names),
            "agreed": total - len(self.apart),
            "largest": shortened(self.largest),
            "differences": [
                {"index": i, "field": d.field, "reason": d.reason[:500]}
                for i, d in self.apart[:KEPT]
            ],
        }


def _distances(a: Any, b: Any) -> Iterator[float]:
    """Yield how far numbers are apart that stand in the same place of two answers."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in a.keys() & b.keys():
            yield from _distances(a[name], b[name])
    elif isinstance(a, list) and isinstance(b, list):
        for one, other in zip(a, b, strict=False):
            yield from _distances(one, other)
    elif _is_number(a) and _is_number(b):
        try:
            apart = abs(float(a) - float(b))
        except OverflowError:
            apart = math.inf
        yield math.inf if math.isnan(apart) else apart


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
