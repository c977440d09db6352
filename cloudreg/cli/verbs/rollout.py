"""``cloudreg rollout``: what is under way for a model, and a word in it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.changes import done, entry_facts
from cloudreg.cli.desk import Answer
from cloudreg.cli.words import when
from cloudreg.errors import NotFound

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.ledger import Entry
    from cloudreg.workspace import Workspace

PAUSED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """What holds a model now.

    Attributes:
        model: Which one.
        verb: ``promote``, ``rollback``, ``apply`` …
        number: The version that moves, if one does.
        stage: Where to.
        actor: Who asked.
        since: When it began, ISO 8601 in UTC.
        paused: Whether it stands still until somebody decides.
        progress: Endpoint, step and percent of the newest step.
        requests: What was asked of it and not done yet.
        gone: Whether the process that did it ended half-way, or is silent for too long.
    """

    model: str
    verb: str
    number: int | None
    stage: str | None
    actor: str
    since: str
    paused: bool
    progress: Mapping[str, Any] = field(default_factory=dict)
    requests: tuple[str, ...] = ()
    gone: bool = False

    def __str__(self) -> str:
        """Render as one line."""
        text = f"{self.model}: {self.verb}"
        if self.number is not None:
            text += f" of {self.model}:{self.number}"
        if self.stage is not None:
            text += f" to {self.stage}"
        text += f" by {self.actor} since {when(self.since)}"
        if "percent" in self.progress:
            text += f"; {self.progress.get('endpoint')} at {self.progress['percent']} %"
        elif "driver" in self.progress:
            text += f"; the target itself moves the traffic of {self.progress.get('endpoint')}"
        if self.paused:
            text += f"; PAUSED: {self.progress.get('reason', 'no reason given')}"
        if self.gone:
            text += "; its process is gone: the next command that changes the model undoes it"
        for request in self.requests:
            text += f"; asked to {request}"
        return text


def under_way(workspace: Workspace, model: str) -> UnderWay | None:
    """Return what holds *model*, if anything does."""
    from cloudreg.ledger.lease import claimable

    intent = workspace.fold(model).open
    if intent is None:
        return None
    return UnderWay(
        model=model,
        verb=intent.verb,
        number=intent.data.get("number"),
        stage=intent.data.get("stage"),
        actor=intent.actor,
        since=intent.since,
        paused=intent.paused,
        progress=intent.progress,
        requests=intent.requests,
        gone=claimable(intent, workspace.registry.ledger(model).clock()),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument(
        "action",
        choices=("status", "pause", "resume", "abort"),
        help="show; stop at the next look; go on; undo",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="needed by all but status")
    parser.add_argument(
        "--next-step",
        action="store_true",
        help="resume: go to the next step instead of watching the same one again",
    )


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Look, or ask whoever rolls out to pause, go on or undo."""
    action, model = options.action, options.model
    if options.next_step and action != "resume":
        raise UsageError("--next-step belongs to cloudreg rollout resume")
    if action == "status":
        return _status(desk, model)
    if model is None:
        raise UsageError(f"cloudreg rollout {action} needs a MODEL")
    workspace = desk.workspace
    if action == "resume":
        promotion = workspace.resume(model, next_step=options.next_step)
        return done(promotion, following=f"cloudreg status {model}")
    # Nobody has to learn from an error of the ledger's that there is nothing to stop.
    if under_way(workspace, model) is None:
        raise NotFound(f"nothing is under way for {model}", hint=f"cloudreg status {model}")
    if action == "pause":
        entry = workspace.pause(model)
        return _asked(entry, f"{model}: asked to pause at the next look", model)
    entry = workspace.abort(model)
    if entry.kind == "abort":
        return _asked(entry, f"{model}: what was under way is undone", model)
    return _asked(entry, f"{model}: asked to undo at the next look", model)


def _status(desk: Desk, model: str | None) -> Answer:
    workspace = desk.workspace
    models = [model] if model is not None else [m.model for m in workspace.models()]
    found = [work for name in models if (work := under_way(workspace, name)) is not None]
    paused = [work.model for work in found if work.paused]
    return Answer(
        facts={"rollouts": found},
        text=[str(work) for work in found] or ["nothing is under way"],
        next=f"cloudreg rollout resume {paused[0]}, or cloudreg rollout abort {paused[0]}"
        if paused
        else "",
        exit_code=PAUSED if paused else 0,
    )


def _asked(entry: Entry, text: str, model: str) -> Answer:
    notes = [f"!! {note}" for note in entry.data.get("notes", ())]
    return Answer(
        facts={"model": model, "entry": entry_facts(entry)},
        text=[text, *notes],
        next=f"cloudreg rollout status {model}",
    )
