"""Models and versions, as people use them: register, find, compare, approve, look back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloudreg import artifacts, projection
from cloudreg.errors import NotFound
from cloudreg.importers import Description, Source
from cloudreg.ledger import Entry, Fold, Verification, VersionSummary, ledger_models, verify
from cloudreg.ledger.waiver import DAYS
from cloudreg.manifest import Lineage, ModelCard, Runtime, Signature
from cloudreg.names import ModelRef, check_model
from cloudreg.operations import Progress
from cloudreg.registry import Comparison, ModelSummary, Registration, Registry
from cloudreg.rooms import Rooms
from cloudreg.settings import Settings
from cloudreg.shown import LiveVersion
from cloudreg.targets import Targets
from cloudreg.types import ModelVersion


class Versions:
    """The half of a `Workspace` that serves nothing."""

    settings: Settings
    root: Path
    progress: Progress
    _rooms: Rooms

    @property
    def actor(self) -> str:
        """Who is asking."""
        return self._rooms.actor

    @property
    def registry(self) -> Registry:
        """All models of the home."""
        return self._rooms.registry

    @property
    def targets(self) -> Targets:
        """The configured targets, each opened when it is first needed."""
        return self._rooms.targets

    def register(
        self,
        model: str,
        source: str | Path | Source,
        *,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, Any] | None = None,
        seed: int | None = None,
        data: Sequence[str | Path] = (),
        card: ModelCard | None = None,
        labels: Mapping[str, str] | None = None,
        signature: Signature | None = None,
        runtime: Runtime | None = None,
        lineage: Lineage | None = None,
    ) -> ModelVersion:
        """Store a model's files, give the version its number, and put it into the first stage.

        The same files with the same description are the same version.

        Args:
            model: Made by its first version.
            source: A folder, an archive, a file, or what an importer returned.
            metrics: Offline metrics; finite numbers.
            parameters: Hyperparameters; plain JSON.
            seed: Of the random generators.
            data: Training data: files or folders, of which a digest is recorded.
            card: What people must know.
            labels: Short free text by key.
            signature: What it takes and gives, where the source does not say.
            runtime: How it is served, where the source does not say.
            lineage: Where it comes from; without, git and the environment are looked at.

        Raises:
            InvalidRequest: A name, metric or file that can never be right; nothing is recorded.
            IntegrityError: A file changed while it was read; nothing is recorded.
        """
        description = Description(
            metrics=dict(metrics or {}),
            card=card,
            labels=dict(labels or {}),
            signature=signature,
            runtime=runtime,
            lineage=self.lineage(data=data, seed=seed, parameters=parameters, given=lineage),
        )
        return self.registration(model, source, description).version

    def lineage(
        self,
        *,
        data: Sequence[str | Path] = (),
        seed: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        given: Lineage | None = None,
    ) -> Lineage:
        """Return what can be seen of where a version comes from: git, environment, data."""
        from cloudreg.importers.lineage import observe

        if given is not None and not (data or seed is not None or parameters):
            return given
        seen = observe(
            root=self.root,
            data=[Path(path) for path in data],
            seed=seed,
            parameters=dict(parameters or {}),
        )
        if given is None:
            return seen
        said = {n: v for n in given.__dataclass_fields__ if (v := getattr(given, n))}
        return replace(seen, **said)

    def registration(
        self, model: str, source: str | Path | Source, description: Description
    ) -> Registration:
        """Register, and return what was sent and whether the version is new."""
        if not isinstance(source, Source):
            from cloudreg.importers.archive import opened

            with opened(Path(source)) as found:
                return self.registration(model, found, description)
        check_model(model)
        rooms = self._rooms
        done = rooms.registry.register(model, source, description, progress=self.progress)
        first = self.settings.order[0]
        for target in self.settings.stage_targets(first):
            provider = self.targets[target]
            projection.mirror(
                done.version,
                source=None if target == self.settings.home else rooms.registry.store,
                store=provider.store,
                registry=provider.registry,
                progress=self.progress,
            )
            newest = rooms.registry.ledger(model).read
            # A newer version that is not published yet is shown by whoever registers it now.
            with suppress(NotFound):
                projection.show_stage(model, first, read=newest, registry=provider.registry)
        rooms.remember_home()
        return done

    def models(self) -> list[ModelSummary]:
        """Return all models, by name."""
        return self.registry.models()

    def versions(self, model: str) -> Iterator[VersionSummary]:
        """Yield a model's versions, highest number first."""
        return self.registry.versions(model)

    def version(self, ref: str | ModelRef | ModelVersion) -> ModelVersion:
        """Return the version that a reference names: ``m:7``, ``m@prod`` or ``m@sha256:…``.

        Raises:
            InvalidRequest: No reference.
            NotFound: No such model, stage or version.
        """
        if isinstance(ref, ModelVersion):
            return ref
        return self.registry.version(reference(ref))

    def published(
        self, ref: str | ModelRef | ModelVersion, *, target: str | None = None
    ) -> LiveVersion:
        """Return a version as a target's own registry shows it.

        Args:
            ref: Which one.
            target: Whose registry; the home's without.

        Raises:
            NotFound: No such version, or no such target.
        """
        where = target or self.settings.home
        return LiveVersion(self.targets[where].registry, self.version(ref), target=where)

    def summary(self, ref: str | ModelRef) -> VersionSummary:
        """Return what lists show of a version; its manifest is not read."""
        return self.registry.summary(reference(ref))

    def compare(self, left: str | ModelRef, right: str | ModelRef) -> Comparison:
        """Return two versions side by side."""
        return self.registry.compare(reference(left), reference(right))

    def card(self, ref: str | ModelRef) -> str:
        """Return a version's model card as Markdown."""
        from cloudreg.card import render

        version = self.version(ref)
        fold = self.fold(version.model)
        stages = [stage for stage, holder in fold.stages.items() if holder.number == version.number]
        return render(version, stages=stages)

    def download(self, ref: str | ModelRef, dest: str | Path) -> Path:
        """Write a version's files into a new or empty folder, checking every byte."""
        return artifacts.download(
            self.version(ref), self.registry.store, Path(dest), progress=self.progress
        )

    def history(self, model: str, *, newest_first: bool = True) -> Iterator[Entry]:
        """Yield the entries of a model's ledger, checked against each other."""
        return self.registry.history(model, newest_first=newest_first)

    def verify(self, model: str, *, pinned: tuple[int, str] | None = None) -> Verification:
        """Read a model's whole ledger and return what is wrong with it.

        Args:
            model: Whose.
            pinned: Place and hash of an entry that is known from elsewhere.

        Raises:
            NotFound: No such model.
        """
        if model not in ledger_models(self.registry.store):
            raise NotFound(f"no model {model!r}", hint="cloudreg list")
        ledger = self.registry.ledger(model)
        return verify(ledger, witness=self._rooms.witness(), pinned=pinned)

    def fold(self, model: str) -> Fold:
        """Return a model's state, as the ledger says."""
        return self.registry.fold(model)

    def approve(self, ref: str | ModelRef, *, stage: str, reason: str = "") -> VersionSummary:
        """Record that the actor agrees that a version may enter a stage.

        Raises:
            InvalidRequest: The author approves their own version.
        """
        return self.registry.approve(reference(ref), stage=stage, reason=reason)

    def waive(
        self,
        ref: str | ModelRef,
        *,
        formats: Sequence[str],
        stage: str,
        reason: str,
        days: int = DAYS,
    ) -> VersionSummary:
        """Record that the actor answers for files that a stage would refuse, for some time.

        Args:
            ref: The version.
            formats: What is waived, such as ``pickle``; see `cloudreg.formats.REFUSED`.
            stage: Where the version may go with such files.
            reason: Why, for the ledger.
            days: How long it counts from today on, a year at most; it ends with a day in UTC.

        Raises:
            InvalidRequest: The author waives their own version, or the waiver cannot be meant.
        """
        return self.registry.waive(
            reference(ref), formats=formats, stage=stage, days=days, reason=reason
        )


def reference(ref: str | ModelRef) -> ModelRef:
    """Return a reference that may have been typed."""
    return ref if isinstance(ref, ModelRef) else ModelRef.parse(ref)
