"""A rollback while the home does not answer.

The glass is broken: a copy of the ledger says what there was, a journal on this machine keeps what
is done, and only targets that answer are changed. `cloudreg.aftermath` brings the journal into the
ledger once the home answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudreg import artifacts
from cloudreg.aftermath import concerned_without
from cloudreg.backwards import held_before
from cloudreg.copies import Copies
from cloudreg.deploy import Deployer
from cloudreg.errors import CloudregError, Conflict, IntegrityError, InvalidRequest, NotFound
from cloudreg.fence import FencedEndpoints
from cloudreg.journal import BEGIN, CHANGED, FAILED, Journal
from cloudreg.ledger import Entry, Fold, Holder, Lease, VersionSummary
from cloudreg.ledger.copies import folded
from cloudreg.ledger.lease import held
from cloudreg.ledger.log import timestamp
from cloudreg.names import ModelRef
from cloudreg.operations import SILENT, Progress
from cloudreg.plan import EndpointChange, Plan, spec_json, stage_change
from cloudreg.rollout import Roller
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import EndpointSpec, ModelVersion, Rollout
from cloudreg.work import why


class Unguarded(Lease):
    """A lease that nobody gave: the home, which gives them, does not answer."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.requests = ()

    def check(self) -> None:
        """Go on."""

    def glance(self) -> None:
        """Go on."""

    def kept(self) -> AbstractContextManager[None]:
        """Go on."""
        return nullcontext()

    def step(self, progress: Mapping[str, Any], *, paused: bool = False) -> None:
        """Go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a model while its home is away.

    Attributes:
        home: The home's id.
        fold: The state by the best copy.
        entries: Its entries, oldest first.
        source: The target that has it; nothing for this machine.
        journal: What was done here since.
    """

    home: str
    fold: Fold
    entries: Sequence[Entry]
    source: str
    journal: Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency:
    """A rollback without the home, prepared.

    Attributes:
        plan: For people.
        known: What it rests on.
        stage: Whose.
        version: What is gone back to.
        before: What the stage has now, as far as it is known.
        changes: Target to the endpoints that change there.
        silent: Targets that do not answer, the home among them, and why.
    """

    plan: Plan
    known: Known
    stage: str
    version: ModelVersion
    before: int
    changes: Mapping[str, tuple[EndpointChange, ...]]
    silent: Mapping[str, str]

    @property
    def reason(self) -> str:
        """Return why the glass was broken."""
        return str(self.plan.request["break_glass"])


class Emergencies:
    """Rollbacks without the home."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        deployer: Deployer,
        copies: Copies,
        root: Path,
        *,
        actor: str,
        progress: Progress = SILENT,
        timeout_s: float = 1800.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use what is configured and opened."""
        self._settings = settings
        self._targets = targets
        self._deployer = deployer
        self._copies = copies
        self._state = root / settings.state
        self._actor = actor
        self._progress = progress
        self._timeout_s = timeout_s
        self._clock = clock

    def prepare(
        self, model: str, stage: str, to: ModelRef | None, *, reason: str, silence: CloudregError
    ) -> Emergency:
        """Return what going back would change on the targets that answer.

        Args:
            model: Whose stage.
            stage: Which one.
            to: The version; what the stage held before without.
            reason: Why the glass is broken.
            silence: What the home's silence looked like.

        Raises:
            NotFound: Nobody who answers has a copy, or the stage held nothing before.
            InvalidRequest: The version never held the stage.
            Conflict: An operation was under way when the copy was made.
        """
        known = self._known(model)
        number = self._back_to(known, stage, to)
        before = self._now(known, stage)
        summary = known.fold.version(number)
        assert summary is not None
        changes: dict[str, tuple[EndpointChange, ...]] = {}
        silent = {self._settings.home: why(silence)}
        version: ModelVersion | None = None
        for target in concerned_without(self._settings, self._deployer, model, stage):
            try:
                here = self._version(model, summary, target)
                list(self._targets[target].registry.published(model))
                changes[target] = self._changes(here, stage, target)
                version = here
            except CloudregError as error:
                silent[target] = why(error)
        if version is None:
            raise Conflict(
                f"{model}@{stage} is on no target that answers: {'; '.join(silent.values())}",
                hint=f"wait for one of {', '.join(silent)}",
            )
        request = {
            "verb": "rollback",
            "ref": version.ref,
            "to": stage,
            "break_glass": reason,
            "without": self._settings.home,
        }
        fallen = known.fold.version(before)
        stage_moves = stage_change(
            model,
            stage,
            before=(before, fallen.digest) if fallen else None,
            after=(version.number, version.digest),
            note=f"break glass: {reason}",
        )
        moves = [change.change() for each in changes.values() for change in each]
        plan = Plan(
            request=request,
            changes=(stage_moves, *moves),
            warnings=(
                f"the home, {self._settings.home}, does not answer: a copy of its ledger on "
                f"{known.source or 'this machine'} counts, which ends at entry {known.fold.seq}",
                *(f"{target} stays as it is: {said}" for target, said in silent.items()),
            ),
        )
        return Emergency(
            plan=plan,
            known=known,
            stage=stage,
            version=version,
            before=before,
            changes=changes,
            silent=silent,
        )

    def carry_out(self, work: Emergency) -> dict[str, str]:
        """Change the targets that answer, journal first; return who stays as it was, and why.

        Raises:
            CloudregError: No target could be changed.
            Conflict: Another process of this machine does the same.
        """
        journal, left = work.known.journal, dict(work.silent)
        first: CloudregError | None = None
        made = 0
        with journal.held():
            self._write(
                journal,
                BEGIN,
                {
                    "stage": work.stage,
                    "from": work.before,
                    "to": work.version.number,
                    "digest": work.version.digest,
                    "reason": work.reason,
                    "targets": list(work.changes),
                    "copy": {
                        "seq": work.known.fold.seq,
                        "head": work.known.fold.head,
                        "source": work.known.source,
                    },
                },
            )
            for target, changes in work.changes.items():
                self._progress.say(f"{target}: going back to {work.version.ref} without the home")
                try:
                    applied = self._change(work, target, changes)
                except CloudregError as error:
                    first, left[target] = first or error, why(error)
                    self._write(journal, FAILED, {"target": target, "reason": why(error)})
                else:
                    made += 1
                    self._write(journal, CHANGED, {"target": target, "endpoints": applied})
        if first is not None and not made:
            raise first
        return left

    def _write(self, journal: Journal, kind: str, data: Mapping[str, Any]) -> None:
        journal.append(kind, data, actor=self._actor, at=timestamp(self._clock()))

    def _known(self, model: str) -> Known:
        """Return the best that is known of a model.

        Raises:
            NotFound: Nothing is.
            IntegrityError: The journal, or every copy, was edited.
        """
        home, shelves = self._copies.shelves(model)
        best: tuple[Fold, list[Entry], str] | None = None
        for source, shelf in shelves.items():
            try:
                fold, entries = folded(shelf, model)
            except IntegrityError as error:
                # One that was edited proves itself wrong; another one may do.
                self._progress.say(f"the copy on {source or 'this machine'}: {error.message}")
                continue
            except CloudregError:
                continue
            if fold.seq >= 0 and (best is None or fold.seq > best[0].seq):
                best = fold, entries, source
        if best is None:
            raise NotFound(
                f"nobody who answers has a sound copy of the ledger of {model}",
                hint="wait for the home: nothing is known without it",
            )
        fold, entries, source = best
        if fold.open is not None:
            raise held(model, fold.open)
        journal = Journal(self._state, home, model)
        return Known(home=home, fold=fold, entries=entries, source=source, journal=journal)

    def _now(self, known: Known, stage: str) -> int:
        """Return what the stage holds, as far as it is known here."""
        lines = [x for x in known.journal.pending() if x.kind == BEGIN and x.data["stage"] == stage]
        if lines:
            return int(lines[-1].data["to"])
        holder = known.fold.stages.get(stage)
        if holder is None:
            raise NotFound(f"no version is in {stage}: nothing to go back from")
        return holder.number

    def _back_to(self, known: Known, stage: str, to: ModelRef | None) -> int:
        model, fold = known.fold.model, known.fold
        if stage not in self._settings.stages:
            raise NotFound(
                f"no stage {stage!r}", hint=f"there are {', '.join(self._settings.stages)}"
            )
        now = self._now(known, stage)
        if to is None:
            holder = Holder(number=now, digest="", since="", seq=fold.seq)
            number = held_before(reversed(known.entries), stage, holder)
            if number is None:
                raise NotFound(f"{model}@{stage} has held nothing before {model}:{now}")
            return number
        if to.model != model:
            raise InvalidRequest(f"{to} is no version of {model}")
        for summary in fold.newest_first():
            meant = to.number == summary.number or to.digest == summary.digest
            if meant and stage in summary.held:
                return summary.number
        raise InvalidRequest(f"{to} was never in {stage}, so that it cannot be gone back to")

    def _version(self, model: str, summary: VersionSummary, target: str) -> ModelVersion:
        """Return a version as a target's own store has it."""
        try:
            manifest = artifacts.read_manifest(summary.digest, self._targets[target].store)
        except NotFound as error:
            raise NotFound(
                f"{target} has no {model}:{summary.number}: its files never came there",
                target=target,
            ) from error
        return ModelVersion(
            model=model,
            number=summary.number,
            digest=summary.digest,
            manifest=manifest,
            author=summary.author,
            created_at=summary.created_at,
        )

    def _changes(
        self, version: ModelVersion, stage: str, target: str
    ) -> tuple[EndpointChange, ...]:
        names = [
            name
            for name in self._deployer.names(model=version.model, stage=stage)
            if self._settings.endpoint_target(name) == target
        ]
        return self._deployer.desired(names, holders=lambda _, __: version).changes

    def _change(
        self, work: Emergency, target: str, changes: Sequence[EndpointChange]
    ) -> dict[str, Any]:
        """Change one target, and return what the ledger will say of its endpoints."""
        provider, version = self._targets[target], work.version
        applied: dict[str, Any] = {}
        for change in changes:
            assert change.after is not None
            before = change.before.spec if change.before else None
            roller = self._roller(target, self._versions(work, target, before))
            try:
                live = roller.roll(change.before, change.after, Rollout())
            except CloudregError:
                with suppress(CloudregError):  # the first error tells more
                    roller.restore(change.name, before)
                raise
            applied[change.name] = {"target": target, "spec": spec_json(live.spec)}
        if target in self._settings.stage_targets(work.stage):
            provider.registry.publish(version)
            provider.registry.point(version.model, work.stage, version.digest)
        return applied

    def _roller(self, target: str, versions: Mapping[str, ModelVersion]) -> Roller:
        lease = Unguarded()
        return Roller(
            FencedEndpoints(self._targets[target].endpoints, lease),
            lease,
            target=target,
            artifacts=versions,
            progress=self._progress,
            timeout_s=self._timeout_s,
        )

    def _versions(
        self, work: Emergency, target: str, before: EndpointSpec | None
    ) -> dict[str, ModelVersion]:
        versions = {work.version.digest: work.version}
        for variant in before.variants if before is not None else ():
            summary = work.known.fold.version(variant.number)
            if summary is not None and variant.digest not in versions:
                with suppress(CloudregError):  # then it cannot be gone back to, if that comes
                    versions[variant.digest] = self._version(variant.model, summary, target)
        return versions
