"""Wiring: what is made once for a configuration, and who is handed what."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from cloudreg import __version__, gates
from cloudreg.admission import Admission
from cloudreg.deploy import Deployer
from cloudreg.errors import ConfigError
from cloudreg.fleet import Fleet
from cloudreg.ledger import Ledger, Witness
from cloudreg.ledger.witness import home_id, known_home_id
from cloudreg.operations import Progress
from cloudreg.plan import Plan
from cloudreg.planning import Planner
from cloudreg.plugins import provider_plugin
from cloudreg.promotion import Promoter
from cloudreg.reconcile import Reconciler
from cloudreg.registry import Registry
from cloudreg.settings import Settings
from cloudreg.targets import Targets
from cloudreg.types import ModelVersion

MAX_ACTOR = 200
TOOL = f"cloudreg {__version__}"


class Rooms:
    """Everything behind a `Workspace`, each part made when it is first needed."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        actor: str | None,
        progress: Progress,
        announce: Callable[[Plan], None],
        wait_s: float,
        timeout_s: float,
        lease_s: float,
    ) -> None:
        """Check what can be checked without opening a target.

        Raises:
            ConfigError: A gate cannot be built from its table, or nobody is asking.
        """
        check_gates(settings)
        self.actor = acting(actor)
        self.targets = Targets(settings, root)
        self._settings = settings
        self._root = root
        self._progress = progress
        self._announce = announce
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._witness: Witness | None = None

    def close(self) -> None:
        """Let go of all clients, and of what holds them."""
        self.targets.close()
        self._witness = None
        for name in ("registry", "deployer", "planner", "promoter", "fleet", "reconciler"):
            self.__dict__.pop(name, None)

    @cached_property
    def registry(self) -> Registry:
        """All models of the home."""
        store = self.targets[self._settings.home].store
        return Registry(store, order=self._settings.order, open_ledger=self._open_ledger)

    @cached_property
    def deployer(self) -> Deployer:
        """The endpoints of all targets."""
        return Deployer(
            self._settings,
            self.targets,
            self.registry,
            progress=self._progress,
            timeout_s=self._timeout_s,
        )

    @cached_property
    def planner(self) -> Planner:
        """Prepares what changes stages or endpoints."""
        admission = Admission(
            self._settings,
            self.registry,
            root=self._root,
            serve=self._serve,
            progress=self._progress,
        )
        return Planner(self._settings, self.targets, self.registry, self.deployer, admission)

    @cached_property
    def promoter(self) -> Promoter:
        """Carries it out."""
        return Promoter(
            self._settings,
            self.targets,
            self.registry,
            self.deployer,
            self.planner,
            progress=self._progress,
            announce=self._announce,
            wait_s=self._wait_s,
            lease_s=self._lease_s,
        )

    @cached_property
    def fleet(self) -> Fleet:
        """The endpoints of all models."""
        return Fleet(
            self._settings,
            self.targets,
            self.registry,
            self.deployer,
            planner=self.planner,
            promoter=self.promoter,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        """Compares targets with the ledger."""
        return Reconciler(
            self._settings,
            self.targets,
            self.registry,
            self.deployer,
            self.promoter,
            progress=self._progress,
            lease_s=self._lease_s,
        )

    def witness(self) -> Witness | None:
        """Return what this machine has seen of the home; None before it was first used."""
        if self._witness is None:
            name = known_home_id(self.targets[self._settings.home].store)
            if name is not None:
                self._witness = Witness(self._root / self._settings.state, name)
        return self._witness

    def remember_home(self) -> None:
        """Give the home its name, so that this machine recognises it."""
        home_id(self.targets[self._settings.home].store)

    def _open_ledger(self, model: str) -> Ledger:
        return Ledger(
            self.targets[self._settings.home].store,
            model,
            actor=self.actor,
            tool=TOOL,
            witness=self.witness(),
            gathers=provider_plugin(self._settings.targets[self._settings.home].provider).remote,
        )

    def _serve(self, version: ModelVersion) -> AbstractContextManager[gates.Predictor]:
        from cloudreg import sandbox

        return sandbox.serve(version, self.registry.store, progress=self._progress)


def check_gates(settings: Settings) -> None:
    """Return if every gate can be built.

    Raises:
        ConfigError: With the place in the configuration.
    """
    models = [*settings.models, ""]
    for stage in settings.order:
        for model in models:
            for where, table in settings.gate_tables(model, stage):
                try:
                    gates.build(table)
                except ConfigError as error:
                    place = settings.place(*where)
                    raise ConfigError(f"{place}: {error.message}", hint=error.hint) from error


def acting(actor: str | None) -> str:
    """Return who is asking: *actor*, ``CLOUDREG_ACTOR``, or the user of this process.

    Raises:
        ConfigError: Nobody is, or it is no name.
    """
    name = actor or os.environ.get("CLOUDREG_ACTOR")
    if not name:
        try:
            name = getpass.getuser()
        except (OSError, KeyError) as error:
            raise ConfigError(
                "this user has no name, and the ledger records who is asking",
                hint="CLOUDREG_ACTOR=you@example.com",
            ) from error
    if len(name) > MAX_ACTOR or not name.isprintable() or name != name.strip():
        raise ConfigError(f"actor {name[:40]!r}: 1 to {MAX_ACTOR} printable characters")
    return name
