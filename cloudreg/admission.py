"""Who may enter a stage: what its gates find, and who agreed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from cloudreg import gates
from cloudreg.catalog import Bill
from cloudreg.errors import ApprovalRequired, IntegrityError, NotFound
from cloudreg.gates.parity import ParityGate, Question
from cloudreg.ledger import Fold
from cloudreg.manifest import FileEntry
from cloudreg.names import ModelRef
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore
from cloudreg.registry import Registry
from cloudreg.seals import Seals
from cloudreg.settings import Settings
from cloudreg.types import GateResult, ModelVersion

Serve = Callable[[ModelVersion], AbstractContextManager[gates.Predictor]]


class Admission:
    """The door of each stage."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        root: Path,
        serve: Serve,
        seals: Seals,
        progress: Progress = SILENT,
    ) -> None:
        """Use what is configured.

        Args:
            settings: The configuration.
            registry: The home's.
            root: The folder of ``cloudreg.toml``.
            serve: Starts a model server for a version.
            seals: Who signed what.
            progress: Where it is shown.
        """
        self._settings = settings
        self._registry = registry
        self._root = root
        self._serve = serve
        self._seals = seals
        self._progress = progress

    def inspect(
        self, version: ModelVersion, stage: str, fold: Fold, *, bills: Sequence[Bill] = ()
    ) -> list[GateResult]:
        """Run all gates of a stage, and return what they found.

        Args:
            version: The candidate.
            stage: Where it wants to go.
            fold: The state of its model.
            bills: What the endpoints cost that would serve it.
        """
        summary = fold.version(version.number)
        assert summary is not None
        holder = fold.stages.get(stage)
        context = gates.GateContext(
            version=version,
            stage=stage,
            order=self._settings.order,
            held=frozenset(summary.held),
            holder=(
                self._registry.version(ModelRef(model=version.model, number=holder.number))
                if holder is not None
                else None
            ),
            root=self._root,
            serve=self._serve,
            read=partial(_read, self._registry.store, version.ref),
            waivers=summary.waivers,
            today=self._registry.today(version.model),
            progress=self._progress,
            bills=tuple(bills),
            signed=lambda name: self._seals.check(version, name, store=self._registry.store),
            serves={
                name: self._settings.endpoint_target(name)
                for name, endpoint in self._settings.endpoints.items()
                if (endpoint.model, endpoint.stage) == (version.model, stage)
            },
        )
        tables = self._settings.gate_tables(version.model, stage)
        with self._progress.task(f"gates of {stage}", total=len(tables)) as task:
            results = []
            for _, table in tables:
                results += gates.run([gates.build(table)], context)
                task.advance(1)
        return results

    def questions(self, version: ModelVersion, stage: str) -> tuple[Question, ...]:
        """Return what the targets of a stage are asked before traffic moves.

        Raises:
            InvalidRequest: A data set cannot be used.
        """
        tables = self._settings.gate_tables(version.model, stage)
        built = [gates.build(table) for _, table in tables if table.get("kind") == "parity"]
        return tuple(
            gate.question(self._root, version) for gate in built if isinstance(gate, ParityGate)
        )

    def check_approvals(self, version: ModelVersion, stage: str) -> None:
        """Return if enough people other than the author agreed.

        Raises:
            ApprovalRequired: With who agreed already, and the command that others type.
        """
        needed = self._settings.stages[stage].approvals
        summary = self._registry.fold(version.model).version(version.number)
        assert summary is not None
        people = [p for p in summary.approvals.get(stage, ()) if p != version.author]
        if len(people) < needed:
            agreed = f" ({', '.join(people)} agreed)" if people else ""
            raise ApprovalRequired(
                f"{version.ref} needs {needed} approvals for {stage} and has "
                f"{len(people)}{agreed}; its author {version.author} does not count",
                hint=f"cloudreg approve {version.ref} --stage {stage}",
            )

    def missing_approvals(self, version: ModelVersion, stage: str) -> tuple[str, ...]:
        """Return what a plan says where not enough people agreed yet."""
        try:
            self.check_approvals(version, stage)
        except ApprovalRequired as error:
            return (error.message,)
        return ()


def _read(store: ObjectStore, ref: str, file: FileEntry, offset: int, length: int) -> bytes:
    """Return a range of a version's file."""
    try:
        with store.open(file.key, offset=offset, length=length) as reader:
            return reader.read()
    except NotFound as error:
        raise IntegrityError(
            f"{ref}: {file.path} is missing in the store",
            hint=f"register the same files again: cloudreg register {ref.partition(':')[0]} DIR",
        ) from error
