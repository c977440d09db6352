"""Models and versions, as people use them: register, find, compare, approve, look back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg import artifacts, projection
from cloudreg.carrying import hand_over
from cloudreg.errors import NotFound
from cloudreg.importers import Description, Source
from cloudreg.ledger import Entry, Fold, Seal, Verification, VersionSummary, ledger_models, verify
from cloudreg.ledger.copies import CopyVerification
from cloudreg.ledger.waiver import DAYS
from cloudreg.manifest import Lineage, ModelCard, Runtime, Signature
from cloudreg.names import ModelRef, check_model
from cloudreg.operations import Progress
from cloudreg.registry import Comparison, ModelSummary, Registration, Registry
from cloudreg.rooms import Rooms
from cloudreg.seals import Proof
from cloudreg.settings import Settings
from cloudreg.shown import LiveVersion
from cloudreg.targets import Targets
from cloudreg.types import ModelVersion

if TYPE_CHECKING:
    from cloudreg.past import Past
    from cloudreg.signing import SigningKey


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
            limit = self.settings.targets[target].transfer_above_bytes
            is_checked = limit is None or target == self.settings.home
            if target != self.settings.home:
                is_checked |= hand_over(
                    done.version,
                    self.targets[self.settings.home],
                    provider,
                    limit=limit,
                    target=target,
                    progress=self.progress,
                )
            projection.mirror(
                done.version,
                source=None if target == self.settings.home else rooms.registry.store,
                store=provider.store,
                registry=provider.registry,
                progress=self.progress,
            )
            if not is_checked:  # a service may have copied for somebody who died before the check
                artifacts.check(
                    done.version,
                    provider.store,
                    target=target,
                    progress=self.progress,
                    record=rooms.registry.store,
                )
            newest = rooms.registry.ledger(model).read
            # A newer version that is not published yet is shown by whoever registers it now.
            with suppress(NotFound):
                projection.show_stage(
                    model, first, target=target, read=newest, registry=provider.registry
                )
        ledger = rooms.registry.ledger(model)
        rooms.publication.show(model, (first,), known=ledger.read(), read=ledger.read)
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
        from cloudreg.signing.stored import beside

        version = self.version(ref)
        return artifacts.download(
            version,
            self.registry.store,
            Path(dest),
            beside=beside(self._rooms.seals.bundles(version), version.manifest),
            progress=self.progress,
        )

    def sign(
        self,
        ref: str | ModelRef | ModelVersion,
        *,
        key: str | Path | SigningKey,
        passphrase: str | None = None,
    ) -> Seal:
        """Sign a version with a private key, and record that the actor did.

        Again with the same key changes nothing. The key is read, used and forgotten: nothing of
        it is kept.

        Args:
            ref: Which one.
            key: A PEM file with an elliptic-curve key, or one that was read.
            passphrase: Of the file, where it is encrypted.

        Raises:
            InvalidRequest: The file holds no such key, or the passphrase does not open it.
        """
        return self.signing(ref, key=key, passphrase=passphrase)[0]

    def signing(
        self,
        ref: str | ModelRef | ModelVersion,
        *,
        key: str | Path | SigningKey,
        passphrase: str | None = None,
    ) -> tuple[Seal, bool]:
        """Sign, and return whether that is new."""
        if isinstance(key, str | Path):
            from cloudreg.signing import SigningKey

            key = SigningKey.read(Path(key), passphrase=passphrase)
        return self._rooms.seals.sign(self.version(ref), key)

    def signatures(
        self,
        ref: str | ModelRef | ModelVersion,
        *,
        target: str | None = None,
        key: str | Path | None = None,
    ) -> list[Proof]:
        """Return who signed a version, each signature verified where it can be.

        Args:
            ref: Which one.
            target: Where the signatures are read; the home without.
            key: A public key, in place of those that are configured.
        """
        from cloudreg.signing import PublicKey

        given = PublicKey.read(Path(key)) if key is not None else None
        store = self.targets[target or self.settings.home].store
        return self._rooms.seals.proofs(self.version(ref), store=store, given=given)

    def check_bytes(
        self, ref: str | ModelRef | ModelVersion, *, target: str | None = None
    ) -> ModelVersion:
        """Read every byte of a version on a target, and return it if all are as registered.

        Raises:
            IntegrityError: A file is missing or has other bytes; the message names it.
        """
        where = target or self.settings.home
        version, store = self.version(ref), self.targets[where].store
        artifacts.check(version, store, target=where, progress=self.progress)
        return version

    def history(self, model: str, *, newest_first: bool = True) -> Iterator[Entry]:
        """Yield the entries of a model's ledger, checked against each other."""
        return self.registry.history(model, newest_first=newest_first)

    def past(self, model: str, at: str) -> Past:
        """Return what the stages held, and what the endpoints were, on a day or at a moment.

        Args:
            model: Whose.
            at: ``2026-11-24``, or ``2026-11-24T10:30+01:00``; UTC without a zone.

        Raises:
            InvalidRequest: It is no date.
            NotFound: No such model.
        """
        from cloudreg.past import past, span

        return past(model, self.history(model, newest_first=False), span(at))

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

    def verify_copy(self, model: str, *, target: str) -> CopyVerification:
        """Compare the copy of a model's ledger on *target* with the home's, entry by entry.

        Raises:
            NotFound: No such model, or no copy on that target.
        """
        self.fold(model)
        return self._rooms.copies.verify(self.registry.ledger(model), target)

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
