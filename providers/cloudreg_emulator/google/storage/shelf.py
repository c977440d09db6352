"""The objects of one bucket: live, replaced and deleted ones. Whoever calls holds the lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from cloudreg_emulator.google.storage.nouns import Bucket, Generation
from cloudreg_emulator.google.storage.refusals import Refused

REMEMBERED = 10_000
"""Changes that a late listing can go back."""


class Shelf:
    """What is in a bucket.

    Attributes:
        bucket: As it is described now.
        live: Name to the generation that a request without one means.
        noncurrent: Name to what was replaced or deleted under versioning, oldest first.
        soft_deleted: Name to what can still be restored, oldest first.
    """

    def __init__(self, bucket: Bucket, clock: Callable[[], float]) -> None:
        """Begin empty."""
        self.bucket = bucket
        self.live: dict[str, Generation] = {}
        self.noncurrent: dict[str, list[Generation]] = {}
        self.soft_deleted: dict[str, list[Generation]] = {}
        self._clock = clock
        self._history: deque[tuple[float, str, Generation | None]] = deque(maxlen=REMEMBERED)

    @property
    def empty(self) -> bool:
        """Whether the bucket may go: what is softly deleted does not hold it."""
        return not self.live and not self.noncurrent

    def find(
        self, name: str, generation: int | None = None, *, soft_deleted: bool = False
    ) -> Generation | None:
        """Return a generation of an object; without one, the live one."""
        if soft_deleted:
            self._sweep(name)
            kept = self.soft_deleted.get(name, [])
            return next((found for found in kept if found.generation == generation), None)
        live = self.live.get(name)
        if generation is None or (live is not None and live.generation == generation):
            return live
        older = self.noncurrent.get(name, [])
        return next((found for found in older if found.generation == generation), None)

    def put(self, made: Generation) -> None:
        """Make *made* the live generation of its name."""
        self._check_held(self.live.get(made.name))
        self._remember(made.name)
        self._retire(made.name)
        self.live[made.name] = made

    def change(self, made: Generation) -> None:
        """Put other metadata in the place of the same generation's."""
        if made.deleted is None:
            self._remember(made.name)
            self.live[made.name] = made
            return
        kept = self.noncurrent[made.name]
        kept[:] = [made if one.generation == made.generation else one for one in kept]

    def delete(self, found: Generation, *, for_good: bool) -> None:
        """Delete one generation; *for_good* where the request named it."""
        self._check_held(found)
        if found.deleted is None:
            self._remember(found.name)
        if found.deleted is None and not for_good:
            self._retire(found.name)
            return
        if found.deleted is None:
            del self.live[found.name]
        else:
            kept = self.noncurrent[found.name]
            kept.remove(found)
            if not kept:
                del self.noncurrent[found.name]
        self._soften(found)

    def versions(self, name: str) -> Iterator[Generation]:
        """Yield all generations of a name, oldest first."""
        yield from self.noncurrent.get(name, ())
        if name in self.live:
            yield self.live[name]

    def restorable(self, name: str) -> Iterator[Generation]:
        """Yield what can be restored of a name, oldest first."""
        self._sweep(name)
        yield from self.soft_deleted.get(name, ())

    def as_of(self, seconds: float) -> Shelf:
        """Return what was live so long ago, for listings that are late; the bytes are not there."""
        then = Shelf(self.bucket, self._clock)
        then.live = dict(self.live)
        since = self._clock() - seconds
        for at, name, before in reversed(self._history):
            if at < since:
                break
            if before is None:
                then.live.pop(name, None)
            else:
                then.live[name] = before
        return then

    def _remember(self, name: str) -> None:
        before = self.live.get(name)
        if before is not None:
            before = replace(before, content=replace(before.content, pieces=()))
        self._history.append((self._clock(), name, before))

    def _retire(self, name: str) -> None:
        """Take the live generation away: to the versions, or to where a restore finds it."""
        old = self.live.pop(name, None)
        if old is None:
            return
        if self.bucket.versioned:
            gone = replace(old, deleted=self._clock())
            self.noncurrent.setdefault(name, []).append(gone)
        else:
            self._soften(old)

    def _soften(self, old: Generation) -> None:
        kept_s, now = self.bucket.soft_delete_s, self._clock()
        if kept_s:
            gone = replace(
                old, deleted=old.deleted or now, soft_deleted=now, hard_delete=now + kept_s
            )
            self.soft_deleted.setdefault(old.name, []).append(gone)

    def _sweep(self, name: str) -> None:
        kept, now = self.soft_deleted.get(name, []), self._clock()
        left = [one for one in kept if one.hard_delete is None or one.hard_delete > now]
        if left:
            self.soft_deleted[name] = left
        else:
            self.soft_deleted.pop(name, None)

    def _check_held(self, found: Generation | None) -> None:
        """Refuse to lose what is held, or what the bucket keeps for a while.

        Sources: https://cloud.google.com/storage/docs/object-holds,
        https://cloud.google.com/storage/docs/bucket-lock
        """
        if found is None:
            return
        for hold, words in (("temporaryHold", "temporary"), ("eventBasedHold", "event-based")):
            if found.fields.get(hold):
                raise Refused(
                    403,
                    "objectUnderActiveHold",
                    f"Object '{self.bucket.name}/{found.name}' is under active {words} hold "
                    "and cannot be deleted, overwritten or archived until hold is removed.",
                )
        until = found.created + self.bucket.retention_s
        if self.bucket.retention_s and self._clock() < until:
            raise Refused(
                403,
                "retentionPolicyNotMet",
                f"Object '{self.bucket.name}/{found.name}' is subject to bucket's retention "
                "policy and cannot be deleted, overwritten or archived yet.",
            )
