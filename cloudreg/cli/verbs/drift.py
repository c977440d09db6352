"""``cloudreg drift``: where targets show something else than the ledger."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cloudreg.cli.desk import Answer
from cloudreg.cli.verbs.rollout import under_way
from cloudreg.cli.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudreg.cli.desk import Desk
    from cloudreg.projection import Difference

FOUND = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="all models without")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Compare; exit code 5 where anything differs."""
    workspace = desk.workspace
    models = [options.model] if options.model else [m.model for m in workspace.models()]
    found = workspace.drifts(*models) if models else {}
    busy = [str(work) for m in models if (work := under_way(workspace, m)) is not None]
    drifted = [model for model, differences in found.items() if differences]
    # A target that is silent is so for all models, and told once.
    lines = list(dict.fromkeys(str(d) for differences in found.values() for d in differences))
    checked = f"{count(len(models), 'model')} compared with all targets"
    return Answer(
        facts={
            "differences": [
                {"model": model, "difference": d} for model in drifted for d in found[model]
            ],
            "models": models,
            "rollouts": busy,
        },
        text=[
            *(lines or [f"no drift: {checked}"]),
            *(f"note: {work}; targets move while it runs" for work in busy if lines),
        ],
        next=_next(found),
        exit_code=_code(found),
    )


def _next(found: Mapping[str, list[Difference]]) -> str:
    from cloudreg.projection import FOREIGN

    for model, differences in found.items():
        for difference in differences:
            if difference.kind == FOREIGN:
                adopt = f"cloudreg adopt {model} --target {difference.target} --reason WHY"
                return f"{adopt}, or cloudreg down {difference.name}"
            if difference.mendable:
                return f"cloudreg repair {model}, or cloudreg adopt {model} --reason WHY"
    return "cloudreg doctor" if any(found.values()) else ""


def _code(found: Mapping[str, list[Difference]]) -> int:
    """Return 5 for drift; 1 where nothing differs, as far as targets answered."""
    from cloudreg.projection import SILENT_TARGET

    kinds = {difference.kind for differences in found.values() for difference in differences}
    if not kinds:
        return 0
    return 1 if kinds == {SILENT_TARGET} else FOUND
