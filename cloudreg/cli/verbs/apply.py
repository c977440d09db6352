"""``cloudreg apply``: what was planned is done, after one more look at it."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.changes import done
from cloudreg.cli.desk import Answer
from cloudreg.cli.verbs.plan import check_known, scope
from cloudreg.cli.words import plan_lines
from cloudreg.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloudreg.cli.desk import Desk
    from cloudreg.live import Promotion
    from cloudreg.plan import Plan


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="a saved plan; refused if the world moved"
    )
    scope(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Show the plan, ask where there is somebody to ask, and carry it out."""
    workspace = desk.workspace
    if options.file is not None:
        if options.model or options.prune:
            raise UsageError("a saved plan says itself which endpoints it changes")
        path = Path(options.file)
        return _carry_out(saved(path), lambda: workspace.apply_saved(path), options, desk)
    check_known(workspace, options.model)
    # Before the plan, so that it shows the truth and not what a dead process left half done.
    workspace.settle(options.model)
    preview = workspace.plan(model=options.model, prune=options.prune)
    return _carry_out(preview.plan, preview.apply, options, desk)


def _carry_out(
    plan: Plan, apply: Callable[[], Promotion], options: argparse.Namespace, desk: Desk
) -> Answer:
    lines = list(plan_lines(plan))
    desk.show(lines)
    if not plan.empty and not desk.ask("Do this?", about=lines, assent=options.yes):
        return Answer(
            facts={"changed": False, "plan": plan.to_json()},
            text=["nothing was done"],
            exit_code=1,
        )
    desk.show([""] if not plan.empty else [])
    return done(apply(), following="cloudreg status", shown=True)


def saved(path: Path) -> Plan:
    """Return the plan in a file, to be shown before it is done.

    Raises:
        NotFound: No such file.
        InvalidRequest: It holds no plan, or one that somebody edited.
    """
    import msgspec

    from cloudreg.catalog import Bill
    from cloudreg.plan import Plan, SavedPlan

    known = SavedPlan.load(path)
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        for change in document["changes"]:
            (change["action"],) = change.pop("actions")
        plan = msgspec.convert(
            {key: document[key] for key in ("request", "changes", "gates", "warnings")}, Plan
        )
        bills = tuple(Bill.from_json(bill) for bill in document["price"]["endpoints"])
        plan = replace(plan, bills=bills)
        genuine = plan.fingerprint == known.fingerprint
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InvalidRequest(f"{path} is not a plan that cloudreg saved") from error
    if not genuine:
        # Only the fingerprint decides what may be done: what people see must be the same thing.
        raise InvalidRequest(f"{path} was edited after it was saved", hint="plan again")
    return plan
