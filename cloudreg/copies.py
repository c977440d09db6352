"""Where copies of the home's ledger stand: on the other targets, and on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cloudreg.errors import CloudregError, Conflict, NotFound
from cloudreg.ledger import Entry, Ledger
from cloudreg.ledger.copies import (
    CopyVerification,
    FolderShelf,
    Shelf,
    StoreShelf,
    extend,
    homes,
    verify_copy,
)
from cloudreg.operations import SILENT, Progress
from cloudreg.settings import Settings
from cloudreg.targets import Targets

FOLDER = "copies"
"""Of this machine's state: what it has of ledgers."""


class Copies:
    """The copies of all ledgers of a home."""

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        root: Path,
        *,
        home: Callable[[], str | None],
        progress: Progress = SILENT,
    ) -> None:
        """Use what is configured.

        Args:
            settings: The configuration.
            targets: Opened when needed.
            root: The folder that relative paths start from.
            home: Returns the id of the home, which answers; None before it was first used.
            progress: Where it is shown.
        """
        self._targets = targets
        self._state = root / settings.state
        self._home = home
        self._progress = progress
        self._ends: dict[tuple[str, str], int] = {}
        served = {settings.endpoint_target(name) for name in settings.endpoints}
        shown = {target for stage in settings.order for target in settings.stage_targets(stage)}
        self.targets = tuple(
            t for t in settings.targets if t in served | shown and t != settings.home
        )
        """Targets that get a copy: all that a stage or an endpoint is on, but for the home."""

    def add(self, ledger: Ledger, entry: Entry) -> None:
        """Copy what is new, up to *entry*, which ended an operation; what fails comes next time."""
        home = self._home() if self.targets else None
        if home is None:
            return
        self._add("", FolderShelf(self.folder(home) / ledger.model), ledger)
        behind = {
            target
            for targets in ledger.known().behind.values()
            for target, lagging in targets.items()
            if lagging.seq == entry.seq
        }
        for target in self.targets:
            if target in behind:
                continue  # it was asked a moment ago, and did not answer
            try:
                shelf = StoreShelf(self._targets[target].store, home, ledger.model)
            except CloudregError as error:
                self._late(target, error)
            else:
                self._add(target, shelf, ledger)

    def verify(self, ledger: Ledger, target: str) -> CopyVerification:
        """Compare the copy on *target* with the home's ledger.

        Raises:
            NotFound: No such target, or none that gets a copy.
        """
        if target not in self.targets:
            raise NotFound(
                f"target {target!r} has no copy of the ledger",
                hint=f"there are {', '.join(self.targets)}" if self.targets else None,
            )
        home = self._home()
        if home is None:
            raise NotFound("the home was never used")
        shelf = StoreShelf(self._targets[target].store, home, ledger.model)
        return verify_copy(ledger, shelf, target=target)

    def folder(self, home: str) -> Path:
        """Return where this machine keeps what it has of the ledgers of *home*."""
        return self._state / FOLDER / home

    def shelves(self, model: str) -> tuple[str, dict[str, Shelf]]:
        """Return the id of a home that does not answer, and who has copies of a ledger of it.

        The last is this machine; it has no name.

        Raises:
            Conflict: There are copies of several homes, and nobody can tell which one is meant.
        """
        stores = {}
        for target in self.targets:
            try:
                stores[target] = (self._targets[target].store, homes(self._targets[target].store))
            except CloudregError as error:
                self._progress.say(f"{target} does not answer: {error.message}")
        kept = self._state / FOLDER
        known = {path.name for path in kept.iterdir()} if kept.is_dir() else set()
        known = known or {home for _, found in stores.values() for home in found}
        if len(known) > 1:
            raise Conflict(
                f"there are copies of several homes: {', '.join(sorted(known))}",
                hint=f"leave one folder in {kept}",
            )
        if not known:
            raise NotFound(
                f"nobody who answers has a copy of the ledger of {model}",
                hint="wait for the home: nothing is known without it",
            )
        (home,) = known
        shelves: dict[str, Shelf] = {
            target: StoreShelf(store, home, model)
            for target, (store, found) in stores.items()
            if home in found
        }
        return home, {**shelves, "": FolderShelf(kept / home / model)}

    def _add(self, target: str, shelf: Shelf, ledger: Ledger) -> None:
        place = (target, ledger.model)
        try:
            self._ends[place] = extend(shelf, ledger, held=self._ends.get(place))
        except (CloudregError, OSError) as error:
            self._ends.pop(place, None)
            self._late(target, error)

    def _late(self, target: str, error: Exception) -> None:
        why = getattr(error, "message", None) or str(error)
        where = f"on {target}" if target else "on this machine"
        self._progress.say(f"the ledger's copy {where} is behind, and catches up later: {why}")
