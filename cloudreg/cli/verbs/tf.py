"""``cloudreg tf``: what Terraform may know of us, take over, and never touch."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cloudreg.cli.arguments import UsageError
from cloudreg.cli.desk import Answer
from cloudreg.cli.permissions import deployed
from cloudreg.cli.words import count
from cloudreg.errors import CloudregError, NotFound, Unsupported

if TYPE_CHECKING:
    from cloudreg.cli.desk import Desk
    from cloudreg.provider import Importable
    from cloudreg.terraform.planned import Claim
    from cloudreg.workspace import Workspace

REFUSED = 3
STDIN = "-"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument(
        "action",
        choices=("vars", "adopt", "check"),
        help="write models, stages and endpoints as a variable; print import blocks for what "
        "exists; refuse a plan that touches what cloudreg owns",
    )
    parser.add_argument(
        "plan", nargs="?", metavar="PLAN", help="check: from terraform show -json; - for stdin"
    )
    parser.add_argument("--out", metavar="FILE", help="vars, adopt: where to write; - for stdout")
    parser.add_argument("--target", metavar="NAME", help="adopt, check: only this one")


def run(options: argparse.Namespace, desk: Desk) -> Answer:
    """Do it."""
    if (options.plan is None) == (options.action == "check"):
        raise UsageError(
            "cloudreg tf check needs a PLAN, and nothing else takes one",
            hint="terraform show -json plan.bin > plan.json && cloudreg tf check plan.json",
        )
    if options.out is not None and options.action == "check":
        raise UsageError("--out belongs to cloudreg tf vars and cloudreg tf adopt")
    if options.target is not None and options.action == "vars":
        raise UsageError("--target belongs to cloudreg tf adopt and cloudreg tf check")
    if options.action == "vars":
        return _vars(desk.workspace, options.out)
    if options.action == "adopt":
        return _adopt(desk.workspace, options.target, options.out)
    return _check(desk.workspace, options.target, options.plan)


def _vars(workspace: Workspace, out: str | None) -> Answer:
    from cloudreg.terraform import variables

    text = variables.rendered(workspace.settings)
    facts = variables.variables(workspace.settings)
    if out == STDIN:
        return Answer(facts=facts, text=text.splitlines())
    path = Path(out or variables.FILE)
    _write(path, text)
    written = facts[variables.NAME]
    parts = (count(len(written[key]), key.removesuffix("s")) for key in ("models", "endpoints"))
    return Answer(
        facts={"file": str(path), **facts},
        text=[f"{path}: {', '.join(parts)}"],
        next="terraform plan",
    )


def _adopt(workspace: Workspace, target: str | None, out: str | None) -> Answer:
    from cloudreg.terraform import imports

    found: dict[str, list[Importable]] = {}
    settings = workspace.settings
    models = sorted(
        {
            *settings.models,
            *(endpoint.model for endpoint in settings.endpoints.values()),
            *(summary.model for summary in workspace.models()),
        }
    )
    for name in _targets(workspace, target):
        plugin, section = workspace.targets.options(name)
        assert plugin.terraform is not None
        side = plugin.terraform()
        found[name] = list(side.existing(workspace.targets[name], section, models))
    lines: list[str] = []
    for name, ones in found.items():
        lines += [f"# target {name}", "", *imports.blocks(ones)]
    takeable = sum(not one.kept for ones in found.values() for one in ones)
    if out is not None and out != STDIN:
        _write(Path(out), "\n".join(lines))
        lines = [f"{out}: {count(takeable, 'import block')}"]
    return Answer(
        facts={"targets": found},
        text=lines,
        next="terraform plan -generate-config-out=adopted.tf" if takeable else "",
    )


def _check(workspace: Workspace, target: str | None, name: str) -> Answer:
    from cloudreg.terraform import planned

    changes = planned.read(_text(name), name)
    claims: dict[str, Claim] = {}
    for one in _targets(workspace, target):
        plugin, section = workspace.targets.options(one)
        assert plugin.terraform is not None
        of_target = deployed(workspace.settings, one, None)
        claims[one] = partial(plugin.terraform().claim, section, of_target)
    refusals = planned.refused(changes, claims)
    lines = []
    for refusal in refusals:
        lines.append(f"!! {refusal.address}: {' then '.join(refusal.actions)}")
        lines.append(f"     {refusal.reason} (target {refusal.target})")
    lines.append(
        f"{count(len(changes), 'change')}, {len(refusals) or 'none'} of what is cloudreg's"
    )
    return Answer(
        facts={"changes": len(changes), "refused": refusals, "ok": not refusals},
        text=lines,
        exit_code=REFUSED if refusals else 0,
    )


def _targets(workspace: Workspace, target: str | None) -> list[str]:
    """Return the targets whose clouds have a provider for Terraform.

    Raises:
        NotFound: The one that is named is not configured.
        Unsupported: None of them has.
    """
    known = list(workspace.settings.targets)
    if target is not None and target not in known:
        raise NotFound(f"no target {target!r} is configured", hint=f"there are {', '.join(known)}")
    wanted = known if target is None else [target]
    found = [name for name in wanted if workspace.targets.options(name)[0].terraform is not None]
    if not found:
        raise Unsupported(
            f"{', '.join(wanted)}: Terraform has no resources of "
            f"{'them' if len(wanted) > 1 else 'it'}",
            hint="cloudreg providers shows which clouds there are",
        )
    return found


def _text(name: str) -> str:
    try:
        if name == STDIN:
            return sys.stdin.read() if sys.stdin is not None else ""
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotFound(
            f"{name} cannot be read: {reason}",
            hint="terraform show -json plan.bin > plan.json",
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CloudregError(f"{path} cannot be written: {error.strerror}") from error
