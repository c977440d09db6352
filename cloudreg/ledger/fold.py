"""Today's state: what the entries of one model say, applied in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import msgspec

from cloudreg.errors import IntegrityError
from cloudreg.ledger.entry import GENESIS, Entry
from cloudreg.ledger.seal import Seal, with_seal
from cloudreg.ledger.waiver import Waiver, with_waiver
from cloudreg.names import canonical_json, check_digest, sha256

PAGE = 256
"""Version summaries per page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSummary:
    """What lists show of a version, without reading its manifest.

    Attributes:
        number: Given by this ledger.
        digest: The identity.
        author: Who registered it.
        created_at: When, ISO 8601 in UTC.
        seq: Its ``register`` entry.
        size: Bytes of all files.
        files: How many files.
        metrics: Offline metrics.
        held: Stages that it holds or has held, in the order it entered them.
        approvals: Stage to those who agreed.
        waivers: What somebody answers for; one for each stage and set of formats.
        seals: Who signed it; one for each key.
    """

    number: int
    digest: str
    author: str
    created_at: str
    seq: int
    size: int
    files: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    approvals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    seals: tuple[Seal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The version that a stage points to.

    Attributes:
        number: The version's number.
        digest: Its identity.
        since: When the stage moved, ISO 8601 in UTC.
        seq: The entry that moved it.
        previous: The number that the stage pointed to before: what a rollback goes back to.
    """

    number: int
    digest: str
    since: str
    seq: int
    previous: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIntent:
    """An operation that holds the model.

    Attributes:
        root: The operation.
        op: The process that holds it now.
        verb: ``promote``, ``rollback``, ``apply`` …
        data: What it was asked to do.
        actor: Who asked.
        since: When it began.
        until: When its lease ends, seconds since 1970 by the holder's clock.
        process: Where the holder runs, so that the same machine can tell that it died.
        paused: Whether it stands still until somebody resumes or aborts it.
        progress: The newest ``step``'s data.
        requests: Actions asked of the holder, such as ``pause`` or ``abort``, oldest first.
    """

    root: str
    op: str
    verb: str
    data: Mapping[str, Any]
    actor: str
    since: str
    until: float
    process: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False
    progress: Mapping[str, Any] = field(default_factory=dict)
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What cloudreg last made of an endpoint.

    Attributes:
        target: Where.
        spec: The endpoint's spec as plain JSON.
        at: When, ISO 8601 in UTC.
        seq: The entry that says so.
    """

    target: str
    spec: Mapping[str, Any]
    at: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A target that was left as it was when a stage, or an endpoint that follows it, moved.

    Attributes:
        number: The version that it still shows in the stage; None for none.
        reason: Why it was left so.
        since: When it fell behind, ISO 8601 in UTC.
        seq: The entry that says so.
    """

    number: int | None
    reason: str
    since: str
    seq: int


class _Register(msgspec.Struct):
    number: int
    digest: str
    size: int
    files: int
    metrics: dict[str, float] = {}
    stages: dict[str, int | None] = {}


class _Approve(msgspec.Struct):
    number: int
    stage: str


class _Waive(msgspec.Struct):
    number: int
    stage: str
    formats: tuple[str, ...]
    until: str
    reason: str


class _Sign(msgspec.Struct):
    number: int
    key: str
    bundle: str


class _Intent(msgspec.Struct):
    verb: str
    until: float
    process: dict[str, Any] = {}


class _Step(msgspec.Struct):
    until: float
    paused: bool = False
    progress: dict[str, Any] | None = None


class _Takeover(msgspec.Struct):
    until: float
    process: dict[str, Any] = {}


class _Endpoint(msgspec.Struct):
    target: str
    spec: dict[str, Any]


class _Behind(msgspec.Struct):
    reason: str
    number: int | None = None


class _End(msgspec.Struct):
    stages: dict[str, int | None] = {}
    endpoints: dict[str, _Endpoint | None] = {}
    behind: dict[str, dict[str, _Behind]] = {}
    rests: dict[str, str] = {}


class _Note(msgspec.Struct):
    request: str | None = None
    touched: tuple[str, ...] = ()


class VersionIndex:
    """Summaries by number: pages that are read when they are needed, and what changed since."""

    def __init__(
        self,
        pages: Mapping[int, str] | None = None,
        read_page: Callable[[str], bytes] | None = None,
    ) -> None:
        """Begin from pages that a checkpoint names.

        Args:
            pages: Page number to the sha256 of its bytes.
            read_page: Returns the bytes of a page, checked.
        """
        self.pages: dict[int, str] = dict(pages or {})
        self._read_page = read_page
        self._loaded: dict[int, dict[int, VersionSummary]] = {}
        self._changed: dict[int, VersionSummary] = {}

    def get(self, number: int) -> VersionSummary | None:
        """Return one summary."""
        return self._changed.get(number) or self._page(number // PAGE).get(number)

    def put(self, summary: VersionSummary) -> None:
        """Add a summary or change one."""
        self._changed[summary.number] = summary

    def newest_first(self, last: int) -> Iterator[VersionSummary]:
        """Yield the summaries from number *last* down to 1."""
        for number in range(last, 0, -1):
            summary = self.get(number)
            if summary is not None:
                yield summary

    def flushed(self) -> tuple[VersionIndex, dict[str, bytes]]:
        """Return an equal index without changes, and the pages it needs anew, by sha256.

        This one stays as it is: a page that could not be written must not be forgotten.
        """
        index = VersionIndex(self.pages, self._read_page)
        index._loaded = dict(self._loaded)
        written: dict[str, bytes] = {}
        for page in sorted({number // PAGE for number in self._changed}):
            rows = dict(self._page(page))
            rows.update((n, s) for n, s in self._changed.items() if n // PAGE == page)
            data = canonical_json([_row(rows[n]) for n in sorted(rows)])
            digest = sha256(data)
            index.pages[page] = digest
            index._loaded[page] = rows
            written[digest] = data
        return index, written

    def _page(self, page: int) -> dict[int, VersionSummary]:
        if page in self._loaded:
            return self._loaded[page]
        digest = self.pages.get(page)
        rows: dict[int, VersionSummary] = {}
        if digest is not None:
            assert self._read_page is not None
            data = self._read_page(digest)
            decoded = msgspec.json.decode(data, type=list[VersionSummary])
            rows = {summary.number: summary for summary in decoded}
        self._loaded[page] = rows
        return rows


def _row(summary: VersionSummary) -> dict[str, Any]:
    """Return a summary as a page keeps it."""
    row: dict[str, Any] = msgspec.to_builtins(summary)
    for late in ("waivers", "seals"):
        if not row[late]:
            # Pages that were written before there were any keep their bytes, and so their digest.
            del row[late]
    return row


class Fold:
    """The state of one model after some of its entries."""

    def __init__(self, model: str) -> None:
        """Begin before the first entry."""
        self.model = model
        self.seq = -1
        self.head = GENESIS
        self.last_number = 0
        self.stages: dict[str, Holder] = {}
        self.open: OpenIntent | None = None
        self.closed = -1
        """The newest entry that ended an operation, and so may have changed targets."""
        self.applied: dict[str, Applied] = {}
        self.behind: dict[str, dict[str, Behind]] = {}
        """Stage to the targets that do not show it, or serve it, as the ledger says."""
        self.served: dict[str, str] = {}
        """Endpoint to when its ttl began, ISO 8601, where no deployment of it says so: of those
        that were touched since, and of those that went when their time was over."""
        self.versions = VersionIndex()
        self.recent: dict[str, int] = {}
        """Digest to number, for the versions since the last checkpoint."""

    def version(self, number: int) -> VersionSummary | None:
        """Return one version's summary."""
        return self.versions.get(number) if 1 <= number <= self.last_number else None

    def shown(self, stage: str, target: str) -> int | None:
        """Return the version that *target* was last made to show in *stage*."""
        lagging = self.behind.get(stage, {}).get(target)
        if lagging is not None:
            return lagging.number
        holder = self.stages.get(stage)
        return holder.number if holder is not None else None

    def newest_first(self) -> Iterator[VersionSummary]:
        """Yield all versions, highest number first."""
        return self.versions.newest_first(self.last_number)

    def apply(self, entry: Entry) -> None:
        """Take one more entry into account.

        Raises:
            IntegrityError: The entry does not follow from those before it.
        """
        if entry.seq != self.seq + 1 or entry.prev != self.head:
            raise IntegrityError(f"ledger of {self.model}: entry {entry.seq} is out of place")
        try:
            getattr(self, f"_{entry.kind}")(entry)
        except ValueError as error:  # msgspec's errors are ValueErrors too
            raise IntegrityError(
                f"ledger of {self.model}, entry {entry.seq} ({entry.kind}) cannot be "
                f"understood: {error}"
            ) from error
        self.seq, self.head = entry.seq, entry.hash

    def _refuse(self, entry: Entry, why: str) -> IntegrityError:
        return IntegrityError(f"ledger of {self.model}, entry {entry.seq}: {entry.kind} {why}")

    # Each kind is checked as a whole before anything of it counts: an entry that is refused must
    # leave the state as it was.

    def _register(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Register)
        check_digest(data.digest)
        if data.number != self.last_number + 1:
            raise self._refuse(entry, f"of number {data.number} after {self.last_number}")
        self._check_numbers(entry, data.stages, last=data.number)
        summary = VersionSummary(
            number=data.number,
            digest=data.digest,
            author=entry.actor,
            created_at=entry.at,
            seq=entry.seq,
            size=data.size,
            files=data.files,
            metrics=data.metrics,
        )
        self.last_number = summary.number
        self.recent[summary.digest] = summary.number
        self.versions.put(summary)
        self._move(data.stages, entry)
        self._lag({}, data.stages, entry)

    def _approve(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Approve)
        summary = self._known(entry, data.number)
        people = summary.approvals.get(data.stage, ())
        if entry.actor not in people:
            approvals = {**summary.approvals, data.stage: (*people, entry.actor)}
            self.versions.put(replace(summary, approvals=approvals))

    def _waive(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Waive)
        summary = self._known(entry, data.number)
        # Other spellings of a day would not compare as text does.
        if date.fromisoformat(data.until).isoformat() != data.until or not data.formats:
            raise self._refuse(entry, f"of {list(data.formats)} until {data.until}")
        new = Waiver(
            stage=data.stage,
            formats=data.formats,
            until=data.until,
            by=entry.actor,
            reason=data.reason,
        )
        waivers = with_waiver(summary.waivers, new)
        self.versions.put(replace(summary, waivers=waivers))

    def _sign(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Sign)
        check_digest(data.bundle)
        check_digest(f"sha256:{data.key}")
        summary = self._known(entry, data.number)
        new = Seal(key=data.key, bundle=data.bundle, by=entry.actor, at=entry.at)
        self.versions.put(replace(summary, seals=with_seal(summary.seals, new)))

    def _intent(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Intent)
        if self.open is not None:
            raise self._refuse(entry, f"while {self.open.root} is open")
        self.open = OpenIntent(
            root=entry.root,
            op=entry.op,
            verb=data.verb,
            data=entry.data,
            actor=entry.actor,
            since=entry.at,
            until=data.until,
            process=data.process,
        )

    def _step(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Step)
        held = self._held(entry)
        self.open = replace(
            held,
            until=data.until,
            paused=data.paused,
            progress=held.progress if data.progress is None else data.progress,
            requests=() if data.paused else held.requests,
        )

    def _takeover(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Takeover)
        if self.open is None or self.open.root != entry.root:
            raise self._refuse(entry, f"of {entry.root}, which is not open")
        self.open = replace(
            self.open,
            op=entry.op,
            until=data.until,
            process=data.process,
            paused=False,
            requests=(),
        )

    def _done(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _End)
        self._held(entry)
        self._end(entry, data)

    def _abort(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _End)
        self._held(entry)
        if data.stages:
            raise self._refuse(entry, "of an operation that moved stages")
        self._end(entry, data)

    def _adopt(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _End)
        if self.open is not None:
            raise self._refuse(entry, f"while {self.open.root} is open")
        self._end(entry, data)

    def _note(self, entry: Entry) -> None:
        data = msgspec.convert(entry.data, _Note)
        if data.request and self.open is not None and entry.root == self.open.root:
            self.open = replace(self.open, requests=(*self.open.requests, data.request))
        self.served |= dict.fromkeys(data.touched, entry.at)

    def _end(self, entry: Entry, data: _End) -> None:
        shown = {
            f"{stage} on {target}": lagging.number
            for stage, targets in data.behind.items()
            for target, lagging in targets.items()
        }
        self._check_numbers(entry, {**data.stages, **shown}, last=self.last_number)
        for began in data.rests.values():
            datetime.fromisoformat(began)
        self.closed = entry.seq
        self.open = None
        self._move(data.stages, entry)
        self._lag(data.behind, data.stages, entry)
        for name, applied in data.endpoints.items():
            if applied is None:
                self.applied.pop(name, None)
            else:
                self.served.pop(name, None)
                self.applied[name] = Applied(
                    target=applied.target, spec=applied.spec, at=entry.at, seq=entry.seq
                )
        self.served |= data.rests

    def _held(self, entry: Entry) -> OpenIntent:
        if self.open is None or self.open.op != entry.op or self.open.root != entry.root:
            raise self._refuse(entry, f"by {entry.op}, which does not hold the model")
        return self.open

    def _check_numbers(self, entry: Entry, stages: Mapping[str, int | None], *, last: int) -> None:
        for number in stages.values():
            if number is not None and not 1 <= number <= last:
                raise self._refuse(entry, f"of version {number}, which was never registered")

    def _known(self, entry: Entry, number: int) -> VersionSummary:
        summary = self.version(number)
        if summary is None:
            raise self._refuse(entry, f"of version {number}, which was never registered")
        return summary

    def _move(self, stages: Mapping[str, int | None], entry: Entry) -> None:
        for stage, number in stages.items():
            if number is None:
                self.stages.pop(stage, None)
                continue
            summary = self._known(entry, number)
            before = self.stages.get(stage)
            if before is not None and before.number == number:
                continue  # it did not move: what it held before is still what a rollback wants
            self.stages[stage] = Holder(
                number=number,
                digest=summary.digest,
                since=entry.at,
                seq=entry.seq,
                previous=before.number if before is not None else None,
            )
            if stage not in summary.held:
                self.versions.put(replace(summary, held=(*summary.held, stage)))

    def _lag(
        self,
        behind: Mapping[str, Mapping[str, _Behind]],
        moved: Mapping[str, int | None],
        entry: Entry,
    ) -> None:
        """Note who is behind: for a stage that moved, or that is named, nobody else is any more."""
        for stage in {*moved, *behind}:
            before = self.behind.pop(stage, {})
            now = {
                target: Behind(
                    number=lagging.number,
                    reason=lagging.reason,
                    since=before[target].since if target in before else entry.at,
                    seq=entry.seq,
                )
                for target, lagging in behind.get(stage, {}).items()
            }
            if now:
                self.behind[stage] = now
