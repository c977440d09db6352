"""Wiring: what is made once for a configuration, and who is handed what."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from cloudreg import __version__, gates
from cloudreg.admission import Admission
from cloudreg.aftermath import Aftermath
from cloudreg.copies import Copies
from cloudreg.deploy import Deployer
from cloudreg.emergency import Emergencies
from cloudreg.errors import ConfigError, Conflict
from cloudreg.fleet import Fleet
from cloudreg.ledger import Entry, Ledger, Witness
from cloudreg.ledger.witness import home_id, known_home_id
from cloudreg.live import PREDICT_S, LiveEndpoint
from cloudreg.mirroring import Mirror
from cloudreg.operations import Progress
from cloudreg.outlook import Clock, Outlook
from cloudreg.plan import Plan
from cloudreg.planning import Planner
from cloudreg.plugins import provider_plugin
from cloudreg.promotion import Promoter
from cloudreg.publication import Publication
from cloudreg.reconcile import Reconciler
from cloudreg.registry import Registry
from cloudreg.seals import Seals, check_keys
from cloudreg.settings import Settings
from cloudreg.splitting import Split
from cloudreg.targets import Targets
from cloudreg.types import SHADOW, Endpoint, Mirroring, ModelVersion

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
        clock: Clock = time.time,
    ) -> None:
        """Check what can be checked without opening a target.

        Raises:
            ConfigError: A gate cannot be built from its table, or nobody is asking.
        """
        check_gates(settings)
        check_keys(settings, root)
        self.actor = acting(actor)
        self._mirrors: dict[str, Mirror] = {}
        self._splits: dict[str, Split] = {}
        self.targets = Targets(settings, root)
        self._settings = settings
        self._root = root
        self._progress = progress
        self.announce = announce
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._clock = clock
        self._witness: Witness | None = None
        self.contested: dict[str, Conflict] = {}
        """Models that were changed without the home, and otherwise by the ledger."""

    def close(self) -> None:
        """Let go of all clients, and of what holds them."""
        for mirror in self._mirrors.values():
            mirror.close()
        self._mirrors.clear()
        self._splits.clear()
        self.targets.close()
        self._witness = None
        for name, part in vars(type(self)).items():
            if isinstance(part, cached_property):
                self.__dict__.pop(name, None)

    @cached_property
    def registry(self) -> Registry:
        """All models of the home."""
        store = self.targets[self._settings.home].store
        return Registry(store, order=self._settings.order, open_ledger=self._open_ledger)

    @cached_property
    def seals(self) -> Seals:
        """Who signed what."""
        return Seals(self._settings, self.registry, self._root)

    @cached_property
    def outlook(self) -> Outlook:
        """What endpoints should be now, and what they cost."""
        return Outlook(
            self._settings,
            self.targets,
            fold=lambda model: self.registry.ledger(model).read(),
            clock=self._clock,
        )

    @cached_property
    def deployer(self) -> Deployer:
        """The endpoints of all targets."""
        return Deployer(
            self._settings,
            self.targets,
            self.registry,
            seals=self.seals,
            outlook=self.outlook,
            progress=self._progress,
            timeout_s=self._timeout_s,
        )

    @cached_property
    def copies(self) -> Copies:
        """What other targets have of the ledgers."""
        return Copies(
            self._settings,
            self.targets,
            self._root,
            home=self._home,
            progress=self._progress,
        )

    @cached_property
    def publication(self) -> Publication:
        """What stages hold, for programs that know nothing of us."""
        return Publication(self._settings, self.targets, progress=self._progress)

    @cached_property
    def emergencies(self) -> Emergencies:
        """What is done while the home does not answer."""
        return Emergencies(
            self._settings,
            self.targets,
            self.deployer,
            self.copies,
            self._root,
            actor=self.actor,
            progress=self._progress,
            timeout_s=self._timeout_s,
        )

    @cached_property
    def aftermath(self) -> Aftermath:
        """What was done meanwhile, on its way into the ledger."""
        return Aftermath(
            self._settings,
            self.deployer,
            self._root,
            actor=self.actor,
            progress=self._progress,
        )

    @cached_property
    def planner(self) -> Planner:
        """Prepares what changes stages or endpoints."""
        admission = Admission(
            self._settings,
            self.registry,
            root=self._root,
            serve=self._serve,
            seals=self.seals,
            progress=self._progress,
        )
        return Planner(
            self._settings,
            self.targets,
            self.registry,
            self.deployer,
            admission,
            seals=self.seals,
        )

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
            announce=self.announce,
            wait_s=self._wait_s,
            lease_s=self._lease_s,
            contested=self.contested.get,
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
            overrule=self._overrule,
            progress=self._progress,
            lease_s=self._lease_s,
        )

    def mirror(self, name: str) -> Mirror | None:
        """Return what copies requests for an endpoint's shadow, where its callers have to."""
        configured = self._settings.endpoints[name].shadow
        target = self.targets[self._settings.endpoint_target(name)]
        if configured is None or target.capabilities.shadow is not Mirroring.CLIENT:
            return None
        if name not in self._mirrors:

            def send(body: bytes, content_type: str) -> bytes:
                return target.endpoints.invoke(
                    name, body, content_type=content_type, timeout_s=PREDICT_S, variant=SHADOW
                )

            self._mirrors[name] = Mirror(send, percent=configured.percent)
        return self._mirrors[name]

    def split(self, name: str) -> Split:
        """Return what knows the weights of an endpoint; the same one for all who ask."""

        def describe() -> Endpoint:
            target = self._settings.endpoint_target(name)
            return LiveEndpoint(self.targets[target].endpoints, name, target=target).describe()

        return self._splits.setdefault(name, Split(describe))

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

    def _home(self) -> str | None:
        witness = self.witness()
        return witness.home if witness is not None else None

    def _open_ledger(self, model: str) -> Ledger:
        ledger = self._ledger(model)
        home = self._home()
        if home is not None:
            try:
                self.aftermath.reconcile(ledger, home)
            except Conflict as conflict:
                # Looking stays possible; whoever wants to change the model has to decide first.
                self.contested[model] = conflict
                self._progress.say(f"!! {conflict.message}")
                self._progress.say(f"!! {conflict.hint}")
        return ledger

    def _overrule(self, model: str) -> None:
        home = self._home()
        ledger = self.registry.ledger(model)
        if home is not None:
            self.aftermath.overrule(ledger, home)
        self.contested.pop(model, None)

    def _ledger(self, model: str) -> Ledger:
        return Ledger(
            self.targets[self._settings.home].store,
            model,
            actor=self.actor,
            tool=TOOL,
            witness=self.witness(),
            clock=self._clock,
            gathers=provider_plugin(self._settings.targets[self._settings.home].provider).remote,
            ended=self._ended,
        )

    def _ended(self, ledger: Ledger, entry: Entry) -> None:
        """Show others what is true now: the ledger itself, and what its stages hold."""
        self.copies.add(ledger, entry)
        moved = {*entry.data.get("stages", ()), *entry.data.get("behind", ())}
        if entry.data.get("verb") == "repair":
            moved = set(self._settings.order)
        stages = [stage for stage in self._settings.order if stage in moved]
        if stages:
            self.publication.show(ledger.model, stages, known=ledger.known(), read=ledger.read)

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
