"""Making a target show what the ledger says: bytes, versions, stages.

Everything here may be done again at any time: the ledger is the truth, targets are projections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudreg import artifacts
from cloudreg.ledger import Fold
from cloudreg.operations import SILENT, Progress
from cloudreg.provider import ObjectStore, RegistryBackend
from cloudreg.types import ModelVersion

MAX_ROUNDS = 20

FOREIGN, SILENT_TARGET = "foreign", "target"
"""Kinds of differences that no repair ends: only people, or time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a target shows, where it is not what the ledger says.

    Attributes:
        kind: ``stage``, ``version`` or ``endpoint``; ``foreign`` for an endpoint of the model that
            the ledger does not know, ``target`` for one that does not answer.
        name: ``churn@prod``, ``churn:7``, or the endpoint's or the target's name.
        target: Where.
        field: Which part of it.
        ledger: What the ledger says; of an endpoint, what cloudreg last made of it.
        actual: What the target shows.
        wanted: Of an endpoint, what stage and configuration ask for now, where that is something
            else again.
    """

    kind: str
    name: str
    target: str
    field: str
    ledger: str
    actual: str
    wanted: str | None = None

    @property
    def mendable(self) -> bool:
        """Whether a repair makes the target show what the ledger says."""
        return self.kind not in (FOREIGN, SILENT_TARGET)

    def __str__(self) -> str:
        """Render as one line."""
        if self.kind == SILENT_TARGET:
            return f"target {self.target} was not compared: {self.actual}"
        line = (
            f"{self.kind} {self.name} on {self.target}: {self.field} is {self.actual or '(none)'}, "
            f"the ledger says {self.ledger}"
        )
        return f"{line}, and now {self.wanted} is wanted" if self.wanted is not None else line


def mirror(
    version: ModelVersion,
    *,
    source: ObjectStore | None,
    store: ObjectStore,
    registry: RegistryBackend,
    progress: Progress = SILENT,
) -> int:
    """Bring a version's bytes to a target, show it in its registry, and return the bytes copied.

    Args:
        version: Which one.
        source: The home's store; None where the target is the home itself.
        store: The target's.
        registry: The target's.
        progress: Where it is shown.

    Raises:
        IntegrityError: The home has other bytes than were registered.
    """
    copied = 0
    if source is not None:
        copied = artifacts.replicate(version, source, store, progress=progress)
    registry.publish(version)
    return copied


def show_stage(
    model: str, stage: str, *, target: str, read: Callable[[], Fold], registry: RegistryBackend
) -> None:
    """Make a target's stage show what the ledger says now: what it had, where it is behind.

    Another process may move the stage between the reading and the pointing: so read again after
    pointing. Whoever points last also reads last, and leaves the newest.
    """
    shown: str | None = None
    for attempt in range(MAX_ROUNDS):
        fold = read()
        summary = fold.version(fold.shown(stage, target) or 0)
        wanted = summary.digest if summary is not None else None
        if attempt and wanted == shown:
            return
        registry.point(model, stage, wanted)
        shown = wanted


def differences(
    model: str,
    *,
    fold: Fold,
    target: str,
    stages: tuple[str, ...],
    registry: RegistryBackend,
    lagging: bool = False,
) -> list[Difference]:
    """Return where a target's registry differs from the ledger, for the stages that it mirrors.

    Args:
        model: Whose versions.
        fold: What the ledger says.
        target: Where.
        stages: Those that it mirrors.
        registry: The target's.
        lagging: Whether a target that is known to be behind is as it should be.
    """
    published = {version.digest: version for version in registry.published(model)}
    found: list[Difference] = []
    for stage in stages:
        holder = fold.stages.get(stage)
        number = holder.number if holder is not None else None
        if lagging:
            number = fold.shown(stage, target)
        showing = sorted(v.number for v in published.values() if stage in v.stages)
        wanted = [number] if number is not None else []
        if showing != wanted:
            found.append(
                Difference(
                    kind="stage",
                    name=f"{model}@{stage}",
                    target=target,
                    field="version",
                    ledger=_numbers(wanted),
                    actual=_numbers(showing),
                )
            )
    for version in published.values():
        known = fold.version(version.number)
        if known is None or known.digest != version.digest:
            found.append(
                Difference(
                    kind="version",
                    name=f"{model}:{version.number}",
                    target=target,
                    field="digest",
                    ledger=known.digest if known else "no such version",
                    actual=version.digest,
                )
            )
    return found


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "(none)"
