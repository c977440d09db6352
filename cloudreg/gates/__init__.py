"""What must hold before a stage moves: one file each.

A gate looks and reports; it never moves anything. All gates of a stage run, then they are judged
together, and what they found goes into the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import msgspec

from cloudreg.catalog import Bill
from cloudreg.errors import CloudregError, ConfigError, GateFailed, SignatureRequired
from cloudreg.ledger import Seal, Waiver
from cloudreg.operations import SILENT, Progress
from cloudreg.types import FileEntry, GateResult, ModelVersion

KINDS: Mapping[str, str] = {
    "metric": "cloudreg.gates.metric:MetricGate",
    "golden": "cloudreg.gates.golden:GoldenGate",
    "signature": "cloudreg.gates.signature:SignatureGate",
    "lineage": "cloudreg.gates.lineage:LineageGate",
    "card": "cloudreg.gates.card:CardGate",
    "stage_order": "cloudreg.gates.stage_order:StageOrderGate",
    "format": "cloudreg.gates.format:FormatGate",
    "signed": "cloudreg.gates.signed:SignedGate",
    "parity": "cloudreg.gates.parity:ParityGate",
    "budget": "cloudreg.gates.budget:BudgetGate",
}
"""``kind`` in ``[[stages.NAME.gates]]``, to the class that reads the rest of the table."""


class Predictor(Protocol):
    """A running model server."""

    def predict(self, instances: Sequence[Any]) -> list[Any]:
        """Return one prediction for each instance."""
        ...


def _unsigned(name: str) -> Seal:
    raise SignatureRequired(f"nothing is signed by {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateContext:
    """What a gate may look at.

    Attributes:
        version: The candidate.
        stage: Where it wants to go.
        order: All stages, first to last.
        held: Stages that the candidate holds or has held.
        holder: The version that the stage holds now, if any.
        root: The folder that relative paths in the configuration start from.
        serve: Starts a model server for a version, checked byte by byte, and stops it after.
        read: Returns a range of a file of the candidate, as the home's store has it: the file, the
            offset and the length.
        waivers: What somebody answers for, whether it still counts or not.
        today: The day by the ledger's clock, ISO 8601 in UTC.
        progress: Where long checks are shown.
        bills: What the endpoints cost that would serve the candidate.
        signed: Returns the candidate's signature by a configured key, verified, or refuses.
        serves: Endpoints that would serve the candidate in the stage, to their targets.
    """

    version: ModelVersion
    stage: str
    order: tuple[str, ...]
    held: frozenset[str]
    holder: ModelVersion | None
    root: Path
    serve: Callable[[ModelVersion], AbstractContextManager[Predictor]]
    read: Callable[[FileEntry, int, int], bytes]
    waivers: tuple[Waiver, ...]
    today: str
    progress: Progress = SILENT
    bills: tuple[Bill, ...] = ()
    signed: Callable[[str], Seal] = _unsigned
    serves: Mapping[str, str] = field(default_factory=dict)


class Gate(Protocol):
    """One check. A gate is a frozen dataclass; its fields are the keys of its table."""

    kind: ClassVar[str]

    def check(self, context: GateContext) -> GateResult:
        """Look, and report what was measured and what was wanted.

        Raises:
            CloudregError: The check itself could not be made; it then counts as failed.
        """
        ...


def build(table: Mapping[str, Any]) -> Gate:
    """Return the gate that *table* describes.

    Args:
        table: One ``[[stages.NAME.gates]]`` table.

    Raises:
        ConfigError: Unknown kind, unknown or missing key, or a value of the wrong type.
    """
    options = dict(table)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    module, _, name = KINDS[kind].partition(":")
    cls = getattr(import_module(module), name)
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r}", hint=f"known are kind, {', '.join(known)}")
    required = [
        f.name
        for f in known.values()
        if f.default is MISSING and f.default_factory is MISSING and f.name not in options
    ]
    if required:
        raise ConfigError(f"a {kind} gate needs {', '.join(required)}")
    try:
        return cast(Gate, msgspec.convert(options, cls))
    except (msgspec.ValidationError, CloudregError) as error:
        raise ConfigError(str(error)) from error


def run(gates: Sequence[Gate], context: GateContext) -> list[GateResult]:
    """Run all gates and return what they found; a check that breaks is a gate that fails."""
    results = []
    for gate in gates:
        try:
            results.append(gate.check(context))
        except CloudregError as error:
            results.append(
                GateResult(
                    gate=gate.kind,
                    passed=False,
                    reason=f"the check itself failed: {error}",
                    evidence={"error": type(error).__name__},
                )
            )
    return results


def judge(results: Sequence[GateResult], *, version: ModelVersion, stage: str) -> None:
    """Return if all gates hold.

    Raises:
        GateFailed: With all results, passed or not.
    """
    failed = [r for r in results if not r.passed]
    if failed:
        names = ", ".join(r.gate for r in failed)
        raise GateFailed(
            f"{version.ref} may not enter {stage}: {len(failed)} of {len(results)} gates failed "
            f"({names})",
            results=results,
        )
