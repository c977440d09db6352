"""Models and versions: register, find, list, compare, approve, waive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from cloudreg import artifacts
from cloudreg.errors import IntegrityError, InvalidRequest, NotFound
from cloudreg.formats import REFUSED, check_format
from cloudreg.importers import Description, Source
from cloudreg.ledger import (
    Draft,
    Entry,
    Fold,
    Ledger,
    VersionSummary,
    Waiver,
    ledger_models,
)
from cloudreg.ledger.waiver import MAX_DAYS
from cloudreg.manifest import Lineage, Manifest, ModelCard, check_metric
from cloudreg.names import ModelRef, check_model
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion

PARALLEL_FOLDS = 8
"""Ledgers that are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What `Registry.register` did.

    Attributes:
        version: The version, new or known.
        created: Whether it is new.
        sent_bytes: Bytes that the store did not have.
        present_bytes: Bytes that it had already.
    """

    version: ModelVersion
    created: bool
    sent_bytes: int
    present_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """What a list shows of a model.

    Attributes:
        model: Its name.
        versions: How many there are.
        stages: Stage to version number.
    """

    model: str
    versions: int
    stages: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two versions side by side.

    Attributes:
        left: The first.
        right: The second.
        rows: (section, key, left value, right value) of everything that either has.
    """

    left: ModelVersion
    right: ModelVersion
    rows: tuple[tuple[str, str, Any, Any], ...]

    def differing(self) -> list[tuple[str, str, Any, Any]]:
        """Return the rows whose values are not equal."""
        return [row for row in self.rows if row[2] != row[3]]


class Registry:
    """All models of a home."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        order: tuple[str, ...],
        open_ledger: Callable[[str], Ledger],
    ) -> None:
        """Use the home's *store*; *open_ledger* returns the ledger of a model."""
        self.store = store
        self.order = order
        self._open_ledger = open_ledger
        self._ledgers: dict[str, Ledger] = {}
        self._steady: Counter[str] = Counter()

    def ledger(self, model: str) -> Ledger:
        """Return a model's ledger, whether it has entries or not."""
        if model not in self._ledgers:
            self._ledgers[model] = self._open_ledger(check_model(model))
        return self._ledgers[model]

    def fold(self, model: str) -> Fold:
        """Return a model's state.

        Raises:
            NotFound: No such model.
        """
        ledger = self.ledger(model)
        fold = ledger.known() if self._steady[model] else ledger.read()
        if fold.last_number == 0:
            del self._ledgers[model]
            known = ledger_models(self.store)
            raise NotFound(
                f"no model {model!r}",
                hint=f"there are {', '.join(known[:10])}" if known else "cloudreg register",
            )
        return fold

    @contextmanager
    def steady(self, model: str) -> Iterator[None]:
        """Answer from the state that was read last for as long as the block lasts.

        A plan is made from one state, and refused where that is not the newest any more.
        """
        self._steady[model] += 1
        try:
            yield
        finally:
            self._steady[model] -= 1

    def folds(self, models: Iterable[str] | None = None) -> dict[str, Fold]:
        """Return the state of several models, read side by side: of all that have a version.

        Args:
            models: Which ones, whether they have a version or not.
        """
        names = list(ledger_models(self.store) if models is None else models)
        # Opened one after another: to know the home is a question that is asked once.
        reads = [self.ledger(name).read for name in names]
        with ThreadPoolExecutor(PARALLEL_FOLDS, thread_name_prefix="folds") as pool:
            read = list(pool.map(lambda each: each(), reads))
        found = dict(zip(names, read, strict=True))
        if models is not None:
            return found
        return {name: fold for name, fold in found.items() if fold.last_number}

    def models(self) -> list[ModelSummary]:
        """Return all models, by name."""
        return [
            ModelSummary(
                model=model,
                versions=fold.last_number,
                stages={s: h.number for s, h in fold.stages.items()},
            )
            for model, fold in self.folds().items()
        ]

    def versions(self, model: str) -> Iterator[VersionSummary]:
        """Yield a model's versions, highest number first."""
        return self.fold(model).newest_first()

    def summary(self, ref: ModelRef) -> VersionSummary:
        """Return the version that a reference names, without reading its manifest.

        Raises:
            NotFound: No such model or version; nothing in the stage; no such stage.
            InvalidRequest: The short digest fits several versions.
        """
        fold = self.fold(ref.model)
        found: VersionSummary | None = None
        if ref.number is not None:
            found = fold.version(ref.number)
            hint = f"the newest is {ref.model}:{fold.last_number}"
        elif ref.stage is not None:
            self.check_stage(ref.stage)
            holder = fold.stages.get(ref.stage)
            found = fold.version(holder.number) if holder is not None else None
            hint = f"cloudreg promote {ref.model}:{fold.last_number} --to {ref.stage}"
            if found is None:
                raise NotFound(f"no version of {ref.model} is in {ref.stage}", hint=hint)
        else:
            assert ref.digest is not None
            found = self._by_digest(ref.model, ref.digest)
            hint = f"cloudreg list {ref.model}"
        if found is None:
            raise NotFound(f"no version {ref}", hint=hint)
        return found

    def version(self, ref: ModelRef) -> ModelVersion:
        """Return the version that a reference names.

        Raises:
            NotFound: As for `summary`.
            IntegrityError: Its manifest is not the one that was registered.
        """
        return self.load(ref.model, self.summary(ref))

    def load(self, model: str, summary: VersionSummary) -> ModelVersion:
        """Return a version with its manifest."""
        try:
            manifest = artifacts.read_manifest(summary.digest, self.store)
        except NotFound as error:
            raise IntegrityError(
                f"the manifest of {model}:{summary.number} is missing in the home's store"
            ) from error
        return ModelVersion(
            model=model,
            number=summary.number,
            digest=summary.digest,
            manifest=manifest,
            author=summary.author,
            created_at=summary.created_at,
        )

    def check_stage(self, stage: str) -> str:
        """Return *stage* if it is configured.

        Raises:
            NotFound: It is not.
        """
        if stage not in self.order:
            raise NotFound(f"no stage {stage!r}", hint=f"there are {', '.join(self.order)}")
        return stage

    def register(
        self,
        model: str,
        source: Source,
        description: Description,
        *,
        progress: Progress = SILENT,
    ) -> Registration:
        """Store the files, give the version its number, and put it into the first stage.

        The same files with the same description are the same version: nothing is sent, and no
        entry is written.

        Args:
            model: Made by its first version.
            source: Where the files are.
            description: What the caller says about them; beats what the source says itself.
            progress: Where it is shown.

        Raises:
            InvalidRequest: A name, metric or file that can never be right.
            IntegrityError: A file changed while it was read; nothing is recorded.
        """
        check_model(model)
        described = merged(source.description, description)
        for name, value in described.metrics.items():
            check_metric(name, value)
        ledger = self.ledger(model)
        ledger.read()
        artifacts.sweep(self.store)
        uploaded = artifacts.upload(source.files, self.store, progress=progress)
        manifest = Manifest(
            files=uploaded.files,
            signature=described.signature,
            runtime=described.runtime,
            lineage=described.lineage or Lineage(),
            metrics={name: float(value) for name, value in described.metrics.items()},
            card=described.card or ModelCard(),
            labels=dict(described.labels),
        )
        digest = artifacts.put_manifest(manifest, self.store)

        def draft(fold: Fold) -> Draft | None:
            if ledger.find(digest) is not None:
                return None
            number = fold.last_number + 1
            return Draft(
                kind="register",
                root=digest,
                data={
                    "number": number,
                    "digest": digest,
                    "size": manifest.size,
                    "files": len(manifest.files),
                    "metrics": dict(manifest.metrics),
                    "stages": {self.order[0]: number},
                },
            )

        entry = ledger.append(draft, op=digest)
        summary = ledger.find(digest)
        assert summary is not None
        return Registration(
            version=self.load(model, summary),
            created=entry is not None,
            sent_bytes=uploaded.sent_bytes,
            present_bytes=uploaded.present_bytes,
        )

    def approve(self, ref: ModelRef, *, stage: str, reason: str = "") -> VersionSummary:
        """Record that the ledger's user agrees that a version may enter *stage*.

        Raises:
            InvalidRequest: The author approves their own version.
            NotFound: No such version or stage.
        """
        self.check_stage(stage)
        summary = self.summary(ref)
        ledger = self.ledger(ref.model)
        if summary.author == ledger.actor:
            raise InvalidRequest(
                f"{ref.model}:{summary.number} was registered by {summary.author}, who cannot "
                "approve it",
                hint="somebody else must; CLOUDREG_ACTOR or --as says who is asking",
            )

        def draft(fold: Fold) -> Draft | None:
            current = fold.version(summary.number)
            assert current is not None
            if ledger.actor in current.approvals.get(stage, ()):
                return None
            return Draft(
                kind="approve",
                root=summary.digest,
                data={
                    "number": summary.number,
                    "digest": summary.digest,
                    "stage": stage,
                    "reason": reason,
                },
            )

        ledger.append(draft, op=summary.digest)
        found = ledger.read().version(summary.number)
        assert found is not None
        return found

    def waive(
        self, ref: ModelRef, *, formats: Sequence[str], stage: str, days: int, reason: str
    ) -> VersionSummary:
        """Record that the ledger's user answers for files that *stage* would refuse.

        A waiver of the same formats for the same stage takes the place of an older one.

        Args:
            ref: The version.
            formats: Keys of `cloudreg.formats.REFUSED`.
            stage: Where the version may go with them.
            days: How long it counts from today on; it ends with a day in UTC.
            reason: Why.

        Raises:
            InvalidRequest: The author waives their own version; a format that needs no waiver, a
                stage that refuses none, a time that is too long, or no reason.
            NotFound: No such version or stage.
        """
        self.check_stage(stage)
        if stage == self.order[0]:
            raise InvalidRequest(f"{stage} is the first stage, which takes files of all formats")
        if not formats:
            raise InvalidRequest("a waiver needs a format", hint=f"one of {', '.join(REFUSED)}")
        wanted = tuple(sorted({check_format(name) for name in formats}))
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS:
            raise InvalidRequest(f"days {days!r}: a waiver counts for 1 to {MAX_DAYS} days")
        if not reason.strip():
            raise InvalidRequest("a waiver needs a reason")
        summary = self.summary(ref)
        ledger = self.ledger(ref.model)
        if summary.author == ledger.actor:
            raise InvalidRequest(
                f"{ref.model}:{summary.number} was registered by {summary.author}, who cannot "
                "waive anything of it",
                hint="somebody else must; CLOUDREG_ACTOR or --as says who is asking",
            )
        until = date.fromisoformat(self.today(ref.model)) + timedelta(days=days)
        waiver = Waiver(
            stage=stage,
            formats=wanted,
            until=until.isoformat(),
            by=ledger.actor,
            reason=reason.strip(),
        )

        def draft(fold: Fold) -> Draft | None:
            current = fold.version(summary.number)
            assert current is not None
            if waiver in current.waivers:
                return None
            return Draft(
                kind="waive",
                root=summary.digest,
                data={
                    "number": summary.number,
                    "digest": summary.digest,
                    "stage": stage,
                    "formats": list(wanted),
                    "until": waiver.until,
                    "reason": waiver.reason,
                },
            )

        ledger.append(draft, op=summary.digest)
        found = ledger.read().version(summary.number)
        assert found is not None
        return found

    def today(self, model: str) -> str:
        """Return the day by the clock of a model's ledger, ISO 8601 in UTC."""
        return datetime.fromtimestamp(self.ledger(model).clock(), UTC).date().isoformat()

    def touch(self, model: str, endpoints: Sequence[str]) -> Entry:
        """Record that the time of endpoints begins anew."""
        self.fold(model)
        draft = Draft(kind="note", root="touch", data={"touched": sorted(endpoints)})
        entry = self.ledger(model).append(lambda _: draft, op="touch")
        assert entry is not None
        return entry

    def history(self, model: str, *, newest_first: bool = True) -> Iterator[Entry]:
        """Yield the entries of a model's ledger, checked against each other."""
        self.fold(model)
        return self.ledger(model).entries(newest_first=newest_first)

    def compare(self, left: ModelRef, right: ModelRef) -> Comparison:
        """Return two versions side by side, of one model or of two."""
        a, b = self.version(left), self.version(right)
        flat_a, flat_b = dict(_facts(a)), dict(_facts(b))
        rows = tuple(
            (section, key, flat_a.get((section, key)), flat_b.get((section, key)))
            for section, key in sorted({*flat_a, *flat_b}, key=_section_order)
        )
        return Comparison(left=a, right=b, rows=rows)

    def _by_digest(self, model: str, digest: str) -> VersionSummary | None:
        exact = self.ledger(model).find(digest)
        if exact is not None:
            return exact
        fitting = [s for s in self.fold(model).newest_first() if s.digest.startswith(digest)]
        if len(fitting) > 1:
            raise InvalidRequest(
                f"{digest} fits {len(fitting)} versions of {model}", hint="give more digits"
            )
        return fitting[0] if fitting else None


def merged(own: Description, given: Description) -> Description:
    """Return what the caller says, over what the source says itself."""
    lineage = own.lineage
    if given.lineage is not None:
        base = own.lineage or Lineage()
        said = {
            name: value
            for name in given.lineage.__dataclass_fields__
            if (value := getattr(given.lineage, name)) not in (None, {}, "")
        }
        lineage = replace(base, **said)
    card = own.card
    if given.card is not None:
        said = {n: v for n in given.card.__dataclass_fields__ if (v := getattr(given.card, n))}
        card = replace(own.card or ModelCard(), **said)
    return Description(
        signature=given.signature or own.signature,
        runtime=given.runtime or own.runtime,
        metrics={**own.metrics, **given.metrics},
        card=card,
        labels={**own.labels, **given.labels},
        lineage=lineage,
    )


_SECTIONS = ("version", "metrics", "parameters", "lineage", "signature", "runtime", "labels",
             "files")  # fmt: skip


def _section_order(key: tuple[str, str]) -> tuple[int, str]:
    return _SECTIONS.index(key[0]), key[1]


def _facts(version: ModelVersion) -> Iterator[tuple[tuple[str, str], Any]]:
    manifest = version.manifest
    yield ("version", "ref"), version.ref
    yield ("version", "digest"), version.digest
    yield ("version", "content"), manifest.content
    yield ("version", "size"), manifest.size
    yield ("version", "author"), version.author
    yield ("version", "created_at"), version.created_at
    for name, value in manifest.metrics.items():
        yield ("metrics", name), value
    for name, value in manifest.lineage.parameters.items():
        yield ("parameters", name), value
    for name, fact in msgspec.to_builtins(manifest.lineage).items():
        if name != "parameters" and fact is not None:
            yield ("lineage", name), fact
    if manifest.signature is not None:
        for side in ("inputs", "outputs"):
            for tensor in getattr(manifest.signature, side):
                yield ("signature", f"{side}.{tensor.name}"), f"{tensor.dtype} {list(tensor.shape)}"
    if manifest.runtime is not None:
        for name, fact in msgspec.to_builtins(manifest.runtime).items():
            if fact not in (None, {}):
                yield ("runtime", name), fact
    for name, label in manifest.labels.items():
        yield ("labels", name), label
    for file in manifest.files:
        yield ("files", file.path), f"{file.size} bytes, {file.sha256[:12]}"
