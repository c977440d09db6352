"""The door: one object that knows the configuration, the home and the targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

from cloudreg import gates
from cloudreg.catalog import Bill
from cloudreg.emergency import Emergency
from cloudreg.errors import Conflict, InvalidRequest, NotFound, StalePlan, Unavailable
from cloudreg.fleet import Prepare
from cloudreg.hours import Presence
from cloudreg.ledger import Entry
from cloudreg.ledger.lease import LEASE_S
from cloudreg.live import LiveEndpoint, Preview, Promotion
from cloudreg.names import ModelRef
from cloudreg.online import VariantReport, report
from cloudreg.operations import SILENT, Progress
from cloudreg.outlook import Clock
from cloudreg.plan import Plan, SavedPlan
from cloudreg.projection import Difference
from cloudreg.promotion import Outcome
from cloudreg.reconcile import Repair
from cloudreg.rooms import Rooms
from cloudreg.scoring import SCORED_S, DataSet, Scored, Scorer
from cloudreg.settings import Settings, find, load
from cloudreg.status import StageStatus, status
from cloudreg.types import GateResult, ModelVersion, Resources
from cloudreg.versions import Versions, reference
from cloudreg.work import Work


class Workspace(Versions):
    """All of cloudreg for one ``cloudreg.toml``."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        *,
        actor: str | None = None,
        progress: Progress = SILENT,
        announce: Callable[[Plan], None] = lambda _: None,
        wait_s: float = 120.0,
        timeout_s: float = 1800.0,
        lease_s: float = LEASE_S,
        clock: Clock = time.time,
    ) -> None:
        """Use a configuration; no target is opened before it is needed.

        Args:
            settings: From `cloudreg.settings.load`.
            root: The folder that relative paths start from.
            actor: Who is asking; ``CLOUDREG_ACTOR`` or the user of this process without.
            progress: Where long steps are shown.
            announce: Gets each plan that is permitted, before anything is changed.
            wait_s: Patience for others who hold a model.
            timeout_s: Patience for each change of an endpoint.
            lease_s: Seconds that a process may be silent before others take over what it does.
            clock: Seconds since 1970: of the ledger, and for schedules and ttls of endpoints.

        Raises:
            ConfigError: A gate cannot be built from its table.
        """
        self.settings = settings
        self.root = root
        self.progress = progress
        self._rooms = Rooms(
            settings,
            root,
            actor=actor,
            progress=progress,
            announce=announce,
            wait_s=wait_s,
            timeout_s=timeout_s,
            lease_s=lease_s,
            clock=clock,
        )

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        actor: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        progress: Progress = SILENT,
        announce: Callable[[Plan], None] = lambda _: None,
        wait_s: float = 120.0,
        timeout_s: float = 1800.0,
        lease_s: float = LEASE_S,
        clock: Clock = time.time,
    ) -> Workspace:
        """Return the workspace of a ``cloudreg.toml``.

        Args:
            path: The file or its folder; without, the nearest one above the working folder.
            actor: Who is asking.
            overrides: Settings that beat all others.
            progress: Where long steps are shown.
            announce: Gets each plan that is permitted, before anything is changed.
            wait_s: Patience for others who hold a model.
            timeout_s: Patience for each change of an endpoint.
            lease_s: Seconds that a process may be silent before others take over what it does.
            clock: Seconds since 1970: of the ledger, and for schedules and ttls of endpoints.

        Raises:
            ConfigError: No file, or one that cannot be used; with line and column.
        """
        given = Path(path) if path is not None else None
        file = given if given is not None and not given.is_dir() else find(given)
        settings = load(file, overrides=overrides)
        return cls(
            settings,
            file.resolve().parent,
            actor=actor,
            progress=progress,
            announce=announce,
            wait_s=wait_s,
            timeout_s=timeout_s,
            lease_s=lease_s,
            clock=clock,
        )

    def __enter__(self) -> Workspace:
        """Close targets at the end of a with block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of all clients."""
        self.close()

    def close(self) -> None:
        """Let go of all clients; endpoints stay."""
        self._rooms.close()

    @overload
    def promote(
        self,
        version: str | ModelRef | ModelVersion,
        *,
        to: str,
        dry_run: Literal[False] = False,
        break_glass: str | None = None,
        reason: str = "",
        expect: int | None = None,
    ) -> Promotion: ...
    @overload
    def promote(
        self,
        version: str | ModelRef | ModelVersion,
        *,
        to: str,
        dry_run: Literal[True],
        break_glass: str | None = None,
        reason: str = "",
        expect: int | None = None,
    ) -> Preview: ...
    def promote(
        self,
        version: str | ModelRef | ModelVersion,
        *,
        to: str,
        dry_run: bool = False,
        break_glass: str | None = None,
        reason: str = "",
        expect: int | None = None,
    ) -> Promotion | Preview:
        """Move a version into a stage, and bring the stage's endpoints to it.

        Args:
            version: Which one; a stage in a reference is looked up once, now.
            to: The stage.
            dry_run: Return the plan, with what the gates found, and change nothing.
            break_glass: Why order, gates and approvals do not count this time; recorded.
            reason: For the ledger.
            expect: The number that the stage must hold now, or nothing is done.

        Raises:
            GateFailed: With every gate's result.
            ApprovalRequired: More people have to agree.
            Conflict: The stage holds another version than was expected, or others were faster.
            RepairRequired: A target shows something else than the ledger.
            RolloutPaused: Somebody has to decide how the rollout goes on.
            RolloutAborted: The rollout was undone.
        """
        self.registry.check_stage(to)
        chosen = self.version(version)
        request = {"verb": "promote", "to": to, "break_glass": break_glass, "reason": reason}
        plain = self._promotion(chosen, request)

        def prepare(known: Sequence[GateResult] | None) -> Work:
            holder = self.fold(chosen.model).stages.get(to)
            number = holder.number if holder is not None else None
            if expect is not None and number not in (expect, chosen.number):
                raise Conflict(
                    f"{chosen.model}@{to} is {number or 'empty'}, {expect} was expected: "
                    "nothing was done"
                )
            return plain(known)

        return self._do(chosen.model, prepare, dry_run=dry_run)

    @overload
    def rollback(
        self,
        model: str,
        *,
        stage: str,
        to: str | ModelRef | None = None,
        dry_run: Literal[False] = False,
        break_glass: str | None = None,
        reason: str = "",
    ) -> Promotion: ...
    @overload
    def rollback(
        self,
        model: str,
        *,
        stage: str,
        to: str | ModelRef | None = None,
        dry_run: Literal[True],
        break_glass: str | None = None,
        reason: str = "",
    ) -> Preview: ...
    def rollback(
        self,
        model: str,
        *,
        stage: str,
        to: str | ModelRef | None = None,
        dry_run: bool = False,
        break_glass: str | None = None,
        reason: str = "",
    ) -> Promotion | Preview:
        """Bring a stage back to a version that it held before, at once and without gates.

        Args:
            model: Whose stage.
            stage: Which one.
            to: The version; without, what the stage held before the version that is there now
                was promoted, so that a second rollback goes further back.
            dry_run: Return the plan and change nothing.
            break_glass: Why it is done although a target shows something else than the ledger,
                or does not answer; recorded. If it is the home that does not, a copy of its
                ledger counts, and the next command that reaches it records what was done.
            reason: For the ledger.

        Raises:
            RepairRequired: A target shows something else than the ledger.
            NotFound: The stage held nothing before.
            InvalidRequest: The version never held the stage.
        """
        # Looked up once: what "the one before" means must not change when others are faster.
        wanted = reference(to) if to is not None else None
        try:
            version = self._rooms.planner.rollback_to(model, stage, wanted)
        except Unavailable as silence:
            # Nothing but the home was asked.
            return self._without_home(
                model, stage, wanted, break_glass=break_glass, silence=silence, dry_run=dry_run
            )
        request = {"verb": "rollback", "to": stage, "break_glass": break_glass, "reason": reason}
        return self._do(model, self._promotion(version, request), dry_run=dry_run)

    def plan(self, *, model: str | None = None, prune: bool = False) -> Preview:
        """Return what making endpoints as they are configured would change.

        Args:
            model: Of one model only; of all without.
            prune: Remove endpoints that cloudreg made and that are not configured any more.
        """
        plan = self._rooms.fleet.plan(model, prune=prune)
        return Preview(plan, lambda _: self._applied(plan.request))

    def apply(self, *, model: str | None = None, prune: bool = False) -> Promotion:
        """Make endpoints as they are configured.

        Raises:
            RolloutPaused: Somebody has to decide how the rollout goes on.
            CloudregError: A change failed, and the endpoints of that model are as they were.
        """
        self.settle(model)
        return self.plan(model=model, prune=prune).apply()

    def settle(self, model: str | None = None) -> None:
        """Undo what dead processes left half done, so that a plan shows the truth.

        Raises:
            Conflict: Somebody is still at work when patience ends, or a rollout is paused.
        """
        self._rooms.fleet.settle(model)

    def apply_saved(self, path: str | Path) -> Promotion:
        """Carry out a saved plan.

        Raises:
            StalePlan: The world moved since it was saved: nothing was done.
            InvalidRequest: The file holds no plan, or goes back to what was never there.
        """
        saved = SavedPlan.load(Path(path))
        request = saved.request
        try:
            match request["verb"]:
                case "promote" | "rollback":
                    ref, stage = reference(str(request["ref"])), str(request["to"])
                    if request["verb"] == "rollback":
                        # No gate stands before a rollback: a file must not make one of a promotion.
                        self._rooms.planner.rollback_to(ref.model, stage, ref)
                    prepare = self._promotion(self.version(ref), request)
                    return self._perform(ref.model, prepare, saved.fingerprint)
                case "apply":
                    return self._applied(request)
                case verb:
                    raise InvalidRequest(f"{path}: {verb!r} cannot be applied")
        except (KeyError, TypeError) as error:
            raise InvalidRequest(f"{path} is not a plan that cloudreg saved") from error

    def down(self, *names: str) -> dict[str, str]:
        """Remove endpoints, all that cloudreg made without names; models and stages stay.

        Returns:
            What was removed: endpoint to target.

        Raises:
            NotFound: No such endpoint.
        """
        return self._rooms.fleet.remove(names)

    def costs(self) -> list[Bill]:
        """Return what each configured endpoint costs while it runs; no target is asked.

        Raises:
            Unsupported: A target has no GPU that will do, or only a worse one.
        """
        return self._rooms.outlook.costs()

    def touch(self, *names: str) -> dict[str, Presence]:
        """Let the time of endpoints with a ``ttl`` begin anew, and return until when they are up.

        One that is down comes back with the next `apply`.

        Raises:
            NotFound: No such endpoint is configured.
            InvalidRequest: It has no ttl.
        """
        return self._rooms.fleet.touch(names)

    def endpoint(self, name: str) -> LiveEndpoint:
        """Return a configured endpoint.

        Raises:
            NotFound: No such endpoint is configured.
        """
        if name not in self.settings.endpoints:
            raise NotFound(
                f"no endpoint {name!r} is configured",
                hint=f"there are {', '.join(self.settings.endpoints) or 'none'}",
            )
        target = self.settings.endpoint_target(name)
        return LiveEndpoint(
            self.targets[target].endpoints,
            name,
            target=target,
            kind=self.settings.endpoints[name].kind,
            progress=self.progress,
            mirror=self._rooms.mirror(name),
            split=self._rooms.split(name),
        )

    def online(
        self, model: str, *, stage: str | None = None, window_s: float = 300.0
    ) -> list[VariantReport]:
        """Return what each variant of a model's endpoints answered, beside its own metrics.

        Args:
            model: The model.
            stage: Of the endpoints; of all stages without.
            window_s: Seconds that count.

        Raises:
            NotFound: No such model or stage, or no endpoint of it is there.
        """
        self.fold(model)
        if stage is not None:
            self.registry.check_stage(stage)
        return report(
            self._rooms.deployer.names(model=model, stage=stage),
            settings=self.settings,
            targets=self.targets,
            registry=self.registry,
            window_s=window_s,
        )

    def batch(
        self,
        version: str | ModelRef | ModelVersion,
        data: str | Path,
        *,
        output: str | Path | None = None,
        target: str | None = None,
        gpu: str | None = None,
        machine_type: str | None = None,
        replicas: int = 1,
        timeout_s: float = SCORED_S,
    ) -> Scored:
        """Score a data set by a version, with a job that ends: nothing stays that is paid for.

        The same call after a kill finds the job that runs, or its answers. Nothing is written
        into the ledger: scoring reads a version and moves nothing.

        Args:
            version: By which one.
            data: A file of JSON lines: an instance a line.
            output: Folder that gets ``predictions.jsonl``: for each record in its order
                ``{"prediction": …}`` or ``{"error": …}``. Without, the answers stay in the
                target's store.
            target: Where it runs; the home without.
            gpu: Class and count for each replica, such as ``L4``.
            machine_type: The target's own name of a machine.
            replicas: How many work side by side.
            timeout_s: Patience with the job.

        Raises:
            InvalidRequest: A line is no JSON; with its number.
            AlreadyExists: *output* holds answers already.
            Unsupported: The target has no such jobs; or lacks more of the version than may go
                through this machine (``transfer_above``), and no service copies it.
            OperationFailed: The job failed; with its last log lines.
            OperationTimeout: It is still running, and goes on without us.
        """
        where = target or self.settings.home
        scorer = Scorer(
            self.targets[where],
            self.targets[self.settings.home],
            target=where,
            limit=self.settings.targets[where].transfer_above_bytes,
            progress=self.progress,
        )
        return scorer.score(
            self.version(version),
            DataSet.of(Path(data)),
            output=Path(output) if output is not None else None,
            resources=Resources.parse(gpu, machine_type=machine_type),
            replicas=replicas,
            timeout_s=timeout_s,
        )

    def status(self, model: str | None = None) -> list[StageStatus]:
        """Return what runs where: each stage of each model, on each of its targets."""
        return status(
            model,
            settings=self.settings,
            targets=self.targets,
            registry=self.registry,
            deployer=self._rooms.deployer,
        )

    def resume(self, model: str, *, next_step: bool = False) -> Promotion:
        """Go on with a paused rollout.

        Args:
            model: Whose.
            next_step: Go to the next step, instead of watching the same one again.

        Raises:
            NotFound: Nothing is paused.
        """
        return self._told(self._rooms.promoter.resume(model, next_step=next_step))

    def abort(self, model: str) -> Entry:
        """Undo what is under way: at once where it is paused or its process is gone."""
        return self._rooms.promoter.abort(model)

    def pause(self, model: str) -> Entry:
        """Ask whoever rolls out to stop at the step it is at."""
        return self._rooms.promoter.request(model, "pause")

    def drift(self, model: str) -> list[Difference]:
        """Return where targets show something else than the ledger, once nobody is at work.

        What a dead or paused operation left is shown as it is.
        """
        return self.drifts(model)[model]

    def drifts(self, *models: str) -> dict[str, list[Difference]]:
        """Return the same for several models, for all without names: targets are looked at once.

        Raises:
            NotFound: No such model.
        """
        folds = {m: self.fold(m) for m in models} if models else self.registry.folds()
        for model, fold in folds.items():
            if fold.open is not None:
                self._rooms.promoter.await_quiet(model)
                folds[model] = self.fold(model)
        return self._rooms.reconciler.drifts(folds)

    def repair(self, model: str) -> Repair:
        """Make targets show what the ledger says."""
        done = self._rooms.reconciler.repair(model)
        if done.entry is None:
            # Written with each entry otherwise; nobody looks whether it still stands there.
            ledger = self.registry.ledger(model)
            self._rooms.publication.show(
                model, self.settings.order, known=ledger.read(), read=ledger.read
            )
        return done

    def adopt(self, model: str, *, target: str | None = None, reason: str) -> Repair:
        """Take what a target shows as the truth; the home without a name."""
        return self._rooms.reconciler.adopt(
            model, target=target or self.settings.home, reason=reason
        )

    def serve(self, version: ModelVersion) -> AbstractContextManager[gates.Predictor]:
        """Run a model server for a version, for as long as the block lasts."""
        from cloudreg import sandbox

        return sandbox.serve(version, self.registry.store, progress=self.progress)

    def _without_home(
        self,
        model: str,
        stage: str,
        to: ModelRef | None,
        *,
        break_glass: str | None,
        silence: Unavailable,
        dry_run: bool,
    ) -> Promotion | Preview:
        """Go back on the targets that answer while the home does not."""
        if break_glass is None:
            if self._rooms.copies.targets:
                silence.hint = f"cloudreg rollback {model} {stage} --break-glass REASON"
            raise silence
        if not break_glass.strip():
            raise InvalidRequest("breaking the glass needs a reason")
        rooms, reason = self._rooms, break_glass

        def prepare() -> Emergency:
            return rooms.emergencies.prepare(model, stage, to, reason=reason, silence=silence)

        def carry_out(expected: str | None = None) -> Promotion:
            work = prepare()
            if expected is not None and work.plan.fingerprint != expected:
                raise StalePlan("the world moved since this plan was made", hint="plan again")
            rooms.announce(work.plan)
            left = rooms.emergencies.carry_out(work)
            names = [c.name for t, each in work.changes.items() if t not in left for c in each]
            return Promotion(
                plan=work.plan,
                changed=True,
                entry=None,
                version=work.version,
                endpoints={name: self.endpoint(name) for name in names},
                behind={stage: left},
            )

        return Preview(prepare().plan, carry_out) if dry_run else carry_out()

    def _do(self, model: str, prepare: Prepare, *, dry_run: bool) -> Promotion | Preview:
        if dry_run:
            return Preview(
                prepare(None).plan, lambda expected: self._perform(model, prepare, expected)
            )
        return self._perform(model, prepare)

    def _perform(self, model: str, prepare: Prepare, expected: str | None = None) -> Promotion:
        return self._told(self._rooms.promoter.perform(model, prepare, expected=expected))

    def _promotion(self, version: ModelVersion, request: Mapping[str, Any]) -> Prepare:
        def prepare(known: Sequence[GateResult] | None) -> Work:
            return self._rooms.planner.promotion(
                version,
                request["to"],
                verb=request["verb"],
                break_glass=request.get("break_glass"),
                reason=request.get("reason") or "",
                known_gates=known,
            )

        return prepare

    def _applied(self, request: Mapping[str, Any]) -> Promotion:
        done = [self._told(outcome) for outcome in self._rooms.fleet.apply(request)]
        return Promotion(
            plan=Plan(request=request, changes=tuple(c for d in done for c in d.plan.changes)),
            changed=any(d.changed for d in done),
            entry=next((d.entry for d in reversed(done) if d.entry), None),
            version=None,
            endpoints={name: e for d in done for name, e in d.endpoints.items()},
            behind=_all_behind(done),
        )

    def _told(self, outcome: Outcome) -> Promotion:
        """Return what the caller is told of an outcome."""
        names = [name for name, seen in (outcome.endpoints or {}).items() if seen is not None]
        if outcome.version is not None:
            stage = str(outcome.plan.request["to"])
            names += self._rooms.deployer.names(model=outcome.version.model, stage=stage)
        configured = [name for name in sorted(set(names)) if name in self.settings.endpoints]
        return Promotion(
            plan=outcome.plan,
            changed=outcome.changed,
            entry=outcome.entry,
            version=outcome.version,
            endpoints={name: self.endpoint(name) for name in configured},
            behind=outcome.behind,
        )


def _all_behind(done: Sequence[Promotion]) -> dict[str, dict[str, str]]:
    """Return who is behind after the changes of several models."""
    found: dict[str, dict[str, str]] = {}
    for each in done:
        for stage, targets in each.behind.items():
            found.setdefault(stage, {}).update(targets)
    return found
