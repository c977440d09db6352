"""``cloudreg down``: endpoints go; models, versions and stages stay."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.cli.words import count
from cloudreg.errors import NotFound

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.workspace import Workspace


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument(
        "endpoints", nargs="*", metavar="ENDPOINT", help="all that cloudreg made without"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Show what goes, ask where there is somebody to ask, and remove it."""
    workspace = desk.workspace
    there = _there(workspace)
    names = sorted({name for name, _, _ in there})
    unknown = [name for name in options.endpoints if name not in names]
    if unknown:
        raise NotFound(
            f"no endpoint {unknown[0]!r} is there",
            hint=f"there are {', '.join(names) or 'none'}",
        )
    names = sorted(set(options.endpoints or names))
    if not names:
        return Answer(facts={"removed": {}}, text=["no endpoint is there: nothing to remove"])
    lines = [
        f"- endpoint {name} on {target} ({serving})"
        for name, target, serving in there
        if name in names
    ]
    desk.show(lines)
    question = f"Remove {count(len(names), 'endpoint')}?"
    if not desk.ask(question, about=lines, assent=options.yes):
        return Answer(facts={"removed": {}}, text=["nothing was done"], exit_code=1)
    # By name, so that what somebody makes at this moment is not removed unseen.
    removed = workspace.down(*names)
    return Answer(
        facts={"removed": removed},
        text=[f"removed {count(len(removed), 'endpoint')}; models and stages stay"],
        next="cloudreg apply brings back what is configured",
    )


def _there(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Return name, target and what it serves: of what runs, and what the ledger thinks runs."""
    found = {
        (seen.spec.name, target): ", ".join(
            f"{v.model}:{v.number}, {v.weight} %" for v in seen.spec.variants
        )
        for target in workspace.targets
        for seen in workspace.targets[target].endpoints.endpoints()
    }
    for summary in workspace.models():
        for name, applied in workspace.fold(summary.model).applied.items():
            found.setdefault((name, applied.target), f"{summary.model}, and it is gone already")
    return [(name, target, serving) for (name, target), serving in sorted(found.items())]
