"""The candidate, really served, answers a golden data set as it should.

The data set is a JSON array or a JSONL file of samples::

    {"instance": {"age": 41, "plan": "basic"}, "expected": {"label": "stays", "probability": 0.93}}

Only what ``expected`` holds is compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from cloudreg.errors import CloudregError, InvalidRequest
from cloudreg.gates import GateContext
from cloudreg.gates.agreement import Difference, Tolerance, compare, fields_of, shortened
from cloudreg.names import sha256
from cloudreg.types import GateResult, ModelVersion

SHOWN = 3
"""Samples that the reason shows."""

KEPT = 10
"""Samples that the ledger keeps."""

FORMATS = {".json": "a JSON array", ".jsonl": "JSON lines", ".ndjson": "JSON lines"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A question, and what its answer must hold."""

    instance: Any
    expected: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenGate:
    """Samples replayed against a running server.

    Attributes:
        path: The data set, relative to the configuration: ``.json``, ``.jsonl`` or ``.ndjson``.
        tolerances: How near the numbers of a field must be; by the field's name.
        min_agreement: Share of the samples that must agree, above 0, at most 1.
        batch_size: Samples in one request.
    """

    kind: ClassVar[str] = "golden"

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
        """Serve the candidate, ask it every sample, and compare."""
        evidence: dict[str, Any] = {"path": self.path}
        try:
            data = content(context.root / self.path)
            evidence["sha256"] = sha256(data)
            samples = list(read_samples(data, self.path))
            self._check_tolerances(samples, bare_name_of(context.version))
        except InvalidRequest as error:
            return self._failed(error.message, "no usable golden data", evidence)
        evidence["samples"] = len(samples)
        try:
            predictions = self._replay(context, samples)
        except CloudregError as error:
            # The hint and the log lines say more at three in the morning than the message alone.
            reason = f"{context.version.ref} could not be asked: {error}"
            evidence["error"] = type(error).__name__
            return self._failed(reason, "no answer", evidence)
        return self._judged(samples, predictions, bare_name_of(context.version), evidence)

    def _check_tolerances(self, samples: Sequence[Sample], bare_name: str) -> None:
        """Refuse a tolerance for a field that no sample has: it is a misspelt name."""
        known = {name or bare_name for sample in samples for name in fields_of(sample.expected)}
        for name in self.tolerances:
            if name not in known:
                raise InvalidRequest(
                    f"tolerances name {name!r}, which no sample of {self.path} expects; "
                    f"they expect {', '.join(sorted(known))}"
                )

    def _replay(self, context: GateContext, samples: Sequence[Sample]) -> list[Any]:
        predictions: list[Any] = []
        with (
            context.serve(context.version) as server,
            context.progress.task("golden data", total=len(samples), unit="samples") as task,
        ):
            for start in range(0, len(samples), self.batch_size):
                batch = samples[start : start + self.batch_size]
                where = f"samples {start} to {start + len(batch) - 1}"
                try:
                    answers = server.predict([sample.instance for sample in batch])
                except InvalidRequest as error:
                    raise InvalidRequest(f"{where}: {error.message}", hint=error.hint) from error
                if len(answers) != len(batch):
                    raise InvalidRequest(f"{where}: {len(answers)} predictions came back")
                predictions += answers
                task.advance(len(batch))
        return predictions

    def _judged(
        self,
        samples: Sequence[Sample],
        predictions: Sequence[Any],
        bare_name: str,
        evidence: dict[str, Any],
    ) -> GateResult:
        differing: list[tuple[int, Difference]] = []
        worst: dict[str, Difference] = {}
        for index, (sample, got) in enumerate(zip(samples, predictions, strict=True)):
            found = compare(got, sample.expected, bare_name=bare_name, tolerances=self.tolerances)
            if found:
                differing.append((index, max(found, key=lambda d: d.excess)))
            for one in found:
                if one.field not in worst or one.excess > worst[one.field].excess:
                    worst[one.field] = one
        total, agreed = len(samples), len(samples) - len(differing)
        agreement = agreed / total
        # 0.9 of 10 samples are 9, whatever 0.9 * 10 is in binary.
        passed = agreed >= self.min_agreement * total - 1e-9
        measured = f"{agreed} of {total} samples agree ({percent(agreement)})"
        wanted = f"at least {percent(self.min_agreement)}"
        parts = [measured if passed else f"{measured}, wanted {wanted}"]
        if worst and not passed:
            top = max(worst.values(), key=lambda d: d.excess)
            parts.append(f"worst field {top.field}: {top.reason}")
            parts += [
                f"sample {index}: {one.field} is {shortened(one.got)}, "
                f"expected {shortened(one.expected)}"
                for index, one in differing[:SHOWN]
            ]
            if len(differing) > SHOWN:
                parts.append(f"and {len(differing) - SHOWN} samples more")
        evidence |= {
            "agreed": agreed,
            "agreement": agreement,
            "min_agreement": self.min_agreement,
            "tolerances": msgspec.to_builtins(self.tolerances),
            "worst": {name: one.reason for name, one in sorted(worst.items())[:KEPT]},
            "mismatches": [
                {
                    "index": index,
                    "field": one.field,
                    "got": shortened(one.got),
                    "expected": shortened(one.expected),
                }
                for index, one in differing[:KEPT]
            ],
        }
        return GateResult(
            gate=self.kind,
            passed=passed,
            reason="; ".join(parts),
            measured=measured,
            wanted=wanted,
            evidence=evidence,
        )

    def _failed(self, reason: str, measured: str, evidence: Mapping[str, Any]) -> GateResult:
        return GateResult(
            gate=self.kind,
            passed=False,
            reason=reason,
            measured=measured,
            wanted=f"at least {percent(self.min_agreement)} of the samples agree",
            evidence=evidence,
        )


def content(path: Path) -> bytes:
    """Return what a data set's file holds.

    Raises:
        InvalidRequest: It cannot be read.
    """
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path.name} at {path.parent}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error.strerror}") from error


def read_samples(data: bytes, path: str) -> Iterator[Sample]:
    """Yield the samples of a file.

    Raises:
        InvalidRequest: There is none, or one is malformed; with its place.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no UTF-8: {error}") from error
    if Path(path).suffix == ".json":
        rows = _json(text, path)
        if not isinstance(rows, list):
            raise InvalidRequest(f"{path} is no array of samples")
        placed = [(f"{path}, sample {index}", row) for index, row in enumerate(rows)]
    else:
        # Not splitlines(): JSON strings may hold what Unicode takes for a line's end.
        lines = enumerate(text.split("\n"), start=1)
        placed = [
            (f"{path}, line {number}", _json(line, f"{path}, line {number}"))
            for number, line in lines
            if line.strip()
        ]
    if not placed:
        raise InvalidRequest(f"{path} holds no sample: nothing would be compared")
    for where, row in placed:
        if not isinstance(row, dict) or set(row) != {"instance", "expected"}:
            raise InvalidRequest(f'{where}: a sample is {{"instance": …, "expected": …}}')
        if not any(True for _ in fields_of(row["expected"])):
            raise InvalidRequest(f"{where}: expected is empty: nothing would be compared")
        yield Sample(instance=row["instance"], expected=row["expected"])


def _json(text: str, where: str) -> Any:
    def refuse(word: str) -> None:
        raise InvalidRequest(f"{where}: {word} is no JSON")

    def finite(word: str) -> float:
        # 1e999 is JSON and infinite, and nothing is further from infinity than is allowed.
        value = float(word)
        if not math.isfinite(value):
            raise InvalidRequest(f"{where}: {word} is too large")
        return value

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except json.JSONDecodeError as error:
        place = f", line {error.lineno}" if error.lineno > 1 else ""
        raise InvalidRequest(f"{where}{place}, column {error.colno}: {error.msg}") from error
    except InvalidRequest:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where}: {error}") from error


def percent(share: float) -> str:
    """Return a share as people read it."""
    return f"{100 * share:.6g} %"


def bare_name_of(version: ModelVersion) -> str:
    """Return what a bare prediction is called: the only output, where there is a signature."""
    signature = version.manifest.signature
    return signature.outputs[0].name if signature and len(signature.outputs) == 1 else "prediction"
